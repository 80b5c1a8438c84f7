/* View arithmetic and overlap against brute force: every element of small random views is enumerated. */
#include "test_core.h"

#include "core/tensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_ELEMENTS 8192

/* Byte offset of every element in row-major order. */
static int64_t enumerate(const ml_view *v, int64_t *offsets) {
    int64_t n = 1, index[ML_MAX_DIMS] = {0};
    for (int i = 0; i < v->ndim; i++)
        n *= v->shape[i];
    for (int64_t e = 0; e < n; e++) {
        int64_t at = 0;
        for (int i = 0; i < v->ndim; i++)
            if (v->shape[i] > 1)
                at += index[i] * v->strides[i];
        offsets[e] = v->offset + at * (int64_t)ml_dtype_size(v->dtype);
        for (int i = v->ndim - 1; i >= 0 && ++index[i] == v->shape[i]; i--)
            index[i] = 0;
    }
    return n;
}

static ml_view random_view(ml_buffer *buf, int max_dims, int max_dim, int max_stride) {
    ml_view v = {.buf = buf, .dtype = (ml_dtype)rng_in(0, ML_DTYPE_COUNT - 1), .ndim = (int)rng_in(0, max_dims)};
    const int64_t item = (int64_t)ml_dtype_size(v.dtype);
    for (int i = 0; i < v.ndim; i++) {
        v.shape[i] = rng_in(rng() % 16 == 0 ? 0 : 1, max_dim);
        v.strides[i] = rng_in(-max_stride, max_stride);
    }
    int64_t low, high;
    check(ml_view_byte_range(&v, &low, &high) == ML_OK);
    v.offset = (int64_t)(rng() % 64) / item * item - low; /* the lowest byte lies in the first 64 */
    return v;
}

/* A contiguous tensor sliced with steps, transposed and reversed. */
static ml_view random_slice(ml_buffer *buf, int ndim, const int64_t *shape) {
    ml_view v = {.buf = buf, .dtype = (ml_dtype)rng_in(0, ML_DTYPE_COUNT - 1), .ndim = ndim};
    int axes[ML_MAX_DIMS];
    memcpy(v.shape, shape, sizeof(int64_t) * (size_t)ndim);
    ml_view_set_contiguous(&v);
    for (int i = 0; i < ndim; i++) {
        const int64_t d = v.shape[i], step = rng_in(1, d < 3 ? d : 3), start = rng_in(0, d - 1);
        const int64_t up = (d - 1 - start) / step + 1, down = start / step + 1;
        const bool backward = rng() % 2;
        check(ml_view_slice(&v, i, start, backward ? -step : step, rng_in(1, backward ? down : up), &v) == ML_OK);
        axes[i] = i;
    }
    for (int i = ndim - 1; i > 0; i--) {
        const int j = (int)rng_in(0, i), swap = axes[i];
        axes[i] = axes[j];
        axes[j] = swap;
    }
    check(ml_view_transpose(&v, axes, &v) == ML_OK);
    return v;
}

static bool brute_overlap(const ml_view *a, const ml_view *b) {
    static unsigned char used[1 << 16];
    static int64_t at[MAX_ELEMENTS];
    memset(used, 0, sizeof used);
    int64_t n = enumerate(a, at);
    for (int64_t i = 0; i < n; i++)
        memset(used + (int64_t)((uintptr_t)a->buf->host % 4096) + at[i], 1, ml_dtype_size(a->dtype));
    n = enumerate(b, at);
    for (int64_t i = 0; i < n; i++)
        for (size_t p = 0; p < ml_dtype_size(b->dtype); p++)
            if (used[(int64_t)((uintptr_t)b->buf->host % 4096) + at[i] + (int64_t)p])
                return true;
    return false;
}

static int compare_i64(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static bool brute_self_overlap(const ml_view *v) {
    static int64_t at[MAX_ELEMENTS];
    const int64_t n = enumerate(v, at);
    qsort(at, (size_t)n, sizeof *at, compare_i64);
    for (int64_t i = 1; i < n; i++)
        if (at[i] == at[i - 1])
            return true;
    return false;
}

/* Two handles over one page-aligned memory, the second 8 bytes in; brute_overlap() relies on the alignment. */
static void make_buffers(ml_buffer *two) {
    memset(two, 0, 2 * sizeof *two);
    two[0].host = (void *)4096;
    two[1].host = (void *)(4096 + 8);
    two[0].size = two[1].size = 1 << 15;
}

static void test_overlap(void) {
    ml_buffer buffers[2];
    make_buffers(buffers);
    int wrong = 0, found = 0, self_wrong = 0, self_found = 0;
    for (int round = 0; round < 60000; round++) {
        static const int dims[] = {2, 3, 4, 8}, sizes[] = {9, 5, 4, 3}, strides[] = {12, 20, 90, 60};
        const int k = round % 16 == 15 ? 3 : round % 3;
        ml_view a, b;
        if (round % 2) {
            a = random_view(&buffers[0], dims[k], sizes[k], strides[k]);
            b = random_view(&buffers[rng() % 4 == 0], dims[k], sizes[k], strides[k]);
        } else {
            int64_t shape[4];
            const int ndim = (int)rng_in(1, 4);
            for (int i = 0; i < ndim; i++)
                shape[i] = rng_in(1, 6);
            a = random_slice(&buffers[0], ndim, shape);
            b = random_slice(&buffers[rng() % 8 == 0], ndim, shape);
        }
        const bool want = brute_overlap(&a, &b), self = brute_self_overlap(&a);
        wrong += ml_views_overlap(&a, &b) != want;
        wrong += ml_views_overlap(&b, &a) != want;
        self_wrong += ml_view_self_overlaps(&a) != self;
        found += want;
        self_found += self;
    }
    printf("overlap: %d of 60000 pairs overlap, %d views overlap themselves\n", found, self_found);
    check(wrong == 0);
    check(self_wrong == 0);
}

static void test_overlap_cases(void) {
    ml_buffer buffers[2];
    make_buffers(buffers);
    ml_view a = {.buf = &buffers[0], .dtype = ML_F32, .ndim = 1, .shape = {100}, .strides = {2}}, b = a;
    b.offset = 4; /* interleaved */
    check(!ml_views_overlap(&a, &b) && ml_views_overlap(&a, &a));
    b.buf = &buffers[1]; /* 8 + 4 bytes on: still the odd elements */
    check(!ml_views_overlap(&a, &b));
    b.offset = 0;
    check(ml_views_overlap(&a, &b));
    b.buf = NULL;
    check(!ml_views_overlap(&a, &b));
    b.buf = &buffers[1];
    buffers[1].host = NULL; /* another device's memory */
    check(!ml_views_overlap(&a, &b));
    /* Larger than memory: never wrong, here refused. */
    ml_view huge = {
        .buf = &buffers[0], .dtype = ML_F32, .ndim = 2, .shape = {1 << 30, 1 << 30}, .strides = {INT64_MAX, 1}};
    check(ml_views_overlap(&huge, &a) && ml_view_self_overlaps(&huge));
    /* Past 2^31 elements: rows of a 3 x 2^33 matrix of bytes, even and odd columns. */
    ml_view even = {.buf = &buffers[0], .dtype = ML_U8, .ndim = 2, .shape = {3, 1ll << 32}, .strides = {1ll << 33, 2}};
    ml_view odd = even;
    odd.offset = 1;
    check(!ml_views_overlap(&even, &odd) && !ml_view_self_overlaps(&even));
    odd.offset = 1ll << 33;
    check(ml_views_overlap(&even, &odd));
    /* Hostile: 8 + 8 dims of coprime strides. Whatever the answer, it comes soon. */
    double worst = 0;
    for (int round = 0; round < 200; round++) {
        ml_view v[2];
        for (int k = 0; k < 2; k++) {
            v[k] = (ml_view){.buf = &buffers[0], .dtype = ML_U8, .ndim = 8, .offset = rng_in(0, 1000)};
            for (int i = 0; i < 8; i++) {
                v[k].shape[i] = rng_in(2, 40);
                v[k].strides[i] = rng_in(1ll << 30, 1ll << 31) | 1;
            }
        }
        struct timespec t0, t1;
        clock_gettime(CLOCK_MONOTONIC, &t0);
        (void)ml_views_overlap(&v[0], &v[1]);
        (void)ml_view_self_overlaps(&v[0]);
        clock_gettime(CLOCK_MONOTONIC, &t1);
        const double s = (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec);
        worst = s > worst ? s : worst;
    }
    printf("overlap: %.1f ms for the worst of 200 hostile pairs\n", worst * 1e3);
    check(worst < 5);
}

/* The reshape by definition: strides from the first step of each dim, then every element compared. */
static bool brute_reshape(const ml_view *v, const ml_shape *s, ml_view *out) {
    static int64_t want[MAX_ELEMENTS], got[MAX_ELEMENTS];
    const int64_t n = enumerate(v, want), item = (int64_t)ml_dtype_size(v->dtype);
    ml_view r = {.buf = v->buf, .offset = v->offset, .dtype = v->dtype, .ndim = s->ndim};
    int64_t step = 1;
    for (int i = s->ndim - 1; i >= 0; i--) {
        r.shape[i] = s->dims[i];
        if (s->dims[i] > 1 && n > 0)
            r.strides[i] = (want[step] - want[0]) / item;
        step *= s->dims[i];
    }
    *out = r;
    return enumerate(&r, got) == n && memcmp(want, got, sizeof(int64_t) * (size_t)n) == 0;
}

static void test_reshape(void) {
    ml_buffer buffers[2];
    make_buffers(buffers);
    int wrong = 0, views = 0;
    for (int round = 0; round < 30000; round++) {
        static const int64_t shapes[][4] = {{2, 3, 4, 1}, {4, 6, 1, 1}, {2, 2, 3, 2}, {1, 8, 3, 1}, {3, 4, 2, 2}};
        ml_view v = {.buf = buffers, .dtype = ML_F16, .ndim = 4};
        memcpy(v.shape, shapes[rng() % 5], sizeof(int64_t) * 4);
        ml_view_set_contiguous(&v);
        v.offset = 4096;
        for (int i = 0; i < 4; i++)
            switch (rng() % 8) {
            case 0:
                v.strides[i] *= 2;
                break;
            case 1:
                v.strides[i] = -v.strides[i];
                break;
            case 2:
                v.strides[i] = 0;
                break;
            default:
                break;
            }
        if (rng() % 3 == 0)
            check(ml_view_transpose(&v, NULL, &v) == ML_OK);
        int64_t left = ml_view_size(&v);
        ml_shape s = {.ndim = (int)rng_in(1, 6)};
        for (int i = 0; i < s.ndim - 1; i++) {
            do
                s.dims[i] = rng_in(1, left < 6 ? left : 6);
            while (left % s.dims[i]);
            left /= s.dims[i];
        }
        s.dims[s.ndim - 1] = left;
        ml_view want, got;
        const bool exists = brute_reshape(&v, &s, &want);
        ml_shape asked = s;
        if (rng() % 2)
            asked.dims[rng() % (unsigned)s.ndim] = -1;
        const ml_status status = ml_view_reshape(&v, &asked, &got);
        wrong += (status == ML_OK) != exists;
        if (status == ML_OK && exists) {
            views++;
            wrong += !ml_view_same(&want, &got);
        }
    }
    printf("reshape: %d of 30000 have a view\n", views);
    check(wrong == 0);

    ml_view v = {.buf = buffers, .dtype = ML_F32, .ndim = 2, .shape = {0, 3}, .strides = {3, 1}}, r;
    check(ml_view_reshape(&v, &(ml_shape){2, {3, -1}}, &r) == ML_OK && r.shape[1] == 0);
    check(ml_view_reshape(&v, &(ml_shape){2, {0, -1}}, &r) == ML_ERR_SHAPE);
    check(ml_view_reshape(&v, &(ml_shape){1, {1}}, &r) == ML_ERR_SHAPE);
    v.shape[0] = 2;
    check(ml_view_reshape(&v, &(ml_shape){2, {-1, -1}}, &r) == ML_ERR_SHAPE);
    check(ml_view_reshape(&v, &(ml_shape){2, {-2, 3}}, &r) == ML_ERR_SHAPE);
    check(ml_view_reshape(&v, &(ml_shape){2, {4, -1}}, &r) == ML_ERR_SHAPE);
    check(ml_view_reshape(&v, &(ml_shape){9, {6}}, &r) == ML_ERR_SHAPE);
    check(ml_view_reshape(&v, &(ml_shape){0, {0}}, &r) == ML_ERR_SHAPE);
    check(strstr(ml_last_error(), "[2, 3] float32 strides (3, 1) has 6 elements") != NULL);
}

static int compare_tuple(const void *a, const void *b) {
    return memcmp(a, b, 3 * sizeof(int64_t));
}

static void test_coalesce(void) {
    static int64_t before[3][MAX_ELEMENTS], after[3][MAX_ELEMENTS], tuples[2][MAX_ELEMENTS][3];
    ml_buffer buffers[2];
    make_buffers(buffers);
    int wrong = 0;
    for (int round = 0; round < 10000; round++) {
        const int n = (int)rng_in(1, 3), ndim = (int)rng_in(0, 5);
        const bool reorder = rng() % 2;
        int64_t shape[5];
        for (int i = 0; i < ndim; i++)
            shape[i] = rng_in(rng() % 32 == 0 ? 0 : 1, 4);
        ml_view v[3];
        int64_t count = 0;
        for (int k = 0; k < n; k++) {
            v[k] = (ml_view){.buf = buffers, .dtype = ML_F32, .ndim = ndim, .offset = 4096};
            memcpy(v[k].shape, shape, sizeof(int64_t) * (size_t)ndim);
            ml_view_set_contiguous(&v[k]);
            for (int i = 0; i < ndim; i++)
                if (rng() % 6 == 0 || shape[i] == 1)
                    v[k].strides[i] = rng_in(-40, 40) * (int64_t)(rng() % 2);
            if (ndim > 1 && rng() % 4 == 0) { /* one layout, two orders of dims */
                const int64_t stride = v[k].strides[0];
                v[k].strides[0] = v[k].strides[1];
                v[k].strides[1] = stride;
            }
            count = enumerate(&v[k], before[k]);
        }
        ml_views_coalesce(v, n, reorder);
        for (int k = 0; k < n; k++) {
            wrong += v[k].ndim != v[0].ndim || memcmp(v[k].shape, v[0].shape, sizeof(int64_t) * (size_t)v[0].ndim) != 0;
            wrong += enumerate(&v[k], after[k]) != count;
        }
        for (int64_t e = 0; e < count; e++)
            for (int k = 0; k < 3; k++) {
                tuples[0][e][k] = k < n ? before[k][e] : 0;
                tuples[1][e][k] = k < n ? after[k][e] : 0;
            }
        if (reorder)
            for (int k = 0; k < 2; k++)
                qsort(tuples[k], (size_t)count, sizeof tuples[k][0], compare_tuple);
        wrong += memcmp(tuples[0], tuples[1], sizeof tuples[0][0] * (size_t)count) != 0;
        for (int i = 0; i < v[0].ndim && count > 0; i++) {
            bool merge = i + 1 < v[0].ndim;
            for (int k = 0; k < n && merge; k++)
                merge = v[k].strides[i] == v[k].strides[i + 1] * v[k].shape[i + 1];
            wrong += merge || v[0].shape[i] == 1;
            wrong += reorder && i > 0 && llabs(v[0].strides[i]) > llabs(v[0].strides[i - 1]);
        }
    }
    check(wrong == 0);
}

static void test_broadcast(void) {
    ml_buffer buffers[2];
    make_buffers(buffers);
    int wrong = 0, fitting = 0;
    for (int round = 0; round < 20000; round++) {
        ml_shape a = {.ndim = (int)rng_in(0, 4)}, b = {.ndim = (int)rng_in(0, 4)}, r;
        for (int i = 0; i < 4; i++) {
            a.dims[i] = rng() % 2 ? 1 : rng_in(0, 3);
            b.dims[i] = rng() % 2 ? 1 : rng_in(0, 3);
        }
        const int ndim = a.ndim > b.ndim ? a.ndim : b.ndim;
        int64_t want[4] = {0};
        bool fits = true;
        for (int i = 1; i <= ndim; i++) {
            const int64_t x = i <= a.ndim ? a.dims[a.ndim - i] : 1, y = i <= b.ndim ? b.dims[b.ndim - i] : 1;
            fits &= x == y || x == 1 || y == 1;
            want[ndim - i] = x == 1 ? y : x;
        }
        fitting += fits;
        wrong += (ml_shape_broadcast(&a, &b, &r) == ML_OK) != fits;
        if (!fits)
            continue;
        wrong += r.ndim != ndim || memcmp(r.dims, want, sizeof(int64_t) * (size_t)ndim) != 0;
        ml_view v = {.buf = buffers, .dtype = ML_F32, .ndim = a.ndim}, w;
        memcpy(v.shape, a.dims, sizeof v.shape);
        ml_view_set_contiguous(&v);
        wrong += ml_view_broadcast(&v, &r, &w) != ML_OK;
        static int64_t at[MAX_ELEMENTS];
        const int64_t n = enumerate(&w, at);
        for (int64_t e = 0; e < n; e++) {
            int64_t rest = e, offset = 0, stride = 4;
            for (int i = 1; i <= a.ndim; i++) {
                const int64_t index = rest % r.dims[ndim - i];
                rest /= r.dims[ndim - i];
                offset += (a.dims[a.ndim - i] == 1 ? 0 : index) * stride;
                stride *= a.dims[a.ndim - i];
            }
            wrong += at[e] != offset;
        }
    }
    printf("broadcast: %d of 20000 fit\n", fitting);
    check(wrong == 0);
    ml_shape tall = {2, {1ll << 40, 1}}, wide = {2, {1, 1ll << 40}}, r;
    check(ml_shape_broadcast(&tall, &wide, &r) == ML_ERR_SHAPE); /* more elements than 64 bits can address */
    ml_view v = {.buf = buffers, .dtype = ML_F32, .ndim = 2, .shape = {2, 1}, .strides = {1, 77}}, w;
    check(ml_view_broadcast(&v, &(ml_shape){1, {2}}, &w) == ML_ERR_SHAPE);
    check(ml_view_broadcast(&v, &(ml_shape){2, {2, -1}}, &w) == ML_ERR_SHAPE);
    check(ml_view_broadcast(&v, &(ml_shape){3, {5, 2, 3}}, &w) == ML_OK && w.strides[0] == 0 && w.strides[2] == 0);
}

static void test_view_cases(void) {
    ml_buffer buffers[2];
    make_buffers(buffers);
    char text[ML_FORMAT_MAX], tiny[8];
    ml_view v = {.buf = buffers, .dtype = ML_F16, .ndim = 2, .shape = {2, 3}, .strides = {3, 1}}, w;
    check(strcmp(ml_view_format(&v, text, sizeof text), "[2, 3] float16 strides (3, 1)") == 0);
    check(strcmp(ml_view_format(&v, tiny, sizeof tiny), "[2, 3] ") == 0);
    check(strcmp(ml_shape_format(&(ml_shape){0, {0}}, text, sizeof text), "[]") == 0);
    check(ml_view_is_contiguous(&v) && ml_view_size(&v) == 6);
    check(ml_view_transpose(&v, NULL, &w) == ML_OK && w.shape[0] == 3 && w.strides[0] == 1 &&
          !ml_view_is_contiguous(&w));
    check(ml_view_transpose(&v, (int[]){-1, 0}, &w) == ML_OK && w.shape[0] == 3);
    check(ml_view_transpose(&v, (int[]){1, 1}, &w) == ML_ERR_SHAPE);
    check(ml_view_transpose(&v, (int[]){0, 2}, &w) == ML_ERR_SHAPE);
    check(ml_view_slice(&v, 1, 2, -1, 3, &w) == ML_OK && w.offset == 4 && w.strides[1] == -1);
    check(ml_view_slice(&w, -1, 1, 1, 2, &w) == ML_OK && w.offset == 2 && w.strides[1] == -1 && w.shape[1] == 2);
    check(ml_view_slice(&v, 1, 0, 2, 3, &w) == ML_ERR_SHAPE);
    check(ml_view_slice(&v, 1, -1, 1, 1, &w) == ML_ERR_SHAPE);
    check(ml_view_slice(&v, 1, 0, INT64_MAX, INT64_MAX, &w) == ML_ERR_SHAPE);
    check(ml_view_slice(&v, 1, 0, 1, -1, &w) == ML_ERR_SHAPE);
    check(ml_view_slice(&v, 2, 0, 1, 1, &w) == ML_ERR_SHAPE);
    check(ml_view_slice(&v, 1, 0, 0, 2, &w) == ML_ERR_VALUE);
    check(ml_view_slice(&v, 1, 99, 1, 0, &w) == ML_OK && ml_view_size(&w) == 0 && ml_view_is_contiguous(&w));
    check(ml_view_expand_dims(&v, 1, &w) == ML_OK && w.ndim == 3 && w.shape[1] == 1 && w.shape[2] == 3);
    check(ml_view_expand_dims(&w, -1, &w) == ML_OK && w.ndim == 4 && w.shape[3] == 1 && ml_view_is_contiguous(&w));
    check(ml_view_squeeze(&w, 0, &w) == ML_ERR_SHAPE && ml_view_squeeze(&w, 3, &w) == ML_OK && w.ndim == 3);
    check(ml_view_squeeze(&w, ML_ALL_AXES, &w) == ML_OK && ml_view_same(&v, &w));
    w.offset = 2;
    check(!ml_view_same(&v, &w));
    w.buf = &buffers[1]; /* another handle over the same memory, 8 bytes on */
    w.offset = 0;
    v.offset = 8;
    check(ml_view_same(&v, &w));
    v.ndim = 8;
    check(ml_view_expand_dims(&v, 0, &w) == ML_ERR_SHAPE);

    int64_t n, low, high;
    check(ml_shape_check(&(ml_shape){2, {1ll << 30, 1ll << 30}}, ML_F32, &n) == ML_OK && n == 1ll << 60);
    check(ml_shape_check(&(ml_shape){2, {1ll << 31, 1ll << 30}}, ML_F32, &n) == ML_ERR_SHAPE);
    check(ml_shape_check(&(ml_shape){2, {1ll << 31, 1ll << 31}}, ML_U8, &n) == ML_OK);
    check(ml_shape_check(&(ml_shape){3, {1ll << 62, 1ll << 62, 16}}, ML_U8, &n) == ML_ERR_SHAPE);
    check(ml_shape_check(&(ml_shape){2, {3, 0}}, ML_F32, &n) == ML_OK && n == 0);
    check(ml_shape_check(&(ml_shape){2, {3, -1}}, ML_F32, &n) == ML_ERR_SHAPE);
    check(ml_shape_check(&(ml_shape){9, {1}}, ML_F32, &n) == ML_ERR_SHAPE);
    check(ml_shape_check(&(ml_shape){1, {1}}, (ml_dtype)17, &n) == ML_ERR_DTYPE);
    ml_view big = {.dtype = ML_F32, .ndim = 2, .shape = {1 << 20, 1 << 20}, .strides = {1ll << 41, 1}};
    check(ml_view_byte_range(&big, &low, &high) == ML_OK && high == ((1ll << 20) - 1) * (1ll << 43) + (4ll << 20));
    big.strides[0] = 1ll << 42;
    check(ml_view_byte_range(&big, &low, &high) == ML_ERR_SHAPE);
    big.shape[1] = 0;
    check(ml_view_byte_range(&big, &low, &high) == ML_OK && low == 0 && high == 0);
    big = (ml_view){.dtype = ML_F32, .ndim = 2, .shape = {3, 1}, .strides = {-5, INT64_MAX}, .offset = 100};
    check(ml_view_byte_range(&big, &low, &high) == ML_OK && low == 60 && high == 104);
}

void test_views(void) {
    test_view_cases();
    test_broadcast();
    test_reshape();
    test_coalesce();
    test_overlap();
    test_overlap_cases();
}
