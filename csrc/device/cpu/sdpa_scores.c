/* The softmax in the middle of a composed attention: scores in memory become weights in place. The kernels are those of
 * the fused variants, one row of a tile of 64 keys at a time. */
#include "device/cpu/sdpa_mask.h"

#include <math.h>
#include <string.h>

enum { KEYS = ML_SDPA_KEYS, TASK_ELEMENTS = 16 * 1024 };

typedef struct run {
    const ml_sdpa_impl *impl;
    const ml_softmax_params *p;
    ml_sdpa_mask mask;
    const ml_view *sinks;
    float *scores;
    int64_t heads, rows_per_task;
    char *scratch;
    int64_t worker_bytes;
} run;

static float sink_of(const run *r, int64_t head) {
    float sink;
    const int64_t size = (int64_t)ml_dtype_size_of(r->sinks->dtype);
    const int64_t stride = r->sinks->shape[0] > 1 ? r->sinks->strides[0] : 0;
    r->impl->load(&sink, &(ml_sdpa_row){(char *)ml_view_data(r->sinks) + head * stride * size, 1, 1, r->sinks->dtype});
    return sink;
}

/* Keys [key, key + keys) of a row. Kernels take whole tiles, so the last one goes through a copy. */
static void do_tile(const run *r, const int64_t at[3], float *row, int64_t key, int keys, ml_sdpa_softmax *x) {
    float copy[KEYS] __attribute__((aligned(64))), added[KEYS] __attribute__((aligned(64)));
    float *s = row + key;
    if (keys < KEYS) {
        memset(copy, 0, sizeof copy);
        memcpy(copy, s, sizeof(float) * (size_t)keys);
        s = copy;
    }
    if (r->p->scale != 1.0f) {
        for (int j = 0; j < KEYS; j++)
            s[j] *= r->p->scale;
    }
    const uint64_t seen = ml_sdpa_mask_bits(&r->mask, at, key, keys, added);
    const bool adds = r->p->mask == ML_MASK_ADDITIVE;
    if (seen != 0 && (adds || r->p->softcap > 0.0f)) {
        if (adds)
            ml_sdpa_mask_added(&r->mask, at, key, keys, added);
        r->impl->adjust(s, adds ? added : NULL, r->p->softcap);
    }
    x->s = s;
    x->seen = &seen;
    x->m = 1;
    x->keys = keys;
    r->impl->softmax(x);
    if (s == copy)
        memcpy(row + key, copy, sizeof(float) * (size_t)keys);
}

static void hide(float *row, int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; j++)
        row[j] = -0.0f;
}

/* Each tile's weights are relative to the maximum up to it, which tops[] keeps, until the row is known. */
static void do_row(const run *r, const int64_t at[3], float *row, float *tops) {
    const int64_t n = r->p->seq_k;
    float max[ML_SDPA_LINE], sum[ML_SDPA_LINE] = {0}, rescale[ML_SDPA_LINE];
    int64_t first, end;
    ml_sdpa_mask_range(&r->mask, at[2], n, &first, &end);
    first = first / KEYS * KEYS;
    for (int i = 0; i < ML_SDPA_LINE; i++)
        max[i] = -INFINITY;
    ml_sdpa_softmax x = {.max = max, .sum = sum, .rescale = rescale, .natural = true};
    for (int64_t key = first; key < end; key += KEYS) {
        do_tile(r, at, row, key, (int)(end - key < KEYS ? end - key : KEYS), &x);
        tops[key / KEYS] = max[0];
    }
    hide(row, 0, first < n ? first : n);
    hide(row, end > first ? end : first, n);

    float top = max[0], total = sum[0];
    if (r->sinks && total != 0.0f) { /* where nothing is visible, the sink does not matter */
        const float sink = sink_of(r, at[1]);
        top = sink > top ? sink : top;
        total = total * expf(max[0] - top) + expf(sink - top);
    }
    if (total == 0.0f) { /* whatever is visible is -inf: zeros, and no value counts */
        hide(row, first, end);
        return;
    }
    for (int64_t key = first; key < end; key += KEYS) {
        const float t = tops[key / KEYS];
        const float factor = t == -INFINITY ? 0.0f : t == top ? 1.0f / total : expf(t - top) / total;
        const ml_sdpa_row tile = {row + key, 1, end - key < KEYS ? end - key : KEYS, ML_F32};
        r->impl->store(&tile, row + key, total != total ? NAN : factor);
    }
}

static void task(void *arg, int64_t index, int worker) {
    const run *r = arg;
    float *tops = (float *)(void *)(r->scratch + worker * r->worker_bytes);
    const int64_t end = (index + 1) * r->rows_per_task < r->p->rows ? (index + 1) * r->rows_per_task : r->p->rows;
    for (int64_t row = index * r->rows_per_task; row < end; row++) {
        const int64_t matrix = row / r->p->seq_q;
        do_row(r, (int64_t[]){matrix / r->heads, matrix % r->heads, row % r->p->seq_q}, r->scores + row * r->p->seq_k,
               tops);
    }
}

ml_status ml_cpu_sdpa_scores(const ml_encode_args *args) {
    const ml_op *op = args->op;
    const ml_softmax_params *p = &op->softmax;
    run r = {.impl = args->plan->kernel->impl,
             .p = p,
             .scores = ml_view_data(&op->out[0]),
             .heads = op->in[0].shape[1],
             .scratch = args->scratch,
             .worker_bytes = ml_sdpa_scores_scratch_bytes(p->seq_k, 1)};
    r.mask = (ml_sdpa_mask){.impl = r.impl,
                            .kind = p->mask,
                            .bounded = p->causal || p->window > 0,
                            .query_offset = p->query_offset,
                            .window = p->window};
    ml_sdpa_mask_set_view(&r.mask, &op->in[1]);
    if (p->has_sinks)
        r.sinks = &op->in[2];
    r.rows_per_task = 1 + TASK_ELEMENTS / (p->seq_k + 1);
    const int64_t tasks = (p->rows + r.rows_per_task - 1) / r.rows_per_task;
    ml_parallel_limit(tasks, (int)(args->plan->scratch_bytes / r.worker_bytes), task, &r);
    return ML_OK;
}
