/* Cache blocks of the packed GEMM.
 *
 * The scheme is that of T. M. Low, F. D. Igual, T. M. Smith, E. S. Quintana-Orti, "Analytical Modeling Is Enough for
 * High-Performance BLIS", ACM TOMS 43(2), 2016: the packed block of A stays in L2, the packed panel of B in L3. The k
 * block is longer than their model's, which keeps a micro-panel of B in L1: the vector tiles are so large that they
 * need only a few bytes per cycle, which L2 delivers, while a longer block means fewer passes over C (docs/gemm.md has
 * the figures). Panels are made of 32-bit words whatever the operands are: f32, or two steps along k in bf16.
 */
#include "dispatch/gemm_layout.h"
#include "dispatch/dispatch.h"

enum {
    DEFAULT_L1 = 32 << 10,
    DEFAULT_L2 = 256 << 10,
    /* Caps state the whole L3, which cores share in unknown number; the thread count must not matter. The panel of B is
     * shared by all threads, so it may take more than one core's share. */
    MAX_L3 = 8 << 20,
    K_MULTIPLE = 16, /* the packers' step along k */
    K_MIN = 128,
    K_MAX = 512
};

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}
static int64_t round_down(int64_t x, int64_t unit) {
    return max64(x / unit, 1) * unit;
}

ml_blocking ml_gemm_blocking(const ml_caps *caps, const ml_kernel_desc *kernel, int64_t k) {
    const int64_t size = (int64_t)sizeof(float), k_pack = ml_gemm_k_pack(kernel);
    int64_t mr = kernel->mr > 0 ? kernel->mr : 1, nr = kernel->nr > 0 ? kernel->nr : 1;
    int64_t l1 = caps->l1_bytes > 0 ? caps->l1_bytes : DEFAULT_L1;
    int64_t l2 = caps->l2_bytes > 0 ? caps->l2_bytes : DEFAULT_L2;
    int64_t l3 = caps->l3_bytes > 0 ? min64(caps->l3_bytes, MAX_L3) : 4 * l2;

    ml_blocking b;
    const int64_t unit = max64(ml_gemm_k_unit(kernel), K_MULTIPLE);
    int64_t limit = round_down(min64(max64(l2 / 16 / (nr * size), K_MIN), K_MAX), K_MULTIPLE) * k_pack;
    if (ml_gemm_k_unit(kernel) > k_pack) /* tiles eat a line per cycle: the panel of B has to come from L1 */
        limit = round_down(min64(limit, l1 * 2 / 3 / (nr * size) * k_pack), unit);
    b.kc = max64(k, 1);
    if (k > limit) { /* even pieces, so that no sliver is left over */
        int64_t pieces = (k + limit - 1) / limit;
        b.kc = (k + pieces - 1) / pieces;
    }
    b.kc = (b.kc + unit - 1) / unit * unit;
    /* Not cut down to the matrix: the driver may compute C^T, and evens the blocks out itself. */
    b.mc = round_down(l2 / 2 / (b.kc / k_pack * size), mr);
    b.nc = round_down(l3 / 2 / (b.kc / k_pack * size), nr);
    return b;
}
