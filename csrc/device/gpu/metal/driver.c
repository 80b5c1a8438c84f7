/* The Metal driver: devices, memory, command buffers. */
#include "device/gpu/metal/metal.h"

#include "softmetal/objc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STORAGE_SHARED = 0,       /* MTLResourceStorageModeShared */
    STORAGE_PRIVATE = 2 << 4, /* MTLResourceStorageModePrivate */
    DISPATCH_CONCURRENT = 1,  /* MTLDispatchTypeConcurrent */
    BARRIER_BUFFERS = 1,      /* MTLBarrierScopeBuffers */
    STATUS_COMPLETED = 4,     /* MTLCommandBufferStatus */
    STATUS_ERROR = 5,
    ERROR_OUT_OF_MEMORY = 8,   /* MTLCommandBufferError */
    FAMILY_APPLE_FIRST = 1001, /* MTLGPUFamilyApple1 */
    FAMILY_APPLE_LAST = 1010,
    FAMILY_MAC2 = 2002,
    FAMILY_METAL3 = 5001
};

#define HOST_PAGE ((size_t)16 << 10) /* of Apple silicon, the largest there is */

/* ---- the device -------------------------------------------------------------------------------------------- */

/* Simdgroup matrices come with Apple7 (M1), simdgroup reductions too, and with Mac2 and Metal 3. bfloat takes MSL 3.1,
 * which the system's compiler has from macOS 14 on, as devices have an architecture. */
static void find_features(ml_id device, ml_gpu_info *info) {
    int apple = 0;
    for (int family = FAMILY_APPLE_LAST; family >= FAMILY_APPLE_FIRST && !apple; family--)
        if (SEND(ml_bool, device, supports_family, family))
            apple = family - FAMILY_APPLE_FIRST + 1;
    info->sm = (uint32_t)apple;
    if (ml_objc_api.emulated)
        strcpy(info->family, "software"); /* what was measured on a chip says nothing about it */
    else if (apple)
        snprintf(info->family, sizeof info->family, "apple%d", apple);
    else
        snprintf(info->family, sizeof info->family, "mac2");
    if (apple >= 7)
        info->features = ML_GPU_SIMDGROUP_REDUCE | ML_GPU_SIMDGROUP_MM;
    else if (SEND(ml_bool, device, supports_family, FAMILY_MAC2) ||
             SEND(ml_bool, device, supports_family, FAMILY_METAL3))
        info->features = ML_GPU_SIMDGROUP_REDUCE;
    if (apple >= 7 && ml_objc_responds(device, ML_MSG_architecture))
        info->features |= ML_GPU_BFLOAT;
}

static void describe(ml_id device, ml_gpu_info *info) {
    *info = (ml_gpu_info){.page = HOST_PAGE, .emulated = ml_objc_api.emulated};
    const char *name = SEND(pointer, SEND(ml_id, device, device_name), utf8);
    snprintf(info->name, sizeof info->name, "%s", name ? name : "");
    find_features(device, info);
    const ml_mtl_size threads = SEND(ml_mtl_size, device, max_threads);
    info->max_threads = (int)threads.width;
    info->threadgroup_memory = (int64_t)SEND(ml_uint, device, max_threadgroup_memory);
    info->working_set = (int64_t)SEND(uint64_t, device, working_set);
    info->max_buffer = (int64_t)SEND(ml_uint, device, max_buffer_length);
    info->unified = SEND(ml_bool, device, unified_memory);
    if (ml_objc_class("MPSMatrixMultiplication")) {
        info->gemm_dtypes = ML_DTYPE_BIT(ML_F32) | ML_DTYPE_BIT(ML_F16);
        info->gemm_name = "MPSMatrixMultiplication";
    }
    /* Nominal: a base M-series chip; the software device runs on a few CPU cores. */
    info->read_gbs = info->emulated ? 1.0f : 100.0f;
    info->flops_f32 = info->emulated ? 1.0f : 3000.0f;
    info->dispatch_us = info->emulated ? 20.0f : 5.0f;
}

static ml_status metal_open(void **out, ml_gpu_info *info) {
    ML_TRY(ml_objc_load());
    ml_metal *metal = calloc(1, sizeof *metal);
    if (!metal)
        return ml_fail(ML_ERR_MEMORY, "out of memory for a device");
    void *pool = ml_objc_api.pool_push();
    ml_status status = ML_OK;
    metal->device = ml_objc_api.create_default_device();
    if (metal->device)
        metal->queue = SEND(ml_id, metal->device, new_queue);
    if (!metal->device)
        status = ml_fail(ML_ERR_DEVICE, "metal: this machine has no Metal device");
    else if (!metal->queue)
        status = ml_fail(ML_ERR_DEVICE, "metal: the device gives no command queue");
    else
        describe(metal->device, info);
    if (status != ML_OK)
        ml_objc_release(metal->device);
    ml_objc_api.pool_pop(pool);
    if (status != ML_OK) {
        free(metal);
        return status;
    }
    pthread_mutex_init(&metal->lock, NULL);
    ml_metal_capture(metal);
    *out = metal;
    return ML_OK;
}

/* ---- memory ------------------------------------------------------------------------------------------------ */

static ml_status metal_buffer(void *device, size_t size, ml_gpu_storage storage, void **handle, void **host) {
    const ml_metal *metal = device;
    void *pool = ml_objc_api.pool_push();
    *handle = SEND(ml_id, metal->device, new_buffer, size, storage == ML_GPU_SHARED ? STORAGE_SHARED : STORAGE_PRIVATE);
    *host = *handle && storage == ML_GPU_SHARED ? SEND(pointer, *handle, contents) : NULL;
    ml_objc_api.pool_pop(pool);
    return *handle ? ML_OK : ml_fail(ML_ERR_MEMORY, "metal: out of memory for a buffer of %zu bytes", size);
}

static ml_status metal_wrap(void *device, void *host, size_t size, void **handle) {
    const ml_metal *metal = device;
    void *pool = ml_objc_api.pool_push();
    *handle = SEND(ml_id, metal->device, new_buffer_no_copy, host, size, STORAGE_SHARED, NULL);
    ml_objc_api.pool_pop(pool);
    return *handle ? ML_OK : ml_fail(ML_ERR_MEMORY, "metal: %zu bytes of host memory cannot be wrapped", size);
}

static void metal_release_object(void *handle) {
    ml_objc_release(handle);
}

static void metal_pipeline_release(ml_gpu_pipeline *pipeline) {
    ml_objc_release(pipeline->handle);
}

/* ---- command buffers --------------------------------------------------------------------------------------- */

static ml_status metal_begin(void *device, void **out) {
    ml_metal *metal = device;
    ml_metal_commands *c = calloc(1, sizeof *c);
    if (!c)
        return ml_fail(ML_ERR_MEMORY, "out of memory for a command buffer");
    void *pool = ml_objc_api.pool_push();
    c->metal = metal;
    c->buffer = SEND(ml_id, SEND(ml_id, metal->queue, command_buffer), retain);
    ml_objc_api.pool_pop(pool);
    if (!c->buffer) {
        free(c);
        return ml_fail(ML_ERR_DEVICE, "metal: the queue gives no command buffer");
    }
    *out = c;
    return ML_OK;
}

/* Debug groups are the encoder's own: they open and close with it and cost nothing in between. */
static ml_id open_encoder(ml_metal_commands *c) {
    if (c->encoder)
        return c->encoder;
    c->encoder = SEND(ml_id, SEND(ml_id, c->buffer, compute_encoder, DISPATCH_CONCURRENT), retain);
    if (c->group)
        SEND(void, c->encoder, push_group, c->group);
    return c->encoder;
}

void ml_metal_end_encoder(ml_metal_commands *c) {
    if (!c->encoder)
        return;
    if (c->group)
        SEND(void, c->encoder, pop_group);
    SEND(void, c->encoder, end_encoding);
    ml_objc_release(c->encoder);
    c->encoder = c->pipeline = NULL;
}

static ml_mtl_size size_of(const uint32_t n[3]) {
    return (ml_mtl_size){n[0], n[1], n[2]};
}

static ml_status metal_dispatch(void *commands, const ml_gpu_launch *launch) {
    ml_metal_commands *c = commands;
    void *pool = ml_objc_api.pool_push();
    ml_id encoder = open_encoder(c);
    if (c->pipeline != launch->pipeline->handle)
        SEND(void, encoder, set_pipeline, launch->pipeline->handle);
    c->pipeline = launch->pipeline->handle;
    for (ml_uint i = 0; i < ML_GPU_MAX_BINDINGS; i++)
        if (launch->buffers[i].handle)
            SEND(void, encoder, set_buffer, launch->buffers[i].handle, launch->buffers[i].offset, i);
    if (launch->params)
        SEND(void, encoder, set_bytes, launch->params, launch->params_bytes, (ml_uint)launch->params_index);
    const ml_mtl_size grid = size_of(launch->grid), threadgroup = size_of(launch->threadgroup);
    if (launch->grid_in_threads)
        SEND(void, encoder, dispatch_threads, grid, threadgroup);
    else
        SEND(void, encoder, dispatch_threadgroups, grid, threadgroup);
    ml_objc_api.pool_pop(pool);
    return encoder ? ML_OK : ml_fail(ML_ERR_DEVICE, "metal: the command buffer gives no encoder");
}

/* Between encoders the device orders what shares a resource. */
static void metal_barrier(void *commands) {
    const ml_metal_commands *c = commands;
    if (c->encoder)
        SEND(void, c->encoder, memory_barrier, BARRIER_BUFFERS);
}

/* The first group names the command buffer too. */
static void metal_push_group(void *commands, const char *label) {
    ml_metal_commands *c = commands;
    void *pool = ml_objc_api.pool_push();
    c->group = SEND(ml_id, ml_objc_string(label), retain);
    if (!c->labelled)
        SEND(void, c->buffer, set_label, c->group);
    c->labelled = true;
    if (c->encoder)
        SEND(void, c->encoder, push_group, c->group);
    ml_objc_api.pool_pop(pool);
}

static void metal_pop_group(void *commands) {
    ml_metal_commands *c = commands;
    void *pool = ml_objc_api.pool_push();
    if (c->encoder && c->group)
        SEND(void, c->encoder, pop_group);
    ml_objc_release(c->group);
    c->group = NULL;
    ml_objc_api.pool_pop(pool);
}

static ml_status metal_commit(void *commands) {
    ml_metal_commands *c = commands;
    void *pool = ml_objc_api.pool_push();
    ml_metal_end_encoder(c);
    SEND(void, c->buffer, commit);
    ml_objc_api.pool_pop(pool);
    return ML_OK;
}

static bool metal_done(void *commands) {
    const ml_metal_commands *c = commands;
    return SEND(ml_uint, c->buffer, status) >= STATUS_COMPLETED;
}

static ml_status metal_wait(void *commands, double *gpu_us) {
    const ml_metal_commands *c = commands;
    void *pool = ml_objc_api.pool_push();
    SEND(void, c->buffer, wait_until_completed);
    ml_status status = ML_OK;
    if (SEND(ml_uint, c->buffer, status) == STATUS_ERROR) {
        ml_id error = SEND(ml_id, c->buffer, error);
        const ml_int code = SEND(ml_int, error, code);
        status = ml_objc_fail(code == ERROR_OUT_OF_MEMORY   ? ML_ERR_MEMORY
                              : code == SM_OBJC_ERROR_CHECK ? ML_ERR_CHECK
                                                            : ML_ERR_DEVICE,
                              "a command buffer failed", error);
    }
    *gpu_us = 0; /* a command buffer that failed has no times */
    if (status == ML_OK)
        *gpu_us = 1e6 * (SEND(double, c->buffer, gpu_end_time) - SEND(double, c->buffer, gpu_start_time));
    ml_objc_api.pool_pop(pool);
    return status;
}

static void metal_release(void *commands) {
    ml_metal_commands *c = commands;
    void *pool = ml_objc_api.pool_push();
    ml_metal_end_encoder(c);
    ml_objc_release(c->group);
    ml_objc_release(c->buffer);
    ml_objc_api.pool_pop(pool);
    free(c);
}

const ml_gpu_driver ml_metal_driver = {
    .kind = ML_DEVICE_METAL,
    .name = "metal",
    .open = metal_open,
    .buffer = metal_buffer,
    .wrap = metal_wrap,
    .buffer_release = metal_release_object,
    .pipeline = ml_metal_pipeline,
    .pipeline_release = metal_pipeline_release,
    .begin = metal_begin,
    .dispatch = metal_dispatch,
    .barrier = metal_barrier,
    .push_group = metal_push_group,
    .pop_group = metal_pop_group,
    .commit = metal_commit,
    .done = metal_done,
    .wait = metal_wait,
    .release = metal_release,
    .gemm_prepare = ml_mps_prepare,
    .gemm_release = ml_mps_release,
    .gemm_encode = ml_mps_encode,
};

/* ---- the process-wide device ------------------------------------------------------------------------------- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static ml_gpu_device the_device;
static char why_not[256];
static bool available;

static void open_device(void) {
    available = ml_gpu_device_open(&the_device, &ml_metal_driver) == ML_OK;
    if (!available)
        snprintf(why_not, sizeof why_not, "%.255s", ml_last_error());
}

ml_device *ml_metal_device(const char **reason) {
    pthread_once(&once, open_device);
    if (reason)
        *reason = available ? NULL : why_not;
    return available ? &the_device.base : NULL;
}
