/* Compute encoders. */
#include "softmetal/objc_classes.h"

#include <stdlib.h>
#include <string.h>

enum { DISPATCH_SERIAL = 0, DISPATCH_CONCURRENT = 1 }; /* MTLDispatchType */
enum { SCOPE_BUFFERS = 1, SCOPES = 7 };                /* MTLBarrierScope */
enum { MAX_BYTES = 4096, MEMORY_UNIT = 16, CONSTANT_ALIGN = 4 };

typedef struct compute_encoder {
    sm_encoder base;
    bool concurrent;
    sm_pipeline *pipeline;              /* kept, as the buffers are */
    sm_buffer *buffers[SM_MAX_BUFFERS]; /* NULL with a binding: bytes */
    sm_binding bindings[SM_MAX_BUFFERS];
    uint32_t memory[SM_MAX_THREADGROUP_BUFFERS];
} compute_encoder;

static void compute_destroy(sm_id self) {
    compute_encoder *e = self;
    for (int i = 0; i < SM_MAX_BUFFERS; i++)
        sm_drop(e->buffers[i]);
    sm_drop(e->pipeline);
    sm_encoder_destroy(self);
}

const sm_class sm_compute_encoder_class = {.name = "MTLComputeCommandEncoder",
                                           .super = &sm_encoder_class,
                                           .size = sizeof(compute_encoder),
                                           .is_protocol = true,
                                           .destroy = compute_destroy};

static sm_id open_compute(const sm_call *call, sm_uint type) {
    if (type > DISPATCH_CONCURRENT) {
        sm_violation(call, "%lu is no MTLDispatchType", type);
        return NULL;
    }
    compute_encoder *e = sm_open_encoder(call, &sm_compute_encoder_class, type == DISPATCH_CONCURRENT);
    if (e)
        e->concurrent = type == DISPATCH_CONCURRENT;
    return e;
}

sm_id sm_command_buffer_compute(sm_id self, sm_sel selector) {
    return open_compute(SM_CALL, DISPATCH_SERIAL);
}

sm_id sm_command_buffer_compute_type(sm_id self, sm_sel selector, sm_uint type) {
    return open_compute(SM_CALL, type);
}

sm_uint sm_compute_dispatch_type(sm_id self, sm_sel selector) {
    (void)selector;
    return ((compute_encoder *)self)->concurrent ? DISPATCH_CONCURRENT : DISPATCH_SERIAL;
}

/* ---- arguments ------------------------------------------------------------------------------------------------ */

void sm_compute_set_pipeline(sm_id self, sm_sel selector, sm_id pipeline) {
    compute_encoder *e = self;
    sm_command_buffer *b = sm_encode(SM_CALL);
    if (!b)
        return;
    sm_pipeline *p = sm_expect(SM_CALL, pipeline, &sm_pipeline_class, "the pipeline");
    if (p) {
        sm_keep(p);
        sm_drop(e->pipeline);
        e->pipeline = p;
    }
    sm_encode_end(b);
}

static bool check_index(const sm_call *call, sm_uint index) {
    if (index < SM_MAX_BUFFERS)
        return true;
    sm_violation(call, "index %lu; an encoder has buffers 0 to %d", index, SM_MAX_BUFFERS - 1);
    return false;
}

static bool check_offset(const sm_call *call, const sm_buffer *buffer, sm_uint offset, sm_uint index) {
    if (offset < buffer->length)
        return true;
    sm_violation(call, "offset %lu lies beyond the %zu bytes of the buffer for index %lu", offset, buffer->length,
                 index);
    return false;
}

static void bind(compute_encoder *e, const sm_call *call, sm_id buffer, const sm_ns_range *place /* offset, index */) {
    const sm_uint offset = place->location, index = place->length;
    sm_buffer *b = sm_expect_or_nil(call, buffer, &sm_buffer_class, "the buffer");
    if ((buffer && !b) || !check_index(call, index) || (b && !check_offset(call, b, offset, index)))
        return;
    sm_keep(b);
    sm_drop(e->buffers[index]);
    e->buffers[index] = b;
    e->bindings[index] = (sm_binding){0};
    if (b)
        e->bindings[index] = (sm_binding){.address = b->bytes, .length = b->length, .offset = offset};
}

void sm_compute_set_buffer(sm_id self, sm_sel selector, sm_id buffer, sm_uint offset, sm_uint index) {
    sm_command_buffer *b = sm_encode(SM_CALL);
    if (!b)
        return;
    bind(self, SM_CALL, buffer, &(const sm_ns_range){offset, index});
    sm_encode_end(b);
}

void sm_compute_set_buffers(sm_id self, sm_sel selector, const sm_id *buffers, const sm_uint *offsets,
                            sm_ns_range range) {
    sm_command_buffer *b = sm_encode(SM_CALL);
    if (!b)
        return;
    if (!buffers || !offsets)
        sm_violation(SM_CALL, "the array of %s is NULL", buffers ? "offsets" : "buffers");
    else if (range.length > SM_MAX_BUFFERS ||
             !check_index(SM_CALL, range.location + (range.length ? range.length - 1 : 0)))
        range.length = 0;
    for (sm_uint i = 0; buffers && offsets && i < range.length; i++)
        bind(self, SM_CALL, buffers[i], &(const sm_ns_range){offsets[i], range.location + i});
    sm_encode_end(b);
}

void sm_compute_set_offset(sm_id self, sm_sel selector, sm_uint offset, sm_uint index) {
    compute_encoder *e = self;
    sm_command_buffer *b = sm_encode(SM_CALL);
    if (!b)
        return;
    if (check_index(SM_CALL, index)) {
        if (!e->buffers[index])
            sm_violation(SM_CALL, "no buffer is set at index %lu", index);
        else if (check_offset(SM_CALL, e->buffers[index], offset, index))
            e->bindings[index].offset = offset;
    }
    sm_encode_end(b);
}

void sm_compute_set_bytes(sm_id self, sm_sel selector, const void *bytes, sm_uint length, sm_uint index) {
    compute_encoder *e = self;
    sm_command_buffer *b = sm_encode(SM_CALL);
    if (!b)
        return;
    sm_bytes *block = NULL;
    if (!bytes)
        sm_violation(SM_CALL, "the pointer to the bytes is NULL");
    else if (length == 0 || length > MAX_BYTES)
        sm_violation(SM_CALL, "%lu bytes; it takes 1 to %d, more go into a buffer", length, MAX_BYTES);
    else if (check_index(SM_CALL, index) && !(block = malloc(sizeof *block + length)))
        sm_command_buffer_fail(b, ML_ERR_MEMORY, "out of memory for bytes");
    if (block) {
        memcpy(block->data, bytes, length);
        block->next = b->bytes;
        b->bytes = block;
        sm_drop(e->buffers[index]);
        e->buffers[index] = NULL;
        e->bindings[index] = (sm_binding){.address = block->data, .length = length, .read_only = true};
    }
    sm_encode_end(b);
}

void sm_compute_set_threadgroup_memory(sm_id self, sm_sel selector, sm_uint length, sm_uint index) {
    sm_command_buffer *b = sm_encode(SM_CALL);
    if (!b)
        return;
    if (index >= SM_MAX_THREADGROUP_BUFFERS)
        sm_violation(SM_CALL, "index %lu; an encoder has threadgroup memory 0 to %d", index,
                     SM_MAX_THREADGROUP_BUFFERS - 1);
    else if (length % MEMORY_UNIT != 0)
        sm_violation(SM_CALL, "%lu bytes of threadgroup memory: the length must be a multiple of %d", length,
                     MEMORY_UNIT);
    else if (length > SM_MAX_THREADGROUP_MEMORY)
        sm_violation(SM_CALL, "%lu bytes of threadgroup memory; the device has %u", length, SM_MAX_THREADGROUP_MEMORY);
    else
        ((compute_encoder *)self)->memory[index] = (uint32_t)length;
    sm_encode_end(b);
}

/* ---- dispatches ----------------------------------------------------------------------------------------------- */

static bool check_size(const sm_call *call, sm_size s, const char *what) {
    if (s.width == 0 || s.height == 0 || s.depth == 0)
        sm_violation(call, "%s of %lu x %lu x %lu: no dimension may be zero", what, s.width, s.height, s.depth);
    else if (s.width > UINT32_MAX || s.height > UINT32_MAX || s.depth > UINT32_MAX)
        sm_violation(call, "%s of %lu x %lu x %lu is too large", what, s.width, s.height, s.depth);
    else
        return true;
    return false;
}

static bool check_threads(const sm_call *call, const compute_encoder *e, sm_size t) {
    const sm_uint limit = e->pipeline->max_threads;
    if (!check_size(call, t, "a threadgroup"))
        return false;
    if (t.width <= limit && t.height <= limit && t.depth <= limit && t.width * t.height * t.depth <= limit)
        return true;
    sm_violation(call, "%lu x %lu x %lu threads in a threadgroup; maxTotalThreadsPerThreadgroup of the pipeline is %lu",
                 t.width, t.height, t.depth, limit);
    return false;
}

/* What a kernel declares as [[threadgroup(i)]] must have been given a size, and all of it must fit. */
static bool check_memory(const sm_call *call, const compute_encoder *e, const sm_function_info *info) {
    uint64_t bytes = e->pipeline->static_memory;
    for (int i = 0; i < info->n_arguments; i++) {
        const sm_argument_info *a = &info->arguments[i];
        if (a->kind != SM_ARGUMENT_THREADGROUP || a->condition || a->index < 0 ||
            a->index >= SM_MAX_THREADGROUP_BUFFERS)
            continue;
        bytes += e->memory[a->index];
        if (e->memory[a->index] > 0)
            continue;
        sm_violation(call,
                     "the threadgroup memory of '%s' (index %d) has no length: setThreadgroupMemoryLength:atIndex:",
                     a->name, a->index);
        return false;
    }
    if (bytes <= SM_MAX_THREADGROUP_MEMORY)
        return true;
    sm_violation(call, "%llu bytes of threadgroup memory; the device has %u", (unsigned long long)bytes,
                 SM_MAX_THREADGROUP_MEMORY);
    return false;
}

/* Offsets into constant memory are multiples of 4 on Apple's GPUs. */
static bool check_constant_offsets(const sm_call *call, const compute_encoder *e, const sm_function_info *info) {
    for (int i = 0; i < info->n_arguments; i++) {
        const sm_argument_info *a = &info->arguments[i];
        if (a->kind != SM_ARGUMENT_BUFFER || !a->is_constant || a->index < 0 || a->index >= SM_MAX_BUFFERS ||
            e->bindings[a->index].offset % CONSTANT_ALIGN == 0)
            continue;
        sm_violation(call, "offset %llu of '%s' (index %d), which is constant memory, is not a multiple of %d",
                     (unsigned long long)e->bindings[a->index].offset, a->name, a->index, CONSTANT_ALIGN);
        return false;
    }
    return true;
}

static sm_command *add_dispatch(const sm_call *where, sm_command_buffer *b, sm_size threads) {
    const compute_encoder *e = where->self;
    if (!e->pipeline) {
        sm_violation(where, "no pipeline is set");
        return NULL;
    }
    const sm_function_info *info = sm_pipeline_info(e->pipeline);
    const sm_call named = {.self = where->self, .selector = where->selector, .kernel = info->name}, *call = &named;
    if (!check_threads(call, e, threads) || !check_memory(call, e, info) || !check_constant_offsets(call, e, info))
        return NULL;
    int n = 2; /* the pipeline, and a buffer with the grid */
    for (int i = 0; i < SM_MAX_BUFFERS; i++)
        n += e->buffers[i] != NULL;
    sm_command *c = sm_command_new(b, SM_COMMAND_DISPATCH, n);
    if (!c)
        return NULL;
    c->pipeline = e->pipeline;
    sm_command_use(c, e->pipeline);
    for (int i = 0; i < SM_MAX_BUFFERS; i++)
        if (e->buffers[i])
            sm_command_use(c, e->buffers[i]);
    memcpy(c->dispatch.buffers, e->bindings, sizeof e->bindings);
    memcpy(c->dispatch.threadgroup_memory, e->memory, sizeof e->memory);
    const uint32_t t[3] = {(uint32_t)threads.width, (uint32_t)threads.height, (uint32_t)threads.depth};
    memcpy(c->dispatch.threads_per_threadgroup, t, sizeof t);
    return c;
}

static void dispatch(const sm_call *call, sm_size grid, sm_size threads, bool in_threads) {
    sm_command_buffer *b = sm_encode(call);
    if (!b)
        return;
    sm_command *c = check_size(call, grid, "a grid") ? add_dispatch(call, b, threads) : NULL;
    if (c) {
        const uint32_t g[3] = {(uint32_t)grid.width, (uint32_t)grid.height, (uint32_t)grid.depth};
        memcpy(c->dispatch.grid, g, sizeof g);
        c->dispatch.grid_in_threads = in_threads;
    }
    sm_encode_end(b);
}

void sm_compute_dispatch_groups(sm_id self, sm_sel selector, sm_size grid, sm_size threads) {
    dispatch(SM_CALL, grid, threads, false);
}

void sm_compute_dispatch_threads(sm_id self, sm_sel selector, sm_size grid, sm_size threads) {
    dispatch(SM_CALL, grid, threads, true);
}

void sm_compute_dispatch_indirect(sm_id self, sm_sel selector, sm_id buffer, sm_uint offset, sm_size threads) {
    const size_t bytes = 3 * sizeof(uint32_t);
    sm_command_buffer *b = sm_encode(SM_CALL);
    if (!b)
        return;
    sm_buffer *indirect = sm_expect(SM_CALL, buffer, &sm_buffer_class, "the indirect buffer");
    sm_command *c = NULL;
    if (indirect && (indirect->length < bytes || offset > indirect->length - bytes))
        sm_violation(SM_CALL, "%zu bytes at offset %lu lie beyond the %zu bytes of the indirect buffer", bytes, offset,
                     indirect->length);
    else if (indirect && offset % 4 != 0)
        sm_violation(SM_CALL, "offset %lu of the indirect buffer is not a multiple of 4", offset);
    else if (indirect)
        c = add_dispatch(SM_CALL, b, threads);
    if (c) {
        c->indirect = indirect;
        c->indirect_offset = offset;
        sm_command_use(c, indirect);
    }
    sm_encode_end(b);
}

/* ---- barriers ------------------------------------------------------------------------------------------------- */

void sm_compute_barrier_scope(sm_id self, sm_sel selector, sm_uint scope) {
    sm_command_buffer *b = sm_encode(SM_CALL);
    if (!b)
        return;
    if (scope == 0 || scope > SCOPES)
        sm_violation(SM_CALL, "0x%lx is no MTLBarrierScope", scope);
    else if (scope & SCOPE_BUFFERS)
        (void)sm_command_new(b, SM_COMMAND_BARRIER, 0);
    sm_encode_end(b);
}

void sm_compute_barrier_resources(sm_id self, sm_sel selector, const sm_id *resources, sm_uint count) {
    sm_command_buffer *b = sm_encode(SM_CALL);
    if (!b)
        return;
    sm_range *ranges = NULL;
    if (!resources || count == 0 || count > 1u << 16)
        sm_violation(SM_CALL, "%lu resources at %p", count, (const void *)resources);
    else if (!(ranges = calloc(count, sizeof *ranges)))
        sm_command_buffer_fail(b, ML_ERR_MEMORY, "out of memory for a barrier");
    for (sm_uint i = 0; ranges && i < count; i++) {
        const sm_buffer *buffer = sm_expect(SM_CALL, resources[i], &sm_buffer_class, "a resource");
        if (!buffer) {
            free(ranges);
            ranges = NULL;
        } else {
            ranges[i] = (sm_range){buffer->bytes, buffer->length};
        }
    }
    sm_command *c = ranges ? sm_command_new(b, SM_COMMAND_BARRIER, 0) : NULL;
    if (c) {
        c->ranges = ranges;
        c->n_ranges = (int)count;
    } else {
        free(ranges);
    }
    sm_encode_end(b);
}
