/* Attention: few queries (one pass, or two where the keys are split), and tiles of queries. */
#include "device/gpu/gpu.h"
#include "dispatch/gpu_layout.h"

static ml_gpu_heads heads_of(const ml_view *v, int64_t offset) {
    int64_t s[4];
    for (int d = 0; d < 4; d++)
        s[d] = v->shape[d] > 1 ? v->strides[d] : 0;
    return (ml_gpu_heads){.offset = offset, .batch = s[0], .head = s[1], .row = s[2], .step = s[3]};
}

static bool has_unit_step(const ml_view *v) {
    return v->shape[3] <= 1 || v->strides[3] == 1;
}

static void set_constants(ml_gpu_encoding *e, bool two_pass) {
    const ml_op *op = e->args->op;
    const ml_sdpa_params *p = &op->sdpa;
    const ml_view *q = &op->in[ML_IN_Q], *k = &op->in[ML_IN_K], *v = &op->in[ML_IN_V];
    const bool unit = has_unit_step(q) && has_unit_step(k) && has_unit_step(v) && has_unit_step(&op->out[0]);
    ml_gpu_set_int(e, ML_GPU_FC_OUT_DTYPE, (int)op->out[0].dtype);
    ml_gpu_set_bool(e, ML_GPU_FC_HAS_SINKS, p->has_sinks);
    ml_gpu_set_int(e, ML_GPU_FC_SINK_DTYPE, p->has_sinks ? (int)op->in[ML_IN_SINKS].dtype : 0);
    ml_gpu_set_int(e, ML_GPU_FC_A_DTYPE, (int)q->dtype);
    ml_gpu_set_int(e, ML_GPU_FC_MASK_KIND, (int)p->mask);
    ml_gpu_set_int(e, ML_GPU_FC_MASK_DTYPE, p->mask == ML_MASK_ADDITIVE ? (int)op->in[ML_IN_MASK].dtype : 0);
    ml_gpu_set_bool(e, ML_GPU_FC_CAUSAL, p->causal);
    ml_gpu_set_bool(e, ML_GPU_FC_HAS_WINDOW, p->window > 0);
    ml_gpu_set_bool(e, ML_GPU_FC_HAS_SOFTCAP, p->softcap != 0.0f);
    ml_gpu_set_bool(e, ML_GPU_FC_UNIT_STEP, unit);
    ml_gpu_set_bool(e, ML_GPU_FC_VECTOR, unit && ml_gpu_is_vector(k, 3) && ml_gpu_is_vector(v, 3));
    ml_gpu_set_bool(e, ML_GPU_FC_TWO_PASS, two_pass);
}

static ml_status bind(ml_gpu_encoding *e, ml_gpu_sdpa *g) {
    const ml_op *op = e->args->op;
    const ml_sdpa_params *p = &op->sdpa;
    int64_t offset;
    ML_TRY(ml_gpu_bind(e, 0, &op->in[ML_IN_Q], false, &offset));
    g->q = heads_of(&op->in[ML_IN_Q], offset);
    ML_TRY(ml_gpu_bind(e, 1, &op->in[ML_IN_K], false, &offset));
    g->k = heads_of(&op->in[ML_IN_K], offset);
    ML_TRY(ml_gpu_bind(e, 2, &op->in[ML_IN_V], false, &offset));
    g->v = heads_of(&op->in[ML_IN_V], offset);
    if (p->mask != ML_MASK_NONE) {
        ML_TRY(ml_gpu_bind(e, 5, &op->in[ML_IN_MASK], false, &offset));
        g->mask = heads_of(&op->in[ML_IN_MASK], offset);
    }
    return ML_OK;
}

static ml_status bind_result(ml_gpu_encoding *e, ml_gpu_sdpa *g) {
    const ml_op *op = e->args->op;
    int64_t offset;
    ML_TRY(ml_gpu_bind(e, 3, &op->out[0], true, &offset));
    g->out = heads_of(&op->out[0], offset);
    if (op->sdpa.has_sinks) {
        const ml_view *sinks = &op->in[ML_IN_SINKS];
        ML_TRY(ml_gpu_bind(e, 6, sinks, false, &g->sink_offset));
        g->sink_step = sinks->shape[0] > 1 ? sinks->strides[0] : 0;
    }
    return ML_OK;
}

static ml_status check_sizes(const ml_sdpa_params *p) {
    const int64_t sizes[] = {p->batch, p->heads_q, p->len_q, p->len_k, p->dim_qk, p->dim_v};
    for (int i = 0; i < 6; i++)
        if (sizes[i] > INT32_MAX / 2)
            return ml_fail(ML_ERR_UNSUPPORTED, "sdpa: a dimension of %lld is beyond what the GPU kernels count",
                           (long long)sizes[i]);
    return ML_OK;
}

ml_status ml_gpu_encode_sdpa(ml_gpu_encoding *e) {
    const ml_gpu_variant *variant = e->variant;
    const ml_sdpa_params *p = &e->args->op->sdpa;
    ML_TRY(check_sizes(p));
    const bool tiled = variant->bq > 0;
    const ml_gpu_splits splits = tiled ? (ml_gpu_splits){1, p->len_k} : ml_gpu_sdpa_splits(p);
    const bool two_pass = splits.n > 1;
    ml_gpu_sdpa g = {.batch = (int32_t)p->batch,
                     .heads_q = (int32_t)p->heads_q,
                     .heads_kv = (int32_t)p->heads_kv,
                     .len_q = (int32_t)p->len_q,
                     .len_k = (int32_t)p->len_k,
                     .dim_qk = (int32_t)p->dim_qk,
                     .dim_v = (int32_t)p->dim_v,
                     .splits = (int32_t)splits.n,
                     .keys_per_split = (int32_t)splits.keys,
                     .scale = p->scale,
                     .softcap = p->softcap,
                     .query_offset = ml_gpu_clamp_offset(p->query_offset),
                     .window = p->window};
    const ml_gpu_type type = ml_gpu_type_of(e->args->op->in[ML_IN_K].dtype);
    const int64_t rows = p->heads_q / p->heads_kv * p->len_q; /* that share a key/value head */
    const size_t partial_bytes = (size_t)ml_gpu_sdpa_scratch_bytes(p);
    ML_TRY(bind(e, &g));
    ML_TRY(bind_result(e, &g));
    if (two_pass)
        ML_TRY(ml_gpu_bind_buffer(e, 7, e->args->scratch_buffer, partial_bytes, true));
    set_constants(e, two_pass);
    ml_gpu_params(e, 4, &g, sizeof g);
    ml_gpu_threads(e, variant->threadgroup[0], variant->threadgroup[1], variant->threadgroup[2]);
    if (tiled) {
        ML_TRY(ml_gpu_grid(e, (p->len_q + variant->bq - 1) / variant->bq, p->heads_q, p->batch));
        return ml_gpu_run(e, NULL, type);
    }
    ML_TRY(ml_gpu_grid(e, (rows + variant->rows - 1) / variant->rows, p->batch * p->heads_kv, splits.n));
    ML_TRY(ml_gpu_run(e, NULL, type));
    if (!two_pass)
        return ML_OK;
    ML_TRY(bind_result(e, &g));
    ML_TRY(ml_gpu_bind_buffer(e, 7, e->args->scratch_buffer, partial_bytes, false));
    set_constants(e, true);
    ml_gpu_params(e, 4, &g, sizeof g);
    ML_TRY(ml_gpu_grid(e, p->batch * p->heads_kv * rows, 1, 1));
    ml_gpu_threads(e, 32, 1, 1);
    return ml_gpu_run(e, variant->reduce, type);
}
