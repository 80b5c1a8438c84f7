/* What GPU kernels need beside the plan: splits of the keys, scratch memory, the cases rows are made for. Pure. */
#ifndef ML_GPU_LAYOUT_H
#define ML_GPU_LAYOUT_H

#include "core/op.h"

/* Attention for few queries: threadgroups share out the keys of a head when there are too few heads to fill a GPU.
 * keys: for each, a multiple of 32. */
typedef struct ml_gpu_splits {
    int64_t n, keys;
} ml_gpu_splits;
ml_gpu_splits ml_gpu_sdpa_splits(const ml_sdpa_params *p);
/* Partial results of the splits; 0 with one split. */
int64_t ml_gpu_sdpa_scratch_bytes(const ml_sdpa_params *p);

/* ML_CASE_... bits of an operation. */
uint32_t ml_gpu_matmul_cases(const ml_op *op, bool transposed);
uint32_t ml_gpu_sdpa_cases(const ml_op *op);
uint32_t ml_gpu_simple_cases(const ml_op *op);

/* A value may lie outside the result's dtype: the kernel reports it through 4 bytes of scratch memory. */
bool ml_gpu_checks_range(const ml_op *op);

#endif
