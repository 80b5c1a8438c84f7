#include "runtime/lower.h"

void ml_lower_sdpa_scores(const ml_op *op, ml_view *scores) {
    const ml_sdpa_params *p = &op->sdpa;
    *scores = (ml_view){.dtype = ML_F32, .ndim = 4, .shape = {p->batch, p->heads_q, p->len_q, p->len_k}};
    ml_view_set_contiguous(scores);
}

/* [B, Hq, rows, cols] as [B, Hkv, group, rows, cols]. */
static ml_view split_heads(const ml_view *v, int64_t kv_heads) {
    ml_view r = *v;
    const int64_t group = kv_heads > 0 ? v->shape[1] / kv_heads : 1;
    r.ndim = 5;
    for (int d = 4; d > 2; d--) {
        r.shape[d] = v->shape[d - 1];
        r.strides[d] = v->strides[d - 1];
    }
    r.shape[1] = kv_heads;
    r.strides[1] = v->strides[1] * group;
    r.shape[2] = group;
    r.strides[2] = v->strides[1];
    return r;
}

/* [B, Hkv, rows, cols] as [B, Hkv, group, rows, cols], the same matrix for the whole group. */
static ml_view repeat_heads(const ml_view *v, int64_t group) {
    ml_view r = split_heads(v, v->shape[1]);
    r.shape[2] = group;
    r.strides[2] = 0;
    return r;
}

static ml_view swap_last(const ml_view *v) {
    ml_view r = *v;
    const int last = v->ndim - 1;
    r.shape[last] = v->shape[last - 1];
    r.strides[last] = v->strides[last - 1];
    r.shape[last - 1] = v->shape[last];
    r.strides[last - 1] = v->strides[last];
    return r;
}

static bool one_walk(const ml_view *v, int d) {
    return v->shape[d] == 1 || v->shape[d + 1] == 1 || v->strides[d] == v->strides[d + 1] * v->shape[d + 1];
}

static void remove_dim(ml_view *v, int d) {
    v->ndim--;
    for (int i = d; i < v->ndim; i++) {
        v->shape[i] = v->shape[i + 1];
        v->strides[i] = v->strides[i + 1];
    }
}

static void merge_dims(ml_view *v, int d) {
    if (v->shape[d + 1] == 1)
        v->strides[d + 1] = v->strides[d];
    v->shape[d + 1] *= v->shape[d];
    remove_dim(v, d);
}

/* One matmul over [B, Hkv, group, M, K]. The rows of a group become the rows of one matrix where they are walked as
 * one, so that K and V are read once for the group; dims of size 1 go, down to a plain matrix. */
static void set_matmul(ml_op *part, ml_matmul_params params) {
    ml_view *a = &part->in[ML_IN_A], *b = &part->in[ML_IN_B], *out = &part->out[0];
    if (one_walk(a, 2) && one_walk(out, 2)) {
        merge_dims(a, 2);
        merge_dims(out, 2);
        remove_dim(b, 2);
    }
    for (int d = out->ndim - 3; d >= 0; d--) {
        if (out->shape[d] != 1)
            continue;
        remove_dim(a, d);
        remove_dim(b, d);
        remove_dim(out, d);
    }
    params.batch = 1;
    for (int d = 0; d < out->ndim - 2; d++)
        params.batch *= out->shape[d];
    params.m = out->shape[out->ndim - 2];
    params.n = out->shape[out->ndim - 1];
    params.k = a->shape[a->ndim - 1];
    part->kind = ML_OP_MATMUL;
    part->n_in = 4;
    part->n_out = 1;
    part->matmul = params;
}

void ml_lower_sdpa(const ml_op *op, const ml_view *scores, ml_op parts[ML_LOWERED_SDPA]) {
    const ml_sdpa_params *p = &op->sdpa;
    const int64_t group = p->heads_kv > 0 ? p->heads_q / p->heads_kv : 1;
    ml_op *qk = &parts[0], *softmax = &parts[1], *av = &parts[2];
    *qk = *softmax = *av = (ml_op){.n_in = 0};

    const ml_view k = repeat_heads(&op->in[ML_IN_K], group);
    qk->in[ML_IN_A] = split_heads(&op->in[ML_IN_Q], p->heads_kv);
    qk->in[ML_IN_B] = swap_last(&k);
    qk->out[0] = split_heads(scores, p->heads_kv);
    /* With alpha = 0 a matmul reads nothing, but a NaN times a scale of zero is a NaN: then the softmax scales. */
    const bool scale_later = p->scale == 0.0f;
    set_matmul(qk, (ml_matmul_params){.alpha = scale_later ? 1.0f : p->scale, .transpose_b = true});

    softmax->kind = ML_OP_SOFTMAX;
    softmax->n_in = 3;
    softmax->n_out = 1;
    softmax->in[0] = softmax->out[0] = *scores;
    softmax->in[1] = op->in[ML_IN_MASK];
    softmax->in[2] = op->in[ML_IN_SINKS];
    softmax->softmax = (ml_softmax_params){.rows = p->batch * p->heads_q * p->len_q,
                                           .seq_q = p->len_q,
                                           .seq_k = p->len_k,
                                           .scale = scale_later ? p->scale : 1.0f,
                                           .causal = p->causal,
                                           .query_offset = p->query_offset,
                                           .mask = p->mask,
                                           .scores = true,
                                           .has_sinks = p->has_sinks,
                                           .softcap = p->softcap,
                                           .window = p->window};

    av->in[ML_IN_A] = split_heads(scores, p->heads_kv);
    av->in[ML_IN_B] = repeat_heads(&op->in[ML_IN_V], group);
    av->out[0] = split_heads(&op->out[0], p->heads_kv);
    set_matmul(av, (ml_matmul_params){.alpha = 1.0f, .skip_hidden = true});
}
