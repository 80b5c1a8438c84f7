/* Queues, command buffers and compute encoders. Commands are noted as they are encoded and run when the command buffer
 * is committed, in their order. */
#include "softmetal/objc_classes.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STATUS_NOT_ENQUEUED = 0, STATUS_COMPLETED = 4, STATUS_ERROR = 5, DISPATCH_CONCURRENT = 1 };
enum { MAX_BYTES = 4096 }; /* of setBytes:length:atIndex: */

typedef enum command_kind { COMMAND_DISPATCH = 0, COMMAND_BARRIER, COMMAND_ENCODER, COMMAND_GEMM } command_kind;

/* Bytes given with setBytes; they live as long as the command buffer. */
typedef struct bytes_block {
    struct bytes_block *next;
    _Alignas(16) unsigned char data[];
} bytes_block;

typedef struct command {
    struct command *next;
    command_kind kind;
    bool concurrent; /* of COMMAND_ENCODER */
    sm_dispatch dispatch;
    sm_gemm gemm;
    sm_id used[SM_MAX_BUFFERS + 1]; /* retained */
    int n_used;
} command;

typedef struct command_buffer_object {
    sm_object object;
    sm_queue_object *queue;
    command *first, **last;
    bytes_block *bytes;
    atomic_ulong status;
    bool open_encoder;
    sm_id error;
    double start, end;
} command_buffer_object;

typedef struct encoder_object {
    sm_object object;
    command_buffer_object *buffer;
    bool ended;
    sm_pipeline_object *pipeline;
    sm_buffer_object *buffers[SM_MAX_BUFFERS];
    sm_binding bindings[SM_MAX_BUFFERS];
} encoder_object;

/* ---- command buffers ---- */

static void free_command(command *c) {
    for (int i = 0; i < c->n_used; i++)
        sm_release(c->used[i]);
    free(c);
}

static void drop_commands(command_buffer_object *b) {
    for (command *c = b->first, *next; c; c = next) {
        next = c->next;
        free_command(c);
    }
    for (bytes_block *block = b->bytes, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    b->first = NULL;
    b->last = &b->first;
    b->bytes = NULL;
}

static void buffer_destroy(sm_id self) {
    command_buffer_object *b = self;
    drop_commands(b);
    sm_release(b->error);
    sm_release(b->queue);
}

/* The first misuse or failure is what the command buffer reports. */
static void fail(command_buffer_object *b, long code, const char *text) {
    if (!b->error)
        b->error = sm_retain(sm_error(code, text));
}

static command *add_command(command_buffer_object *b, command_kind kind) {
    if (atomic_load(&b->status) != STATUS_NOT_ENQUEUED) {
        fail(b, ML_ERR_VALUE, "a command is encoded into a command buffer that was committed");
        return NULL;
    }
    command *c = calloc(1, sizeof *c);
    if (!c) {
        fail(b, ML_ERR_MEMORY, "out of memory for a command");
        return NULL;
    }
    c->kind = kind;
    *b->last = c;
    b->last = &c->next;
    return c;
}

static void use(command *c, sm_id object) {
    c->used[c->n_used++] = sm_retain(object);
}

void sm_command_buffer_add_gemm(sm_id command_buffer, const sm_gemm *gemm) {
    command_buffer_object *b = command_buffer;
    if (b->open_encoder)
        fail(b, ML_ERR_VALUE, "a kernel of MetalPerformanceShaders is encoded while an encoder is open");
    command *c = add_command(b, COMMAND_GEMM);
    if (!c)
        return;
    c->gemm = *gemm;
    use(c, gemm->a.buffer);
    use(c, gemm->b.buffer);
    use(c, gemm->out.buffer);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Findings of the checker become the command buffer's error. */
static void report(command_buffer_object *b, sm_findings *findings) {
    if (sm_findings_count(findings, SM_ERROR) == 0)
        return;
    char *text = sm_findings_text(findings);
    fail(b, ML_ERR_CHECK, text ? text : "the checker found defects");
    free(text);
}

static void run(command_buffer_object *b) {
    sm_findings findings = {0};
    sm_hazards *hazards = NULL;
    const sm_device_object *device = b->queue->device;
    for (command *c = b->first; c && !b->error; c = c->next) {
        switch (c->kind) {
        case COMMAND_ENCODER: /* what lies in different encoders is ordered */
            if (c->concurrent && device->checked && !hazards)
                hazards = sm_hazards_create();
            if (hazards)
                sm_hazards_barrier(hazards, NULL, 0);
            break;
        case COMMAND_BARRIER:
            if (hazards)
                sm_hazards_barrier(hazards, NULL, 0);
            break;
        case COMMAND_GEMM:
            sm_gemm_run(&c->gemm);
            break;
        case COMMAND_DISPATCH:
            c->dispatch.hazards = hazards;
            c->dispatch.order = device->order;
            if (sm_dispatch_run(&c->dispatch, device->checked ? &findings : NULL) != ML_OK)
                fail(b, ML_ERR_DEVICE, ml_last_error());
            break;
        }
    }
    report(b, &findings);
    sm_findings_clear(&findings);
    sm_hazards_free(hazards);
}

static void buffer_commit(sm_id self, sm_sel selector) {
    (void)selector;
    command_buffer_object *b = self;
    if (atomic_load(&b->status) != STATUS_NOT_ENQUEUED) {
        fail(b, ML_ERR_VALUE, "a command buffer is committed twice");
        return;
    }
    if (b->open_encoder)
        fail(b, ML_ERR_VALUE, "a command buffer is committed while an encoder is open");
    b->start = now();
    run(b);
    b->end = now();
    drop_commands(b);
    atomic_store(&b->status, b->error ? STATUS_ERROR : STATUS_COMPLETED);
}

/* Commit has already run everything. */
static void buffer_wait(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
}

static sm_uint buffer_status(sm_id self, sm_sel selector) {
    (void)selector;
    return atomic_load(&((command_buffer_object *)self)->status);
}

static sm_id buffer_error(sm_id self, sm_sel selector) {
    (void)selector;
    return ((command_buffer_object *)self)->error;
}

static double buffer_start(sm_id self, sm_sel selector) {
    (void)selector;
    return ((command_buffer_object *)self)->start;
}

static double buffer_end(sm_id self, sm_sel selector) {
    (void)selector;
    return ((command_buffer_object *)self)->end;
}

static void ignore_label(sm_id self, sm_sel selector, sm_id label) {
    (void)self;
    (void)selector;
    (void)label;
}

/* ---- encoders ---- */

static void encoder_destroy(sm_id self) {
    encoder_object *e = self;
    if (!e->ended)
        fail(e->buffer, ML_ERR_VALUE, "an encoder went without endEncoding");
    for (int i = 0; i < SM_MAX_BUFFERS; i++)
        sm_release(e->buffers[i]);
    sm_release(e->pipeline);
    sm_release(e->buffer);
}

static bool may_encode(encoder_object *e) {
    if (e->ended)
        fail(e->buffer, ML_ERR_VALUE, "an encoder is used after endEncoding");
    return !e->ended;
}

static void encoder_set_pipeline(sm_id self, sm_sel selector, sm_id pipeline) {
    (void)selector;
    encoder_object *e = self;
    if (!may_encode(e))
        return;
    sm_retain(pipeline);
    sm_release(e->pipeline);
    e->pipeline = pipeline;
}

static void encoder_set_buffer(sm_id self, sm_sel selector, sm_id buffer, sm_uint offset, sm_uint index) {
    (void)selector;
    encoder_object *e = self;
    if (!may_encode(e))
        return;
    sm_buffer_object *b = buffer;
    if (index >= SM_MAX_BUFFERS || (b && offset > b->length)) {
        fail(e->buffer, ML_ERR_VALUE, "setBuffer: the index or the offset is out of range");
        return;
    }
    sm_retain(b);
    sm_release(e->buffers[index]);
    e->buffers[index] = b;
    e->bindings[index] = b ? (sm_binding){.address = b->bytes, .length = b->length, .offset = offset} : (sm_binding){0};
}

static void encoder_set_bytes(sm_id self, sm_sel selector, const void *bytes, sm_uint length, sm_uint index) {
    (void)selector;
    encoder_object *e = self;
    if (!may_encode(e))
        return;
    bytes_block *block =
        index < SM_MAX_BUFFERS && length > 0 && length <= MAX_BYTES ? malloc(sizeof *block + length) : NULL;
    if (!block) {
        fail(e->buffer, ML_ERR_VALUE, "setBytes: the index or the length is out of range");
        return;
    }
    memcpy(block->data, bytes, length);
    block->next = e->buffer->bytes;
    e->buffer->bytes = block;
    sm_release(e->buffers[index]);
    e->buffers[index] = NULL;
    e->bindings[index] = (sm_binding){.address = block->data, .length = length, .read_only = true};
}

static void set_sizes(uint32_t out[3], sm_size size) {
    out[0] = (uint32_t)size.width;
    out[1] = (uint32_t)size.height;
    out[2] = (uint32_t)size.depth;
}

static void dispatch(encoder_object *e, sm_size grid, sm_size threads, bool in_threads) {
    if (!may_encode(e))
        return;
    if (!e->pipeline) {
        fail(e->buffer, ML_ERR_VALUE, "a dispatch without a pipeline");
        return;
    }
    if (threads.width * threads.height * threads.depth > e->pipeline->max_threads) {
        fail(e->buffer, ML_ERR_VALUE, "a threadgroup has more threads than the pipeline allows");
        return;
    }
    command *c = add_command(e->buffer, COMMAND_DISPATCH);
    if (!c)
        return;
    c->dispatch.kernel = e->pipeline->kernel;
    c->dispatch.constants = e->pipeline->constants;
    c->dispatch.grid_in_threads = in_threads;
    set_sizes(c->dispatch.grid, grid);
    set_sizes(c->dispatch.threads_per_threadgroup, threads);
    memcpy(c->dispatch.buffers, e->bindings, sizeof e->bindings);
    use(c, e->pipeline);
    for (int i = 0; i < SM_MAX_BUFFERS; i++)
        if (e->buffers[i])
            use(c, e->buffers[i]);
}

static void encoder_dispatch_groups(sm_id self, sm_sel selector, sm_size grid, sm_size threads) {
    (void)selector;
    dispatch(self, grid, threads, false);
}

static void encoder_dispatch_threads(sm_id self, sm_sel selector, sm_size grid, sm_size threads) {
    (void)selector;
    dispatch(self, grid, threads, true);
}

static void encoder_barrier(sm_id self, sm_sel selector, sm_uint scope) {
    (void)selector;
    (void)scope;
    encoder_object *e = self;
    if (may_encode(e))
        add_command(e->buffer, COMMAND_BARRIER);
}

static void encoder_end(sm_id self, sm_sel selector) {
    (void)selector;
    encoder_object *e = self;
    if (!may_encode(e))
        return;
    e->ended = true;
    e->buffer->open_encoder = false;
}

static void ignore(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
}

static const sm_method encoder_methods[] = {
    SM_METHOD("setComputePipelineState:", encoder_set_pipeline),
    SM_METHOD("setBuffer:offset:atIndex:", encoder_set_buffer),
    SM_METHOD("setBytes:length:atIndex:", encoder_set_bytes),
    SM_METHOD("dispatchThreadgroups:threadsPerThreadgroup:", encoder_dispatch_groups),
    SM_METHOD("dispatchThreads:threadsPerThreadgroup:", encoder_dispatch_threads),
    SM_METHOD("memoryBarrierWithScope:", encoder_barrier),
    SM_METHOD("pushDebugGroup:", ignore_label),
    SM_METHOD("popDebugGroup", ignore),
    SM_METHOD("setLabel:", ignore_label),
    SM_METHOD("endEncoding", encoder_end),
    SM_METHODS_END};
static const sm_class encoder_class = {.name = "MTLComputeCommandEncoder",
                                       .size = sizeof(encoder_object),
                                       .methods = encoder_methods,
                                       .destroy = encoder_destroy};

static sm_id buffer_compute_encoder(sm_id self, sm_sel selector, sm_uint type) {
    (void)selector;
    command_buffer_object *b = self;
    if (b->open_encoder)
        fail(b, ML_ERR_VALUE, "an encoder is made while another one is open");
    command *c = add_command(b, COMMAND_ENCODER);
    encoder_object *e = c ? sm_object_new(&encoder_class) : NULL;
    if (!e)
        return NULL;
    c->concurrent = type == DISPATCH_CONCURRENT;
    e->buffer = sm_retain(b);
    b->open_encoder = true;
    return sm_autorelease(e);
}

static const sm_method buffer_methods[] = {SM_METHOD("computeCommandEncoderWithDispatchType:", buffer_compute_encoder),
                                           SM_METHOD("commit", buffer_commit),
                                           SM_METHOD("waitUntilCompleted", buffer_wait),
                                           SM_METHOD("status", buffer_status),
                                           SM_METHOD("error", buffer_error),
                                           SM_METHOD("GPUStartTime", buffer_start),
                                           SM_METHOD("GPUEndTime", buffer_end),
                                           SM_METHOD("setLabel:", ignore_label),
                                           SM_METHOD("pushDebugGroup:", ignore_label),
                                           SM_METHOD("popDebugGroup", ignore),
                                           SM_METHODS_END};
static const sm_class buffer_class = {.name = "MTLCommandBuffer",
                                      .size = sizeof(command_buffer_object),
                                      .methods = buffer_methods,
                                      .destroy = buffer_destroy};

/* ---- queues ---- */

static void queue_destroy(sm_id self) {
    sm_release(((sm_queue_object *)self)->device);
}

static sm_id queue_command_buffer(sm_id self, sm_sel selector) {
    (void)selector;
    command_buffer_object *b = sm_object_new(&buffer_class);
    if (!b)
        return NULL;
    b->queue = sm_retain(self);
    b->last = &b->first;
    return sm_autorelease(b);
}

static const sm_method queue_methods[] = {SM_METHOD("commandBuffer", queue_command_buffer), SM_METHODS_END};
const sm_class sm_queue_class = {
    .name = "MTLCommandQueue", .size = sizeof(sm_queue_object), .methods = queue_methods, .destroy = queue_destroy};

const sm_class *const sm_command_classes[] = {&sm_queue_class, &buffer_class, &encoder_class, NULL};
