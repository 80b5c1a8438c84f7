/* Fused attention, variants "vector" and "tiled": drivers around the kernels of a tier. docs/attention.md.
 *
 * Both walk tiles of rows (queries of the heads that share a key/value head) over tiles of 64 keys; they differ in how
 * many rows a tile has (dispatch/sdpa_layout.h). Within a tile of keys each strip of rows goes all the way from scores
 * to values, so K and V of the tile are read from memory once for all rows.
 *
 * What a row may see is one bit per key. Invisible keys get the weight zero, and zero times a value adds nothing,
 * unless that value is not finite: then the sums become NaN. So tiles whose rows do not all see the same keys are
 * looked at when they are done, and if there is a NaN they are done again carefully, each row with its own visible keys
 * only. As adding zero changes nothing, both ways give the same bits where both apply. */
#include "device/cpu/sdpa_mask.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define LOG2_E 0x1.715476p+0f

enum { KEYS = ML_SDPA_KEYS, MAX_STRIP = ML_SDPA_LINE };

typedef struct operand {
    char *data;
    int64_t stride[4]; /* elements */
    int64_t size;      /* of an element */
    ml_dtype dtype;
} operand;

typedef struct run {
    const ml_sdpa_impl *impl;
    const ml_sdpa_params *p;
    ml_sdpa_layout l;
    operand q, k, v, out;
    ml_sdpa_mask mask;
    const ml_view *sinks;
    char *shared, *private; /* partial results; memory of worker 0 */
    int64_t group;          /* query heads of a key/value head */
    int64_t words;          /* of a query or key: elements, or pairs of them */
    bool natural;           /* scores are to the base of e, else of 2 */
    float scale;            /* of scores to that base */
} run;

/* A tile of rows at work, and the worker's memory. Row r is query first_query + r / heads of head first_head + r %
 * heads.
 */
typedef struct tile {
    const run *r;
    int64_t batch, kv_head, first_head, heads, first_query;
    int rows, strips;
    bool direct; /* so few rows that K is not packed */
    float *q, *k, *v, *row;
    float *acc, *max, *sum; /* results so far */
    uint64_t *seen;
} tile;

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static operand operand_of(const ml_view *v) {
    operand o = {.dtype = v->dtype, .size = (int64_t)ml_dtype_size_of(v->dtype)};
    if (v->buf)
        o.data = ml_view_data(v);
    for (int i = 0; i < 4; i++)
        o.stride[i] = v->shape[i] > 1 ? v->strides[i] : i == 3;
    return o;
}

static char *at(const operand *o, int64_t i0, int64_t i1, int64_t i2) {
    return o->data + (i0 * o->stride[0] + i1 * o->stride[1] + i2 * o->stride[2]) * o->size;
}

/* Strips of a tile are alike: m or m - 1 rows. */
static int strip_start(const tile *t, int strip) {
    return t->rows * strip / t->strips;
}

static float *strip_q(const tile *t, int strip) {
    return t->q + strip * t->r->l.strip_floats;
}

/* ---- queries ---- */

static void load_queries(const tile *t) {
    const run *r = t->r;
    int64_t head = 0, query = t->first_query;
    for (int strip = 0; strip < t->strips; strip++) {
        const int begin = strip_start(t, strip), end = strip_start(t, strip + 1);
        for (int i = begin; i < end; i++) {
            const ml_sdpa_row src = {at(&r->q, t->batch, t->first_head + head, query), r->q.stride[3], r->p->dim_qk,
                                     r->q.dtype};
            r->impl->load_query(strip_q(t, strip) + (i - begin) * ML_SDPA_LINE, &src, r->scale);
            if (++head == t->heads) {
                head = 0;
                query++;
            }
        }
    }
}

/* ---- what is visible ---- */

static void place_of(const tile *t, int row, int64_t at[3]) {
    at[0] = t->batch;
    at[1] = t->first_head + row % t->heads;
    at[2] = t->first_query + row / t->heads;
}

/* Sets t->seen for keys [key, key + keys). False when no row sees any. */
static bool find_visible(const tile *t, int64_t key, int keys) {
    const run *r = t->r;
    const bool heads_alike = r->p->mask == ML_MASK_NONE || r->mask.stride[1] == 0;
    uint64_t any = 0;
    for (int row = 0; row < t->rows; row += (int)t->heads) {
        uint64_t bits = 0;
        for (int head = 0; head < t->heads; head++) {
            if (head == 0 || !heads_alike) {
                int64_t place[3];
                place_of(t, row + head, place);
                bits = ml_sdpa_mask_bits(&r->mask, place, key, keys, t->row);
            }
            t->seen[row + head] = bits;
            any |= bits;
        }
    }
    return any != 0;
}

/* ---- a tile of keys ---- */

typedef struct key_tile {
    int64_t key; /* the first one */
    int keys;
    uint64_t packed; /* keys whose panels have been packed */
    bool v_packed;
} key_tile;

static void pack_keys(const tile *t, key_tile *x, int first) {
    const run *r = t->r;
    const int nr = r->impl->nr;
    const ml_mat k = {at(&r->k, t->batch, t->kv_head, x->key + first), r->k.stride[2], r->k.stride[3], r->k.dtype};
    r->impl->pack_keys->pack_b(t->k + first * r->words, &k, min64(nr, x->keys - first), r->p->dim_qk);
    x->packed |= ml_sdpa_below(nr) << first;
}

static void pack_values(const tile *t, key_tile *x) {
    const run *r = t->r;
    const int nr = r->impl->nr;
    for (int64_t col = 0; col < r->p->dim_v; col += nr) {
        ml_mat v = {at(&r->v, t->batch, t->kv_head, x->key), r->v.stride[3], r->v.stride[2], r->v.dtype};
        v.data = (char *)v.data + col * r->v.stride[3] * r->v.size;
        r->impl->gemm->pack_b(t->v + col * KEYS, &v, min64(nr, r->p->dim_v - col), x->keys);
    }
    x->v_packed = true;
}

/* Adds keys [begin, end) of the tile to the sums of m rows from `row` on; weights at p. */
static void add_values(const tile *t, const key_tile *x, int row, int m, const float *p, const float *rescale,
                       int begin, int end) {
    const run *r = t->r;
    ml_sdpa_values values = {.p = p + begin,
                             .rescale = rescale,
                             .ldacc = r->l.acc_cols,
                             .keys = end - begin,
                             .acc = t->acc + row * r->l.acc_cols,
                             .m = m};
    if (!r->l.pack_v) {
        values.v = at(&r->v, t->batch, t->kv_head, x->key + begin);
        values.v_stride = r->v.stride[2];
        values.dtype = r->v.dtype;
        values.cols = r->p->dim_v;
        r->impl->values(&values);
        return;
    }
    const int nr = r->impl->nr;
    values.v_stride = nr;
    values.dtype = ML_F32;
    for (int64_t col = 0; col < r->l.acc_cols; col += nr) {
        values.v = t->v + col * KEYS + begin * nr;
        values.cols = min64(nr, r->l.acc_cols - col);
        r->impl->values(&values);
        values.acc += nr;
    }
}

/* Each row's runs of visible keys. */
static void add_visible_values(const tile *t, const key_tile *x, int row, int m, const float *s, float *rescale) {
    for (int i = 0; i < m; i++) {
        float factor = rescale[i];
        for (uint64_t left = t->seen[row + i]; left != 0;) {
            const int begin = __builtin_ctzll(left);
            const uint64_t gaps = ~(left >> begin);
            const int end = gaps ? begin + __builtin_ctzll(gaps) : 64;
            add_values(t, x, row + i, 1, s + i * KEYS, &factor, begin, end);
            factor = 1.0f;
            left &= ~ml_sdpa_below(end);
        }
    }
}

/* One strip with the keys of the tile. Returns whether a row got values of a key that it does not see. */
static bool do_strip(const tile *t, key_tile *x, int strip, bool careful) {
    const run *r = t->r;
    const ml_sdpa_impl *impl = r->impl;
    const int row = strip_start(t, strip), m = strip_start(t, strip + 1) - row;
    float s[MAX_STRIP * KEYS] __attribute__((aligned(64))), rescale[MAX_STRIP] __attribute__((aligned(64)));
    uint64_t any = 0, all = ~UINT64_C(0);
    for (int i = 0; i < m; i++) {
        any |= t->seen[row + i];
        all &= t->seen[row + i];
    }
    if (any == 0)
        return false;
    const int begin = __builtin_ctzll(any), end = 64 - __builtin_clzll(any);
    if (t->direct)
        impl->direct(&(ml_sdpa_direct){.q = t->q,
                                       .k = at(&r->k, t->batch, t->kv_head, x->key),
                                       .k_stride = r->k.stride[2],
                                       .dtype = r->k.dtype,
                                       .s = s,
                                       .dim = r->p->dim_qk,
                                       .m = m,
                                       .keys = x->keys});
    for (int j = 0; j < end && !t->direct; j += impl->nr) {
        if ((any >> j & ml_sdpa_below(impl->nr)) == 0)
            continue;
        if (!(x->packed >> j & 1))
            pack_keys(t, x, j);
        impl->scores(&(ml_sdpa_scores){.q = strip_q(t, strip),
                                       .k = t->k + j * r->words,
                                       .s = s + j,
                                       .words = r->words,
                                       .m = m,
                                       .keys = (int)min64(end - j, impl->nr),
                                       .scale = r->scale});
    }
    if (r->p->softcap > 0.0f || r->p->mask == ML_MASK_ADDITIVE) {
        for (int i = 0; i < m; i++) {
            const bool adds = r->p->mask == ML_MASK_ADDITIVE;
            int64_t place[3];
            place_of(t, row + i, place);
            if (adds)
                ml_sdpa_mask_added(&r->mask, place, x->key, x->keys, t->row);
            impl->adjust(s + i * KEYS, adds ? t->row : NULL, r->p->softcap);
        }
    }
    impl->softmax(&(ml_sdpa_softmax){s, t->seen + row, t->max + row, t->sum + row, rescale, m, end, r->natural});
    if (r->l.pack_v && !x->v_packed)
        pack_values(t, x);
    if (careful) {
        add_visible_values(t, x, row, m, s, rescale);
        return false;
    }
    add_values(t, x, row, m, s, rescale, begin, end);
    return (all & ml_sdpa_below(end)) != (ml_sdpa_below(end) & ~ml_sdpa_below(begin));
}

static bool attend(const tile *t, int64_t begin, int64_t end, bool careful) {
    const run *r = t->r;
    bool mixed = false;
    memset(t->acc, 0, sizeof(float) * (size_t)(t->rows * r->l.acc_cols));
    for (int i = 0; i < r->l.pad_rows; i++) {
        t->max[i] = -INFINITY;
        t->sum[i] = 0.0f;
    }
    for (int64_t key = begin; key < end; key += KEYS) {
        key_tile x = {.key = key, .keys = (int)min64(KEYS, end - key)};
        if (!find_visible(t, key, x.keys))
            continue;
        for (int strip = 0; strip < t->strips; strip++)
            mixed |= do_strip(t, &x, strip, careful);
    }
    return mixed;
}

/* ---- results ---- */

static float power(const run *r, float t) {
    return r->natural ? expf(t) : exp2f(t);
}

/* Row of the tile: the sums over its keys become the result. */
static void finish_row(const tile *t, int row) {
    const run *r = t->r;
    const int64_t head = t->first_head + row % t->heads;
    const ml_sdpa_row dst = {at(&r->out, t->batch, head, t->first_query + row / t->heads), r->out.stride[3],
                             r->p->dim_v, r->out.dtype};
    float *acc = t->acc + row * r->l.acc_cols, sum = t->sum[row], factor = 1.0f;
    if (sum == 0.0f) { /* nothing visible, or all of it -inf: zeros, whatever the sink */
        memset(acc, 0, sizeof(float) * (size_t)r->l.acc_cols);
        r->impl->store(&dst, acc, 0.0f);
        return;
    }
    if (r->sinks) {
        const float max = t->max[row];
        float sink;
        const ml_sdpa_row one = {(char *)ml_view_data(r->sinks) +
                                     head * r->sinks->strides[0] * (int64_t)ml_dtype_size_of(r->sinks->dtype),
                                 1, 1, r->sinks->dtype};
        r->impl->load(&sink, &one);
        if (!r->natural && isfinite(sink))
            sink = fminf(sink * LOG2_E, FLT_MAX);
        const float top = sink > max ? sink : max;
        factor = power(r, max - top);
        sum = sum * factor + power(r, sink - top);
    }
    r->impl->store(&dst, acc, factor / sum);
}

/* ---- tasks ---- */

static float *partial_at(const run *r, int64_t item, int64_t chunk) {
    return (float *)(void *)r->shared + (item * r->l.chunks + chunk) * r->l.partial_floats;
}

static void use_results(tile *t, float *results) {
    t->acc = results;
    t->max = results + t->r->l.pad_rows * t->r->l.acc_cols;
    t->sum = t->max + t->r->l.pad_rows;
}

/* The worker's memory, and which rows item number `item` has. */
static void tile_of(tile *t, const run *r, int64_t item, int worker) {
    const ml_sdpa_layout *l = &r->l;
    t->r = r;
    int64_t rest = item / l->query_tiles;
    /* Under causality the last queries have the most work: they go first, so that no thread is left with them. */
    const int64_t query_tile = l->query_tiles - 1 - item % l->query_tiles, head_tile = rest % l->head_tiles;
    rest /= l->head_tiles;
    t->kv_head = rest % r->p->heads_kv;
    t->batch = rest / r->p->heads_kv;
    t->heads = min64(l->tile_heads, r->group - head_tile * l->tile_heads);
    t->first_head = t->kv_head * r->group + head_tile * l->tile_heads;
    t->first_query = query_tile * l->tile_queries;
    t->rows = (int)(t->heads * min64(l->tile_queries, r->p->len_q - t->first_query));
    t->strips = (t->rows + r->impl->mr - 1) / r->impl->mr;
    t->direct = t->rows <= r->impl->direct_rows && r->k.stride[3] == 1;
    t->q = (float *)(void *)(r->private + worker * l->private_bytes);
    t->k = t->q + l->q_floats;
    t->v = t->k + l->k_floats;
    t->row = t->v + l->v_floats;
    use_results(t, t->row + l->row_floats);
    t->seen = (uint64_t *)(void *)(t->acc + l->partial_floats);
}

/* Keys [begin, end) of the item, as far as any of its rows may see them. */
static void do_item(tile *t, int64_t begin, int64_t end) {
    const run *r = t->r;
    if (r->mask.bounded) {
        const int64_t first = t->first_query + r->p->query_offset, last = first + (t->rows - 1) / t->heads;
        end = min64(end, last + 1);
        if (r->p->window > 0)
            begin = max64(begin, max64(first - r->p->window + 1, 0) / KEYS * KEYS);
    }
    load_queries(t);
    if (attend(t, begin, end, false) && r->impl->any_nan(t->acc, t->rows * r->l.acc_cols))
        attend(t, begin, end, true);
}

static void whole_task(void *arg, int64_t task, int worker) {
    const run *r = arg;
    const int64_t end = min64((task + 1) * r->l.items_per_task, r->l.items);
    for (int64_t item = task * r->l.items_per_task; item < end; item++) {
        tile t;
        tile_of(&t, r, item, worker);
        do_item(&t, r->l.key_begin, r->l.key_end);
        for (int row = 0; row < t.rows; row++)
            finish_row(&t, row);
    }
}

static void chunk_task(void *arg, int64_t task, int worker) {
    const run *r = arg;
    const int64_t item = task / r->l.chunks, chunk = task % r->l.chunks;
    const int64_t begin = r->l.key_begin + chunk * r->l.chunk_keys;
    tile t;
    tile_of(&t, r, item, worker);
    use_results(&t, partial_at(r, item, chunk));
    do_item(&t, begin, min64(begin + r->l.chunk_keys, r->l.key_end));
}

/* The chunks of an item in order: attention once more, whose scores are the chunks' maxima and whose values are their
 * sums. */
static void merge_task(void *arg, int64_t item, int worker) {
    const run *r = arg;
    const int chunks = (int)r->l.chunks;
    const uint64_t seen = ml_sdpa_below(chunks);
    tile t;
    tile_of(&t, r, item, worker);
    memset(t.acc, 0, sizeof(float) * (size_t)(t.rows * r->l.acc_cols));
    for (int row = 0; row < t.rows; row++) {
        float s[KEYS] __attribute__((aligned(64))) = {0}, max[MAX_STRIP], unused[MAX_STRIP] = {0};
        float none[MAX_STRIP] = {0};
        for (int i = 0; i < MAX_STRIP; i++)
            max[i] = -INFINITY;
        tile part = t;
        for (int c = 0; c < chunks; c++) {
            use_results(&part, partial_at(r, item, c));
            s[c] = part.max[row];
        }
        r->impl->softmax(&(ml_sdpa_softmax){s, &seen, max, unused, none, 1, chunks, r->natural});
        t.max[row] = max[0];
        t.sum[row] = 0.0f;
        for (int c = 0; c < chunks; c++) {
            use_results(&part, partial_at(r, item, c));
            t.sum[row] += s[c] * part.sum[row];
        }
        none[0] = 0.0f;
        r->impl->values(&(ml_sdpa_values){.p = s,
                                          .rescale = none,
                                          .v = partial_at(r, item, 0) + row * r->l.acc_cols,
                                          .v_stride = r->l.partial_floats,
                                          .acc = t.acc + row * r->l.acc_cols,
                                          .ldacc = r->l.acc_cols,
                                          .keys = chunks,
                                          .cols = r->l.acc_cols,
                                          .m = 1});
        finish_row(&t, row);
    }
}

ml_status ml_cpu_sdpa(const ml_encode_args *args) {
    const ml_op *op = args->op;
    run r = {.impl = args->plan->kernel->impl, .p = &op->sdpa};
    ml_sdpa_layout_of(op, args->plan->kernel, &r.l);
    r.q = operand_of(&op->in[ML_IN_Q]);
    r.k = operand_of(&op->in[ML_IN_K]);
    r.v = operand_of(&op->in[ML_IN_V]);
    r.out = operand_of(&op->out[0]);
    r.mask = (ml_sdpa_mask){.impl = r.impl,
                            .kind = r.p->mask,
                            .bounded = r.p->causal || r.p->window > 0,
                            .query_offset = r.p->query_offset,
                            .window = r.p->window};
    ml_sdpa_mask_set_view(&r.mask, &op->in[ML_IN_MASK]);
    if (r.p->has_sinks)
        r.sinks = &op->in[ML_IN_SINKS];
    r.group = r.p->heads_q / r.p->heads_kv;
    r.words = (r.p->dim_qk + r.impl->k_pack - 1) / r.impl->k_pack;
    /* To the base of 2 the exponential saves a multiplication. What is capped or added to counts in e: in f32 the
     * largest numbers, which masks hold, have no room for log2 e; nor has the largest scale. */
    r.natural = r.p->softcap > 0.0f || r.p->mask == ML_MASK_ADDITIVE || fabsf(r.p->scale) > FLT_MAX / 2;
    r.scale = r.natural ? r.p->scale : r.p->scale * LOG2_E;
    r.shared = args->scratch;
    r.private = r.shared + r.l.shared_bytes;
    /* The number of threads may have grown since the plan was made: there is scratch for so many. */
    const int workers = (int)min64((args->plan->scratch_bytes - r.l.shared_bytes) / r.l.private_bytes, INT32_MAX);
    if (r.l.chunks == 1) {
        const int64_t tasks = (r.l.items + r.l.items_per_task - 1) / r.l.items_per_task;
        ml_parallel_limit(tasks, workers, whole_task, &r);
        return ML_OK;
    }
    ml_parallel_limit(r.l.items * r.l.chunks, workers, chunk_task, &r);
    /* Worth a second round only when there is a lot to merge. */
    const bool large = r.l.items * r.l.chunks * r.l.rows * r.l.acc_cols > 100000;
    ml_parallel_limit(r.l.items, large ? workers : 1, merge_task, &r);
    return ML_OK;
}
