/* MPS against float64, and its rules. */
#include "test_objc.h"

#include "core/half.h"

#include <math.h>
#include <stdlib.h>

enum { F32 = 0x10000020, F16 = 0x10000010 };

typedef struct shape {
    size_t rows, columns, matrices, row_bytes, matrix_bytes;
    uint32_t type;
} shape;

static uint64_t state = 1;

static float noise(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(state >> 40) / (1 << 23) - 1.0);
}

static size_t size_of(uint32_t type) {
    return type == F16 ? 2 : 4;
}

static shape padded(size_t rows, size_t columns, size_t matrices, uint32_t type) {
    const size_t row_bytes = (columns + 3) * size_of(type);
    return (shape){rows, columns, matrices, row_bytes, (rows + 1) * row_bytes, type};
}

static sm_id new_matrix(const shape *s, size_t offset, sm_id *buffer) {
    *buffer = new_buffer(offset + s->matrices * s->matrix_bytes);
    sm_id d = SEND(sm_id, class_named("MPSMatrixDescriptor"),
                   "matrixDescriptorWithRows:columns:matrices:rowBytes:matrixBytes:dataType:",
                   (sm_id, sm_sel, sm_uint, sm_uint, sm_uint, sm_uint, sm_uint, uint32_t), s->rows, s->columns,
                   s->matrices, s->row_bytes, s->matrix_bytes, s->type);
    return SEND(sm_id, get(class_named("MPSMatrix"), "alloc"),
                "initWithBuffer:offset:descriptor:", (sm_id, sm_sel, sm_id, sm_uint, sm_id), *buffer, offset, d);
}

static unsigned char *element(sm_id buffer, const shape *s, size_t offset, const size_t at[3]) {
    return ((sm_buffer *)buffer)->bytes + offset + at[0] * s->matrix_bytes + at[1] * s->row_bytes +
           at[2] * size_of(s->type);
}

static double value(sm_id buffer, const shape *s, size_t offset, const size_t at[3]) {
    const unsigned char *p = element(buffer, s, offset, at);
    uint16_t bits;
    float f;
    memcpy(&bits, p, sizeof bits);
    if (s->type == F16)
        return (double)ml_half_to_float(bits);
    memcpy(&f, p, sizeof f);
    return (double)f;
}

static void fill(sm_id buffer, const shape *s, size_t offset, bool nans) {
    for (size_t i = 0; i < s->matrices * s->rows * s->columns; i++) {
        const size_t at[3] = {i / (s->rows * s->columns), i / s->columns % s->rows, i % s->columns};
        const float f = nans ? NAN : noise();
        const uint16_t bits = ml_float_to_half(f);
        memcpy(element(buffer, s, offset, at), s->type == F16 ? (const void *)&bits : (const void *)&f,
               size_of(s->type));
    }
}

typedef struct problem {
    size_t m, n, k, batch;
    bool ta, tb;
    uint32_t in, out;
    double alpha, beta;
} problem;

static void check_gemm(const problem *p) {
    const shape a = padded(p->ta ? p->k : p->m, p->ta ? p->m : p->k, p->batch, p->in);
    const shape b = padded(p->tb ? p->n : p->k, p->tb ? p->k : p->n, p->batch, p->in);
    const shape c = padded(p->m, p->n, p->batch, p->out);
    sm_id ba, bb, bc;
    sm_id ma = new_matrix(&a, 16, &ba), mb = new_matrix(&b, 0, &bb), mc = new_matrix(&c, 8, &bc);
    fill(ba, &a, 16, false);
    fill(bb, &b, 0, false);
    fill(bc, &c, 8, p->beta == 0); /* not read then */
    const size_t count = p->batch * p->m * p->n;
    double *old = calloc(count, sizeof *old);
    for (size_t i = 0; i < count; i++)
        old[i] = value(bc, &c, 8, (const size_t[3]){i / (p->m * p->n), i / p->n % p->m, i % p->n});
    sm_id kernel =
        SEND(sm_id, get(class_named("MPSMatrixMultiplication"), "alloc"),
             "initWithDevice:transposeLeft:transposeRight:resultRows:resultColumns:interiorColumns:alpha:beta:",
             (sm_id, sm_sel, sm_id, sm_bool, sm_bool, sm_uint, sm_uint, sm_uint, double, double), fx.device, p->ta,
             p->tb, p->m, p->n, p->k, p->alpha, p->beta);
    sm_id commands = command_buffer();
    SEND(void, kernel,
         "encodeToCommandBuffer:leftMatrix:rightMatrix:resultMatrix:", (sm_id, sm_sel, sm_id, sm_id, sm_id, sm_id),
         commands, ma, mb, mc);
    EXPECT(finish(NULL, commands), SM_STATUS_COMPLETED);
    double worst = 0;
    for (size_t i = 0; i < count; i++) {
        const size_t item = i / (p->m * p->n), row = i / p->n % p->m, column = i % p->n;
        double sum = 0, size = 0;
        for (size_t q = 0; q < p->k; q++) {
            const double x = value(ba, &a, 16, (const size_t[3]){item, p->ta ? q : row, p->ta ? row : q});
            const double y = value(bb, &b, 0, (const size_t[3]){item, p->tb ? column : q, p->tb ? q : column});
            sum += x * y;
            size += fabs(x * y);
        }
        const double exact = p->alpha * sum + (p->beta != 0 ? p->beta * old[i] : 0);
        const double rounding = p->out == F16 ? ldexp(fabs(exact), -11) + ldexp(1, -25) : ldexp(fabs(exact), -24);
        const double bound = rounding + ldexp(fabs(p->alpha) * size * (double)(p->k + 2), -24) +
                             ldexp(p->beta != 0 ? fabs(p->beta * old[i]) : 0, -22);
        const double error = fabs(value(bc, &c, 8, (const size_t[3]){item, row, column}) - exact) / bound;
        worst = error > worst || isnan(error) ? error : worst;
    }
    if (!(worst <= 1)) {
        fprintf(stderr, "FAILED: gemm %zu x %zu x %zu, batch %zu, %d%d, %x: %g times the bound\n", p->m, p->n, p->k,
                p->batch, p->ta, p->tb, p->in, worst);
        failures++;
    }
    free(old);
    const sm_id all[] = {ma, mb, mc, ba, bb, bc, kernel};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        tell(all[i], "release");
    EXPECT_CLEAN();
}

static void test_matrices(void) {
    static const size_t sizes[][3] = {{1, 1, 1}, {5, 3, 7}, {33, 300, 65}, {64, 17, 128}, {2, 257, 1}};
    static const double scales[][2] = {{1, 0}, {0.5, 0}, {-1.5, 0.75}};
    for (size_t s = 0; s < 5; s++)
        for (int i = 0; i < 48; i++) {
            void *pool = sm_objc_api()->pool_push();
            const problem p = {.m = sizes[s][0],
                               .n = sizes[s][1],
                               .k = sizes[s][2],
                               .batch = i % 3 == 1 ? 3 : 1,
                               .ta = i & 1,
                               .tb = i >> 1 & 1,
                               .in = i & 4 ? F16 : F32,
                               .out = i & 8 ? F16 : F32,
                               .alpha = scales[i % 3][0],
                               .beta = scales[i % 3][1]};
            check_gemm(&p);
            sm_objc_api()->pool_pop(pool);
        }
}

static sm_id new_vector(size_t length, uint32_t type, sm_id *buffer) {
    *buffer = new_buffer(length * size_of(type));
    sm_id d = SEND(sm_id, class_named("MPSVectorDescriptor"),
                   "vectorDescriptorWithLength:dataType:", (sm_id, sm_sel, sm_uint, uint32_t), length, type);
    return SEND(sm_id, get(class_named("MPSVector"), "alloc"),
                "initWithBuffer:descriptor:", (sm_id, sm_sel, sm_id, sm_id), *buffer, d);
}

static void check_gemv(size_t m, size_t k, bool transposed, uint32_t type) {
    const shape a = padded(transposed ? k : m, transposed ? m : k, 1, type);
    const shape x = {1, k, 1, k * size_of(type), 0, type}, y = {1, m, 1, m * size_of(type), 0, type};
    sm_id ba, bx, by, ma = new_matrix(&a, 0, &ba), vx = new_vector(k, type, &bx), vy = new_vector(m, type, &by);
    fill(ba, &a, 0, false);
    fill(bx, &x, 0, false);
    fill(by, &y, 0, true);
    sm_id kernel =
        SEND(sm_id, get(class_named("MPSMatrixVectorMultiplication"), "alloc"),
             "initWithDevice:transpose:rows:columns:alpha:beta:",
             (sm_id, sm_sel, sm_id, sm_bool, sm_uint, sm_uint, double, double), fx.device, transposed, m, k, 2.0, 0.0);
    sm_id commands = command_buffer();
    SEND(void, kernel,
         "encodeToCommandBuffer:inputMatrix:inputVector:resultVector:", (sm_id, sm_sel, sm_id, sm_id, sm_id, sm_id),
         commands, ma, vx, vy);
    EXPECT(finish(NULL, commands), SM_STATUS_COMPLETED);
    for (size_t i = 0; i < m; i++) {
        double sum = 0, size = 0;
        for (size_t q = 0; q < k; q++) {
            const double product = value(ba, &a, 0, (const size_t[3]){0, transposed ? q : i, transposed ? i : q}) *
                                   value(bx, &x, 0, (const size_t[3]){0, 0, q});
            sum += product;
            size += fabs(product);
        }
        const double bound =
            ldexp(fabs(2 * sum), type == F16 ? -11 : -24) + ldexp(2 * size * (double)(k + 2), -24) + ldexp(1, -25);
        EXPECT(fabs(value(by, &y, 0, (const size_t[3]){0, 0, i}) - 2 * sum) <= bound, 1);
    }
    const sm_id all[] = {ma, vx, vy, ba, bx, by, kernel};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        tell(all[i], "release");
    EXPECT_CLEAN();
}

static void test_vectors(void) {
    for (int i = 0; i < 8; i++)
        check_gemv(i & 4 ? 70 : 3, i & 4 ? 9 : 130, i & 1, i & 2 ? F16 : F32);
}

/* ---- rules ---------------------------------------------------------------------------------------------------- */

static sm_id descriptor(size_t rows, size_t columns, size_t row_bytes, uint32_t type) {
    return SEND(sm_id, class_named("MPSMatrixDescriptor"), "matrixDescriptorWithRows:columns:rowBytes:dataType:",
                (sm_id, sm_sel, sm_uint, sm_uint, sm_uint, uint32_t), rows, columns, row_bytes, type);
}

/* Two of 4 x 4. */
static sm_id descriptors(size_t matrix_bytes) {
    return SEND(sm_id, class_named("MPSMatrixDescriptor"),
                "matrixDescriptorWithRows:columns:matrices:rowBytes:matrixBytes:dataType:",
                (sm_id, sm_sel, sm_uint, sm_uint, sm_uint, sm_uint, sm_uint, uint32_t), 4ul, 4ul, 2ul, 16ul,
                matrix_bytes, F32);
}

static sm_id matrix_of(sm_id buffer, size_t offset, sm_id form) {
    return SEND(sm_id, get(class_named("MPSMatrix"), "alloc"),
                "initWithBuffer:offset:descriptor:", (sm_id, sm_sel, sm_id, sm_uint, sm_id), buffer, offset, form);
}

static sm_id gemm_of(sm_id device, size_t m, size_t n, size_t k) {
    return SEND(sm_id, get(class_named("MPSMatrixMultiplication"), "alloc"),
                "initWithDevice:resultRows:resultColumns:interiorColumns:",
                (sm_id, sm_sel, sm_id, sm_uint, sm_uint, sm_uint), device, m, n, k);
}

static void encode(sm_id kernel, sm_id commands, const sm_id matrices[3]) {
    SEND(void, kernel,
         "encodeToCommandBuffer:leftMatrix:rightMatrix:resultMatrix:", (sm_id, sm_sel, sm_id, sm_id, sm_id, sm_id),
         commands, matrices[0], matrices[1], matrices[2]);
}

static void test_descriptors(void) {
    EXPECT(descriptor(4, 4, 12, F32) == NULL, 1);
    EXPECT_FOUND("rows of 4 elements of 4 bytes cannot be 12 bytes apart");
    EXPECT(descriptor(4, 4, 18, F32) == NULL, 1);
    EXPECT_FOUND("cannot be 18 bytes apart");
    EXPECT(descriptor(0, 4, 16, F32) == NULL, 1);
    EXPECT_FOUND("1 matrices of 0 rows and 4 columns");
    EXPECT(descriptor(4, 4, 16, 0x20000008) == NULL, 1);
    EXPECT_FOUND("only MPSDataTypeFloat32 and MPSDataTypeFloat16 are modelled");
    EXPECT(descriptors(48) == NULL, 1);
    EXPECT_FOUND("matrices of 4 rows, 16 bytes apart, cannot be 48 bytes apart");
    EXPECT(descriptors(72) == NULL, 1);
    EXPECT_FOUND("matrices 72 bytes apart: that must be a multiple of the 16 bytes between rows");
    EXPECT(descriptors(80) != NULL, 1);
    EXPECT(SEND(sm_uint, class_named("MPSMatrixDescriptor"),
                "rowBytesForColumns:dataType:", (sm_id, sm_sel, sm_uint, uint32_t), 33ul, F16),
           128);
    sm_id b = new_buffer(64);
    EXPECT(matrix_of(b, 4, descriptor(4, 4, 16, F32)) == NULL, 1);
    EXPECT_FOUND("1 matrices of 4 x 4 need 64 bytes from offset 4 on; the buffer has 64");
    EXPECT(matrix_of(b, 2, descriptor(2, 2, 16, F32)) == NULL, 1);
    EXPECT_FOUND("offset 2 is not a multiple of the element's 4 bytes");
    EXPECT(matrix_of(b, 0, NULL) == NULL, 1);
    EXPECT_FOUND("the descriptor is nil");
    EXPECT(gemm_of(NULL, 4, 4, 4) == NULL, 1);
    EXPECT_FOUND("the device is nil");
    EXPECT(gemm_of(fx.device, 4, 0, 4) == NULL, 1);
    EXPECT_FOUND("4 rows, 0 columns, 4 inner columns");
    tell(b, "release");
}

static void test_encoding(void) {
    sm_id b = new_buffer(256), d = descriptor(4, 4, 16, F32);
    const sm_id m[3] = {matrix_of(b, 0, d), matrix_of(b, 64, d), matrix_of(b, 128, d)};
    sm_id good = gemm_of(fx.device, 4, 4, 4), large = gemm_of(fx.device, 4, 4, 5), c = command_buffer();
    encode(large, c, m);
    EXPECT_FAILURE(NULL, c, "4 x 5 elements from row 0, column 0 on are needed of the left matrix, which is 4 x 4");
    c = command_buffer();
    SEND(void, good, "setResultMatrixOrigin:", (sm_id, sm_sel, sm_size), ((sm_size){0, 1, 0}));
    encode(good, c, m);
    EXPECT_FAILURE(NULL, c, "from row 1, column 0 on are needed of the result matrix");
    SEND(void, good, "setResultMatrixOrigin:", (sm_id, sm_sel, sm_size), ((sm_size){0, 0, 0}));
    c = command_buffer();
    encode(good, c, (const sm_id[3]){m[0], m[1], m[0]});
    EXPECT_FAILURE(NULL, c, "the result is one of the operands");
    c = command_buffer();
    encode(good, c, (const sm_id[3]){m[0], NULL, m[2]});
    EXPECT_FAILURE(NULL, c, "the right matrix is nil");
    c = command_buffer();
    sm_id e = encoder_of(c);
    encode(good, c, m);
    EXPECT_FAILURE(e, c, "an encoder of the command buffer is open");
    SEND(void, good, "setBatchSize:", (sm_id, sm_sel, sm_uint), 2ul);
    c = command_buffer();
    encode(good, c, m);
    EXPECT_FAILURE(NULL, c, "2 matrices from 0 on are needed of the left matrix, which has 1");
    encode(good, c, m);
    EXPECT_FOUND("2 matrices from 0 on");
    SEND(void, good, "setBatchSize:", (sm_id, sm_sel, sm_uint), 1ul);
    encode(good, c, m);
    EXPECT_FOUND("the command buffer is committed already");
    const sm_id all[] = {m[0], m[1], m[2], good, large, b};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        tell(all[i], "release");
}

void test_mps(void) {
    void (*const tests[])(void) = {test_matrices, test_vectors, test_descriptors, test_encoding};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        void *pool = sm_objc_api()->pool_push();
        tests[i]();
        (void)finish(NULL, command_buffer());
        sm_objc_api()->pool_pop(pool);
        EXPECT_CLEAN();
    }
}
