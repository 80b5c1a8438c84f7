/* Layer norm and rms norm over the last axis. */
#include "ops/ops.h"

static ml_status check_x(const char *name, const ml_tensor *x) {
    char text[ML_FORMAT_MAX];
    if (!x)
        return ml_fail(ML_ERR_VALUE, "%s: x is NULL", name);
    if (!ml_dtype_is_float(x->view.dtype))
        return ml_fail(ML_ERR_DTYPE, "%s: x %s is not of a floating-point dtype; cast it first", name,
                       ml_view_format(&x->view, text, sizeof text));
    if (x->view.ndim < 1)
        return ml_fail(ML_ERR_SHAPE, "%s: x %s has no axis to normalise over", name,
                       ml_view_format(&x->view, text, sizeof text));
    return ML_OK;
}

/* A parameter vector [n] of any float dtype, into its slot. */
static ml_status set_vector(ml_op *op, int slot, const char *argument, const ml_tensor *t) {
    if (!t)
        return ML_OK;
    const char *name = ml_op_name(op->kind);
    const ml_view *x = &op->in[ML_IN_X], *v = &t->view;
    char text[ML_FORMAT_MAX], x_text[ML_FORMAT_MAX];
    if (!ml_dtype_is_float(v->dtype))
        return ml_fail(ML_ERR_DTYPE, "%s: %s %s is not of a floating-point dtype; cast it first", name, argument,
                       ml_view_format(v, text, sizeof text));
    if (v->ndim != 1 || v->shape[0] != x->shape[x->ndim - 1])
        return ml_fail(ML_ERR_SHAPE, "%s: %s %s does not fit x %s: it is to be [%lld], one for each element of a row",
                       name, argument, ml_view_format(v, text, sizeof text), ml_view_format(x, x_text, sizeof x_text),
                       (long long)x->shape[x->ndim - 1]);
    op->in[slot] = *v;
    return ML_OK;
}

static ml_status set_residual(ml_op *op, const ml_tensor *t) {
    if (!t)
        return ML_OK;
    const ml_view *x = &op->in[ML_IN_X], *v = &t->view;
    char text[ML_FORMAT_MAX], x_text[ML_FORMAT_MAX];
    bool same = v->ndim == x->ndim;
    for (int i = 0; same && i < x->ndim; i++)
        same = v->shape[i] == x->shape[i];
    if (!same)
        return ml_fail(ML_ERR_SHAPE, "rms_norm: residual %s and x %s differ in shape",
                       ml_view_format(v, text, sizeof text), ml_view_format(x, x_text, sizeof x_text));
    if (v->dtype != x->dtype)
        return ml_fail(ML_ERR_DTYPE, "rms_norm: residual %s and x %s differ in dtype",
                       ml_view_format(v, text, sizeof text), ml_view_format(x, x_text, sizeof x_text));
    op->in[ML_IN_RESIDUAL] = *v;
    return ML_OK;
}

static ml_status check_eps(const char *name, float eps) {
    return eps >= 0.0f ? ML_OK : ml_fail(ML_ERR_VALUE, "%s: eps %g; it is to be at least 0", name, (double)eps);
}

static void set_params(ml_op *op, float eps) {
    const ml_view *x = &op->in[ML_IN_X];
    op->norm = (ml_norm_params){.rows = 1,
                                .length = x->shape[x->ndim - 1],
                                .eps = eps,
                                .has_weight = op->in[ML_IN_WEIGHT].buf != NULL,
                                .has_offset = op->in[ML_IN_OFFSET].buf != NULL,
                                .has_residual = op->in[ML_IN_RESIDUAL].buf != NULL};
    for (int i = 0; i < x->ndim - 1; i++)
        op->norm.rows *= x->shape[i];
}

enum { IN_PLACE = 1 << ML_IN_X | 1 << ML_IN_WEIGHT | 1 << ML_IN_OFFSET | 1 << ML_IN_RESIDUAL };

ml_status ml_layer_norm(ml_context *ctx, const ml_layer_norm_args *args, ml_tensor **out) {
    ML_TRY(ml_op_given("layer_norm", args, out));
    ML_TRY(check_x("layer_norm", args->x));
    ML_TRY(check_eps("layer_norm", args->eps));
    const ml_shape shape = ml_view_shape(&args->x->view);
    ml_op op = {.kind = ML_OP_LAYER_NORM, .n_in = ML_IN_OFFSET + 1};
    op.in[ML_IN_X] = args->x->view;
    ML_TRY(set_vector(&op, ML_IN_WEIGHT, "weight", args->weight));
    ML_TRY(set_vector(&op, ML_IN_OFFSET, "bias", args->bias));
    ML_TRY(ml_op_set_out(&op, "layer_norm", &shape, args->x->view.dtype, *out, IN_PLACE));
    set_params(&op, args->eps);
    return ml_op_run(ctx, &op, args->cache, out);
}

ml_status ml_rms_norm(ml_context *ctx, const ml_rms_norm_args *args, ml_tensor **out, ml_tensor **sum) {
    ML_TRY(ml_op_given("rms_norm", args, out));
    ML_TRY(check_x("rms_norm", args->x));
    ML_TRY(check_eps("rms_norm", args->eps));
    const ml_dtype dtype = args->x->view.dtype;
    const ml_shape shape = ml_view_shape(&args->x->view);
    ml_op op = {.kind = ML_OP_RMS_NORM, .n_in = args->residual ? ML_IN_RESIDUAL + 1 : ML_IN_WEIGHT + 1};
    op.in[ML_IN_X] = args->x->view;
    ML_TRY(set_vector(&op, ML_IN_WEIGHT, "weight", args->weight));
    ML_TRY(set_residual(&op, args->residual));
    ML_TRY(ml_op_set_out(&op, "rms_norm", &shape, dtype, *out, IN_PLACE));
    if (args->residual) {
        if (!sum)
            return ml_fail(ML_ERR_VALUE, "rms_norm: with a residual there must be room for the sum");
        ML_TRY(ml_op_set_out(&op, "rms_norm", &shape, dtype, *sum, 1u << ML_IN_X | 1u << ML_IN_RESIDUAL));
        if (op.out[0].buf && op.out[1].buf && ml_views_overlap(&op.out[0], &op.out[1]))
            return ml_fail(ML_ERR_SHAPE, "rms_norm: out and the sum share memory");
    }
    set_params(&op, args->eps);
    return ml_op_run_all(ctx, &op, args->cache, (ml_tensor * *[]){out, sum});
}
