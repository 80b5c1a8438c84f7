/* Layer norm and rms norm, row by row.
 *
 * The mean is corrected as T. F. Chan, G. H. Golub and R. J. LeVeque do it (Algorithms for computing the sample
 * variance, 1983): the mean of a row's head, or of the blocks so far, is a pivot; the sums of the differences to it and
 * of their squares give what the pivot lacks, and a variance that is free of cancellation if the pivot is within a part
 * of the deviations of the mean, which they tell; blocks of a long row are merged by their formula. Rows whose squares
 * leave the range of f32 are computed in double. */
#include "device/cpu/norm.h"
#include "device/cpu/row_tasks.h"

#include <math.h>
#include <string.h>

enum {
    TASK_ELEMENTS = 32 * 1024, /* two threads are worth having from this on: about five microseconds */
    ROW_ELEMENTS = 64,         /* what a row costs beside its elements, in elements */
    CHUNK = 512
};

typedef struct norm_job {
    const ml_norm_impl *impl;
    const ml_norm_params *p;
    ml_norm_layout layout;
    bool centred;     /* layer norm */
    ml_dtype dtype;   /* of x, residual and the outputs */
    int64_t size;     /* bytes of an element */
    ml_view outer[4]; /* x, residual, sum, out without the last dim; absent ones are x */
    int64_t step[4];  /* strides along it */
    const float *weight, *offset;
    char *scratch;
    int64_t rows_per_task;
} norm_job;
enum { X, RESIDUAL, SUM, OUT };

/* One row: where its operands begin, and what it is normalised from: `from`, f32 when staged, else as in memory. */
typedef struct norm_row {
    char *at[4];
    const void *from;
    float *buffer; /* staged: row_floats of its own */
    float first;   /* of the first block: layer norm, the sum of its head; rms, of all squares */
} norm_row;

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static ml_ew_vec part_of(const norm_job *job, const norm_row *row, int which, int64_t start) {
    return (ml_ew_vec){row->at[which] + start * job->step[which] * job->size, job->step[which], job->dtype};
}

/* x, or once it is known the sum, which is what is normalised. */
static int source_of(const norm_job *job) {
    return job->p->has_residual ? SUM : X;
}

static void load(const norm_job *job, const norm_row *row, float *to, int64_t start, int64_t n) {
    const ml_ew_vec from = part_of(job, row, source_of(job), start);
    ml_ew_load_f32(job->impl->convert, to, &from, n);
}

static void store(const norm_job *job, const norm_row *row, const float *from, int64_t start, int64_t n) {
    const ml_ew_vec to = part_of(job, row, OUT, start);
    ml_ew_store_f32(job->impl->convert, &to, from, n);
}

/* sum = x + residual, where one of them is not contiguous. */
static void add_staged(const norm_job *job, const norm_row *row) {
    float a[CHUNK], b[CHUNK];
    for (int64_t first = 0; first < job->layout.length; first += CHUNK) {
        const int64_t n = least(CHUNK, job->layout.length - first);
        const ml_ew_vec x = part_of(job, row, X, first), r = part_of(job, row, RESIDUAL, first);
        const ml_ew_vec sum = part_of(job, row, SUM, first);
        ml_ew_load_f32(job->impl->convert, a, &x, n);
        ml_ew_load_f32(job->impl->convert, b, &r, n);
        for (int64_t i = 0; i < n; i++)
            a[i] += b[i];
        ml_ew_store_f32(job->impl->convert, &sum, a, n);
    }
}

/* Elements start .. start + n of what is normalised, for kernels of kernel_dtype(). */
static const void *block_of(const norm_job *job, const norm_row *row, int64_t start, int64_t n) {
    if (!job->layout.staged)
        return (const char *)row->from + start * job->size;
    if (job->layout.kept)
        return row->buffer + start;
    load(job, row, row->buffer, start, n);
    return row->buffer;
}

static ml_dtype kernel_dtype(const norm_job *job) {
    return job->layout.staged ? ML_F32 : job->dtype;
}

/* ---- statistics -------------------------------------------------------------------------------------------------- */

typedef struct statistics {
    double n, mean, squares; /* squares: of the differences to the mean; rms: of the elements */
} statistics;

/* Elements whose mean is the first pivot: an eighth of the row, so that one element far off, which moves that mean,
 * widens the deviations too. */
static int64_t head_of(int64_t block) {
    const int64_t eighth = block / 8 > 128 ? block / 8 : 128;
    return least(block, eighth);
}

/* First phase: the row's copy, and the first sum. */
static void begin_row(const norm_job *job, norm_row *row) {
    const int64_t n = job->layout.length, block = least(n, ML_NORM_BLOCK_LEN);
    if (job->p->has_residual && job->layout.staged)
        add_staged(job, row);
    if (job->layout.staged && job->layout.kept)
        load(job, row, row->buffer, 0, n);
    row->from = row->at[source_of(job)];
    const ml_dtype dtype = kernel_dtype(job);
    if (job->p->has_residual && !job->layout.staged)
        row->first = job->impl->add_squares[dtype](row->at[SUM], row->at[X], row->at[RESIDUAL], block);
    else if (job->centred)
        row->first = job->impl->sum[dtype](block_of(job, row, 0, block), head_of(block));
    else
        row->first = job->impl->squares[dtype](block_of(job, row, 0, block), block);
}

static void merge_moments(const norm_job *job, statistics *s, const void *x, int64_t n, float pivot) {
    const double count = (double)n;
    float m[2];
    job->impl->moments[kernel_dtype(job)](m, x, n, pivot);
    for (int i = 0; i < 3 && 16.0f * m[0] * m[0] > (float)n * m[1]; i++) { /* the pivot is no mean */
        pivot += m[0] / (float)n;
        job->impl->moments[kernel_dtype(job)](m, x, n, pivot);
    }
    const double rest = (double)m[0] / count, mean = (double)pivot + rest;
    const double squares = (double)m[1] - (double)m[0] * rest;
    const double apart = mean - s->mean, both = s->n + count;
    s->squares += (squares > 0.0 ? squares : squares == squares ? 0.0 : squares) + apart * apart * s->n * count / both;
    s->mean += apart * count / both;
    s->n = both;
}

static statistics measure(const norm_job *job, const norm_row *row) {
    const ml_dtype dtype = kernel_dtype(job);
    const int64_t length = job->layout.length;
    statistics s = {0};
    for (int64_t start = 0; start < length; start += ML_NORM_BLOCK_LEN) {
        const int64_t n = least(ML_NORM_BLOCK_LEN, length - start);
        if (job->p->has_residual && !job->layout.staged) { /* the first block's is known */
            const int64_t at = start * job->size;
            s.squares += (double)(start == 0 ? row->first
                                             : job->impl->add_squares[dtype](row->at[SUM] + at, row->at[X] + at,
                                                                             row->at[RESIDUAL] + at, n));
            continue;
        }
        if (start == 0 && !job->centred) {
            s.squares = (double)row->first;
            continue;
        }
        const void *x = block_of(job, row, start, n);
        if (!job->centred)
            s.squares += (double)job->impl->squares[dtype](x, n);
        else
            merge_moments(job, &s, x, n, start == 0 ? row->first / (float)head_of(n) : (float)s.mean);
    }
    return s;
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

/* The squares may have left the range of f32. A layer norm's eps outweighs what underflowed unless it is tiny. */
static bool needs_double(const norm_job *job, const statistics *s) {
    return !(s->squares < 0x1p126) || (s->squares < 0x1p-60 && job->p->eps < 0x1p-80f);
}

static double double_sum(const norm_job *job, const norm_row *row, double mean, bool squared) {
    float x[CHUNK];
    double sum = 0.0;
    for (int64_t first = 0; first < job->layout.length; first += CHUNK) {
        const int64_t n = least(CHUNK, job->layout.length - first);
        load(job, row, x, first, n);
        for (int64_t i = 0; i < n; i++) {
            const double d = (double)x[i] - mean;
            sum += squared ? d * d : d;
        }
    }
    return sum;
}

static void finish_in_double(const norm_job *job, const norm_row *row) {
    const double n = (double)job->layout.length, eps = (double)job->p->eps;
    const double mean = job->centred ? double_sum(job, row, 0.0, false) / n : 0.0;
    const double scale = 1.0 / sqrt(double_sum(job, row, mean, true) / n + eps);
    float x[CHUNK];
    for (int64_t first = 0; first < job->layout.length; first += CHUNK) {
        const int64_t count = least(CHUNK, job->layout.length - first);
        load(job, row, x, first, count);
        for (int64_t i = 0; i < count; i++) {
            double y = ((double)x[i] - mean) * scale;
            y = job->weight ? y * (double)job->weight[first + i] : y;
            x[i] = (float)(job->offset ? y + (double)job->offset[first + i] : y);
        }
        store(job, row, x, first, count);
    }
}

static void finish_row(const norm_job *job, const norm_row *row, const statistics *s) {
    if (needs_double(job, s)) {
        finish_in_double(job, row);
        return;
    }
    const ml_dtype dtype = kernel_dtype(job);
    const int64_t length = job->layout.length, step = job->layout.kept ? length : ML_NORM_BLOCK_LEN;
    ml_norm_map map = {.scale = (float)(1.0 / sqrt(s->squares / (double)length + (double)job->p->eps))};
    map.pivot = (float)s->mean;
    map.rest = (float)(s->mean - (double)map.pivot);
    for (int64_t start = 0; start < length; start += step) {
        const int64_t n = least(step, length - start);
        const void *x = block_of(job, row, start, n);
        void *y = job->layout.staged ? (job->layout.kept ? (void *)(row->buffer + start) : (void *)row->buffer)
                                     : (void *)(row->at[OUT] + start * job->size);
        map.weight = job->weight ? job->weight + start : NULL;
        map.offset = job->offset ? job->offset + start : NULL;
        if (job->centred)
            job->impl->normalise[dtype](y, x, n, &map);
        else
            job->impl->scale[dtype](y, x, n, &map);
        if (job->layout.staged)
            store(job, row, y, start, n);
    }
}

/* ---- rows and tasks ---------------------------------------------------------------------------------------------- */

static void find_row(const norm_job *job, int64_t index, norm_row *row) {
    int64_t offset[4] = {0};
    const ml_view *o = job->outer;
    for (int d = o[0].ndim - 1; d >= 0; d--) {
        const int64_t i = d > 0 ? index % o[0].shape[d] : index;
        if (d > 0)
            index /= o[0].shape[d];
        for (int v = 0; v < 4; v++)
            offset[v] += i * o[v].strides[d];
    }
    for (int v = 0; v < 4; v++)
        row->at[v] = (char *)ml_view_data(&o[v]) + offset[v] * job->size;
}

/* Phase by phase over all rows of a group: what one row waits for, another computes. */
static void norm_task(void *arg, int64_t task, int worker) {
    const norm_job *job = arg;
    const ml_norm_layout *l = &job->layout;
    float *buffer = (float *)(void *)(job->scratch + l->shared_bytes + worker * l->worker_bytes);
    const int64_t begin = task * job->rows_per_task, end = least(l->rows, begin + job->rows_per_task);
    norm_row rows[ML_NORM_MAX_GROUP];
    statistics s[ML_NORM_MAX_GROUP];
    for (int64_t first = begin; first < end; first += l->group) {
        const int64_t count = least(l->group, end - first);
        for (int64_t r = 0; r < count; r++) {
            find_row(job, first + r, &rows[r]);
            rows[r].buffer = l->staged ? buffer + r * l->row_floats : NULL;
            begin_row(job, &rows[r]);
        }
        for (int64_t r = 0; r < count; r++)
            s[r] = measure(job, &rows[r]);
        for (int64_t r = 0; r < count; r++)
            finish_row(job, &rows[r], &s[r]);
    }
}

/* The parameters as contiguous f32: as they lie, or copied to *scratch, which moves on. */
static const float *parameters(const norm_job *job, const ml_view *v, bool copied, char **scratch) {
    if (!copied)
        return ml_view_data(v);
    const int64_t n = job->layout.length;
    float *to = (float *)(void *)*scratch;
    const ml_ew_vec from = {ml_view_data(v), n > 1 ? v->strides[0] : 1, v->dtype};
    ml_ew_load_f32(job->impl->convert, to, &from, n);
    *scratch += (n * (int64_t)sizeof(float) + 63) / 64 * 64;
    return to;
}

ml_status ml_cpu_norm(const ml_encode_args *args) {
    const ml_op *op = args->op;
    const ml_norm_params *p = &op->norm;
    norm_job job = {.impl = args->plan->kernel->impl, .p = p, .centred = op->kind == ML_OP_LAYER_NORM};
    ml_norm_layout_of(op, &job.layout);
    if (p->rows == 0 || p->length == 0)
        return ML_OK;
    job.outer[X] = op->in[ML_IN_X];
    job.outer[RESIDUAL] = p->has_residual ? op->in[ML_IN_RESIDUAL] : job.outer[X];
    job.outer[SUM] = p->has_residual ? op->out[1] : job.outer[X];
    job.outer[OUT] = op->out[0];
    job.dtype = job.outer[X].dtype;
    job.size = (int64_t)ml_dtype_size_of(job.dtype);
    for (int v = 0; v < 4; v++) {
        const int last = --job.outer[v].ndim;
        job.step[v] = p->length > 1 ? job.outer[v].strides[last] : 1;
    }
    ml_views_coalesce(job.outer, 4, false);
    job.scratch = args->scratch;
    char *shared = args->scratch;
    if (p->has_weight)
        job.weight = parameters(&job, &op->in[ML_IN_WEIGHT], job.layout.weight_copied, &shared);
    if (p->has_offset)
        job.offset = parameters(&job, &op->in[ML_IN_OFFSET], job.layout.offset_copied, &shared);

    const int64_t workers = job.layout.worker_bytes == 0
                                ? ml_get_num_threads()
                                : (args->plan->scratch_bytes - job.layout.shared_bytes) / job.layout.worker_bytes;
    job.rows_per_task = ml_rows_per_task(&(ml_row_tasks){.rows = p->rows,
                                                         .cost = p->length + ROW_ELEMENTS,
                                                         .least = TASK_ELEMENTS,
                                                         .group = job.layout.group,
                                                         .workers = workers});
    const int64_t tasks = (p->rows + job.rows_per_task - 1) / job.rows_per_task;
    ml_parallel_limit(tasks, (int)workers, norm_task, &job);
    return ML_OK;
}
