/* Filling, copying and casting. */
#include "ops/ops.h"

#include <math.h>

ml_status ml_fill(ml_context *ctx, ml_tensor *dst, double value) {
    if (!dst)
        return ml_fail(ML_ERR_VALUE, "fill: dst is NULL");
    const ml_dtype dtype = dst->view.dtype;
    const double low = dtype == ML_I32 ? -2147483648.0 : 0.0, high = dtype == ML_I32 ? 2147483647.0 : 255.0;
    if ((dtype == ML_I32 || dtype == ML_U8) && !(value >= low && value <= high && value == trunc(value)))
        return ml_fail(ML_ERR_DTYPE, "fill: %s cannot hold %g", ml_dtype_name(dtype), value);
    ml_op op = {.kind = ML_OP_FILL, .fill = {.value = value}};
    const ml_shape shape = ml_view_shape(&dst->view);
    ML_TRY(ml_op_set_out(&op, "fill", &shape, dtype, dst, 0));
    return ml_op_run(ctx, &op, NULL, &dst);
}

ml_status ml_copy(ml_context *ctx, const ml_tensor *src, ml_tensor *dst) {
    if (!src || !dst)
        return ml_fail(ML_ERR_VALUE, "copy: %s is NULL", src ? "dst" : "src");
    ml_op op = {.kind = ML_OP_COPY, .n_in = 1};
    const ml_shape shape = ml_view_shape(&dst->view);
    ML_TRY(ml_op_broadcast("copy", "src", &src->view, &shape, &op.in[0]));
    ML_TRY(ml_op_set_out(&op, "copy", &shape, dst->view.dtype, dst, 1u));
    return ml_op_run(ctx, &op, NULL, &dst);
}

ml_status ml_cast(ml_context *ctx, const ml_tensor *src, ml_dtype dtype, ml_tensor **out) {
    if (!src)
        return ml_fail(ML_ERR_VALUE, "cast: src is NULL");
    if ((unsigned)dtype >= ML_DTYPE_COUNT)
        return ml_fail(ML_ERR_DTYPE, "cast: %d is no dtype", (int)dtype);
    ml_op op = {.kind = ML_OP_COPY, .n_in = 1};
    op.in[0] = src->view;
    const ml_shape shape = ml_view_shape(&src->view);
    ML_TRY(ml_op_set_out(&op, "cast", &shape, dtype, *out, 1u));
    return ml_op_run(ctx, &op, NULL, out);
}
