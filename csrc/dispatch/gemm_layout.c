/* Scheme and scratch layout of the packed GEMM; docs/gemm.md explains the choices. */
#include "core/prepacked.h"
#include "dispatch/gemm_layout.h"

#include <string.h>

/* Largest A that is packed whole (it stays in L3 next to the streams of B and C), and largest copy of it that every
 * thread may own. */
#define A_WHOLE_MAX (INT64_C(8) << 20)
/* Rows of such an A, in blocks of mc: past L2 it comes from L3, which is asked for little. */
#define A_WHOLE_BLOCKS 3
#define A_PRIVATE_MAX (INT64_C(2) << 20)
/* From this many elements of A on, packing it once for all threads saves more than it costs to synchronise and to fetch
 * half of the strips from the other core's cache. */
#define A_SHARED_MIN 524288
/* Largest slab of packed A, and of f32 partial sums, in the blocked scheme. */
#define A_SLAB_MAX (INT64_C(8) << 20)
#define ACC_SLAB_MAX (INT64_C(16) << 20)
/* k blocks are multiples of this, so that a block of a packed strip starts on a cache line and the transposing packing
 * loops see whole vectors; of k_unit where that is more. */
#define K_STEP 16
/* Largest panel of B packed with all of k, in the panel scheme: it stays in L2 while A goes by. */
#define B_WHOLE_MAX (INT64_C(256) << 10)
/* Lines so far apart share a set of L1 (64 sets everywhere but on a few cores that have more), which holds 8 or so:
 * with panels of B and rows of C in between, this many of one stride live side by side. */
#define ALIAS_BYTES 4096
#define ALIAS_ROWS 4
#define LINE 64 /* bytes of a cache line */

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}
/* Tiny problems plan often enough for the divisions to show. */
static int64_t ceil_div(int64_t a, int64_t b) {
    return a <= b ? a > 0 : (a + b - 1) / b;
}
static int64_t round_up(int64_t a, int64_t unit) {
    return ceil_div(a, unit) * unit;
}
static int64_t line_up(int64_t bytes) {
    return (bytes + 63) & ~INT64_C(63);
}
/* extent cut into equal parts of at most `most` elements, in multiples of unit. */
static int64_t balanced(int64_t extent, int64_t most, int64_t unit) {
    most = most / unit * unit;
    if (most < unit)
        most = unit;
    return min64(round_up(ceil_div(extent, ceil_div(extent, most)), unit), round_up(extent, unit));
}

void ml_gemm_layout_of(const ml_gemm_shape *s, ml_gemm_layout *l) {
    const int64_t size = (int64_t)sizeof(float);
    int64_t strips = ceil_div(s->m, s->mr), padded_m = strips * s->mr;
    const int64_t k_words = ml_gemm_words(s->k, s->k_pack, s->k_unit);
    memset(l, 0, sizeof *l);
    l->k_blocks = 1;
    l->kc = s->k;
    if (s->k > s->block.kc && s->block.kc > 0) {
        l->kc = balanced(s->k, s->block.kc, s->k_unit > K_STEP ? s->k_unit : K_STEP);
        l->k_blocks = ceil_div(s->k, l->kc);
    }
    const int64_t kc_words = ml_gemm_words(l->kc, s->k_pack, s->k_unit);

    int64_t a_whole = strips * line_up(s->mr * k_words * size);
    if (s->k == 0 || ((padded_m <= A_WHOLE_BLOCKS * s->block.mc || padded_m == s->mr) && a_whole <= A_WHOLE_MAX)) {
        l->scheme = ML_GEMM_PANEL;
        l->shared_a = !s->a_in_place &&
                      (a_whole > A_PRIVATE_MAX || (s->batch < 8 && s->m * s->k >= A_SHARED_MIN && s->n >= 8 * s->nr));
        l->partial_sums = l->k_blocks > 1;
        l->a_bytes = s->a_in_place ? 0 : a_whole;
        l->b_whole = k_words * s->nr * size <= B_WHOLE_MAX;
        l->b_bytes = s->b_prepacked ? 0 : line_up((l->b_whole ? k_words : kc_words) * s->nr * size);
        l->held_bytes = LINE;
        l->acc_bytes = l->partial_sums ? line_up(padded_m * s->nr * size) : 0;
        l->shared_bytes = l->shared_a ? l->a_bytes : 0;
        l->private_bytes = l->held_bytes + l->b_bytes + l->acc_bytes + (l->shared_a ? 0 : l->a_bytes);
    } else {
        l->scheme = ML_GEMM_BLOCKED;
        l->partial_sums = l->k_blocks > 1 && !s->out_is_f32;
        l->mb = balanced(s->m, A_SLAB_MAX / (size * kc_words), s->mr);
        l->nb = balanced(s->n, s->block.nc, s->nr);
        if (l->partial_sums)
            l->mb = balanced(s->m, min64(l->mb, ACC_SLAB_MAX / (size * l->nb)), s->mr);
        l->a_bytes = s->a_in_place ? 0 : l->mb / s->mr * line_up(s->mr * kc_words * size);
        l->b_bytes = s->b_prepacked ? 0 : l->nb / s->nr * line_up(s->nr * kc_words * size);
        l->acc_bytes = l->partial_sums ? line_up(l->mb * l->nb * size) : 0;
        l->shared_bytes = l->a_bytes + l->b_bytes + l->acc_bytes;
    }
    l->total_bytes = l->shared_bytes + l->private_bytes * s->threads;
}

/* Rows whose words are the kernel's, but where the same columns of all rows of a tile share a set of L1: there each
 * would evict the others. Kernels of tiles have an order of their own. */
bool ml_gemm_a_in_place(const ml_kernel_desc *kernel, const ml_gemm_strides *a, int64_t m, int64_t k) {
    const int64_t size = (int64_t)ml_dtype_size_of(a->dtype), k_pack = ml_gemm_k_pack(kernel);
    const bool words_fit = k_pack == 1 ? a->dtype == ML_F32 : k % k_pack == 0;
    const bool aliased = a->rs * size % ALIAS_BYTES == 0 && min64(m, kernel->mr) > ALIAS_ROWS;
    return ml_gemm_k_unit(kernel) == k_pack && words_fit && a->cs == 1 && a->rs != 0 && !aliased;
}

int64_t ml_gemm_panel_floats(const ml_kernel_desc *kernel, int64_t k) {
    const int64_t words = ml_gemm_words(k, ml_gemm_k_pack(kernel), ml_gemm_k_unit(kernel));
    return line_up(kernel->nr * words * (int64_t)sizeof(float)) / (int64_t)sizeof(float);
}

int64_t ml_gemm_panels_bytes(const ml_kernel_desc *kernel, int64_t k, int64_t n) {
    return ceil_div(n, kernel->nr) * ml_gemm_panel_floats(kernel, k) * (int64_t)sizeof(float);
}

ml_panels_of ml_gemm_panels_of(const ml_op *op, const ml_plan *plan) {
    const ml_matmul_params *p = &op->matmul;
    if (p->k == 0 || p->alpha == 0.0f || p->skip_hidden) /* skip_hidden reads other values than the buffer's */
        return ML_PANELS_OF_NONE;
    for (int i = ML_IN_B; i >= ML_IN_A; i--) {
        const int64_t n = i == ML_IN_B ? p->n : p->m, m = i == ML_IN_B ? p->m : p->n; /* the weight's side, the other */
        if (ml_view_prepacked_form(&op->in[i]) != ML_PREPACKED_NOT &&
            (n >= m || !ml_gemm_is_skinny(m, n, p->k, plan->block.mc)))
            return i == ML_IN_A ? ML_PANELS_OF_A : ML_PANELS_OF_B;
    }
    return ML_PANELS_OF_NONE;
}

/* The last two dims of a factor, `turned` swapped. */
static ml_gemm_strides strides_of(const ml_view *x, bool turned) {
    const int row = x->ndim - (turned ? 1 : 2), col = x->ndim - (turned ? 2 : 1);
    return (ml_gemm_strides){x->dtype, x->strides[row], x->strides[col]};
}

int64_t ml_gemm_scratch_bytes(const ml_op *op, const ml_plan *plan, int threads) {
    const ml_matmul_params *p = &op->matmul;
    if (p->m <= 0 || p->n <= 0 || p->batch <= 0)
        return 0;
    int64_t most = 0;
    for (int flipped = 0; flipped < 2; flipped++) {
        if (plan->panels == (flipped ? ML_PANELS_OF_B : ML_PANELS_OF_A)) /* only the other orientation can be */
            continue;
        ml_gemm_shape shape = {.m = flipped ? p->n : p->m,
                               .n = flipped ? p->m : p->n,
                               .k = p->alpha == 0.0f ? 0 : p->k,
                               .batch = p->batch,
                               .mr = plan->kernel->mr,
                               .nr = plan->kernel->nr,
                               .k_pack = ml_gemm_k_pack(plan->kernel),
                               .k_unit = ml_gemm_k_unit(plan->kernel),
                               .block = plan->block,
                               .out_is_f32 = op->out[0].dtype == ML_F32,
                               .b_prepacked = plan->panels != ML_PANELS_OF_NONE,
                               .threads = threads};
        const ml_gemm_strides a = strides_of(&op->in[flipped ? ML_IN_B : ML_IN_A], flipped);
        shape.a_in_place = ml_gemm_a_in_place(plan->kernel, &a, shape.m, shape.k);
        ml_gemm_layout layout;
        ml_gemm_layout_of(&shape, &layout);
        most = max64(most, layout.total_bytes);
    }
    return most;
}
