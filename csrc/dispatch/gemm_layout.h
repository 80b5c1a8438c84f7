/* The scratch memory of the packed GEMM: which scheme runs and where its buffers lie. Pure, so that the planner can
 * state plan->scratch_bytes and the device finds the same offsets again. docs/gemm.md explains the schemes. */
#ifndef ML_GEMM_LAYOUT_H
#define ML_GEMM_LAYOUT_H

#include "core/op.h"

typedef enum ml_gemm_scheme {
    ML_GEMM_PANEL,  /* A whole, packed or in place; each task packs one panel of B at a time and uses it at once */
    ML_GEMM_BLOCKED /* five loops: per k block, slabs of what needs it are packed, then tiles of C are computed */
} ml_gemm_scheme;

/* Everything but `threads` and the sizes that follow from it depends on shape, dtype and blocking only, and the
 * blocking along k never depends on threads: that is what makes results independent of the number of threads. */
typedef struct ml_gemm_layout {
    ml_gemm_scheme scheme;
    int64_t kc, k_blocks; /* k is cut into k_blocks blocks of kc (the last may be shorter) */
    int64_t mb, nb;       /* BLOCKED: rows and columns of C that share one pair of slabs; multiples of mr, nr */
    bool shared_a;        /* PANEL: A is packed once for all threads; else by each for itself */
    bool partial_sums;    /* f32 sums are carried between k blocks in scratch (BLOCKED: only when out is not f32) */
    bool b_whole;         /* PANEL: a packed panel holds all of k, else one k block */
    int64_t a_bytes, b_bytes, acc_bytes; /* one copy of each, multiples of 64; no A where it is multiplied in place */
    int64_t held_bytes;                  /* PANEL: in front of b in a thread's part: what its buffers hold */
    int64_t shared_bytes;                /* at offset 0 */
    int64_t private_bytes;               /* one per thread after it */
    int64_t total_bytes;                 /* shared_bytes + threads * private_bytes */
} ml_gemm_layout;

/* The layout for an m x n x k problem (as the driver orients it) of plan's kernel (mr, nr) and block. */
typedef struct ml_gemm_shape {
    int64_t m, n, k, batch;
    int64_t mr, nr;
    int64_t k_pack; /* steps along k in one 32-bit word of a panel: 1 (f32) or 2 (pairs of bf16) */
    int64_t k_unit; /* panels are filled up with zeros to a multiple of so many steps */
    ml_blocking block;
    bool out_is_f32;
    bool a_in_place;  /* no room for packing A: ml_gemm_a_in_place() */
    bool b_prepacked; /* B comes in panels: the same */
    int threads;
} ml_gemm_shape;
void ml_gemm_layout_of(const ml_gemm_shape *shape, ml_gemm_layout *layout);

/* k_pack of a tiled GEMM's row. */
static inline int64_t ml_gemm_k_pack(const ml_kernel_desc *kernel) {
    return (kernel->supports & ML_SUP_BF16_DOT) != 0 ? 2 : 1;
}

/* k_unit of a tiled GEMM's row: a power of two. */
static inline int64_t ml_gemm_k_unit(const ml_kernel_desc *kernel) {
    return kernel->k_unit > 0 ? kernel->k_unit : ml_gemm_k_pack(kernel);
}

/* A row-major or column-major operand, or another: strides in elements. */
typedef struct ml_gemm_strides {
    ml_dtype dtype;
    int64_t rs, cs;
} ml_gemm_strides;

/* Whether the driver has the kernel read the m x k matrix A where it lies. */
bool ml_gemm_a_in_place(const ml_kernel_desc *kernel, const ml_gemm_strides *a, int64_t m, int64_t k);

/* Words that k steps take in a panel, for each row. */
static inline int64_t ml_gemm_words(int64_t k, int64_t k_pack, int64_t k_unit) {
    return ((k + k_unit - 1) & -k_unit) >> (k_pack - 1);
}

/* A skinny problem whose short side is cheap to pack whole: that side becomes the rows. mc: of the plan's block. */
static inline bool ml_gemm_is_skinny(int64_t m, int64_t n, int64_t k, int64_t mc) {
    const int64_t small = m < n ? m : n, large = m < n ? n : m;
    return small <= mc && large >= 2 * small && small * k <= (INT64_C(1) << 21);
}

/* plan->panels: the prepacked operand that becomes the driver's B. None where the driver would rather have it as a
 * short A, which costs next to nothing to pack. plan->kernel and plan->block are set. */
ml_panels_of ml_gemm_panels_of(const ml_op *op, const ml_plan *plan);
/* One matrix of k x n in panels of the kernel: floats from one panel to the next, and bytes of all of them. A panel
 * holds all of k; its k blocks follow each other. */
int64_t ml_gemm_panel_floats(const ml_kernel_desc *kernel, int64_t k);
int64_t ml_gemm_panels_bytes(const ml_kernel_desc *kernel, int64_t k, int64_t n);

/* plan->scratch_bytes of a matmul that runs on the tiled GEMM. plan->kernel (mr, nr), plan->block and
 * plan->panels are set. Enough for either orientation of the problem: the driver is free to compute C^T where that
 * suits the strides, unless an operand comes in panels. */
int64_t ml_gemm_scratch_bytes(const ml_op *op, const ml_plan *plan, int threads);

#endif
