/* GELU, SiLU and SwiGLU over any strides and dtypes. */
#include "device/cpu/activate.h"

enum {
    CHUNK = 512,
    COST = 8 /* of an element, in units of a copied one */
};

typedef struct activate_job {
    const ml_activate_impl *impl;
    ml_activation activation;
    int n; /* views: out, x and perhaps up */
    ml_dtype dtypes[ML_EW_MAX_VIEWS];
    bool uniform; /* of one dtype */
} activate_job;

static ml_ew_vec part_of(const activate_job *job, const ml_ew_tile *tile, int view, int64_t row, int64_t col) {
    const int64_t stride = tile->cols > 1 ? tile->cs[view] : 1;
    const int64_t offset = row * tile->rs[view] + col * stride;
    return (ml_ew_vec){tile->data[view] + offset * (int64_t)ml_dtype_size_of(job->dtypes[view]), stride,
                       job->dtypes[view]};
}

/* On f32 copies of a few elements at a time. */
static void staged_row(const activate_job *job, const ml_ew_tile *tile, int64_t row) {
    _Alignas(64) float x[CHUNK], up[CHUNK];
    for (int64_t first = 0; first < tile->cols; first += CHUNK) {
        const int64_t n = tile->cols - first < CHUNK ? tile->cols - first : CHUNK;
        ml_ew_vec part = part_of(job, tile, 1, row, first);
        ml_ew_load_f32(job->impl->convert, x, &part, n);
        if (job->n > 2) {
            part = part_of(job, tile, 2, row, first);
            ml_ew_load_f32(job->impl->convert, up, &part, n);
        }
        job->impl->rows[job->activation][ML_F32](&(ml_activate_row){x, x, job->n > 2 ? up : NULL, n});
        part = part_of(job, tile, 0, row, first);
        ml_ew_store_f32(job->impl->convert, &part, x, n);
    }
}

static void activate_tile(void *arg, const ml_ew_tile *tile) {
    const activate_job *job = arg;
    bool direct = job->uniform;
    for (int v = 0; v < job->n; v++)
        direct = direct && (tile->cols == 1 || tile->cs[v] == 1);
    for (int64_t i = 0; i < tile->rows; i++) {
        if (!direct) {
            staged_row(job, tile, i);
            continue;
        }
        const ml_activate_row row = {.y = part_of(job, tile, 0, i, 0).data,
                                     .x = part_of(job, tile, 1, i, 0).data,
                                     .up = job->n > 2 ? part_of(job, tile, 2, i, 0).data : NULL,
                                     .n = tile->cols};
        job->impl->rows[job->activation][job->dtypes[0]](&row);
    }
}

ml_status ml_cpu_activate(const ml_encode_args *args) {
    const ml_op *op = args->op;
    activate_job job = {.impl = args->plan->kernel->impl,
                        .activation = op->activate.activation,
                        .n = 1 + op->n_in,
                        .dtypes = {op->out[0].dtype},
                        .uniform = true};
    ml_view views[ML_EW_MAX_VIEWS] = {op->out[0]};
    for (int i = 0; i < op->n_in; i++) {
        views[1 + i] = op->in[i];
        job.dtypes[1 + i] = op->in[i].dtype;
        job.uniform = job.uniform && op->in[i].dtype == op->out[0].dtype;
    }
    ml_ew_run(job.impl->convert, views, job.n, &(ml_ew_work){activate_tile, &job, COST});
    return ML_OK;
}
