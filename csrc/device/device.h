/* What every device must offer: memory, and running a planned operation. */
#ifndef ML_DEVICE_H
#define ML_DEVICE_H

#include "core/cache.h"
#include "core/op.h"

typedef struct ml_device ml_device;

/* What the runtime hands over with a planned operation. */
typedef struct ml_encode_args {
    const ml_op *op;
    const ml_plan *plan;
    void *scratch;             /* plan->scratch_bytes of host memory (cpu), 64-byte aligned; undefined contents */
    ml_buffer *scratch_buffer; /* gpu */
    ml_resource_cache *cache;  /* prepared things of the device */
    const char *label;         /* scope path, never NULL */
    bool cache_hit;            /* out: every prepared resource was found (gpu) */
    bool range_checked;        /* out: scratch_buffer begins with a uint32 that is not 0 once a value did not fit */
    const void *panels;        /* with plan->panels: all matrices of that operand's buffer, packed (cpu) */
    int64_t copied_bytes;      /* out: of operands that the device had to copy */
    int dispatches;            /* out: kernels launched (gpu) */
    int64_t command_buffer;    /* out: number of the command buffer; 0 on cpu */
    int barriers;              /* out: barriers between dispatches of the command buffer that they needed (gpu) */
} ml_encode_args;

/* The matrices of a prepacked buffer, to be packed for plan->kernel as the right factor of a product. */
typedef struct ml_pack_args {
    const ml_kernel_desc *kernel;
    const void *matrices; /* count row-major matrices of rows x cols, one after another */
    ml_dtype dtype;
    int64_t count, rows, cols;
    bool transposed; /* pack their transposes */
    void *panels;    /* out: count times ml_gemm_panels_bytes, 64-byte aligned */
} ml_pack_args;

typedef struct ml_device_vtbl {
    /* Caps under an ISA mask and thread count; kernels and tuning point to constant rows. */
    void (*caps)(ml_device *dev, uint32_t isa_mask, ml_caps *out);
    /* size > 0, page-aligned. device_only: the host never looks at it, and host may be NULL. */
    ml_status (*alloc)(ml_device *dev, size_t size, bool device_only, ml_buffer **out);
    /* The text of plan->kernel for people: "cpu/gemm_avx512_f32_14x32", "OpenBLAS 0.3.34". */
    void (*impl_name)(ml_device *dev, const ml_plan *plan, char *buf, size_t size);
    /* Runs (cpu) or encodes into the command buffer (gpu). */
    ml_status (*encode)(ml_device *dev, void *command_buffer, ml_encode_args *args);
    /* Makes ml_encode_args.panels; NULL where no kernel reads any (gpu). */
    void (*pack)(ml_device *dev, const ml_pack_args *args);

    /* The rest but info_json is NULL on cpu, where encode has already done the work. */

    /* Caps with the kernels of another manifest (METALLIC_VARIANTS). Errors: ML_ERR_VALUE. */
    ml_status (*manifest)(ml_device *dev, const char *path, ml_caps *out);
    /* The device's handle for host memory, used in place; NULL where it cannot be: address and size are no multiples of
     * the device's page. */
    ml_status (*wrap)(ml_device *dev, void *host, size_t size, void **handle);
    void (*unwrap)(ml_device *dev, void *handle);
    /* Life of a command buffer: encoded by one thread, committed once; then done and wait may be called from any.
     * wait reports what failed; release drops what was not committed. */
    ml_status (*begin)(ml_device *dev, void **command_buffer);
    ml_status (*commit)(ml_device *dev, void *command_buffer);
    bool (*done)(ml_device *dev, void *command_buffer);
    ml_status (*wait)(ml_device *dev, void *command_buffer, double *gpu_us);
    void (*release)(ml_device *dev, void *command_buffer);
    /* One JSON object: name, kind, available, reason, isa or features, limits. */
    ml_status (*info_json)(ml_device *dev, char **json);
} ml_device_vtbl;

struct ml_device {
    const ml_device_vtbl *vtbl;
    ml_device_kind kind;
    const char *name; /* "cpu", "metal", "cuda" */
};

/* The process-wide CPU device. */
ml_device *ml_cpu_device(void);

#endif
