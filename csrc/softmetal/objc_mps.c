/* MetalPerformanceShaders: matrix times matrix and matrix times vector, f32 and f16, f32 accumulation. */
#include "softmetal/objc_classes.h"

#include "core/half.h"

#include <stdlib.h>

enum { TYPE_FLOAT16 = 0x10000000 | 16, TYPE_FLOAT32 = 0x10000000 | 32 };

/* ---- descriptors, matrices, vectors ---- */

typedef struct descriptor_object {
    sm_object object;
    size_t rows, columns, row_bytes, matrix_bytes;
    bool half;
} descriptor_object;

static const sm_class matrix_descriptor_class;

static sm_id make_descriptor(size_t rows, size_t columns, size_t row_bytes, size_t matrix_bytes, uint32_t type) {
    const size_t size = type == TYPE_FLOAT16 ? 2 : 4;
    if ((type != TYPE_FLOAT16 && type != TYPE_FLOAT32) || rows == 0 || columns == 0 || row_bytes < columns * size ||
        row_bytes % size != 0)
        return NULL;
    descriptor_object *d = sm_object_new(&matrix_descriptor_class);
    if (!d)
        return NULL;
    d->rows = rows;
    d->columns = columns;
    d->row_bytes = row_bytes;
    d->matrix_bytes = matrix_bytes;
    d->half = type == TYPE_FLOAT16;
    return sm_autorelease(d);
}

static sm_id matrix_descriptor(sm_id self, sm_sel selector, sm_uint rows, sm_uint columns, sm_uint matrices,
                               sm_uint row_bytes, sm_uint matrix_bytes, uint32_t type) {
    (void)self;
    (void)selector;
    return matrices > 0 ? make_descriptor(rows, columns, row_bytes, matrix_bytes, type) : NULL;
}

static sm_id vector_descriptor(sm_id self, sm_sel selector, sm_uint length, uint32_t type) {
    (void)self;
    (void)selector;
    const size_t size = type == TYPE_FLOAT16 ? 2 : 4;
    return make_descriptor(length, 1, size, length * size, type);
}

typedef struct matrix_object {
    sm_object object;
    sm_gemm_matrix matrix;
    size_t rows, columns;
} matrix_object;

static void matrix_destroy(sm_id self) {
    sm_release(((matrix_object *)self)->matrix.buffer);
}

static sm_id matrix_init(sm_id self, sm_sel selector, sm_id buffer, sm_uint offset, sm_id descriptor) {
    (void)selector;
    matrix_object *m = self;
    const descriptor_object *d = descriptor;
    sm_buffer_object *b = buffer;
    const size_t size = d && d->half ? 2 : 4;
    if (!m || !d || !b || offset + (d->rows - 1) * d->row_bytes + d->columns * size > b->length) {
        sm_release(m);
        return NULL;
    }
    m->matrix = (sm_gemm_matrix){sm_retain(b), offset, d->row_bytes, d->matrix_bytes, d->half};
    m->rows = d->rows;
    m->columns = d->columns;
    return m;
}

static const sm_method matrix_descriptor_methods[] = {
    SM_METHOD("matrixDescriptorWithRows:columns:matrices:rowBytes:matrixBytes:dataType:", matrix_descriptor),
    SM_METHODS_END};
static const sm_method vector_descriptor_methods[] = {
    SM_METHOD("vectorDescriptorWithLength:dataType:", vector_descriptor), SM_METHODS_END};
static const sm_method matrix_methods[] = {SM_METHOD("initWithBuffer:offset:descriptor:", matrix_init), SM_METHODS_END};
static const sm_class matrix_descriptor_class = {
    .name = "MPSMatrixDescriptor", .size = sizeof(descriptor_object), .class_methods = matrix_descriptor_methods};
static const sm_class vector_descriptor_class = {
    .name = "MPSVectorDescriptor", .size = sizeof(descriptor_object), .class_methods = vector_descriptor_methods};
static const sm_class matrix_class = {
    .name = "MPSMatrix", .size = sizeof(matrix_object), .methods = matrix_methods, .destroy = matrix_destroy};
static const sm_class vector_class = {
    .name = "MPSVector", .size = sizeof(matrix_object), .methods = matrix_methods, .destroy = matrix_destroy};

/* ---- kernels ---- */

typedef struct gemm_object {
    sm_object object;
    sm_gemm gemm; /* without operands */
} gemm_object;

static sm_id gemm_init(sm_id self, sm_sel selector, sm_id device, signed char transpose_a, signed char transpose_b,
                       sm_uint m, sm_uint n, sm_uint k, double alpha, double beta) {
    (void)selector;
    (void)device;
    gemm_object *g = self;
    if (g)
        g->gemm = (sm_gemm){.m = m,
                            .n = n,
                            .k = k,
                            .batch = 1,
                            .transpose_a = transpose_a != 0,
                            .transpose_b = transpose_b != 0,
                            .alpha = alpha,
                            .beta = beta};
    return g;
}

static sm_id gemv_init(sm_id self, sm_sel selector, sm_id device, signed char transpose, sm_uint rows, sm_uint columns,
                       double alpha, double beta) {
    return gemm_init(self, selector, device, transpose, 0, rows, 1, columns, alpha, beta);
}

static void gemm_set_batch(sm_id self, sm_sel selector, sm_uint n) {
    (void)selector;
    ((gemm_object *)self)->gemm.batch = n;
}

static void gemm_encode(sm_id self, sm_sel selector, sm_id command_buffer, sm_id a, sm_id b, sm_id out) {
    (void)selector;
    sm_gemm gemm = ((gemm_object *)self)->gemm;
    gemm.a = ((matrix_object *)a)->matrix;
    gemm.b = ((matrix_object *)b)->matrix;
    gemm.out = ((matrix_object *)out)->matrix;
    sm_command_buffer_add_gemm(command_buffer, &gemm);
}

static const sm_method gemm_methods[] = {
    SM_METHOD("initWithDevice:transposeLeft:transposeRight:resultRows:resultColumns:interiorColumns:alpha:beta:",
              gemm_init),
    SM_METHOD("setBatchSize:", gemm_set_batch),
    SM_METHOD("encodeToCommandBuffer:leftMatrix:rightMatrix:resultMatrix:", gemm_encode), SM_METHODS_END};
static const sm_method gemv_methods[] = {
    SM_METHOD("initWithDevice:transpose:rows:columns:alpha:beta:", gemv_init),
    SM_METHOD("encodeToCommandBuffer:inputMatrix:inputVector:resultVector:", gemm_encode), SM_METHODS_END};
static const sm_class gemm_class = {
    .name = "MPSMatrixMultiplication", .size = sizeof(gemm_object), .methods = gemm_methods};
static const sm_class gemv_class = {
    .name = "MPSMatrixVectorMultiplication", .size = sizeof(gemm_object), .methods = gemv_methods};

const sm_class *const sm_mps_classes[] = {
    &matrix_descriptor_class, &vector_descriptor_class, &matrix_class, &vector_class, &gemm_class, &gemv_class, NULL};

/* ---- arithmetic ---- */

static float load(const sm_gemm_matrix *m, size_t item, size_t row, size_t column) {
    const unsigned char *p = m->buffer->bytes + m->offset + item * m->matrix_bytes + row * m->row_bytes;
    return m->half ? ml_half_to_float(((const uint16_t *)p)[column]) : ((const float *)p)[column];
}

static void store(const sm_gemm_matrix *m, size_t item, size_t row, size_t column, float value) {
    unsigned char *p = m->buffer->bytes + m->offset + item * m->matrix_bytes + row * m->row_bytes;
    if (m->half)
        ((uint16_t *)p)[column] = ml_float_to_half(value);
    else
        ((float *)p)[column] = value;
}

void sm_gemm_run(const sm_gemm *g) {
    for (size_t item = 0; item < g->batch; item++)
        for (size_t i = 0; i < g->m; i++)
            for (size_t j = 0; j < g->n; j++) {
                float sum = 0.0f;
                for (size_t k = 0; k < g->k; k++)
                    sum += load(&g->a, item, g->transpose_a ? k : i, g->transpose_a ? i : k) *
                           load(&g->b, item, g->transpose_b ? j : k, g->transpose_b ? k : j);
                float value = (float)g->alpha * sum;
                if (g->beta != 0.0)
                    value += (float)g->beta * load(&g->out, item, i, j);
                store(&g->out, item, i, j, value);
            }
}
