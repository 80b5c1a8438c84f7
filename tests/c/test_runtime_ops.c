/* Operations: errors and aliasing; matmul, ragged, element-wise and copies against plain loops over random layouts. */
#include "test_runtime.h"

#include "core/tensor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- layouts ---- */

static void free_memory(void *p) {
    free(p);
}

/* A tensor of shape with dims in random order, padded, stepped, reversed and (inputs) repeated, between guard bytes. */
static ml_tensor *random_layout(ml_context *ctx, ml_dtype dtype, const ml_shape *shape, bool input) {
    const int64_t item = (int64_t)ml_dtype_size(dtype);
    int order[ML_MAX_DIMS];
    int64_t strides[ML_MAX_DIMS] = {0}, step = rng_in(0, 3) ? 1 : 2, low = 0;
    for (int i = 0; i < shape->ndim; i++)
        order[i] = shape->ndim - 1 - i;
    for (int i = shape->ndim - 1; i > 0; i--)
        if (rng_in(0, 2) == 0) {
            int64_t j = rng_in(0, i);
            int swap = order[i];
            order[i] = order[j];
            order[j] = swap;
        }
    for (int i = 0; i < shape->ndim; i++) {
        const int d = order[i];
        if (input && rng_in(0, 15) == 0)
            continue; /* stride 0 */
        strides[d] = step;
        step = step * (shape->dims[d] > 0 ? shape->dims[d] : 1) + (rng_in(0, 3) ? 0 : rng_in(1, 3));
        if (rng_in(0, 7) == 0) {
            low += strides[d] * (shape->dims[d] > 0 ? shape->dims[d] - 1 : 0);
            strides[d] = -strides[d];
        }
    }
    const int64_t lead = rng_in(0, 5), elements = lead + step + 8;
    char *data = malloc((size_t)(elements * item));
    for (int64_t i = 0; i < elements; i++)
        ml_store_element(dtype, data + i * item, input ? (double)rng_in(-64, 64) / 64 : NAN);
    ml_tensor *t = NULL;
    ml_host_memory memory = {.data = data, .size = (size_t)(elements * item), .release = free_memory, .user = data};
    ml_layout layout = {.dtype = dtype, .shape = *shape, .strides = strides, .byte_offset = (lead + low) * item};
    if (!check(ml_tensor_from_host(ctx, &memory, &layout, &t) == ML_OK))
        abort();
    return t;
}

typedef bool (*visit_fn)(void *arg, const int64_t *index);

static bool for_each(const ml_shape *s, visit_fn visit, void *arg) {
    int64_t index[ML_MAX_DIMS] = {0};
    for (int i = 0; i < s->ndim; i++)
        if (s->dims[i] == 0)
            return true;
    for (;;) {
        if (!visit(arg, index))
            return false;
        int d = s->ndim - 1;
        while (d >= 0 && ++index[d] == s->dims[d])
            index[d--] = 0;
        if (d < 0)
            return true;
    }
}

/* The element of v that index, an index of a larger broadcast shape of `ndim` dims, reads. */
static double broadcast_element(const ml_view *v, const int64_t *index, int ndim) {
    int64_t own[ML_MAX_DIMS];
    for (int i = 0; i < v->ndim; i++)
        own[i] = v->shape[i] == 1 ? 0 : index[ndim - v->ndim + i];
    return element(v, own);
}

/* Bytes of out's buffer that belong to none of its elements are what they were. */
static bool nothing_outside_written(const ml_tensor *out, const char *before) {
    const ml_view *v = &out->view;
    const int64_t item = (int64_t)ml_dtype_size(v->dtype), size = (int64_t)v->buf->size;
    bool *mine = calloc((size_t)size, 1);
    int64_t index[ML_MAX_DIMS] = {0};
    bool ok = true;
    for (int64_t n = ml_view_size(v); n > 0; n--) {
        int64_t at = v->offset;
        for (int i = 0; i < v->ndim; i++)
            at += index[i] * v->strides[i] * item;
        memset(mine + at, 1, (size_t)item);
        for (int d = v->ndim - 1; d >= 0 && ++index[d] == v->shape[d]; d--)
            index[d] = 0;
    }
    for (int64_t i = 0; i < size; i++)
        ok &= mine[i] || ((char *)v->buf->host)[i] == before[i];
    free(mine);
    return ok;
}

/* ---- matmul ---- */

static double unit_roundoff(ml_dtype dtype) {
    return dtype == ML_F32 ? 0x1p-24 : dtype == ML_F16 ? 0x1p-11 : 0x1p-8;
}

typedef struct matmul_case {
    const ml_matmul_args *args;
    const ml_view *c; /* values before the call */
    const ml_view *out;
    bool a_vector, b_vector;
    int64_t k;
    double worst;
} matmul_case;

static double activate(ml_activation act, double x) {
    return act == ML_ACT_RELU ? (x > 0 ? x : 0) : x;
}

static bool matmul_element_is_right(void *arg, const int64_t *index) {
    matmul_case *t = arg;
    const ml_matmul_args *args = t->args;
    const ml_view *a = &args->a->view, *b = &args->b->view;
    const int ndim = t->out->ndim, batch = ndim - !t->a_vector - !t->b_vector;
    const int64_t i = t->a_vector ? 0 : index[batch], j = t->b_vector ? 0 : index[ndim - 1];
    double sum = 0, magnitude = 0;
    for (int64_t p = 0; p < t->k && args->alpha != 0; p++) {
        int64_t ia[ML_MAX_DIMS], ib[ML_MAX_DIMS];
        memcpy(ia, index, sizeof(int64_t) * (size_t)batch);
        memcpy(ib, index, sizeof(int64_t) * (size_t)batch);
        ia[batch] = args->transpose_a && !t->a_vector ? p : i;
        ia[batch + 1] = args->transpose_a && !t->a_vector ? i : p;
        ib[batch] = args->transpose_b && !t->b_vector ? j : p;
        ib[batch + 1] = args->transpose_b && !t->b_vector ? p : j;
        double x = t->a_vector ? element(a, &p) : 0, y = t->b_vector ? element(b, &p) : 0;
        if (!t->a_vector) {
            int64_t own[ML_MAX_DIMS];
            for (int d = 0; d < a->ndim; d++)
                own[d] = d >= a->ndim - 2 || a->shape[d] > 1 ? ia[batch + 2 - a->ndim + d] : 0;
            x = element(a, own);
        }
        if (!t->b_vector) {
            int64_t own[ML_MAX_DIMS];
            for (int d = 0; d < b->ndim; d++)
                own[d] = d >= b->ndim - 2 || b->shape[d] > 1 ? ib[batch + 2 - b->ndim + d] : 0;
            y = element(b, own);
        }
        sum += x * y;
        magnitude += fabs(x * y);
    }
    double want = (double)args->alpha * sum,
           bound = fabs((double)args->alpha) * magnitude * (double)(t->k + 2) * 0x1p-24;
    if (args->beta != 0) {
        const double c = broadcast_element(t->c, index, ndim);
        want += (double)args->beta * c;
        bound += fabs((double)args->beta * c) * 0x1p-22;
    }
    if (args->bias) {
        const ml_view *v = &args->bias->view;
        const bool by_row =
            v->ndim == 2 && v->shape[1] == 1 && !(v->shape[0] == 1 && !t->b_vector && t->out->shape[ndim - 1] == 1);
        const double bias = v->ndim == 1 ? element(v, &j) : element(v, (int64_t[]){by_row ? i : 0, by_row ? 0 : j});
        want += bias;
        bound += fabs(bias) * 0x1p-22;
    }
    bound += fabs(want) * 0x1p-22;
    want = activate(args->activation, want);
    bound += fabs(want) * unit_roundoff(t->out->dtype) + 0x1p-24;
    const double got = element(t->out, index), error = fabs(got - want);
    if (error / bound > t->worst)
        t->worst = error / bound;
    return error <= bound;
}

static int64_t some_size(void) {
    static const int64_t sizes[] = {1, 1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 40, 65};
    return rng_in(0, 40) == 0 ? 0 : sizes[rng_in(0, 12)];
}

static ml_dtype some_float(void) {
    return (ml_dtype)rng_in(ML_F32, ML_BF16);
}

/* Leading dims of an operand that broadcast to batch: some left out, some 1. */
static void add_batch(ml_shape *s, const ml_shape *batch) {
    const int first = rng_in(0, 2) ? 0 : (int)rng_in(0, batch->ndim);
    for (int i = first; i < batch->ndim; i++)
        s->dims[s->ndim++] = rng_in(0, 3) ? batch->dims[i] : 1;
}

static ml_shape add_matrix(ml_shape s, int64_t rows, int64_t cols, bool transposed) {
    s.dims[s.ndim++] = transposed ? cols : rows;
    s.dims[s.ndim++] = transposed ? rows : cols;
    return s;
}

static void random_matmul(ml_context *ctx) {
    const int64_t m = some_size(), n = some_size(), k = some_size();
    ml_matmul_args args = ML_MATMUL_DEFAULTS;
    matmul_case t = {.args = &args, .k = k, .a_vector = rng_in(0, 9) == 0, .b_vector = rng_in(0, 9) == 0};
    const ml_dtype dtype_a = some_float(), dtype_b = rng_in(0, 3) ? dtype_a : some_float();
    ml_shape batch = {.ndim = rng_in(0, 1) ? 0 : (int)rng_in(1, 3)}, sa = {0}, sb = {0};
    for (int i = 0; i < batch.ndim; i++)
        batch.dims[i] = rng_in(1, 4);
    args.transpose_a = rng() & 1;
    args.transpose_b = rng() & 1;
    if (!t.a_vector)
        add_batch(&sa, &batch);
    if (!t.b_vector)
        add_batch(&sb, &batch);
    ml_shape a_batch = sa, b_batch = sb;
    if (!check(ml_shape_broadcast(&a_batch, &b_batch, &batch) == ML_OK))
        return;
    sa = t.a_vector ? (ml_shape){1, {k}} : add_matrix(sa, m, k, args.transpose_a);
    sb = t.b_vector ? (ml_shape){1, {k}} : add_matrix(sb, k, n, args.transpose_b);
    ml_tensor *a = random_layout(ctx, dtype_a, &sa, true), *b = random_layout(ctx, dtype_b, &sb, true);
    ml_shape result = batch;
    if (!t.a_vector)
        result.dims[result.ndim++] = m;
    if (!t.b_vector)
        result.dims[result.ndim++] = n;
    args.a = a;
    args.b = b;
    static const float factors[] = {1, 1, 0.5f, -2, 0};
    args.alpha = factors[rng_in(0, 4)];
    args.beta = rng_in(0, 1) ? 0 : factors[rng_in(0, 4)];
    args.activation = rng_in(0, 2) ? ML_ACT_NONE : ML_ACT_RELU;
    args.backend = (ml_matmul_backend)(rng_in(0, 2) ? 0 : rng_in(0, 3));
    const ml_dtype dtype = ml_dtype_promote(dtype_a, dtype_b);
    ml_tensor *out = rng_in(0, 1) ? random_layout(ctx, dtype, &result, false) : NULL, *c = NULL, *bias = NULL;
    const bool c_is_out = out && args.beta != 0 && rng_in(0, 1);
    ml_tensor *copy_of_out = NULL;
    if (args.beta != 0 && c_is_out) {
        check(ml_fill(ctx, out, 0.25) == ML_OK);
        check(ml_cast(ctx, out, dtype, &copy_of_out) == ML_OK);
        t.c = &copy_of_out->view;
        args.c = rng_in(0, 1) ? out : NULL;
    } else if (args.beta != 0 || rng_in(0, 3) == 0) {
        ml_shape sc = {0};
        const int first = (int)rng_in(0, result.ndim);
        for (int i = first; i < result.ndim; i++)
            sc.dims[sc.ndim++] = rng_in(0, 3) ? result.dims[i] : 1;
        c = random_layout(ctx, some_float(), &sc, true);
        args.c = c;
        t.c = &c->view;
    }
    const int64_t rows = t.a_vector ? 1 : m, cols = t.b_vector ? 1 : n;
    if (rng_in(0, 2) == 0) {
        ml_shape shapes[3] = {{1, {cols}}, {2, {1, cols}}, {2, {rows, 1}}};
        bias = random_layout(ctx, some_float(), &shapes[rng_in(0, 2)], true);
        args.bias = bias;
    }
    char *before = NULL;
    if (out) {
        before = malloc(out->view.buf->size);
        memcpy(before, out->view.buf->host, out->view.buf->size);
    }
    ml_tensor *made = out;
    if (check(ml_matmul(ctx, &args, &made) == ML_OK)) {
        t.out = &made->view;
        ml_shape got = ml_view_shape(&made->view);
        bool right = got.ndim == result.ndim && !memcmp(got.dims, result.dims, sizeof(int64_t) * (size_t)got.ndim) &&
                     made->view.dtype == dtype && (!out || made == out) && (out || ml_tensor_is_contiguous(made));
        check(right);
        if (right && !check(for_each(&result, matmul_element_is_right, &t))) {
            char at[ML_FORMAT_MAX], bt[ML_FORMAT_MAX], ot[ML_FORMAT_MAX];
            printf("  a %s%s, b %s%s, out %s, alpha %g beta %g bias %d act %d backend %d: %g of the bound\n",
                   ml_view_format(&a->view, at, sizeof at), args.transpose_a ? " T" : "",
                   ml_view_format(&b->view, bt, sizeof bt), args.transpose_b ? " T" : "",
                   ml_view_format(&made->view, ot, sizeof ot), (double)args.alpha, (double)args.beta, args.bias != NULL,
                   (int)args.activation, (int)args.backend, t.worst);
        }
        if (out)
            check(nothing_outside_written(out, before));
    }
    free(before);
    ml_tensor_release(made);
    ml_tensor_release(a);
    ml_tensor_release(b);
    ml_tensor_release(c);
    ml_tensor_release(bias);
    ml_tensor_release(copy_of_out);
}

static void test_ragged(ml_context *ctx) {
    static const int64_t counts[] = {3, 3, 0, 7, 1, 1, 1, 0, 20};
    enum { G = sizeof counts / sizeof counts[0], K = 12, N = 9 };
    int64_t rows = 0;
    for (int g = 0; g < G; g++)
        rows += counts[g];
    ml_shape sa = {2, {rows, K}}, sb = {3, {G, K, N}}, so = {2, {rows, N}};
    for (int round = 0; round < 10; round++) {
        ml_tensor *a = random_layout(ctx, ML_F32, &sa, true), *b = random_layout(ctx, ML_F32, &sb, true);
        ml_tensor *given = round % 2 ? random_layout(ctx, ML_F32, &so, false) : NULL, *out = given;
        ml_matmul_ragged_args args = {a, b, counts, G};
        check(ml_matmul_ragged(ctx, &args, &out) == ML_OK);
        bool right = true;
        for (int64_t i = 0, g = 0, start = 0; i < rows; i++) {
            while (i >= start + counts[g])
                start += counts[g++];
            for (int64_t j = 0; j < N; j++) {
                double sum = 0;
                for (int64_t p = 0; p < K; p++)
                    sum += element(&a->view, (int64_t[]){i, p}) * element(&b->view, (int64_t[]){g, p, j});
                right &= fabs(sum - element(&out->view, (int64_t[]){i, j})) < 1e-5;
            }
        }
        check(right);
        ml_tensor *none = NULL;
        check(failed_with(ml_matmul_ragged(ctx, &(ml_matmul_ragged_args){a, b, counts, G - 1}, &none), ML_ERR_SHAPE,
                          "8"));
        check(!none);
        ml_tensor_release(a);
        ml_tensor_release(b);
        ml_tensor_release(out);
    }
    ml_tensor *a = random_tensor(ctx, ML_F32, (ml_shape){2, {5, 4}}),
              *b = random_tensor(ctx, ML_F32, (ml_shape){3, {2, 4, 3}});
    ml_tensor *none = NULL;
    check(failed_with(ml_matmul_ragged(ctx, &(ml_matmul_ragged_args){a, b, (int64_t[]){2, 2}, 2}, &none), ML_ERR_SHAPE,
                      "4"));
    check(ml_matmul_ragged(ctx, &(ml_matmul_ragged_args){a, b, (int64_t[]){6, -1}, 2}, &none) == ML_ERR_VALUE);
    ml_tensor_release(a);
    ml_tensor_release(b);
}

/* ---- element-wise ---- */

static void random_binary(ml_context *ctx) {
    ml_shape shape = {.ndim = (int)rng_in(0, 4)}, sb = {0};
    for (int i = 0; i < shape.ndim; i++)
        shape.dims[i] = rng_in(1, 9);
    for (int i = (int)rng_in(0, shape.ndim); i < shape.ndim; i++)
        sb.dims[sb.ndim++] = rng_in(0, 2) ? shape.dims[i] : 1;
    const ml_dtype da = some_float(), db = some_float();
    ml_binary_args args = {.kind = (ml_binary_kind)rng_in(ML_ADD, ML_NOT_EQUAL), .b_value = 0.75};
    ml_tensor *a = random_layout(ctx, da, &shape, true), *b = rng_in(0, 3) ? random_layout(ctx, db, &sb, true) : NULL;
    args.a = a;
    args.b = b;
    const bool compares = args.kind >= ML_EQUAL;
    const ml_dtype dtype = compares ? ML_BOOL : b ? ml_dtype_promote(da, db) : da;
    ml_tensor *given = rng_in(0, 1) ? random_layout(ctx, dtype, &shape, false) : NULL, *out = given;
    if (!check(ml_binary(ctx, &args, &out) == ML_OK))
        goto done;
    check(out->view.dtype == dtype);
    int64_t index[ML_MAX_DIMS] = {0};
    bool right = true;
    for (int64_t n = ml_view_size(&out->view); n > 0; n--) {
        const double x = element(&a->view, index),
                     y = b ? broadcast_element(&b->view, index, shape.ndim) : args.b_value;
        const double got = element(&out->view, index);
        double want = args.kind == ML_ADD   ? x + y
                      : args.kind == ML_SUB ? x - y
                      : args.kind == ML_MUL ? x * y
                      : args.kind == ML_DIV ? x / y
                                            : (double)((x == y) == (args.kind == ML_EQUAL));
        if (isfinite(want))
            right &= fabs(got - want) <= 2 * unit_roundoff(compares ? ML_F32 : dtype) * fabs(want) + 0x1p-24;
        else
            right &= isnan(want) ? isnan(got) : got == want;
        for (int d = shape.ndim - 1; d >= 0 && ++index[d] == shape.dims[d]; d--)
            index[d] = 0;
    }
    check(right);
done:
    ml_tensor_release(out);
    ml_tensor_release(a);
    ml_tensor_release(b);
}

static void test_dtypes(ml_context *ctx) {
    ml_tensor *i = empty(ctx, ML_I32, (ml_shape){1, {3}}), *f = random_tensor(ctx, ML_F16, (ml_shape){1, {3}}),
              *out = NULL;
    check(ml_fill(ctx, i, 7) == ML_OK);
    check(failed_with(ml_fill(ctx, i, 7.5), ML_ERR_DTYPE, "7.5") && ml_fill(ctx, i, NAN) == ML_ERR_DTYPE);
    check(ml_fill(ctx, i, 3e9) == ML_ERR_DTYPE);
    check(ml_binary(ctx, &(ml_binary_args){.kind = ML_DIV, .a = i, .b_value = 2}, &out) == ML_OK);
    check(out->view.dtype == ML_F32 && element(&out->view, (int64_t[]){0}) == 3.5);
    ml_tensor_release(out);
    out = NULL;
    check(ml_binary(ctx, &(ml_binary_args){.kind = ML_ADD, .a = i, .b_value = 2}, &out) == ML_OK);
    check(out->view.dtype == ML_I32 && element(&out->view, (int64_t[]){2}) == 9);
    ml_tensor_release(out);
    out = NULL;
    check(failed_with(ml_binary(ctx, &(ml_binary_args){.kind = ML_ADD, .a = i, .b_value = 2.5}, &out), ML_ERR_DTYPE,
                      "2.5"));
    check(ml_binary(ctx, &(ml_binary_args){.kind = ML_MUL, .a = i, .b = f}, &out) == ML_OK &&
          out->view.dtype == ML_F16);
    ml_tensor_release(out);
    out = NULL;
    check(ml_binary(ctx, &(ml_binary_args){.kind = ML_ADD}, &out) == ML_ERR_VALUE);
    /* in place, the left operand's dtype stays */
    ml_tensor *wide = random_tensor(ctx, ML_F32, (ml_shape){1, {3}}), *left = f;
    check(ml_binary(ctx, &(ml_binary_args){.kind = ML_ADD, .a = f, .b = wide}, &left) == ML_OK && left == f);
    left = i;
    check(ml_binary(ctx, &(ml_binary_args){.kind = ML_ADD, .a = i, .b = wide}, &left) == ML_ERR_DTYPE);
    check(ml_cast(ctx, wide, ML_BF16, &out) == ML_OK && out->view.dtype == ML_BF16);
    ml_tensor_release(out);
    out = NULL;
    check(ml_fill(ctx, wide, 1e20) == ML_OK && ml_cast(ctx, wide, ML_I32, &out) == ML_ERR_DTYPE && !out);
    ml_matmul_args args = ML_MATMUL_DEFAULTS;
    args.a = args.b = i;
    check(failed_with(ml_matmul(ctx, &args, &out), ML_ERR_DTYPE, "int32"));
    ml_tensor_release(i);
    ml_tensor_release(f);
    ml_tensor_release(wide);
}

/* ---- errors and aliasing ---- */

static void test_errors(ml_context *ctx) {
    ml_tensor *a = random_tensor(ctx, ML_F32, (ml_shape){2, {2, 3}}),
              *b = random_tensor(ctx, ML_F32, (ml_shape){2, {4, 5}});
    ml_tensor *c = random_tensor(ctx, ML_F32, (ml_shape){2, {3, 5}}),
              *scalar = random_tensor(ctx, ML_F32, (ml_shape){0, {0}});
    ml_tensor *batched = random_tensor(ctx, ML_F32, (ml_shape){3, {2, 3, 5}}),
              *three = random_tensor(ctx, ML_F32, (ml_shape){3, {3, 2, 3}});
    ml_tensor *out = NULL, *half = empty(ctx, ML_F16, (ml_shape){2, {2, 5}});
    ml_matmul_args args = ML_MATMUL_DEFAULTS;
    args.a = a;
    args.b = b;
    check(failed_with(
        ml_matmul(ctx, &args, &out), ML_ERR_SHAPE,
        "matmul: a [2, 3] float32 strides (3, 1) and b [4, 5] float32 strides (5, 1): inner dimensions 3 and 4"));
    args.b = NULL;
    check(failed_with(ml_matmul(ctx, &args, &out), ML_ERR_VALUE, "b is NULL"));
    args.b = scalar;
    check(failed_with(ml_matmul(ctx, &args, &out), ML_ERR_SHAPE, "no dimensions"));
    args.a = three;
    args.b = batched;
    check(failed_with(ml_matmul(ctx, &args, &out), ML_ERR_SHAPE, "batch dimensions 3 and 2"));
    args.a = a;
    args.b = c;
    args.beta = 1;
    check(failed_with(ml_matmul(ctx, &args, &out), ML_ERR_VALUE, "neither c nor out"));
    args.c = b;
    check(failed_with(ml_matmul(ctx, &args, &out), ML_ERR_SHAPE, "c [4, 5]"));
    args.c = NULL;
    args.beta = 0;
    args.bias = b;
    check(failed_with(ml_matmul(ctx, &args, &out), ML_ERR_SHAPE, "bias [4, 5]"));
    args.bias = NULL;
    check(out == NULL);
    out = half;
    check(failed_with(ml_matmul(ctx, &args, &out), ML_ERR_DTYPE, "float16") && out == half);
    out = b;
    check(failed_with(ml_matmul(ctx, &args, &out), ML_ERR_SHAPE, "[2, 5]"));
    out = NULL;
    args.backend = (ml_matmul_backend)9;
    check(ml_matmul(ctx, &args, &out) == ML_ERR_VALUE);
    check(failed_with(ml_add_elem(ctx, a, b, &out), ML_ERR_SHAPE, "do not broadcast") && !out);
    check(failed_with(ml_copy(ctx, a, b), ML_ERR_SHAPE, "src [2, 3]"));
    check(failed_with(ml_matmul(ctx, NULL, &out), ML_ERR_VALUE, "matmul: args is NULL"));
    check(failed_with(ml_matmul(ctx, &args, NULL), ML_ERR_VALUE, "matmul: out is NULL"));
    check(failed_with(ml_matmul_ragged(ctx, NULL, &out), ML_ERR_VALUE, "args is NULL"));
    check(failed_with(ml_softmax(ctx, NULL, &out), ML_ERR_VALUE, "args is NULL"));
    check(failed_with(ml_scaled_dot_product_attention(ctx, NULL, &out), ML_ERR_VALUE, "args is NULL"));
    check(failed_with(ml_binary(ctx, NULL, &out), ML_ERR_VALUE, "args is NULL"));
    check(failed_with(ml_layer_norm(ctx, NULL, &out), ML_ERR_VALUE, "args is NULL"));
    check(failed_with(ml_rms_norm(ctx, NULL, &out, &out), ML_ERR_VALUE, "args is NULL"));
    check(failed_with(ml_rope(ctx, NULL, &out), ML_ERR_VALUE, "args is NULL"));
    check(failed_with(ml_cast(ctx, a, ML_F16, NULL), ML_ERR_VALUE, "out is NULL"));
    check(failed_with(ml_gelu(ctx, a, false, NULL), ML_ERR_VALUE, "out is NULL"));
    check(failed_with(ml_swiglu(ctx, a, a, NULL), ML_ERR_VALUE, "out is NULL"));
    ml_tensor *all[] = {a, b, c, scalar, batched, three, half};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        ml_tensor_release(all[i]);
}

static ml_tensor *columns(const ml_tensor *t, int64_t start, int64_t step, int64_t count) {
    ml_tensor *view = NULL;
    check(ml_tensor_slice(t, 1, start, step, count, &view) == ML_OK);
    return view;
}

static void test_aliasing(ml_context *ctx) {
    ml_tensor *square = random_tensor(ctx, ML_F32, (ml_shape){2, {8, 8}}), *turned = NULL, *repeated = NULL;
    ml_tensor *other = random_tensor(ctx, ML_F32, (ml_shape){2, {8, 8}});
    ml_tensor *big = random_tensor(ctx, ML_F32, (ml_shape){2, {8, 16}});
    ml_tensor *left = columns(big, 0, 1, 8), *right = columns(big, 8, 1, 8), *shifted = columns(big, 4, 1, 8);
    ml_tensor *even = columns(big, 0, 2, 8), *odd = columns(big, 1, 2, 8), *column = columns(square, 0, 1, 1);
    check(ml_tensor_transpose(square, NULL, &turned) == ML_OK);
    check(ml_tensor_broadcast_to(column, &(ml_shape){2, {8, 8}}, &repeated) == ML_OK);
    ml_matmul_args args = ML_MATMUL_DEFAULTS;
    ml_tensor *out = square;
    args.a = square;
    args.b = other;
    check(failed_with(ml_matmul(ctx, &args, &out), ML_ERR_SHAPE,
                      "out [8, 8] float32 strides (8, 1) shares memory with a"));
    args.alpha = 0; /* read or not */
    check(ml_matmul(ctx, &args, &out) == ML_ERR_SHAPE);
    args.alpha = 1;
    args.a = args.b = other;
    args.c = square; /* exactly c */
    args.beta = 1;
    check(ml_matmul(ctx, &args, &out) == ML_OK);
    args.c = turned; /* the same memory otherwise */
    check(failed_with(ml_matmul(ctx, &args, &out), ML_ERR_SHAPE, "with c"));
    args.beta = 0;
    check(ml_matmul(ctx, &args, &out) == ML_ERR_SHAPE);
    args.c = NULL;
    out = repeated;
    check(failed_with(ml_matmul(ctx, &args, &out), ML_ERR_SHAPE, "two elements of out"));
    /* interleaved and adjacent views share nothing */
    args.a = even;
    out = odd;
    check(ml_matmul(ctx, &args, &out) == ML_OK);
    args.a = left;
    out = right;
    check(ml_matmul(ctx, &args, &out) == ML_OK);
    out = shifted;
    check(ml_matmul(ctx, &args, &out) == ML_ERR_SHAPE);
    out = left;
    check(ml_add_elem(ctx, left, right, &out) == ML_OK && ml_add_elem(ctx, right, left, &out) == ML_OK);
    check(ml_add_elem(ctx, shifted, other, &out) == ML_ERR_SHAPE);
    out = square;
    check(ml_add_elem(ctx, turned, other, &out) == ML_ERR_SHAPE);
    check(ml_add_elem(ctx, repeated, other, &out) == ML_ERR_SHAPE);
    check(ml_copy(ctx, square, square) == ML_OK && ml_copy(ctx, turned, square) == ML_ERR_SHAPE);
    check(ml_copy(ctx, column, square) == ML_ERR_SHAPE && ml_fill(ctx, repeated, 1) == ML_ERR_SHAPE);
    ml_tensor *all[] = {square, other, big, left, right, even, odd, shifted, repeated, turned, column};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        ml_tensor_release(all[i]);
}

/* [B, M, K] @ [K, N] is planned as one matrix of B * M rows. */
static void test_linear_is_one_matrix(ml_context *ctx) {
    ml_tensor *x = random_tensor(ctx, ML_F32, (ml_shape){3, {4, 6, 10}}),
              *w = random_tensor(ctx, ML_F32, (ml_shape){2, {7, 10}});
    ml_tensor *bias = random_tensor(ctx, ML_F32, (ml_shape){1, {7}}), *out = NULL,
              *per_row = random_tensor(ctx, ML_F32, (ml_shape){2, {6, 1}});
    ml_matmul_args args = ML_MATMUL_DEFAULTS;
    args.a = x;
    args.b = w;
    args.bias = bias;
    args.transpose_b = true;
    char *json = NULL;
    ml_explain_begin();
    check(ml_matmul(ctx, &args, &out) == ML_OK && out->view.ndim == 3 && out->view.shape[1] == 6);
    check(ml_explain_end(&json) == ML_OK && strstr(json, "\"m\":24") && strstr(json, "\"batch\":1"));
    ml_free(json);
    ml_tensor_release(out);
    out = NULL;
    args.bias = per_row; /* repeats for every batch: no single stride walks it */
    ml_explain_begin();
    check(ml_matmul(ctx, &args, &out) == ML_OK);
    check(ml_explain_end(&json) == ML_OK && strstr(json, "\"m\":6") && strstr(json, "\"batch\":4"));
    ml_free(json);
    ml_tensor *all[] = {x, w, bias, out, per_row};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        ml_tensor_release(all[i]);
}

void test_ops(void) {
    ml_context *ctx = new_context(&(ml_pref){"check", "1"}, 1, false); /* poisoned memory */
    test_errors(ctx);
    test_aliasing(ctx);
    test_dtypes(ctx);
    test_linear_is_one_matrix(ctx);
    for (int i = 0; i < 1500; i++)
        random_matmul(ctx);
    test_ragged(ctx);
    for (int i = 0; i < 300; i++)
        random_binary(ctx);
    ml_memory_stats s;
    ml_context_memory_stats(ctx, &s);
    check(s.bytes_in_use == 0);
    ml_context_release(ctx);
}
