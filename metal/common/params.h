/* Parameters of the kernels in metal/, as the host lays them out and the kernels read them. Plain C and MSL alike;
 * strides and offsets count elements, are 64-bit and may be zero or negative. A kernel's buffers begin at element [0,
 * ..., 0] of its operand. metal/README.md says which kernel takes which. */
#ifndef ML_METAL_PARAMS_H
#define ML_METAL_PARAMS_H

#ifndef __METAL_VERSION__
#include <stddef.h>
#include <stdint.h>
#endif

#define ML_GPU_BATCH_DIMS 6
#define ML_GPU_ROW_DIMS 7
#define ML_GPU_DIMS 8

/* Element (i, j) of a matrix: offset + i * rs + j * cs; of an item of a batch: + the sum of index_d * batch[d]. */
typedef struct ml_gpu_matrix {
    int64_t offset, rs, cs;
    int64_t batch[ML_GPU_BATCH_DIMS];
} ml_gpu_matrix;

/* out[m, n] = activation(alpha * a[m, k] b[k, n] + beta * c + bias). Both families, gemm_ and gemv_. The host sets k =
 * 0 and alpha = 1 where alpha is 0. Items of the batch are numbered row-major over batch_shape[0 .. batch_ndim). */
typedef struct ml_gpu_matmul {
    int32_t m, n, k;
    int32_t batch_ndim;
    int32_t batch_shape[ML_GPU_BATCH_DIMS];
    float alpha, beta;
    ml_gpu_matrix a, b, c, out;
    int64_t bias_offset, bias_rs, bias_cs; /* one of the strides is 0 */
} ml_gpu_matmul;

/* Rows are numbered row-major over shape[0 .. ndim). Row r is query r % seq_q of head r / seq_q % heads. */
typedef struct ml_gpu_softmax {
    int32_t seq_k, seq_q, heads;
    int32_t ndim;
    int32_t shape[ML_GPU_ROW_DIMS];
    float scale, softcap;
    int32_t reserved;
    int64_t x_strides[ML_GPU_ROW_DIMS], mask_strides[ML_GPU_ROW_DIMS], out_strides[ML_GPU_ROW_DIMS];
    int64_t x_step, mask_step, out_step; /* along the row */
    int64_t x_offset, mask_offset, out_offset;
    int64_t query_offset, window;
    int64_t sink_offset, sink_step;
} ml_gpu_softmax;

/* Strides of [batch, head, position, element]. */
typedef struct ml_gpu_heads {
    int64_t offset, batch, head, row, step;
} ml_gpu_heads;

typedef struct ml_gpu_sdpa {
    int32_t batch, heads_q, heads_kv, len_q, len_k, dim_qk, dim_v;
    int32_t splits;         /* of the keys, two-pass kernels; else 1 */
    int32_t keys_per_split; /* a multiple of 32 */
    float scale, softcap;
    int32_t reserved;
    ml_gpu_heads q, k, v, out, mask;
    int64_t query_offset, window; /* window 0 where there is none */
    int64_t sink_offset, sink_step;
} ml_gpu_sdpa;

/* Element-wise kernels: dims outermost first, coalesced by the host; ndim at least 1. */
typedef struct ml_gpu_elementwise {
    int64_t shape[ML_GPU_DIMS];
    int64_t out_strides[ML_GPU_DIMS], a_strides[ML_GPU_DIMS], b_strides[ML_GPU_DIMS];
    int64_t out_offset, a_offset, b_offset;
    int64_t size; /* product of shape */
    int32_t ndim;
    float a_value, b_value;       /* operands that are numbers, float kernels */
    int32_t a_integer, b_integer; /* and integer kernels */
    uint32_t fill_bits;           /* fill: the element, in the low bytes */
} ml_gpu_elementwise;

/* Values of the function constants *_dtype: those of ml_dtype. */
#define ML_GPU_F32 0
#define ML_GPU_F16 1
#define ML_GPU_BF16 2
#define ML_GPU_I32 3
#define ML_GPU_U8 4
#define ML_GPU_BOOL 5

/* Of `activation`: those of ml_activation. */
#define ML_GPU_ACT_NONE 0
#define ML_GPU_ACT_GELU 1
#define ML_GPU_ACT_GELU_TANH 2
#define ML_GPU_ACT_SILU 3
#define ML_GPU_ACT_RELU 4

/* Of `mask_kind`: those of ml_mask_kind. */
#define ML_GPU_MASK_NONE 0
#define ML_GPU_MASK_BOOL 1
#define ML_GPU_MASK_ADDITIVE 2

/* Of `binary_kind`: those of ml_binary_kind. */
#define ML_GPU_ADD 0
#define ML_GPU_SUB 1
#define ML_GPU_MUL 2
#define ML_GPU_DIV 3
#define ML_GPU_EQUAL 4
#define ML_GPU_NOT_EQUAL 5

/* Of `skip_hidden`: which operand's -0 adds nothing, whatever the other one holds there. */
#define ML_GPU_SKIP_NONE 0
#define ML_GPU_SKIP_A 1
#define ML_GPU_SKIP_B 2

/* Indices of the function constants. */
#define ML_GPU_FC_USE_OUT_SOURCE 0 /* bool: c is read */
#define ML_GPU_FC_DO_AXPBY 1       /* bool: alpha or beta is not 1 */
#define ML_GPU_FC_HAS_BIAS 2       /* bool */
#define ML_GPU_FC_ACTIVATION 3     /* int */
#define ML_GPU_FC_TRANSPOSE_A 4    /* bool: a's unit stride is along m */
#define ML_GPU_FC_TRANSPOSE_B 5    /* bool: b's unit stride is along k */
#define ML_GPU_FC_ALIGN_M 6        /* bool: m is a multiple of the tile */
#define ML_GPU_FC_ALIGN_N 7        /* bool */
#define ML_GPU_FC_ALIGN_K 8        /* bool */
#define ML_GPU_FC_STRIDED_A 9      /* bool: a has no unit stride */
#define ML_GPU_FC_STRIDED_B 10     /* bool */
#define ML_GPU_FC_VECTOR_A 11      /* bool: groups of four along a's unit stride are aligned */
#define ML_GPU_FC_VECTOR_B 12      /* bool */
#define ML_GPU_FC_SKIP_HIDDEN 13   /* int */
#define ML_GPU_FC_HAS_BATCH 14     /* bool: more than one item */
#define ML_GPU_FC_A_DTYPE 20       /* int; first operand of an element-wise kernel too */
#define ML_GPU_FC_B_DTYPE 21
#define ML_GPU_FC_C_DTYPE 22
#define ML_GPU_FC_BIAS_DTYPE 23
#define ML_GPU_FC_OUT_DTYPE 24
#define ML_GPU_FC_MASK_DTYPE 25
#define ML_GPU_FC_SINK_DTYPE 26
#define ML_GPU_FC_MASK_KIND 30   /* int */
#define ML_GPU_FC_CAUSAL 31      /* bool */
#define ML_GPU_FC_HAS_WINDOW 32  /* bool */
#define ML_GPU_FC_HAS_SINKS 33   /* bool */
#define ML_GPU_FC_HAS_SOFTCAP 34 /* bool */
#define ML_GPU_FC_LOG 35         /* bool: log_softmax */
#define ML_GPU_FC_SCORES 36      /* bool: what is hidden becomes -0 */
#define ML_GPU_FC_SIMD_REDUCE 37 /* bool: reduce with simdgroup operations, else through threadgroup memory */
#define ML_GPU_FC_UNIT_STEP 38   /* bool: x, mask and out of a softmax have unit steps; q, k, v, out of an attention */
#define ML_GPU_FC_VECTOR 39      /* bool: rows of k and v are aligned for vector loads */
#define ML_GPU_FC_TWO_PASS 40    /* bool: partial results go to scratch memory */
#define ML_GPU_FC_BINARY_KIND 45 /* int */
#define ML_GPU_FC_A_IS_VALUE 46  /* bool */
#define ML_GPU_FC_B_IS_VALUE 47  /* bool */
#define ML_GPU_FC_CHECK_RANGE 48 /* bool: values may lie outside the result's integer dtype */
#define ML_GPU_FC_CONTIGUOUS 49  /* bool: one dim, unit strides, aligned groups of four */
#define ML_GPU_FC_ELEMENT_BYTES 50 /* int: copy without a cast, fill: 1, 2 or 4 */

#ifdef __METAL_VERSION__
#define ML_GPU_ASSERT static_assert
#else
#define ML_GPU_ASSERT _Static_assert
_Static_assert(offsetof(ml_gpu_matmul, a) == 48, "layout shared with MSL");
_Static_assert(offsetof(ml_gpu_softmax, x_strides) == 56, "layout shared with MSL");
_Static_assert(offsetof(ml_gpu_sdpa, q) == 48, "layout shared with MSL");
_Static_assert(offsetof(ml_gpu_elementwise, size) == 280, "layout shared with MSL");
#endif
ML_GPU_ASSERT(sizeof(ml_gpu_matrix) == 72, "layout shared with MSL");
ML_GPU_ASSERT(sizeof(ml_gpu_matmul) == 360, "layout shared with MSL");
ML_GPU_ASSERT(sizeof(ml_gpu_softmax) == 304, "layout shared with MSL");
ML_GPU_ASSERT(sizeof(ml_gpu_sdpa) == 280, "layout shared with MSL");
ML_GPU_ASSERT(sizeof(ml_gpu_elementwise) == 312, "layout shared with MSL");

#endif
