/* The kernels of a GPU device, read from the manifest (metal/variants.json or what METALLIC_VARIANTS names). */
#ifndef ML_GPU_REGISTRY_H
#define ML_GPU_REGISTRY_H

#include "device/gpu/driver.h"

/* Which element type stands in the place of {t} in a function's name. */
typedef enum ml_gpu_type { ML_GPU_TYPE_F32 = 0, ML_GPU_TYPE_F16, ML_GPU_TYPE_BF16, ML_GPU_TYPE_ANY } ml_gpu_type;
extern const char *const ml_gpu_type_names[4];

typedef struct ml_gpu_variant {
    const char *name;
    const ml_gpu_source *source;
    const char *function; /* "gemm_simd_{t}_64x64" */
    const char *reduce;   /* second function of a two-pass kernel; NULL: none */
    uint8_t types;        /* bit per ml_gpu_type */
    int bm, bn, bk, bq, rows, head_dim;
    int threadgroup[3];
} ml_gpu_variant;

typedef struct ml_gpu_registry {
    int n;
    ml_kernel_desc *rows; /* .impl points to the ml_gpu_variant; NULL: the vendor's matrix multiplication */
    ml_gpu_variant *variants;
    char *text;   /* what the names point into */
    char *source; /* as it was read */
    struct ml_gpu_registry *next;
} ml_gpu_registry;

/* Reads a manifest. Disabled rows are left out; experimental ones are marked. name is for messages. Errors:
 * ML_ERR_VALUE with name, line and what is wrong; ML_ERR_MEMORY. */
ml_status ml_gpu_registry_read(const char *name, const char *text, const ml_gpu_info *info, ml_gpu_registry **out);
void ml_gpu_registry_free(ml_gpu_registry *g);

/* The embedded sources (metal/ of the repository) and manifest. */
extern const ml_gpu_source ml_gpu_sources[];
extern const int ml_gpu_n_sources;
extern const char ml_gpu_manifest[];

#endif
