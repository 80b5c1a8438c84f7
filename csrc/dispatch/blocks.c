/* Activations and rotary positions: one kernel family each, whatever the shape. */
#include "dispatch/dispatch.h"
#include "dispatch/rope_layout.h"

static void need_view(ml_need *need, const ml_view *v, const ml_view *out) {
    need->dtypes |= ML_DTYPE_BIT(v->dtype);
    if (!ml_view_is_contiguous(v))
        need->supports |= ML_SUP_ANY_STRIDES;
    if (v->dtype != out->dtype)
        need->supports |= ML_SUP_MIXED_DTYPES;
}

ml_status ml_plan_activate(const ml_op *op, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan) {
    *plan = (ml_plan){.op = op->kind};
    ml_need need = {.op = op->kind};
    need_view(&need, &op->out[0], &op->out[0]);
    for (int i = 0; i < op->n_in; i++)
        need_view(&need, &op->in[i], &op->out[0]);
    ML_TRY(ml_plan_row(&need, caps, prefs, plan));
    if (need.supports & ML_SUP_ANY_STRIDES)
        ml_plan_because(plan, ML_WHY_GATHERED);
    ml_plan_cost(op, caps, plan);
    return ML_OK;
}

ml_status ml_plan_rope(const ml_op *op, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan) {
    *plan = (ml_plan){.op = op->kind};
    const ml_view *x = &op->in[0], *out = &op->out[0];
    const int last = x->ndim - 1;
    ml_need need = {.op = op->kind, .dtypes = ML_DTYPE_BIT(x->dtype) | ML_DTYPE_BIT(out->dtype), .n = op->rope.width};
    if (op->rope.width > 1 && (x->strides[last] != 1 || out->strides[last] != 1))
        need.supports |= ML_SUP_ANY_STRIDES;
    ML_TRY(ml_plan_row(&need, caps, prefs, plan));
    if (ml_view_size(out) > 0) {
        if (need.supports & ML_SUP_ANY_STRIDES)
            ml_plan_because(plan, ML_WHY_GATHERED);
        if (caps->device == ML_DEVICE_CPU)
            plan->scratch_bytes = ml_rope_scratch_bytes(&op->rope, caps->threads > 0 ? caps->threads : 1);
    }
    ml_plan_cost(op, caps, plan);
    return ML_OK;
}
