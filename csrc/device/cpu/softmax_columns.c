/* Softmax along a strided axis: adjacent columns side by side in vectors, each with its own maximum and sum. */
#include "device/cpu/softmax.h"

#include <math.h>

enum { COLS = ML_SOFTMAX_COLS };

typedef struct tile {
    const ml_softmax_job *job;
    ml_softmax_line first; /* the line of the first column; n: of the column that sees most */
    int64_t n, padded;     /* columns; rounded up to whole groups */
    int64_t mc, oc;        /* strides from column to column; x has 1 */
    int64_t q, q_step;     /* query of the first column, and from column to column */
    float *scratch;        /* rows of layout.cols scores */
    _Alignas(64) float best[COLS];
    float base[COLS], sum[COLS];
} tile;

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Whole groups of plain f32 are read and written where they are. */
static bool reads_direct(const tile *t) {
    const ml_softmax_job *job = t->job;
    return job->x.dtype == ML_F32 && !job->adds && job->p->mask == ML_MASK_NONE && t->n == t->padded &&
           !(job->p->causal && t->q_step != 0);
}

static bool writes_direct(const tile *t) {
    return t->job->out.dtype == ML_F32 && t->oc == 1 && t->n == t->padded;
}

static void stage_row(const tile *t, int64_t row, float *dst) {
    const ml_softmax_job *job = t->job;
    const ml_ew_vec from = {t->first.x + row * job->xs * job->x_size, 1, job->x.dtype};
    ml_ew_load_f32(job->impl->convert, dst, &from, t->n);
    if (job->adds || job->p->mask != ML_MASK_NONE)
        ml_softmax_apply_mask(job, dst, t->first.mask + row * job->ms * job->mask_size, t->mc, t->n);
    if (t->q_step != 0 && job->p->causal) {
        for (int64_t c = 0; c < t->n && ml_softmax_visible(job, t->q + c) <= row; c++)
            dst[c] = job->hidden;
    }
}

/* Scores of `rows` steps along the axis. */
static ml_softmax_tile scores_of(const tile *t, int64_t first, int64_t rows) {
    const ml_softmax_job *job = t->job;
    if (reads_direct(t))
        return (ml_softmax_tile){(const float *)(const void *)t->first.x + first * job->xs, job->xs, rows, t->padded};
    for (int64_t r = 0; r < rows; r++)
        stage_row(t, first + r, t->scratch + r * job->layout.cols);
    return (ml_softmax_tile){t->scratch, job->layout.cols, rows, t->padded};
}

/* Brings best, base and sum up to date with more scores. */
static void lead(tile *t, const ml_softmax_tile *s) {
    const ml_softmax_job *job = t->job;
    float before[COLS];
    for (int64_t c = 0; c < t->padded; c++)
        before[c] = t->best[c];
    if (job->hidden < 0.0f)
        job->impl->columns_largest(t->best, s);
    else
        job->impl->columns_smallest(t->best, s);
    for (int64_t c = 0; c < t->n; c++) {
        if (t->best[c] == before[c])
            continue;
        if (before[c] != job->hidden)
            t->sum[c] *= exp2f((before[c] - t->best[c]) * job->factor);
        t->base[c] = t->best[c];
    }
}

static char *out_at(const tile *t, int64_t row, int64_t c) {
    return t->first.out + (row * t->job->os + c * t->oc) * t->job->out_size;
}

/* One step along the axis: weights times by[c], or logarithms of scores, base and sum. */
static void store_row(const tile *t, int64_t row, const float *values, const float *by) {
    const ml_softmax_job *job = t->job;
    float result[COLS];
    if (job->p->log) {
        for (int64_t c = 0; c < t->n; c++)
            result[c] = (values[c] - t->base[c]) * job->unit - by[c];
        ml_softmax_store(job, out_at(t, row, 0), t->oc, result, t->n);
    } else if (t->oc == 1) {
        job->impl->columns_scale[job->out.dtype](out_at(t, row, 0), values, by, t->n);
    } else {
        job->impl->columns_scale[ML_F32](result, values, by, t->n);
        ml_softmax_store(job, out_at(t, row, 0), t->oc, result, t->n);
    }
}

static void store_rows(const tile *t, int64_t first, int64_t rows, const float *values, int64_t ld, const float *by) {
    for (int64_t r = 0; r < rows; r++)
        store_row(t, first + r, values + r * ld, by);
}

/* Weights of s, in scratch or where the result goes. */
static const float *weights_of(tile *t, const ml_softmax_tile *s, int64_t first, int64_t *ld) {
    float *e = writes_direct(t) ? (float *)(void *)out_at(t, first, 0) : t->scratch;
    *ld = writes_direct(t) ? t->job->os : t->job->layout.cols;
    t->job->impl->columns_exp(t->sum, e, *ld, s, t->base, t->job->factor);
    return e;
}

/* by[c] from the sums: what store_row takes. */
static void set_factors(const tile *t, float *by) {
    for (int64_t c = 0; c < t->padded; c++)
        by[c] = t->job->p->log ? logf(t->sum[c]) : ml_softmax_inverse(t->sum[c]);
}

/* Columns whose sum is NaN, or has no logarithm. */
static void mend_columns(const tile *t) {
    const ml_softmax_job *job = t->job;
    for (int64_t c = 0; c < t->n; c++) {
        ml_softmax_line line = {.mask = t->first.mask ? t->first.mask + c * t->mc * job->mask_size : NULL,
                                .out = out_at(t, 0, c),
                                .n = ml_softmax_visible(job, t->q + c * t->q_step)};
        if (isnan(t->sum[c])) {
            ml_softmax_poison(job, &line, 0, line.n);
            ml_softmax_fill(job, out_at(t, line.n, c), job->os, t->first.n - line.n, ml_softmax_nothing(job));
        } else if (t->sum[c] == 0.0f && job->p->log) {
            ml_softmax_fill(job, line.out, job->os, t->first.n, ml_softmax_nothing(job));
        }
    }
}

static void vec_tile(tile *t) {
    const ml_softmax_tile s = scores_of(t, 0, t->first.n);
    float by[COLS];
    lead(t, &s);
    if (t->job->p->log) {
        t->job->impl->columns_exp(t->sum, NULL, 0, &s, t->base, t->job->factor);
        set_factors(t, by);
        store_rows(t, 0, s.rows, s.s, s.ld, by);
        return;
    }
    int64_t ld;
    const float *e = weights_of(t, &s, 0, &ld);
    set_factors(t, by);
    store_rows(t, 0, s.rows, e, ld, by);
}

static void block_tile(tile *t) {
    const ml_softmax_job *job = t->job;
    float by[COLS];
    for (int64_t first = 0; first < t->first.n; first += ML_SOFTMAX_BLOCK_ROWS) {
        const ml_softmax_tile s = scores_of(t, first, least(ML_SOFTMAX_BLOCK_ROWS, t->first.n - first));
        lead(t, &s);
        job->impl->columns_exp(t->sum, NULL, 0, &s, t->base, job->factor);
    }
    set_factors(t, by);
    float sum[COLS]; /* what the second walk adds up is not needed */
    for (int64_t c = 0; c < t->padded; c++)
        sum[c] = t->sum[c];
    for (int64_t first = 0; first < t->first.n; first += ML_SOFTMAX_BLOCK_ROWS) {
        const ml_softmax_tile s = scores_of(t, first, least(ML_SOFTMAX_BLOCK_ROWS, t->first.n - first));
        if (job->p->log) {
            store_rows(t, first, s.rows, s.s, s.ld, by);
            continue;
        }
        int64_t ld;
        const float *e = weights_of(t, &s, first, &ld);
        store_rows(t, first, s.rows, e, ld, by);
    }
    for (int64_t c = 0; c < t->padded; c++)
        t->sum[c] = sum[c];
}

/* The tile's place: its columns and, by the dims that are neither axis nor columns, its lines. */
static void place(tile *t, int64_t index) {
    const ml_softmax_job *job = t->job;
    const ml_softmax_layout *l = &job->layout;
    const ml_view *x = &job->x;
    const int64_t first = index % l->tiles * l->cols;
    index /= l->tiles;
    int64_t at_x = first, at_mask = first * job->mask.strides[l->col_dim],
            at_out = first * job->out.strides[l->col_dim];
    const int query_dim = x->ndim - 2;
    for (int d = x->ndim - 2; d >= 0; d--) {
        if (d == l->col_dim)
            continue;
        const int64_t i = index % x->shape[d];
        index /= x->shape[d];
        at_x += i * x->strides[d];
        at_mask += i * job->mask.strides[d];
        at_out += i * job->out.strides[d];
        if (d == query_dim)
            t->q = i;
    }
    t->q_step = l->col_dim == query_dim;
    if (t->q_step)
        t->q = first;
    t->n = least(l->cols, x->shape[l->col_dim] - first);
    t->padded = (t->n + ML_SOFTMAX_GROUP - 1) / ML_SOFTMAX_GROUP * ML_SOFTMAX_GROUP;
    t->mc = job->mask.strides[l->col_dim];
    t->oc = job->out.strides[l->col_dim];
    t->first.x = (char *)ml_view_data(x) + at_x * job->x_size;
    t->first.mask = job->p->mask == ML_MASK_NONE ? NULL : (char *)ml_view_data(&job->mask) + at_mask * job->mask_size;
    t->first.out = (char *)ml_view_data(&job->out) + at_out * job->out_size;
    t->first.n = ml_softmax_visible(job, t->q + (t->n - 1) * t->q_step);
}

static void run_tile(const ml_softmax_job *job, int64_t index, float *scratch) {
    tile t = {.job = job, .scratch = scratch};
    place(&t, index);
    for (int c = 0; c < COLS; c++)
        t.best[c] = job->hidden;
    if (job->layout.vec)
        vec_tile(&t);
    else
        block_tile(&t);
    mend_columns(&t);
    for (int64_t row = t.first.n; row < job->layout.length; row++)
        ml_softmax_fill(job, out_at(&t, row, 0), t.oc, t.n, ml_softmax_nothing(job));
}

void ml_softmax_columns_task(void *arg, int64_t task, int worker) {
    const ml_softmax_job *job = arg;
    const int64_t end = least(job->tiles, (task + 1) * job->tiles_per_task);
    for (int64_t i = task * job->tiles_per_task; i < end; i++)
        run_tile(job, i, ml_softmax_worker_scratch(job, worker));
}
