#include "core/tensor.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- sizes and strides ------------------------------------------------------------------------------------- */

static bool is_empty(const ml_view *v) {
    for (int i = 0; i < v->ndim; i++)
        if (v->shape[i] == 0)
            return true;
    return false;
}

int64_t ml_view_size(const ml_view *v) {
    int64_t n = 1;
    for (int i = 0; i < v->ndim; i++)
        n *= v->shape[i];
    return n;
}

bool ml_view_is_contiguous(const ml_view *v) {
    int64_t expected = 1;
    for (int i = v->ndim - 1; i >= 0; i--) {
        if (v->shape[i] != 1 && v->strides[i] != expected)
            return is_empty(v);
        expected *= v->shape[i];
    }
    return true;
}

void ml_view_set_contiguous(ml_view *v) {
    int64_t stride = 1;
    for (int i = v->ndim - 1; i >= 0; i--) {
        v->strides[i] = stride;
        stride *= v->shape[i] > 0 ? v->shape[i] : 1;
    }
}

/* low and high as ml_view_byte_range; false on overflow. */
static bool byte_range(const ml_view *v, int64_t *low, int64_t *high) {
    const int64_t item = (int64_t)ml_dtype_size_of(v->dtype);
    int64_t lo = v->offset, hi = v->offset;
    if (is_empty(v)) {
        *low = *high = 0;
        return true;
    }
    for (int i = 0; i < v->ndim; i++) {
        int64_t extent;
        if (v->shape[i] == 1)
            continue;
        if (__builtin_mul_overflow(v->shape[i] - 1, v->strides[i], &extent) ||
            __builtin_mul_overflow(extent, item, &extent))
            return false;
        int64_t *end = extent < 0 ? &lo : &hi;
        if (__builtin_add_overflow(*end, extent, end))
            return false;
    }
    if (__builtin_add_overflow(hi, item, &hi))
        return false;
    *low = lo;
    *high = hi;
    return true;
}

ml_status ml_view_byte_range(const ml_view *v, int64_t *low, int64_t *high) {
    if (byte_range(v, low, high))
        return ML_OK;
    char text[ML_FORMAT_MAX];
    return ml_fail(ML_ERR_SHAPE, "the addresses of %s at byte offset %lld do not fit in 64 bits",
                   ml_view_format(v, text, sizeof text), (long long)v->offset);
}

/* Product of dims; false when a dim is negative or the product, zeros counted as ones (so that contiguous strides
 * exist), exceeds 2^62 / item. */
static bool count_elements(const ml_shape *s, size_t item, int64_t *elements) {
    const int64_t limit = ((int64_t)1 << 62) / (int64_t)item;
    int64_t n = 1;
    bool empty = false;
    for (int i = 0; i < s->ndim; i++) {
        if (s->dims[i] < 0)
            return false;
        if (s->dims[i] == 0)
            empty = true;
        else if (__builtin_mul_overflow(n, s->dims[i], &n) || n > limit)
            return false;
    }
    *elements = empty ? 0 : n;
    return true;
}

/* The limit for a view of unknown dtype. */
static bool shape_fits(const ml_shape *s) {
    int64_t n;
    return count_elements(s, 4, &n);
}

ml_status ml_shape_check(const ml_shape *s, ml_dtype dtype, int64_t *elements) {
    char text[ML_FORMAT_MAX];
    if ((unsigned)dtype >= ML_DTYPE_COUNT)
        return ml_fail(ML_ERR_DTYPE, "%d is not a dtype", (int)dtype);
    if (s->ndim < 0 || s->ndim > ML_MAX_DIMS)
        return ml_fail(ML_ERR_SHAPE, "%d dimensions; tensors have 0 to %d", s->ndim, ML_MAX_DIMS);
    for (int i = 0; i < s->ndim; i++)
        if (s->dims[i] < 0)
            return ml_fail(ML_ERR_SHAPE, "shape %s has a negative dimension", ml_shape_format(s, text, sizeof text));
    if (!count_elements(s, ml_dtype_size_of(dtype), elements))
        return ml_fail(ML_ERR_SHAPE, "shape %s of %s is too big", ml_shape_format(s, text, sizeof text),
                       ml_dtype_name(dtype));
    return ML_OK;
}

ml_status ml_view_from_layout(const ml_layout *layout, const void *host, size_t size, ml_view *out) {
    char text[ML_FORMAT_MAX];
    int64_t elements, low, high;
    ML_TRY(ml_shape_check(&layout->shape, layout->dtype, &elements));
    ml_view v = {.offset = layout->byte_offset, .dtype = layout->dtype, .ndim = layout->shape.ndim};
    for (int i = 0; i < v.ndim; i++)
        v.shape[i] = layout->shape.dims[i];
    if (layout->strides)
        for (int i = 0; i < v.ndim; i++)
            v.strides[i] = layout->strides[i];
    else
        ml_view_set_contiguous(&v);
    if (elements == 0) {
        /* There is no element whose address could be wrong; nonsense must not reach the arithmetic of later slices. */
        v.offset = 0;
        ml_view_set_contiguous(&v);
        *out = v;
        return ML_OK;
    }
    ML_TRY(ml_view_byte_range(&v, &low, &high));
    if (low < 0 || (uint64_t)high > size)
        return ml_fail(ML_ERR_SHAPE, "%s at byte offset %lld reaches bytes %lld to %lld of memory of %zu bytes",
                       ml_view_format(&v, text, sizeof text), (long long)v.offset, (long long)low, (long long)high,
                       size);
    if (((uintptr_t)host + (uint64_t)v.offset) % ml_dtype_size_of(v.dtype) != 0)
        return ml_fail(ML_ERR_VALUE, "memory at %p, byte offset %lld, is not aligned to %s", host, (long long)v.offset,
                       ml_dtype_name(v.dtype));
    *out = v;
    return ML_OK;
}

/* ---- broadcasting ------------------------------------------------------------------------------------------ */

ml_status ml_shape_broadcast(const ml_shape *a, const ml_shape *b, ml_shape *out) {
    if (a->ndim < 0 || b->ndim < 0 || a->ndim > ML_MAX_DIMS || b->ndim > ML_MAX_DIMS)
        return ML_ERR_SHAPE;
    ml_shape r = {.ndim = a->ndim > b->ndim ? a->ndim : b->ndim};
    for (int i = 0; i < r.ndim; i++) {
        const int ia = i - (r.ndim - a->ndim), ib = i - (r.ndim - b->ndim);
        const int64_t da = ia >= 0 ? a->dims[ia] : 1, db = ib >= 0 ? b->dims[ib] : 1;
        if (da != db && da != 1 && db != 1)
            return ML_ERR_SHAPE;
        r.dims[i] = da == 1 ? db : da;
    }
    if (!shape_fits(&r))
        return ML_ERR_SHAPE;
    *out = r;
    return ML_OK;
}

ml_status ml_view_broadcast(const ml_view *v, const ml_shape *shape, ml_view *out) {
    const int lead = shape->ndim - v->ndim;
    if (lead < 0 || shape->ndim > ML_MAX_DIMS || !shape_fits(shape))
        return ML_ERR_SHAPE;
    ml_view r = {.buf = v->buf, .offset = v->offset, .dtype = v->dtype, .ndim = shape->ndim};
    for (int i = 0; i < r.ndim; i++) {
        const int64_t have = i < lead ? 1 : v->shape[i - lead];
        if (have != 1 && have != shape->dims[i])
            return ML_ERR_SHAPE;
        r.shape[i] = shape->dims[i];
        r.strides[i] = have == 1 ? 0 : v->strides[i - lead];
    }
    *out = r;
    return ML_OK;
}

/* ---- views of views ---------------------------------------------------------------------------------------- */

static ml_status resolve_axis(const char *what, int axis, int ndim, int *out) {
    if (axis < -ndim || axis >= ndim)
        return ml_fail(ML_ERR_SHAPE, "%s: axis %d of a tensor with %d dimensions", what, axis, ndim);
    *out = axis < 0 ? axis + ndim : axis;
    return ML_OK;
}

ml_status ml_view_transpose(const ml_view *v, const int *axes, ml_view *out) {
    ml_view r = *v;
    unsigned seen = 0;
    for (int i = 0; i < v->ndim; i++) {
        int axis = v->ndim - 1 - i;
        if (axes)
            ML_TRY(resolve_axis("transpose", axes[i], v->ndim, &axis));
        if (seen & 1u << axis)
            return ml_fail(ML_ERR_SHAPE, "transpose: axis %d is named twice", axis);
        seen |= 1u << axis;
        r.shape[i] = v->shape[axis];
        r.strides[i] = v->strides[axis];
    }
    *out = r;
    return ML_OK;
}

/* Fills in a -1. */
static ml_status resolve_reshape(const ml_view *v, const ml_shape *shape, ml_shape *out) {
    char from[ML_FORMAT_MAX], to[ML_FORMAT_MAX];
    const int64_t size = ml_view_size(v);
    int64_t elements;
    int unknown = -1;
    ml_shape s = *shape;
    if (s.ndim < 0 || s.ndim > ML_MAX_DIMS)
        return ml_fail(ML_ERR_SHAPE, "reshape: %d dimensions; tensors have 0 to %d", s.ndim, ML_MAX_DIMS);
    for (int i = 0; i < s.ndim; i++) {
        if (s.dims[i] != -1)
            continue;
        if (unknown >= 0)
            return ml_fail(ML_ERR_SHAPE, "reshape: only one dimension may be -1, got %s",
                           ml_shape_format(&s, to, sizeof to));
        unknown = i;
    }
    if (unknown >= 0)
        s.dims[unknown] = 1;
    ML_TRY(ml_shape_check(&s, v->dtype, &elements));
    if (unknown >= 0 && elements > 0 && size % elements == 0) {
        s.dims[unknown] = size / elements;
        elements = size;
    }
    if (elements != size || (unknown >= 0 && s.dims[unknown] == 1 && size == 0))
        return ml_fail(ML_ERR_SHAPE, "reshape: %s has %lld elements and does not fit %s",
                       ml_view_format(v, from, sizeof from), (long long)size, ml_shape_format(shape, to, sizeof to));
    *out = s;
    return ML_OK;
}

ml_status ml_view_reshape(const ml_view *v, const ml_shape *shape, ml_view *out) {
    ml_shape s;
    ML_TRY(resolve_reshape(v, shape, &s));
    ml_view r = {.buf = v->buf, .offset = v->offset, .dtype = v->dtype, .ndim = s.ndim};
    for (int i = 0; i < s.ndim; i++)
        r.shape[i] = s.dims[i];
    ml_view_set_contiguous(&r);
    if (ml_view_size(v) > 0) {
        /* What can be walked with one stride is one dim of blocks. A new dim lies within one block or there is no view
         * (NumPy's rule for reshaping without a copy). Innermost first; `left` is what new dims have not yet used of
         * block b, `stride` the distance of the next of its steps. */
        ml_view blocks = *v;
        ml_views_coalesce(&blocks, 1, false);
        int b = blocks.ndim;
        int64_t left = 1, stride = 1;
        for (int i = s.ndim - 1; i >= 0; i--) {
            if (r.shape[i] == 1)
                continue; /* keeps its contiguous stride, which is never used */
            if (left == 1) {
                b--;
                left = blocks.shape[b];
                stride = blocks.strides[b];
            }
            if (left % r.shape[i] != 0) {
                char from[ML_FORMAT_MAX], to[ML_FORMAT_MAX];
                return ml_fail(ML_ERR_SHAPE, "reshape: no view of %s has shape %s",
                               ml_view_format(v, from, sizeof from), ml_shape_format(&s, to, sizeof to));
            }
            r.strides[i] = stride;
            left /= r.shape[i];
            stride *= left > 1 ? r.shape[i] : 1;
        }
    }
    *out = r;
    return ML_OK;
}

ml_status ml_view_slice(const ml_view *v, int axis, int64_t start, int64_t step, int64_t count, ml_view *out) {
    char text[ML_FORMAT_MAX];
    ML_TRY(resolve_axis("slice", axis, v->ndim, &axis));
    if (count < 0)
        return ml_fail(ML_ERR_SHAPE, "slice: a count of %lld", (long long)count);
    if (count > 1 && step == 0)
        return ml_fail(ML_ERR_VALUE, "slice: the step is 0");
    ml_view r = *v;
    r.shape[axis] = count;
    if (count > 0) {
        int64_t last = start;
        if ((count > 1 &&
             (__builtin_mul_overflow(count - 1, step, &last) || __builtin_add_overflow(start, last, &last))) ||
            start < 0 || last < 0 || start >= v->shape[axis] || last >= v->shape[axis])
            return ml_fail(ML_ERR_SHAPE, "slice: %lld elements from %lld by step %lld leave axis %d of %s",
                           (long long)count, (long long)start, (long long)step, axis,
                           ml_view_format(v, text, sizeof text));
        if (start > 0)
            r.offset += start * v->strides[axis] * (int64_t)ml_dtype_size_of(v->dtype);
        if (count > 1)
            r.strides[axis] = v->strides[axis] * step;
    }
    *out = r;
    return ML_OK;
}

static void remove_dim(ml_view *v, int axis) {
    v->ndim--;
    for (int i = axis; i < v->ndim; i++) {
        v->shape[i] = v->shape[i + 1];
        v->strides[i] = v->strides[i + 1];
    }
}

ml_status ml_view_squeeze(const ml_view *v, int axis, ml_view *out) {
    ml_view r = *v;
    if (axis == ML_ALL_AXES) {
        for (int i = r.ndim - 1; i >= 0; i--)
            if (r.shape[i] == 1)
                remove_dim(&r, i);
    } else {
        char text[ML_FORMAT_MAX];
        ML_TRY(resolve_axis("squeeze", axis, v->ndim, &axis));
        if (r.shape[axis] != 1)
            return ml_fail(ML_ERR_SHAPE, "squeeze: axis %d of %s is not of size 1", axis,
                           ml_view_format(v, text, sizeof text));
        remove_dim(&r, axis);
    }
    *out = r;
    return ML_OK;
}

ml_status ml_view_expand_dims(const ml_view *v, int axis, ml_view *out) {
    if (v->ndim == ML_MAX_DIMS)
        return ml_fail(ML_ERR_SHAPE, "expand_dims: the tensor already has %d dimensions", ML_MAX_DIMS);
    ML_TRY(resolve_axis("expand_dims", axis, v->ndim + 1, &axis));
    ml_view r = *v;
    for (int i = v->ndim; i > axis; i--) {
        r.shape[i] = v->shape[i - 1];
        r.strides[i] = v->strides[i - 1];
    }
    r.shape[axis] = 1;
    r.strides[axis] = 0;
    r.ndim++;
    *out = r;
    return ML_OK;
}

/* ---- comparison and loop nests ----------------------------------------------------------------------------- */

bool ml_view_same(const ml_view *a, const ml_view *b) {
    if (!a->buf || !b->buf || a->dtype != b->dtype || a->ndim != b->ndim)
        return false;
    if (a->buf != b->buf && (!a->buf->host || !b->buf->host))
        return false;
    bool same = true;
    for (int i = 0; i < a->ndim; i++) {
        if (a->shape[i] != b->shape[i])
            return false;
        same &= a->shape[i] <= 1 || a->strides[i] == b->strides[i];
    }
    if (is_empty(a))
        return a->buf == b->buf;
    return same && (a->buf == b->buf ? a->offset == b->offset : ml_view_data(a) == ml_view_data(b));
}

static int64_t magnitude(int64_t x) {
    return x < 0 ? (x == INT64_MIN ? INT64_MAX : -x) : x;
}

/* Dim i should lie outside dim j: larger strides in the first view that tells them apart. */
static bool outside(const ml_view *views, int n, int i, int j) {
    for (int k = 0; k < n; k++) {
        const int64_t si = magnitude(views[k].strides[i]), sj = magnitude(views[k].strides[j]);
        if (si != sj)
            return si > sj;
    }
    return false;
}

static void swap_dims(ml_view *v, int i, int j) {
    const int64_t shape = v->shape[i], stride = v->strides[i];
    v->shape[i] = v->shape[j];
    v->strides[i] = v->strides[j];
    v->shape[j] = shape;
    v->strides[j] = stride;
}

/* Stepping over dim i is the same as running through all of dim i + 1, in every view. */
static bool mergeable(const ml_view *views, int n, int i) {
    for (int k = 0; k < n; k++) {
        int64_t run;
        if (__builtin_mul_overflow(views[k].strides[i + 1], views[k].shape[i + 1], &run) || views[k].strides[i] != run)
            return false;
    }
    return true;
}

void ml_views_coalesce(ml_view *views, int n, bool reorder) {
    if (is_empty(&views[0])) {
        for (int k = 0; k < n; k++) {
            views[k].ndim = 1;
            views[k].shape[0] = 0;
            views[k].strides[0] = 1;
        }
        return;
    }
    for (int i = views[0].ndim - 1; i >= 0; i--)
        if (views[0].shape[i] == 1)
            for (int k = 0; k < n; k++)
                remove_dim(&views[k], i);
    if (reorder) /* insertion sort: stable, and there are at most 8 */
        for (int i = 1; i < views[0].ndim; i++)
            for (int j = i; j > 0 && outside(views, n, j, j - 1); j--)
                for (int k = 0; k < n; k++)
                    swap_dims(&views[k], j, j - 1);
    for (int i = views[0].ndim - 2; i >= 0; i--) {
        if (!mergeable(views, n, i))
            continue;
        for (int k = 0; k < n; k++) {
            views[k].shape[i + 1] *= views[k].shape[i];
            remove_dim(&views[k], i);
        }
    }
}

/* ---- text -------------------------------------------------------------------------------------------------- */

typedef struct text {
    char *buf;
    size_t size, used;
} text;

/* Appends what fits; the result is always terminated. */
static void put(text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(text *t, const char *format, ...) {
    if (t->used + 1 >= t->size)
        return;
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(t->buf + t->used, t->size - t->used, format, args);
    va_end(args);
    if (n > 0)
        t->used = t->used + (size_t)n < t->size ? t->used + (size_t)n : t->size - 1;
}

static void put_list(text *t, const int64_t *values, int n) {
    for (int i = 0; i < n && i < ML_MAX_DIMS; i++)
        put(t, "%s%lld", i ? ", " : "", (long long)values[i]);
}

char *ml_shape_format(const ml_shape *s, char *buf, size_t size) {
    text t = {buf, size, 0};
    if (size > 0)
        buf[0] = '\0';
    put(&t, "[");
    put_list(&t, s->dims, s->ndim);
    put(&t, "]");
    return buf;
}

char *ml_view_format(const ml_view *v, char *buf, size_t size) {
    text t = {buf, size, 0};
    if (size > 0)
        buf[0] = '\0';
    put(&t, "[");
    put_list(&t, v->shape, v->ndim);
    put(&t, "] %s strides (", ml_dtype_name(v->dtype));
    put_list(&t, v->strides, v->ndim);
    put(&t, ")");
    return buf;
}
