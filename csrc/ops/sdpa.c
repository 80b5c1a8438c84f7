/* Scaled dot-product attention: 4-D operands, or 3-D ones without the batch. */
#include "ops/ops.h"

#include <math.h>

#define NAME "scaled_dot_product_attention"

/* Positions beyond any tensor: sums of two of them stay within 64 bits. */
#define FAR (INT64_C(1) << 61)

static ml_status check_operand(const char *argument, const ml_tensor *t) {
    if (!t)
        return ml_fail(ML_ERR_VALUE, NAME ": %s is NULL", argument);
    char text[ML_FORMAT_MAX];
    const ml_view *v = &t->view;
    if (!ml_dtype_is_float(v->dtype))
        return ml_fail(ML_ERR_DTYPE, NAME ": %s %s is not of a floating-point dtype; cast it first", argument,
                       ml_view_format(v, text, sizeof text));
    if (v->ndim != 3 && v->ndim != 4)
        return ml_fail(ML_ERR_SHAPE, NAME ": %s %s; it is [batch, heads, length, head size], or lacks the batch",
                       argument, ml_view_format(v, text, sizeof text));
    return ML_OK;
}

static ml_status do_not_fit(const ml_sdpa_args *args, const char *argument, const char *why) {
    char query[ML_FORMAT_MAX], text[ML_FORMAT_MAX];
    const bool is_value = argument[0] == 'v';
    return ml_fail(ML_ERR_SHAPE, NAME ": query %s and %s %s: %s",
                   ml_view_format(&args->query->view, query, sizeof query), argument,
                   ml_view_format(is_value ? &args->value->view : &args->key->view, text, sizeof text), why);
}

static ml_status check_shapes(const ml_sdpa_args *args) {
    const ml_view *q = &args->query->view, *k = &args->key->view, *v = &args->value->view;
    const int heads = q->ndim - 3;
    if (k->ndim != q->ndim)
        return do_not_fit(args, "key", "the number of dimensions differs");
    if (v->ndim != q->ndim)
        return do_not_fit(args, "value", "the number of dimensions differs");
    if (heads > 0 && k->shape[0] != q->shape[0])
        return do_not_fit(args, "key", "the batches differ");
    if (heads > 0 && v->shape[0] != q->shape[0])
        return do_not_fit(args, "value", "the batches differ");
    if (k->shape[heads + 2] != q->shape[heads + 2])
        return do_not_fit(args, "key", "the head sizes differ");
    if (k->shape[heads] == 0 ? q->shape[heads] != 0 : q->shape[heads] % k->shape[heads] != 0)
        return do_not_fit(args, "key", "the number of query heads is no multiple of the number of key heads");
    if (v->shape[heads] == k->shape[heads] && v->shape[heads + 1] == k->shape[heads + 1])
        return ML_OK;
    char key[ML_FORMAT_MAX], value[ML_FORMAT_MAX];
    return ml_fail(ML_ERR_SHAPE, NAME ": key %s and value %s: the number of %s differs",
                   ml_view_format(k, key, sizeof key), ml_view_format(v, value, sizeof value),
                   v->shape[heads] == k->shape[heads] ? "keys" : "heads");
}

static ml_status check_extras(const ml_sdpa_args *args) {
    char text[ML_FORMAT_MAX];
    const ml_view *q = &args->query->view;
    if (args->mask && !ml_dtype_is_float(args->mask->view.dtype) && args->mask->view.dtype != ML_BOOL)
        return ml_fail(ML_ERR_DTYPE,
                       NAME ": mask %s is neither boolean (true = visible) nor of a floating-point dtype (added)",
                       ml_view_format(&args->mask->view, text, sizeof text));
    if (args->sinks) {
        const ml_view *s = &args->sinks->view;
        if (!ml_dtype_is_float(s->dtype))
            return ml_fail(ML_ERR_DTYPE, NAME ": sinks %s is not of a floating-point dtype; cast it first",
                           ml_view_format(s, text, sizeof text));
        if (s->ndim != 1 || s->shape[0] != q->shape[q->ndim - 3])
            return ml_fail(ML_ERR_SHAPE, NAME ": sinks %s; there must be one number for each of the %lld query heads",
                           ml_view_format(s, text, sizeof text), (long long)q->shape[q->ndim - 3]);
    }
    if (args->window < 0)
        return ml_fail(ML_ERR_SHAPE, NAME ": window %lld; it must be at least 1", (long long)args->window);
    if (!(args->softcap >= 0.0f))
        return ml_fail(ML_ERR_VALUE, NAME ": softcap %g; it must be positive", (double)args->softcap);
    if ((unsigned)args->variant > ML_SDPA_TILED)
        return ml_fail(ML_ERR_VALUE, NAME ": unknown variant %d", (int)args->variant);
    return ML_OK;
}

static void add_batch(ml_view *v) {
    if (v->ndim != 3)
        return;
    for (int i = 3; i > 0; i--) {
        v->shape[i] = v->shape[i - 1];
        v->strides[i] = v->strides[i - 1];
    }
    v->shape[0] = 1;
    v->strides[0] = 0;
    v->ndim = 4;
}

static int64_t clamp(int64_t x, int64_t low, int64_t high) {
    return x < low ? low : x > high ? high : x;
}

/* Once the operands are 4-D. */
static void set_params(const ml_sdpa_args *args, ml_op *op) {
    const ml_view *q = &op->in[ML_IN_Q], *k = &op->in[ML_IN_K];
    const int64_t dim = q->shape[3], end = k->shape[2] - q->shape[2];
    op->sdpa = (ml_sdpa_params){
        .batch = q->shape[0],
        .heads_q = q->shape[1],
        .heads_kv = k->shape[1],
        .len_q = q->shape[2],
        .len_k = k->shape[2],
        .dim_qk = dim,
        .dim_v = op->in[ML_IN_V].shape[3],
        .scale = args->has_scale ? args->scale
                 : dim > 0       ? (float)(1.0 / sqrt((double)dim))
                                 : 1.0f,
        .softcap = args->softcap,
        .causal = args->causal,
        .has_sinks = args->sinks != NULL,
        .query_offset = args->query_offset == ML_QUERY_OFFSET_END ? end : clamp(args->query_offset, -FAR, FAR),
        .window = clamp(args->window, 0, FAR),
        .mask = !args->mask                         ? ML_MASK_NONE
                : args->mask->view.dtype == ML_BOOL ? ML_MASK_BOOL
                                                    : ML_MASK_ADDITIVE,
        .variant = args->variant};
}

ml_status ml_scaled_dot_product_attention(ml_context *ctx, const ml_sdpa_args *args, ml_tensor **out) {
    ML_TRY(ml_op_given("scaled_dot_product_attention", args, out));
    ML_TRY(check_operand("query", args->query));
    ML_TRY(check_operand("key", args->key));
    ML_TRY(check_operand("value", args->value));
    ML_TRY(check_shapes(args));
    ML_TRY(check_extras(args));
    const ml_view *q = &args->query->view, *k = &args->key->view, *v = &args->value->view;
    const int last = q->ndim - 1;
    ml_op op = {.kind = ML_OP_SDPA, .n_in = 5};
    op.in[ML_IN_Q] = *q;
    op.in[ML_IN_K] = *k;
    op.in[ML_IN_V] = *v;
    ml_shape shape = ml_view_shape(q);
    shape.dims[last] = k->shape[last - 1];
    if (args->mask)
        ML_TRY(ml_op_broadcast(NAME, "mask", &args->mask->view, &shape, &op.in[ML_IN_MASK]));
    if (args->sinks)
        op.in[ML_IN_SINKS] = args->sinks->view;
    shape.dims[last] = v->shape[last];
    const ml_dtype dtype = ml_dtype_promote(ml_dtype_promote(q->dtype, k->dtype), v->dtype);
    ML_TRY(ml_op_set_out(&op, NAME, &shape, dtype, *out, 0));
    for (int i = ML_IN_Q; i <= ML_IN_V; i++)
        add_batch(&op.in[i]);
    if (args->mask)
        add_batch(&op.in[ML_IN_MASK]);
    add_batch(&op.out[0]);
    set_params(args, &op);
    const bool fresh = *out == NULL;
    ML_TRY(ml_op_run(ctx, &op, args->cache, out));
    if (fresh) { /* ours alone so far: as the caller sees it */
        ml_view *result = &(*out)->view;
        result->ndim = shape.ndim;
        for (int i = 0; i < shape.ndim; i++)
            result->shape[i] = shape.dims[i];
        ml_view_set_contiguous(result);
    }
    return ML_OK;
}
