#include "core/tensor.h"

#include <stdlib.h>

ml_status ml_tensor_from_view(const ml_view *view, ml_tensor **out) {
    ml_tensor *t = malloc(sizeof *t);
    if (!t)
        return ml_fail(ML_ERR_MEMORY, "out of memory for a tensor handle");
    atomic_init(&t->refs, 1);
    t->view = *view;
    ml_buffer_retain(t->view.buf);
    *out = t;
    return ML_OK;
}

ml_status ml_tensor_from_existing_buffer(ml_buffer *buffer, const ml_layout *layout, ml_tensor **out) {
    ml_view view;
    if (!buffer)
        return ml_fail(ML_ERR_VALUE, "the buffer is NULL");
    ML_TRY(ml_view_from_layout(layout, buffer->host, buffer->size, &view));
    view.buf = buffer;
    return ml_tensor_from_view(&view, out);
}

void ml_tensor_retain(ml_tensor *t) {
    if (t)
        atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
}

void ml_tensor_release(ml_tensor *t) {
    if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
        return;
    ml_buffer_release(t->view.buf);
    free(t);
}

ml_buffer *ml_tensor_buffer(const ml_tensor *t) {
    return t->view.buf;
}

ml_dtype ml_tensor_dtype(const ml_tensor *t) {
    return t->view.dtype;
}

int ml_tensor_ndim(const ml_tensor *t) {
    return t->view.ndim;
}

const int64_t *ml_tensor_shape(const ml_tensor *t) {
    return t->view.shape;
}

const int64_t *ml_tensor_strides(const ml_tensor *t) {
    return t->view.strides;
}

int64_t ml_tensor_size(const ml_tensor *t) {
    return ml_view_size(&t->view);
}

bool ml_tensor_is_contiguous(const ml_tensor *t) {
    return ml_view_is_contiguous(&t->view);
}

ml_status ml_tensor_data(const ml_tensor *t, void **out) {
    ml_buffer *b = t->view.buf;
    /* Memory of size 0 may have no address; then there is no element either. */
    if (!b || (!b->host && b->size > 0))
        return ml_fail(ML_ERR_DEVICE, "the tensor's memory is not visible to the host");
    ML_TRY(ml_buffer_wait(b));
    *out = b->host ? ml_view_data(&t->view) : NULL;
    return ML_OK;
}

/* ---- views ------------------------------------------------------------------------------------------------- */

ml_status ml_tensor_transpose(const ml_tensor *t, const int *axes, ml_tensor **out) {
    ml_view view;
    ML_TRY(ml_view_transpose(&t->view, axes, &view));
    return ml_tensor_from_view(&view, out);
}

ml_status ml_tensor_broadcast_to(const ml_tensor *t, const ml_shape *shape, ml_tensor **out) {
    char from[ML_FORMAT_MAX], to[ML_FORMAT_MAX];
    ml_view view;
    if (ml_view_broadcast(&t->view, shape, &view) != ML_OK)
        return ml_fail(ML_ERR_SHAPE, "broadcast_to: %s does not fit %s", ml_view_format(&t->view, from, sizeof from),
                       ml_shape_format(shape, to, sizeof to));
    return ml_tensor_from_view(&view, out);
}

ml_status ml_tensor_reshape(const ml_tensor *t, const ml_shape *shape, ml_tensor **out) {
    ml_view view;
    ML_TRY(ml_view_reshape(&t->view, shape, &view));
    return ml_tensor_from_view(&view, out);
}

ml_status ml_tensor_slice(const ml_tensor *t, int axis, int64_t start, int64_t step, int64_t count, ml_tensor **out) {
    ml_view view;
    ML_TRY(ml_view_slice(&t->view, axis, start, step, count, &view));
    return ml_tensor_from_view(&view, out);
}

ml_status ml_tensor_squeeze(const ml_tensor *t, int axis, ml_tensor **out) {
    ml_view view;
    ML_TRY(ml_view_squeeze(&t->view, axis, &view));
    return ml_tensor_from_view(&view, out);
}

ml_status ml_tensor_expand_dims(const ml_tensor *t, int axis, ml_tensor **out) {
    ml_view view;
    ML_TRY(ml_view_expand_dims(&t->view, axis, &view));
    return ml_tensor_from_view(&view, out);
}
