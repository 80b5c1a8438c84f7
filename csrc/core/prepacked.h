/* What makes the buffer of a prepacked weight more than memory: its contents never change, so forms of them that
 * kernels want - panels - are made once and kept beside them for as long as the buffer lives. */
#ifndef ML_CORE_PREPACKED_H
#define ML_CORE_PREPACKED_H

#include "core/view.h"

/* All matrices of the buffer as one kernel reads them; immutable once added. */
typedef struct ml_panels {
    struct ml_panels *next;
    const void *format; /* whose panels: a kernel's function table; panels are shared by whoever has the same */
    bool transposed;    /* made from the matrices' transposes */
    ml_buffer *memory;
} ml_panels;

/* `count` row-major matrices of rows x cols, one after another from the start of the buffer. */
typedef struct ml_prepacked {
    int64_t rows, cols, count;
    ml_dtype dtype;
    _Atomic(ml_panels *) panels; /* grows at its head */
} ml_prepacked;

/* Makes b, which nothing else uses yet, the memory of such matrices; it becomes read-only. Errors: ML_ERR_MEMORY. */
ml_status ml_prepacked_set(ml_buffer *b, ml_dtype dtype, const int64_t extent[3]); /* count, rows, cols */
void ml_prepacked_free(ml_prepacked *p);                                           /* NULL is fine */

/* How the matrices (last two dims) of a view relate to those of its buffer. Only whole matrices count: a part of one
 * is an ordinary view. */
typedef enum ml_prepacked_form {
    ML_PREPACKED_NOT = 0,   /* the buffer is not prepacked, or the view takes parts of matrices */
    ML_PREPACKED_AS_IS,     /* each is one of the buffer's */
    ML_PREPACKED_TRANSPOSED /* each is the transpose of one */
} ml_prepacked_form;
ml_prepacked_form ml_view_prepacked_form(const ml_view *v);

/* The panels of a format, or NULL. From any thread. */
const ml_panels *ml_panels_find(const ml_prepacked *p, const void *format, bool transposed);
/* Adds panels over `memory` (a new reference), unless another thread has been faster; returns those that are kept, NULL
 * when there is no memory for the entry. */
const ml_panels *ml_panels_add(ml_prepacked *p, const ml_panels *made);

#endif
