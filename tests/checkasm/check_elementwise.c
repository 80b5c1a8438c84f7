/* The element-wise kernels: rows of + - * /, conversions and transposes. What each must give is exact, so every tier is
 * compared with arithmetic in double that is rounded as often as the kernel rounds. */
#include "checkasm.h"
#include "device/cpu/elementwise.h"

#include <math.h>
#include <string.h>

enum { LENGTHS = 40 };

static const ml_dtype dtypes[] = {ML_F32, ML_F16, ML_BF16};

/* ---- rows ---- */

/* In f32, then rounded to the dtype. A float operation done in double and rounded is the float operation: double has
 * more than twice the bits (S. A. Figueroa, "When is double rounding innocuous?", SIGNUM Newsletter 30(3), 1995). */
static double row_result(ml_binary_kind kind, ml_dtype dtype, double a, double b) {
    const double exact = kind == ML_ADD ? a + b : kind == ML_SUB ? a - b : kind == ML_MUL ? a * b : a / b;
    uint16_t element[2];
    ml_store_element(dtype, element, (double)(float)exact);
    return ml_load_element(dtype, element);
}

typedef struct row_case {
    ml_dtype dtype;
    ml_binary_kind kind;
    int64_t n;
    bool a_value, b_value; /* a number in place of the operand */
    check_values values;
} row_case;

static double operand_at(const row_case *c, const check_buffer *x, float value, bool is_value, int64_t i) {
    return is_value ? value : ml_load_element(c->dtype, x->data + i * (int64_t)ml_dtype_size_of(c->dtype));
}

static void check_row(const ml_elementwise_impl *impl, const row_case *c, bool in_place) {
    const size_t size = ml_dtype_size_of(c->dtype), bytes = (size_t)c->n * size;
    check_buffer a, b, out;
    check_alloc(&a, bytes, size);
    check_alloc(&b, bytes, size);
    check_alloc(&out, bytes, size);
    check_fill(c->dtype, a.data, c->n, 1, c->values);
    check_fill(c->dtype, b.data, c->n, 1, c->values);
    check_begin("%s kind %d, n %lld%s%s%s, %s", ml_dtype_name(c->dtype), (int)c->kind, (long long)c->n,
                c->a_value ? ", a a number" : "", c->b_value ? ", b a number" : "", in_place ? ", in place" : "",
                check_values_name(c->values));
    ml_ew_row row = {.out = out.data,
                     .a = c->a_value ? NULL : a.data,
                     .b = c->b_value ? NULL : b.data,
                     .a_value = -0.75f,
                     .b_value = 1.5f,
                     .n = c->n};
    unsigned char *kept = c->a_value ? b.data : a.data;
    if (in_place)
        memcpy(out.data, kept, bytes);
    if (in_place && c->a_value)
        row.b = out.data;
    else if (in_place)
        row.a = out.data;
    impl->rows[c->dtype][c->kind](&row);
    for (int64_t i = 0; i < c->n; i++) {
        const double want = row_result(c->kind, c->dtype, operand_at(c, &a, row.a_value, c->a_value, i),
                                       operand_at(c, &b, row.b_value, c->b_value, i));
        const double got = ml_load_element(c->dtype, out.data + i * (int64_t)size);
        if (!check_same(got, want))
            check_fail("element %lld is %.9g, not %.9g", (long long)i, got, want);
    }
    check_guards(&a, "a");
    check_guards(&b, "b");
    check_guards(&out, "out");
    check_free(&a);
    check_free(&b);
    check_free(&out);
}

static void check_rows(const ml_elementwise_impl *impl, ml_dtype dtype) {
    for (int kind = ML_ADD; kind <= ML_DIV; kind++)
        for (int64_t n = 0; n < LENGTHS; n++)
            for (int form = 0; form < 3; form++)
                for (int values = 0; values < CHECK_VALUES_COUNT; values++) {
                    const row_case c = {.dtype = dtype,
                                        .kind = (ml_binary_kind)kind,
                                        .n = n,
                                        .a_value = form == 1,
                                        .b_value = form == 2,
                                        .values = (check_values)values};
                    check_row(impl, &c, false);
                    check_row(impl, &c, true);
                }
}

/* ---- conversions ---- */

static uint32_t bits_of(const void *p, size_t size) {
    uint32_t bits = 0;
    memcpy(&bits, p, size); /* little endian, as every tier's machine; on others both sides are shifted alike */
    return bits;
}

/* Every bit pattern, from an address and with a length that vary. */
static void check_widen(const ml_elementwise_impl *impl, ml_dtype dtype) {
    check_buffer from, to;
    for (uint32_t first = 0, n; first < 65536; first += n) {
        n = (uint32_t)check_range(1, 3 * LENGTHS);
        n = n < 65536 - first ? n : 65536 - first;
        check_alloc(&from, n * sizeof(uint16_t), sizeof(uint16_t));
        check_alloc(&to, n * sizeof(float), sizeof(float));
        check_begin("%s to float32, patterns from %#x, %u of them", ml_dtype_name(dtype), first, n);
        for (uint32_t i = 0; i < n; i++)
            ((uint16_t *)(void *)from.data)[i] = (uint16_t)(first + i);
        impl->widen[dtype]((float *)(void *)to.data, (const uint16_t *)(const void *)from.data, n);
        for (uint32_t i = 0; i < n; i++) {
            const uint16_t h = (uint16_t)(first + i);
            const float want = dtype == ML_F16 ? ml_half_to_float(h) : ml_bfloat_to_float(h);
            if (bits_of(to.data + i * sizeof want, sizeof want) != bits_of(&want, sizeof want))
                check_fail("%#x becomes %#x, not %#x", h, bits_of(to.data + i * sizeof want, sizeof want),
                           bits_of(&want, sizeof want));
        }
        check_guards(&from, "source");
        check_guards(&to, "result");
        check_free(&from);
        check_free(&to);
    }
}

/* Bit patterns of all exponents, and those next to what rounds either way. */
static void check_narrow(const ml_elementwise_impl *impl, ml_dtype dtype) {
    for (int round = 0; round < 400; round++) {
        const int64_t n = round % (3 * LENGTHS);
        check_buffer from, to;
        check_alloc(&from, (size_t)n * sizeof(float), sizeof(float));
        check_alloc(&to, (size_t)n * sizeof(uint16_t), sizeof(uint16_t));
        check_begin("float32 to %s, n %lld", ml_dtype_name(dtype), (long long)n);
        float *src = (float *)(void *)from.data;
        for (int64_t i = 0; i < n; i++) {
            uint32_t bits = (uint32_t)check_rand();
            if (i % 3 == 1) /* half way between two f16, or two bf16, and one off */
                bits = (bits & (dtype == ML_F16 ? 0xffffe000u : 0xffff0000u)) + (dtype == ML_F16 ? 0x1000u : 0x8000u) +
                       (uint32_t)check_range(-1, 1);
            src[i] = ml_float_from_bits(bits);
        }
        impl->narrow[dtype]((uint16_t *)(void *)to.data, src, n);
        for (int64_t i = 0; i < n; i++) {
            const uint16_t want = dtype == ML_F16 ? ml_float_to_half(src[i]) : ml_float_to_bfloat(src[i]);
            const uint16_t got = ((const uint16_t *)(const void *)to.data)[i];
            if (got != want)
                check_fail("%#x becomes %#x, not %#x", ml_float_bits(src[i]), got, want);
        }
        check_guards(&from, "source");
        check_guards(&to, "result");
        check_free(&from);
        check_free(&to);
    }
}

/* ---- transposes ---- */

static void check_transpose(ml_ew_transpose_fn fn, size_t size, int64_t rows, int64_t cols) {
    const int64_t dst_ld = cols + check_range(0, 3), src_ld = rows + check_range(0, 3);
    check_buffer src, dst;
    check_alloc(&src, (size_t)((cols - 1) * src_ld + rows) * size, size);
    check_alloc(&dst, (size_t)((rows - 1) * dst_ld + cols) * size, size);
    check_begin("transpose of %zu-byte elements, %lld x %lld", size, (long long)rows, (long long)cols);
    for (size_t i = 0; i < src.bytes; i++)
        src.data[i] = (unsigned char)check_rand();
    memset(dst.data, CHECK_PATTERN, dst.bytes);
    fn(&(ml_ew_transpose){dst.data, src.data, dst_ld, src_ld, rows, cols});
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < dst_ld && i * dst_ld + j < (rows - 1) * dst_ld + cols; j++) {
            const unsigned char *got = dst.data + (size_t)(i * dst_ld + j) * size;
            const uint32_t want =
                j < cols ? bits_of(src.data + (size_t)(j * src_ld + i) * size, size) : UINT32_MAX >> (32 - 8 * size);
            if (bits_of(got, size) != want)
                check_fail("(%lld, %lld) is %#x, not %#x", (long long)i, (long long)j, bits_of(got, size), want);
        }
    check_guards(&src, "source");
    check_guards(&dst, "result");
    check_free(&src);
    check_free(&dst);
}

/* Rows of the table for binary operations and for copies share one table of functions: each checks what it uses. */
void check_elementwise(const ml_kernel_desc *row, const ml_kernel_desc *reference) {
    (void)reference;
    const ml_elementwise_impl *impl = row->impl;
    if (row->op == ML_OP_BINARY) {
        for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++)
            check_rows(impl, dtypes[d]);
        return;
    }
    for (size_t d = 1; d < sizeof dtypes / sizeof dtypes[0]; d++) {
        check_widen(impl, dtypes[d]);
        check_narrow(impl, dtypes[d]);
    }
    for (size_t i = 0; i < 3; i++)
        for (int64_t rows = 1; rows <= 20; rows++)
            for (int64_t cols = 1; cols <= 20; cols++)
                check_transpose(impl->transpose[i], (size_t)1 << i, rows, cols);
}

/* ---- benchmark ---- */

enum { BENCH_N = 4096 };
typedef struct bench_case {
    const ml_elementwise_impl *impl;
    ml_dtype dtype;
    float a[BENCH_N], b[BENCH_N], out[BENCH_N];
} bench_case;

static void bench_add(void *arg) {
    bench_case *c = arg;
    c->impl->rows[c->dtype][ML_ADD](&(ml_ew_row){.out = c->out, .a = c->a, .b = c->b, .n = BENCH_N});
}

static void bench_transpose(void *arg) {
    bench_case *c = arg;
    c->impl->transpose[c->dtype == ML_F32 ? 2 : 1](&(ml_ew_transpose){c->out, c->a, 64, 64, 64, 64});
}

void bench_elementwise(const ml_kernel_desc *row, const ml_kernel_desc *reference) {
    (void)reference;
    static bench_case c;
    c.impl = row->impl;
    for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++) {
        c.dtype = dtypes[d];
        check_fill(c.dtype, c.a, BENCH_N, 1, CHECK_RANDOM);
        check_fill(c.dtype, c.b, BENCH_N, 1, CHECK_RANDOM);
        check_bench(ml_dtype_name(c.dtype), row->op == ML_OP_BINARY ? bench_add : bench_transpose, &c, BENCH_N,
                    "elements/ns");
    }
}
