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

/* A tensor of another device through the host: over its memory, lent to ctx's device for the call. */
static ml_status lend(ml_context *ctx, const ml_tensor *src, ml_tensor **out) {
    const ml_view *v = &src->view;
    void *data;
    int64_t low, high;
    ML_TRY(ml_tensor_data(src, &data)); /* waits for what is pending */
    ML_TRY(ml_view_byte_range(v, &low, &high));
    const ml_host_memory memory = {
        .data = v->buf->host ? (char *)v->buf->host + low : NULL, .size = (size_t)(high - low), .read_only = true};
    const ml_layout layout = {
        .dtype = v->dtype, .shape = ml_view_shape(v), .strides = v->strides, .byte_offset = v->offset - low};
    return ml_tensor_from_host(ctx, &memory, &layout, out);
}

static bool is_elsewhere(const ml_context *ctx, const ml_tensor *t) {
    return ctx && t->view.buf && t->view.buf->device != ml_context_device_of(ctx) && ml_view_size(&t->view) > 0;
}

ml_status ml_copy(ml_context *ctx, const ml_tensor *src, ml_tensor *dst) {
    if (!src || !dst)
        return ml_fail(ML_ERR_VALUE, "copy: %s is NULL", src ? "dst" : "src");
    if (is_elsewhere(ctx, src)) {
        ml_tensor *lent;
        ML_TRY(lend(ctx, src, &lent));
        const ml_status status = ml_copy(ctx, lent, dst);
        ml_tensor_release(lent);
        return status;
    }
    ml_op op = {.kind = ML_OP_COPY, .n_in = 1};
    const ml_shape shape = ml_view_shape(&dst->view);
    ML_TRY(ml_op_broadcast("copy", "src", &src->view, &shape, &op.in[0]));
    ML_TRY(ml_op_set_out(&op, "copy", &shape, dst->view.dtype, dst, 1u));
    return ml_op_run(ctx, &op, NULL, &dst);
}

ml_status ml_cast(ml_context *ctx, const ml_tensor *src, ml_dtype dtype, ml_tensor **out) {
    ML_TRY(ml_op_given("cast", src, out));
    if (is_elsewhere(ctx, src)) {
        ml_tensor *lent;
        ML_TRY(lend(ctx, src, &lent));
        const ml_status status = ml_cast(ctx, lent, dtype, out);
        ml_tensor_release(lent);
        return status;
    }
    if ((unsigned)dtype >= ML_DTYPE_COUNT)
        return ml_fail(ML_ERR_DTYPE, "cast: %d is no dtype", (int)dtype);
    ml_op op = {.kind = ML_OP_COPY, .n_in = 1};
    op.in[0] = src->view;
    const ml_shape shape = ml_view_shape(&src->view);
    ML_TRY(ml_op_set_out(&op, "cast", &shape, dtype, *out, 1u));
    return ml_op_run(ctx, &op, NULL, out);
}
