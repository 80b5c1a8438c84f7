/* Which keys a query of an attention sees: causality, window and mask as one bit per key. */
#ifndef ML_CPU_SDPA_MASK_H
#define ML_CPU_SDPA_MASK_H

#include "device/cpu/sdpa.h"

typedef struct ml_sdpa_mask {
    const ml_sdpa_impl *impl;
    ml_mask_kind kind;
    ml_dtype dtype;
    const char *data;
    int64_t stride[4], size; /* [batch, head, query, key] in elements; bytes of one */
    bool bounded;            /* causality or a window */
    int64_t query_offset, window;
} ml_sdpa_mask;

/* view: of the mask, 4-D; not looked at without one. */
static inline void ml_sdpa_mask_set_view(ml_sdpa_mask *m, const ml_view *view) {
    if (m->kind == ML_MASK_NONE)
        return;
    m->data = ml_view_data(view);
    m->dtype = view->dtype;
    m->size = (int64_t)ml_dtype_size_of(view->dtype);
    for (int i = 0; i < 4; i++)
        m->stride[i] = view->shape[i] > 1 ? view->strides[i] : 0;
}

/* The lowest n bits. */
static inline uint64_t ml_sdpa_below(int64_t n) {
    return n >= 64 ? ~UINT64_C(0) : n <= 0 ? 0 : (UINT64_C(1) << n) - 1;
}

/* Keys [first, end) that causality and window leave to a query, within [0, keys). */
static inline void ml_sdpa_mask_range(const ml_sdpa_mask *m, int64_t query, int64_t keys, int64_t *first,
                                      int64_t *end) {
    const int64_t position = query + m->query_offset;
    *first = 0;
    *end = keys;
    if (m->bounded && position + 1 < keys)
        *end = position + 1 > 0 ? position + 1 : 0;
    if (m->window > 0 && position - m->window + 1 > 0)
        *first = position - m->window + 1;
}

/* Bit j: the query sees key + j, j < keys <= 64. at: batch, head, query. row: room for a tile of floats. */
uint64_t ml_sdpa_mask_bits(const ml_sdpa_mask *m, const int64_t at[3], int64_t key, int keys, float *row);
/* An additive mask's values for a tile of keys into row, zeros beyond `keys`. */
void ml_sdpa_mask_added(const ml_sdpa_mask *m, const int64_t at[3], int64_t key, int keys, float *row);

#endif
