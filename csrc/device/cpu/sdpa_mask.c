#include "device/cpu/sdpa_mask.h"

static const char *element(const ml_sdpa_mask *m, const int64_t at[3], int64_t key) {
    return m->data +
           (at[0] * m->stride[0] + at[1] * m->stride[1] + at[2] * m->stride[2] + key * m->stride[3]) * m->size;
}

void ml_sdpa_mask_added(const ml_sdpa_mask *m, const int64_t at[3], int64_t key, int keys, float *row) {
    const bool same = m->stride[3] == 0;
    const int n = same ? 1 : keys;
    m->impl->load(row, &(ml_sdpa_row){(void *)(uintptr_t)element(m, at, key), m->stride[3], n, m->dtype});
    for (int j = n; j < ML_SDPA_KEYS; j++)
        row[j] = same ? row[0] : 0.0f;
}

static uint64_t bits_of_mask(const ml_sdpa_mask *m, const int64_t at[3], int64_t key, int keys, float *row) {
    if (m->kind == ML_MASK_ADDITIVE) {
        ml_sdpa_mask_added(m, at, key, keys, row);
        return m->impl->bits_of_add(row);
    }
    const uint8_t *mask = (const uint8_t *)element(m, at, key);
    if (m->stride[3] == 1)
        return m->impl->bits_of_bool(mask, keys);
    if (m->stride[3] == 0)
        return *mask ? ~UINT64_C(0) : 0;
    uint64_t bits = 0;
    for (int j = 0; j < keys; j++)
        bits |= (uint64_t)(mask[j * m->stride[3]] != 0) << j;
    return bits;
}

uint64_t ml_sdpa_mask_bits(const ml_sdpa_mask *m, const int64_t at[3], int64_t key, int keys, float *row) {
    uint64_t bits = ml_sdpa_below(keys);
    if (m->bounded) {
        const int64_t position = at[2] + m->query_offset - key;
        bits &= ml_sdpa_below(position + 1);
        if (m->window > 0)
            bits &= ~ml_sdpa_below(position - m->window + 1);
    }
    return bits != 0 && m->kind != ML_MASK_NONE ? bits & bits_of_mask(m, at, key, keys, row) : bits;
}
