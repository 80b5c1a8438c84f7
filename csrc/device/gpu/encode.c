/* What every encoder uses: binding operands, function constants, the pipeline cache. */
#include "device/gpu/gpu.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- arguments --------------------------------------------------------------------------------------------- */

void ml_gpu_set_bool(ml_gpu_encoding *e, int index, bool value) {
    e->constants[e->n_constants++] = (ml_gpu_constant){.index = (uint8_t)index, .is_bool = true, .value = value};
}

void ml_gpu_set_int(ml_gpu_encoding *e, int index, int value) {
    e->constants[e->n_constants++] = (ml_gpu_constant){.index = (uint8_t)index, .value = (int8_t)value};
}

static void touch(ml_gpu_encoding *e, void *handle, size_t low, size_t high, bool write) {
    e->ranges[e->n_ranges++] = (ml_gpu_range){.handle = handle, .low = low, .high = high, .write = write};
}

ml_status ml_gpu_bind(ml_gpu_encoding *e, int index, const ml_view *view, bool write, int64_t *offset) {
    int64_t low, high;
    ML_TRY(ml_view_byte_range(view, &low, &high));
    if (high == low) {
        e->empty |= 1u << index;
        *offset = 0;
        return ML_OK;
    }
    if (!view->buf || !view->buf->handle)
        return ml_fail(ML_ERR_DEVICE, "%s: an operand does not lie in memory of the device",
                       ml_op_name(e->args->op->kind));
    const size_t start = view->buf->handle_offset;
    e->launch.buffers[index].handle = view->buf->handle;
    e->launch.buffers[index].offset = start + (size_t)low;
    *offset = (view->offset - low) / (int64_t)ml_dtype_size_of(view->dtype);
    touch(e, view->buf->handle, start + (size_t)low, start + (size_t)high, write);
    return ML_OK;
}

ml_status ml_gpu_bind_buffer(ml_gpu_encoding *e, int index, const ml_buffer *buffer, size_t bytes, bool write) {
    if (!buffer || !buffer->handle)
        return ml_fail(ML_ERR_DEVICE, "%s: scratch memory is missing", ml_op_name(e->args->op->kind));
    e->launch.buffers[index].handle = buffer->handle;
    e->launch.buffers[index].offset = buffer->handle_offset;
    touch(e, buffer->handle, buffer->handle_offset, buffer->handle_offset + bytes, write);
    return ML_OK;
}

void ml_gpu_params(ml_gpu_encoding *e, int index, const void *params, size_t bytes) {
    e->launch.params_index = index;
    e->launch.params = params;
    e->launch.params_bytes = bytes;
}

ml_status ml_gpu_grid(ml_gpu_encoding *e, int64_t x, int64_t y, int64_t z) {
    const int64_t sizes[3] = {x, y, z};
    for (int i = 0; i < 3; i++) {
        if (sizes[i] < 1 || sizes[i] > INT32_MAX)
            return ml_fail(ML_ERR_UNSUPPORTED, "%s: a grid of %lld x %lld x %lld is beyond what the device counts",
                           ml_op_name(e->args->op->kind), (long long)x, (long long)y, (long long)z);
        e->launch.grid[i] = (uint32_t)sizes[i];
    }
    return ML_OK;
}

void ml_gpu_threads(ml_gpu_encoding *e, int x, int y, int z) {
    e->launch.threadgroup[0] = (uint32_t)x;
    e->launch.threadgroup[1] = (uint32_t)y;
    e->launch.threadgroup[2] = (uint32_t)z;
}

bool ml_gpu_is_vector(const ml_view *v, int unit) {
    const int64_t bytes = 4 * (int64_t)ml_dtype_size_of(v->dtype);
    if (((int64_t)v->buf->handle_offset + v->offset) % bytes != 0)
        return false;
    for (int i = 0; i < v->ndim; i++)
        if (i != unit && v->shape[i] > 1 && v->strides[i] % 4 != 0)
            return false;
    return true;
}

int64_t ml_gpu_clamp_offset(int64_t offset) {
    const int64_t limit = (int64_t)1 << 61;
    return offset > limit ? limit : offset < -limit ? -limit : offset;
}

ml_gpu_type ml_gpu_type_of(ml_dtype dtype) {
    return dtype == ML_F32 ? ML_GPU_TYPE_F32 : dtype == ML_F16 ? ML_GPU_TYPE_F16 : ML_GPU_TYPE_BF16;
}

/* ---- pipelines --------------------------------------------------------------------------------------------- */

typedef struct cached_pipeline {
    ml_cacheable item; /* first */
    const ml_gpu_driver *driver;
    ml_gpu_pipeline pipeline;
} cached_pipeline;

typedef struct recipe {
    ml_gpu_device *device;
    ml_gpu_pipeline_spec spec;
} recipe;

static void destroy_pipeline(ml_cacheable *item) {
    cached_pipeline *p = (cached_pipeline *)item;
    p->driver->pipeline_release(&p->pipeline);
    free(p);
}

static ml_status make_pipeline(const ml_cache_key *key, void *arg, ml_cacheable **out) {
    (void)key;
    const recipe *r = arg;
    cached_pipeline *p = calloc(1, sizeof *p);
    if (!p)
        return ml_fail(ML_ERR_MEMORY, "out of memory for a pipeline");
    const ml_status status = r->device->driver->pipeline(r->device->handle, &r->spec, &p->pipeline);
    if (status != ML_OK) {
        free(p);
        return status;
    }
    p->driver = r->device->driver;
    atomic_init(&p->item.refs, 1);
    p->item.destroy = destroy_pipeline;
    *out = &p->item;
    return ML_OK;
}

void ml_gpu_key_put(ml_cache_key *key, const void *bytes, size_t n) {
    memcpy(key->bytes + key->size, bytes, n);
    key->size = (uint8_t)(key->size + n);
}

/* The function and every constant: their number and order belong to the function, so values are enough. */
static void make_key(const ml_gpu_encoding *e, const char *function, ml_gpu_type type, ml_cache_key *key) {
    const uint8_t head[3] = {ML_GPU_KEY_PIPELINE, (uint8_t)type, (uint8_t)e->n_constants};
    key->size = 0;
    ml_gpu_key_put(key, head, sizeof head);
    ml_gpu_key_put(key, &e->variant, sizeof e->variant); /* as its functions' names: it lives as long as the device */
    ml_gpu_key_put(key, &function, sizeof function);
    for (int i = 0; i < e->n_constants; i++)
        ml_gpu_key_put(key, &e->constants[i].value, 1);
}

static void expand(char *name, size_t size, const char *function, ml_gpu_type type) {
    const char *place = strstr(function, "{t}");
    if (place)
        snprintf(name, size, "%.*s%s%s", (int)(place - function), function, ml_gpu_type_names[type], place + 3);
    else
        snprintf(name, size, "%s", function);
}

static ml_status check_threads(const ml_gpu_encoding *e, const ml_gpu_pipeline *p, const char *name) {
    const uint32_t *t = e->launch.threadgroup;
    const uint64_t threads = (uint64_t)t[0] * t[1] * t[2];
    if (p->max_threads <= 0 || threads <= (uint64_t)p->max_threads)
        return ML_OK;
    return ml_fail(ML_ERR_UNSUPPORTED, "%s: %llu threads in a threadgroup, the device runs at most %d of them", name,
                   (unsigned long long)threads, p->max_threads);
}

void ml_gpu_follow_scope(ml_gpu_commands *c, const char *label) {
    if (strcmp(c->group, label) == 0 || strlen(label) >= sizeof c->group)
        return;
    if (*c->group)
        c->device->driver->pop_group(c->native);
    if (*label)
        c->device->driver->push_group(c->native, label);
    strcpy(c->group, label);
}

/* What a kernel declares must be bound, also where nothing is read: by what is bound elsewhere. */
static void fill_empty(ml_gpu_encoding *e) {
    int other = 0;
    while (other < ML_GPU_MAX_BINDINGS - 1 && !e->launch.buffers[other].handle)
        other++;
    for (int i = 0; i < ML_GPU_MAX_BINDINGS; i++)
        if (e->empty >> i & 1u)
            e->launch.buffers[i] = e->launch.buffers[other];
    e->empty = 0;
}

ml_status ml_gpu_run(ml_gpu_encoding *e, const char *function, ml_gpu_type type) {
    ml_cache_key key;
    char name[128];
    if (!function)
        function = e->variant->function;
    make_key(e, function, type, &key);
    expand(name, sizeof name, function, type);
    recipe r = {.device = e->device,
                .spec = {.source = e->variant->source,
                         .bfloat = type == ML_GPU_TYPE_BF16 && strstr(function, "{t}"),
                         .function = name,
                         .constants = e->constants,
                         .n_constants = e->n_constants}};
    ml_cacheable *item;
    bool hit = false;
    ML_TRY(ml_cache_get(e->args->cache, &key, name, make_pipeline, &r, &item, &hit));
    const ml_gpu_pipeline *pipeline = &((cached_pipeline *)item)->pipeline;
    e->args->cache_hit = hit && (e->args->dispatches == 0 || e->args->cache_hit);
    e->launch.pipeline = pipeline;
    fill_empty(e);
    ml_status status = check_threads(e, pipeline, name);
    if (status == ML_OK) {
        ml_gpu_follow_scope(e->commands, e->args->label);
        ml_gpu_order(e->commands, e->ranges, e->n_ranges);
        status = e->device->driver->dispatch(e->commands->native, &e->launch); /* retains what it uses */
    }
    ml_cacheable_release(item);
    if (status == ML_OK) {
        e->commands->dispatches++;
        e->args->dispatches++;
    }
    e->n_constants = e->n_ranges = 0;
    e->launch = (ml_gpu_launch){0};
    return status;
}
