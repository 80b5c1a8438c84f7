/* Softmax policy: DESIGN.md section 4. */
#include "dispatch/dispatch.h"
#include "dispatch/sdpa_layout.h"
#include "dispatch/softmax_layout.h"

static int64_t floor_power_of_two(int64_t x) {
    int64_t p = 1;
    while (p <= x / 2)
        p *= 2;
    return p;
}

/* One threadgroup per row; as many threads as the row can use. */
static void set_geometry(const ml_op *op, const ml_caps *caps, ml_plan *plan) {
    int64_t limit = caps->max_threads_per_threadgroup > 0 ? caps->max_threads_per_threadgroup : 1;
    int64_t threads = op->softmax.seq_k > 1 ? floor_power_of_two(op->softmax.seq_k) : 1;
    if (threads > limit)
        threads = floor_power_of_two(limit);
    int64_t rows = op->softmax.rows > INT32_MAX ? INT32_MAX : op->softmax.rows;
    plan->simd_reduction = caps->simdgroup_reduce;
    plan->geometry.threadgroup[0] = (int32_t)threads;
    plan->geometry.threadgroup[1] = plan->geometry.threadgroup[2] = 1;
    plan->geometry.grid[0] = (int32_t)rows;
    plan->geometry.grid[1] = plan->geometry.grid[2] = 1;
    /* Partial maxima or sums: one f32 per simdgroup of 32, or one per thread. */
    int64_t partials = caps->simdgroup_reduce ? (threads + 31) / 32 : threads;
    plan->geometry.threadgroup_memory = (int32_t)(partials * 4);
}

ml_status ml_plan_softmax(const ml_op *op, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan) {
    *plan = (ml_plan){.op = ML_OP_SOFTMAX};
    const ml_softmax_params *p = &op->softmax;
    bool dispatched = prefs->dispatch_ops >> ML_OP_SOFTMAX & 1u;
    bool by_arg = p->variant != ML_SOFTMAX_AUTO;
    ml_softmax_variant forced = by_arg ? p->variant : dispatched ? prefs->softmax_variant : ML_SOFTMAX_AUTO;
    ml_softmax_variant wanted;
    if (forced != ML_SOFTMAX_AUTO) {
        wanted = forced;
        ml_plan_because(plan, by_arg ? ML_WHY_FORCED_VARIANT_ARG : ML_WHY_FORCED_VARIANT_PREF);
    } else if (!dispatched) {
        wanted = ML_SOFTMAX_BLOCK;
        ml_plan_because(plan, ML_WHY_NOT_DISPATCHED);
    } else {
        wanted = p->seq_k <= prefs->softmax_vec_max_k ? ML_SOFTMAX_VEC : ML_SOFTMAX_BLOCK;
        ml_plan_because(plan, wanted == ML_SOFTMAX_VEC ? ML_WHY_VEC : ML_WHY_BLOCK);
    }

    ml_need need = {.op = ML_OP_SOFTMAX,
                    .family = wanted,
                    .dtypes = ML_DTYPE_BIT(op->in[0].dtype) | ML_DTYPE_BIT(op->out[0].dtype),
                    .n = p->seq_k};
    int last = op->in[0].ndim - 1;
    if (p->seq_k > 1 && (op->in[0].strides[last] != 1 || op->out[0].strides[last] != 1))
        need.supports |= ML_SUP_ANY_STRIDES;
    if (op->in[0].dtype != op->out[0].dtype)
        need.supports |= ML_SUP_MIXED_DTYPES;
    if (p->scores)
        need.supports |= ML_SUP_WINDOW | ML_SUP_SINKS | ML_SUP_SOFTCAP;
    need.supports |= (p->causal ? ML_SUP_CAUSAL : 0u) | (p->mask != ML_MASK_NONE ? ML_SUP_MASK : 0u);

    ml_why why_not;
    plan->kernel = ml_find_kernel(caps, prefs, &need, &why_not);
    if (!plan->kernel) {
        ml_why first = why_not;
        ml_plan_because(plan, first);
        bool may_fall_back = !(prefs->strict && forced != ML_SOFTMAX_AUTO);
        if (may_fall_back) {
            need.family = wanted == ML_SOFTMAX_VEC ? ML_SOFTMAX_BLOCK : ML_SOFTMAX_VEC;
            plan->kernel = ml_find_kernel(caps, prefs, &need, &why_not);
        }
        if (!plan->kernel)
            return ml_fail(ML_ERR_UNSUPPORTED, "softmax: %s%s%s cannot do rows of %lld (%s): %s",
                           may_fall_back ? "no kernel of this device" : "variant ",
                           may_fall_back ? "" : ml_softmax_variant_name(wanted),
                           may_fall_back ? ""
                           : by_arg      ? " (argument)"
                                         : " (METALLIC_SOFTMAX_VARIANT)",
                           (long long)p->seq_k, ml_dtype_name(op->in[0].dtype), ml_why_text(first));
        ml_plan_because(plan, ML_WHY_FELL_BACK_GENERIC);
    }
    plan->family = need.family;
    set_geometry(op, caps, plan);
    if (caps->device == ML_DEVICE_CPU && p->scores)
        plan->scratch_bytes = ml_sdpa_scores_scratch_bytes(p->seq_k, caps->threads);
    else if (caps->device == ML_DEVICE_CPU && p->rows > 0 && p->seq_k > 0)
        plan->scratch_bytes =
            ml_softmax_scratch_bytes(op, (ml_softmax_variant)plan->family, caps->threads > 0 ? caps->threads : 1);
    ml_plan_cost(op, caps, plan);
    return ML_OK;
}
