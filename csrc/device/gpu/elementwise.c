/* Element-wise operations, copies between any strides, casts, fills. */
#include "device/gpu/gpu.h"

#include <string.h>

/* Operands of one shape, outermost dim first. views[0] is the output. */
typedef struct nest {
    ml_view views[3];
    int n;
    bool contiguous; /* one dim, unit strides, groups of four aligned */
} nest;

static bool is_run(const ml_view *v) {
    return v->ndim == 1 && (v->shape[0] <= 1 || v->strides[0] == 1) && ml_gpu_is_vector(v, 0);
}

static void set_nest(nest *t, bool reorder) {
    ml_views_coalesce(t->views, t->n, reorder);
    t->contiguous = true;
    for (int i = 0; i < t->n; i++) {
        ml_view *v = &t->views[i];
        if (v->ndim == 0) {
            v->ndim = 1;
            v->shape[0] = 1;
            v->strides[0] = 1;
        }
        t->contiguous = t->contiguous && is_run(v);
    }
}

static void strides_of(const ml_view *v, int64_t strides[ML_GPU_DIMS]) {
    for (int d = 0; d < v->ndim; d++)
        strides[d] = v->shape[d] > 1 ? v->strides[d] : 0;
}

static void set_params(const nest *t, ml_gpu_elementwise *g) {
    const ml_view *out = &t->views[0];
    *g = (ml_gpu_elementwise){.size = ml_view_size(out), .ndim = out->ndim};
    for (int d = 0; d < ML_GPU_DIMS; d++)
        g->shape[d] = d < out->ndim ? out->shape[d] : 1;
    strides_of(out, g->out_strides);
}

static ml_status set_grid(ml_gpu_encoding *e, const nest *t) {
    const ml_view *out = &t->views[0];
    const int last = out->ndim - 1;
    e->launch.grid_in_threads = true;
    if (t->contiguous) {
        const int64_t groups = (out->shape[0] + 3) / 4;
        ml_gpu_threads(e, groups < 256 ? (int)groups : 256, 1, 1);
        return ml_gpu_grid(e, groups, 1, 1);
    }
    const int64_t inner = out->shape[last], next = last > 0 ? out->shape[last - 1] : 1;
    int64_t others = 1;
    for (int d = 0; d < last - 1; d++)
        others *= out->shape[d];
    const int x = inner < 64 ? (int)inner : 64, y = 256 / x < next ? 256 / x : (int)next;
    ml_gpu_threads(e, x, y, 1);
    return ml_gpu_grid(e, inner, next, others);
}

static ml_status bind_status(ml_gpu_encoding *e, bool checked) {
    if (!checked)
        return ML_OK;
    ml_buffer *status = e->args->scratch_buffer;
    if (!status || !status->host)
        return ml_fail(ML_ERR_DEVICE, "%s: there is no memory to report values out of range",
                       ml_op_name(e->args->op->kind));
    memset(status->host, 0, sizeof(uint32_t)); /* fresh from the pool: nothing uses it yet */
    e->args->range_checked = true;
    return ml_gpu_bind_buffer(e, 4, status, sizeof(uint32_t), true);
}

ml_status ml_gpu_encode_binary(ml_gpu_encoding *e) {
    const ml_op *op = e->args->op;
    const ml_binary_params *p = &op->binary;
    nest t = {.views = {op->out[0]}, .n = 1};
    int place[2] = {0, 0};
    for (int i = 0; i < 2; i++)
        if (!(i == 0 ? p->a_is_value : p->b_is_value)) {
            place[i] = t.n;
            t.views[t.n++] = op->in[i];
        }
    set_nest(&t, true);
    ml_gpu_elementwise g;
    set_params(&t, &g);
    g.a_value = p->a_is_value ? (float)p->a_value : 0.0f;
    g.b_value = p->b_is_value ? (float)p->b_value : 0.0f;
    const bool integer = (e->args->plan->kernel->requires_cases & ML_CASE_INTEGER) != 0;
    if (integer) {
        g.a_integer = p->a_is_value ? (int32_t)p->a_value : 0;
        g.b_integer = p->b_is_value ? (int32_t)p->b_value : 0;
    }
    ML_TRY(ml_gpu_bind(e, 0, &t.views[0], true, &g.out_offset));
    if (place[0]) {
        ML_TRY(ml_gpu_bind(e, 1, &t.views[place[0]], false, &g.a_offset));
        strides_of(&t.views[place[0]], g.a_strides);
    }
    if (place[1]) {
        ML_TRY(ml_gpu_bind(e, 2, &t.views[place[1]], false, &g.b_offset));
        strides_of(&t.views[place[1]], g.b_strides);
    }
    const bool checked = e->args->plan->scratch_bytes > 0;
    ml_gpu_set_int(e, ML_GPU_FC_BINARY_KIND, (int)p->kind);
    ml_gpu_set_int(e, ML_GPU_FC_A_DTYPE, (int)op->in[0].dtype);
    ml_gpu_set_int(e, ML_GPU_FC_B_DTYPE, (int)op->in[1].dtype);
    ml_gpu_set_int(e, ML_GPU_FC_OUT_DTYPE, (int)op->out[0].dtype);
    ml_gpu_set_bool(e, ML_GPU_FC_A_IS_VALUE, p->a_is_value);
    ml_gpu_set_bool(e, ML_GPU_FC_B_IS_VALUE, p->b_is_value);
    ml_gpu_set_bool(e, ML_GPU_FC_CONTIGUOUS, t.contiguous);
    ml_gpu_set_bool(e, ML_GPU_FC_CHECK_RANGE, checked);
    ML_TRY(bind_status(e, checked));
    ml_gpu_params(e, 3, &g, sizeof g);
    ML_TRY(set_grid(e, &t));
    return ml_gpu_run(e, NULL, ML_GPU_TYPE_ANY);
}

/* copy_transpose: the two innermost dims, of which a runs along the second. */
static ml_status run_transpose(ml_gpu_encoding *e, const nest *t, ml_gpu_elementwise *g) {
    const ml_view *out = &t->views[0];
    const int last = out->ndim - 1;
    int64_t others = 1;
    for (int d = 0; d < last - 1; d++)
        others *= out->shape[d];
    ml_gpu_params(e, 3, g, sizeof *g);
    ML_TRY(ml_gpu_grid(e, (out->shape[last] + 31) / 32, (out->shape[last - 1] + 31) / 32, others));
    ml_gpu_threads(e, e->variant->threadgroup[0], e->variant->threadgroup[1], e->variant->threadgroup[2]);
    return ml_gpu_run(e, NULL, ML_GPU_TYPE_ANY);
}

/* Brings the dim along which a runs next to the innermost one. */
static void bring_next(nest *t) {
    ml_view *out = &t->views[0], *a = &t->views[1];
    const int last = out->ndim - 1;
    int along = last - 1;
    for (int d = 0; d < last; d++)
        if (a->strides[d] == 1)
            along = d;
    for (int i = 0; i < 2; i++) {
        ml_view *v = &t->views[i];
        const int64_t shape = v->shape[along], stride = v->strides[along];
        v->shape[along] = v->shape[last - 1];
        v->strides[along] = v->strides[last - 1];
        v->shape[last - 1] = shape;
        v->strides[last - 1] = stride;
    }
}

ml_status ml_gpu_encode_copy(ml_gpu_encoding *e) {
    const ml_op *op = e->args->op;
    const uint32_t cases = e->args->plan->kernel->requires_cases;
    nest t = {.views = {op->out[0], op->in[0]}, .n = 2};
    set_nest(&t, true);
    const bool transpose = (cases & ML_CASE_TRANSPOSE) != 0;
    if (transpose && t.views[0].ndim < 2)
        return ml_fail(ML_ERR_UNSUPPORTED, "copy: a transpose has two dims");
    if (transpose)
        bring_next(&t);
    ml_gpu_elementwise g;
    set_params(&t, &g);
    strides_of(&t.views[1], g.a_strides);
    ML_TRY(ml_gpu_bind(e, 0, &t.views[0], true, &g.out_offset));
    ML_TRY(ml_gpu_bind(e, 1, &t.views[1], false, &g.a_offset));
    if (cases & ML_CASE_SAME_DTYPE) {
        ml_gpu_set_int(e, ML_GPU_FC_ELEMENT_BYTES, (int)ml_dtype_size_of(op->out[0].dtype));
        if (transpose)
            return run_transpose(e, &t, &g);
        ml_gpu_set_bool(e, ML_GPU_FC_CONTIGUOUS, t.contiguous);
    } else {
        const bool checked = e->args->plan->scratch_bytes > 0;
        ml_gpu_set_int(e, ML_GPU_FC_A_DTYPE, (int)op->in[0].dtype);
        ml_gpu_set_int(e, ML_GPU_FC_OUT_DTYPE, (int)op->out[0].dtype);
        ml_gpu_set_bool(e, ML_GPU_FC_CONTIGUOUS, t.contiguous);
        ml_gpu_set_bool(e, ML_GPU_FC_CHECK_RANGE, checked);
        ML_TRY(bind_status(e, checked));
    }
    ml_gpu_params(e, 3, &g, sizeof g);
    ML_TRY(set_grid(e, &t));
    return ml_gpu_run(e, NULL, ML_GPU_TYPE_ANY);
}

ml_status ml_gpu_encode_fill(ml_gpu_encoding *e) {
    const ml_op *op = e->args->op;
    const ml_dtype dtype = op->out[0].dtype;
    nest t = {.views = {op->out[0]}, .n = 1};
    set_nest(&t, true);
    ml_gpu_elementwise g;
    set_params(&t, &g);
    ml_store_element(dtype, &g.fill_bits, op->fill.value); /* little-endian: in the low bytes */
    ML_TRY(ml_gpu_bind(e, 0, &t.views[0], true, &g.out_offset));
    ml_gpu_set_int(e, ML_GPU_FC_ELEMENT_BYTES, (int)ml_dtype_size_of(dtype));
    ml_gpu_set_bool(e, ML_GPU_FC_CONTIGUOUS, t.contiguous);
    ml_gpu_params(e, 3, &g, sizeof g);
    ML_TRY(set_grid(e, &t));
    return ml_gpu_run(e, NULL, ML_GPU_TYPE_ANY);
}
