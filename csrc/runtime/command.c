#include "runtime/command.h"

#include "runtime/context.h"

#include <pthread.h>
#include <stdlib.h>

/* Threads that read a result which another thread's open batch will write wait here. */
static pthread_mutex_t done_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done = PTHREAD_COND_INITIALIZER;

static ml_command *find(const ml_thread *t, const ml_context *ctx) {
    ml_command *c = t->commands;
    while (c && c->ctx != ctx)
        c = c->next;
    return c;
}

/* ---- completion ---- */

/* Commits and awaits what is recorded. On failure the buffers are let go all the same: nothing will write them. */
static ml_status flush(ml_command *c) {
    if (!c->buffer)
        return ML_OK;
    ml_device *dev = c->ctx->device;
    ml_status status = dev->vtbl->commit(dev, c->buffer);
    if (status == ML_OK)
        status = dev->vtbl->wait(dev, c->buffer, &c->device_us);
    c->buffer = NULL;
    pthread_mutex_lock(&done_mutex);
    for (int i = 0; i < c->n_retained; i++) {
        struct ml_command *mine = c;
        atomic_compare_exchange_strong(&c->retained[i]->pending, &mine, NULL);
    }
    pthread_cond_broadcast(&done);
    pthread_mutex_unlock(&done_mutex);
    for (int i = 0; i < c->n_retained; i++)
        ml_buffer_release(c->retained[i]);
    c->n_retained = 0;
    return status;
}

/* ml_buffer.wait of the buffers that a batch writes. */
static ml_status wait_for(ml_buffer *b) {
    ml_thread *t = ml_thread_get();
    struct ml_command *pending = atomic_load(&b->pending);
    for (ml_command *c = t ? t->commands : NULL; c; c = c->next)
        if (c == pending)
            return flush(c);
    pthread_mutex_lock(&done_mutex);
    while (atomic_load(&b->pending))
        pthread_cond_wait(&done, &done_mutex);
    pthread_mutex_unlock(&done_mutex);
    return ML_OK;
}

static ml_status retain(ml_command *c, ml_buffer *b) {
    if (!b)
        return ML_OK;
    if (c->n_retained == c->capacity) {
        int capacity = c->capacity ? 2 * c->capacity : 32;
        ml_buffer **grown = realloc(c->retained, (size_t)capacity * sizeof *grown);
        if (!grown)
            return ml_fail(ML_ERR_MEMORY, "out of memory for a command buffer of %d operands", capacity);
        c->retained = grown;
        c->capacity = capacity;
    }
    ml_buffer_retain(b);
    c->retained[c->n_retained++] = b;
    return ML_OK;
}

static ml_status retain_operands(ml_command *c, const ml_encode_args *args) {
    const ml_op *op = args->op;
    for (int i = 0; i < op->n_in; i++)
        ML_TRY(retain(c, op->in[i].buf));
    for (int i = 0; i < op->n_out; i++)
        ML_TRY(retain(c, op->out[i].buf));
    return retain(c, args->scratch_buffer);
}

/* Operands that another thread's batch has yet to write are awaited first. */
static ml_status await_operands(const ml_command *c, const ml_op *op) {
    for (int i = 0; i < op->n_in + op->n_out; i++) {
        ml_buffer *b = i < op->n_in ? op->in[i].buf : op->out[i - op->n_in].buf;
        struct ml_command *pending = b ? atomic_load(&b->pending) : NULL;
        if (pending && pending != c)
            ML_TRY(ml_buffer_wait(b));
    }
    return ML_OK;
}

static ml_status record_gpu(ml_context *ctx, ml_thread *t, ml_encode_args *args, double *device_us) {
    ml_device *dev = ctx->device;
    ml_command single = {.ctx = ctx};
    ml_command *c = find(t, ctx);
    const bool batched = c != NULL;
    if (!batched)
        c = &single;
    ML_TRY(ml_context_check_process(ctx));
    ML_TRY(await_operands(c, args->op));
    if (!c->buffer)
        ML_TRY(dev->vtbl->begin(dev, &c->buffer));
    ml_status status = retain_operands(c, args);
    if (status == ML_OK)
        status = dev->vtbl->encode(dev, c, args);
    if (batched) {
        for (int i = 0; i < args->op->n_out && status == ML_OK; i++) {
            args->op->out[i].buf->wait = wait_for;
            atomic_store(&args->op->out[i].buf->pending, c);
        }
        return status;
    }
    ml_status flushed = flush(c);
    *device_us = c->device_us;
    free(c->retained);
    return status != ML_OK ? status : flushed;
}

ml_status ml_command_record(ml_context *ctx, ml_thread *t, ml_encode_args *args, double *device_us) {
    ml_device *dev = ctx->device;
    if (__builtin_expect(dev->kind != ML_DEVICE_CPU, 0))
        return record_gpu(ctx, t, args, device_us);
    ml_command now = {.ctx = ctx};
    return dev->vtbl->encode(dev, &now, args);
}

/* ---- batches ---- */

ml_status ml_batch_begin(ml_context *ctx) {
    ml_thread *t = ml_thread_get();
    if (!t)
        return ml_fail(ML_ERR_MEMORY, "out of memory for thread state");
    ML_TRY(ml_context_check_process(ctx));
    ml_command *c = find(t, ctx);
    if (!c) {
        c = calloc(1, sizeof *c);
        if (!c)
            return ml_fail(ML_ERR_MEMORY, "out of memory for a command buffer");
        c->ctx = ctx;
        ml_context_retain(ctx);
        c->next = t->commands;
        t->commands = c;
    }
    c->depth++;
    return ML_OK;
}

static ml_status close_command(ml_thread *t, ml_command *c) {
    ml_status status = flush(c);
    ml_command **link = &t->commands;
    while (*link != c)
        link = &(*link)->next;
    *link = c->next;
    ml_context_release(c->ctx);
    free(c->retained);
    free(c);
    return status;
}

ml_status ml_batch_end(ml_context *ctx) {
    ml_thread *t = ml_thread_get();
    ml_command *c = t ? find(t, ctx) : NULL;
    if (!c)
        return ml_fail(ML_ERR_VALUE, "ml_batch_end without a matching ml_batch_begin on this thread");
    return --c->depth > 0 ? ML_OK : close_command(t, c);
}

ml_status ml_context_synchronize(ml_context *ctx) {
    ml_thread *t = ml_thread_get();
    ml_command *c = t ? find(t, ctx) : NULL;
    return c ? flush(c) : ML_OK;
}

void ml_command_forget_thread(ml_thread *t) {
    while (t->commands)
        close_command(t, t->commands);
}
