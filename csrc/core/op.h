/* The plain types every layer speaks: an operation (ml_op), what a device can do (ml_caps, ml_kernel_desc), what the
 * user prefers (ml_prefs) and what was decided (ml_plan). No pointers to devices, no behaviour. */
#ifndef ML_CORE_OP_H
#define ML_CORE_OP_H

#include "core/cpuinfo.h"
#include "core/view.h"

/* ---- operations -------------------------------------------------------------------------------------------- */

typedef enum ml_op_kind {
    ML_OP_MATMUL = 0,
    ML_OP_MATMUL_RAGGED, /* composed: lowered by the runtime to one MATMUL per group */
    ML_OP_SOFTMAX,
    ML_OP_SDPA,
    ML_OP_BINARY,
    ML_OP_COPY, /* any strides to any strides, with a cast */
    ML_OP_FILL,
    ML_OP_LAYER_NORM,
    ML_OP_RMS_NORM,
    ML_OP_GELU,
    ML_OP_SILU,
    ML_OP_SWIGLU,
    ML_OP_ROPE,
    ML_OP_KIND_COUNT
} ml_op_kind;

const char *ml_op_name(ml_op_kind kind); /* "matmul", "matmul_ragged", "softmax", ... */

/* Views as the device needs them: ops/ has applied transposes and broadcasting, so that
 *   in[A] [B..., M, K], in[B] [B..., K, N], in[C], in[BIAS], out [B..., M, N], all with out's rank. */
enum { ML_IN_A = 0, ML_IN_B, ML_IN_C, ML_IN_BIAS };
typedef struct ml_matmul_params {
    int64_t m, n, k, batch; /* batch: product of the leading dims of out */
    float alpha, beta;
    ml_activation activation;
    bool has_c; /* false when beta == 0 */
    bool has_bias;
    bool transpose_a, transpose_b; /* the caller's flags; already applied to the views, kept for metrics and keys */
    ml_matmul_backend backend;     /* the argument; AUTO: prefs decide */
    ml_variant_force variant;
    bool skip_hidden; /* a weight -0 in a adds nothing, whatever b holds there: what ml_softmax_params.scores leaves */
} ml_matmul_params;

typedef struct ml_ragged_params {
    int64_t groups;
    const int64_t *row_counts; /* borrowed for the call */
} ml_ragged_params;

typedef enum ml_mask_kind { ML_MASK_NONE = 0, ML_MASK_BOOL, ML_MASK_ADDITIVE } ml_mask_kind;

/* in[0] x, in[1] mask broadcast to x (when mask != NONE); softmax along the last dim (ops/ moved the axis there).
 * scores: the middle of a composed attention. Then x and out are one contiguous f32 [B, H, Q, S], in[2] are the sinks
 * [H] (when has_sinks), window and softcap count, and what is hidden becomes -0, so that a product can tell it from a
 * weight that underflowed. */
typedef struct ml_softmax_params {
    int64_t rows, seq_q, seq_k;
    float scale;
    bool causal;
    bool log;             /* log_softmax */
    int64_t query_offset; /* resolved: never "None" here */
    ml_mask_kind mask;
    ml_softmax_variant variant;
    bool scores, has_sinks;
    float softcap;  /* 0: none */
    int64_t window; /* 0: none */
} ml_softmax_params;

/* in[0..2] q k v as [B, H, L, D] (k and v with Hkv heads), in[3] mask broadcast to [B, Hq, L, S], in[4] sinks [Hq]. */
enum { ML_IN_Q = 0, ML_IN_K, ML_IN_V, ML_IN_MASK, ML_IN_SINKS };
typedef struct ml_sdpa_params {
    int64_t batch, heads_q, heads_kv, len_q, len_k, dim_qk, dim_v;
    float scale;
    float softcap; /* 0: none */
    bool causal;
    bool has_sinks;
    int64_t query_offset; /* resolved */
    int64_t window;       /* 0: none */
    ml_mask_kind mask;
    ml_sdpa_variant variant;
} ml_sdpa_params;

/* in[0], in[1] and out of one shape; an operand without a buffer is a number, rounded to its partner's dtype where that
 * is a float; in a comparison with integers it is an i32 or NaN. */
typedef struct ml_binary_params {
    ml_binary_kind kind;
    bool a_is_value, b_is_value;
    double a_value, b_value;
} ml_binary_params;

typedef struct ml_fill_params {
    double value;
} ml_fill_params;

/* Both norms, over the last dim: in[X] and in[RESIDUAL] (when has_residual; rms only) of one shape and dtype, weight
 * and bias [length] of any float dtypes. out[0] the normalised result, out[1] (when has_residual) x + residual,
 * rounded. */
enum { ML_IN_X = 0, ML_IN_WEIGHT, ML_IN_OFFSET, ML_IN_RESIDUAL };
typedef struct ml_norm_params {
    int64_t rows, length;
    float eps;
    bool has_weight, has_offset, has_residual;
} ml_norm_params;

/* gelu, silu: out = activation(in[0]); swiglu: activation(in[0]) * in[1]; all of one shape. */
typedef struct ml_activate_params {
    ml_activation activation;
} ml_activate_params;

/* in[0] x and out [..., L, D]. Row l of batch b (the first dim, when offsets is given) stands at position
 * scale * (offset + l) and its first `dims` elements turn, pair i of dims / 2 by position * base^(-2 i / dims). Pairs:
 * (2i, 2i + 1) when interleaved, else (i, i + dims / 2). */
typedef struct ml_rope_params {
    int64_t length, width, dims;
    int64_t offset;
    const int64_t *offsets; /* borrowed for the call: one for each batch; NULL: offset */
    double base, scale;
    bool interleaved;
} ml_rope_params;

#define ML_OP_MAX_IN 6
#define ML_OP_MAX_OUT 2

typedef struct ml_op {
    ml_op_kind kind;
    int n_in, n_out; /* slots used, absent optional ones included */
    union {
        ml_matmul_params matmul;
        ml_ragged_params ragged;
        ml_softmax_params softmax;
        ml_sdpa_params sdpa;
        ml_binary_params binary;
        ml_fill_params fill;
        ml_norm_params norm;
        ml_activate_params activate;
        ml_rope_params rope;
    };
    ml_view in[ML_OP_MAX_IN];
    ml_view out[ML_OP_MAX_OUT]; /* buf NULL: the runtime allocates it */
} ml_op;

/* ---- what a device can do ---------------------------------------------------------------------------------- */

typedef enum ml_device_kind { ML_DEVICE_CPU = 0, ML_DEVICE_METAL, ML_DEVICE_CUDA } ml_device_kind;

typedef enum ml_smalln_bucket {
    ML_BUCKET_1 = 0,
    ML_BUCKET_2,
    ML_BUCKET_4,
    ML_BUCKET_8,
    ML_BUCKET_16,
    ML_BUCKET_OTHER /* N > 16 */
} ml_smalln_bucket;
typedef enum ml_gemm_tile { ML_TILE_64X32 = 0, ML_TILE_64X64, ML_TILE_GENERIC } ml_gemm_tile;
typedef enum ml_matmul_variant_kind { ML_SMALL_N = 0, ML_GEMM_SIMD, ML_GEMM_GENERIC } ml_matmul_variant_kind;

/* Facts about a kernel that selection looks at. The full set of a device is one constant array. */
enum {
    ML_SUP_BIAS = 1 << 0,
    ML_SUP_ACTIVATION = 1 << 1,
    ML_SUP_ALPHA_BETA = 1 << 2,
    ML_SUP_ANY_STRIDES = 1 << 3,  /* else: each operand has one unit stride and a positive leading dimension */
    ML_SUP_MIXED_DTYPES = 1 << 4, /* operands of different float dtypes */
    ML_SUP_CAUSAL = 1 << 5,
    ML_SUP_MASK = 1 << 6,
    ML_SUP_WINDOW = 1 << 7,
    ML_SUP_SINKS = 1 << 8,
    ML_SUP_SOFTCAP = 1 << 9,
    ML_SUP_ALL = (1 << 10) - 1,
    /* Not an ability but a limit: multiplies pairs of bf16 with instructions that flush denormals, for bf16 operands
     * and ML_PRECISION_FAST only (ML_CASE_BF16_DOT). */
    ML_SUP_BF16_DOT = 1 << 10,
    /* The same for pairs of f16, whose products are exact: f16 operands only (ML_CASE_F16_DOT). */
    ML_SUP_F16_DOT = 1 << 11
};

/* What a case is like, where a device has kernels that are made for some cases only (GPUs). */
enum {
    ML_CASE_A_ROWS = 1 << 0,     /* matmul, after orientation: a's unit stride is along k, or it has none */
    ML_CASE_A_COLUMNS = 1 << 1,  /* a's unit stride is along m */
    ML_CASE_TILE_64X64 = 1 << 2, /* the tile of the shape class */
    ML_CASE_TILE_64X32 = 1 << 3,
    ML_CASE_TILE_GENERIC = 1 << 4,
    ML_CASE_ROWS_1 = 1 << 5, /* attention: queries (times heads) that share a key/value head: 1, 2 to 4, more */
    ML_CASE_ROWS_4 = 1 << 6,
    ML_CASE_ROWS_8 = 1 << 7,
    ML_CASE_SAME_DTYPE = 1 << 8, /* copy; attention: of keys and values */
    ML_CASE_TRANSPOSE = 1 << 9,  /* copy: source and destination run along different dims */
    ML_CASE_INTEGER = 1 << 10,   /* binary: computed in int */
    ML_CASE_BF16_DOT = 1 << 11,  /* matmul, attention: a and b, q and k are bf16 and may lose their denormals */
    ML_CASE_PRODUCT = 1 << 12,   /* matmul: k and alpha are not 0, and c is out where there is one */
    ML_CASE_F16_DOT = 1 << 13    /* matmul: a and b are f16 */
};

typedef struct ml_kernel_desc {
    const char *name; /* "gemm_avx512_f32_14x32"; the plan's impl is "<device>/<name>" unless the vendor names itself */
    ml_op_kind op;
    int family;                       /* ml_matmul_backend, ml_softmax_variant or ml_sdpa_variant, by op; 0 elsewhere */
    uint32_t dtypes;                  /* ML_DTYPE_BITs of the operands it accepts */
    uint32_t supports;                /* ML_SUP_... */
    uint32_t isa;                     /* needed features (cpu); 0: always */
    uint32_t sm_min;                  /* needed device family (gpu) */
    int rank;                         /* among rows that can do a case the highest rank wins */
    bool experimental;                /* only with exp_kernels */
    int mr, nr;                       /* micro-tile of a matmul kernel */
    int k_unit;                       /* steps along k that a tiled GEMM's kernel takes at once; 0: what a word holds */
    int64_t max_n;                    /* largest N it accepts in one pass (softmax: seq_k, SDPA: head size); 0: any */
    uint32_t requires_cases, prefers; /* ML_CASE_...: cases it cannot do without, and cases it is made for; 0: any */
    const void *impl;                 /* the device's own function table */
} ml_kernel_desc;

/* A measured winner for a class of shapes. */
typedef struct ml_tuning_row {
    ml_op_kind op;
    uint32_t dtypes;
    int64_t m_min, m_max, n_min, n_max, k_min, k_max; /* inclusive; after orientation */
    int family;                                       /* the winning ml_matmul_backend, ... */
    const char *kernel;                               /* NULL: the family's best */
    float gain; /* measured time of the default / time of the winner; wins from 1.05 */
} ml_tuning_row;

typedef struct ml_caps {
    ml_device_kind device;
    char family[32];       /* "avx512", "apple7", "sm_90" */
    uint32_t isa;          /* cpu features after METALLIC_ISA */
    uint32_t sm;           /* gpu family number */
    bool simdgroup_mm;     /* cpu: a vector GEMM tier is present */
    bool simdgroup_reduce; /* simd_sum and friends */
    bool bfloat;
    bool has_mlx, has_gemv; /* own kernels present for the device */
    bool has_mps;           /* vendor library present */
    uint32_t mps_dtypes;
    int max_threads_per_threadgroup;
    int64_t threadgroup_memory;
    int threads;                            /* cpu; scratch sizes only, never which kernel or how work is split */
    int64_t l1_bytes, l2_bytes, l3_bytes;   /* cpu */
    float read_gbs, flops_f32, dispatch_us; /* for the cost model: nominal figures, GB/s, GFLOP/s, us */
    const ml_kernel_desc *kernels;
    int n_kernels;
    const ml_tuning_row *tuning;
    int n_tuning;
} ml_caps;

/* ---- what the user prefers --------------------------------------------------------------------------------- */

typedef enum ml_precision { ML_PRECISION_FAST = 0, ML_PRECISION_HIGH } ml_precision;
typedef enum ml_submit { ML_SUBMIT_BATCHED = 0, ML_SUBMIT_PER_ITEM } ml_submit;

/* The preferences selection looks at, resolved (argument and thread overrides applied). The rest (paths, log level,
 * threads) stay in runtime/prefs.h. */
typedef struct ml_prefs {
    ml_matmul_backend matmul_backend;
    ml_variant_force matmul_variant_force;
    bool matmul_force_smalln;
    int64_t smalln_max_n; /* 8; over 16 counts as 16 */
    int64_t simd_m_min;   /* 64 */
    int64_t simd_n_min;   /* 16 */
    ml_softmax_variant softmax_variant;
    int64_t softmax_vec_max_k; /* 1024 */
    ml_sdpa_variant sdpa_variant;
    uint32_t dispatch_ops; /* bit per ml_op_kind that goes through the dispatcher; default all */
    ml_precision precision;
    ml_submit submit;
    bool exp_kernels;
    bool strict;
} ml_prefs;
#define ML_PREFS_DEFAULTS                                                                                              \
    {.smalln_max_n = 8, .simd_m_min = 64, .simd_n_min = 16, .softmax_vec_max_k = 1024, .dispatch_ops = ~0u}

/* ---- what was decided -------------------------------------------------------------------------------------- */

/* Reasons, in the order they came up; the runtime turns them into words (dispatch/why.c lists them). */
typedef enum ml_why {
    ML_WHY_NONE = 0,
    ML_WHY_TRANSPOSED, /* planned as C^T = B^T A^T */
    ML_WHY_SMALL_N,    /* N <= smalln_max_n */
    ML_WHY_SIMD,       /* simdgroup units and M, N reach the thresholds */
    ML_WHY_GENERIC,    /* none of the above */
    ML_WHY_FORCED_BACKEND_ARG,
    ML_WHY_FORCED_BACKEND_PREF,
    ML_WHY_FORCED_SMALLN,
    ML_WHY_FORCED_GEMM,
    ML_WHY_SMALLN_IGNORED,    /* forced, but N > 16 */
    ML_WHY_BACKEND_DEFAULT,   /* gemv for small N, mlx for GEMM */
    ML_WHY_BACKEND_ABSENT,    /* the wanted backend is not on this device */
    ML_WHY_TUNED,             /* measured table */
    ML_WHY_UNSUPPORTED_DTYPE, /* the wanted kernel cannot: fell back */
    ML_WHY_UNSUPPORTED_BIAS,
    ML_WHY_UNSUPPORTED_ACTIVATION,
    ML_WHY_UNSUPPORTED_STRIDES,
    ML_WHY_UNSUPPORTED_MIXED,
    ML_WHY_UNSUPPORTED_SIZE,
    ML_WHY_UNSUPPORTED_MASK,
    ML_WHY_UNSUPPORTED_OTHER,
    ML_WHY_FELL_BACK_MLX,
    ML_WHY_FELL_BACK_GENERIC,
    ML_WHY_NOT_DISPATCHED, /* METALLIC_DISPATCH leaves this operation out */
    ML_WHY_VEC,            /* seq_k <= vec_max_k */
    ML_WHY_BLOCK,
    ML_WHY_VECTOR, /* q_len <= 8 */
    ML_WHY_TILED,
    ML_WHY_COMPOSED,
    ML_WHY_FORCED_VARIANT_ARG,
    ML_WHY_FORCED_VARIANT_PREF,
    ML_WHY_TRIVIAL,    /* nothing to compute: empty, K = 0 or alpha = 0 */
    ML_WHY_ROW_KEPT,   /* norms: a row stays in the cache, so memory is read once */
    ML_WHY_ROW_BLOCKS, /* norms: rows too long for that: read twice, in blocks */
    ML_WHY_PREPACKED,  /* an operand is read in the panels that were made for it */
    ML_WHY_GATHERED,   /* rows whose elements do not follow each other are gathered while computing */
    ML_WHY_COUNT
} ml_why;

#define ML_PLAN_MAX_WHY 10

typedef struct ml_blocking {
    int64_t mc, nc, kc; /* cpu GEMM cache blocks, multiples of mr, nr */
} ml_blocking;

typedef struct ml_geometry {
    int32_t grid[3], threadgroup[3];
    int32_t threadgroup_memory;
} ml_geometry;

/* The operand of a matmul that a kernel reads in panels made beforehand (core/prepacked.h). */
typedef enum ml_panels_of { ML_PANELS_OF_NONE = 0, ML_PANELS_OF_A, ML_PANELS_OF_B } ml_panels_of;

typedef struct ml_plan {
    ml_op_kind op;
    int family; /* the backend or variant that runs: ml_matmul_backend, ml_softmax_variant, ml_sdpa_variant */
    ml_matmul_variant_kind variant; /* matmul: the shape class */
    ml_smalln_bucket bucket;
    ml_gemm_tile tile;
    ml_panels_of panels; /* matmul on the tiled GEMM of the cpu */
    bool transposed;     /* matmul: the device computes C^T = B^T A^T (m and n swapped, roles of a and b too) */
    bool composed;       /* lowered by the runtime into planned operations */
    bool simd_reduction; /* softmax: reduces with simdgroup primitives, else through threadgroup memory */
    const ml_kernel_desc *kernel; /* NULL when composed */
    ml_blocking block;
    ml_geometry geometry;
    int64_t scratch_bytes; /* needed while it runs */
    int64_t bytes_read, bytes_written, flops;
    double predicted_us;
    uint8_t why[ML_PLAN_MAX_WHY]; /* ml_why */
    int n_why;
} ml_plan;

#endif
