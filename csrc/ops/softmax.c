/* Softmax and its logarithm over any axis. */
#include "ops/ops.h"

static const char *name_of(const ml_softmax_args *args) {
    return args->log ? "log_softmax" : "softmax";
}

static ml_status check_arguments(const ml_softmax_args *args) {
    const char *name = name_of(args);
    char text[ML_FORMAT_MAX];
    if (!args->x)
        return ml_fail(ML_ERR_VALUE, "%s: x is NULL", name);
    const ml_view *x = &args->x->view;
    if (!ml_dtype_is_float(x->dtype))
        return ml_fail(ML_ERR_DTYPE, "%s: x %s is not of a floating-point dtype; cast it first", name,
                       ml_view_format(x, text, sizeof text));
    if (args->mask && !ml_dtype_is_float(args->mask->view.dtype) && args->mask->view.dtype != ML_BOOL)
        return ml_fail(ML_ERR_DTYPE,
                       "%s: mask %s is neither boolean (true = visible) nor of a floating-point dtype "
                       "(added)",
                       name, ml_view_format(&args->mask->view, text, sizeof text));
    if (args->axis < -x->ndim || args->axis >= x->ndim)
        return ml_fail(ML_ERR_SHAPE, "%s: axis %d is out of range for x %s", name, args->axis,
                       ml_view_format(x, text, sizeof text));
    if (args->causal && args->axis != -1 && args->axis != x->ndim - 1)
        return ml_fail(ML_ERR_SHAPE, "%s: causal needs axis -1, the keys, not axis %d of x %s", name, args->axis,
                       ml_view_format(x, text, sizeof text));
    if ((unsigned)args->variant > ML_SOFTMAX_BLOCK)
        return ml_fail(ML_ERR_VALUE, "%s: unknown variant %d", name, (int)args->variant);
    return ML_OK;
}

/* Moves dim `axis` behind the others, which keep their order. */
static void move_last(ml_view *v, int axis) {
    const int64_t size = v->shape[axis], stride = v->strides[axis];
    for (int i = axis; i < v->ndim - 1; i++) {
        v->shape[i] = v->shape[i + 1];
        v->strides[i] = v->strides[i + 1];
    }
    v->shape[v->ndim - 1] = size;
    v->strides[v->ndim - 1] = stride;
}

static ml_mask_kind mask_kind(const ml_tensor *mask) {
    return !mask ? ML_MASK_NONE : mask->view.dtype == ML_BOOL ? ML_MASK_BOOL : ML_MASK_ADDITIVE;
}

/* What the device needs to know, once the axis is the last one. */
static void set_params(const ml_softmax_args *args, ml_op *op) {
    const ml_view *x = &op->in[0];
    const int64_t keys = x->shape[x->ndim - 1], queries = x->ndim > 1 ? x->shape[x->ndim - 2] : 1;
    op->softmax = (ml_softmax_params){.rows = 1,
                                      .seq_q = queries,
                                      .seq_k = keys,
                                      .scale = args->scale,
                                      .causal = args->causal,
                                      .log = args->log,
                                      .query_offset = args->query_offset == ML_QUERY_OFFSET_END ? keys - queries
                                                                                                : args->query_offset,
                                      .mask = mask_kind(args->mask),
                                      .variant = args->variant};
    for (int i = 0; i < x->ndim - 1; i++)
        op->softmax.rows *= x->shape[i];
}

ml_status ml_softmax(ml_context *ctx, const ml_softmax_args *args, ml_tensor **out) {
    ML_TRY(ml_op_given("softmax", args, out));
    ML_TRY(check_arguments(args));
    const ml_view *x = &args->x->view;
    const int last = x->ndim - 1, axis = args->axis < 0 ? args->axis + x->ndim : args->axis;
    const ml_shape shape = ml_view_shape(x);
    ml_op op = {.kind = ML_OP_SOFTMAX, .n_in = args->mask ? 2 : 1};
    op.in[0] = *x;
    if (args->mask)
        ML_TRY(ml_op_broadcast(name_of(args), "mask", &args->mask->view, &shape, &op.in[1]));
    /* The runtime would lay out a new result with the axis last; it is to be contiguous as the caller sees it. */
    ml_tensor *result = *out, *fresh = NULL;
    if (!result && axis != last) {
        if (!ctx)
            return ml_fail(ML_ERR_VALUE, "%s: the context is NULL", name_of(args));
        ML_TRY(ml_tensor_empty(ctx, x->dtype, &shape, &fresh));
        result = fresh;
    }
    ml_status status = ml_op_set_out(&op, name_of(args), &shape, x->dtype, result, 1u);
    if (status == ML_OK) {
        for (int i = 0; i < op.n_in; i++)
            move_last(&op.in[i], axis);
        move_last(&op.out[0], axis);
        set_params(args, &op);
        status = ml_op_run(ctx, &op, args->cache, fresh ? &fresh : out);
    }
    if (fresh && status == ML_OK)
        *out = fresh;
    else if (fresh)
        ml_tensor_release(fresh);
    return status;
}
