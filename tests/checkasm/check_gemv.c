/* The vector and small-N kernels: sums in both orders for every number of columns, packing, the epilogue. */
#include "matrix.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_COLS = 16 };

static float *floats(const check_buffer *b) {
    return (float *)(void *)b->data;
}

static int64_t round_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

/* ---- sums ---- */

typedef enum sums_kind { DOT, AXPY, OUTER } sums_kind;
static const char *const kind_names[] = {"dot", "axpy", "outer"};

static ml_gemv_block_fn kernel_of(const ml_gemv_impl *impl, sums_kind kind, ml_dtype dtype) {
    return (kind == DOT ? impl->dot : kind == AXPY ? impl->axpy : impl->outer)[dtype];
}

/* One block with everything it reads and writes. In w, x and y the first index runs along rows or k. */
typedef struct sums_case {
    const ml_gemv_impl *impl;
    sums_kind kind;
    bool axpy; /* kind == AXPY */
    ml_dtype dtype;
    int64_t rows, k;
    int n;
    check_values values;
    matrix w, x;            /* [rows, k]; [k, n], f32 */
    check_buffer packed, y; /* x as the kernel takes it, when not in place; the result */
    check_buffer y_before;  /* what accumulate adds to */
    ml_gemv_block block;
    int64_t y_row, y_col; /* strides of y */
} sums_case;

/* As pairs: "dot" in blocks, "axpy" word by word along the rows or the columns. */
static void lay_out_pairs(sums_case *t) {
    enum { BLOCK = ML_GEMV_X_BLOCK / 2 };
    ml_gemv_block *b = &t->block;
    const int64_t words = t->axpy ? (t->k + 1) / 2 : round_up(t->k, ML_GEMV_X_BLOCK) / 2;
    const bool by_rows = check_rand() % 2, apart = check_rand() % 2;
    ml_gemv_pairs to = {t->n, BLOCK * t->n, 1, BLOCK, true};
    if (t->axpy)
        to = (ml_gemv_pairs){t->n, by_rows ? BLOCK * t->n : BLOCK, by_rows ? t->n : 1, by_rows ? 1 : words, false};
    to.n = apart ? 1 : t->n;
    check_alloc(&t->packed, (size_t)(words * t->n) * sizeof(float), t->axpy ? 4 : 64);
    for (int j = 0; j < t->n; j += to.n) {
        ml_mat from = t->x.mat;
        from.data = matrix_at(&t->x.mat, 0, j);
        t->impl->pack_pairs(floats(&t->packed) + j * to.column, &from, t->k, &to);
    }
    check_guards(&t->packed, "pairs");
    b->x = floats(&t->packed);
    b->x_rs = to.word;
    b->x_cs = to.column;
}

static void lay_out_x(sums_case *t) {
    ml_gemv_block *b = &t->block;
    if (t->impl->pack_pairs) {
        lay_out_pairs(t);
        return;
    }
    if (t->kind != DOT) { /* any strides; "outer": of rows */
        b->x = (const float *)t->x.mat.data;
        b->x_rs = t->x.mat.rs;
        b->x_cs = t->x.mat.cs;
        check_alloc(&t->packed, 0, 4);
        return;
    }
    if (t->n == 1 && t->dtype != ML_BF16 && t->x.mat.rs == 1 && check_rand() % 2) { /* the column itself */
        b->x = (const float *)t->x.mat.data;
        check_alloc(&t->packed, 0, 4);
        return;
    }
    const int64_t padded = round_up(t->k, ML_GEMV_X_BLOCK);
    check_alloc(&t->packed, (size_t)(padded * t->n) * sizeof(float), 64);
    /* In one go, or column by column, as for columns that do not follow each other. */
    const bool apart = check_rand() % 2;
    for (int j = 0; j < t->n; j += apart ? 1 : t->n) {
        ml_mat from = t->x.mat;
        from.data = matrix_at(&t->x.mat, 0, j);
        t->impl->pack_x(floats(&t->packed) + j * ML_GEMV_X_BLOCK, &from, t->k,
                        (ml_gemv_x_layout){apart ? 1 : t->n, t->n, t->dtype == ML_BF16});
    }
    b->x = floats(&t->packed);
}

static void sums_alloc(sums_case *t) {
    /* dot: a row is contiguous; axpy: a step of k is. The memory ends with the last element. */
    static const layout rows[] = {ROWS, ROWS_APART, ROWS_PITCHED};
    const layout along = t->axpy ? (check_rand() % 2 ? COLUMNS : COLUMNS_APART) : rows[check_range(0, 2)];
    matrix_alloc(&t->w, t->dtype, t->rows, t->k, along);
    matrix_fill(&t->w, t->values);
    matrix_alloc(&t->x, t->impl->pack_pairs ? t->dtype : ML_F32, t->k, t->n,
                 t->kind == OUTER ? rows[check_range(0, 2)] : (layout)check_range(0, LAYOUT_COUNT - 1));
    matrix_fill(&t->x, t->values);

    t->block = (ml_gemv_block){.w = t->w.mat.data,
                               .ldw = t->axpy ? t->w.mat.cs : t->w.mat.rs,
                               .ldy = t->rows + check_range(0, 3),
                               .rows = t->rows,
                               .k = t->k,
                               .n = t->n,
                               .accumulate = check_rand() % 2,
                               .stream = check_rand() % 2};
    lay_out_x(t);
    t->y_row = t->axpy ? 1 : t->n;
    t->y_col = t->axpy ? t->block.ldy : 1;
    const int64_t elements = (t->rows - 1) * t->y_row + (t->n - 1) * t->y_col + 1;
    check_alloc(&t->y, (size_t)elements * sizeof(float), 4);
    check_alloc(&t->y_before, (size_t)elements * sizeof(float), 4);
    for (int64_t i = 0; i < t->rows && t->block.accumulate; i++)
        check_fill(ML_F32, floats(&t->y) + i * t->y_row, t->n, t->y_col, t->values);
    memcpy(t->y_before.data, t->y.data, t->y.bytes);
    t->block.y = floats(&t->y);
}

static void sums_free(sums_case *t) {
    check_free(&t->w.buffer);
    check_free(&t->x.buffer);
    check_free(&t->packed);
    check_free(&t->y);
    check_free(&t->y_before);
}

static void check_sums(sums_case *t) {
    for (int64_t i = 0; i < t->rows; i++) {
        for (int j = 0; j < t->n; j++) {
            const int64_t at = i * t->y_row + j * t->y_col;
            double want = t->block.accumulate ? (double)floats(&t->y_before)[at] : 0.0, magnitude = fabs(want);
            double flushed = 0.0; /* terms whose operand dot products of bf16 take as zero */
            for (int64_t p = 0; p < t->k; p++) {
                const double w = matrix_value(&t->w.mat, i, p), x = matrix_value(&t->x.mat, p, j), term = w * x;
                const bool zero =
                    t->impl->pack_pairs && t->dtype == ML_BF16 && (fabs(w) < 0x1p-126 || fabs(x) < 0x1p-126);
                flushed += zero && isfinite(term) ? fabs(term) : 0.0;
                want += zero && !isfinite(term) ? (double)NAN : term;
                magnitude += fabs(term);
            }
            /* Sums of small integers are exact in any order. */
            const double terms = (double)t->k + 2.0;
            const double bound = t->values == CHECK_INTEGERS ? 0.0 : terms * (0x1p-24 * magnitude + 0x1p-126) + flushed;
            const double got = (double)floats(&t->y)[at];
            if (!check_close(got, want, bound)) {
                check_fail("(%lld, %d), k %lld, %s%s: %.9g, not %.9g within %.2g", (long long)i, j, (long long)t->k,
                           check_values_name(t->values), t->block.accumulate ? ", accumulate" : "", got, want, bound);
                return;
            }
            memset(t->y.data + at * (int64_t)sizeof(float), CHECK_PATTERN, sizeof(float));
        }
    }
    for (size_t byte = 0; byte < t->y.bytes; byte++) {
        if (t->y.data[byte] != CHECK_PATTERN) {
            check_fail("byte %zu of y, not a sum, was written", byte);
            break;
        }
    }
    check_guards(&t->y, "y");
}

/* A sum must not depend on how many rows are computed beside it: splits into tasks would show in the result. */
static void check_row_alone(const sums_case *t) {
    const int64_t i = check_range(0, t->rows - 1);
    float alone[MAX_COLS];
    sums_case one = *t;
    ml_gemv_block *b = &one.block;
    b->w = matrix_at(&t->w.mat, i, 0);
    b->rows = 1;
    b->y = alone;
    b->ldy = 1;
    b->stream = !b->stream;
    for (int j = 0; j < t->n; j++)
        alone[j] = floats(&t->y_before)[i * t->y_row + j * t->y_col];
    kernel_of(t->impl, t->kind, t->dtype)(b);
    for (int j = 0; j < t->n; j++) {
        const float together = floats(&t->y)[i * t->y_row + j * t->y_col];
        if (!check_same((double)alone[j], (double)together)) {
            check_fail("row %lld of %lld, column %d: %.9g alone, %.9g among the others", (long long)i,
                       (long long)t->rows, j, (double)alone[j], (double)together);
            return;
        }
    }
}

static void check_products(const ml_gemv_impl *impl, sums_kind kind, ml_dtype dtype, int n) {
    static const int64_t extents[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 130, 257};
    enum { EXTENTS = sizeof extents / sizeof extents[0] };
    check_begin("%s %s, %d columns", kind_names[kind], ml_dtype_name(dtype), n);
    /* One column has kernels of its own, for several kinds of memory. */
    for (int round = 0; round < (n == 1 ? 30 : 3) * EXTENTS; round++) {
        sums_case t = {.impl = impl, .kind = kind, .axpy = kind == AXPY, .dtype = dtype, .n = n};
        t.values = (check_values)(round % CHECK_VALUES_COUNT);
        t.rows = round % 2 ? extents[round / 3 % EXTENTS] : extents[check_range(0, EXTENTS - 1)];
        t.k = round % 2 ? extents[check_range(0, EXTENTS - 1)] : extents[round / 3 % EXTENTS];
        sums_alloc(&t);
        kernel_of(impl, kind, dtype)(&t.block);
        check_row_alone(&t);
        check_sums(&t);
        sums_free(&t);
    }
}

/* ---- packing ---- */

/* collect: without conversion. */
static void check_pack_w(const ml_gemv_impl *impl, ml_dtype dtype, layout kind, bool collect) {
    static const int64_t depths[] = {1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 67};
    check_begin("%s %s, %s", collect ? "collect" : "pack_w", ml_dtype_name(dtype), layout_names[kind]);
    for (size_t d = 0; d < sizeof depths / sizeof depths[0]; d++) {
        const int64_t rows = check_range(1, 19), k = depths[d];
        matrix src, dst;
        matrix_alloc(&src, dtype, rows, k, kind);
        matrix_fill(&src, (check_values)check_range(0, CHECK_VALUES_COUNT - 1));
        matrix_alloc(&dst, collect ? dtype : ML_F32, rows, k, ROWS_APART);
        if (collect)
            impl->collect(dst.mat.data, dst.mat.rs, &src.mat, rows, k);
        else
            impl->pack_w((float *)dst.mat.data, dst.mat.rs, &src.mat, rows, k);
        for (int64_t i = 0; i < rows; i++) {
            for (int64_t p = 0; p < k; p++) {
                const double got = matrix_value(&dst.mat, i, p), want = matrix_value(&src.mat, i, p);
                if (!check_same(got, want)) {
                    check_fail("(%lld, %lld) of %lld x %lld: %g, not %g", (long long)i, (long long)p, (long long)rows,
                               (long long)k, got, want);
                    i = rows - 1;
                    break;
                }
            }
        }
        matrix_erase(&dst);
        matrix_check_erased(&dst, "packed rows");
        check_free(&src.buffer);
        check_free(&dst.buffer);
    }
}

/* ---- epilogue ---- */

static void check_store_case(const ml_gemv_impl *impl, int64_t outer, int64_t inner, check_values values) {
    matrix y, c, bias, out;
    matrix_alloc(&y, ML_F32, outer, inner, check_rand() % 2 ? ROWS : ROWS_APART);
    matrix_fill(&y, values);
    matrix_alloc(&out, check_dtypes[check_range(0, 2)], outer, inner, (layout)check_range(0, LAYOUT_COUNT - 1));
    matrix_alloc(&c, check_dtypes[check_range(0, 2)], outer, inner, (layout)check_range(0, LAYOUT_COUNT - 1));
    matrix_fill(&c, values);
    matrix_alloc(&bias, check_dtypes[check_range(0, 2)], outer, inner, (layout)check_range(0, LAYOUT_COUNT - 1));
    matrix_fill(&bias, values);
    ml_gemv_store s = {.y = (const float *)y.mat.data, .ldy = y.mat.rs, .outer = outer, .inner = inner};
    s.out = out.mat;
    s.alpha = check_rand() % 2 ? 1.0f : (float)check_range(-3, 3) * 0.5f;
    s.beta = check_rand() % 2 ? 1.0f : (float)check_range(-3, 3);
    const int c_kind = (int)check_range(0, 3), bias_kind = (int)check_range(0, 3);
    if (c_kind > 0) /* a matrix, or one row or column for all */
        s.c_in = (ml_mat){c.mat.data, c_kind == 1 ? 0 : c.mat.rs, c_kind == 2 ? 0 : c.mat.cs, c.mat.dtype};
    if (bias_kind > 0)
        s.bias =
            (ml_mat){bias.mat.data, bias_kind == 1 ? 0 : bias.mat.rs, bias_kind == 2 ? 0 : bias.mat.cs, bias.mat.dtype};
    s.activation = check_rand() % 2 ? ML_ACT_NONE : (ml_activation)check_range(0, ML_ACT_RELU);
    impl->store(&s);
    for (int64_t o = 0; o < outer; o++) {
        for (int64_t i = 0; i < inner; i++) {
            /* The order of operations is the contract's, so the value before rounding is known but for contraction. */
            double value = matrix_value(&y.mat, o, i) * (double)s.alpha, magnitude = fabs(value);
            if (s.c_in.data) {
                const double term = (double)s.beta * matrix_value(&s.c_in, o, i);
                value += term;
                magnitude += fabs(term);
            }
            if (s.bias.data) {
                value += matrix_value(&s.bias, o, i);
                magnitude += fabs(matrix_value(&s.bias, o, i));
            }
            double want = value, bound = 4.0 * (0x1p-24 * magnitude + 0x1p-149);
            if (s.activation != ML_ACT_NONE) { /* no activation is steeper than 1.13 */
                want = (double)ml_activate(s.activation, (float)value);
                bound = 1.13 * (bound + 0x1p-24 * fabs(value)) + 8.0 * 0x1p-24 * fabs(want) + 0x1p-125;
                if (isinf(value) && value < 0.0)
                    want = 0.0;
            }
            bound += check_rounding(out.mat.dtype, fabs(want) + bound);
            const double got = matrix_value(&out.mat, o, i);
            if (!check_close(got, want, bound)) {
                check_fail("(%lld, %lld) of %lld x %lld: %.9g, not %.9g within %.2g; alpha %g beta %g c %d bias %d act "
                           "%d out %s",
                           (long long)o, (long long)i, (long long)outer, (long long)inner, got, want, bound,
                           (double)s.alpha, (double)s.beta, c_kind, bias_kind, (int)s.activation,
                           ml_dtype_name(out.mat.dtype));
                o = outer - 1;
                break;
            }
        }
    }
    matrix_erase(&out);
    matrix_check_erased(&out, "out");
    check_free(&y.buffer);
    check_free(&c.buffer);
    check_free(&bias.buffer);
    check_free(&out.buffer);
}

static void check_store(const ml_gemv_impl *impl) {
    for (int outer = 1; outer <= MAX_COLS + 1; outer++) {
        check_begin("store, %d", outer);
        for (int round = 0; round < 60; round++) {
            const int64_t inner = check_range(1, round % 4 ? 40 : 300);
            const check_values values = (check_values)(round % CHECK_VALUES_COUNT);
            check_store_case(impl, outer, inner, values);
            check_store_case(impl, inner, outer, values);
        }
    }
}

void check_gemv(const ml_kernel_desc *row, const ml_kernel_desc *reference) {
    (void)reference; /* float64 is; sums of integers are exact */
    const ml_gemv_impl *impl = row->impl;
    check_begin("table");
    if ((impl->pack_pairs && impl->dot[ML_BF16]) != ((row->supports & ML_SUP_BF16_DOT) != 0) ||
        (impl->pack_pairs && impl->dot[ML_F16]) != ((row->supports & ML_SUP_F16_DOT) != 0))
        check_fail("row and implementation differ on pairs");
    for (size_t d = 0; d < 3; d++) {
        if (!impl->dot[check_dtypes[d]]) /* pairs are of one dtype */
            continue;
        for (int n = 1; n <= MAX_COLS; n++) {
            for (sums_kind kind = DOT; kind <= OUTER; kind++) {
                if (kernel_of(impl, kind, check_dtypes[d]))
                    check_products(impl, kind, check_dtypes[d], n);
            }
        }
        for (int kind = 0; kind < LAYOUT_COUNT && impl->pack_w; kind++)
            check_pack_w(impl, check_dtypes[d], (layout)kind, false);
        for (int kind = 0; kind < LAYOUT_COUNT && impl->collect; kind++)
            check_pack_w(impl, check_dtypes[d], (layout)kind, true);
    }
    if (impl->store)
        check_store(impl);
}

/* ---- benchmark ---- */

typedef struct bench_arg {
    ml_gemv_block_fn fn;
    ml_gemv_block block;
} bench_arg;

static void bench_products(void *arg) {
    const bench_arg *b = arg;
    b->fn(&b->block);
}

/* Weights that stay in the second-level cache. */
void bench_gemv(const ml_kernel_desc *row, const ml_kernel_desc *reference) {
    (void)reference;
    enum { ROWS_TIMED = 64, K = 1024 };
    const ml_gemv_impl *impl = row->impl;
    check_buffer w, x, y;
    check_alloc(&w, sizeof(float) * ROWS_TIMED * K, 64);
    check_alloc(&x, sizeof(float) * K * MAX_COLS, 64);
    check_alloc(&y, sizeof(float) * K * MAX_COLS, 64);
    memset(w.data, 0, w.bytes);
    memset(x.data, 0, x.bytes);
    for (sums_kind kind = DOT; kind <= OUTER; kind++) {
        const bool axpy = kind == AXPY;
        for (size_t d = 0; d < 3; d++) {
            for (int n = 1; n <= MAX_COLS && kernel_of(impl, kind, check_dtypes[d]); n += n < 8 ? 1 : 8) {
                bench_arg arg = {.fn = kernel_of(impl, kind, check_dtypes[d])};
                arg.block = (ml_gemv_block){.w = w.data,
                                            .ldw = K,
                                            .x = floats(&x),
                                            .x_rs = n,
                                            .x_cs = 1,
                                            .y = floats(&y),
                                            .ldy = K,
                                            .rows = axpy ? K : ROWS_TIMED,
                                            .k = axpy ? ROWS_TIMED : K,
                                            .n = n};
                char what[64];
                snprintf(what, sizeof what, "%s %s, %d columns", kind_names[kind], ml_dtype_name(check_dtypes[d]), n);
                check_bench(what, bench_products, &arg, (double)(ml_dtype_size_of(check_dtypes[d]) * ROWS_TIMED * K),
                            "weight bytes/ns");
            }
        }
    }
    check_free(&w);
    check_free(&x);
    check_free(&y);
}
