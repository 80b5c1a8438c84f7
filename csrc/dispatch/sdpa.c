/* Attention policy: DESIGN.md section 4. */
#include "dispatch/dispatch.h"
#include "dispatch/gpu_layout.h"
#include "dispatch/sdpa_layout.h"

#define VECTOR_MAX_Q 8

static ml_need need_of(const ml_op *op, ml_sdpa_variant family) {
    const ml_sdpa_params *p = &op->sdpa;
    ml_need need = {.op = ML_OP_SDPA, .family = family, .n = p->dim_qk > p->dim_v ? p->dim_qk : p->dim_v};
    const ml_view *views[4] = {&op->in[ML_IN_Q], &op->in[ML_IN_K], &op->in[ML_IN_V], &op->out[0]};
    for (int i = 0; i < 4; i++) {
        const ml_view *v = views[i];
        need.dtypes |= ML_DTYPE_BIT(v->dtype);
        if (v->shape[v->ndim - 1] > 1 && v->strides[v->ndim - 1] != 1)
            need.supports |= ML_SUP_ANY_STRIDES;
    }
    if ((need.dtypes & (need.dtypes - 1)) != 0)
        need.supports |= ML_SUP_MIXED_DTYPES;
    need.supports |= (p->causal ? ML_SUP_CAUSAL : 0u) | (p->mask != ML_MASK_NONE ? ML_SUP_MASK : 0u) |
                     (p->window > 0 ? ML_SUP_WINDOW : 0u) | (p->has_sinks ? ML_SUP_SINKS : 0u) |
                     (p->softcap != 0.0f ? ML_SUP_SOFTCAP : 0u);
    return need;
}

/* Of a composed attention: one f32 for each pair of query and key. */
static int64_t scores_bytes(const ml_sdpa_params *p) {
    int64_t bytes = (int64_t)sizeof(float);
    const int64_t dims[] = {p->batch, p->heads_q, p->len_q, p->len_k};
    for (int i = 0; i < 4; i++)
        if (__builtin_mul_overflow(bytes, dims[i], &bytes))
            return INT64_MAX;
    return bytes;
}

ml_status ml_plan_sdpa(const ml_op *op, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan) {
    *plan = (ml_plan){.op = ML_OP_SDPA};
    const ml_sdpa_params *p = &op->sdpa;
    bool dispatched = prefs->dispatch_ops >> ML_OP_SDPA & 1u;
    bool by_arg = p->variant != ML_SDPA_AUTO;
    ml_sdpa_variant forced = by_arg ? p->variant : dispatched ? prefs->sdpa_variant : ML_SDPA_AUTO;
    ml_sdpa_variant wanted;
    if (forced != ML_SDPA_AUTO) {
        wanted = forced;
        ml_plan_because(plan, by_arg ? ML_WHY_FORCED_VARIANT_ARG : ML_WHY_FORCED_VARIANT_PREF);
    } else if (!dispatched) {
        wanted = ML_SDPA_COMPOSED;
        ml_plan_because(plan, ML_WHY_NOT_DISPATCHED);
    } else {
        wanted = p->len_q <= VECTOR_MAX_Q ? ML_SDPA_VECTOR : ML_SDPA_TILED;
        ml_plan_because(plan, wanted == ML_SDPA_VECTOR ? ML_WHY_VECTOR : ML_WHY_TILED);
    }

    while (wanted != ML_SDPA_COMPOSED) {
        ml_why why_not;
        ml_need need = need_of(op, wanted);
        if (caps->device != ML_DEVICE_CPU)
            need.cases = ml_gpu_sdpa_cases(op);
        else if (op->in[ML_IN_Q].dtype == ML_BF16 && op->in[ML_IN_K].dtype == ML_BF16 &&
                 prefs->precision != ML_PRECISION_HIGH)
            need.cases = ML_CASE_BF16_DOT;
        plan->kernel = ml_find_kernel(caps, prefs, &need, &why_not);
        if (plan->kernel)
            break;
        ml_plan_because(plan, why_not);
        if (prefs->strict && wanted == forced)
            return ml_fail(ML_ERR_UNSUPPORTED, "sdpa: variant %s%s cannot do head sizes %lld and %lld (%s): %s",
                           ml_sdpa_variant_name(wanted), by_arg ? " (argument)" : " (METALLIC_SDPA_VARIANT)",
                           (long long)p->dim_qk, (long long)p->dim_v, ml_dtype_name(op->in[ML_IN_Q].dtype),
                           ml_why_text(why_not));
        /* The other fused variant computes the same for any number of queries; composed where neither can. */
        bool tried_both = plan->family != ML_SDPA_AUTO;
        plan->family = wanted;
        wanted = tried_both ? ML_SDPA_COMPOSED : wanted == ML_SDPA_VECTOR ? ML_SDPA_TILED : ML_SDPA_VECTOR;
    }
    plan->family = wanted;
    if (wanted == ML_SDPA_COMPOSED) {
        plan->composed = true;
        plan->scratch_bytes = scores_bytes(p);
        ml_plan_because(plan, ML_WHY_COMPOSED);
    }
    if (plan->kernel && caps->device == ML_DEVICE_CPU)
        plan->scratch_bytes = ml_sdpa_scratch_bytes(op, plan->kernel, caps->threads);
    else if (plan->kernel && wanted == ML_SDPA_VECTOR)
        plan->scratch_bytes = ml_gpu_sdpa_scratch_bytes(p);
    ml_plan_cost(op, caps, plan);
    return ML_OK;
}
