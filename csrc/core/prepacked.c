#include "core/prepacked.h"

#include <stdlib.h>

ml_status ml_prepacked_set(ml_buffer *b, ml_dtype dtype, const int64_t extent[3]) {
    ml_prepacked *p = malloc(sizeof *p);
    if (!p)
        return ml_fail(ML_ERR_MEMORY, "out of memory for a prepacked weight");
    p->count = extent[0];
    p->rows = extent[1];
    p->cols = extent[2];
    p->dtype = dtype;
    atomic_init(&p->panels, NULL);
    b->prepacked = p;
    atomic_fetch_or(&b->flags, ML_BUF_READ_ONLY);
    return ML_OK;
}

static void free_panels(ml_panels *p) {
    ml_buffer_release(p->memory);
    free(p);
}

void ml_prepacked_free(ml_prepacked *p) {
    if (!p)
        return;
    for (ml_panels *at = atomic_load(&p->panels), *next; at; at = next) {
        next = at->next;
        free_panels(at);
    }
    free(p);
}

ml_prepacked_form ml_view_prepacked_form(const ml_view *v) {
    const ml_prepacked *p = v->buf ? v->buf->prepacked : NULL;
    const int row = v->ndim - 2;
    if (!p || row < 0 || v->dtype != p->dtype || p->rows < 2 || p->cols < 2)
        return ML_PREPACKED_NOT;
    const int64_t matrix = p->rows * p->cols, bytes = matrix * (int64_t)ml_dtype_size_of(v->dtype);
    if (v->offset % bytes != 0)
        return ML_PREPACKED_NOT;
    for (int d = 0; d < row; d++)
        if (v->shape[d] > 1 && v->strides[d] % matrix != 0)
            return ML_PREPACKED_NOT;
    const int64_t *shape = v->shape + row, *strides = v->strides + row;
    if (shape[0] == p->rows && shape[1] == p->cols && strides[0] == p->cols && strides[1] == 1)
        return ML_PREPACKED_AS_IS;
    if (shape[0] == p->cols && shape[1] == p->rows && strides[0] == 1 && strides[1] == p->cols)
        return ML_PREPACKED_TRANSPOSED;
    return ML_PREPACKED_NOT;
}

static ml_panels *find_until(ml_panels *from, const ml_panels *end, const void *format, bool transposed) {
    for (ml_panels *at = from; at != end; at = at->next)
        if (at->format == format && at->transposed == transposed)
            return at;
    return NULL;
}

const ml_panels *ml_panels_find(const ml_prepacked *p, const void *format, bool transposed) {
    return find_until(atomic_load_explicit(&p->panels, memory_order_acquire), NULL, format, transposed);
}

const ml_panels *ml_panels_add(ml_prepacked *p, const ml_panels *made) {
    ml_panels *own = malloc(sizeof *own);
    if (!own)
        return NULL;
    *own = *made;
    ml_buffer_retain(own->memory);
    own->next = atomic_load_explicit(&p->panels, memory_order_acquire);
    const ml_panels *seen = NULL; /* entries from here on are known not to be what is added */
    for (;;) {
        const ml_panels *other = find_until(own->next, seen, made->format, made->transposed);
        if (other) {
            free_panels(own);
            return other;
        }
        seen = own->next;
        if (atomic_compare_exchange_weak_explicit(&p->panels, &own->next, own, memory_order_acq_rel,
                                                  memory_order_acquire))
            return own;
    }
}
