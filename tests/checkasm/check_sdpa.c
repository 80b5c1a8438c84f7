/* The kernels of attention: each against sums in double, exactly where the values are small integers. */
#include "checkasm.h"

#include "device/cpu/sdpa.h"
#include "device/cpu/vmath_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS = ML_SDPA_KEYS, LINE = ML_SDPA_LINE };

static const ml_dtype dtypes[] = {ML_F32, ML_F16, ML_BF16};
static const int64_t dims[] = {1, 7, 8, 16, 17, 33, 64, 67};
#define N_DIMS ((int)(sizeof dims / sizeof dims[0]))

static float *floats(const check_buffer *b) {
    return (float *)(void *)b->data;
}

static check_values some_values(void) {
    return check_rand() % 2 ? CHECK_INTEGERS : CHECK_RANDOM;
}

/* n elements, memory ending with the last one. */
typedef struct strided {
    check_buffer buffer;
    ml_sdpa_row at;
} strided;

static void row_alloc(strided *r, ml_dtype dtype, int64_t n, int64_t stride) {
    const int64_t size = (int64_t)ml_dtype_size_of(dtype), span = n > 0 ? (n - 1) * llabs(stride) + 1 : 0;
    check_alloc(&r->buffer, (size_t)(span * size), (size_t)size);
    char *first = (char *)r->buffer.data + (stride < 0 ? (span - 1) * size : 0);
    r->at = (ml_sdpa_row){first, stride, n, dtype};
    check_fill(dtype, first, n, stride, CHECK_EXTREME);
}

static double row_value(const strided *r, int64_t i) {
    return ml_load_element(r->at.dtype, (char *)r->at.data + i * r->at.stride * (int64_t)ml_dtype_size_of(r->at.dtype));
}

/* Element d of row i of queries as load_query lays them out. */
static double query_at(const ml_sdpa_impl *impl, const check_buffer *q, int i, int64_t d) {
    const int64_t w = d / impl->k_pack;
    const unsigned char *word = q->data + (w / LINE * LINE * impl->mr + i * LINE + w % LINE) * 4;
    return impl->k_pack == 1 ? ml_load_element(ML_F32, word) : ml_load_element(ML_BF16, word + d % 2 * 2);
}

/* ---- rows ---- */

static void check_query(const ml_sdpa_impl *impl, const strided *r) {
    const int64_t n = r->at.n, words = (n + impl->k_pack - 1) / impl->k_pack, lines = (words + LINE - 1) / LINE;
    check_buffer q;
    check_begin("load_query %s, %lld elements %lld apart", ml_dtype_name(r->at.dtype), (long long)n,
                (long long)r->at.stride);
    check_alloc(&q, sizeof(float) * (size_t)((lines - 1) * LINE * impl->mr + LINE), 64);
    memset(q.data, 0x55, q.bytes);
    impl->load_query(floats(&q), &r->at, 0.5f);
    for (int64_t d = 0; d < words * impl->k_pack; d++) {
        const double got = query_at(impl, &q, 0, d), value = d < n ? row_value(r, d) : 0.0;
        const double want = impl->k_pack == 1 ? (double)((float)value * 0.5f) : value;
        if (!check_same(got, want))
            check_fail("element %lld: %g, not %g", (long long)d, got, want);
    }
    check_guards(&q, "query");
    check_free(&q);
}

static void check_row(const ml_sdpa_impl *impl, ml_dtype dtype, int64_t n, int64_t stride) {
    strided r;
    check_buffer f32;
    row_alloc(&r, dtype, n, stride);
    check_alloc(&f32, sizeof(float) * (size_t)n, 4);
    check_begin("load %s, %lld elements %lld apart", ml_dtype_name(dtype), (long long)n, (long long)stride);
    impl->load(floats(&f32), &r.at);
    for (int64_t i = 0; i < n; i++)
        if (!check_same((double)floats(&f32)[i], row_value(&r, i)))
            check_fail("element %lld: %g, not %g", (long long)i, (double)floats(&f32)[i], row_value(&r, i));
    check_guards(&f32, "result");

    if (impl->k_pack == 1 || dtype == ML_BF16)
        check_query(impl, &r);

    check_begin("store %s, %lld elements %lld apart", ml_dtype_name(dtype), (long long)n, (long long)stride);
    strided out;
    row_alloc(&out, dtype, n, stride);
    impl->store(&out.at, floats(&f32), 0.25f);
    for (int64_t i = 0; i < n; i++) {
        const double want = (double)(floats(&f32)[i] * 0.25f);
        if (!check_close(row_value(&out, i), want, check_rounding(dtype, want)))
            check_fail("element %lld: %g, not %g", (long long)i, row_value(&out, i), want);
    }
    check_guards(&out.buffer, "result");
    check_free(&f32);
    check_free(&r.buffer);
    check_free(&out.buffer);
}

/* ---- scores ---- */

/* Queries of a strip as load_query lays them out. */
static void fill_queries(const ml_sdpa_impl *impl, check_buffer *q, int64_t dim, check_values values) {
    const int64_t words = (dim + impl->k_pack - 1) / impl->k_pack, lines = (words + LINE - 1) / LINE;
    const int64_t count = lines * LINE * impl->mr;
    check_alloc(q, sizeof(float) * (size_t)count, 64);
    memset(q->data, 0, q->bytes);
    check_fill(impl->k_pack == 1 ? ML_F32 : ML_BF16, q->data, count * impl->k_pack, 1, values);
    for (int64_t d = dim; d < lines * LINE * impl->k_pack; d++) {
        const int64_t w = d / impl->k_pack;
        for (int i = 0; i < impl->mr; i++)
            memset(q->data + (w / LINE * LINE * impl->mr + i * LINE + w % LINE) * 4 + d % impl->k_pack * 2, 0,
                   (size_t)(4 / impl->k_pack));
    }
}

/* s(i, j) against the sum over d of q(i, d) * k(j, d). */
static void compare_score(double got, const double *q, const double *k, int64_t dim, check_values values) {
    double want = 0.0, size = 0.0;
    for (int64_t d = 0; d < dim; d++) {
        want += q[d] * k[d];
        size += fabs(q[d] * k[d]);
    }
    if (!check_close(got, want, values == CHECK_INTEGERS ? 0.0 : size * (double)dim * 0x1p-23))
        check_fail("%.9g, not %.9g", got, want);
}

static void check_scores(const ml_sdpa_impl *impl, int m, int64_t dim) {
    const check_values values = some_values();
    const bool pairs = impl->k_pack == 2;
    const int64_t words = (dim + impl->k_pack - 1) / impl->k_pack;
    const int keys = check_rand() % 3 == 0 ? impl->nr : (int)check_range(1, impl->nr);
    const double scale = pairs ? 0.25 : 1.0;
    check_buffer q, raw, k, s;
    double qv[128], kv[128];
    check_begin("scores of %d rows, %d keys, dim %lld, %s", m, keys, (long long)dim, check_values_name(values));
    fill_queries(impl, &q, dim, values);
    check_alloc(&raw, (size_t)(dim * keys * 4), 4);
    check_alloc(&k, sizeof(float) * (size_t)(words * impl->nr), 64);
    const ml_mat rows = {raw.data, dim, 1, pairs ? ML_BF16 : ML_F32};
    check_fill(rows.dtype, raw.data, dim * keys, 1, values);
    impl->pack_keys->pack_b(floats(&k), &rows, keys, dim);
    check_alloc(&s, sizeof(float) * (size_t)((m - 1) * KEYS + impl->nr), 4);
    impl->scores(&(ml_sdpa_scores){floats(&q), floats(&k), floats(&s), words, m, keys, (float)scale});
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < keys; j++) {
            for (int64_t d = 0; d < dim; d++) {
                qv[d] = scale * query_at(impl, &q, i, d);
                kv[d] = ml_load_element(rows.dtype, raw.data + (j * dim + d) * (pairs ? 2 : 4));
            }
            compare_score((double)floats(&s)[i * KEYS + j], qv, kv, dim, values);
        }
    }
    check_guards(&s, "scores");
    check_free(&q);
    check_free(&raw);
    check_free(&k);
    check_free(&s);
}

static void check_direct(const ml_sdpa_impl *impl, ml_dtype dtype, int m, int64_t dim) {
    const check_values values = some_values();
    const int keys = (int)check_range(1, KEYS);
    const int64_t size = (int64_t)ml_dtype_size_of(dtype), stride = dim + check_range(0, 5);
    check_buffer q, k, s;
    double qv[128], kv[128];
    check_begin("direct scores of %d rows and %d keys, dim %lld, %s, %s", m, keys, (long long)dim, ml_dtype_name(dtype),
                check_values_name(values));
    fill_queries(impl, &q, dim, values);
    check_alloc(&k, (size_t)(((keys - 1) * stride + dim) * size), (size_t)size);
    for (int j = 0; j < keys; j++)
        check_fill(dtype, k.data + j * stride * size, dim, 1, values);
    check_alloc(&s, sizeof(float) * (size_t)(m * KEYS), 64);
    impl->direct(&(ml_sdpa_direct){.q = floats(&q),
                                   .k = k.data,
                                   .k_stride = stride,
                                   .dtype = dtype,
                                   .s = floats(&s),
                                   .dim = dim,
                                   .m = m,
                                   .keys = keys});
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < keys; j++) {
            for (int64_t d = 0; d < dim; d++) {
                qv[d] = query_at(impl, &q, i, d);
                kv[d] = ml_load_element(dtype, k.data + (j * stride + d) * size);
            }
            compare_score((double)floats(&s)[i * KEYS + j], qv, kv, dim, values);
        }
    }
    check_guards(&s, "scores");
    check_free(&q);
    check_free(&k);
    check_free(&s);
}

/* ---- weights ---- */

static uint64_t some_bits(int keys) {
    const uint64_t all = keys < 64 ? (UINT64_C(1) << keys) - 1 : ~UINT64_C(0);
    switch (check_range(0, 4)) {
    case 0:
        return 0;
    case 1:
        return all;
    default:
        return check_rand() >> check_range(0, 40) & all;
    }
}

static double power(double t, bool natural) {
    return natural ? exp(t) : exp2(t);
}

typedef struct weight_kind {
    bool natural; /* e^x, not 2^x */
    double least; /* below it a weight may vanish */
} weight_kind;

/* AVX-512 takes exponentials by look-up (exp2_avx512.h), which do not underflow gradually. */
static double least_weight(const ml_kernel_desc *row) {
    return row->isa & ML_ISA_AVX512 ? 0x1p-126 : 0x1p-149;
}

/* The exponential's own error, and that of its argument. In base two this is one rounding, of up to 2^-24 |x|, which
 * ln 2 makes the weight's; in base e there are two, and 1 / ln 2 as f32 is off by 0.23 of one. */
static double weight_error(weight_kind kind, double x, double weight) {
    return weight * 0x1p-23 * (ML_VMATH_ULP_EXP2_LOW + fabs(x) * (kind.natural ? 1.12 : 0.35)) + kind.least;
}

/* Two tiles after each other, so that the running values matter; inputs may hold infinities and NaN. */
static void check_softmax_tiles(const ml_sdpa_impl *impl, int m, double least) {
    const bool wild = check_rand() % 4 == 0, natural = check_rand() % 2;
    const weight_kind kind = {natural, least};
    float s[LINE * KEYS] __attribute__((aligned(64))), before[LINE * KEYS];
    float max[LINE], sum[LINE], rescale[LINE];
    double top[LINE], total[LINE];
    check_begin("softmax of %d rows%s%s", m, natural ? ", base e" : "", wild ? ", extreme" : "");
    for (int i = 0; i < LINE; i++) {
        max[i] = i < m ? -INFINITY : (float)-i;
        sum[i] = i < m ? 0.0f : (float)i;
        top[i] = (double)-INFINITY;
        total[i] = 0.0;
    }
    for (int round = 0; round < 3; round++) {
        const int keys = (int)check_range(1, KEYS);
        uint64_t seen[LINE];
        for (int i = 0; i < m; i++) {
            seen[i] = some_bits(keys);
            for (int j = 0; j < KEYS; j++) {
                const double hidden = check_rand() % 2 ? (double)NAN : (double)INFINITY;
                double score = 20.0 * check_uniform();
                if (wild && check_range(0, 99) == 0)
                    score = check_rand() % 2 ? (double)NAN : (double)-INFINITY;
                s[i * KEYS + j] = (float)(seen[i] >> j & 1 ? score : hidden);
            }
        }
        memcpy(before, s, sizeof s);
        impl->softmax(&(ml_sdpa_softmax){s, seen, max, sum, rescale, m, keys, natural});
        for (int i = 0; i < m; i++) {
            const double old = top[i];
            double added = 0.0;
            for (int j = 0; j < keys; j++)
                if (seen[i] >> j & 1)
                    top[i] = fmax(top[i], (double)before[i * KEYS + j]); /* fmax passes NaN over */
            const double base = isinf(top[i]) ? 0.0 : top[i];
            for (int j = 0; j < keys; j++) {
                const double score = (double)before[i * KEYS + j] - base;
                const double want = seen[i] >> j & 1 ? power(score, natural) : -0.0;
                const double bound = isfinite(score) ? weight_error(kind, score, want) : 0.0;
                const double got = (double)s[i * KEYS + j];
                added += want;
                if (!check_close(got, want, bound) || signbit(got) != signbit(want))
                    if (!isnan(want) || !isnan(got))
                        check_fail("row %d, key %d of %d: %g, not %g", i, j, keys, got, want);
            }
            const double factor = seen[i] == 0 ? 1.0 : power(old - base, natural);
            total[i] = total[i] * factor + added;
            const double bound = isfinite(old - base) ? weight_error(kind, old - base, factor) : 0.0;
            if (!check_close((double)rescale[i], factor, bound))
                check_fail("row %d: rescale %g, not %g", i, (double)rescale[i], factor);
            if (!check_close((double)max[i], top[i], 0.0))
                check_fail("row %d: maximum %g, not %g", i, (double)max[i], top[i]);
            if (!check_close((double)sum[i], total[i], fabs(total[i]) * 0x1p-17 + 0x1p-130))
                check_fail("row %d: sum %g, not %g", i, (double)sum[i], total[i]);
        }
        for (int i = m; i < LINE; i++) /* they belong to other strips */
            if (max[i] != (float)-i || sum[i] != (float)i)
                check_fail("row %d: maximum and sum %g, %g were written", i, (double)max[i], (double)sum[i]);
    }
}

static void check_adjust(const ml_sdpa_impl *impl, bool adds, float cap) {
    float s[KEYS] __attribute__((aligned(64))), before[KEYS], add[KEYS];
    check_begin("adjust%s, cap %g", adds ? " with a mask" : "", (double)cap);
    for (int j = 0; j < KEYS; j++) {
        before[j] = s[j] = (float)(check_uniform() * (j % 2 ? 1.0 : 60.0));
        add[j] = j % 7 == 3 ? -INFINITY : (float)check_uniform();
    }
    impl->adjust(s, adds ? add : NULL, cap);
    for (int j = 0; j < KEYS; j++) {
        const double x = (double)before[j], c = (double)cap;
        double want = cap > 0.0f ? c * tanh(x / c) : x;
        const double bound = fabs(want) * 0x1p-20;
        want += adds ? (double)add[j] : 0.0;
        if (!check_close((double)s[j], want, bound + fabs(want) * 0x1p-23))
            check_fail("key %d: %g, not %g", j, (double)s[j], want);
    }
}

static void check_bits(const ml_sdpa_impl *impl, int n) {
    check_buffer mask;
    float add[KEYS];
    uint64_t want = 0;
    check_begin("bits of %d keys", n);
    check_alloc(&mask, (size_t)n, 1);
    for (int j = 0; j < n; j++) {
        const bool seen = check_rand() % 3 != 0;
        mask.data[j] = (uint8_t)(seen ? 1u << check_range(0, 7) : 0);
        want |= (uint64_t)seen << j;
    }
    uint64_t got = impl->bits_of_bool(mask.data, n);
    if (got != want)
        check_fail("boolean: %llx, not %llx", (unsigned long long)got, (unsigned long long)want);
    check_free(&mask);
    want = 0;
    for (int j = 0; j < KEYS; j++) {
        const int kind = (int)check_range(0, 4);
        add[j] = kind == 0 ? -INFINITY : kind == 1 ? NAN : kind == 2 ? INFINITY : (float)check_uniform();
        want |= (uint64_t)(kind != 0) << j;
    }
    got = impl->bits_of_add(add);
    if (got != want)
        check_fail("additive: %llx, not %llx", (unsigned long long)got, (unsigned long long)want);
}

/* One NaN at most, anywhere. */
static void check_any_nan(const ml_sdpa_impl *impl, int64_t n) {
    check_buffer x;
    check_begin("NaN among %lld", (long long)n);
    check_alloc(&x, sizeof(float) * (size_t)n, 4);
    for (int64_t i = 0; i < n; i++)
        floats(&x)[i] = i % 5 == 0 ? INFINITY : i % 5 == 1 ? -INFINITY : (float)check_uniform();
    if (impl->any_nan(floats(&x), n))
        check_fail("found where there is none");
    for (int64_t i = 0; i < n; i++) {
        const float before = floats(&x)[i];
        floats(&x)[i] = i % 2 ? NAN : -NAN;
        if (!impl->any_nan(floats(&x), n))
            check_fail("element %lld not found", (long long)i);
        floats(&x)[i] = before;
    }
    check_guards(&x, "sums");
    check_free(&x);
}

/* ---- values ---- */

static void check_values_of(const ml_sdpa_impl *impl, ml_dtype dtype, int m, int64_t cols) {
    const check_values values = some_values();
    const int keys = (int)check_range(0, KEYS);
    const int64_t size = (int64_t)ml_dtype_size_of(dtype), stride = cols + check_range(0, 3), ld = cols + LINE;
    check_buffer p, v, acc, before;
    float rescale[LINE];
    check_begin("values of %d rows, %d keys, %lld columns, %s, %s", m, keys, (long long)cols, ml_dtype_name(dtype),
                check_values_name(values));
    check_alloc(&p, sizeof(float) * LINE * KEYS, 64);
    check_fill(ML_F32, p.data, LINE * KEYS, 1, values);
    check_alloc(&v, keys > 0 ? (size_t)(((keys - 1) * stride + cols) * size) : 0, (size_t)size);
    for (int j = 0; j < keys; j++)
        check_fill(dtype, v.data + j * stride * size, cols, 1, values);
    check_alloc(&acc, sizeof(float) * (size_t)((m - 1) * ld + cols), 64);
    check_alloc(&before, acc.bytes, 64);
    check_fill(ML_F32, acc.data, (m - 1) * ld + cols, 1, values);
    memcpy(before.data, acc.data, acc.bytes);
    for (int i = 0; i < LINE; i++)
        rescale[i] = values == CHECK_INTEGERS ? (float)check_range(0, 2) : (float)check_uniform();
    impl->values(&(ml_sdpa_values){.p = floats(&p),
                                   .rescale = rescale,
                                   .v = v.data,
                                   .v_stride = stride,
                                   .dtype = dtype,
                                   .acc = floats(&acc),
                                   .ldacc = ld,
                                   .keys = keys,
                                   .cols = cols,
                                   .m = m});
    for (int i = 0; i < m; i++) {
        for (int64_t c = 0; c < cols; c++) {
            double want = (double)rescale[i] * (double)floats(&before)[i * ld + c], total = fabs(want);
            for (int j = 0; j < keys; j++) {
                const double term =
                    (double)floats(&p)[i * KEYS + j] * ml_load_element(dtype, v.data + (j * stride + c) * size);
                want += term;
                total += fabs(term);
            }
            const double got = (double)floats(&acc)[i * ld + c];
            if (!check_close(got, want, values == CHECK_INTEGERS ? 0.0 : total * (keys + 2) * 0x1p-23))
                check_fail("row %d, column %lld: %.9g, not %.9g", i, (long long)c, got, want);
        }
        for (int64_t c = cols; i + 1 < m && c < ld; c++)
            if (memcmp(&floats(&acc)[i * ld + c], &floats(&before)[i * ld + c], sizeof(float)) != 0)
                check_fail("row %d: column %lld beyond the last was written", i, (long long)c);
    }
    check_guards(&acc, "sums");
    check_free(&p);
    check_free(&v);
    check_free(&acc);
    check_free(&before);
}

/* ---- all of them ---- */

/* The one table of a tier is checked with its first row. */
static bool first_row_of(const ml_kernel_desc *row) {
    for (int i = 0; i < ml_cpu_n_kernels; i++)
        if (ml_cpu_kernels[i].impl == row->impl)
            return &ml_cpu_kernels[i] == row;
    return true;
}

void check_sdpa(const ml_kernel_desc *row, const ml_kernel_desc *reference) {
    const ml_sdpa_impl *impl = row->impl;
    (void)reference;
    check_begin("table");
    if (row->op == ML_OP_SDPA && (impl->mr != row->mr || impl->nr != row->nr))
        check_fail("row says %d x %d, implementation %d x %d", row->mr, row->nr, impl->mr, impl->nr);
    if (impl->k_pack != (row->supports & ML_SUP_BF16_DOT ? 2 : 1) || impl->pack_keys->k_pack != impl->k_pack ||
        impl->pack_keys->nr != impl->nr || impl->gemm->nr != impl->nr || KEYS % impl->nr != 0 || impl->mr > LINE ||
        impl->direct_rows > impl->mr)
        check_fail("sizes of strips and panels do not fit");
    if (!first_row_of(row))
        return;
    static const int64_t strides[] = {1, 2, -1, 5};
    for (size_t d = 0; d < 3; d++)
        for (int64_t n = 1; n <= 70; n++)
            for (int s = 0; s < 4; s++)
                check_row(impl, dtypes[d], n, strides[s]);
    for (int m = 1; m <= impl->mr; m++) {
        for (int i = 0; i < N_DIMS; i++)
            check_scores(impl, m, dims[i]);
        for (int i = 0; i < 20; i++)
            check_softmax_tiles(impl, m, least_weight(row));
        for (size_t d = 0; d < 3; d++)
            for (int64_t cols = LINE; cols <= 5 * LINE; cols += LINE)
                for (int i = 0; i < 3; i++)
                    check_values_of(impl, dtypes[d], m, cols);
    }
    for (int m = 1; m <= impl->direct_rows; m++)
        for (size_t d = 0; d < 3; d++)
            for (int i = 0; i < 3 * N_DIMS; i++)
                check_direct(impl, dtypes[d], m, dims[i % N_DIMS]);
    for (int64_t n = 0; n <= 6 * LINE; n += LINE)
        check_any_nan(impl, n);
    for (int i = 0; i < 40; i++) {
        check_adjust(impl, i % 2, i % 3 == 0 ? 0.0f : i % 3 == 1 ? 1.5f : 50.0f);
        for (int n = 1; n <= KEYS; n++)
            check_bits(impl, n);
    }
}

/* ---- benchmark ---- */

typedef struct bench_arg {
    const ml_sdpa_impl *impl;
    ml_sdpa_scores scores;
    ml_sdpa_direct direct;
    ml_sdpa_softmax softmax;
    ml_sdpa_values values;
} bench_arg;

static void bench_scores(void *arg) {
    bench_arg *b = arg;
    b->impl->scores(&b->scores);
}
static void bench_direct(void *arg) {
    bench_arg *b = arg;
    b->impl->direct(&b->direct);
}
static void bench_weights(void *arg) {
    bench_arg *b = arg;
    b->impl->softmax(&b->softmax);
}
static void bench_values(void *arg) {
    bench_arg *b = arg;
    b->impl->values(&b->values);
}

void bench_sdpa(const ml_kernel_desc *row, const ml_kernel_desc *reference) {
    enum { DIM = 64 };
    const ml_sdpa_impl *impl = row->impl;
    (void)reference;
    if (!first_row_of(row))
        return;
    float s[LINE * KEYS] __attribute__((aligned(64))) = {0}, max[LINE] = {0}, sum[LINE] = {0}, rescale[LINE] = {0};
    static float q[LINE * DIM], k[KEYS * DIM], acc[LINE * DIM];
    uint64_t seen[LINE];
    memset(seen, 0xff, sizeof seen);
    char what[96];
    bench_arg arg = {.impl = impl};
    for (int m = 1; m <= impl->mr; m = m < impl->mr && 2 * m > impl->mr ? impl->mr : 2 * m) {
        arg.scores = (ml_sdpa_scores){q, k, s, DIM / impl->k_pack, m, impl->nr, 1.0f};
        snprintf(what, sizeof what, "scores %d rows, %d keys, dim %d", m, impl->nr, DIM);
        check_bench(what, bench_scores, &arg, 2.0 * (double)(m * impl->nr * DIM), "GFLOP/s");
        arg.softmax = (ml_sdpa_softmax){s, seen, max, sum, rescale, m, KEYS, false};
        snprintf(what, sizeof what, "softmax %d rows, %d keys", m, KEYS);
        check_bench(what, bench_weights, &arg, (double)(m * KEYS), "elements/ns");
        for (size_t d = 0; d < 3; d++) {
            arg.values = (ml_sdpa_values){s, rescale, k, DIM, dtypes[d], acc, DIM, KEYS, DIM, m};
            snprintf(what, sizeof what, "values %d rows, %d keys, dim %d, %s", m, KEYS, DIM, ml_dtype_name(dtypes[d]));
            check_bench(what, bench_values, &arg, 2.0 * (double)(m * KEYS * DIM), "GFLOP/s");
            if (m > impl->direct_rows)
                continue;
            arg.direct = (ml_sdpa_direct){q, k, DIM, dtypes[d], s, DIM, m, KEYS};
            snprintf(what, sizeof what, "direct %d rows, %d keys, dim %d, %s", m, KEYS, DIM, ml_dtype_name(dtypes[d]));
            check_bench(what, bench_direct, &arg, 2.0 * (double)(m * KEYS * DIM), "GFLOP/s");
        }
    }
}
