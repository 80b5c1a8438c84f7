#include "ops/ops.h"

/* Names an input in messages by its place: the operations give their operands in the order of their arguments. */
static const char *input_name(const ml_op *op, int i) {
    static const char *const matmul[] = {"a", "b", "c", "bias"}, *const softmax[] = {"x", "mask", "sinks"},
                             *const sdpa[] = {"query", "key", "value", "mask", "sinks"},
                             *const norm[] = {"x", "weight", "bias", "residual"}, *const swiglu[] = {"gate", "up"};
    switch (op->kind) {
    case ML_OP_MATMUL:
    case ML_OP_MATMUL_RAGGED:
    case ML_OP_BINARY:
        return i < 4 ? matmul[i] : "an input";
    case ML_OP_SOFTMAX:
        return i < 3 ? softmax[i] : "an input";
    case ML_OP_SDPA:
        return i < 5 ? sdpa[i] : "an input";
    case ML_OP_COPY:
        return "src";
    case ML_OP_LAYER_NORM:
    case ML_OP_RMS_NORM:
        return i < 4 ? norm[i] : "an input";
    case ML_OP_SWIGLU:
        return i < 2 ? swiglu[i] : "an input";
    case ML_OP_GELU:
    case ML_OP_SILU:
    case ML_OP_ROPE:
        return "x";
    default:
        return "an input";
    }
}

static bool same_shape(const ml_view *v, const ml_shape *shape) {
    if (v->ndim != shape->ndim)
        return false;
    for (int i = 0; i < v->ndim; i++)
        if (v->shape[i] != shape->dims[i])
            return false;
    return true;
}

static ml_status check_aliasing(const ml_op *op, const char *name, const ml_view *out, uint32_t in_place_inputs) {
    char in_text[ML_FORMAT_MAX], out_text[ML_FORMAT_MAX];
    if (!ml_view_is_contiguous(out) && ml_view_self_overlaps(out))
        return ml_fail(ML_ERR_SHAPE, "%s: two elements of out %s share memory", name,
                       ml_view_format(out, out_text, sizeof out_text));
    for (int i = 0; i < op->n_in; i++) {
        const ml_view *in = &op->in[i];
        if (!in->buf || !ml_views_overlap(in, out) || ((in_place_inputs >> i & 1u) && ml_view_same(in, out)))
            continue;
        return ml_fail(ML_ERR_SHAPE, "%s: out %s shares memory with %s %s%s", name,
                       ml_view_format(out, out_text, sizeof out_text), input_name(op, i),
                       ml_view_format(in, in_text, sizeof in_text),
                       in_place_inputs >> i & 1u ? " without being exactly the same elements" : "");
    }
    return ML_OK;
}

ml_status ml_op_set_out(ml_op *op, const char *name, const ml_shape *shape, ml_dtype dtype, ml_tensor *out,
                        uint32_t in_place_inputs) {
    ml_view *slot = &op->out[op->n_out];
    if (!out) {
        int64_t elements;
        ML_TRY(ml_shape_check(shape, dtype, &elements));
        slot->buf = NULL;
        slot->offset = 0;
        slot->dtype = dtype;
        slot->ndim = shape->ndim;
        for (int i = 0; i < shape->ndim; i++)
            slot->shape[i] = shape->dims[i];
        ml_view_set_contiguous(slot);
        op->n_out++;
        return ML_OK;
    }
    char out_text[ML_FORMAT_MAX], shape_text[ML_FORMAT_MAX];
    const ml_view *v = &out->view;
    if (!same_shape(v, shape))
        return ml_fail(ML_ERR_SHAPE, "%s: out is %s, but the result has shape %s", name,
                       ml_view_format(v, out_text, sizeof out_text),
                       ml_shape_format(shape, shape_text, sizeof shape_text));
    if (v->dtype != dtype)
        return ml_fail(ML_ERR_DTYPE, "%s: out is %s, but the result is %s", name,
                       ml_view_format(v, out_text, sizeof out_text), ml_dtype_name(dtype));
    if (atomic_load_explicit(&v->buf->flags, memory_order_relaxed) & ML_BUF_READ_ONLY)
        return ml_fail(ML_ERR_VALUE, "%s: out %s is read-only%s", name, ml_view_format(v, out_text, sizeof out_text),
                       v->buf->prepacked ? ": a prepacked weight never changes" : "");
    ML_TRY(check_aliasing(op, name, v, in_place_inputs));
    *slot = *v;
    op->n_out++;
    return ML_OK;
}

ml_status ml_op_broadcast(const char *op, const char *argument, const ml_view *v, const ml_shape *shape,
                          ml_view *slot) {
    if (ml_view_broadcast(v, shape, slot) == ML_OK)
        return ML_OK;
    char text[ML_FORMAT_MAX], shape_text[ML_FORMAT_MAX];
    return ml_fail(ML_ERR_SHAPE, "%s: %s %s does not broadcast to the result's shape %s", op, argument,
                   ml_view_format(v, text, sizeof text), ml_shape_format(shape, shape_text, sizeof shape_text));
}

ml_status ml_op_given(const char *name, const void *args, ml_tensor *const *out) {
    return args && out ? ML_OK : ml_fail(ML_ERR_VALUE, "%s: %s is NULL", name, args ? "out" : "args");
}

static ml_status wrong_device(const ml_context *ctx, const ml_op *op, const char *argument, const ml_view *v) {
    char text[ML_FORMAT_MAX];
    return ml_fail(ML_ERR_DEVICE, "%s: %s %s is on device %s, the context on %s", ml_op_name(op->kind), argument,
                   ml_view_format(v, text, sizeof text), v->buf->device ? v->buf->device->name : "(none)",
                   ml_context_device(ctx));
}

ml_status ml_op_run_all(ml_context *ctx, ml_op *op, ml_resource_cache *cache, ml_tensor **outs[]) {
    if (!ctx)
        return ml_fail(ML_ERR_VALUE, "%s: the context is NULL", ml_op_name(op->kind));
    const ml_device *dev = ml_context_device_of(ctx);
    for (int i = 0; i < op->n_in; i++)
        if (op->in[i].buf && op->in[i].buf->device != dev)
            return wrong_device(ctx, op, input_name(op, i), &op->in[i]);
    for (int i = 0; i < op->n_out; i++)
        if (op->out[i].buf && op->out[i].buf->device != dev)
            return wrong_device(ctx, op, "out", &op->out[i]);
    ml_tensor *made[ML_OP_MAX_OUT] = {NULL};
    ML_TRY(ml_execute(ctx, op, cache, made));
    for (int i = 0; i < op->n_out; i++)
        if (made[i])
            *outs[i] = made[i];
    return ML_OK;
}

ml_status ml_op_run(ml_context *ctx, ml_op *op, ml_resource_cache *cache, ml_tensor **out) {
    return ml_op_run_all(ctx, op, cache, (ml_tensor * *[ML_OP_MAX_OUT]){out});
}
