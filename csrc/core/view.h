/* Strided views: shape, strides, broadcasting, overlap. Plain data; functions here allocate nothing. */
#ifndef ML_CORE_VIEW_H
#define ML_CORE_VIEW_H

#include "core/buffer.h"
#include "core/dtype.h"

/* The value behind a tensor: which elements of which buffer. buf may be NULL: an operand that is only planned (explain)
 * or an output that is not yet allocated. A view does not own a reference; tensors and recorded operations do. */
typedef struct ml_view {
    ml_buffer *buf;
    int64_t offset; /* bytes from the buffer's start to element [0, ..., 0] */
    int64_t shape[ML_MAX_DIMS];
    int64_t strides[ML_MAX_DIMS]; /* elements; may be zero or negative; meaningless where shape <= 1 */
    ml_dtype dtype;
    int ndim;
} ml_view;

int64_t ml_view_size(const ml_view *v); /* elements; 0 when a dim is 0, 1 for 0-d */
bool ml_view_is_contiguous(const ml_view *v);
/* Sets C-contiguous strides from shape. */
void ml_view_set_contiguous(ml_view *v);
/* Lowest and one past the highest byte reachable from the buffer's start; both 0 for an empty view. Exact in 64 bits;
 * ML_ERR_SHAPE on overflow. */
ml_status ml_view_byte_range(const ml_view *v, int64_t *low, int64_t *high);
/* Host address of element [0, ..., 0]. */
static inline void *ml_view_data(const ml_view *v) {
    return (char *)v->buf->host + v->offset;
}

/* NumPy broadcasting of two shapes. ML_ERR_SHAPE without a message when they do not fit (the caller knows the names).
 */
ml_status ml_shape_broadcast(const ml_shape *a, const ml_shape *b, ml_shape *out);
/* v broadcast to shape (stride 0 where it repeats). ML_ERR_SHAPE without a message when it does not fit. */
ml_status ml_view_broadcast(const ml_view *v, const ml_shape *shape, ml_view *out);
static inline ml_shape ml_view_shape(const ml_view *v) {
    ml_shape s = {.ndim = v->ndim};
    for (int i = 0; i < v->ndim; i++)
        s.dims[i] = v->shape[i];
    return s;
}
/* Product of dims; ML_ERR_SHAPE (with message) when negative or over 2^62 bytes of dtype. */
ml_status ml_shape_check(const ml_shape *s, ml_dtype dtype, int64_t *elements);

/* Two views of one buffer describe the same elements in the same order. */
bool ml_view_same(const ml_view *a, const ml_view *b);
/* They share at least one byte. Exact (not by bounding ranges): interleaved views that share no element are disjoint.
 * Different buffers over one memory are compared by host address. */
bool ml_views_overlap(const ml_view *a, const ml_view *b);
/* Two different indices of v reach the same element (stride 0, or overlapping strides). Exact. */
bool ml_view_self_overlaps(const ml_view *v);

/* Merges adjacent dims that are contiguous in all n views at once and drops dims of size 1: the loop nest that is left.
 * All views have the same shape; afterwards too. Order of dims may change (largest strides of views[0] outermost) when
 * reorder is set. */
void ml_views_coalesce(ml_view *views, int n, bool reorder);

/* "[2, 3] float16 strides (3, 1)" into buf; returns buf. */
char *ml_view_format(const ml_view *v, char *buf, size_t size);
char *ml_shape_format(const ml_shape *s, char *buf, size_t size);
#define ML_FORMAT_MAX 256

#endif
