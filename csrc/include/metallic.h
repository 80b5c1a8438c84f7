/* metallic: picks and runs the fastest correct kernel for LLM-inference shapes.
 *
 * The public C API. Conventions:
 *  - A fallible function returns ml_status; results go through out-pointers, which are untouched on failure.
 *    ml_last_error() holds the message (offending argument, shapes, dtypes, strides) of the calling thread's last
 * failure.
 *  - Handles are reference counted; a function that returns one through an out-pointer gives the caller one reference.
 *  - Strides count elements and may be zero or negative. Offsets and sizes are 64-bit.
 *  - Argument structs: zero means default. Where zero is a meaningful value (alpha, beta, scale) use the
 * ML_..._DEFAULTS initialiser.
 *  - Nothing aborts, prints (unless METALLIC_LOG_LEVEL asks for it) or asserts on user input.
 */
#ifndef METALLIC_H
#define METALLIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(ML_STATIC)
#define ML_API
#elif defined(_WIN32)
#define ML_API __declspec(dllexport)
#else
#define ML_API __attribute__((visibility("default")))
#endif

#define ML_MAX_DIMS 8

typedef enum ml_status {
    ML_OK = 0,
    ML_ERR_SHAPE,       /* shapes, axes or strides do not fit; forbidden aliasing */
    ML_ERR_DTYPE,       /* dtype not accepted, or a value out of a dtype's range */
    ML_ERR_VALUE,       /* any other bad argument, writing to read-only memory */
    ML_ERR_DEVICE,      /* device or library absent, command failed */
    ML_ERR_MEMORY,      /* out of memory */
    ML_ERR_UNSUPPORTED, /* a forced variant cannot do this case and the context is strict */
    ML_ERR_COMPILE,     /* MSL source rejected */
    ML_ERR_CHECK,       /* the checker found a defect in a kernel */
    ML_ERR_NOT_CACHED,  /* a cached_only resource cache missed */
    ML_STATUS_COUNT
} ml_status;

typedef enum ml_dtype { ML_F32 = 0, ML_F16, ML_BF16, ML_I32, ML_U8, ML_BOOL, ML_DTYPE_COUNT } ml_dtype;

typedef struct ml_buffer ml_buffer;
typedef struct ml_tensor ml_tensor;
typedef struct ml_context ml_context;
typedef struct ml_resource_cache ml_resource_cache;
typedef struct ml_profile ml_profile;

/* Message of the calling thread's last failure; "" when there was none. Valid until the thread's next failure. */
ML_API const char *ml_last_error(void);
ML_API const char *ml_status_name(ml_status status);
ML_API const char *ml_version(void);

ML_API const char *ml_dtype_name(ml_dtype dtype); /* "float32", "float16", "bfloat16", "int32", "uint8", "bool" */
ML_API size_t ml_dtype_size(ml_dtype dtype);      /* bytes */

/* ---- contexts and preferences ------------------------------------------------------------------------------ */

/* One preference by its keyword: the METALLIC_ variable's name in lower case without the prefix ("matmul_backend"). */
typedef struct ml_pref {
    const char *key;
    const char *value;
} ml_pref;

typedef struct ml_context_options {
    const char *device;   /* NULL: METALLIC_DEVICE, else the best device present */
    bool strict;          /* a forced variant that cannot do a case is an error instead of a fallback */
    const ml_pref *prefs; /* override the environment */
    int n_prefs;
} ml_context_options;

/* options may be NULL. Errors: ML_ERR_DEVICE (unknown or absent device), ML_ERR_VALUE (unknown preference key). */
ML_API ml_status ml_context_create(const ml_context_options *options, ml_context **out);
/* The process-wide default context of a device (NULL: the default device), made on first use. Returns a new reference.
 */
ML_API ml_status ml_context_default(const char *device, ml_context **out);
ML_API void ml_context_retain(ml_context *ctx);
ML_API void ml_context_release(ml_context *ctx);
ML_API const char *ml_context_device(const ml_context *ctx);
/* Waits until everything recorded by the calling thread is complete. */
ML_API ml_status ml_context_synchronize(ml_context *ctx);
/* Operations between begin and end share one command buffer. Per (context, thread); nests. */
ML_API ml_status ml_batch_begin(ml_context *ctx);
ML_API ml_status ml_batch_end(ml_context *ctx);

/* Overrides preferences for the calling thread until the matching pop. Errors: ML_ERR_VALUE (unknown key). */
ML_API ml_status ml_prefs_push(const ml_pref *prefs, int n);
ML_API void ml_prefs_pop(void);

typedef struct ml_memory_stats {
    int64_t bytes_in_use;   /* handed out and not yet released */
    int64_t bytes_reserved; /* held from the system, in use or pooled */
    int64_t peak_in_use;    /* on GPU devices that of tensors plus that of scratch memory */
    int64_t allocations;    /* requests served */
    int64_t pool_hits;      /* requests served without asking the system */
    int64_t blocks;         /* blocks held from the system */
} ml_memory_stats;
ML_API void ml_context_memory_stats(const ml_context *ctx, ml_memory_stats *out);
/* Returns pooled memory that no tensor uses to the system. */
ML_API void ml_context_trim(ml_context *ctx);

typedef struct ml_cache_stats {
    int64_t entries, hits, misses, evictions;
} ml_cache_stats;
/* A cache of prepared resources (plans, pipelines) that may be shared by contexts. cached_only: a miss is
 * ML_ERR_NOT_CACHED. Each context owns one; ml_matmul_args.cache and its siblings pass another. */
ML_API ml_status ml_resource_cache_create(bool cached_only, ml_resource_cache **out);
ML_API void ml_resource_cache_retain(ml_resource_cache *cache);
ML_API void ml_resource_cache_release(ml_resource_cache *cache);
ML_API void ml_resource_cache_set_cached_only(ml_resource_cache *cache, bool cached_only);
ML_API void ml_resource_cache_stats(const ml_resource_cache *cache, ml_cache_stats *out);
ML_API void ml_context_cache_stats(const ml_context *ctx, ml_cache_stats *out);

/* Threads of the CPU pool, the caller included. n < 1 restores the default (METALLIC_NUM_THREADS, else the CPUs that
 * affinity and cgroup limits leave). */
ML_API void ml_set_num_threads(int n);
ML_API int ml_get_num_threads(void);

/* ---- tensors ----------------------------------------------------------------------------------------------- */

typedef struct ml_shape {
    int ndim;
    int64_t dims[ML_MAX_DIMS];
} ml_shape;

/* A new C-contiguous tensor; its contents are undefined. Memory is page-aligned. */
ML_API ml_status ml_tensor_empty(ml_context *ctx, ml_dtype dtype, const ml_shape *shape, ml_tensor **out);

/* Called once, when the last tensor that uses the memory is gone; from any thread. */
typedef void (*ml_release_fn)(void *user);

typedef struct ml_host_memory {
    void *data;
    size_t size; /* bytes reachable from data */
    bool read_only;
    ml_release_fn release; /* may be NULL */
    void *user;
} ml_host_memory;

typedef struct ml_layout {
    ml_dtype dtype;
    ml_shape shape;
    const int64_t *strides; /* elements; NULL: C-contiguous */
    int64_t byte_offset;    /* of element [0, ..., 0] from the start of the memory */
} ml_layout;

/* Wraps caller-owned memory without a copy. Errors: ML_ERR_SHAPE when an element lies outside it, ML_ERR_VALUE when
 * data is not aligned to the dtype. */
ML_API ml_status ml_tensor_from_host(ml_context *ctx, const ml_host_memory *memory, const ml_layout *layout,
                                     ml_tensor **out);
/* A tensor over (part of) an existing buffer; shares it. */
ML_API ml_status ml_tensor_from_existing_buffer(ml_buffer *buffer, const ml_layout *layout, ml_tensor **out);
ML_API ml_buffer *ml_tensor_buffer(const ml_tensor *t); /* borrowed */

ML_API void ml_tensor_retain(ml_tensor *t);
ML_API void ml_tensor_release(ml_tensor *t);
ML_API ml_dtype ml_tensor_dtype(const ml_tensor *t);
ML_API int ml_tensor_ndim(const ml_tensor *t);
ML_API const int64_t *ml_tensor_shape(const ml_tensor *t);
ML_API const int64_t *ml_tensor_strides(const ml_tensor *t); /* elements */
ML_API int64_t ml_tensor_size(const ml_tensor *t);           /* elements */
ML_API bool ml_tensor_is_contiguous(const ml_tensor *t);
/* Host address of element [0, ..., 0]; waits for pending writes; NULL with ML_ERR_DEVICE when not host-visible. */
ML_API ml_status ml_tensor_data(const ml_tensor *t, void **out);

/* Views: share the buffer, never copy. */
ML_API ml_status ml_tensor_transpose(const ml_tensor *t, const int *axes, ml_tensor **out); /* axes NULL: reversed */
ML_API ml_status ml_tensor_broadcast_to(const ml_tensor *t, const ml_shape *shape, ml_tensor **out);
/* One dimension may be -1. Errors: ML_ERR_SHAPE when sizes differ or no view exists (ml_reshape copies then). */
ML_API ml_status ml_tensor_reshape(const ml_tensor *t, const ml_shape *shape, ml_tensor **out);
/* Elements start, start+step, ... (count of them) of one axis. step may be negative. */
ML_API ml_status ml_tensor_slice(const ml_tensor *t, int axis, int64_t start, int64_t step, int64_t count,
                                 ml_tensor **out);
ML_API ml_status ml_tensor_squeeze(const ml_tensor *t, int axis, ml_tensor **out);
ML_API ml_status ml_tensor_expand_dims(const ml_tensor *t, int axis, ml_tensor **out);

/* ---- operations --------------------------------------------------------------------------------------------
 * Every operation takes *out: NULL asks for a new tensor; otherwise the result goes into the given one (any strides;
 * SEMANTICS "out and aliasing") and *out is left as it is. */

typedef enum ml_matmul_backend {
    ML_BACKEND_AUTO = 0,
    ML_BACKEND_MLX,
    ML_BACKEND_MPS,
    ML_BACKEND_GEMV
} ml_matmul_backend;
typedef enum ml_variant_force { ML_FORCE_AUTO = 0, ML_FORCE_SMALLN, ML_FORCE_GEMM } ml_variant_force;
typedef enum ml_activation {
    ML_ACT_NONE = 0,
    ML_ACT_GELU, /* erf form */
    ML_ACT_GELU_TANH,
    ML_ACT_SILU,
    ML_ACT_RELU
} ml_activation;

/* out[..., M, N] = activation(alpha * op(a) @ op(b) + beta * c + bias), shapes as numpy.matmul, batch dims broadcast.
 * beta == 0 never reads c; alpha == 0 never reads a and b. c broadcasts to the result; NULL with beta != 0 means *out.
 * bias: [N], or [M, 1] (a bias per row). f32 accumulation, one rounding at the end.
 * Errors: ML_ERR_SHAPE, ML_ERR_DTYPE (integers; out of another dtype), ML_ERR_UNSUPPORTED (strict). */
typedef struct ml_matmul_args {
    const ml_tensor *a, *b;
    const ml_tensor *c;    /* optional */
    const ml_tensor *bias; /* optional */
    bool transpose_a, transpose_b;
    float alpha, beta;
    ml_activation activation;
    ml_matmul_backend backend; /* AUTO: preferences decide */
    ml_variant_force variant;
    ml_resource_cache *cache; /* NULL: the context's */
} ml_matmul_args;
#define ML_MATMUL_DEFAULTS {.alpha = 1.0f}
ML_API ml_status ml_matmul(ml_context *ctx, const ml_matmul_args *args, ml_tensor **out);

/* Rows of a [sum(rows), K] in groups: group g of row_counts[g] rows times b[g] (b: [G, K, N]) -> [sum(rows), N]. */
typedef struct ml_matmul_ragged_args {
    const ml_tensor *a, *b;
    const int64_t *row_counts;
    int64_t groups;
} ml_matmul_ragged_args;
ML_API ml_status ml_matmul_ragged(ml_context *ctx, const ml_matmul_ragged_args *args, ml_tensor **out);

/* A weight for many products: a new read-only tensor with weight's values ([..., rows, cols]; with transpose those of
 * its transposes, [..., cols, rows]), a copy, so weight may change or go. As a factor of ml_matmul, whole or as views
 * of whole matrices, on either side, transposed or not, the tiled GEMM of the cpu reads it in panels in its own layout;
 * each kernel's are made by the first product that wants them, and live as long as the tensor's memory. Results are
 * those of the same product with weight, bit for bit, where the same kernel runs. All else reads the copy: any view or
 * operation works, and writing to it is ML_ERR_VALUE. On other devices it is no more than that copy.
 * Memory: the copy, and for each kind of panels 4 bytes an element (2 where the kernel multiplies pairs of bf16).
 * A weight that is prepacked already is shared, not copied. Errors: ML_ERR_SHAPE (under two dims), ML_ERR_DTYPE
 * (integers), ML_ERR_MEMORY. */
ML_API ml_status ml_prepack(ml_context *ctx, const ml_tensor *weight, bool transpose, ml_tensor **out);

typedef enum ml_binary_kind {
    ML_ADD = 0,
    ML_SUB,
    ML_MUL,
    ML_DIV,
    ML_EQUAL, /* result is bool */
    ML_NOT_EQUAL
} ml_binary_kind;
/* Element-wise with broadcasting. Either operand may be a number: pass NULL and its value (weak: takes the other's
 * dtype). Integers divide as f32. */
typedef struct ml_binary_args {
    ml_binary_kind kind;
    const ml_tensor *a, *b;
    double a_value, b_value; /* used where a or b is NULL */
} ml_binary_args;
ML_API ml_status ml_binary(ml_context *ctx, const ml_binary_args *args, ml_tensor **out);
ML_API ml_status ml_add_elem(ml_context *ctx, const ml_tensor *a, const ml_tensor *b, ml_tensor **out);
ML_API ml_status ml_mul_scalar(ml_context *ctx, const ml_tensor *a, double value, ml_tensor **out);

typedef enum ml_softmax_variant { ML_SOFTMAX_AUTO = 0, ML_SOFTMAX_VEC, ML_SOFTMAX_BLOCK } ml_softmax_variant;
typedef enum ml_sdpa_variant { ML_SDPA_AUTO = 0, ML_SDPA_COMPOSED, ML_SDPA_VECTOR, ML_SDPA_TILED } ml_sdpa_variant;
#define ML_QUERY_OFFSET_END INT64_MIN /* the last query sees the last key: offset = keys - queries */

/* Softmax of scale * x + mask over axis; log: its logarithm. causal (axis must be the last): row i of [..., Q, S] sees
 * columns <= i + query_offset. mask: bool (true = visible) or of a float dtype (added), broadcast to x. Rows with
 * nothing to see are zeros. Errors: ML_ERR_SHAPE, ML_ERR_DTYPE. *out may be exactly x. */
typedef struct ml_softmax_args {
    const ml_tensor *x;
    const ml_tensor *mask; /* optional */
    int axis;
    float scale;
    bool causal;
    bool log;
    int64_t query_offset;
    ml_softmax_variant variant; /* AUTO: preferences decide */
    ml_resource_cache *cache;
} ml_softmax_args;
#define ML_SOFTMAX_DEFAULTS {.axis = -1, .scale = 1.0f, .query_offset = ML_QUERY_OFFSET_END}
ML_API ml_status ml_softmax(ml_context *ctx, const ml_softmax_args *args, ml_tensor **out);

/* Attention: query [B, Hq, L, D], key [B, Hkv, S, D], value [B, Hkv, S, Dv] -> [B, Hq, L, Dv]; all may lack B; Hq is a
 * multiple of Hkv. Key j is visible to query i at p = i + query_offset when j <= p (causal or window), j > p - window
 * (window > 0), its boolean mask is true and its additive mask is not -inf. softcap > 0: scores become
 * softcap * tanh(scores / softcap) before the mask. sinks [Hq]: extra logits in the denominator.
 * Without has_scale the scale is 1/sqrt(D). Errors: ML_ERR_SHAPE, ML_ERR_DTYPE, ML_ERR_UNSUPPORTED (strict). */
typedef struct ml_sdpa_args {
    const ml_tensor *query, *key, *value;
    const ml_tensor *mask;  /* optional, broadcast to [B, Hq, L, S] */
    const ml_tensor *sinks; /* optional */
    float scale;
    bool has_scale;
    float softcap;
    bool causal;
    int64_t query_offset;
    int64_t window; /* 0: none */
    ml_sdpa_variant variant;
    ml_resource_cache *cache;
} ml_sdpa_args;
#define ML_SDPA_DEFAULTS {.query_offset = ML_QUERY_OFFSET_END}
ML_API ml_status ml_scaled_dot_product_attention(ml_context *ctx, const ml_sdpa_args *args, ml_tensor **out);

/* Layer norm over the last axis: (x - mean) / sqrt(variance + eps) * weight + bias, with the mean square of the
 * differences as the variance. weight and bias: [n], any float dtype. Statistics are kept in f32 or better, one
 * rounding at the end. *out may be exactly x. Errors: ML_ERR_SHAPE, ML_ERR_DTYPE (integers), ML_ERR_UNSUPPORTED (a
 * device without the kernel). */
typedef struct ml_layer_norm_args {
    const ml_tensor *x;
    const ml_tensor *weight, *bias; /* optional */
    float eps;
    ml_resource_cache *cache;
} ml_layer_norm_args;
#define ML_LAYER_NORM_DEFAULTS {.eps = 1e-5f}
ML_API ml_status ml_layer_norm(ml_context *ctx, const ml_layer_norm_args *args, ml_tensor **out);

/* x / sqrt(mean of x^2 + eps) * weight over the last axis. With a residual (of x's shape and dtype) *sum receives
 * x + residual, rounded, and it is what is normalised; without one, sum may be NULL and is left alone. *out and *sum
 * may each be exactly x or the residual, not both the same. Errors as ml_layer_norm. */
typedef struct ml_rms_norm_args {
    const ml_tensor *x;
    const ml_tensor *weight, *residual; /* optional */
    float eps;
    ml_resource_cache *cache;
} ml_rms_norm_args;
#define ML_RMS_NORM_DEFAULTS {.eps = 1e-6f}
ML_API ml_status ml_rms_norm(ml_context *ctx, const ml_rms_norm_args *args, ml_tensor **out, ml_tensor **sum);

/* x Phi(x), or with tanh_form its approximation by tanh; x / (1 + e^-x); silu(gate) * up, broadcast. In f32, rounded
 * once; *out may be exactly an input. Errors as ml_layer_norm. */
ML_API ml_status ml_gelu(ml_context *ctx, const ml_tensor *x, bool tanh_form, ml_tensor **out);
ML_API ml_status ml_silu(ml_context *ctx, const ml_tensor *x, ml_tensor **out);
ML_API ml_status ml_swiglu(ml_context *ctx, const ml_tensor *gate, const ml_tensor *up, ml_tensor **out);

/* Rotary positions: x [..., L, D]; row l stands at scale * (offset + l), and pair i of its first dims elements (0: all)
 * turns by that times base^(-2 i / dims). Pairs are (2i, 2i + 1) when interleaved, else (i, i + dims / 2); what follows
 * dims is copied. offsets: one for each of n_offsets entries of the first axis (x of at least 3 dims). *out may be
 * exactly x. Errors as ml_layer_norm, ML_ERR_VALUE (base, scale). */
typedef struct ml_rope_args {
    const ml_tensor *x;
    int64_t offset;
    const int64_t *offsets; /* NULL: offset for all */
    int64_t n_offsets;
    double base, scale;
    int64_t dims;
    bool interleaved;
    ml_resource_cache *cache;
} ml_rope_args;
#define ML_ROPE_DEFAULTS {.base = 10000.0, .scale = 1.0}
ML_API ml_status ml_rope(ml_context *ctx, const ml_rope_args *args, ml_tensor **out);

/* dst[...] = value. Errors: ML_ERR_VALUE (read-only), ML_ERR_DTYPE (an integer dtype cannot hold the value). */
ML_API ml_status ml_fill(ml_context *ctx, ml_tensor *dst, double value);
/* dst[...] = src, broadcast and cast (round to nearest even; float to int truncates and is checked: ML_ERR_DTYPE).
 * Exact overlap of src and dst is allowed, any other shared element raises. */
ML_API ml_status ml_copy(ml_context *ctx, const ml_tensor *src, ml_tensor *dst);
/* A new C-contiguous tensor with src's values in dtype. */
ML_API ml_status ml_cast(ml_context *ctx, const ml_tensor *src, ml_dtype dtype, ml_tensor **out);

/* ---- plans and metrics ------------------------------------------------------------------------------------- */

/* Between begin and end, operations of this thread are planned but not run; outputs keep undefined contents. end gives
 * the plan of the last operation as a JSON object (keys as Python's Plan.to_dict()); the caller frees it with ml_free.
 */
ML_API void ml_explain_begin(void);
ML_API ml_status ml_explain_end(char **json);
ML_API void ml_free(void *p);

/* Opens a label; dispatches inside carry the path "a/b/c". Per thread. */
ML_API void ml_scope_push(const char *name);
ML_API void ml_scope_pop(void);

/* Collects one record per dispatch of every thread from begin to end. Records are JSON lines (docs: F1's fields). */
ML_API ml_status ml_profile_begin(ml_profile **out);
ML_API void ml_profile_end(ml_profile *profile);
ML_API int64_t ml_profile_count(const ml_profile *profile);
ML_API ml_status ml_profile_record_json(const ml_profile *profile, int64_t index, char **json); /* ml_free */
ML_API void ml_profile_release(ml_profile *profile);

/* Inventories as JSON arrays; the caller frees them with ml_free. op, device: NULL for all. */
ML_API ml_status ml_devices_json(char **json);
ML_API ml_status ml_kernels_json(const char *op, const char *device, char **json);

/* Path of the OpenBLAS shared library for the "mps" backend of the cpu device; NULL or unset: METALLIC_OPENBLAS. Has an
 * effect until the library is first used. */
ML_API void ml_set_openblas_path(const char *path);

#ifdef __cplusplus
}
#endif
#endif
