/* Rotary positions (J. Su et al., RoFormer, 2021): the factors of a few positions are made once and applied to every
 * head that stands there. */
#include "device/cpu/rope.h"

#include "dispatch/rope_layout.h"

#include <math.h>
#include <string.h>

enum {
    TASK_ELEMENTS = 16 * 1024, /* work of a task, a few microseconds */
    POWERS = 8,
    CHUNK = 256
};

typedef struct rope_job {
    const ml_rope_impl *impl;
    const ml_rope_params *p;
    ml_dtype dtype;
    int64_t size;
    ml_view outer[2]; /* x, out without positions and elements, nor the batch when it has offsets */
    char *data[2];
    int64_t batch_step[2], position_step[2], step[2]; /* strides, in elements */
    int64_t batches, rows;                            /* rows: of one batch at one position */
    int64_t blocks;                                   /* of positions */
    int64_t groups, group_rows;
    const double *turns;
    char *scratch;
} rope_job;

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* base^(-2 i / dims) / 2 pi. Every eighth power is a pow(), the rest two factors: errors of a few 2^-53. */
static void fill_turns(double *turns, const ml_rope_params *p) {
    const double unit = -2.0 / (double)p->dims, per_turn = 0.15915494309189533577;
    double low[POWERS];
    for (int j = 0; j < POWERS; j++)
        low[j] = pow(p->base, unit * j);
    double high = 0.0;
    for (int64_t i = 0; i < p->dims / 2; i++) {
        if (i % POWERS == 0)
            high = per_turn * pow(p->base, unit * (double)i);
        turns[i] = high * low[i % POWERS];
    }
}

static void copy_rest(const rope_job *job, char *y, const char *x) {
    const int64_t first = job->p->dims, n = job->p->width - first;
    if (n == 0 || (x == y && job->step[0] == job->step[1]))
        return;
    if (job->step[0] == 1 && job->step[1] == 1) {
        memcpy(y + first * job->size, x + first * job->size, (size_t)(n * job->size));
        return;
    }
    float chunk[CHUNK];
    for (int64_t i = first; i < first + n; i += CHUNK) {
        const int64_t count = least(CHUNK, first + n - i);
        const ml_ew_vec from = {(char *)(uintptr_t)x + i * job->step[0] * job->size, job->step[0], job->dtype};
        const ml_ew_vec to = {y + i * job->step[1] * job->size, job->step[1], job->dtype};
        ml_ew_load_f32(job->impl->convert, chunk, &from, count);
        ml_ew_store_f32(job->impl->convert, &to, chunk, count);
    }
}

static void turn_row(const rope_job *job, char *y, char *x, const ml_rope_factors *f, float *copy) {
    const int64_t dims = job->p->dims;
    const bool interleaved = job->p->interleaved;
    if (job->step[0] == 1 && job->step[1] == 1) {
        job->impl->rotate[interleaved][job->dtype](y, x, f, dims / 2);
    } else {
        const ml_ew_vec from = {x, job->step[0], job->dtype}, to = {y, job->step[1], job->dtype};
        ml_ew_load_f32(job->impl->convert, copy, &from, dims);
        job->impl->rotate[interleaved][ML_F32](copy, copy, f, dims / 2);
        ml_ew_store_f32(job->impl->convert, &to, copy, dims);
    }
    copy_rest(job, y, x);
}

/* Elements from the start of x and out to row number `row` of batch `batch`. */
static void find_row(const rope_job *job, int64_t batch, int64_t row, int64_t offset[2]) {
    for (int v = 0; v < 2; v++)
        offset[v] = batch * job->batch_step[v];
    for (int d = job->outer[0].ndim - 1; d >= 0; d--) {
        const int64_t i = d > 0 ? row % job->outer[0].shape[d] : row;
        if (d > 0)
            row /= job->outer[0].shape[d];
        for (int v = 0; v < 2; v++)
            offset[v] += i * job->outer[v].strides[d];
    }
}

static void rope_task(void *arg, int64_t task, int worker) {
    const rope_job *job = arg;
    const ml_rope_params *p = job->p;
    const int64_t block = task % job->blocks, group = task / job->blocks % job->groups;
    const int64_t batch = task / job->blocks / job->groups, floats = ml_rope_table_floats(p);
    float *tables = (float *)(void *)(job->scratch + ml_rope_shared_bytes(p) + worker * ml_rope_worker_bytes(p));
    float *copy = tables + 2 * ML_ROPE_POSITIONS * floats;
    const int64_t first = block * ML_ROPE_POSITIONS, count = least(ML_ROPE_POSITIONS, p->length - first);
    const int64_t offset = p->offsets ? p->offsets[batch] : p->offset;
    ml_rope_factors f[ML_ROPE_POSITIONS];
    for (int64_t l = 0; l < count; l++) {
        f[l] = (ml_rope_factors){tables + 2 * l * floats, tables + (2 * l + 1) * floats};
        job->impl->factors[p->interleaved](&f[l], job->turns, (double)(offset + first + l) * p->scale, p->dims / 2);
    }
    const int64_t end = least(job->rows, (group + 1) * job->group_rows);
    for (int64_t row = group * job->group_rows; row < end; row++) {
        int64_t at[2];
        find_row(job, batch, row, at);
        for (int64_t l = 0; l < count; l++) {
            char *x = job->data[0] + (at[0] + (first + l) * job->position_step[0]) * job->size;
            char *y = job->data[1] + (at[1] + (first + l) * job->position_step[1]) * job->size;
            turn_row(job, y, x, &f[l], copy);
        }
    }
}

/* Takes the last two dims, and the first when it has offsets of its own, off the views. */
static void set_outer(rope_job *job, const ml_view *x, const ml_view *out) {
    const int nd = x->ndim;
    const bool batched = job->p->offsets != NULL;
    job->outer[0] = *x;
    job->outer[1] = *out;
    job->batches = batched ? x->shape[0] : 1;
    for (int v = 0; v < 2; v++) {
        ml_view *o = &job->outer[v];
        job->data[v] = ml_view_data(o);
        job->step[v] = job->p->width > 1 ? o->strides[nd - 1] : 1;
        job->position_step[v] = job->p->length > 1 ? o->strides[nd - 2] : 0;
        job->batch_step[v] = batched && job->batches > 1 ? o->strides[0] : 0;
        o->ndim = nd - 2 - batched;
        for (int d = 0; batched && d < o->ndim; d++) {
            o->shape[d] = o->shape[d + 1];
            o->strides[d] = o->strides[d + 1];
        }
    }
    job->rows = ml_view_size(&job->outer[0]);
    ml_views_coalesce(job->outer, 2, false);
}

ml_status ml_cpu_rope(const ml_encode_args *args) {
    const ml_op *op = args->op;
    const ml_rope_params *p = &op->rope;
    rope_job job = {.impl = args->plan->kernel->impl, .p = p, .dtype = op->in[0].dtype, .scratch = args->scratch};
    if (ml_view_size(&op->out[0]) == 0)
        return ML_OK;
    job.size = (int64_t)ml_dtype_size_of(job.dtype);
    set_outer(&job, &op->in[0], &op->out[0]);
    double *turns = args->scratch;
    fill_turns(turns, p);
    job.turns = turns;
    job.blocks = (p->length + ML_ROPE_POSITIONS - 1) / ML_ROPE_POSITIONS;
    const int64_t row_elements = least(ML_ROPE_POSITIONS, p->length) * p->width;
    job.group_rows = 1 + TASK_ELEMENTS / row_elements;
    job.groups = (job.rows + job.group_rows - 1) / job.group_rows;
    const int64_t workers = (args->plan->scratch_bytes - ml_rope_shared_bytes(p)) / ml_rope_worker_bytes(p);
    ml_parallel_limit(job.blocks * job.groups * job.batches, (int)workers, rope_task, &job);
    return ML_OK;
}
