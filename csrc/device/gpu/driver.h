/* What a GPU driver must offer: memory, compiled kernels, command buffers. Metal is one; nothing here is Metal's own.
 *
 * Handles are the driver's objects and opaque to callers. All functions may be called from any thread; one command
 * buffer is encoded by one thread at a time. Errors: ML_ERR_DEVICE (absent, lost, a command failed), ML_ERR_MEMORY,
 * ML_ERR_COMPILE (a kernel's source is rejected), with the platform's own message.
 */
#ifndef ML_GPU_DRIVER_H
#define ML_GPU_DRIVER_H

#include "core/op.h"

/* Features that kernels ask for (ml_kernel_desc.isa on GPU devices). */
enum {
    ML_GPU_SIMDGROUP_REDUCE = 1 << 0,
    ML_GPU_SIMDGROUP_MM = 1 << 1, /* 8x8 matrices */
    ML_GPU_BFLOAT = 1 << 2
};

typedef struct ml_gpu_info {
    char name[96];   /* "Apple M2 Max" */
    char family[32]; /* "apple8" */
    uint32_t sm;     /* family number */
    uint32_t features;
    int max_threads;                                     /* per threadgroup */
    int64_t threadgroup_memory, working_set, max_buffer; /* bytes */
    size_t page;                                         /* of host memory that can be wrapped */
    bool unified;                                        /* host and GPU share memory */
    bool emulated;                                       /* a software device */
    uint32_t gemm_dtypes; /* ML_DTYPE_BITs the vendor's matrix multiplication takes; 0: there is none */
    const char *gemm_name;
    float read_gbs, flops_f32, dispatch_us; /* nominal */
} ml_gpu_info;

typedef enum ml_gpu_storage { ML_GPU_SHARED = 0, ML_GPU_PRIVATE } ml_gpu_storage;

/* Kernel source. Text without #include; bfloat: compiled apart, with ML_BFLOAT defined. */
typedef struct ml_gpu_source {
    const char *name; /* "gemm.metal" */
    const char *text;
} ml_gpu_source;

typedef struct ml_gpu_constant {
    uint8_t index;
    bool is_bool;
    int8_t value;
} ml_gpu_constant;

typedef struct ml_gpu_pipeline_spec {
    const ml_gpu_source *source;
    bool bfloat;
    const char *function;
    const ml_gpu_constant *constants;
    int n_constants;
} ml_gpu_pipeline_spec;

typedef struct ml_gpu_pipeline {
    void *handle;
    int max_threads; /* per threadgroup, of this pipeline */
} ml_gpu_pipeline;

#define ML_GPU_MAX_BINDINGS 8

typedef struct ml_gpu_launch {
    const ml_gpu_pipeline *pipeline;
    struct {
        void *handle; /* NULL: nothing is bound */
        size_t offset;
    } buffers[ML_GPU_MAX_BINDINGS];
    int params_index;
    const void *params; /* copied */
    size_t params_bytes;
    uint32_t grid[3], threadgroup[3];
    bool grid_in_threads; /* else in threadgroups */
} ml_gpu_launch;

/* A matrix of the vendor's multiplication: rows x columns at offset, rows row_bytes apart, items matrix_bytes apart. */
typedef struct ml_gpu_gemm_matrix {
    void *handle;
    size_t offset, row_bytes, matrix_bytes;
    int64_t rows, columns;
    ml_dtype dtype;
} ml_gpu_gemm_matrix;

/* out = alpha * op(a) op(b) + beta * out for every item. What is prepared depends on all but the handles and offsets.
 */
typedef struct ml_gpu_gemm {
    int64_t m, n, k, batch;
    bool transpose_a, transpose_b; /* of the matrices as stored */
    float alpha, beta;
    ml_gpu_gemm_matrix a, b, out;
} ml_gpu_gemm;

typedef struct ml_gpu_driver {
    ml_device_kind kind;
    const char *name;

    /* Opens the best device of the machine. Once per process; *device is never closed. */
    ml_status (*open)(void **device, ml_gpu_info *info);

    /* ---- memory ---- */
    /* *host is NULL for private storage. */
    ml_status (*buffer)(void *device, size_t size, ml_gpu_storage storage, void **handle, void **host);
    /* Host memory without a copy: address and size are multiples of info.page. The memory must outlive the handle. */
    ml_status (*wrap)(void *device, void *host, size_t size, void **handle);
    void (*buffer_release)(void *handle);

    /* ---- kernels ---- */
    ml_status (*pipeline)(void *device, const ml_gpu_pipeline_spec *spec, ml_gpu_pipeline *out);
    void (*pipeline_release)(ml_gpu_pipeline *pipeline);

    /* ---- command buffers ----
     * Dispatches of one command buffer may run at the same time; a barrier orders what comes after it behind all that
     * came before. Vendor kernels, copies and fills are ordered by the driver itself. */
    ml_status (*begin)(void *device, void **commands);
    ml_status (*dispatch)(void *commands, const ml_gpu_launch *launch);
    void (*barrier)(void *commands);
    void (*push_group)(void *commands, const char *label);
    void (*pop_group)(void *commands);
    ml_status (*commit)(void *commands);
    bool (*done)(void *commands); /* committed and complete, or failed */
    /* Waits; reports what failed. *gpu_us: time on the GPU, 0 when unknown. */
    ml_status (*wait)(void *commands, double *gpu_us);
    void (*release)(void *commands); /* what was not committed is dropped */

    /* ---- the vendor's matrix multiplication; NULL where there is none ---- */
    ml_status (*gemm_prepare)(void *device, const ml_gpu_gemm *gemm, void **prepared);
    void (*gemm_release)(void *prepared);
    ml_status (*gemm_encode)(void *commands, void *prepared, const ml_gpu_gemm *gemm);
} ml_gpu_driver;

#endif
