/* The tiled GEMM's kernels: packing in every layout, micro-kernels at every edge tile. */
#include "matrix.h"
#include "dispatch/gemm_layout.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- packing ---- */

typedef struct panel_shape {
    int width, k_pack;
    int k_unit; /* 0: k_pack */
    bool tiles; /* in a unit, row follows row */
} panel_shape;

static panel_shape shape_a(const ml_gemm_impl *impl) {
    return (panel_shape){impl->mr, impl->k_pack, impl->k_unit, impl->k_unit != 0};
}

static panel_shape shape_b(const ml_gemm_impl *impl) {
    return (panel_shape){impl->nr, impl->k_pack, impl->k_unit, false};
}

/* Steps that a panel holds. */
static int64_t steps_of(const panel_shape *s, int64_t k) {
    const int64_t unit = s->k_unit ? s->k_unit : s->k_pack;
    return (k + unit - 1) / unit * unit;
}

/* Bytes of a panel. */
static size_t panel_bytes(const panel_shape *s, int64_t k) {
    return (size_t)(steps_of(s, k) / s->k_pack * s->width) * sizeof(float);
}

/* Where element (i, p) of a panel of pairs is. */
static int64_t pair_at(const panel_shape *s, int64_t i, int64_t p) {
    if (s->tiles)
        return p / s->k_unit * s->k_unit * s->width + i * s->k_unit + p % s->k_unit;
    return (p / 2 * s->width + i) * 2 + p % 2;
}

/* Element (i, p) of a packed panel. */
static double panel_at(const void *panel, const panel_shape *s, int64_t i, int64_t p) {
    if (s->k_pack == 1)
        return (double)((const float *)panel)[p * s->width + i];
    return ml_load_element(ML_BF16, (const uint16_t *)panel + pair_at(s, i, p));
}

static void check_pack_case(ml_gemm_pack_fn pack, const panel_shape *shape, const matrix *src, int64_t k) {
    check_buffer dst;
    const int64_t width = shape->width, steps = steps_of(shape, k);
    check_alloc(&dst, panel_bytes(shape, k), 64);
    pack((float *)(void *)dst.data, &src->mat, src->m, k);
    for (int64_t p = 0; p < steps; p++) {
        for (int64_t i = 0; i < width; i++) {
            double want = i < src->m && p < k ? matrix_value(&src->mat, i, p) : 0.0;
            double got = panel_at(dst.data, shape, i, p);
            if (!check_same(got, want)) {
                check_fail("row %lld of %lld, k %lld of %lld: %g, not %g", (long long)i, (long long)src->m,
                           (long long)p, (long long)k, got, want);
                p = steps - 1;
                break;
            }
        }
    }
    check_guards(&dst, "panel");
    check_free(&dst);
}

static void check_pack(const char *name, ml_gemm_pack_fn pack, const panel_shape *shape) {
    const int width = shape->width;
    static const int64_t depths[] = {0, 1, 2, 7, 15, 16, 17, 31, 48, 67};
    for (size_t d = shape->k_pack == 1 ? 0 : 2; d < 3; d++) { /* pairs are bf16 */
        for (int kind = 0; kind < LAYOUT_COUNT; kind++) {
            for (int count = 1; count <= width; count++) {
                check_begin("%s %s, %s, %d of %d", name, ml_dtype_name(check_dtypes[d]), layout_names[kind], count,
                            width);
                for (size_t k = 0; k < sizeof depths / sizeof depths[0]; k++) {
                    matrix src;
                    matrix_alloc(&src, check_dtypes[d], count, depths[k], (layout)kind);
                    matrix_fill(&src, (check_values)check_range(0, CHECK_VALUES_COUNT - 1));
                    check_pack_case(pack, shape, &src, depths[k]);
                    if (kind == ROWS && depths[k] > 0) { /* the same row, the same element, again and again */
                        matrix repeated = src;
                        repeated.mat.rs = 0;
                        check_pack_case(pack, shape, &repeated, depths[k]);
                        repeated.mat.cs = 0;
                        check_pack_case(pack, shape, &repeated, depths[k]);
                    }
                    check_free(&src.buffer);
                }
            }
        }
    }
}

/* ---- micro-kernel ---- */

typedef enum sums { SUMS_NONE, SUMS_STORE, SUMS_LOAD_STORE, SUMS_LOAD, SUMS_COUNT } sums;

typedef struct tile_case {
    const ml_gemm_impl *impl;
    int64_t m, n, k;
    check_values values;
    sums sums;
    check_buffer a, b;             /* operands as f32, [k][mr] and [k][b_stride] */
    check_buffer a_pairs, b_pairs; /* the same as the kernel's panels, where those are no f32 */
    check_buffer a_rows;           /* a as rows, where tile.a_rows is not 0 */
    check_buffer acc, acc_before;
    matrix c, bias, out;
    ml_mat c_before; /* a copy of c where out overwrites it */
    matrix c_copy;
    ml_ukr_tile tile;
    bool aliased;
} tile_case;

static float *floats(const check_buffer *b) {
    return (float *)(void *)b->data;
}

/* n random f32, for pairs of such values as bf16 holds. */
static void row_fill(float *row, int64_t n, int k_pack, check_values values) {
    if (k_pack == 1) {
        check_fill(ML_F32, row, n, 1, values);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        uint16_t element;
        check_fill(ML_BF16, &element, 1, 1, values);
        row[i] = (float)ml_load_element(ML_BF16, &element);
    }
}

static void panel_fill(check_buffer *b, const panel_shape *shape, int64_t k, int64_t used, check_values values) {
    const int64_t stride = shape->width;
    for (int64_t p = 0; p < k; p++) {
        row_fill(floats(b) + p * stride, used, shape->k_pack, values);
        for (int64_t i = used; i < stride && values != CHECK_INTEGERS; i++)
            floats(b)[p * stride + i] = 0.0f;
        for (int64_t i = used; i < stride && values == CHECK_INTEGERS; i++)
            floats(b)[p * stride + i] = NAN; /* what lies past the tile must not matter */
    }
}

/* The panel of pairs of what an f32 one holds, rounded there. */
static void make_pairs(check_buffer *pairs, const check_buffer *b, int64_t k, const panel_shape *shape) {
    const int64_t stride = shape->width;
    check_alloc(pairs, panel_bytes(shape, k), 64);
    memset(pairs->data, 0, pairs->bytes);
    uint16_t *to = (uint16_t *)(void *)pairs->data;
    for (int64_t p = 0; p < k; p++) {
        for (int64_t i = 0; i < stride; i++) {
            uint16_t *at = to + pair_at(shape, i, p);
            ml_store_element(ML_BF16, at, (double)floats(b)[p * stride + i]);
            floats(b)[p * stride + i] = (float)ml_load_element(ML_BF16, at);
        }
    }
}

/* A by rows, which end where readable memory ends. */
static void make_rows(tile_case *t) {
    const ml_dtype dtype = t->impl->k_pack == 2 ? ML_BF16 : ML_F32;
    const int64_t size = (int64_t)ml_dtype_size_of(dtype), step = (t->k + check_range(0, 9)) * size;
    check_alloc(&t->a_rows, (size_t)((t->m - 1) * step + t->k * size), (size_t)size);
    for (int64_t i = 0; i < t->m; i++)
        for (int64_t p = 0; p < t->k; p++)
            ml_store_element(dtype, t->a_rows.data + i * step + p * size, (double)floats(&t->a)[p * t->impl->mr + i]);
    t->tile.a_rows = step;
}

static void case_alloc(tile_case *t) {
    const int64_t mr = t->impl->mr, nr = t->impl->nr, size = (int64_t)sizeof(float);
    const bool plain = check_rand() % 4 == 0; /* the sums are the result, or are added to what out holds */
    t->sums = plain || check_rand() % 2 ? SUMS_NONE : (sums)check_range(0, SUMS_COUNT - 1);
    bool in_place = t->n == nr && t->impl->k_pack == 1 && check_rand() % 2;
    t->tile = (ml_ukr_tile){.m = t->m, .n = t->n, .alpha = 1.0f, .b_stride = in_place ? nr + check_range(0, 9) : nr};

    check_alloc(&t->a, (size_t)(t->k * mr * size), 64);
    const panel_shape of_a = shape_a(t->impl), of_b = shape_b(t->impl);
    panel_fill(&t->a, &of_a, t->k, t->m, t->values);
    int64_t b_floats = t->k == 0 ? 0 : (t->k - 1) * t->tile.b_stride + nr;
    check_alloc(&t->b, (size_t)(b_floats * size), in_place ? 4 : 64);
    for (int64_t p = 0; p < t->k; p++) {
        float *row = floats(&t->b) + p * t->tile.b_stride;
        row_fill(row, t->n, t->impl->k_pack, t->values);
        memset(row + t->n, 0, (size_t)(nr - t->n) * sizeof(float));
    }
    t->a_pairs = t->b_pairs = (check_buffer){0};
    if (t->impl->k_pack == 2) {
        make_pairs(&t->a_pairs, &t->a, t->k, &of_a);
        make_pairs(&t->b_pairs, &t->b, t->k, &of_b);
    }
    t->a_rows = (check_buffer){0};
    if (!t->impl->k_unit && t->k > 0 && t->k % t->impl->k_pack == 0 && check_rand() % 2)
        make_rows(t);
    check_alloc(&t->acc, (size_t)(mr * nr * size), 64);
    check_alloc(&t->acc_before, (size_t)(mr * nr * size), 64);
    if (t->sums == SUMS_LOAD || t->sums == SUMS_LOAD_STORE)
        panel_fill(&t->acc, &(panel_shape){.width = (int)nr, .k_pack = 1}, mr, nr, t->values);
    memcpy(t->acc_before.data, t->acc.data, t->acc.bytes);
    t->tile.acc_io = t->sums == SUMS_NONE ? NULL : floats(&t->acc);
    t->tile.acc_load = t->sums == SUMS_LOAD || t->sums == SUMS_LOAD_STORE;
    t->tile.acc_store = t->sums == SUMS_STORE || t->sums == SUMS_LOAD_STORE;

    layout out_layout = plain || check_rand() % 2 ? ROWS_APART : (layout)check_range(0, LAYOUT_COUNT - 1);
    matrix_alloc(&t->out, check_dtypes[plain ? 0 : check_range(0, 2)], t->m, t->n, out_layout);
    t->tile.out = t->out.mat;

    /* c: none, another matrix, out itself, one row or column or number for all. */
    t->aliased = false;
    int kind = (int)check_range(0, plain ? 1 : 5);
    matrix_alloc(&t->c, check_dtypes[check_range(0, 2)], t->m, t->n, (layout)check_range(0, LAYOUT_COUNT - 1));
    matrix_alloc(&t->c_copy, t->out.mat.dtype, t->m, t->n, ROWS);
    matrix_fill(&t->c, t->values);
    if (kind > 1) {
        t->tile.c_in = t->c.mat;
        t->tile.c_in.rs = kind == 4 ? 0 : t->tile.c_in.rs;
        t->tile.c_in.cs = kind == 5 ? 0 : t->tile.c_in.cs;
        t->c_before = t->tile.c_in;
    }
    if (kind == 1 || kind == 2) {
        t->aliased = true;
        t->tile.c_in = t->out.mat;
        matrix_fill(&t->out, t->values);
        for (int64_t i = 0; i < t->m; i++)
            for (int64_t j = 0; j < t->n; j++)
                memcpy(matrix_at(&t->c_copy.mat, i, j), matrix_at(&t->out.mat, i, j),
                       ml_dtype_size_of(t->out.mat.dtype));
        t->c_before = t->c_copy.mat;
    }
    t->tile.beta = plain || check_rand() % 2 ? 1.0f : (float)check_range(-3, 3);
    t->tile.alpha = plain || check_rand() % 2 ? 1.0f : (float)check_range(-3, 3) * 0.5f;

    matrix_alloc(&t->bias, check_dtypes[check_range(0, 2)], t->m, t->n, (layout)check_range(0, LAYOUT_COUNT - 1));
    matrix_fill(&t->bias, t->values);
    int bias = plain ? 0 : (int)check_range(0, 3);
    if (bias > 0) {
        t->tile.bias = t->bias.mat;
        t->tile.bias.rs = bias == 1 ? 0 : t->tile.bias.rs;
        t->tile.bias.cs = bias == 2 ? 0 : t->tile.bias.cs;
    }
    t->tile.activation = plain || check_rand() % 2 ? ML_ACT_NONE : (ml_activation)check_range(0, ML_ACT_RELU);
}

static void case_free(tile_case *t) {
    check_free(&t->a);
    check_free(&t->b);
    if (t->tile.a_rows)
        check_free(&t->a_rows);
    if (t->impl->k_pack == 2) {
        check_free(&t->a_pairs);
        check_free(&t->b_pairs);
    }
    check_free(&t->acc);
    check_free(&t->acc_before);
    check_free(&t->c.buffer);
    check_free(&t->c_copy.buffer);
    check_free(&t->bias.buffer);
    check_free(&t->out.buffer);
}

/* The tile by the reference micro-kernel, which has another size: part by part from panels of its own, into `result`.
 */
static void run_reference(const tile_case *t, const ml_gemm_impl *impl, matrix *result) {
    check_buffer a, b, acc;
    const int64_t mr = impl->mr, nr = impl->nr, size = (int64_t)sizeof(float);
    check_alloc(&a, (size_t)(t->k * mr * size), 64);
    check_alloc(&b, (size_t)(t->k * nr * size), 64);
    check_alloc(&acc, (size_t)(mr * nr * size), 64);
    for (int64_t i = 0; i < t->m; i += mr) {
        for (int64_t j = 0; j < t->n; j += nr) {
            ml_ukr_tile tile = t->tile;
            tile.m = t->m - i < mr ? t->m - i : mr;
            tile.n = t->n - j < nr ? t->n - j : nr;
            const ml_mat from_a = {floats(&t->a) + i, 1, t->impl->mr, ML_F32};
            const ml_mat from_b = {floats(&t->b) + j, 1, t->tile.b_stride, ML_F32};
            impl->pack_a(floats(&a), &from_a, tile.m, t->k);
            impl->pack_b(floats(&b), &from_b, tile.n, t->k);
            memset(acc.data, 0, acc.bytes);
            for (int64_t r = 0; r < tile.m; r++)
                memcpy(floats(&acc) + r * nr, floats(&t->acc_before) + (i + r) * t->impl->nr + j,
                       (size_t)tile.n * sizeof(float));
            tile.acc_io = tile.acc_load ? floats(&acc) : NULL;
            tile.acc_store = false;
            tile.b_stride = nr;
            tile.a_rows = 0;
            tile.out = result->mat;
            tile.out.data = matrix_at(&result->mat, i, j);
            if (tile.c_in.data) {
                tile.c_in = t->c_before;
                tile.c_in.data = matrix_at(&t->c_before, i, j);
            }
            if (tile.bias.data)
                tile.bias.data = matrix_at(&t->tile.bias, i, j);
            impl->ukr(t->k, floats(&a), floats(&b), &tile);
        }
    }
    check_free(&a);
    check_free(&b);
    check_free(&acc);
}

typedef struct expected {
    double value, magnitude; /* before the activation; sum of the absolute values of the terms */
    double flushed;          /* part of it whose terms have an operand that dot products of bf16 take as zero */
    bool zero_times_inf;     /* that operand's partner is no number or infinite: then the sum is no number */
} expected;

static expected sum_of(const tile_case *t, int64_t i, int64_t j) {
    expected e = {0};
    for (int64_t p = 0; p < t->k; p++) {
        double a = (double)floats(&t->a)[p * t->impl->mr + i], b = (double)floats(&t->b)[p * t->tile.b_stride + j];
        e.value += a * b;
        e.magnitude += fabs(a * b);
        if (t->impl->k_pack == 2 && (fabs(a) < 0x1p-126 || fabs(b) < 0x1p-126)) {
            e.flushed += isfinite(a * b) ? fabs(a * b) : 0.0;
            e.zero_times_inf = e.zero_times_inf || !isfinite(a * b);
        }
    }
    if (e.zero_times_inf)
        e.value = NAN;
    if (t->tile.acc_load) {
        double before = (double)floats(&t->acc_before)[i * t->impl->nr + j];
        e.value += before;
        e.magnitude += fabs(before);
    }
    return e;
}

/* f32 summation of k terms and a few more operations. */
static double sum_bound(const tile_case *t, const expected *e) {
    const double flushes = (double)t->k + (t->impl->k_unit ? (double)t->k / 16.0 : 0.0) + 6.0;
    return ((double)t->k + 6.0) * 0x1p-24 * e->magnitude + flushes * 0x1p-126 + e->flushed;
}

static void check_sums(const tile_case *t) {
    for (int64_t i = 0; i < t->m; i++) {
        for (int64_t j = 0; j < t->n; j++) {
            expected e = sum_of(t, i, j);
            double got = (double)floats(&t->acc)[i * t->impl->nr + j];
            double bound = t->values == CHECK_INTEGERS ? 0.0 : sum_bound(t, &e);
            if (!check_close(got, e.value, bound)) {
                check_fail("sum (%lld, %lld): %g, not %g", (long long)i, (long long)j, got, e.value);
                return;
            }
        }
    }
}

static void check_result(const tile_case *t, const matrix *reference) {
    const ml_ukr_tile *tile = &t->tile;
    for (int64_t i = 0; i < t->m; i++) {
        for (int64_t j = 0; j < t->n; j++) {
            expected e = sum_of(t, i, j);
            e.value *= (double)tile->alpha;
            e.magnitude *= fabs((double)tile->alpha);
            e.flushed *= fabs((double)tile->alpha);
            if (tile->c_in.data) {
                double c = (double)tile->beta * matrix_value(&t->c_before, i, j);
                e.value += c;
                e.magnitude += fabs(c);
            }
            if (tile->bias.data) {
                double bias = matrix_value(&tile->bias, i, j);
                e.value += bias;
                e.magnitude += fabs(bias);
            }
            double got = matrix_value(&tile->out, i, j), want = e.value;
            double bound = sum_bound(t, &e);
            if (tile->activation != ML_ACT_NONE) {
                want = (double)ml_activate(tile->activation, (float)want);
                /* No activation is steeper than 1.13; its own error is a few ulps, and it may flush what f32 cannot
                 * hold normally. */
                bound = 1.13 * (bound + 0x1p-24 * fabs(e.value)) + 8.0 * 0x1p-24 * fabs(want) + 0x1p-125;
                if (isinf(e.value) && e.value < 0.0)
                    want = 0.0;
            }
            bound += check_rounding(tile->out.dtype, fabs(want) + bound);
            double ref = matrix_value(&reference->mat, i, j);
            bool exact = t->values == CHECK_INTEGERS && tile->activation == ML_ACT_NONE;
            if (!check_close(got, want, bound) || (exact && !check_same(got, ref))) {
                check_fail("(%lld, %lld): %.9g, not %.9g within %.2g (reference kernel %.9g); alpha %g beta %g c %d%s "
                           "bias %d act %d out %s",
                           (long long)i, (long long)j, got, want, bound, ref, (double)tile->alpha, (double)tile->beta,
                           tile->c_in.data != NULL, t->aliased ? " = out" : "", tile->bias.data != NULL,
                           (int)tile->activation, ml_dtype_name(tile->out.dtype));
                return;
            }
        }
    }
}

/* Nothing of out but the tile was written (nothing at all when the sums were only stored). */
static void check_untouched(tile_case *t) {
    size_t size = ml_dtype_size_of(t->out.mat.dtype);
    for (int64_t i = 0; i < t->m; i++) {
        for (int64_t j = 0; j < t->n; j++) {
            unsigned char *element = matrix_at(&t->out.mat, i, j);
            bool as_before = t->aliased && memcmp(element, matrix_at(&t->c_copy.mat, i, j), size) == 0;
            if (!t->tile.acc_store || as_before)
                memset(element, CHECK_PATTERN, size);
        }
    }
    matrix_check_erased(&t->out, "out");
    check_guards(&t->acc, "partial sums");
}

static void enter(const ml_gemm_impl *impl) {
    if (impl->enter)
        impl->enter();
}

static void leave(const ml_gemm_impl *impl) {
    if (impl->leave)
        impl->leave();
}

static void check_tile(const ml_gemm_impl *impl, const ml_gemm_impl *reference, int64_t m, int64_t n) {
    static const int64_t depths[] = {0, 1, 2, 3, 5, 8, 17, 64, 99};
    check_begin("ukr %lld x %lld of %d x %d", (long long)m, (long long)n, impl->mr, impl->nr);
    for (int round = 0; round < 4 * CHECK_VALUES_COUNT; round++) {
        tile_case t = {.impl = impl, .m = m, .n = n, .values = (check_values)(round % CHECK_VALUES_COUNT)};
        t.k = depths[check_range(0, sizeof depths / sizeof depths[0] - 1)];
        case_alloc(&t);
        matrix by_reference;
        matrix_alloc(&by_reference, t.out.mat.dtype, m, n, ROWS);
        run_reference(&t, reference, &by_reference);
        const check_buffer *a = t.tile.a_rows ? &t.a_rows : impl->k_pack == 2 ? &t.a_pairs : &t.a;
        enter(impl);
        impl->ukr(t.k, floats(a), floats(impl->k_pack == 2 ? &t.b_pairs : &t.b), &t.tile);
        leave(impl);
        if (t.tile.acc_store)
            check_sums(&t);
        else
            check_result(&t, &by_reference);
        check_untouched(&t);
        check_free(&by_reference.buffer);
        case_free(&t);
    }
}

void check_gemm(const ml_kernel_desc *row, const ml_kernel_desc *reference) {
    const ml_gemm_impl *impl = row->impl;
    check_begin("table");
    if (impl->mr != row->mr || impl->nr != row->nr)
        check_fail("row says %d x %d, implementation %d x %d", row->mr, row->nr, impl->mr, impl->nr);
    if (impl->k_pack != (row->supports & ML_SUP_BF16_DOT ? 2 : 1))
        check_fail("row and implementation differ on pairs: k_pack %d", impl->k_pack);
    const int unit = impl->k_unit ? impl->k_unit : impl->k_pack;
    if (unit != ml_gemm_k_unit(row))
        check_fail("row and implementation differ on units of k: %d", unit);
    const panel_shape of_a = shape_a(impl), of_b = shape_b(impl);
    check_pack("pack_a", impl->pack_a, &of_a);
    check_pack("pack_b", impl->pack_b, &of_b);
    for (int m = 1; m <= impl->mr; m++)
        for (int n = 1; n <= impl->nr; n++)
            check_tile(impl, reference->impl, m, n);
    check_gemm_driver(row);
}

/* ---- benchmark ---- */

typedef struct bench_arg {
    const ml_gemm_impl *impl;
    ml_gemm_pack_fn pack;
    int64_t k, count;
    float *panel_a, *panel_b;
    ml_mat src;
    ml_ukr_tile tile;
} bench_arg;

static void bench_ukr(void *arg) {
    bench_arg *b = arg;
    b->impl->ukr(b->k, b->panel_a, b->panel_b, &b->tile);
}

static void bench_pack(void *arg) {
    bench_arg *b = arg;
    b->pack(b->panel_b, &b->src, b->count, b->k);
}

void bench_gemm(const ml_kernel_desc *row, const ml_kernel_desc *reference) {
    const ml_gemm_impl *impl = row->impl;
    enum { K = 256 };
    check_buffer a, b, raw;
    matrix out;
    char what[96];
    check_alloc(&a, sizeof(float) * K * (size_t)impl->mr, 64);
    check_alloc(&b, sizeof(float) * K * (size_t)(impl->nr > impl->mr ? impl->nr : impl->mr), 64);
    check_alloc(&raw, sizeof(float) * K * 128, 64);
    memset(a.data, 0, a.bytes);
    memset(b.data, 0, b.bytes);
    memset(raw.data, 0, raw.bytes);
    enter(impl);
    bench_arg arg = {.impl = impl, .k = K, .panel_a = floats(&a), .panel_b = floats(&b)};
    const size_t first = impl->k_pack == 1 ? 0 : 2; /* pairs are bf16 */
    for (size_t d = 0; d < 3; d++) {
        for (int kind = ROWS; kind <= COLUMNS; kind++) {
            matrix_alloc(&out, check_dtypes[d], impl->mr, impl->nr, (layout)kind);
            arg.tile = (ml_ukr_tile){.m = impl->mr, .n = impl->nr, .b_stride = impl->nr, .alpha = 1.0f, .out = out.mat};
            snprintf(what, sizeof what, "ukr %dx%d k %d out %s %s", impl->mr, impl->nr, K,
                     ml_dtype_name(check_dtypes[d]), layout_names[kind]);
            check_bench(what, bench_ukr, &arg, 2.0 * (double)(impl->mr * impl->nr * K), "GFLOP/s");
            check_free(&out.buffer);
        }
    }
    const struct {
        const char *name;
        ml_gemm_pack_fn fn;
        int width;
    } packs[] = {{"pack_a", impl->pack_a, impl->mr}, {"pack_b", impl->pack_b, impl->nr}};
    for (int i = 0; i < 2; i++) {
        for (size_t d = first; d < 3; d++) {
            for (int kind = 0; kind < 3; kind++) {
                static const char *const names[] = {"along rows", "along k", "step 2"};
                const int64_t width = packs[i].width, stride = kind == 2 ? 2 : 1;
                arg.pack = packs[i].fn;
                arg.count = width;
                arg.src = (ml_mat){raw.data, kind == 1 ? K : stride, kind == 1 ? 1 : width * stride, check_dtypes[d]};
                snprintf(what, sizeof what, "%s %s %s", packs[i].name, ml_dtype_name(check_dtypes[d]), names[kind]);
                check_bench(what, bench_pack, &arg, (double)(width * K), "elements/ns");
            }
        }
    }
    leave(impl);
    check_free(&a);
    check_free(&b);
    check_free(&raw);
}
