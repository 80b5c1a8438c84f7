#include "runtime/command.h"

#include "runtime/fork.h"
#include "runtime/staging.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Guards which command a buffer waits for, the state of commands, and the contexts' lists. Held across fork. */
static ml_fork_mutex mutex = ML_FORK_MUTEX;
static pthread_cond_t committed = PTHREAD_COND_INITIALIZER; /* an open command of another thread was committed */

static void lock(void) {
    ml_fork_mutex_lock(&mutex);
}

static void unlock(void) {
    ml_fork_mutex_unlock(&mutex);
}

/* ---- commands ---------------------------------------------------------------------------------------------- */

static atomic_llong next_id = 1;

static ml_status make_command(ml_context *ctx, ml_command **out) {
    ml_command *c = calloc(1, sizeof *c);
    if (!c)
        return ml_fail(ML_ERR_MEMORY, "out of memory for a command buffer");
    const ml_status status = ctx->device->vtbl->begin(ctx->device, &c->buffer);
    if (status != ML_OK) {
        free(c);
        return status;
    }
    atomic_init(&c->refs, 1);
    pthread_mutex_init(&c->waiting, NULL);
    c->id = atomic_fetch_add(&next_id, 1);
    c->ctx = ctx;
    c->device = ctx->device;
    c->fork_generation = ctx->fork_generation;
    c->open = true;
    *out = c;
    return ML_OK;
}

static void release_command(ml_command *c) {
    if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    c->device->vtbl->release(c->device, c->buffer);
    pthread_mutex_destroy(&c->waiting);
    free(c->retained);
    free(c);
}

/* Under the lock: takes c out of its context's list; the list's reference becomes the caller's. */
static bool unlist(ml_command *c) {
    if (!c->listed)
        return false;
    ml_command **link = &c->ctx->commands;
    while (*link != c)
        link = &(*link)->next;
    *link = c->next;
    c->listed = false;
    c->ctx->n_commands--;
    return true;
}

static bool is_first_mention(const ml_command *c, int i) {
    for (int j = 0; j < i; j++)
        if (c->retained[j] == c->retained[i])
            return false;
    return true;
}

/* Nothing will write the buffers any more, whether c succeeded or not. Where it failed, what it should have written
 * stays pending, and holds a reference, until something else writes it: everybody who reads it hears of the failure. */
static void finish(ml_command *c) {
    lock();
    c->complete = true;
    for (int i = 0; i < c->n_retained; i++) {
        struct ml_command *mine = c;
        if (c->status == ML_OK)
            atomic_compare_exchange_strong(&c->retained[i]->pending, &mine, NULL);
        else if (atomic_load(&c->retained[i]->pending) == c && is_first_mention(c, i))
            atomic_fetch_add(&c->refs, 1);
    }
    const bool was_listed = unlist(c);
    unlock();
    for (int i = 0; i < c->n_retained; i++)
        ml_buffer_release(c->retained[i]);
    c->n_retained = 0;
    if (was_listed)
        release_command(c);
}

/* Waits for a committed command. Everybody who waits for one that failed hears of it. The caller holds a reference. */
static ml_status await_command(ml_command *c) {
    if (c->fork_generation != ml_fork_generation())
        return ml_fail(ML_ERR_DEVICE, "a result of device '%s' was pending when the process forked", c->device->name);
    pthread_mutex_lock(&c->waiting);
    if (!c->complete) {
        if (c->status == ML_OK)
            c->status = c->device->vtbl->wait(c->device, c->buffer, &c->device_us);
        if (c->status != ML_OK)
            snprintf(c->message, sizeof c->message, "%s", ml_last_error());
        finish(c);
    }
    pthread_mutex_unlock(&c->waiting);
    return c->status == ML_OK ? ML_OK : ml_fail(c->status, "%s", c->message);
}

/* Takes the caller's reference over. */
static void commit_command(ml_command *c) {
    ml_context *ctx = c->ctx;
    c->status = c->device->vtbl->commit(c->device, c->buffer);
    if (c->status != ML_OK)
        snprintf(c->message, sizeof c->message, "%s", ml_last_error());
    lock();
    ml_command **link = &ctx->commands;
    while (*link)
        link = &(*link)->next;
    *link = c;
    c->next = NULL;
    c->listed = true;
    ctx->n_commands++;
    c->open = false;
    pthread_cond_broadcast(&committed);
    unlock();
}

/* The context's oldest committed command when it is complete, or when there are too many; a new reference. */
static ml_command *take_oldest(ml_context *ctx, bool any) {
    lock();
    ml_command *c = ctx->commands;
    if (c && !any && ctx->n_commands <= ML_COMMANDS_IN_FLIGHT && !c->device->vtbl->done(c->device, c->buffer))
        c = NULL;
    if (c)
        atomic_fetch_add(&c->refs, 1);
    unlock();
    return c;
}

/* Lets go what is complete, so that its memory can be used again. */
static ml_status reap(ml_context *ctx, bool all) {
    ml_status status = ML_OK;
    for (ml_command *c; (c = take_oldest(ctx, all)) != NULL;) {
        const ml_status one = await_command(c);
        status = status == ML_OK ? one : status;
        release_command(c);
    }
    return status;
}

/* ---- batches ----------------------------------------------------------------------------------------------- */

static ml_batch *find(const ml_thread *t, const ml_context *ctx) {
    ml_batch *b = t->batches;
    while (b && b->ctx != ctx)
        b = b->next;
    return b;
}

static void commit_batch(ml_batch *b) {
    if (!b->command)
        return;
    ml_command *c = b->command;
    b->command = NULL;
    commit_command(c);
}

/* ml_buffer.wait of the buffers that a command writes. */
static ml_status wait_for(ml_buffer *b) {
    const ml_thread *t = ml_thread_get();
    lock();
    ml_command *c = atomic_load(&b->pending);
    const bool last = c && c->complete && atomic_load(&b->refs) == 0; /* the memory goes: nobody will read it */
    if (last)
        atomic_store(&b->pending, NULL);
    else if (c)
        atomic_fetch_add(&c->refs, 1);
    unlock();
    if (!c)
        return ML_OK;
    if (last) {
        release_command(c);
        return ML_OK;
    }
    for (ml_batch *mine = t ? t->batches : NULL; mine; mine = mine->next)
        if (mine->command == c)
            commit_batch(mine);
    ml_status status = ML_OK;
    if (c->fork_generation != ml_fork_generation()) {
        status = ml_fail(ML_ERR_DEVICE, "a result of device '%s' was pending when the process forked", c->device->name);
    } else {
        lock();
        while (c->open) /* another thread's batch */
            pthread_cond_wait(&committed, &mutex.mutex);
        unlock();
        status = await_command(c);
    }
    release_command(c);
    return status;
}

/* ---- recording --------------------------------------------------------------------------------------------- */

static ml_status retain(ml_command *c, ml_buffer *b) {
    if (!b)
        return ML_OK;
    if (c->n_retained == c->capacity) {
        int capacity = c->capacity ? 2 * c->capacity : 8;
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

/* Operands that another thread's batch has yet to write are awaited first; what is committed already runs before. */
static ml_status await_operands(const ml_command *own, const ml_op *op) {
    for (int i = 0; i < op->n_in + op->n_out; i++) {
        ml_buffer *b = i < op->n_in ? op->in[i].buf : op->out[i - op->n_in].buf;
        if (!b || !atomic_load_explicit(&b->pending, memory_order_relaxed))
            continue;
        lock();
        const ml_command *pending = atomic_load(&b->pending);
        const bool other = pending && pending != own && !pending->complete;
        const bool failed = pending && pending->complete && i < op->n_in;
        const bool wait = failed || (other && (pending->open || pending->device != b->device));
        unlock();
        if (wait)
            ML_TRY(ml_buffer_wait(b));
    }
    return ML_OK;
}

static void mark_pending(ml_command *c, const ml_op *op) {
    for (int i = 0; i < op->n_out; i++) {
        lock();
        op->out[i].buf->wait = wait_for;
        ml_command *before = atomic_exchange(&op->out[i].buf->pending, c);
        const bool failed = before && before->complete;
        unlock();
        if (failed)
            release_command(before);
    }
}

static bool any_flag(const ml_op *op, unsigned in_flags, unsigned out_flags) {
    for (int i = 0; i < op->n_in; i++)
        if (op->in[i].buf && (atomic_load_explicit(&op->in[i].buf->flags, memory_order_relaxed) & in_flags))
            return true;
    for (int i = 0; i < op->n_out; i++)
        if (atomic_load_explicit(&op->out[i].buf->flags, memory_order_relaxed) & out_flags)
            return true;
    return false;
}

static ml_status check_range(const ml_encode_args *args) {
    if (!args->range_checked)
        return ML_OK;
    const uint32_t *flag = args->scratch_buffer->host;
    if (!*flag)
        return ML_OK;
    return ml_fail(ML_ERR_DTYPE, "%s: a value is NaN or out of the range of %s", ml_op_name(args->op->kind),
                   ml_dtype_name(args->op->out[0].dtype));
}

/* One operation into c, which is open. */
static ml_status encode(ml_command *c, ml_encode_args *args) {
    ML_TRY(retain_operands(c, args));
    args->command_buffer = c->id;
    return c->device->vtbl->encode(c->device, c->buffer, args);
}

static ml_status record_in_batch(ml_context *ctx, ml_batch *b, ml_encode_args *args) {
    ML_TRY(await_operands(b->command, args->op));
    if (!b->command)
        ML_TRY(make_command(ctx, &b->command));
    ml_command *c = b->command;
    ML_TRY(encode(c, args));
    mark_pending(c, args->op);
    if (!args->range_checked)
        return ML_OK;
    atomic_fetch_add(&c->refs, 1);
    commit_batch(b);
    const ml_status status = await_command(c);
    release_command(c);
    return status == ML_OK ? check_range(args) : status;
}

/* A command buffer of its own. wait: complete on return. */
static ml_status record_alone(ml_context *ctx, ml_encode_args *args, bool wait, double *device_us) {
    ml_command *c;
    ML_TRY(reap(ctx, false));
    ML_TRY(await_operands(NULL, args->op));
    ML_TRY(make_command(ctx, &c));
    ml_status status = encode(c, args);
    if (status != ML_OK) { /* not committed: nothing runs */
        finish(c);
        release_command(c);
        return status;
    }
    mark_pending(c, args->op);
    wait = wait || args->range_checked;
    if (wait)
        atomic_fetch_add(&c->refs, 1);
    commit_command(c);
    if (!wait)
        return ML_OK;
    status = await_command(c);
    if (device_us)
        *device_us = c->device_us;
    release_command(c);
    return status == ML_OK ? check_range(args) : status;
}

static bool uses_foreign_memory(const ml_op *op) {
    return any_flag(op, ML_BUF_BORROWED, ML_BUF_BORROWED | ML_BUF_EXPORTED);
}

/* What a call has recorded so far, now. */
static ml_status complete_batch(ml_batch *b) {
    ml_command *c = b->command;
    atomic_fetch_add(&c->refs, 1);
    commit_batch(b);
    const ml_status status = await_command(c);
    release_command(c);
    return status;
}

static ml_status record_staged(ml_context *ctx, ml_thread *t, ml_encode_args *args, double *device_us) {
    ml_batch *b = find(t, ctx);
    const bool later = b && !b->is_call;
    ml_staging *s = malloc(sizeof *s);
    if (!s)
        return ml_fail(ML_ERR_MEMORY, "out of memory to copy operands");
    const ml_op *op = args->op;
    ml_status status = ml_staging_begin(s, ctx, op, later);
    args->op = &s->op;
    t->copied_bytes += s->copied_bytes;
    if (status == ML_OK)
        status = b ? record_in_batch(ctx, b, args) : record_alone(ctx, args, true, device_us);
    if (status == ML_OK && b && b->is_call && ml_staging_writes_back(s))
        status = complete_batch(b);
    if (status == ML_OK && !later)
        ml_staging_copy_back(s);
    args->op = op;
    ml_staging_end(s);
    free(s);
    return status;
}

static ml_status record_gpu(ml_context *ctx, ml_thread *t, ml_encode_args *args, double *device_us) {
    ML_TRY(ml_context_check_process(ctx));
    ml_batch *b = find(t, ctx);
    const bool later = b && !b->is_call;
    if (later && any_flag(args->op, 0, ML_BUF_EXPORTED | ML_BUF_BORROWED))
        return ml_fail(ML_ERR_VALUE,
                       "%s: out shares memory with NumPy or another library, which a batch cannot write: it is not "
                       "complete when the call returns",
                       ml_op_name(args->op->kind));
    if (b && b->is_call)
        b->must_wait = b->must_wait || uses_foreign_memory(args->op);
    if (__builtin_expect(ml_staging_needed(args->op, later), 0))
        return record_staged(ctx, t, args, device_us);
    if (b)
        return record_in_batch(ctx, b, args);
    return record_alone(ctx, args, uses_foreign_memory(args->op) || device_us, device_us);
}

ml_status ml_command_record(ml_context *ctx, ml_thread *t, ml_encode_args *args, double *device_us) {
    ml_device *dev = ctx->device;
    if (__builtin_expect(dev->kind != ML_DEVICE_CPU, 0))
        return record_gpu(ctx, t, args, device_us);
    return dev->vtbl->encode(dev, NULL, args);
}

/* ---- batches ---- */

ml_status ml_batch_begin(ml_context *ctx) {
    ml_thread *t = ml_thread_get();
    if (!t)
        return ml_fail(ML_ERR_MEMORY, "out of memory for thread state");
    ML_TRY(ml_context_check_process(ctx));
    ml_batch *b = find(t, ctx);
    if (!b) {
        b = calloc(1, sizeof *b);
        if (!b)
            return ml_fail(ML_ERR_MEMORY, "out of memory for a batch");
        b->ctx = ctx;
        ml_context_retain(ctx);
        b->next = t->batches;
        t->batches = b;
    }
    b->depth++;
    return ML_OK;
}

static void close_batch(ml_thread *t, ml_batch *b) {
    commit_batch(b);
    ml_batch **link = &t->batches;
    while (*link != b)
        link = &(*link)->next;
    *link = b->next;
    ml_context_release(b->ctx);
    free(b);
}

ml_status ml_batch_end(ml_context *ctx) {
    ml_thread *t = ml_thread_get();
    ml_batch *b = t ? find(t, ctx) : NULL;
    if (!b)
        return ml_fail(ML_ERR_VALUE, "ml_batch_end without a matching ml_batch_begin on this thread");
    if (--b->depth == 0)
        close_batch(t, b);
    return ML_OK;
}

ml_status ml_command_group_begin(ml_context *ctx, ml_thread *t) {
    if (ctx->device->kind == ML_DEVICE_CPU || find(t, ctx))
        return ML_OK;
    ML_TRY(reap(ctx, false));
    ML_TRY(ml_batch_begin(ctx));
    find(t, ctx)->is_call = true;
    return ML_OK;
}

/* Nothing of c runs. */
static void drop_command(ml_command *c) {
    finish(c);
    lock();
    c->open = false;
    pthread_cond_broadcast(&committed);
    unlock();
    release_command(c);
}

ml_status ml_command_group_end(ml_context *ctx, ml_thread *t, ml_status status, double *device_us) {
    ml_batch *b = find(t, ctx);
    if (!b || !b->is_call)
        return status;
    ml_command *c = b->command;
    if (c && status != ML_OK) {
        b->command = NULL;
        drop_command(c);
    }
    const bool wait = c && status == ML_OK && (b->must_wait || device_us);
    if (wait)
        atomic_fetch_add(&c->refs, 1);
    close_batch(t, b);
    if (!wait)
        return status;
    status = await_command(c);
    if (device_us)
        *device_us = c->device_us;
    release_command(c);
    return status;
}

ml_status ml_context_synchronize(ml_context *ctx) {
    if (ctx->device->kind == ML_DEVICE_CPU)
        return ML_OK;
    ML_TRY(ml_context_check_process(ctx));
    ml_thread *t = ml_thread_get();
    ml_batch *b = t ? find(t, ctx) : NULL;
    if (b)
        commit_batch(b);
    return reap(ctx, true);
}

void ml_command_forget_thread(ml_thread *t) {
    while (t->batches)
        close_batch(t, t->batches);
}

void ml_command_forget_context(ml_context *ctx) {
    if (ctx->fork_generation == ml_fork_generation())
        (void)reap(ctx, true); /* nobody is left to hear of a failure */
}
