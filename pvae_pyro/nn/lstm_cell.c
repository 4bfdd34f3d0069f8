/* The element-wise work of one LSTM step, in one pass over memory; recurrent.py has the formula.
 *
 * Built with -DREAL=float or double. All rows are contiguous; gates lie as i, f, g, o, each
 * `hidden` wide. Plain loops that compilers vectorise: no intrinsics, no library.
 */
#include <stdint.h>
#include <string.h>

typedef REAL real;

#if REAL_BITS == 64
#define IS_DOUBLE 1
#define BITS uint64_t
#define BIAS 1023u
#else
#define IS_DOUBLE 0
#define BITS uint32_t
#define BIAS 127u
#endif

/* exp(x) - 1 without cancellation near 0: with x = n ln 2 + r, 2^n (exp(r) - 1) + (2^n - 1).
 * exp(r) - 1 is Taylor's polynomial, |r| < 0.35: its remainder is below rounding. x is clamped
 * to where n fits the exponent, far beyond where a sigmoid or tanh is 0 or 1. NaN stays NaN.
 */
static inline real exp_minus_1(real x) {
    const real most = IS_DOUBLE ? 700 : 85;
    const real magic = IS_DOUBLE ? 6755399441055744.0 : 12582912.0; /* + and -: rounds */
    x = x > most ? most : x;
    x = x < -most ? -most : x;
    /* The sum's last bits are n; as bits they can be shifted even where x is NaN. */
    union { real value; BITS bits; } shifted = {x * (real)1.4426950408889634 + magic};
    const real n = shifted.value - magic;
    const real r = (x - n * (real)0.693145751953125) - n * (real)1.4286068203094172e-6;
    real p;
    if (IS_DOUBLE) {
        p = (real)(1. / 6227020800.);
        p = p * r + (real)(1. / 479001600.);
        p = p * r + (real)(1. / 39916800.);
        p = p * r + (real)(1. / 3628800.);
        p = p * r + (real)(1. / 362880.);
        p = p * r + (real)(1. / 40320.);
    } else {
        p = 0;
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

static inline real sigmoid(real x) { return 1 / (2 + exp_minus_1(-x)); }

static inline real tanh_(real x) {
    const real e = exp_minus_1(2 * x);
    return e / (e + 2);
}

/* gate [alive, width = 4 hidden]: from before the non-linearity, to which constant [alive, width]
 * is still to be added unless that is null, to after it. before [alive, hidden]: c of the
 * step before, or null for zeros. Writes c to cell [alive, hidden], and h to whichever wants it:
 * the first `going_on` rows to `next` (rows `stride` apart), the others, which end here, to
 * last [alive, hidden]; and, unless it is null, row r to row frame[r] of outputs.
 */
void forward(int64_t alive, int64_t width, real *restrict gate,
             const real *restrict constant, const real *restrict before, real *restrict cell,
             int64_t going_on, real *restrict next, int64_t stride, real *restrict last,
             real *restrict outputs, const int64_t *restrict frame) {
    const int64_t hidden = width / 4;
    for (int64_t row = 0; row < alive; row++) {
        real *all = gate + row * width;
        real *restrict c = cell + row * hidden;
        real *restrict h = row < going_on ? next + row * stride : last + row * hidden;
        if (constant) {
            const real *restrict more = constant + row * width;
            for (int64_t j = 0; j < width; j++) all[j] += more[j];
        }
        real *i = all, *f = i + hidden, *g = f + hidden, *o = g + hidden;
        for (int64_t j = 0; j < hidden; j++) i[j] = sigmoid(i[j]);
        for (int64_t j = 0; j < hidden; j++) f[j] = sigmoid(f[j]);
        for (int64_t j = 0; j < hidden; j++) g[j] = tanh_(g[j]);
        for (int64_t j = 0; j < hidden; j++) o[j] = sigmoid(o[j]);
        if (before) {
            const real *restrict b = before + row * hidden;
            for (int64_t j = 0; j < hidden; j++) c[j] = i[j] * g[j] + f[j] * b[j];
        } else {
            for (int64_t j = 0; j < hidden; j++) c[j] = i[j] * g[j];
        }
        for (int64_t j = 0; j < hidden; j++) h[j] = o[j] * tanh_(c[j]);
        if (outputs) memcpy(outputs + frame[row] * hidden, h, hidden * sizeof(real));
    }
}

/* gate: from after the non-linearity to the gradient before it. grad_h [alive, hidden], to which
 * row frame[r] of grad_outputs is added unless that is null. grad_c [alive, hidden]: from the
 * gradient of c to that of the c before. total, unless null, has the gate's gradient added.
 */
void backward(int64_t alive, int64_t width, real *restrict gate, const real *restrict before,
              const real *restrict cell, const real *restrict grad_h, real *restrict grad_c,
              const real *restrict grad_outputs, const int64_t *restrict frame,
              real *restrict total) {
    const int64_t hidden = width / 4;
    for (int64_t row = 0; row < alive; row++) {
        real *all = gate + row * width;
        const real *restrict c = cell + row * hidden, *restrict h = grad_h + row * hidden;
        const real *restrict b = before ? before + row * hidden : 0;
        const real *restrict more = grad_outputs ? grad_outputs + frame[row] * hidden : 0;
        real *restrict d = grad_c + row * hidden;
        { /* Nothing else reads or writes the gate while these pointers live. */
            real *restrict i = all, *restrict f = all + hidden;
            real *restrict g = all + 2 * hidden, *restrict o = all + 3 * hidden;
            for (int64_t j = 0; j < hidden; j++) {
                const real dh = h[j] + (more ? more[j] : 0);
                const real t = tanh_(c[j]);
                const real dc = d[j] + dh * o[j] * (1 - t * t);
                o[j] = dh * t * o[j] * (1 - o[j]);
                const real di = dc * g[j] * i[j] * (1 - i[j]);
                g[j] = dc * i[j] * (1 - g[j] * g[j]);
                i[j] = di;
                d[j] = dc * f[j];
                f[j] = b ? dc * b[j] * f[j] * (1 - f[j]) : 0;
            }
        }
        if (total) {
            real *restrict sum = total + row * width;
            for (int64_t j = 0; j < width; j++) sum[j] += all[j];
        }
    }
}
