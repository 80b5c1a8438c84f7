/* GELU, SiLU and SwiGLU. */
#include "ops/ops.h"

static ml_status check_input(const char *name, const char *argument, const ml_tensor *t) {
    char text[ML_FORMAT_MAX];
    if (!t)
        return ml_fail(ML_ERR_VALUE, "%s: %s is NULL", name, argument);
    if (!ml_dtype_is_float(t->view.dtype))
        return ml_fail(ML_ERR_DTYPE, "%s: %s %s is not of a floating-point dtype; cast it first", name, argument,
                       ml_view_format(&t->view, text, sizeof text));
    return ML_OK;
}

static ml_status unary(ml_context *ctx, ml_op_kind kind, ml_activation activation, const ml_tensor *x,
                       ml_tensor **out) {
    const char *name = ml_op_name(kind);
    ML_TRY(check_input(name, "x", x));
    ML_TRY(ml_op_given(name, x, out));
    const ml_shape shape = ml_view_shape(&x->view);
    ml_op op;
    op.kind = kind;
    op.n_in = 1;
    op.n_out = 0;
    op.activate.activation = activation;
    op.in[0] = x->view;
    ML_TRY(ml_op_set_out(&op, name, &shape, x->view.dtype, *out, 1u));
    return ml_op_run(ctx, &op, NULL, out);
}

ml_status ml_gelu(ml_context *ctx, const ml_tensor *x, bool tanh_form, ml_tensor **out) {
    return unary(ctx, ML_OP_GELU, tanh_form ? ML_ACT_GELU_TANH : ML_ACT_GELU, x, out);
}

ml_status ml_silu(ml_context *ctx, const ml_tensor *x, ml_tensor **out) {
    return unary(ctx, ML_OP_SILU, ML_ACT_SILU, x, out);
}

ml_status ml_swiglu(ml_context *ctx, const ml_tensor *gate, const ml_tensor *up, ml_tensor **out) {
    ML_TRY(check_input("swiglu", "gate", gate));
    ML_TRY(check_input("swiglu", "up", up));
    ML_TRY(ml_op_given("swiglu", gate, out));
    const ml_shape a = ml_view_shape(&gate->view), b = ml_view_shape(&up->view);
    ml_shape shape;
    if (ml_shape_broadcast(&a, &b, &shape) != ML_OK) {
        char gate_text[ML_FORMAT_MAX], up_text[ML_FORMAT_MAX];
        return ml_fail(ML_ERR_SHAPE, "swiglu: gate %s and up %s do not broadcast",
                       ml_view_format(&gate->view, gate_text, sizeof gate_text),
                       ml_view_format(&up->view, up_text, sizeof up_text));
    }
    ml_op op;
    op.kind = ML_OP_SWIGLU;
    op.n_in = 2;
    op.n_out = 0;
    op.activate.activation = ML_ACT_SILU;
    ML_TRY(ml_op_broadcast("swiglu", "gate", &gate->view, &shape, &op.in[0]));
    ML_TRY(ml_op_broadcast("swiglu", "up", &up->view, &shape, &op.in[1]));
    const ml_dtype dtype = ml_dtype_promote(gate->view.dtype, up->view.dtype);
    ML_TRY(ml_op_set_out(&op, "swiglu", &shape, dtype, *out, 3u));
    return ml_op_run(ctx, &op, NULL, out);
}
