/* Element-wise operations with broadcasting; either operand may be a number. */
#include "ops/ops.h"

#include <math.h>

static const char *binary_name(ml_binary_kind kind) {
    static const char *const names[] = {"add", "subtract", "multiply", "divide", "equal", "not_equal"};
    return names[kind];
}

static bool is_comparison(ml_binary_kind kind) {
    return kind == ML_EQUAL || kind == ML_NOT_EQUAL;
}

/* A number as the devices compute with it: of its partner's dtype, where that is a float. An integer compared with a
 * number that no integer equals (1.5, 1e10) is compared with NaN, which nothing equals in any arithmetic. */
static double number_as(ml_binary_kind kind, ml_dtype dtype, double value) {
    if (ml_dtype_is_float(dtype)) {
        unsigned char element[8];
        ml_store_element(dtype, element, value);
        return ml_load_element(dtype, element);
    }
    const bool is_i32 = value >= -2147483648.0 && value <= 2147483647.0 && value == trunc(value);
    return is_comparison(kind) && !is_i32 ? NAN : value;
}

/* That dtype must hold it; comparisons and divisions of integers are not done in the integer dtype. */
static ml_status check_number(ml_binary_kind kind, ml_dtype dtype, double value) {
    static const double low[ML_DTYPE_COUNT] = {[ML_I32] = -2147483648.0},
                        high[ML_DTYPE_COUNT] = {[ML_I32] = 2147483647.0, [ML_U8] = 255.0, [ML_BOOL] = 1.0};
    if (ml_dtype_is_float(dtype) || is_comparison(kind) || kind == ML_DIV)
        return ML_OK;
    if (value >= low[dtype] && value <= high[dtype] && value == trunc(value))
        return ML_OK;
    return ml_fail(ML_ERR_DTYPE, "%s: %s cannot hold %g; cast the tensor to a floating-point dtype first",
                   binary_name(kind), ml_dtype_name(dtype), value);
}

static ml_status result_dtype(const ml_binary_args *args, const ml_tensor *out, ml_dtype *dtype) {
    const ml_tensor *a = args->a, *b = args->b;
    if (is_comparison(args->kind)) {
        *dtype = ML_BOOL;
        return ML_OK;
    }
    ml_dtype operands = a && b ? ml_dtype_promote(a->view.dtype, b->view.dtype) : a ? a->view.dtype : b->view.dtype;
    if (operands == ML_BOOL && args->kind == ML_SUB)
        return ml_fail(ML_ERR_DTYPE, "subtract: booleans have no difference; cast to an integer dtype first");
    *dtype = args->kind == ML_DIV && !ml_dtype_is_float(operands) ? ML_F32 : operands;
    if (out && a && ml_view_same(&out->view, &a->view)) { /* in place: the left operand's dtype stays */
        const ml_dtype kept = a->view.dtype;
        if (*dtype != kept && !ml_dtype_is_float(kept))
            return ml_fail(ML_ERR_DTYPE, "%s: a result of dtype %s does not go into a tensor of dtype %s in place",
                           binary_name(args->kind), ml_dtype_name(*dtype), ml_dtype_name(kept));
        *dtype = kept;
    }
    return ML_OK;
}

/* The operand broadcast to shape, or a view without a buffer for a number. */
static ml_status set_operand(const ml_binary_args *args, int i, const ml_shape *shape, ml_op *op) {
    const ml_tensor *t = i == 0 ? args->a : args->b, *other = i == 0 ? args->b : args->a;
    if (t)
        return ml_op_broadcast(binary_name(args->kind), i == 0 ? "a" : "b", &t->view, shape, &op->in[i]);
    op->in[i] = (ml_view){.dtype = other->view.dtype, .ndim = shape->ndim};
    for (int d = 0; d < shape->ndim; d++)
        op->in[i].shape[d] = shape->dims[d];
    return check_number(args->kind, other->view.dtype, i == 0 ? args->a_value : args->b_value);
}

ml_status ml_binary(ml_context *ctx, const ml_binary_args *args, ml_tensor **out) {
    ML_TRY(ml_op_given("binary", args, out));
    const ml_tensor *a = args->a, *b = args->b;
    if ((unsigned)args->kind > ML_NOT_EQUAL)
        return ml_fail(ML_ERR_VALUE, "binary: unknown kind %d", (int)args->kind);
    const char *name = binary_name(args->kind);
    if (!a && !b)
        return ml_fail(ML_ERR_VALUE, "%s: at least one operand must be a tensor", name);
    ml_shape shape;
    if (a && b) {
        ml_shape sa = ml_view_shape(&a->view), sb = ml_view_shape(&b->view);
        if (ml_shape_broadcast(&sa, &sb, &shape) != ML_OK) {
            char a_text[ML_FORMAT_MAX], b_text[ML_FORMAT_MAX];
            return ml_fail(ML_ERR_SHAPE, "%s: a %s and b %s do not broadcast", name,
                           ml_view_format(&a->view, a_text, sizeof a_text),
                           ml_view_format(&b->view, b_text, sizeof b_text));
        }
    } else {
        shape = ml_view_shape(a ? &a->view : &b->view);
    }
    ml_op op;
    op.kind = ML_OP_BINARY;
    op.n_in = 2;
    op.n_out = 0;
    op.binary = (ml_binary_params){.kind = args->kind, .a_is_value = !a, .b_is_value = !b};
    if (!a)
        op.binary.a_value = number_as(args->kind, b->view.dtype, args->a_value);
    if (!b)
        op.binary.b_value = number_as(args->kind, a->view.dtype, args->b_value);
    ml_dtype dtype = ML_F32;
    ML_TRY(result_dtype(args, *out, &dtype));
    ML_TRY(set_operand(args, 0, &shape, &op));
    ML_TRY(set_operand(args, 1, &shape, &op));
    ML_TRY(ml_op_set_out(&op, name, &shape, dtype, *out, 3u));
    return ml_op_run(ctx, &op, NULL, out);
}

ml_status ml_add_elem(ml_context *ctx, const ml_tensor *a, const ml_tensor *b, ml_tensor **out) {
    if (!a || !b)
        return ml_fail(ML_ERR_VALUE, "add_elem: %s is NULL", a ? "b" : "a");
    return ml_binary(ctx, &(ml_binary_args){.kind = ML_ADD, .a = a, .b = b}, out);
}

ml_status ml_mul_scalar(ml_context *ctx, const ml_tensor *a, double value, ml_tensor **out) {
    if (!a)
        return ml_fail(ML_ERR_VALUE, "mul_scalar: a is NULL");
    return ml_binary(ctx, &(ml_binary_args){.kind = ML_MUL, .a = a, .b_value = value}, out);
}
