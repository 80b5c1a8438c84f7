/* MetalPerformanceShaders: matrix times matrix, and matrix times vector where the result has one column. */
#include "device/gpu/metal/metal.h"

#include <stdlib.h>

enum { TYPE_FLOAT16 = 0x10000000 | 16, TYPE_FLOAT32 = 0x10000000 | 32 }; /* MPSDataType */

typedef struct mps_gemm {
    ml_id kernel;
    ml_id a, b, out; /* descriptors, retained */
    bool vector;     /* b and out are vectors */
} mps_gemm;

static uint32_t data_type(ml_dtype dtype) {
    return dtype == ML_F16 ? TYPE_FLOAT16 : TYPE_FLOAT32;
}

static ml_id describe_matrix(const ml_gpu_gemm_matrix *m, int64_t batch) {
    const ml_uint row_bytes = m->row_bytes ? m->row_bytes : ml_dtype_size_of(m->dtype);
    const ml_uint matrix_bytes = m->matrix_bytes ? m->matrix_bytes : (ml_uint)m->rows * row_bytes;
    return SEND(ml_id,
                SEND(ml_id, ml_objc_class("MPSMatrixDescriptor"), matrix_descriptor, (ml_uint)m->rows,
                     (ml_uint)m->columns, (ml_uint)batch, row_bytes, matrix_bytes, data_type(m->dtype)),
                retain);
}

static ml_id describe_vector(int64_t length, ml_dtype dtype) {
    return SEND(ml_id,
                SEND(ml_id, ml_objc_class("MPSVectorDescriptor"), vector_descriptor, (ml_uint)length, data_type(dtype)),
                retain);
}

/* A column of contiguous elements. */
static bool is_vector(const ml_gpu_gemm_matrix *m, bool transposed) {
    const size_t size = ml_dtype_size_of(m->dtype);
    return transposed ? m->rows == 1 : m->columns == 1 && (m->rows == 1 || m->row_bytes == size);
}

void ml_mps_release(void *prepared) {
    mps_gemm *p = prepared;
    ml_objc_release(p->kernel);
    ml_objc_release(p->a);
    ml_objc_release(p->b);
    ml_objc_release(p->out);
    free(p);
}

ml_status ml_mps_prepare(void *device, const ml_gpu_gemm *g, void **prepared) {
    const ml_metal *metal = device;
    mps_gemm *p = calloc(1, sizeof *p);
    if (!p)
        return ml_fail(ML_ERR_MEMORY, "out of memory for a matrix multiplication");
    void *pool = ml_objc_api.pool_push();
    p->vector = g->n == 1 && g->batch == 1 && is_vector(&g->b, g->transpose_b) && is_vector(&g->out, false);
    p->a = describe_matrix(&g->a, g->batch);
    if (p->vector) {
        p->b = describe_vector(g->k, g->b.dtype);
        p->out = describe_vector(g->m, g->out.dtype);
        p->kernel =
            SEND(ml_id, SEND(ml_id, ml_objc_class("MPSMatrixVectorMultiplication"), alloc), init_gemv, metal->device,
                 g->transpose_a, (ml_uint)g->m, (ml_uint)g->k, (double)g->alpha, (double)g->beta);
    } else {
        p->b = describe_matrix(&g->b, g->batch);
        p->out = describe_matrix(&g->out, g->batch);
        p->kernel = SEND(ml_id, SEND(ml_id, ml_objc_class("MPSMatrixMultiplication"), alloc), init_gemm, metal->device,
                         g->transpose_a, g->transpose_b, (ml_uint)g->m, (ml_uint)g->n, (ml_uint)g->k, (double)g->alpha,
                         (double)g->beta);
        if (g->batch > 1)
            SEND(void, p->kernel, set_batch_size, (ml_uint)g->batch);
    }
    ml_objc_api.pool_pop(pool);
    if (!p->kernel || !p->a || !p->b || !p->out) {
        ml_mps_release(p);
        return ml_fail(ML_ERR_DEVICE, "metal: MetalPerformanceShaders refuses M=%lld N=%lld K=%lld", (long long)g->m,
                       (long long)g->n, (long long)g->k);
    }
    *prepared = p;
    return ML_OK;
}

static ml_id matrix_at(const ml_gpu_gemm_matrix *m, ml_id descriptor) {
    return SEND(ml_id, SEND(ml_id, ml_objc_class("MPSMatrix"), alloc), init_matrix, m->handle, m->offset, descriptor);
}

static ml_id vector_at(const ml_gpu_gemm_matrix *m, ml_id descriptor) {
    return SEND(ml_id, SEND(ml_id, ml_objc_class("MPSVector"), alloc), init_vector, m->handle, m->offset, descriptor);
}

ml_status ml_mps_encode(void *commands, void *prepared, const ml_gpu_gemm *g) {
    ml_metal_commands *c = commands;
    const mps_gemm *p = prepared;
    void *pool = ml_objc_api.pool_push();
    ml_metal_end_encoder(c); /* MPS makes an encoder of its own; the device orders encoders by what they share */
    ml_id a = matrix_at(&g->a, p->a);
    ml_id b = p->vector ? vector_at(&g->b, p->b) : matrix_at(&g->b, p->b);
    ml_id out = p->vector ? vector_at(&g->out, p->out) : matrix_at(&g->out, p->out);
    const bool made = a && b && out;
    if (c->group)
        SEND(void, c->buffer, push_buffer_group, c->group);
    if (made && p->vector)
        SEND(void, p->kernel, encode_gemv, c->buffer, a, b, out);
    else if (made)
        SEND(void, p->kernel, encode_gemm, c->buffer, a, b, out);
    if (c->group)
        SEND(void, c->buffer, pop_buffer_group);
    ml_objc_release(a);
    ml_objc_release(b);
    ml_objc_release(out);
    ml_objc_api.pool_pop(pool);
    return made ? ML_OK : ml_fail(ML_ERR_DEVICE, "metal: MetalPerformanceShaders refuses an operand");
}
