/* Matrix products of bfloat16 with float sums, by the tile registers of Intel's AMX.
 *
 * The left side is [16 rows, depth], the right side [depth / 2][UNITS][2]: two rows of a column
 * lie side by side. A depth is padded with zeros to a multiple of DEPTH.
 */
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef uint16_t packed;
typedef uint32_t pair __attribute__((may_alias));
enum { DEPTH = 32, BLOCK = 512 };
#define PADDED(depth) (((depth) + DEPTH - 1) / DEPTH * DEPTH)

/* Whether the kernel lets this process use the registers; asked once, before any other call. */
int64_t ready(void) {
    const long request = 0x1023, tile_data = 18; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    return syscall(SYS_arch_prctl, request, tile_data) == 0;
}

/* Each thread: before its first product, and after its last. */
INLINE void begin_products(void) {
    struct { uint8_t palette, start, none[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = {1};
    for (int i = 0; i < 8; i++) {
        config.bytes[i] = 64;
        config.rows[i] = 16;
    }
    /* Some compilers take it that the instruction reads 8 bytes, and would leave out the rest. */
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
}

INLINE void end_products(void) { _tile_release(); }

/* To the nearest, halves to even; NaN stays NaN. */
INLINE uint32_t rounded(float x) {
    const union { float value; uint32_t bits; } of = {x};
    const uint32_t up = of.bits + 0x7fff + (of.bits >> 16 & 1);
    return (x == x ? up : of.bits | 0x400000) >> 16;
}

INLINE pair paired(float first, float second) { return rounded(first) | rounded(second) << 16; }

/* tile += left right, for `vectors` times 16 columns. */
static void multiply_tiles(int64_t vectors, real (*tile)[UNITS], const packed *left, int64_t stride,
                           int64_t depth, const packed *right) {
    const int64_t across = UNITS * sizeof(real);
#define EACH(do) do(0) if (vectors > 1) { do(1) } if (vectors > 2) { do(2) } if (vectors > 3) { do(3) }
/* Tile registers: 0 to 3 the sums, 4 the left side, the others the right side in turn. */
#define OTHER_0 5
#define OTHER_1 6
#define OTHER_2 7
#define OTHER_3 5
#define LOAD(j) _tile_loadd(j, tile[0] + j * LANES, across);
#define ADD(j) ADD_TO(j, OTHER_##j)
#define ADD_TO(j, other) \
    _tile_loadd(other, right + k * UNITS + j * 2 * LANES, across); \
    _tile_dpbf16ps(j, 4, other);
#define STORE(j) _tile_stored(j, tile[0] + j * LANES, across);
    __asm__ volatile("" : : : "memory"); /* the same, of what the loads read */
    EACH(LOAD)
    for (int64_t k = 0; k < depth; k += DEPTH) {
        _tile_loadd(4, left + k, stride * sizeof(packed));
        EACH(ADD)
    }
    EACH(STORE)
    __asm__ volatile("" : : : "memory");
}

/* tile [rows, vectors * LANES] += a b: row i of a is at a[i], and b is packed. */
static void product(int64_t rows, int64_t vectors, real (*tile)[UNITS], const real *const *a,
                    int64_t depth, const packed *b) {
    packed left[ROWS][BLOCK] __attribute__((aligned(BYTES)));
    for (int64_t begin = 0; begin < depth; begin += BLOCK) {
        const int64_t size = MIN(BLOCK, depth - begin);
        if (rows < ROWS) memset(left, 0, sizeof left); /* the other rows of the tile must stay */
        for (int64_t i = 0; i < rows; i++)
            for (int64_t k = 0; k < size; k += DEPTH) {
                const uint32_t there = size - k < DEPTH ? (1u << (size - k)) - 1 : ~0u;
                const real *from = a[i] + begin + k;
                const __m512 low = _mm512_maskz_loadu_ps((__mmask16)there, from);
                const __m512 high = _mm512_maskz_loadu_ps((__mmask16)(there >> 16), from + LANES);
                _mm512_store_si512(left[i] + k, (__m512i)_mm512_cvtne2ps_pbh(high, low));
            }
        multiply_tiles(vectors, tile, left[0], BLOCK, size, b + begin * UNITS);
    }
}
