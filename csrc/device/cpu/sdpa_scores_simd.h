/* Scores of packed keys, and the queries for them: the part of sdpa_simd.h that a tier with dot products of bf16 pairs
 * has of its own. Defines load_query and scores over
 *
 *   MR, NV                 rows of a strip, at most 16; vectors of keys in a panel (NR = NV * VW)
 *   v_madd(x, k, acc)      with PAIRS only: acc + x k over words of two bf16 each
 *
 * With V_LANES (vector_neon.h) queries are loaded a vector at a time, and multiplied lane by lane. */
#ifndef ML_SDPA_SCORES_SIMD_H
#define ML_SDPA_SCORES_SIMD_H

#include "device/cpu/sdpa.h"

#include <string.h>

#define NR (NV * VW)
#define KEYS ML_SDPA_KEYS
#define LINE ML_SDPA_LINE

_Static_assert(MR <= ML_SDPA_LINE && KEYS % NR == 0 && ML_SDPA_LINE % VW == 0, "sizes of a strip");

#if MR == 14
#define FOR_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#elif MR == 8
#define FOR_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#elif MR == 6
#define FOR_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#elif MR == 4
#define FOR_ROWS(X) X(1) X(2) X(3) X(4)
#endif

/* n elements, `stride` elements of `size` bytes apart, to or from a packed run. */
static void collect(void *dst, const char *src, int64_t n, int64_t stride, size_t size) {
    if (stride == 1) {
        memcpy(dst, src, (size_t)n * size);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        memcpy((char *)dst + i * (int64_t)size, src + i * stride * (int64_t)size, size);
}

#ifdef PAIRS

/* As they are: the scores are scaled. */
static void load_query(float *dst, const ml_sdpa_row *row, float scale) {
    enum { ELEMENTS = 2 * LINE };
    const char *src = row->data;
    (void)scale;
    int64_t d = 0;
    for (; row->stride == 1 && d + ELEMENTS <= row->n; d += ELEMENTS, dst += LINE * MR)
        memcpy(dst, src + d * 2, sizeof(float) * LINE);
    for (; d < row->n; d += ELEMENTS, dst += LINE * MR) {
        const int64_t n = row->n - d < ELEMENTS ? row->n - d : ELEMENTS;
        collect(dst, src + d * row->stride * 2, n, row->stride, 2);
        memset((char *)dst + n * 2, 0, (size_t)(ELEMENTS - n) * 2);
    }
}

#else

#define v_madd v_fma

V_FN vf load_as(const ml_dtype dtype, const void *p) {
    return dtype == ML_F16 ? v_from_f16(p) : dtype == ML_BF16 ? v_from_bf16(p) : v_load(p);
}

static void load_query(float *dst, const ml_sdpa_row *row, float scale) {
    const size_t size = ml_dtype_size_of(row->dtype);
    const int64_t step = row->stride * (int64_t)size;
    const char *src = row->data;
    const vf f = v_set1(scale);
    for (int64_t d = 0; d < row->n; d += VW) {
        float *to = dst + d / LINE * LINE * MR + d % LINE;
        if (row->stride == 1 && row->n - d >= VW) {
            v_store(to, v_mul(load_as(row->dtype, src + d * step), f));
            continue;
        }
        float lanes[VW] = {0};
        collect(lanes, src + d * step, row->n - d < VW ? row->n - d : VW, row->stride, size);
        v_store(to, v_mul(load_as(row->dtype, lanes), f));
    }
}

#endif

/* nv vectors of keys. */
V_FN void scores_of(const int m, const int nv, const ml_sdpa_scores *x) {
    const float *k = x->k;
    vf acc[MR][NV];
    ML_UNROLL for (int i = 0; i < m; i++) {
        ML_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = v_zero();
    }
    for (int64_t d = 0; d < x->words; d += LINE) {
        const float *q = x->q + d * MR, *end = q + (x->words - d < LINE ? x->words - d : LINE);
#ifdef V_LANES
        for (; q + VW <= end; q += VW) {
            vf qv[MR];
            ML_UNROLL for (int i = 0; i < m; i++) qv[i] = v_load(q + i * LINE);
            ML_UNROLL for (int e = 0; e < VW; e++, k += NR) {
                vf kv[NV];
                ML_UNROLL for (int j = 0; j < nv; j++) kv[j] = v_load(k + j * VW);
                ML_UNROLL for (int i = 0; i < m; i++) {
                    ML_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = v_fma_lane(qv[i], e, kv[j], acc[i][j]);
                }
            }
        }
#endif
        for (; q < end; q++, k += NR) {
            vf kv[NV];
            ML_UNROLL for (int j = 0; j < nv; j++) kv[j] = v_load(k + j * VW);
            ML_UNROLL for (int i = 0; i < m; i++) {
                const vf qv = v_set1(q[i * LINE]);
                ML_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = v_madd(qv, kv[j], acc[i][j]);
            }
        }
    }
#ifdef PAIRS
    const vf scale = v_set1(x->scale);
    ML_UNROLL for (int i = 0; i < m; i++) {
        ML_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = v_mul(acc[i][j], scale);
    }
#endif
    ML_UNROLL for (int i = 0; i < m; i++) {
        ML_UNROLL for (int j = 0; j < nv; j++) v_store(x->s + i * KEYS + j * VW, acc[i][j]);
    }
}

#define SCORES(m)                                                                                                      \
    static void scores_##m(const ml_sdpa_scores *x) {                                                                  \
        scores_of(m, NV, x);                                                                                           \
    }                                                                                                                  \
    static void scores_narrow_##m(const ml_sdpa_scores *x) {                                                           \
        scores_of(m, 1, x);                                                                                            \
    }
#define ROW_SCORES(m) scores_##m,
#define ROW_NARROW(m) scores_narrow_##m,
FOR_ROWS(SCORES)

static void scores(const ml_sdpa_scores *x) {
    static void (*const by_rows[2][MR])(const ml_sdpa_scores *) = {{FOR_ROWS(ROW_SCORES)}, {FOR_ROWS(ROW_NARROW)}};
    by_rows[x->keys <= VW][x->m - 1](x);
}

#endif
