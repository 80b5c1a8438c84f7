/* Softmax: one threadgroup for each row. */
#include "device/gpu/gpu.h"

static void row_strides(const ml_view *v, int64_t strides[ML_GPU_ROW_DIMS], int64_t *step) {
    for (int d = 0; d < v->ndim - 1; d++)
        strides[d] = v->shape[d] > 1 ? v->strides[d] : 0;
    *step = v->shape[v->ndim - 1] > 1 ? v->strides[v->ndim - 1] : 0;
}

static bool has_unit_step(const ml_view *v) {
    return v->shape[v->ndim - 1] <= 1 || v->strides[v->ndim - 1] == 1;
}

/* 0-d and 1-d operands as one row. */
static ml_view at_least_2d(const ml_view *v) {
    ml_view r = *v;
    while (r.ndim < 2) {
        for (int d = r.ndim; d > 0; d--) {
            r.shape[d] = r.shape[d - 1];
            r.strides[d] = r.strides[d - 1];
        }
        r.shape[0] = 1;
        r.strides[0] = 0;
        r.ndim++;
    }
    return r;
}

ml_status ml_gpu_encode_softmax(ml_gpu_encoding *e) {
    const ml_op *op = e->args->op;
    const ml_softmax_params *p = &op->softmax;
    const ml_view x = at_least_2d(&op->in[0]), out = at_least_2d(&op->out[0]);
    const bool masked = p->mask != ML_MASK_NONE;
    ml_view mask = x;
    if (masked)
        mask = at_least_2d(&op->in[1]);
    if (p->rows == 0 || p->seq_k == 0)
        return ML_OK;
    if (p->seq_k > INT32_MAX || p->rows > INT32_MAX)
        return ml_fail(ML_ERR_UNSUPPORTED, "softmax: %lld rows of %lld are beyond what the GPU kernels count",
                       (long long)p->rows, (long long)p->seq_k);
    ml_gpu_softmax g = {.seq_k = (int32_t)p->seq_k,
                        .seq_q = (int32_t)p->seq_q,
                        .heads = x.ndim > 2 ? (int32_t)x.shape[x.ndim - 3] : 1,
                        .ndim = x.ndim - 1,
                        .scale = p->scale,
                        .softcap = p->softcap,
                        .query_offset = ml_gpu_clamp_offset(p->query_offset),
                        .window = p->window};
    for (int d = 0; d < ML_GPU_ROW_DIMS; d++)
        g.shape[d] = d < x.ndim - 1 ? (int32_t)x.shape[d] : 1;
    row_strides(&x, g.x_strides, &g.x_step);
    row_strides(&out, g.out_strides, &g.out_step);
    ML_TRY(ml_gpu_bind(e, 0, &x, false, &g.x_offset));
    if (masked) {
        row_strides(&mask, g.mask_strides, &g.mask_step);
        ML_TRY(ml_gpu_bind(e, 1, &mask, false, &g.mask_offset));
    }
    ML_TRY(ml_gpu_bind(e, 2, &out, true, &g.out_offset));
    if (p->has_sinks) {
        const ml_view *sinks = &op->in[2];
        g.sink_step = sinks->shape[0] > 1 ? sinks->strides[0] : 0;
        ML_TRY(ml_gpu_bind(e, 4, sinks, false, &g.sink_offset));
    }
    const bool unit_step = has_unit_step(&x) && has_unit_step(&out) && (!masked || has_unit_step(&mask));
    const int last = x.ndim - 1;
    ml_gpu_set_int(e, ML_GPU_FC_MASK_KIND, (int)p->mask);
    ml_gpu_set_int(e, ML_GPU_FC_MASK_DTYPE, p->mask == ML_MASK_ADDITIVE ? (int)mask.dtype : 0);
    ml_gpu_set_bool(e, ML_GPU_FC_CAUSAL, p->causal);
    ml_gpu_set_bool(e, ML_GPU_FC_HAS_WINDOW, p->window > 0);
    ml_gpu_set_bool(e, ML_GPU_FC_HAS_SINKS, p->has_sinks);
    ml_gpu_set_int(e, ML_GPU_FC_SINK_DTYPE, p->has_sinks ? (int)op->in[2].dtype : 0);
    ml_gpu_set_bool(e, ML_GPU_FC_HAS_SOFTCAP, p->softcap != 0.0f);
    ml_gpu_set_bool(e, ML_GPU_FC_LOG, p->log);
    ml_gpu_set_bool(e, ML_GPU_FC_SCORES, p->scores);
    ml_gpu_set_bool(e, ML_GPU_FC_SIMD_REDUCE, e->args->plan->simd_reduction);
    ml_gpu_set_bool(e, ML_GPU_FC_UNIT_STEP, unit_step);
    ml_gpu_set_bool(e, ML_GPU_FC_VECTOR, unit_step && ml_gpu_is_vector(&x, last) && ml_gpu_is_vector(&out, last));
    ml_gpu_params(e, 3, &g, sizeof g);
    ML_TRY(ml_gpu_grid(e, p->rows, 1, 1));
    /* `block` takes four elements a thread and step. */
    const int threads = e->args->plan->geometry.threadgroup[0];
    ml_gpu_threads(e, e->args->plan->family == ML_SOFTMAX_BLOCK && threads > 256 ? 256 : threads, 1, 1);
    return ml_gpu_run(e, NULL, ml_gpu_type_of(x.dtype));
}
