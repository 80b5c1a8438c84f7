/* Cache blocks of the packed GEMM.
 *
 * T. M. Low, F. D. Igual, T. M. Smith, E. S. Quintana-Orti, "Analytical Modeling Is Enough for High-Performance BLIS",
 * ACM TOMS 43(2), 2016: the k block is what lets an A and a B micro-panel stay in L1, the m block what lets the packed
 * block of A stay in L2, the n block what lets the packed panel of B stay in L3. Panels are f32 whatever the operands
 * are.
 */
#include "dispatch/dispatch.h"

enum {
    DEFAULT_L1 = 32 << 10,
    DEFAULT_L2 = 256 << 10,
    /* Caps state the whole L3, which cores share in unknown number; the thread count must not matter. From the server
     * and client parts of the last ten years a core's share is 1 to 4 MiB, so the larger figure bounds it. */
    MAX_L3_SHARE = 4 << 20,
    K_MULTIPLE = 16, /* the packers' step along k */
    K_MIN = 64
};

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Cuts `total` into the fewest pieces of at most `limit` and makes them even, so that no sliver is left over; rounded
 * up to a multiple of `unit`. */
static int64_t even_pieces(int64_t total, int64_t limit, int64_t unit) {
    limit = max64(limit / unit, 1) * unit;
    if (total <= limit)
        return max64((total + unit - 1) / unit, 1) * unit;
    int64_t pieces = (total + limit - 1) / limit;
    int64_t piece = (total + pieces - 1) / pieces;
    return (piece + unit - 1) / unit * unit;
}

ml_blocking ml_gemm_blocking(const ml_caps *caps, const ml_kernel_desc *kernel, int64_t m, int64_t n, int64_t k) {
    const int64_t size = (int64_t)sizeof(float);
    int64_t mr = kernel->mr > 0 ? kernel->mr : 1, nr = kernel->nr > 0 ? kernel->nr : 1;
    int64_t l1 = caps->l1_bytes > 0 ? caps->l1_bytes : DEFAULT_L1;
    int64_t l2 = caps->l2_bytes > 0 ? caps->l2_bytes : DEFAULT_L2;
    int64_t l3 = caps->l3_bytes > 0 ? min64(caps->l3_bytes, MAX_L3_SHARE) : 4 * l2;

    ml_blocking b;
    b.kc = even_pieces(k, max64(l1 / 2 / ((mr + nr) * size), K_MIN), K_MULTIPLE);
    b.mc = even_pieces(m, l2 / 2 / (b.kc * size), mr);
    b.nc = even_pieces(n, l3 / 2 / (b.kc * size), nr);
    return b;
}
