#include "runtime/staging.h"

#include <string.h>

static bool needs_copy(const ml_view *v, bool all_borrowed) {
    if (!v->buf || ml_view_size(v) == 0)
        return false;
    return !v->buf->handle ||
           (all_borrowed && (atomic_load_explicit(&v->buf->flags, memory_order_relaxed) & ML_BUF_BORROWED));
}

bool ml_staging_needed(const ml_op *op, bool all_borrowed) {
    for (int i = 0; i < op->n_in; i++)
        if (needs_copy(&op->in[i], all_borrowed))
            return true;
    for (int i = 0; i < op->n_out; i++)
        if (needs_copy(&op->out[i], false))
            return true;
    return false;
}

/* A view of the same strides over memory of the pool that holds the bytes the view reaches. */
static ml_status make_copy(ml_staging *s, ml_context *ctx, ml_view *v, bool fill) {
    int64_t low, high;
    ML_TRY(ml_view_byte_range(v, &low, &high));
    ML_TRY(ml_buffer_wait(v->buf));
    ml_buffer *copy;
    ML_TRY(ml_mempool_alloc(ctx->pool, (size_t)(high - low), false, &copy));
    s->copies[s->n_copies++] = copy;
    s->copied_bytes += high - low;
    if (fill)
        memcpy(copy->host, (const char *)v->buf->host + low, (size_t)(high - low));
    v->buf = copy;
    v->offset -= low;
    return ML_OK;
}

ml_status ml_staging_begin(ml_staging *s, ml_context *ctx, const ml_op *op, bool all_borrowed) {
    s->op = *op;
    s->n_copies = 0;
    s->copied_bytes = 0;
    for (int i = 0; i < op->n_in; i++)
        if (needs_copy(&op->in[i], all_borrowed))
            ML_TRY(make_copy(s, ctx, &s->op.in[i], true));
    for (int i = 0; i < op->n_out; i++) {
        s->target[i] = op->out[i];
        s->copied_out[i] = needs_copy(&op->out[i], false);
        if (s->copied_out[i])
            ML_TRY(make_copy(s, ctx, &s->op.out[i], false));
    }
    return ML_OK;
}

/* Element by element where rows are not contiguous: what lies between them is not ours to write. */
static void copy_elements(const ml_view *from, const ml_view *to) {
    ml_view v[2] = {*to, *from};
    ml_views_coalesce(v, 2, true);
    const int64_t size = (int64_t)ml_dtype_size_of(to->dtype);
    const int last = v[0].ndim - 1;
    const int64_t n = last >= 0 ? v[0].shape[last] : 1;
    const int64_t step = last >= 0 && n > 1 ? v[0].strides[last] * size : size;
    int64_t index[ML_MAX_DIMS] = {0};
    for (;;) {
        int64_t at = 0;
        for (int d = 0; d < last; d++)
            at += index[d] * v[0].strides[d] * size;
        char *dst = (char *)ml_view_data(&v[0]) + at;
        const char *src = (const char *)ml_view_data(&v[1]) + at;
        if (step == size)
            memcpy(dst, src, (size_t)(n * size));
        else
            for (int64_t i = 0; i < n; i++)
                memcpy(dst + i * step, src + i * step, (size_t)size);
        int d = last - 1;
        while (d >= 0 && ++index[d] == v[0].shape[d])
            index[d--] = 0;
        if (d < 0)
            return;
    }
}

bool ml_staging_writes_back(const ml_staging *s) {
    for (int i = 0; i < s->op.n_out; i++)
        if (s->copied_out[i])
            return true;
    return false;
}

void ml_staging_copy_back(ml_staging *s) {
    for (int i = 0; i < s->op.n_out; i++)
        if (s->copied_out[i])
            copy_elements(&s->op.out[i], &s->target[i]);
}

void ml_staging_end(ml_staging *s) {
    for (int i = 0; i < s->n_copies; i++)
        ml_buffer_release(s->copies[i]);
    s->n_copies = 0;
}
