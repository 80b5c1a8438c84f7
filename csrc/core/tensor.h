/* The public handle: a reference-counted view that owns a reference to its buffer. */
#ifndef ML_CORE_TENSOR_H
#define ML_CORE_TENSOR_H

#include "core/view.h"

struct ml_tensor {
    atomic_int refs;
    ml_view view;
};

/* Takes a new reference to view->buf. */
ml_status ml_tensor_from_view(const ml_view *view, ml_tensor **out);

/* The view that layout describes of size bytes at host (NULL: not host-visible, then base offsets count as aligned);
 * buf stays NULL. Errors as ml_tensor_from_host. For callers that must know before they take over memory. */
ml_status ml_view_from_layout(const ml_layout *layout, const void *host, size_t size, ml_view *out);

/* View arithmetic behind the public functions, for callers that keep views by value. Same errors. */
ml_status ml_view_transpose(const ml_view *v, const int *axes, ml_view *out);
ml_status ml_view_reshape(const ml_view *v, const ml_shape *shape, ml_view *out);
ml_status ml_view_slice(const ml_view *v, int axis, int64_t start, int64_t step, int64_t count, ml_view *out);
ml_status ml_view_squeeze(const ml_view *v, int axis, ml_view *out); /* axis == ML_ALL_AXES: every dim of size 1 */
ml_status ml_view_expand_dims(const ml_view *v, int axis, ml_view *out);
#define ML_ALL_AXES INT32_MIN

#endif
