/* Entry of the dispatcher, kernel look-up, and the operations that have one policy only. */
#include "dispatch/dispatch.h"
#include "dispatch/gpu_layout.h"

ml_status ml_plan_op(const ml_op *op, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan) {
    switch (op->kind) {
    case ML_OP_MATMUL:
        return ml_plan_matmul(op, caps, prefs, plan);
    case ML_OP_SOFTMAX:
        return ml_plan_softmax(op, caps, prefs, plan);
    case ML_OP_SDPA:
        return ml_plan_sdpa(op, caps, prefs, plan);
    case ML_OP_MATMUL_RAGGED: /* one planned matmul per group, made by the runtime */
        *plan = (ml_plan){.op = op->kind, .composed = true};
        ml_plan_because(plan, ML_WHY_COMPOSED);
        ml_plan_cost(op, caps, plan);
        return ML_OK;
    case ML_OP_BINARY:
    case ML_OP_COPY:
    case ML_OP_FILL:
        return ml_plan_simple(op, caps, prefs, plan);
    case ML_OP_LAYER_NORM:
    case ML_OP_RMS_NORM:
        return ml_plan_norm(op, caps, prefs, plan);
    case ML_OP_GELU:
    case ML_OP_SILU:
    case ML_OP_SWIGLU:
        return ml_plan_activate(op, caps, prefs, plan);
    case ML_OP_ROPE:
        return ml_plan_rope(op, caps, prefs, plan);
    case ML_OP_KIND_COUNT:
        break;
    }
    return ml_fail(ML_ERR_VALUE, "plan: unknown operation %d", (int)op->kind);
}

/* Whether the device can run the row at all, whatever the case. */
static bool row_present(const ml_kernel_desc *row, const ml_caps *caps, const ml_prefs *prefs) {
    if (row->experimental && !prefs->exp_kernels)
        return false;
    if ((row->isa & ~caps->isa) != 0 || row->sm_min > caps->sm)
        return false;
    /* Without matrix units (on the CPU: a vector GEMM tier) only the scalar row of the tiled GEMM is left. */
    return row->op != ML_OP_MATMUL || row->family != ML_BACKEND_MLX || row->isa == 0 || caps->simdgroup_mm;
}

/* What keeps a row that is present from doing the case; ML_WHY_NONE when it can. */
static ml_why row_obstacle(const ml_kernel_desc *row, const ml_caps *caps, const ml_need *need) {
    uint32_t dtypes = row->dtypes;
    if (row->op == ML_OP_MATMUL && row->family == ML_BACKEND_MPS && caps->mps_dtypes != 0)
        dtypes &= caps->mps_dtypes;
    if (caps->device != ML_DEVICE_CPU && !caps->bfloat)
        dtypes &= ~ML_DTYPE_BIT(ML_BF16);
    if ((need->dtypes & ~dtypes) != 0)
        return ML_WHY_UNSUPPORTED_DTYPE;
    uint32_t missing = need->supports & ~row->supports;
    if (missing != 0) {
        static const struct {
            uint32_t bit;
            ml_why why;
        } reasons[] = {
            {ML_SUP_MIXED_DTYPES, ML_WHY_UNSUPPORTED_MIXED},
            {ML_SUP_BIAS, ML_WHY_UNSUPPORTED_BIAS},
            {ML_SUP_ACTIVATION, ML_WHY_UNSUPPORTED_ACTIVATION},
            {ML_SUP_ANY_STRIDES, ML_WHY_UNSUPPORTED_STRIDES},
            {ML_SUP_MASK, ML_WHY_UNSUPPORTED_MASK},
        };
        for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
            if (missing & reasons[i].bit)
                return reasons[i].why;
        return ML_WHY_UNSUPPORTED_OTHER;
    }
    if ((row->supports & ML_SUP_BF16_DOT) != 0 && (need->cases & ML_CASE_BF16_DOT) == 0)
        return ML_WHY_UNSUPPORTED_DTYPE;
    if ((row->supports & ML_SUP_F16_DOT) != 0 && (need->cases & ML_CASE_F16_DOT) == 0)
        return ML_WHY_UNSUPPORTED_DTYPE;
    if (row->max_n != 0 && need->n > row->max_n)
        return ML_WHY_UNSUPPORTED_SIZE;
    return (row->requires_cases & ~need->cases) != 0 ? ML_WHY_UNSUPPORTED_OTHER : ML_WHY_NONE;
}

/* What a row that can do the case is worth: how closely it is made for it, then rank. */
static int row_worth(const ml_kernel_desc *row, const ml_need *need) {
    const bool fits = (row->prefers & ~need->cases) == 0;
    return row->rank + (fits ? __builtin_popcount(row->prefers) << 24 : 0);
}

const ml_kernel_desc *ml_find_kernel(const ml_caps *caps, const ml_prefs *prefs, const ml_need *need, ml_why *why_not) {
    const ml_kernel_desc *best = NULL, *best_unable = NULL;
    ml_why obstacle_of_best = ML_WHY_BACKEND_ABSENT;
    for (int i = 0; i < caps->n_kernels; i++) {
        const ml_kernel_desc *row = &caps->kernels[i];
        if (row->op != need->op || row->family != need->family || !row_present(row, caps, prefs))
            continue;
        if (best && row_worth(row, need) <= row_worth(best, need))
            continue;
        ml_why obstacle = row_obstacle(row, caps, need);
        if (obstacle == ML_WHY_NONE) {
            best = row;
        } else if (!best_unable || row->rank > best_unable->rank) {
            best_unable = row;
            obstacle_of_best = obstacle;
        }
    }
    if (why_not)
        *why_not = best ? ML_WHY_NONE : obstacle_of_best;
    return best;
}

ml_status ml_plan_row(const ml_need *need, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan) {
    ml_why why_not;
    plan->kernel = ml_find_kernel(caps, prefs, need, &why_not);
    if (plan->kernel)
        return ML_OK;
    if (why_not == ML_WHY_BACKEND_ABSENT)
        return ml_fail(ML_ERR_UNSUPPORTED, "%s: the device has no kernel for it%s", ml_op_name(need->op),
                       caps->device == ML_DEVICE_CPU ? "" : "; a context of device cpu runs it");
    return ml_fail(ML_ERR_UNSUPPORTED, "%s: no kernel of this device can do it: %s", ml_op_name(need->op),
                   ml_why_text(why_not));
}

ml_status ml_plan_simple(const ml_op *op, const ml_caps *caps, const ml_prefs *prefs, ml_plan *plan) {
    *plan = (ml_plan){.op = op->kind};
    ml_need need = {.op = op->kind};
    if (caps->device != ML_DEVICE_CPU)
        need.cases = ml_gpu_simple_cases(op);
    for (int i = -1; i < op->n_in; i++) {
        if (op->kind == ML_OP_BINARY && i >= 0 && (i == 0 ? op->binary.a_is_value : op->binary.b_is_value))
            continue;
        const ml_view *v = i < 0 ? &op->out[0] : &op->in[i];
        need.dtypes |= ML_DTYPE_BIT(v->dtype);
        if (!ml_view_is_contiguous(v))
            need.supports |= ML_SUP_ANY_STRIDES;
    }
    uint32_t floats = need.dtypes & ML_FLOAT_DTYPES;
    if ((floats & (floats - 1)) != 0)
        need.supports |= ML_SUP_MIXED_DTYPES;
    ml_why why_not;
    plan->kernel = ml_find_kernel(caps, prefs, &need, &why_not);
    if (!plan->kernel)
        return ml_fail(ML_ERR_UNSUPPORTED, "%s: no kernel of this device can do it: %s", ml_op_name(op->kind),
                       ml_why_text(why_not));
    if (caps->device != ML_DEVICE_CPU && ml_gpu_checks_range(op))
        plan->scratch_bytes = (int64_t)sizeof(uint32_t);
    ml_plan_cost(op, caps, plan);
    return ML_OK;
}
