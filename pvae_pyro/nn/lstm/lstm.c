/* An LSTM over ragged batches: the loop over time, its gradient, and that of the weights.
 *
 * Built with -DREAL=float or double; with float and -DTILES, the factors of products are rounded
 * to bfloat16 if the processor has registers for that (tiles.h). Rows are sorted by length,
 * longest first, and frames packed time-major, so that the rows alive at a step are the first
 * ones and their frames contiguous.
 *
 * Matrix products and the element-wise work are one: a tile of ROWS rows by UNITS columns is
 * summed up in registers and finished while it is in the first cache. Vectors are GCC's and
 * Clang's extension, as wide as the processor's.
 *
 *   H   cells, padded to a multiple of UNITS; `hidden` of them are real, the others stay 0
 *   4H  gates, in panels of LANES cells: [H / LANES][i, f, g, o][LANES]
 */
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#define omp_get_num_threads() 1
#endif

typedef REAL real;

#if !defined(__AMX_BF16__) || !defined(__AVX512BF16__) || !defined(__linux__)
#undef TILES
#endif
#if defined(TILES)
#define BYTES 64
#define ROWS 16
#define PARTS 4
#elif defined(__AVX512F__)
#define BYTES 64
#define ROWS 6 /* 24 sums of 32 registers */
#elif defined(__AVX__)
#define BYTES 32
#define ROWS 3 /* 12 sums of 16 registers */
#elif defined(__aarch64__)
#define BYTES 16
#define ROWS 6
#else
#define BYTES 16
#define ROWS 3
#endif
#ifndef PARTS
#define PARTS 16
#endif
enum {
    LANES = BYTES / sizeof(real),
    UNITS = 4 * LANES,
    FEW = 4,            /* threads, see `share` */
    CHUNK = PARTS * ROWS,  /* rows of one task */
    FRAMES = 256,          /* depth of a block of the weights' gradient */
    COLUMNS = PARTS * ROWS /* gates of one task of it */
};
typedef real vec __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));
#define UNROLL _Pragma("GCC unroll 8")
#define INLINE static inline __attribute__((always_inline))
#define MIN(a, b) ((a) < (b) ? (a) : (b))

typedef struct {
    int64_t threads, batch, steps, hidden, padded, features;
    const int64_t *alive;   /* [steps] rows alive */
    const int64_t *input;   /* [frames] row of x; null for an input that is the same at all steps */
    const int64_t *before;  /* [frames] the same row's frame a step earlier; negative: none */
    const real *x;          /* [., features] */
    const real *w_ih, *w_hh; /* [4 hidden, features], [4 hidden, hidden] */
    const real *start;      /* [4H] bias; or [batch, 4H], with the projection of a constant input */
    real *gates;            /* [frames, 4H], null if no gradient is wanted; backward: turns to it */
    real *cells;            /* [frames, H], or [batch, H] without gates */
    real *states;           /* [frames, H] */
    real *scratch;          /* see `scratch_size` */
    const real *grad_states; /* [frames, H] or null */
    const real *grad_last;  /* [batch, H] or null: of each row's last state */
    real *grad_c;           /* [batch, H], zeros */
    real *total;            /* [batch, 4H], zeros, or null: the gates' gradient summed over time */
    real *grad_hh, *grad_ih, *grad_b; /* zeros, as the weights; null if not wanted */
} Call;

int64_t units(void) { return UNITS; }

/* Reals that `scratch` must hold: for `forward` and `backward`, packed weights; else inputs. */
int64_t scratch_size(int64_t padded, int64_t features, int64_t threads) {
    const int64_t columns = padded + (features + UNITS - 1) / UNITS * UNITS;
    const int64_t packed = 4 * padded * (padded + features);
    const int64_t inputs = FRAMES * columns * (threads <= FEW ? threads : 1);
    return packed > inputs ? packed : inputs;
}

/* How threads share a step. Few: each has rows of its own, all steps long, and waits for nobody,
 * which matters where something else wants the processor too. Many: each has columns, whose
 * weights then stay in its own cache, and all wait at the end of each step.
 */
typedef struct {
    int64_t me, threads, few;
} Share;

static Share share(void) {
    const int64_t threads = omp_get_num_threads();
    return (Share){omp_get_thread_num(), threads, threads <= FEW};
}

/* exp(x) - 1 without cancellation near 0: with x = n ln 2 + r, 2^n (exp(r) - 1) + (2^n - 1).
 * exp(r) - 1 is Taylor's polynomial, |r| < 0.35: its remainder is below rounding. x is clamped
 * to where n fits the exponent, far beyond where a sigmoid or tanh is 0 or 1. NaN stays NaN.
 */
#if REAL_BITS == 64
#define IS_DOUBLE 1
#define BITS uint64_t
#define BIAS 1023u
#else
#define IS_DOUBLE 0
#define BITS uint32_t
#define BIAS 127u
#endif
INLINE real exp_minus_1(real x) {
    const real most = IS_DOUBLE ? 700 : 85;
    const real magic = IS_DOUBLE ? 6755399441055744.0 : 12582912.0; /* + and -: rounds */
    x = x > most ? most : x;
    x = x < -most ? -most : x;
    /* The sum's last bits are n; as bits they can be shifted even where x is NaN. */
    union { real value; BITS bits; } shifted = {x * (real)1.4426950408889634 + magic};
    const real n = shifted.value - magic;
    const real r = (x - n * (real)0.693145751953125) - n * (real)1.4286068203094172e-6;
    real p = 0;
    if (IS_DOUBLE) {
        p = (real)(1. / 6227020800.);
        p = p * r + (real)(1. / 479001600.);
        p = p * r + (real)(1. / 39916800.);
        p = p * r + (real)(1. / 3628800.);
        p = p * r + (real)(1. / 362880.);
        p = p * r + (real)(1. / 40320.);
    }
    p = p * r + (real)(1. / 5040.);
    p = p * r + (real)(1. / 720.);
    p = p * r + (real)(1. / 120.);
    p = p * r + (real)(1. / 24.);
    p = p * r + (real)(1. / 6.);
    p = p * r + (real)0.5;
    p = p * r * r + r;
    union { BITS bits; real value; } power = {(shifted.bits + BIAS) << (IS_DOUBLE ? 52 : 23)};
    return power.value * p + (power.value - 1);
}

INLINE real sigmoid(real x) { return 1 / (2 + exp_minus_1(-x)); }

INLINE real tanh_(real x) {
    const real e = exp_minus_1(2 * x);
    return e / (e + 2);
}

#ifdef TILES
#include "tiles.h"
#else
typedef real packed;
#define PADDED(depth) (depth)
int64_t ready(void) { return 0; }
#define begin_products()
#define end_products()

/* tile [rows, vectors * LANES] += a b: row i of a is at a[i], its columns `step` apart, and b
 * is [depth, UNITS]. */
INLINE void multiply(const int rows, const int vectors, real (*tile)[UNITS],
                     const real *const *a, int64_t step, int64_t depth, const real *b) {
    vec sum[ROWS][4];
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++) sum[i][j] = *(const vec *)(tile[i] + j * LANES);
    for (int64_t k = 0; k < depth; k++) {
        real left[ROWS];
        UNROLL for (int i = 0; i < rows; i++) left[i] = a[i][k * step];
        UNROLL for (int j = 0; j < vectors; j++) {
            const vec right = *(const vec *)(b + k * UNITS + j * LANES);
            UNROLL for (int i = 0; i < rows; i++) sum[i][j] += left[i] * right;
        }
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++) *(vec *)(tile[i] + j * LANES) = sum[i][j];
}

/* As `multiply`: one copy of it for each number of rows and vectors. */
static void strided(int64_t rows, int64_t vectors, real (*tile)[UNITS], const real *const *a,
                    int64_t step, int64_t depth, const real *b) {
    switch (rows * 8 + vectors) {
#define CASE(r, v) case r * 8 + v: multiply(r, v, tile, a, step, depth, b); break;
#define CASES(r) CASE(r, 1) CASE(r, 2) CASE(r, 3) CASE(r, 4)
        CASES(1) CASES(2) CASES(3)
#if ROWS == 6
        CASES(4) CASES(5) CASES(6)
#endif
    }
}

static void product(int64_t rows, int64_t vectors, real (*tile)[UNITS], const real *const *a,
                    int64_t depth, const packed *b) {
    strided(rows, vectors, tile, a, 1, depth, b);
}
#endif

/* Rows k and k + 1 of a packed right side [depth, UNITS] from `count` columns of each; null: 0. */
INLINE void pack_rows(packed *out, int64_t k, const real *first, const real *second,
                      int64_t count) {
#ifdef TILES
    pair *to = (pair *)(out + k * UNITS);
    for (int64_t c = 0; c < count; c++)
        to[c] = paired(first ? first[c] : 0, second ? second[c] : 0);
#else
    for (int64_t c = 0; c < count; c++) out[k * UNITS + c] = first ? first[c] : 0;
    for (int64_t c = 0; c < count; c++) out[(k + 1) * UNITS + c] = second ? second[c] : 0;
#endif
}

/* One column of a packed right side, from depth values; null: zeros. */
INLINE void pack_column(packed *out, int64_t column, const real *from, int64_t depth) {
#ifdef TILES
    for (int64_t k = 0; k < PADDED(depth); k += 2)
        ((pair *)out)[k / 2 * UNITS + column] = paired(from && k < depth ? from[k] : 0,
                                                       from && k + 1 < depth ? from[k + 1] : 0);
#else
    for (int64_t k = 0; k < depth; k++) out[k * UNITS + column] = from ? from[k] : 0;
#endif
}

/* Panel p of [w_hh, w_ih] for `forward`: out [hidden + features, 4, LANES]. */
static void pack_panel(const Call *s, int64_t p, packed *out) {
    for (int64_t column = 0; column < UNITS; column++) {
        const int64_t unit = p * LANES + column % LANES, row = column / LANES * s->hidden + unit;
        const int is_real = unit < s->hidden;
        pack_column(out, column, is_real ? s->w_hh + row * s->hidden : 0, s->hidden);
        pack_column(out + PADDED(s->hidden) * UNITS, column,
                    is_real ? s->w_ih + row * s->features : 0, s->features);
    }
}

/* Rows `row` … of step's tile p: gates, c, h. `first`, `earlier`: frames of this step and the last. */
static void forward_tile(const Call *s, int64_t p, int64_t row, int64_t rows, int64_t first,
                         int64_t earlier, const packed *weight) {
    real tile[ROWS][UNITS] __attribute__((aligned(BYTES)));
    const real *a[ROWS];
    const int64_t width = 4 * s->padded, unit = p * LANES;
    for (int64_t i = 0; i < rows; i++) {
        const real *start = s->start + (s->input ? 0 : (row + i) * width) + p * UNITS;
        memcpy(tile[i], start, sizeof tile[i]);
        a[i] = s->states + (earlier + row + i) * s->padded;
    }
    if (first) product(rows, 4, tile, a, s->hidden, weight);
    if (s->input) {
        for (int64_t i = 0; i < rows; i++) a[i] = s->x + s->input[first + row + i] * s->features;
        product(rows, 4, tile, a, s->features, weight + PADDED(s->hidden) * UNITS);
    }
    for (int64_t i = 0; i < rows; i++) {
        const int64_t frame = first + row + i, here = s->gates ? frame : row + i;
        const int64_t there = s->gates ? earlier + row + i : row + i;
        real *c = s->cells + here * s->padded + unit; /* without gates, the same as b */
        const real *b = s->cells + there * s->padded + unit;
        real *restrict h = s->states + frame * s->padded + unit;
        real *restrict in = tile[i], *restrict forget = in + LANES, *restrict g = in + 2 * LANES;
        real *restrict out = in + 3 * LANES;
        for (int j = 0; j < LANES; j++) {
            in[j] = sigmoid(in[j]);
            forget[j] = sigmoid(forget[j]);
            g[j] = tanh_(g[j]);
            out[j] = sigmoid(out[j]);
            const real next = in[j] * g[j] + (first ? forget[j] * b[j] : 0);
            c[j] = next;
            h[j] = out[j] * tanh_(next);
        }
        if (s->gates) memcpy(s->gates + frame * width + p * UNITS, in, sizeof tile[i]);
    }
}

void forward(const Call *s) {
    const int64_t panels = s->padded / LANES;
    const int64_t size = (PADDED(s->hidden) + PADDED(s->features)) * UNITS;
    packed *weight = (packed *)s->scratch;
#pragma omp parallel num_threads(s->threads)
    {
        const Share my = share();
        begin_products();
#pragma omp for schedule(static)
        for (int64_t p = 0; p < panels; p++) pack_panel(s, p, weight + p * size);
        int64_t first = 0, earlier = 0;
        for (int64_t t = 0; t < s->steps; t++) {
            const int64_t alive = s->alive[t], chunks = (alive + CHUNK - 1) / CHUNK;
            if (my.few) {
                for (int64_t p = 0; p < panels; p++)
                    for (int64_t row = my.me * ROWS; row < alive; row += my.threads * ROWS)
                        forward_tile(s, p, row, MIN(ROWS, alive - row), first, earlier,
                                     weight + p * size);
            } else {
#pragma omp for schedule(static) collapse(2)
                for (int64_t p = 0; p < panels; p++)
                    for (int64_t chunk = 0; chunk < chunks; chunk++) {
                        const int64_t end = MIN(alive, (chunk + 1) * CHUNK);
                        for (int64_t row = chunk * CHUNK; row < end; row += ROWS)
                            forward_tile(s, p, row, MIN(ROWS, end - row), first, earlier,
                                         weight + p * size);
                    }
            }
            earlier = first;
            first += alive;
        }
        end_products();
    }
}

/* Columns q of w_hh for `backward`: out [4H, UNITS]. */
static void pack_columns(const Call *s, int64_t q, packed *out) {
    memset(out, 0, 4 * s->padded * UNITS * sizeof(packed));
    const int64_t begin = q * UNITS, count = MIN(UNITS, s->hidden - begin);
    for (int64_t unit = 0; unit < s->hidden && count > 0; unit += 2)
        for (int64_t gate = 0; gate < 4; gate++) {
            const real *from = s->w_hh + (gate * s->hidden + unit) * s->hidden + begin;
            pack_rows(out, unit / LANES * UNITS + gate * LANES + unit % LANES, from,
                      unit + 1 < s->hidden ? from + s->hidden : 0, count);
        }
}

/* Rows `row` … of a step: the gradient of h, then of the gates, in place, and of c. `first`,
 * `later`: frames of this step and the next, at which `going_on` rows are alive. */
static void backward_tile(const Call *s, int64_t q, int64_t row, int64_t rows, int64_t first,
                          int64_t later, int64_t going_on, const packed *weight) {
    real tile[ROWS][UNITS] __attribute__((aligned(BYTES)));
    const real *a[ROWS];
    const int64_t width = 4 * s->padded, unit = q * UNITS;
    for (int64_t i = 0; i < rows; i++) {
        const int ends = row + i >= going_on;
        if (ends && s->grad_last)
            memcpy(tile[i], s->grad_last + (row + i) * s->padded + unit, sizeof tile[i]);
        else
            memset(tile[i], 0, sizeof tile[i]);
        a[i] = s->gates + (later + row + i) * width;
    }
    if (going_on > row) product(MIN(rows, going_on - row), 4, tile, a, width, weight);
    for (int64_t i = 0; i < rows; i++) {
        const int64_t frame = first + row + i, before = s->before[frame];
        real *restrict dh = tile[i], *restrict d = s->grad_c + (row + i) * s->padded + unit;
        const real *restrict c = s->cells + frame * s->padded + unit;
        const real *restrict b = before < 0 ? c : s->cells + before * s->padded + unit;
        if (s->grad_states) {
            const real *restrict more = s->grad_states + frame * s->padded + unit;
            for (int j = 0; j < UNITS; j++) dh[j] += more[j];
        }
        for (int part = 0; part < UNITS; part += LANES, dh += LANES, d += LANES, c += LANES,
                 b += LANES) {
            real *restrict in = s->gates + frame * width + (unit + part) * 4;
            real *restrict forget = in + LANES, *restrict g = in + 2 * LANES;
            real *restrict out = in + 3 * LANES;
            for (int j = 0; j < LANES; j++) {
                const real t = tanh_(c[j]), dc = d[j] + dh[j] * out[j] * (1 - t * t);
                const real di = dc * g[j] * in[j] * (1 - in[j]);
                out[j] = dh[j] * t * out[j] * (1 - out[j]);
                g[j] = dc * in[j] * (1 - g[j] * g[j]);
                in[j] = di;
                d[j] = dc * forget[j];
                forget[j] = before < 0 ? 0 : dc * b[j] * forget[j] * (1 - forget[j]);
            }
            if (s->total) {
                real *restrict sum = s->total + (row + i) * width + (unit + part) * 4;
                for (int j = 0; j < UNITS; j++) sum[j] += in[j];
            }
        }
    }
}

void backward(const Call *s) {
    const int64_t blocks = s->padded / UNITS, size = 4 * s->padded * UNITS;
    packed *weight = (packed *)s->scratch;
#pragma omp parallel num_threads(s->threads)
    {
        const Share my = share();
        begin_products();
#pragma omp for schedule(static)
        for (int64_t q = 0; q < blocks; q++) pack_columns(s, q, weight + q * size);
        int64_t end = 0, going_on = 0;
        for (int64_t t = 0; t < s->steps; t++) end += s->alive[t];
        for (int64_t t = s->steps - 1; t >= 0; t--) {
            const int64_t alive = s->alive[t], chunks = (alive + CHUNK - 1) / CHUNK;
            if (my.few) {
                for (int64_t q = 0; q < blocks; q++)
                    for (int64_t row = my.me * ROWS; row < alive; row += my.threads * ROWS)
                        backward_tile(s, q, row, MIN(ROWS, alive - row), end - alive, end,
                                      going_on, weight + q * size);
            } else {
#pragma omp for schedule(static) collapse(2)
                for (int64_t q = 0; q < blocks; q++)
                    for (int64_t chunk = 0; chunk < chunks; chunk++) {
                        const int64_t last = MIN(alive, (chunk + 1) * CHUNK);
                        for (int64_t row = chunk * CHUNK; row < last; row += ROWS)
                            backward_tile(s, q, row, MIN(ROWS, last - row), end - alive, end,
                                          going_on, weight + q * size);
                    }
            }
            end -= alive;
            going_on = alive;
        }
        end_products();
    }
}

/* The input of frame n in columns q; null: zeros. */
INLINE const real *input_of(const Call *s, int64_t q, int64_t n) {
    const int64_t of_h = s->padded / UNITS, before = s->before[n];
    if (q >= of_h) return s->x + s->input[n] * s->features + (q - of_h) * UNITS;
    return before < 0 ? 0 : s->states + before * s->padded + q * UNITS;
}

/* Inputs of the products at frames [begin, begin + depth), columns q: out [FRAMES, UNITS]. */
static void pack_inputs(const Call *s, int64_t q, int64_t begin, int64_t depth, packed *out) {
    const int64_t of_h = s->padded / UNITS;
    const int64_t count = q < of_h ? UNITS : MIN(UNITS, s->features - (q - of_h) * UNITS);
    for (int64_t k = 0; k < PADDED(depth); k += 2)
        pack_rows(out, k, k < depth ? input_of(s, q, begin + k) : 0,
                  k + 1 < depth ? input_of(s, q, begin + k + 1) : 0, count);
}

/* The weights' gradient from that of gates m … at frames [begin, begin + depth). */
static void weights_task(const Call *s, int64_t m, int64_t begin, int64_t depth, int64_t blocks,
                         const packed *inputs) {
    const int64_t width = 4 * s->padded, columns = MIN(COLUMNS, width - m);
    const real *gates = s->gates + begin * width + m;
    real sum[COLUMNS] = {0};
#ifdef TILES
    packed left[COLUMNS][FRAMES] __attribute__((aligned(BYTES)));
    for (int64_t k = 0; k < PADDED(depth); k += 2)
        for (int64_t c = 0; c < columns; c++)
            ((pair *)left[c])[k / 2] = paired(k < depth ? gates[k * width + c] : 0,
                                              k + 1 < depth ? gates[(k + 1) * width + c] : 0);
    for (int64_t k = 0; k < depth; k++)
        for (int64_t c = 0; c < columns; c++) sum[c] += gates[k * width + c];
#else
    real left[FRAMES][COLUMNS] __attribute__((aligned(BYTES)));
    for (int64_t k = 0; k < depth; k++)
        for (int64_t c = 0; c < columns; c++) {
            left[k][c] = gates[k * width + c];
            sum[c] += gates[k * width + c];
        }
#endif
    int64_t to[COLUMNS]; /* row of the weights */
    for (int64_t c = 0; c < columns; c++) {
        const int64_t unit = (m + c) / UNITS * LANES + (m + c) % LANES;
        to[c] = unit < s->hidden ? (m + c) / LANES % 4 * s->hidden + unit : -1;
        if (s->grad_b && to[c] >= 0) s->grad_b[to[c]] += sum[c];
    }
    for (int64_t q = 0; q < blocks; q++) {
        const int64_t of_h = s->padded / UNITS, is_h = q < of_h;
        const int64_t column = (is_h ? q : q - of_h) * UNITS, all = is_h ? s->hidden : s->features;
        const int64_t count = MIN(UNITS, all - column), vectors = (count + LANES - 1) / LANES;
        real *grad = is_h ? s->grad_hh : s->grad_ih;
        for (int64_t c = 0; c < columns && count > 0 && grad; c += ROWS) {
            real tile[ROWS][UNITS] __attribute__((aligned(BYTES)));
            const int64_t rows = MIN(ROWS, columns - c);
            memset(tile, 0, sizeof tile);
#ifdef TILES
            multiply_tiles(vectors, tile, left[c], FRAMES, depth, inputs + q * FRAMES * UNITS);
#else
            const real *a[ROWS];
            for (int64_t i = 0; i < rows; i++) a[i] = left[0] + c + i;
            strided(rows, vectors, tile, a, COLUMNS, depth, inputs + q * FRAMES * UNITS);
#endif
            for (int64_t i = 0; i < rows; i++) {
                if (to[c + i] < 0) continue;
                real *restrict out = grad + to[c + i] * all + column;
                for (int64_t j = 0; j < count; j++) out[j] += tile[i][j];
            }
        }
    }
}

/* After `backward`. A constant input's part is left to the caller, who has `total`. */
void weights(const Call *s) {
    const int64_t inputs = s->input ? (s->features + UNITS - 1) / UNITS : 0;
    const int64_t blocks = s->padded / UNITS + inputs, width = 4 * s->padded;
    int64_t frames = 0;
    for (int64_t t = 0; t < s->steps; t++) frames += s->alive[t];
#pragma omp parallel num_threads(s->threads)
    {
        const Share my = share();
        /* Of few threads each has inputs and gates of its own, and waits for nobody. */
        packed *inputs = (packed *)s->scratch + (my.few ? my.me : 0) * blocks * FRAMES * UNITS;
        begin_products();
        for (int64_t begin = s->input ? 0 : s->batch; begin < frames; begin += FRAMES) {
            const int64_t depth = MIN(FRAMES, frames - begin);
            if (my.few) {
                for (int64_t q = 0; q < blocks; q++)
                    pack_inputs(s, q, begin, depth, inputs + q * FRAMES * UNITS);
                for (int64_t m = my.me * COLUMNS; m < width; m += my.threads * COLUMNS)
                    weights_task(s, m, begin, depth, blocks, inputs);
            } else {
#pragma omp for schedule(static)
                for (int64_t q = 0; q < blocks; q++)
                    pack_inputs(s, q, begin, depth, inputs + q * FRAMES * UNITS);
#pragma omp for schedule(static)
                for (int64_t m = 0; m < width; m += COLUMNS)
                    weights_task(s, m, begin, depth, blocks, inputs);
            }
        }
        end_products();
    }
}
