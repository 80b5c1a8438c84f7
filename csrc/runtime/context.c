#include "runtime/context.h"

#include "core/pool.h"
#include "runtime/command.h"
#include "runtime/fork.h"
#include "runtime/metrics.h"
#include "runtime/thread.h"

#include <stdlib.h>
#include <string.h>

static atomic_llong next_id = 1;

/* ---- caps ---- */

static ml_caps_node *make_caps(const ml_context *ctx, int threads) {
    ml_caps_node *node = calloc(1, sizeof *node);
    if (!node)
        return NULL;
    ctx->device->vtbl->caps(ctx->device, ctx->prefs.isa_mask, &node->caps);
    if (threads > 0)
        node->caps.threads = threads;
    node->caps.tuning = ctx->tuning.rows;
    node->caps.n_tuning = ctx->tuning.n;
    return node;
}

const ml_caps *ml_context_caps(const ml_context *ctx) {
    ml_caps_node *head = atomic_load_explicit(&ctx->caps, memory_order_acquire);
    if (ctx->device->kind != ML_DEVICE_CPU)
        return &head->caps;
    int threads = ml_get_num_threads();
    for (ml_caps_node *node = head; node; node = node->next)
        if (__builtin_expect(node->caps.threads == threads, 1))
            return &node->caps;
    ml_caps_node *node = make_caps(ctx, threads);
    if (!node)
        return &head->caps;
    node->next = head;
    /* Logically const: the list only ever grows, by one node per number of threads that was in force. */
    _Atomic(ml_caps_node *) *list = &((ml_context *)ctx)->caps;
    while (!atomic_compare_exchange_weak_explicit(list, &node->next, node, memory_order_release, memory_order_acquire))
        continue;
    return &node->caps;
}

/* ---- life ---- */

static void destroy_context(ml_context *ctx) {
    ml_command_forget_context(ctx);
    for (ml_caps_node *node = atomic_load(&ctx->caps), *next; node; node = next) {
        next = node->next;
        free(node);
    }
    ml_metrics_sink_close(ctx->sink);
    if (ctx->cache)
        ml_resource_cache_release(ctx->cache);
    if (ctx->scratch != ctx->pool)
        ml_mempool_close(ctx->scratch);
    ml_mempool_close(ctx->pool);
    ml_tuning_release(&ctx->tuning);
    free(ctx);
}

static ml_status resolve_prefs(const ml_context_options *options, ml_pref_values *out) {
    ml_status status = ML_ERR_MEMORY;
    ml_pref_set *sets = malloc(2 * sizeof *sets); /* too large for the stack of a small thread */
    if (!sets)
        return ml_fail(ML_ERR_MEMORY, "out of memory for preferences");
    ml_pref_set *base = &sets[0], *over = &sets[1];
    ml_pref_set_init(base);
    ml_pref_set_load_env(base);
    ml_pref_set_init(over);
    if (options) {
        status = ml_pref_set_load(over, options->prefs, options->n_prefs);
        if (status != ML_OK)
            goto done;
    }
    ml_pref_set_merge(base, over);
    if (options && options->strict)
        base->values.select.strict = true;
    if (options && options->device && strlen(options->device) >= sizeof base->values.device) {
        status = ml_fail(ML_ERR_DEVICE, "unknown device '%.64s...'", options->device);
        goto done;
    }
    if (options && options->device)
        strcpy(base->values.device, options->device);
    /* These two belong to the process, so only what is asked for changes them. */
    if (ml_pref_given(base, ML_PREF_LOG_LEVEL))
        ml_log_set_level(base->values.log_level);
    if (ml_pref_given(over, ML_PREF_NUM_THREADS))
        ml_set_num_threads(base->values.num_threads);
    *out = base->values;
    status = ML_OK;
done:
    free(sets);
    return status;
}

ml_status ml_context_create(const ml_context_options *options, ml_context **out) {
    ml_context *ctx = calloc(1, sizeof *ctx);
    if (!ctx)
        return ml_fail(ML_ERR_MEMORY, "out of memory for a context");
    atomic_init(&ctx->refs, 1);
    ctx->fork_generation = ml_fork_generation();
    ctx->id = atomic_fetch_add(&next_id, 1);
    ml_status status = resolve_prefs(options, &ctx->prefs);
    if (status != ML_OK)
        goto fail;
    status = ml_device_find(ctx->prefs.device, &ctx->device);
    if (status != ML_OK)
        goto fail;
    ml_caps_node *caps = make_caps(ctx, 0);
    if (!caps) {
        status = ml_fail(ML_ERR_MEMORY, "out of memory for device capabilities");
        goto fail;
    }
    atomic_init(&ctx->caps, caps);
    if (ctx->prefs.variants[0] && ctx->device->vtbl->manifest) {
        status = ctx->device->vtbl->manifest(ctx->device, ctx->prefs.variants, &caps->caps);
        if (status != ML_OK)
            goto fail;
    }
    char cache_dir[ML_PREF_PATH_MAX];
    status = ml_tuning_for(ctx->device->name, caps->caps.family, ml_cache_dir(&ctx->prefs, cache_dir, sizeof cache_dir),
                           &ctx->tuning);
    if (status != ML_OK)
        goto fail;
    caps->caps.tuning = ctx->tuning.rows;
    caps->caps.n_tuning = ctx->tuning.n;
    status = ml_mempool_create(ctx->device, ctx->prefs.check, false, &ctx->pool);
    if (status != ML_OK)
        goto fail;
    ctx->scratch = ctx->pool;
    if (ctx->device->kind != ML_DEVICE_CPU && !ctx->prefs.check)
        status = ml_mempool_create(ctx->device, false, true, &ctx->scratch);
    if (status != ML_OK)
        goto fail;
    status = ml_resource_cache_create(false, &ctx->cache);
    if (status != ML_OK)
        goto fail;
    ctx->sink = ml_metrics_sink_open(&ctx->prefs);
    ctx->fork_generation = ml_fork_generation(); /* counted from the pool's first lock on */
    *out = ctx;
    return ML_OK;
fail:
    destroy_context(ctx);
    return status;
}

void ml_context_retain(ml_context *ctx) {
    atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
}

void ml_context_release(ml_context *ctx) {
    if (ctx && atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) == 1)
        destroy_context(ctx);
}

/* ---- default contexts ---- */

/* One per device that was asked for, and one for "the default device"; they live as long as the process. */
enum { DEFAULT_ANY = 0, DEFAULT_CPU, DEFAULT_METAL, DEFAULT_CUDA, DEFAULTS };
static _Atomic(ml_context *) defaults[DEFAULTS];

/* Without a lock, which a fork in the middle would leave closed: of several threads that are first at once, all but one
 * throw their context away. */
static ml_status make_default(int slot, const char *device, ml_context **out) {
    ml_context *made, *present = NULL;
    ML_TRY(ml_context_create(&(ml_context_options){.device = device}, &made));
    if (atomic_compare_exchange_strong(&defaults[slot], &present, made)) {
        *out = made;
    } else {
        ml_context_release(made);
        *out = present;
    }
    return ML_OK;
}

ml_status ml_context_default(const char *device, ml_context **out) {
    int slot = !device || !*device        ? DEFAULT_ANY
               : !strcmp(device, "cpu")   ? DEFAULT_CPU
               : !strcmp(device, "metal") ? DEFAULT_METAL
               : !strcmp(device, "cuda")  ? DEFAULT_CUDA
                                          : DEFAULTS;
    if (slot == DEFAULTS)
        return ml_device_find(device, &(ml_device *){NULL}); /* names what is known */
    ml_context *ctx = atomic_load_explicit(&defaults[slot], memory_order_acquire);
    if (__builtin_expect(!ctx, 0))
        ML_TRY(make_default(slot, slot == DEFAULT_ANY ? NULL : device, &ctx));
    ml_context_retain(ctx);
    *out = ctx;
    return ML_OK;
}

/* ---- questions ---- */

const char *ml_context_device(const ml_context *ctx) {
    return ctx->device->name;
}

ml_device *ml_context_device_of(const ml_context *ctx) {
    return ctx->device;
}

void ml_context_prefs(const ml_context *ctx, ml_prefs *out) {
    *out = ctx->prefs.select;
    ml_prefs_apply_thread(out);
}

void ml_context_memory_stats(const ml_context *ctx, ml_memory_stats *out) {
    ml_mempool_stats(ctx->pool, out);
    if (ctx->scratch == ctx->pool)
        return;
    ml_memory_stats s;
    ml_mempool_stats(ctx->scratch, &s);
    out->bytes_in_use += s.bytes_in_use;
    out->bytes_reserved += s.bytes_reserved;
    out->peak_in_use += s.peak_in_use;
    out->allocations += s.allocations;
    out->pool_hits += s.pool_hits;
    out->blocks += s.blocks;
}

void ml_context_cache_stats(const ml_context *ctx, ml_cache_stats *out) {
    ml_resource_cache_stats(ctx->cache, out);
}

void ml_context_trim(ml_context *ctx) {
    ml_mempool_trim(ctx->pool);
    if (ctx->scratch != ctx->pool)
        ml_mempool_trim(ctx->scratch);
    ml_thread *t = ml_thread_get();
    if (t)
        ml_thread_release_scratch(t);
}

ml_status ml_context_check_process(const ml_context *ctx) {
    if (ctx->device->kind == ML_DEVICE_CPU || ctx->fork_generation == ml_fork_generation())
        return ML_OK;
    return ml_fail(ML_ERR_DEVICE, "a %s context cannot be used in a forked child; make a new process instead",
                   ctx->device->name);
}

/* ---- memory ---- */

ml_status ml_context_alloc(ml_context *ctx, size_t size, ml_buffer **out) {
    return ml_mempool_alloc(ctx->pool, size, true, out);
}

ml_status ml_tensor_empty(ml_context *ctx, ml_dtype dtype, const ml_shape *shape, ml_tensor **out) {
    if (!ctx || !shape)
        return ml_fail(ML_ERR_VALUE, "empty: %s is NULL", ctx ? "shape" : "ctx");
    int64_t elements;
    if ((unsigned)dtype >= ML_DTYPE_COUNT)
        return ml_fail(ML_ERR_DTYPE, "empty: %d is no dtype", (int)dtype);
    ML_TRY(ml_shape_check(shape, dtype, &elements));
    ML_TRY(ml_context_check_process(ctx));
    ml_view view = {.dtype = dtype, .ndim = shape->ndim};
    for (int i = 0; i < shape->ndim; i++)
        view.shape[i] = shape->dims[i];
    ml_view_set_contiguous(&view);
    ML_TRY(ml_context_alloc(ctx, (size_t)elements * ml_dtype_size_of(dtype), &view.buf));
    ml_status status = ml_tensor_from_view(&view, out);
    ml_buffer_release(view.buf);
    return status;
}

/* The device's handle goes before the memory that it stands for. */
static void destroy_shared(ml_buffer *self) {
    self->device->vtbl->unwrap(self->device, self->handle);
    ml_buffer_destroy_wrapped(self);
}

/* Gives borrowed memory a handle where the device can use it in place. */
static ml_status share(ml_buffer *b) {
    if (!b->device->vtbl->wrap)
        return ML_OK;
    ML_TRY(b->device->vtbl->wrap(b->device, b->host, b->size, &b->handle));
    if (b->handle)
        b->destroy = destroy_shared;
    return ML_OK;
}

bool ml_context_shares_memory(const ml_context *ctx, const void *data, size_t size) {
    return ctx->device->kind == ML_DEVICE_CPU ||
           (size > 0 && (uintptr_t)data % ML_PAGE_BYTES == 0 && size % ML_PAGE_BYTES == 0);
}

ml_status ml_tensor_from_host(ml_context *ctx, const ml_host_memory *memory, const ml_layout *layout, ml_tensor **out) {
    if (!ctx || !memory || !layout)
        return ml_fail(ML_ERR_VALUE, "from_host: %s is NULL", !ctx ? "ctx" : !memory ? "memory" : "layout");
    ML_TRY(ml_context_check_process(ctx));
    /* The handle and the check of the layout come first: after a failure the memory is still the caller's. */
    ml_view view;
    ML_TRY(ml_view_from_layout(layout, memory->data, memory->size, &view));
    ml_tensor *t;
    ML_TRY(ml_tensor_from_view(&view, &t));
    ml_host_memory lent = *memory;
    lent.release = NULL; /* until nothing can fail any more */
    ml_status status = ml_buffer_wrap(ctx->device, &lent, &t->view.buf);
    if (status == ML_OK)
        status = share(t->view.buf);
    if (status != ML_OK) {
        ml_tensor_release(t);
        return status;
    }
    ml_buffer_set_release(t->view.buf, memory->release, memory->user);
    *out = t;
    return ML_OK;
}
