/* MetalPerformanceShaders: matrices, vectors, matrix times matrix and matrix times vector; f32 and f16. */
#include "softmetal/objc_classes.h"

enum { TYPE_FLOAT16 = 0x10000000 | 16, TYPE_FLOAT32 = 0x10000000 | 32, ROW_ALIGN = 64 }; /* MPSDataType */

/* ---- descriptors ---------------------------------------------------------------------------------------------- */

typedef struct descriptor {
    sm_object object;
    size_t rows, columns, matrices, row_bytes, matrix_bytes;
    bool half;
} descriptor;

const sm_class sm_matrix_descriptor_class = {
    .name = "MPSMatrixDescriptor", .super = &sm_nsobject_class, .size = sizeof(descriptor)};
const sm_class sm_vector_descriptor_class = {
    .name = "MPSVectorDescriptor", .super = &sm_nsobject_class, .size = sizeof(descriptor)};

static size_t size_of(const sm_call *call, uint32_t type) {
    if (type == TYPE_FLOAT16 || type == TYPE_FLOAT32)
        return type == TYPE_FLOAT16 ? 2 : 4;
    sm_violation(call, "0x%x: only MPSDataTypeFloat32 and MPSDataTypeFloat16 are modelled", type);
    return 0;
}

/* d is what was asked for; a vector is one row. */
static sm_id make_descriptor(const sm_call *call, const sm_class *isa, const descriptor *d, uint32_t type) {
    const size_t size = size_of(call, type);
    if (!size)
        return NULL;
    if (d->rows == 0 || d->columns == 0 || d->matrices == 0 || d->rows > UINT32_MAX || d->columns > UINT32_MAX ||
        d->matrices > UINT32_MAX) {
        sm_violation(call, "%zu matrices of %zu rows and %zu columns", d->matrices, d->rows, d->columns);
        return NULL;
    }
    if (d->row_bytes % size != 0 || d->row_bytes / size < d->columns) {
        sm_violation(call, "rows of %zu elements of %zu bytes cannot be %zu bytes apart", d->columns, size,
                     d->row_bytes);
        return NULL;
    }
    if (d->matrices > 1 && (d->matrix_bytes % size != 0 || d->matrix_bytes / d->row_bytes < d->rows)) {
        sm_violation(call, "matrices of %zu rows, %zu bytes apart, cannot be %zu bytes apart", d->rows, d->row_bytes,
                     d->matrix_bytes);
        return NULL;
    }
    if (d->matrices > 1 && isa == &sm_matrix_descriptor_class && d->matrix_bytes % d->row_bytes != 0) {
        sm_violation(call, "matrices %zu bytes apart: that must be a multiple of the %zu bytes between rows",
                     d->matrix_bytes, d->row_bytes);
        return NULL;
    }
    descriptor *made = sm_object_new(isa);
    if (!made)
        return NULL;
    made->rows = d->rows;
    made->columns = d->columns;
    made->matrices = d->matrices;
    made->row_bytes = d->row_bytes;
    made->matrix_bytes = d->matrix_bytes;
    made->half = size == 2;
    return sm_autorelease(made);
}

sm_id sm_matrix_descriptor_one(sm_id self, sm_sel selector, sm_uint rows, sm_uint columns, sm_uint row_bytes,
                               uint32_t type) {
    return make_descriptor(
        SM_CALL, &sm_matrix_descriptor_class,
        &(descriptor){
            .rows = rows, .columns = columns, .matrices = 1, .row_bytes = row_bytes, .matrix_bytes = rows * row_bytes},
        type);
}

/* NOLINTNEXTLINE(readability-function-size): the signature is Apple's */
sm_id sm_matrix_descriptor_many(sm_id self, sm_sel selector, sm_uint rows, sm_uint columns, sm_uint matrices,
                                sm_uint row_bytes, sm_uint matrix_bytes, uint32_t type) {
    return make_descriptor(SM_CALL, &sm_matrix_descriptor_class,
                           &(descriptor){.rows = rows,
                                         .columns = columns,
                                         .matrices = matrices,
                                         .row_bytes = row_bytes,
                                         .matrix_bytes = matrix_bytes},
                           type);
}

/* What suits the device: a cache line. */
sm_uint sm_matrix_descriptor_row_bytes(sm_id self, sm_sel selector, sm_uint columns, uint32_t type) {
    return (columns * size_of(SM_CALL, type) + ROW_ALIGN - 1) / ROW_ALIGN * ROW_ALIGN;
}

static sm_id vector_descriptor(const sm_call *call, sm_uint length, sm_uint vectors, size_t vector_bytes,
                               uint32_t type) {
    const size_t size = type == TYPE_FLOAT16 ? 2 : 4;
    return make_descriptor(call, &sm_vector_descriptor_class,
                           &(descriptor){.rows = 1,
                                         .columns = length,
                                         .matrices = vectors,
                                         .row_bytes = length * size,
                                         .matrix_bytes = vector_bytes},
                           type);
}

sm_id sm_vector_descriptor_one(sm_id self, sm_sel selector, sm_uint length, uint32_t type) {
    return vector_descriptor(SM_CALL, length, 1, 0, type);
}

sm_id sm_vector_descriptor_many(sm_id self, sm_sel selector, sm_uint length, sm_uint vectors, sm_uint vector_bytes,
                                uint32_t type) {
    return vector_descriptor(SM_CALL, length, vectors, vector_bytes, type);
}

/* ---- matrices and vectors --------------------------------------------------------------------------------------- */

typedef struct matrix {
    sm_object object;
    sm_buffer *buffer; /* kept */
    size_t offset;
    descriptor shape;
} matrix;

static void matrix_destroy(sm_id self) {
    sm_drop(((matrix *)self)->buffer);
}

const sm_class sm_matrix_class = {.name = "MPSMatrix",
                                  .super = &sm_nsobject_class,
                                  .size = sizeof(matrix),
                                  .flags = SM_CLASS_NEW | SM_CLASS_INIT,
                                  .destroy = matrix_destroy};
const sm_class sm_vector_class = {.name = "MPSVector",
                                  .super = &sm_nsobject_class,
                                  .size = sizeof(matrix),
                                  .flags = SM_CLASS_NEW | SM_CLASS_INIT,
                                  .destroy = matrix_destroy};

static sm_id init_matrix(const sm_call *call, sm_id buffer, sm_uint offset, sm_id shape) {
    matrix *m = call->self;
    const sm_class *wanted =
        sm_is_kind(m, &sm_matrix_class) ? &sm_matrix_descriptor_class : &sm_vector_descriptor_class;
    sm_buffer *b = sm_expect(call, buffer, &sm_buffer_class, "the buffer");
    const descriptor *d = sm_expect(call, shape, wanted, "the descriptor");
    if (!b || !d)
        goto fail;
    const size_t size = d->half ? 2 : 4;
    const size_t needed = (d->matrices - 1) * d->matrix_bytes + (d->rows - 1) * d->row_bytes + d->columns * size;
    if (offset % size != 0) {
        sm_violation(call, "offset %lu is not a multiple of the element's %zu bytes", offset, size);
        goto fail;
    }
    if (offset > b->length || needed > b->length - offset) {
        sm_violation(call, "%zu matrices of %zu x %zu need %zu bytes from offset %lu on; the buffer has %zu",
                     d->matrices, d->rows, d->columns, needed, offset, b->length);
        goto fail;
    }
    m->buffer = sm_keep(b);
    m->offset = offset;
    m->shape = *d;
    m->object.uninitialised = false;
    return m;
fail:
    sm_release(m);
    return NULL;
}

sm_id sm_matrix_init(sm_id self, sm_sel selector, sm_id buffer, sm_id shape) {
    return init_matrix(SM_CALL, buffer, 0, shape);
}

sm_id sm_matrix_init_offset(sm_id self, sm_sel selector, sm_id buffer, sm_uint offset, sm_id shape) {
    return init_matrix(SM_CALL, buffer, offset, shape);
}

sm_id sm_matrix_data(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_hand_out(((matrix *)self)->buffer);
}

sm_id sm_vector_init(sm_id self, sm_sel selector, sm_id buffer, sm_id shape) {
    return init_matrix(SM_CALL, buffer, 0, shape);
}

sm_id sm_vector_init_offset(sm_id self, sm_sel selector, sm_id buffer, sm_uint offset, sm_id shape) {
    return init_matrix(SM_CALL, buffer, offset, shape);
}

sm_id sm_vector_data(sm_id self, sm_sel selector) {
    return sm_matrix_data(self, selector);
}

/* ---- kernels ------------------------------------------------------------------------------------------------------
 */

/* Origins: x counts columns, y rows. */
typedef struct kernel {
    sm_labelled base;
    sm_gemm gemm; /* without operands; batch 0: as many as the operands have */
    size_t batch_start;
    sm_size left, right, result;
} kernel;

const sm_class sm_matrix_multiplication_class = {.name = "MPSMatrixMultiplication",
                                                 .super = &sm_labelled_class,
                                                 .size = sizeof(kernel),
                                                 .flags = SM_CLASS_NEW | SM_CLASS_INIT};
const sm_class sm_matrix_vector_class = {.name = "MPSMatrixVectorMultiplication",
                                         .super = &sm_labelled_class,
                                         .size = sizeof(kernel),
                                         .flags = SM_CLASS_NEW | SM_CLASS_INIT};

static sm_id init_kernel(const sm_call *call, sm_id device, const sm_gemm *gemm) {
    kernel *k = call->self;
    if (!sm_expect(call, device, &sm_device_class, "the device"))
        goto fail;
    if (gemm->m == 0 || gemm->n == 0 || gemm->k == 0 || gemm->m > UINT32_MAX || gemm->n > UINT32_MAX ||
        gemm->k > UINT32_MAX) {
        sm_violation(call, "%zu rows, %zu columns, %zu inner columns", gemm->m, gemm->n, gemm->k);
        goto fail;
    }
    k->base.device = sm_keep(device);
    k->gemm = *gemm;
    k->base.object.uninitialised = false;
    return k;
fail:
    sm_release(k);
    return NULL;
}

sm_id sm_gemm_init(sm_id self, sm_sel selector, sm_id device, sm_uint m, sm_uint n, sm_uint k) {
    return init_kernel(SM_CALL, device, &(sm_gemm){.m = m, .n = n, .k = k, .alpha = 1.0});
}

sm_id sm_gemm_init_full(sm_id self, sm_sel selector, sm_id device, sm_bool transpose_left, sm_bool transpose_right,
                        sm_uint m, sm_uint n, sm_uint k, double alpha, double beta) {
    return init_kernel(SM_CALL, device,
                       &(sm_gemm){.m = m,
                                  .n = n,
                                  .k = k,
                                  .transpose_a = transpose_left != 0,
                                  .transpose_b = transpose_right != 0,
                                  .alpha = alpha,
                                  .beta = beta});
}

/* Vectors are rows in memory: right times matrix is matrix times right, with b read across. */
sm_id sm_gemv_init(sm_id self, sm_sel selector, sm_id device, sm_uint rows, sm_uint columns) {
    return init_kernel(SM_CALL, device, &(sm_gemm){.m = rows, .n = 1, .k = columns, .transpose_b = true, .alpha = 1.0});
}

sm_id sm_gemv_init_full(sm_id self, sm_sel selector, sm_id device, sm_bool transpose, sm_uint rows, sm_uint columns,
                        double alpha, double beta) {
    return init_kernel(SM_CALL, device,
                       &(sm_gemm){.m = rows,
                                  .n = 1,
                                  .k = columns,
                                  .transpose_a = transpose != 0,
                                  .transpose_b = true,
                                  .alpha = alpha,
                                  .beta = beta});
}

void sm_gemm_set_batch_start(sm_id self, sm_sel selector, sm_uint start) {
    (void)selector;
    ((kernel *)self)->batch_start = start;
}

void sm_gemm_set_batch_size(sm_id self, sm_sel selector, sm_uint n) {
    if (n == 0)
        sm_violation(SM_CALL, "a batch of no matrices");
    else
        ((kernel *)self)->gemm.batch = n;
}

void sm_gemm_set_left_origin(sm_id self, sm_sel selector, sm_size origin) {
    (void)selector;
    ((kernel *)self)->left = origin;
}

void sm_gemm_set_right_origin(sm_id self, sm_sel selector, sm_size origin) {
    (void)selector;
    ((kernel *)self)->right = origin;
}

void sm_gemm_set_result_origin(sm_id self, sm_sel selector, sm_size origin) {
    (void)selector;
    ((kernel *)self)->result = origin;
}

/* An operand of rows x columns, starting at origin of item first. */
typedef struct part {
    const char *name;
    size_t rows, columns;
    sm_size origin;
    size_t first, batch;
} part;

static bool take_part(const sm_call *call, const matrix *m, const part *p, sm_matrix *out) {
    const descriptor *d = &m->shape;
    const size_t x = p->origin.width, y = p->origin.height, size = d->half ? 2 : 4;
    if (x > d->columns || p->columns > d->columns - x || y > d->rows || p->rows > d->rows - y) {
        sm_violation(call, "%zu x %zu elements from row %zu, column %zu on are needed of the %s, which is %zu x %zu",
                     p->rows, p->columns, y, x, p->name, d->rows, d->columns);
        return false;
    }
    if (p->first > d->matrices || p->batch > d->matrices - p->first) {
        sm_violation(call, "%zu matrices from %zu on are needed of the %s, which has %zu", p->batch, p->first, p->name,
                     d->matrices);
        return false;
    }
    *out = (sm_matrix){.buffer = m->buffer,
                       .offset = m->offset + p->first * d->matrix_bytes + y * d->row_bytes + x * size,
                       .row_bytes = d->row_bytes,
                       .matrix_bytes = d->matrix_bytes,
                       .half = d->half};
    return true;
}

static bool overlap(const sm_matrix *a, const sm_matrix *b) {
    return a->buffer->bytes + a->offset == b->buffer->bytes + b->offset;
}

/* Whether the command buffer may take a kernel now; then it is locked. */
static bool may_encode(const sm_call *call, sm_command_buffer *b) {
    pthread_mutex_lock(&b->lock);
    if (atomic_load(&b->status) >= SM_STATUS_COMMITTED)
        sm_violation(call, "the command buffer is committed already");
    else if (b->encoder)
        sm_violation(call, "an encoder of the command buffer is open: send it endEncoding first");
    else
        return true;
    pthread_mutex_unlock(&b->lock);
    return false;
}

static void add_gemm(sm_command_buffer *b, const sm_gemm *gemm) {
    (void)sm_command_new(b, SM_COMMAND_ENCODER, 0);
    sm_command *c = sm_command_new(b, SM_COMMAND_GEMM, 3);
    if (!c)
        return;
    c->gemm = *gemm;
    sm_command_use(c, gemm->a.buffer);
    sm_command_use(c, gemm->b.buffer);
    sm_command_use(c, gemm->out.buffer);
}

static void encode(const sm_call *call, const matrix *a, const matrix *b, const matrix *out) {
    const kernel *k = call->self;
    sm_gemm g = k->gemm;
    size_t batch = g.batch;
    if (batch == 0) {
        batch = a->shape.matrices < b->shape.matrices ? a->shape.matrices : b->shape.matrices;
        batch = out->shape.matrices < batch ? out->shape.matrices : batch;
    }
    g.batch = batch;
    const size_t first = k->batch_start;
    const bool vector = sm_is_kind(call->self, &sm_matrix_vector_class);
    const part left = {"left matrix", g.transpose_a ? g.k : g.m, g.transpose_a ? g.m : g.k, k->left, first, batch};
    const part right = {vector ? "input vector" : "right matrix",
                        g.transpose_b ? g.n : g.k,
                        g.transpose_b ? g.k : g.n,
                        k->right,
                        first,
                        batch};
    const part result = {
        vector ? "result vector" : "result matrix", vector ? 1 : g.m, vector ? g.m : g.n, k->result, first, batch};
    if (!take_part(call, a, &left, &g.a) || !take_part(call, b, &right, &g.b) || !take_part(call, out, &result, &g.out))
        return;
    if (vector) /* a column in memory */
        g.out.row_bytes = g.out.half ? 2 : 4;
    if (overlap(&g.out, &g.a) || overlap(&g.out, &g.b)) {
        sm_violation(call, "the result is one of the operands");
        return;
    }
    if (may_encode(call, call->buffer)) {
        add_gemm(call->buffer, &g);
        pthread_mutex_unlock(&call->buffer->lock);
    }
}

void sm_gemm_encode(sm_id self, sm_sel selector, sm_id command_buffer, sm_id left, sm_id right, sm_id result) {
    sm_command_buffer *b = sm_expect(SM_CALL, command_buffer, &sm_command_buffer_class, "the command buffer");
    const sm_call call = {.self = self, .selector = selector, .buffer = b};
    const matrix *x = sm_expect(&call, left, &sm_matrix_class, "the left matrix");
    const matrix *y = sm_expect(&call, right, &sm_matrix_class, "the right matrix");
    const matrix *z = sm_expect(&call, result, &sm_matrix_class, "the result matrix");
    if (b && x && y && z)
        encode(&call, x, y, z);
}

void sm_gemv_encode(sm_id self, sm_sel selector, sm_id command_buffer, sm_id input, sm_id vector, sm_id result) {
    sm_command_buffer *b = sm_expect(SM_CALL, command_buffer, &sm_command_buffer_class, "the command buffer");
    const sm_call call = {.self = self, .selector = selector, .buffer = b};
    const matrix *x = sm_expect(&call, input, &sm_matrix_class, "the input matrix");
    const matrix *y = sm_expect(&call, vector, &sm_vector_class, "the input vector");
    const matrix *z = sm_expect(&call, result, &sm_vector_class, "the result vector");
    if (b && x && y && z)
        encode(&call, x, y, z);
}
