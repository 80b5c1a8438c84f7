/* Norms: one kernel family; what remains to decide is how rows are walked. */
#include "dispatch/dispatch.h"
#include "dispatch/norm_layout.h"

static int64_t round_up(int64_t x, int64_t to) {
    return (x + to - 1) / to * to;
}

static bool has_contiguous_rows(const ml_view *v, int64_t length) {
    return length <= 1 || v->strides[v->ndim - 1] == 1;
}

/* A vector of `length` parameters that kernels can read as it lies. */
static bool is_plain(const ml_view *v, int64_t length) {
    return v->dtype == ML_F32 && (length <= 1 || v->strides[0] == 1);
}

void ml_norm_layout_of(const ml_op *op, ml_norm_layout *out) {
    const ml_norm_params *p = &op->norm;
    const int64_t n = p->length;
    *out = (ml_norm_layout){.rows = p->rows, .length = n};
    out->staged = !has_contiguous_rows(&op->in[ML_IN_X], n) || !has_contiguous_rows(&op->out[0], n);
    if (p->has_residual)
        out->staged =
            out->staged || !has_contiguous_rows(&op->in[ML_IN_RESIDUAL], n) || !has_contiguous_rows(&op->out[1], n);
    out->kept = n <= ML_NORM_KEEP_LEN;
    out->group = ML_NORM_BLOCK_LEN / (n > 0 ? n : 1);
    out->group = out->group < 1 ? 1 : out->group > ML_NORM_MAX_GROUP ? ML_NORM_MAX_GROUP : out->group;
    out->weight_copied = p->has_weight && !is_plain(&op->in[ML_IN_WEIGHT], n);
    out->offset_copied = p->has_offset && !is_plain(&op->in[ML_IN_OFFSET], n);
    out->shared_bytes = (out->weight_copied + out->offset_copied) * round_up(n * (int64_t)sizeof(float), 64);
    if (out->staged) {
        out->row_floats = round_up(out->kept ? n : ML_NORM_BLOCK_LEN, 16);
        /* A line more, so that the parts of two threads never share one by prefetching. */
        out->worker_bytes = out->group * out->row_floats * (int64_t)sizeof(float) + 64;
    }
}

ml_status ml_plan_norm(const ml_op *op, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan) {
    *plan = (ml_plan){.op = op->kind};
    const ml_norm_params *p = &op->norm;
    const ml_dtype dtype = op->in[ML_IN_X].dtype;
    ml_need need = {.op = op->kind, .dtypes = ML_DTYPE_BIT(dtype), .n = p->length};
    ml_norm_layout layout;
    ml_norm_layout_of(op, &layout);
    if (layout.staged)
        need.supports |= ML_SUP_ANY_STRIDES;
    for (int i = ML_IN_WEIGHT; i <= ML_IN_OFFSET; i++) {
        if (!(i == ML_IN_WEIGHT ? p->has_weight : p->has_offset))
            continue;
        need.dtypes |= ML_DTYPE_BIT(op->in[i].dtype);
        if (op->in[i].dtype != dtype)
            need.supports |= ML_SUP_MIXED_DTYPES;
    }
    ML_TRY(ml_plan_row(&need, caps, prefs, plan));
    if (p->rows > 0 && p->length > 0) {
        if (layout.staged)
            ml_plan_because(plan, ML_WHY_GATHERED);
        ml_plan_because(plan, layout.kept ? ML_WHY_ROW_KEPT : ML_WHY_ROW_BLOCKS);
        if (caps->device == ML_DEVICE_CPU)
            plan->scratch_bytes = layout.shared_bytes + (caps->threads > 0 ? caps->threads : 1) * layout.worker_bytes;
    }
    ml_plan_cost(op, caps, plan);
    return ML_OK;
}
