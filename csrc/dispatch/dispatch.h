/* Selection: pure functions from (operation, caps, preferences) to a plan. No I/O, no allocation, no state; the same
 * arguments give the same plan on every machine. DESIGN.md section 4 is the specification. */
#ifndef ML_DISPATCH_H
#define ML_DISPATCH_H

#include "core/cache.h"
#include "core/op.h"

/* Plans any operation. Errors: ML_ERR_UNSUPPORTED (strict and the forced choice cannot do the case, or no kernel can).
 */
ml_status ml_plan_op(const ml_op *op, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan);

ml_status ml_plan_matmul(const ml_op *op, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan);
ml_status ml_plan_softmax(const ml_op *op, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan);
ml_status ml_plan_sdpa(const ml_op *op, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan);
/* Norms, activations and rope: the best row of the device. */
ml_status ml_plan_norm(const ml_op *op, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan);
ml_status ml_plan_activate(const ml_op *op, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan);
ml_status ml_plan_rope(const ml_op *op, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan);
/* Element-wise, copy, fill: the best row of the device. */
ml_status ml_plan_simple(const ml_op *op, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan);

ml_smalln_bucket ml_bucket_of(int64_t n);

/* Shared by the policies: records a reason; the best row of a family that can do the case, or NULL and the reason why
 * the family's best row cannot. */
void ml_plan_because(ml_plan *plan, ml_why why);
typedef struct ml_need {
    ml_op_kind op;
    int family;
    uint32_t dtypes;   /* bits of all operands */
    uint32_t supports; /* ML_SUP_... the case needs */
    uint32_t cases;    /* ML_CASE_... that hold; devices without such rows leave it 0 */
    int64_t n;
} ml_need;
const ml_kernel_desc *ml_find_kernel(const ml_caps *caps, const ml_prefs *prefs, const ml_need *need, ml_why *why_not);

/* The only family of an operation: plan->kernel = its best row. Errors: ML_ERR_UNSUPPORTED, which says whether the
 * device lacks the operation or the case. */
ml_status ml_plan_row(const ml_need *need, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan);

/* Cost model: bytes and flops of the operation, and the larger of bytes/bandwidth and flops/peak plus the dispatch. */
void ml_plan_cost(const ml_op *op, const ml_caps *caps, ml_plan *plan);

/* Cache blocks of a packed GEMM: kc so that a micro-panel of B takes a sixteenth of L2, within 128 ... 512 words; mc so
 * that the packed A block fills half of L2, nc so that the packed B panel fills half of L3 (up to 8 MiB of it). Depends
 * on k, micro-tile and cache sizes only; mc and nc may exceed the matrix. */
ml_blocking ml_gemm_blocking(const ml_caps *caps, const ml_kernel_desc *kernel, int64_t k);

/* The resource-cache key of a planned operation: every fact that changes the prepared thing and nothing else (DESIGN.md
 * section 4, "Resource-cache keys"). Two different sets of facts never give equal bytes. */
void ml_plan_key(const ml_op *op, const ml_plan *plan, ml_cache_key *key);

/* Words. */
const char *ml_why_text(ml_why why);              /* "N <= METALLIC_MATMUL_SMALLN_MAX_N: small-N" */
const char *ml_backend_name(ml_matmul_backend b); /* "auto", "mlx", "mps", "gemv" */
const char *ml_softmax_variant_name(ml_softmax_variant v);
const char *ml_sdpa_variant_name(ml_sdpa_variant v);
const char *ml_family_name(ml_op_kind op, int family); /* one of these; "" for operations without families */
/* "small_n(8)", "gemm_simd(64x64)", "gemm_generic", "vec", "tiled", ... ; into buf */
char *ml_plan_variant_format(const ml_plan *plan, char *buf, size_t size);

#endif
