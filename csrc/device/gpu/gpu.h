/* The device-neutral part of the GPU devices: an ml_device over an ml_gpu_driver. */
#ifndef ML_GPU_H
#define ML_GPU_H

#include "common/params.h"
#include "device/device.h"
#include "device/gpu/driver.h"
#include "device/gpu/registry.h"

#include <pthread.h>

typedef struct ml_gpu_device {
    ml_device base; /* first */
    const ml_gpu_driver *driver;
    void *handle;
    ml_gpu_info info;
    const ml_gpu_registry *registry; /* of the built-in manifest */
    pthread_mutex_t lock;            /* of others */
    ml_gpu_registry *others;         /* of other manifests, kept: plans and cached pipelines know rows by address */
} ml_gpu_device;

/* Opens the driver and reads the built-in manifest into *device. Errors: those of the driver. */
ml_status ml_gpu_device_open(ml_gpu_device *device, const ml_gpu_driver *driver);

/* ---- command buffers --------------------------------------------------------------------------------------- */

/* Bytes of a driver's buffer. */
typedef struct ml_gpu_range {
    void *handle;
    size_t low, high;
    bool write;
} ml_gpu_range;

#define ML_GPU_FEW_RANGES 32 /* without an allocation; at least what one dispatch binds */

typedef struct ml_gpu_ranges {
    ml_gpu_range *items; /* by handle and address; they neither meet nor touch */
    int n, capacity;
    ml_gpu_range few[ML_GPU_FEW_RANGES];
} ml_gpu_ranges;

typedef struct ml_gpu_commands {
    ml_gpu_device *device;
    void *native;
    char group[512]; /* the open debug group */
    int dispatches, barriers;
    ml_gpu_ranges reads, writes; /* of the dispatches since the last barrier */
} ml_gpu_commands;

void ml_gpu_ranges_init(ml_gpu_ranges *set);
void ml_gpu_ranges_release(ml_gpu_ranges *set);
/* Puts a barrier before the next dispatch if it conflicts with an earlier one, and notes what it touches. */
void ml_gpu_order(ml_gpu_commands *commands, const ml_gpu_range *ranges, int n);
/* Everything that comes now is ordered behind all that came so far. */
void ml_gpu_forget(ml_gpu_commands *commands);
/* Makes label the open debug group. */
void ml_gpu_follow_scope(ml_gpu_commands *commands, const char *label);

/* ---- encoding ---------------------------------------------------------------------------------------------- */

/* One operation on its way into the command buffer. */
typedef struct ml_gpu_encoding {
    ml_gpu_device *device;
    ml_gpu_commands *commands;
    ml_encode_args *args;
    const ml_gpu_variant *variant;
    /* the launch under construction */
    ml_gpu_launch launch;
    ml_gpu_constant constants[24];
    int n_constants;
    ml_gpu_range ranges[ML_GPU_MAX_BINDINGS];
    int n_ranges;
    uint32_t empty; /* bit per binding of an operand without elements */
} ml_gpu_encoding;

void ml_gpu_set_bool(ml_gpu_encoding *e, int index, bool value);
void ml_gpu_set_int(ml_gpu_encoding *e, int index, int value);
/* Binds the view at its lowest element; *offset: elements from there to element [0, ..., 0]. One without elements may
 * have no memory on the device. */
ml_status ml_gpu_bind(ml_gpu_encoding *e, int index, const ml_view *view, bool write, int64_t *offset);
ml_status ml_gpu_bind_buffer(ml_gpu_encoding *e, int index, const ml_buffer *buffer, size_t bytes, bool write);
void ml_gpu_params(ml_gpu_encoding *e, int index, const void *params, size_t bytes);
/* x, y and z are threadgroups (threads with in_threads). Errors: ML_ERR_UNSUPPORTED beyond what a grid can count. */
ml_status ml_gpu_grid(ml_gpu_encoding *e, int64_t x, int64_t y, int64_t z);
void ml_gpu_threads(ml_gpu_encoding *e, int x, int y, int z);
/* Takes the pipeline of (function, constants) from the cache and dispatches; the encoding is then ready for another
 * launch. type: which of the variant's functions ("f16"; NULL: the name has no place for one). function NULL: the
 * variant's. */
ml_status ml_gpu_run(ml_gpu_encoding *e, const char *function, ml_gpu_type type);

/* Query offsets beyond +-2^61 see all or nothing all the same. */
int64_t ml_gpu_clamp_offset(int64_t offset);
/* Keys of what a device prepares begin with one of these; those of operations are smaller (dispatch/key.c). */
enum { ML_GPU_KEY_PIPELINE = 0x80, ML_GPU_KEY_GEMM = 0x81 };
void ml_gpu_key_put(ml_cache_key *key, const void *bytes, size_t n);

/* Whether groups of four elements along dim `unit` (the unit-stride dim) of v begin at multiples of four elements. */
bool ml_gpu_is_vector(const ml_view *v, int unit);
ml_gpu_type ml_gpu_type_of(ml_dtype dtype);

ml_status ml_gpu_encode_matmul(ml_gpu_encoding *e);
ml_status ml_gpu_encode_vendor(ml_gpu_encoding *e);
ml_status ml_gpu_encode_softmax(ml_gpu_encoding *e);
ml_status ml_gpu_encode_sdpa(ml_gpu_encoding *e);
ml_status ml_gpu_encode_binary(ml_gpu_encoding *e);
ml_status ml_gpu_encode_copy(ml_gpu_encoding *e);
ml_status ml_gpu_encode_fill(ml_gpu_encoding *e);

#endif
