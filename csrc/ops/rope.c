/* Rotary positions. */
#include "ops/ops.h"

#include <math.h>

#define NAME "rope"

static ml_status check_x(const ml_rope_args *args) {
    char text[ML_FORMAT_MAX];
    if (!args->x)
        return ml_fail(ML_ERR_VALUE, NAME ": x is NULL");
    const ml_view *x = &args->x->view;
    ml_view_format(x, text, sizeof text);
    if (!ml_dtype_is_float(x->dtype))
        return ml_fail(ML_ERR_DTYPE, NAME ": x %s is not of a floating-point dtype; cast it first", text);
    if (x->ndim < 2)
        return ml_fail(ML_ERR_SHAPE, NAME ": x %s is to have positions and elements as its last two axes", text);
    const int64_t width = x->shape[x->ndim - 1], dims = args->dims == 0 ? width : args->dims;
    if (dims < 0 || dims > width || dims % 2 != 0)
        return ml_fail(ML_ERR_SHAPE, NAME ": dims %lld of x %s; it is to be even and at most %lld", (long long)dims,
                       text, (long long)width);
    if (args->offsets && (x->ndim < 3 || x->shape[0] != args->n_offsets))
        return ml_fail(ML_ERR_SHAPE,
                       NAME ": %lld offsets do not fit x %s: one for each entry of the first axis of at "
                            "least three",
                       (long long)args->n_offsets, text);
    return ML_OK;
}

/* Offsets so large that a sum with a position would not be a whole number of double any more. */
static ml_status check_offset(int64_t offset) {
    const int64_t most = INT64_C(1) << 52;
    if (offset < -most || offset > most)
        return ml_fail(ML_ERR_VALUE, NAME ": offset %lld is beyond 2^52", (long long)offset);
    return ML_OK;
}

ml_status ml_rope(ml_context *ctx, const ml_rope_args *args, ml_tensor **out) {
    ML_TRY(ml_op_given(NAME, args, out));
    ML_TRY(check_x(args));
    if (!(args->base > 0.0) || isinf(args->base))
        return ml_fail(ML_ERR_VALUE, NAME ": base %g; it is to be positive and finite", args->base);
    if (!isfinite(args->scale))
        return ml_fail(ML_ERR_VALUE, NAME ": scale %g; it is to be finite", args->scale);
    ML_TRY(check_offset(args->offset));
    for (int64_t i = 0; args->offsets && i < args->n_offsets; i++)
        ML_TRY(check_offset(args->offsets[i]));
    const ml_view *x = &args->x->view;
    const ml_shape shape = ml_view_shape(x);
    const int64_t width = x->shape[x->ndim - 1];
    ml_op op;
    op.kind = ML_OP_ROPE;
    op.n_in = 1;
    op.n_out = 0;
    op.rope = (ml_rope_params){.length = x->shape[x->ndim - 2],
                               .width = width,
                               .dims = args->dims == 0 ? width : args->dims,
                               .offset = args->offset,
                               .offsets = args->offsets,
                               .base = args->base,
                               .scale = args->scale,
                               .interleaved = args->interleaved};
    op.in[0] = *x;
    ML_TRY(ml_op_set_out(&op, NAME, &shape, x->dtype, *out, 1u));
    return ml_op_run(ctx, &op, args->cache, out);
}
