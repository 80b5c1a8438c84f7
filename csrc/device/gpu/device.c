/* A GPU as the runtime sees it: caps, memory, command buffers, description. */
#include "device/gpu/gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICE(dev) ((ml_gpu_device *)(dev))

/* ---- caps -------------------------------------------------------------------------------------------------- */

static void set_caps(const ml_gpu_device *d, const ml_gpu_registry *registry, ml_caps *out) {
    const ml_gpu_info *info = &d->info;
    bool has_mlx = false, has_gemv = false;
    for (int i = 0; i < registry->n; i++) {
        const ml_kernel_desc *row = &registry->rows[i];
        if (row->op != ML_OP_MATMUL || (row->isa & ~info->features) != 0)
            continue;
        has_mlx |= row->family == ML_BACKEND_MLX;
        has_gemv |= row->family == ML_BACKEND_GEMV;
    }
    *out = (ml_caps){
        .device = d->base.kind,
        .isa = info->features,
        .sm = info->sm,
        .simdgroup_mm = (info->features & ML_GPU_SIMDGROUP_MM) != 0,
        .simdgroup_reduce = (info->features & ML_GPU_SIMDGROUP_REDUCE) != 0,
        .bfloat = (info->features & ML_GPU_BFLOAT) != 0,
        .has_mlx = has_mlx,
        .has_gemv = has_gemv,
        .has_mps = info->gemm_dtypes != 0,
        .mps_dtypes = info->gemm_dtypes,
        .max_threads_per_threadgroup = info->max_threads,
        .threadgroup_memory = info->threadgroup_memory,
        .read_gbs = info->read_gbs,
        .flops_f32 = info->flops_f32,
        .dispatch_us = info->dispatch_us,
        .kernels = registry->rows,
        .n_kernels = registry->n,
    };
    memcpy(out->family, info->family, sizeof out->family);
}

static void gpu_caps(ml_device *dev, uint32_t isa_mask, ml_caps *out) {
    (void)isa_mask; /* of CPU features */
    set_caps(DEVICE(dev), DEVICE(dev)->registry, out);
}

/* The whole file; NULL when it cannot be read. */
static char *read_text(const char *path) {
    FILE *f = fopen(path, "re");
    char *text = NULL;
    size_t used = 0, size = 0, n = 1;
    while (f && n > 0) {
        if (used + 4096 > size) {
            size = size ? 2 * size : 64 << 10;
            char *grown = size <= (16 << 20) ? realloc(text, size) : NULL;
            if (!grown)
                break;
            text = grown;
        }
        n = fread(text + used, 1, size - used - 1, f);
        used += n;
    }
    const bool whole = f && n == 0 && !ferror(f);
    if (f)
        fclose(f);
    if (whole) {
        text[used] = '\0';
        return text;
    }
    free(text);
    return NULL;
}

static ml_status gpu_manifest(ml_device *dev, const char *path, ml_caps *out) {
    ml_gpu_device *d = DEVICE(dev);
    char *text = read_text(path);
    if (!text)
        return ml_fail(ML_ERR_VALUE, "METALLIC_VARIANTS: %s cannot be read", path);
    pthread_mutex_lock(&d->lock);
    ml_gpu_registry *registry = d->others;
    while (registry && strcmp(registry->source, text) != 0)
        registry = registry->next;
    ml_status status = ML_OK;
    if (!registry) {
        status = ml_gpu_registry_read(path, text, &d->info, &registry);
        if (status == ML_OK) {
            registry->next = d->others;
            d->others = registry;
        }
    }
    pthread_mutex_unlock(&d->lock);
    free(text);
    if (status == ML_OK)
        set_caps(d, registry, out);
    return status;
}

/* ---- memory ------------------------------------------------------------------------------------------------ */

static void destroy_buffer(ml_buffer *self) {
    DEVICE(self->device)->driver->buffer_release(self->handle);
    free(self);
}

static ml_buffer *new_buffer(ml_device *dev, void *handle, void *host, size_t size) {
    ml_buffer *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    atomic_init(&b->refs, 1);
    b->host = host;
    b->handle = handle;
    b->size = size;
    b->device = dev;
    b->destroy = destroy_buffer;
    return b;
}

static ml_status gpu_alloc(ml_device *dev, size_t size, bool device_only, ml_buffer **out) {
    const ml_gpu_device *d = DEVICE(dev);
    void *handle, *host;
    if (d->info.max_buffer > 0 && size > (size_t)d->info.max_buffer)
        return ml_fail(ML_ERR_MEMORY, "%s: a buffer of %zu bytes is over the device's limit of %lld", dev->name, size,
                       (long long)d->info.max_buffer);
    ML_TRY(d->driver->buffer(d->handle, size, device_only ? ML_GPU_PRIVATE : ML_GPU_SHARED, &handle, &host));
    *out = new_buffer(dev, handle, host, size);
    if (*out)
        return ML_OK;
    d->driver->buffer_release(handle);
    return ml_fail(ML_ERR_MEMORY, "out of memory for a buffer handle");
}

static ml_status gpu_wrap(ml_device *dev, void *host, size_t size, void **handle) {
    const ml_gpu_device *d = DEVICE(dev);
    *handle = NULL;
    if (size == 0 || (uintptr_t)host % d->info.page != 0 || size % d->info.page != 0)
        return ML_OK;
    return d->driver->wrap(d->handle, host, size, handle);
}

static void gpu_unwrap(ml_device *dev, void *handle) {
    DEVICE(dev)->driver->buffer_release(handle);
}

/* ---- command buffers --------------------------------------------------------------------------------------- */

static ml_status gpu_begin(ml_device *dev, void **command_buffer) {
    ml_gpu_commands *c = malloc(sizeof *c);
    if (!c)
        return ml_fail(ML_ERR_MEMORY, "out of memory for a command buffer");
    c->device = DEVICE(dev);
    c->group[0] = '\0';
    c->dispatches = c->barriers = 0;
    ml_gpu_ranges_init(&c->reads);
    ml_gpu_ranges_init(&c->writes);
    const ml_status status = c->device->driver->begin(c->device->handle, &c->native);
    if (status != ML_OK) {
        free(c);
        return status;
    }
    *command_buffer = c;
    return ML_OK;
}

static ml_status gpu_commit(ml_device *dev, void *command_buffer) {
    ml_gpu_commands *c = command_buffer;
    if (*c->group)
        DEVICE(dev)->driver->pop_group(c->native);
    return DEVICE(dev)->driver->commit(c->native);
}

static bool gpu_done(ml_device *dev, void *command_buffer) {
    return DEVICE(dev)->driver->done(((ml_gpu_commands *)command_buffer)->native);
}

static ml_status gpu_wait(ml_device *dev, void *command_buffer, double *gpu_us) {
    return DEVICE(dev)->driver->wait(((ml_gpu_commands *)command_buffer)->native, gpu_us);
}

static void gpu_release(ml_device *dev, void *command_buffer) {
    ml_gpu_commands *c = command_buffer;
    DEVICE(dev)->driver->release(c->native);
    ml_gpu_ranges_release(&c->reads);
    ml_gpu_ranges_release(&c->writes);
    free(c);
}

/* ---- running ----------------------------------------------------------------------------------------------- */

static ml_status encode_operation(ml_gpu_encoding *e) {
    switch (e->args->op->kind) {
    case ML_OP_MATMUL:
        return e->variant ? ml_gpu_encode_matmul(e) : ml_gpu_encode_vendor(e);
    case ML_OP_SOFTMAX:
        return ml_gpu_encode_softmax(e);
    case ML_OP_SDPA:
        return ml_gpu_encode_sdpa(e);
    case ML_OP_BINARY:
        return ml_gpu_encode_binary(e);
    case ML_OP_COPY:
        return ml_gpu_encode_copy(e);
    case ML_OP_FILL:
        return ml_gpu_encode_fill(e);
    default:
        return ml_fail(ML_ERR_UNSUPPORTED, "%s: %s has no kernel on this device", e->device->base.name,
                       ml_op_name(e->args->op->kind));
    }
}

static ml_status gpu_encode(ml_device *dev, void *command_buffer, ml_encode_args *args) {
    ml_gpu_encoding e;
    e.device = DEVICE(dev);
    e.commands = command_buffer;
    e.args = args;
    e.variant = args->plan->kernel->impl;
    e.launch = (ml_gpu_launch){0};
    e.n_constants = e.n_ranges = 0;
    e.empty = 0;
    args->dispatches = 0;
    args->barriers = -e.commands->barriers;
    const ml_status status = encode_operation(&e);
    args->barriers += e.commands->barriers;
    return status;
}

static void gpu_impl_name(ml_device *dev, const ml_plan *plan, char *buf, size_t size) {
    const ml_kernel_desc *kernel = plan->kernel;
    if (kernel && !kernel->impl)
        snprintf(buf, size, "%s", kernel->name); /* the vendor's own name */
    else
        snprintf(buf, size, "%s/%s", dev->name, kernel ? kernel->name : plan->composed ? "composed" : "none");
}

/* ---- description ------------------------------------------------------------------------------------------- */

static ml_status gpu_info_json(ml_device *dev, char **json) {
    const ml_gpu_info *info = &DEVICE(dev)->info;
    char name[sizeof info->name], *p = name;
    for (const char *q = info->name; *q && p < name + sizeof name - 1; q++)
        if ((unsigned char)*q >= 0x20 && *q != '"' && *q != '\\')
            *p++ = *q;
    *p = '\0';
    char *text = malloc(1024);
    if (!text)
        return ml_fail(ML_ERR_MEMORY, "out of memory for the device description");
    snprintf(text, 1024,
             "{\"name\": \"%s\", \"kind\": \"%s\", \"available\": true, \"reason\": null, \"brand\": \"%s\", "
             "\"family\": \"%s\", \"emulated\": %s, \"unified_memory\": %s, \"simdgroup_matrices\": %s, "
             "\"simdgroup_reductions\": %s, \"bfloat\": %s, \"max_threads_per_threadgroup\": %d, "
             "\"threadgroup_memory\": %lld, \"working_set_bytes\": %lld, \"max_buffer_bytes\": %lld, "
             "\"page_bytes\": %zu, \"vendor_blas\": {\"available\": %s, \"name\": \"%s\"}}",
             dev->name, DEVICE(dev)->driver->name, name, info->family, info->emulated ? "true" : "false",
             info->unified ? "true" : "false", info->features & ML_GPU_SIMDGROUP_MM ? "true" : "false",
             info->features & ML_GPU_SIMDGROUP_REDUCE ? "true" : "false",
             info->features & ML_GPU_BFLOAT ? "true" : "false", info->max_threads, (long long)info->threadgroup_memory,
             (long long)info->working_set, (long long)info->max_buffer, info->page,
             info->gemm_dtypes ? "true" : "false", info->gemm_name ? info->gemm_name : "");
    *json = text;
    return ML_OK;
}

static const ml_device_vtbl gpu_vtbl = {
    .caps = gpu_caps,
    .manifest = gpu_manifest,
    .alloc = gpu_alloc,
    .wrap = gpu_wrap,
    .unwrap = gpu_unwrap,
    .impl_name = gpu_impl_name,
    .encode = gpu_encode,
    .begin = gpu_begin,
    .commit = gpu_commit,
    .done = gpu_done,
    .wait = gpu_wait,
    .release = gpu_release,
    .info_json = gpu_info_json,
};

ml_status ml_gpu_device_open(ml_gpu_device *device, const ml_gpu_driver *driver) {
    *device =
        (ml_gpu_device){.base = {.vtbl = &gpu_vtbl, .kind = driver->kind, .name = driver->name}, .driver = driver};
    ML_TRY(driver->open(&device->handle, &device->info));
    ml_gpu_registry *registry;
    ML_TRY(ml_gpu_registry_read("variants.json", ml_gpu_manifest, &device->info, &registry));
    device->registry = registry;
    pthread_mutex_init(&device->lock, NULL);
    return ML_OK;
}
