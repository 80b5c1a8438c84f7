/* The one way to run an operation: outputs, plan, resource cache, scratch, record, metrics. */
#include "dispatch/dispatch.h"
#include "dispatch/gpu_layout.h"
#include "runtime/command.h"
#include "runtime/context.h"
#include "runtime/describe.h"
#include "runtime/lower.h"
#include "runtime/metrics.h"
#include "runtime/panels.h"
#include "runtime/plan_memo.h"
#include "runtime/thread.h"

#include <stdlib.h>
#include <string.h>

/* What holds for an operation and for everything it is lowered to. */
typedef struct execution {
    ml_context *ctx;
    ml_thread *t;
    ml_resource_cache *cache;
    const ml_caps *caps;
    ml_prefs prefs;
    bool wanted;     /* somebody listens to the metrics */
    bool explain;    /* plan only */
    double start_us; /* when wanted: of the current dispatch */
    ml_json *steps;  /* explaining a composed plan: where its parts go */
    bool last_part;  /* of a composed plan: its command buffer ends with it */
} execution;

static ml_status run(execution *e, const ml_op *op);

/* ---- lowering ---- */

/* A tensor's rows first..first + rows as [runs, rows, cols] with equal runs; a plain matrix when there is one run. */
static ml_view rows_of(const ml_view *v, int64_t first, int64_t rows, int64_t runs) {
    ml_view r = {.buf = v->buf, .dtype = v->dtype, .ndim = runs > 1 ? 3 : 2};
    r.offset = v->offset + first * v->strides[0] * (int64_t)ml_dtype_size_of(v->dtype);
    int d = 0;
    if (runs > 1) {
        r.shape[d] = runs;
        r.strides[d++] = rows * v->strides[0];
    }
    r.shape[d] = rows;
    r.strides[d++] = v->strides[0];
    r.shape[d] = v->shape[1];
    r.strides[d] = v->strides[1];
    return r;
}

/* Matrices first..first + runs of [G, K, N]. */
static ml_view matrices_of(const ml_view *v, int64_t first, int64_t runs) {
    ml_view r = *v;
    r.offset += first * v->strides[0] * (int64_t)ml_dtype_size_of(v->dtype);
    r.shape[0] = runs;
    if (runs > 1)
        return r;
    r.ndim = 2;
    for (int i = 0; i < 2; i++) {
        r.shape[i] = v->shape[i + 1];
        r.strides[i] = v->strides[i + 1];
    }
    return r;
}

/* One matmul per run of consecutive groups with equal row counts: the groups of a run are a batch. */
static ml_status run_ragged(execution *e, const ml_op *op) {
    const ml_view *a = &op->in[ML_IN_A], *b = &op->in[ML_IN_B], *out = &op->out[0];
    const int64_t *counts = op->ragged.row_counts;
    int64_t row = 0;
    for (int64_t g = 0, runs; g < op->ragged.groups; g += runs) {
        const int64_t rows = counts[g];
        for (runs = 1; g + runs < op->ragged.groups && counts[g + runs] == rows;)
            runs++;
        if (rows == 0)
            continue;
        ml_op part = {.kind = ML_OP_MATMUL, .n_in = 4, .n_out = 1};
        part.matmul = (ml_matmul_params){.m = rows, .n = out->shape[1], .k = a->shape[1], .batch = runs, .alpha = 1.0f};
        part.in[ML_IN_A] = rows_of(a, row, rows, runs);
        part.in[ML_IN_B] = matrices_of(b, g, runs);
        part.out[0] = rows_of(out, row, rows, runs);
        ML_TRY(run(e, &part));
        row += rows * runs;
    }
    return ML_OK;
}

/* The scores live in memory of the pool while the parts run. */
static ml_status run_sdpa(execution *e, const ml_op *op) {
    ml_view scores;
    ml_op parts[ML_LOWERED_SDPA];
    ml_lower_sdpa_scores(op, &scores);
    int64_t elements;
    const ml_shape shape = ml_view_shape(&scores);
    ML_TRY(ml_shape_check(&shape, scores.dtype, &elements));
    ML_TRY(ml_mempool_alloc(e->ctx->scratch, (size_t)elements * sizeof(float), false, &scores.buf));
    ml_lower_sdpa(op, &scores, parts);
    ml_status status = ML_OK;
    for (int i = 0; i < ML_LOWERED_SDPA && status == ML_OK; i++) {
        e->last_part = i == ML_LOWERED_SDPA - 1;
        status = run(e, &parts[i]);
    }
    e->last_part = false;
    ml_buffer_release(scores.buf);
    return status;
}

static ml_status run_composed(execution *e, const ml_op *op) {
    /* One command buffer for the parts, unless the time of each is asked for, or one for each. */
    if (!e->explain && e->prefs.submit == ML_SUBMIT_BATCHED && !e->ctx->prefs.enable_profiling)
        ML_TRY(ml_command_group_begin(e->ctx, e->t));
    if (e->wanted)
        ml_scope_push(ml_op_name(op->kind));
    ml_status status = ML_OK;
    if (op->kind == ML_OP_MATMUL_RAGGED)
        status = run_ragged(e, op);
    else if (op->kind == ML_OP_SDPA)
        status = run_sdpa(e, op);
    else
        status = ml_fail(ML_ERR_UNSUPPORTED, "%s: there is no composed form of it", ml_op_name(op->kind));
    if (e->wanted)
        ml_scope_pop();
    return ml_command_group_end(e->ctx, e->t, status, NULL);
}

/* ---- explaining ---- */

/* The plan as JSON: into the composed plan it is a part of, else it becomes what ml_explain_end returns. */
static ml_status explain(execution *e, const ml_op *op, const ml_plan *plan) {
    ml_json own = ML_JSON_INIT, *outer = e->steps, *j = outer ? outer : &own;
    ml_json_object_begin(j, NULL);
    ml_describe_plan(j, e->ctx->device, plan);
    ml_describe_op(j, op);
    ml_status status = ML_OK;
    if (plan->composed) {
        ml_json_array_begin(j, "steps");
        e->steps = j;
        status = run_composed(e, op);
        e->steps = outer;
        ml_json_array_end(j);
    }
    ml_json_object_end(j);
    char *text = NULL;
    if (status == ML_OK && !outer)
        status = ml_json_finish(j, &text);
    if (!outer && status != ML_OK)
        ml_json_discard(&own);
    if (text) {
        free(e->t->explained);
        e->t->explained = text;
    }
    return status;
}

void ml_explain_begin(void) {
    ml_thread *t = ml_thread_get();
    if (t)
        t->explain_depth++;
}

ml_status ml_explain_end(char **json) {
    ml_thread *t = ml_thread_get();
    if (!t || t->explain_depth == 0)
        return ml_fail(ML_ERR_VALUE, "ml_explain_end without a matching ml_explain_begin on this thread");
    if (--t->explain_depth > 0 && t->explained) { /* the outer one may want it too */
        *json = strdup(t->explained);
        return *json ? ML_OK : ml_fail(ML_ERR_MEMORY, "out of memory for a plan");
    }
    if (!t->explained)
        return ml_fail(ML_ERR_VALUE, "explain: no operation was planned");
    *json = t->explained;
    t->explained = NULL;
    return ML_OK;
}

/* ---- running ---- */

/* On the cpu nothing needs preparing: the cached thing is the fact that such a plan was made, which is what cached_only
 * and the statistics are about. GPU devices put pipelines under keys of the same cache when they encode. */
static void destroy_item(ml_cacheable *item) {
    free(item);
}

static ml_status make_item(const ml_cache_key *key, void *arg, ml_cacheable **out) {
    (void)key;
    (void)arg;
    ml_cacheable *item = malloc(sizeof *item);
    if (!item)
        return ml_fail(ML_ERR_MEMORY, "out of memory for a prepared plan");
    atomic_init(&item->refs, 1);
    item->destroy = destroy_item;
    *out = item;
    return ML_OK;
}

static ml_status look_up(const execution *e, const ml_planned *planned, bool *hit) {
    ml_cacheable *item;
    ml_status status = ml_cache_get(e->cache, &planned->key, ml_op_name(planned->plan.op), make_item, NULL, &item, hit);
    if (__builtin_expect(status == ML_OK, 1)) {
        ml_cacheable_release(item);
    } else if (status == ML_ERR_NOT_CACHED) {
        char impl[ML_IMPL_MAX], variant[64];
        ml_fail(status, "%s %s (%s) is not in the resource cache, which is cached_only", ml_op_name(planned->plan.op),
                ml_plan_variant_format(&planned->plan, variant, sizeof variant),
                ml_describe_impl(e->ctx->device, &planned->plan, impl, sizeof impl));
    }
    return status;
}

static void emit(execution *e, const ml_op *op, const ml_plan *plan, const ml_encode_args *args, double device_us) {
    double now = ml_metrics_now_us();
    ml_metrics_emit(e->ctx, e->t,
                    &(ml_metrics_record){.op = op,
                                         .plan = plan,
                                         .copied_bytes = e->t->copied_bytes + args->copied_bytes,
                                         .dispatches = args->dispatches > 0 ? args->dispatches : 1,
                                         .barriers = args->barriers,
                                         .command_buffer = args->command_buffer,
                                         .cache_hit = args->cache_hit,
                                         .host_us = now - e->start_us,
                                         .device_us = device_us});
    e->start_us = now;
    e->t->copied_bytes = 0; /* counted once, also where an operation has several parts */
}

static ml_status run_planned(execution *e, const ml_op *op, const ml_planned *planned);

/* METALLIC_SUBMIT=per_item: every item of a batch of products is an operation, and so a command buffer, of its own. */
static ml_status run_items(execution *e, const ml_op *op) {
    const int batch = op->out[0].ndim - 2;
    int64_t index[ML_MAX_DIMS] = {0};
    ml_op part = *op;
    part.matmul.batch = 1;
    for (;;) {
        for (int i = 0; i < op->n_in + op->n_out; i++) {
            const ml_view *whole = i < op->n_in ? &op->in[i] : &op->out[i - op->n_in];
            ml_view *v = i < op->n_in ? &part.in[i] : &part.out[i - op->n_in];
            if (!whole->buf)
                continue;
            v->ndim = 2;
            v->offset = whole->offset;
            for (int d = 0; d < batch; d++)
                v->offset += index[d] * whole->strides[d] * (int64_t)ml_dtype_size_of(whole->dtype);
            for (int d = 0; d < 2; d++) {
                v->shape[d] = whole->shape[batch + d];
                v->strides[d] = whole->strides[batch + d];
            }
        }
        ML_TRY(run(e, &part));
        int d = batch - 1;
        while (d >= 0 && ++index[d] == op->out[0].shape[d])
            index[d--] = 0;
        if (d < 0)
            return ML_OK;
    }
}

/* One operation whose outputs are allocated. */
static ml_status run(execution *e, const ml_op *op) {
    const ml_planned *planned;
    ml_plan_request request = {.op = op, .caps = e->caps, .prefs = &e->prefs, .context = e->ctx->id};
    ML_TRY(ml_plan_memo_get(e->t, &request, &planned));
    const ml_plan *plan = &planned->plan;
    if (__builtin_expect(e->explain, 0)) {
        ml_plan copy = *plan; /* planning its parts may reuse the memo */
        return explain(e, op, &copy);
    }
    if (plan->composed)
        return run_composed(e, op);
    if (ml_view_size(&op->out[0]) == 0)
        return ML_OK;
    if (__builtin_expect(e->prefs.submit == ML_SUBMIT_PER_ITEM, 0) && op->kind == ML_OP_MATMUL &&
        op->matmul.batch > 1 && e->ctx->device->kind != ML_DEVICE_CPU)
        return run_items(e, op);
    return run_planned(e, op, planned);
}

static ml_status run_planned(execution *e, const ml_op *op, const ml_planned *planned) {
    const ml_plan *plan = &planned->plan;
    ml_encode_args args = {.op = op, .plan = plan, .cache = e->cache, .label = e->t->label};
    const bool cpu = e->ctx->device->kind == ML_DEVICE_CPU;
    if (cpu)
        ML_TRY(look_up(e, planned, &args.cache_hit));
    if (__builtin_expect(plan->panels != ML_PANELS_OF_NONE, 0))
        ML_TRY(ml_panels_get(e->ctx, &args));
    if (plan->scratch_bytes > 0) {
        if (cpu) {
            args.scratch = ml_thread_scratch(e->t, (size_t)plan->scratch_bytes);
            if (!args.scratch)
                return ml_fail(ML_ERR_MEMORY, "%s: out of memory for %lld bytes of scratch", ml_op_name(op->kind),
                               (long long)plan->scratch_bytes);
            if (__builtin_expect(e->ctx->prefs.check, 0))
                memset(args.scratch, 0xff, (size_t)plan->scratch_bytes);
        } else {
            /* A value out of range is reported to the host; the rest is for kernels only. */
            ml_mempool *from = ml_gpu_checks_range(op) ? e->ctx->pool : e->ctx->scratch;
            ML_TRY(ml_mempool_alloc(from, (size_t)plan->scratch_bytes, false, &args.scratch_buffer));
        }
    }
    double device_us = 0, encode_start = e->wanted ? ml_metrics_now_us() : 0;
    /* Asking for the device's time means waiting for it: a listener alone does not want that. */
    const bool timed = e->wanted && (e->ctx->prefs.enable_profiling || atomic_load(&ml_metrics_profiles) > 0);
    ml_status status = ml_command_record(e->ctx, e->t, &args, timed ? &device_us : NULL);
    ml_buffer_release(args.scratch_buffer);
    if (e->last_part && timed)
        status = ml_command_group_end(e->ctx, e->t, status, &device_us); /* the time of all parts */
    if (__builtin_expect(e->wanted && status == ML_OK, 0)) {
        if (cpu)
            device_us = ml_metrics_now_us() - encode_start;
        emit(e, op, plan, &args, device_us > 0 ? device_us : -1);
    }
    return status;
}

/* Memory and a tensor for every output the caller did not give. What is already made stays in outs on failure. */
static ml_status allocate_outputs(ml_context *ctx, ml_op *op, ml_tensor **outs) {
    for (int i = 0; i < op->n_out; i++) {
        ml_view *v = &op->out[i];
        if (v->buf)
            continue;
        v->offset = 0;
        ml_view_set_contiguous(v);
        size_t bytes = (size_t)ml_view_size(v) * ml_dtype_size_of(v->dtype);
        ML_TRY(ml_mempool_alloc(ctx->pool, bytes, false, &v->buf));
        ml_status status = ml_tensor_from_view(v, &outs[i]);
        ml_buffer_release(v->buf); /* the tensor holds it now */
        if (status != ML_OK)
            return status;
    }
    return ML_OK;
}

ml_status ml_execute(ml_context *ctx, ml_op *op, ml_resource_cache *cache, ml_tensor **outs) {
    execution e = {.ctx = ctx, .t = ml_thread_get(), .cache = cache ? cache : ctx->cache, .caps = ml_context_caps(ctx)};
    if (!e.t)
        return ml_fail(ML_ERR_MEMORY, "out of memory for thread state");
    ml_context_prefs(ctx, &e.prefs);
    e.explain = e.t->explain_depth > 0;
    e.wanted = !e.explain && ml_metrics_wanted(ctx);
    if (__builtin_expect(e.wanted, 0))
        e.start_us = ml_metrics_now_us();
    ml_tensor *made[ML_OP_MAX_OUT] = {NULL};
    ml_status status = allocate_outputs(ctx, op, made);
    if (status == ML_OK)
        status = run(&e, op);
    e.t->copied_bytes = 0;
    for (int i = 0; i < op->n_out; i++) {
        if (!made[i])
            continue;
        if (status == ML_OK)
            outs[i] = made[i];
        else
            ml_tensor_release(made[i]);
    }
    return status;
}
