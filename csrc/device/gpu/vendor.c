/* The vendor's matrix multiplication: plain products of f32 or f16, alpha and beta, every item of a batch. */
#include "device/gpu/gpu.h"

#include <stdlib.h>
#include <string.h>

typedef struct prepared_gemm {
    ml_cacheable item; /* first */
    const ml_gpu_driver *driver;
    void *prepared;
} prepared_gemm;

typedef struct gemm_recipe {
    ml_gpu_device *device;
    const ml_gpu_gemm *gemm;
} gemm_recipe;

static void destroy_gemm(ml_cacheable *item) {
    prepared_gemm *p = (prepared_gemm *)item;
    p->driver->gemm_release(p->prepared);
    free(p);
}

static ml_status make_gemm(const ml_cache_key *key, void *arg, ml_cacheable **out) {
    (void)key;
    const gemm_recipe *r = arg;
    prepared_gemm *p = calloc(1, sizeof *p);
    if (!p)
        return ml_fail(ML_ERR_MEMORY, "out of memory for a matrix multiplication");
    const ml_status status = r->device->driver->gemm_prepare(r->device->handle, r->gemm, &p->prepared);
    if (status != ML_OK) {
        free(p);
        return status;
    }
    p->driver = r->device->driver;
    atomic_init(&p->item.refs, 1);
    p->item.destroy = destroy_gemm;
    *out = &p->item;
    return ML_OK;
}

static void put_matrix(ml_cache_key *key, const ml_gpu_gemm_matrix *m) {
    const uint32_t row_bytes = (uint32_t)m->row_bytes;
    ml_gpu_key_put(key, &row_bytes, sizeof row_bytes);
    ml_gpu_key_put(key, &m->matrix_bytes, sizeof m->matrix_bytes);
}

/* What the kernel and the descriptors are made from: sizes, flags, factors and distances. */
static void make_key(const ml_gpu_gemm *g, ml_cache_key *key) {
    const uint8_t head[2] = {ML_GPU_KEY_GEMM, (uint8_t)((unsigned)g->transpose_a | (unsigned)g->transpose_b << 1 |
                                                        (unsigned)g->a.dtype << 2 | (unsigned)g->out.dtype << 5)};
    const uint32_t sizes[4] = {(uint32_t)g->m, (uint32_t)g->n, (uint32_t)g->k, (uint32_t)g->batch};
    key->size = 0;
    ml_gpu_key_put(key, head, sizeof head);
    ml_gpu_key_put(key, sizes, sizeof sizes);
    ml_gpu_key_put(key, &g->alpha, sizeof g->alpha);
    ml_gpu_key_put(key, &g->beta, sizeof g->beta);
    put_matrix(key, &g->a);
    put_matrix(key, &g->b);
    put_matrix(key, &g->out);
}

/* A view as the vendor takes it. *transposed: its columns are contiguous. false: it has no such form. */
static bool matrix_of(const ml_view *v, ml_gpu_gemm_matrix *m, bool *transposed) {
    const int r = v->ndim - 2, c = v->ndim - 1;
    const int64_t size = (int64_t)ml_dtype_size_of(v->dtype);
    const bool rows = v->shape[c] <= 1 || v->strides[c] == 1;
    if (!rows && !(v->shape[r] <= 1 || v->strides[r] == 1))
        return false;
    *transposed = !rows;
    const int64_t n_rows = rows ? v->shape[r] : v->shape[c], n_columns = rows ? v->shape[c] : v->shape[r];
    int64_t step = n_rows > 1 ? (rows ? v->strides[r] : v->strides[c]) : n_columns;
    if (step < n_columns || step * size > INT32_MAX)
        return false;
    *m = (ml_gpu_gemm_matrix){.handle = v->buf->handle,
                              .offset = v->buf->handle_offset + (size_t)v->offset,
                              .row_bytes = (size_t)(step * size),
                              .rows = n_rows,
                              .columns = n_columns,
                              .dtype = v->dtype};
    return true;
}

typedef struct operands {
    ml_view a, b, out;
} operands;

/* One product, or one for each item of the innermost batch dim, which is what a descriptor can step along. */
static ml_status run_gemm(ml_gpu_encoding *e, const operands *o, ml_gpu_gemm *g) {
    bool out_transposed;
    if (!matrix_of(&o->a, &g->a, &g->transpose_a) || !matrix_of(&o->b, &g->b, &g->transpose_b) ||
        !matrix_of(&o->out, &g->out, &out_transposed) || out_transposed)
        return ml_fail(ML_ERR_UNSUPPORTED, "matmul: the vendor's kernels take contiguous rows or columns only");
    const int d = o->out.ndim - 3;
    if (g->m > INT32_MAX || g->n > INT32_MAX || g->k > INT32_MAX || g->batch > INT32_MAX)
        return ml_fail(ML_ERR_UNSUPPORTED, "matmul: M=%lld N=%lld K=%lld are beyond what the vendor's kernels count",
                       (long long)g->m, (long long)g->n, (long long)g->k);
    ml_gpu_gemm_matrix *const m[3] = {&g->a, &g->b, &g->out};
    const ml_view *const v[3] = {&o->a, &o->b, &o->out};
    for (int i = 0; i < 3; i++) {
        m[i]->matrix_bytes = g->batch > 1 ? (size_t)v[i]->strides[d] * ml_dtype_size_of(v[i]->dtype) : 0;
        if (g->batch > 1 && m[i]->rows == 1)
            m[i]->row_bytes = m[i]->matrix_bytes; /* of which the former must be a multiple */
    }
    ml_cache_key key;
    make_key(g, &key);
    gemm_recipe r = {.device = e->device, .gemm = g};
    ml_cacheable *item;
    bool hit = false;
    ML_TRY(ml_cache_get(e->args->cache, &key, e->args->plan->kernel->name, make_gemm, &r, &item, &hit));
    e->args->cache_hit = hit && (e->args->dispatches == 0 || e->args->cache_hit);
    ml_gpu_follow_scope(e->commands, e->args->label);
    ml_gpu_forget(e->commands); /* the driver orders vendor kernels against all before and after */
    const ml_status status = e->device->driver->gemm_encode(e->commands->native, ((prepared_gemm *)item)->prepared, g);
    ml_cacheable_release(item);
    if (status == ML_OK) {
        e->args->dispatches++;
        e->commands->dispatches++;
    }
    return status;
}

static ml_view item_of(const ml_view *v, int dims, const int64_t *index) {
    ml_view r = *v;
    for (int d = 0; d < dims; d++) {
        r.offset += index[d] * v->strides[d] * (int64_t)ml_dtype_size_of(v->dtype);
        r.shape[d] = 1;
    }
    return r;
}

/* Whether a descriptor can step along dim d of every operand: items lie a whole number of rows apart, behind each
 * other, and are aligned. */
static bool steps_along(const operands *o, int d) {
    const ml_view *const v[3] = {&o->a, &o->b, &o->out};
    for (int i = 0; i < 3; i++) {
        ml_gpu_gemm_matrix m;
        bool transposed;
        const int64_t bytes = v[i]->strides[d] * (int64_t)ml_dtype_size_of(v[i]->dtype);
        if (bytes <= 0 || bytes % 16 != 0 || !matrix_of(v[i], &m, &transposed))
            return false;
        const int64_t row_bytes = (int64_t)m.row_bytes;
        if (m.rows > 1 ? bytes % row_bytes != 0 || bytes < m.rows * row_bytes : bytes < row_bytes || bytes > INT32_MAX)
            return false;
    }
    return true;
}

ml_status ml_gpu_encode_vendor(ml_gpu_encoding *e) {
    const ml_op *op = e->args->op;
    const ml_matmul_params *p = &op->matmul;
    operands all = {op->in[ML_IN_A], op->in[ML_IN_B], op->out[0]};
    bool transposed = false;
    ml_gpu_gemm_matrix probe;
    /* A result whose columns are contiguous is the transposed problem's. */
    if (matrix_of(&all.out, &probe, &transposed) && transposed) {
        const ml_view a = all.a;
        all.a = all.b;
        all.b = a;
        ml_view *const v[3] = {&all.a, &all.b, &all.out};
        for (int i = 0; i < 3; i++) {
            const int r = v[i]->ndim - 2, c = r + 1;
            const int64_t shape = v[i]->shape[r], stride = v[i]->strides[r];
            v[i]->shape[r] = v[i]->shape[c];
            v[i]->strides[r] = v[i]->strides[c];
            v[i]->shape[c] = shape;
            v[i]->strides[c] = stride;
        }
    }
    const int rank = all.out.ndim, inner = rank - 3;
    const bool step = inner >= 0 && all.out.shape[inner] > 1 && steps_along(&all, inner);
    const int walked = step ? inner : rank - 2; /* dims walked here, item by item */
    int64_t index[ML_MAX_DIMS] = {0};
    for (;;) {
        ml_gpu_gemm g = {.m = all.out.shape[rank - 2],
                         .n = all.out.shape[rank - 1],
                         .k = all.a.shape[rank - 1],
                         .batch = step ? all.out.shape[inner] : 1,
                         .alpha = p->alpha,
                         .beta = p->has_c ? p->beta : 0.0f};
        const operands o = {item_of(&all.a, walked, index), item_of(&all.b, walked, index),
                            item_of(&all.out, walked, index)};
        ML_TRY(run_gemm(e, &o, &g));
        int d = walked - 1;
        while (d >= 0 && ++index[d] == all.out.shape[d])
            index[d--] = 0;
        if (d < 0)
            return ML_OK;
    }
}
