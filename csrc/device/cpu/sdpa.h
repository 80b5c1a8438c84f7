/* The kernels of fused attention and their one table per ISA tier (sdpa_<isa>.c, rows in sdpa_kernels.inc). Both
 * variants use the same ones: sdpa.c cuts the work after dispatch/sdpa_layout.h.
 *
 * A strip is up to mr rows (one query of one head each) that meet a tile of up to 64 keys: their scores are formed,
 * become weights by an online softmax (M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax", 2018),
 * and are multiplied with the values, so that no more than one strip's scores ever exist (T. Dao et al.,
 * "FlashAttention", 2022). Everything is f32, but for queries and keys of bf16 that are multiplied in pairs. */
#ifndef ML_CPU_SDPA_H
#define ML_CPU_SDPA_H

#include "device/cpu/cpu.h"
#include "dispatch/sdpa_layout.h"

/* Queries of a strip, scaled: element d of row i at q[d / 16 * 16 * mr + i * 16 + d % 16], zeros up to whole lines.
 * With k_pack 2 it is words of two elements that lie so, as they are, an odd last one with zero above. */

/* s[i * ML_SDPA_KEYS + j] = sum over d < words of query(i, d) * k[d * nr + j], i < m, j < keys: one strip and one panel
 * of nr keys, both 64-byte aligned. s is written up to whole vectors of keys. k_pack 2: words of pairs, and the sums
 * are multiplied by scale. */
typedef struct ml_sdpa_scores {
    const float *q, *k;
    float *s;
    int64_t words;
    int m, keys; /* 1 <= keys <= nr */
    float scale;
} ml_sdpa_scores;

/* The same for few rows and up to 64 keys where they lie: element d of key j at k[j * k_stride + d]. s is written up to
 * a whole vector of keys. */
typedef struct ml_sdpa_direct {
    const float *q;
    const void *k;
    int64_t k_stride; /* elements */
    ml_dtype dtype;
    float *s;
    int64_t dim;
    int m, keys;
} ml_sdpa_direct;

/* Scores of a strip become weights: 2^(s - max), or e^(s - max) if natural, where the key's bit is set in seen[i], else
 * -0. max, sum: running maximum and total of each row, updated; rescale: what the row's sums so far must be multiplied
 * by. All three have room for ML_SDPA_LINE rows. A row that sees nothing here is left as it is (rescale 1). Only whole
 * vectors up to the last of `keys` keys are read and written. */
typedef struct ml_sdpa_softmax {
    float *s;
    const uint64_t *seen;
    float *max, *sum, *rescale;
    int m, keys;
    bool natural;
} ml_sdpa_softmax;

/* acc[i * ldacc + c] = rescale[i] * acc + sum over j < keys of p[i * ML_SDPA_KEYS + j] * v[j * v_stride + c], i < m,
 * c < cols; in the order of the keys, one multiply-add each. cols is a multiple of a vector (of 16, if v is not a
 * packed panel). */
typedef struct ml_sdpa_values {
    const float *p, *rescale;
    const void *v;
    int64_t v_stride; /* elements */
    ml_dtype dtype;
    float *acc;
    int64_t ldacc, keys, cols;
    int m;
} ml_sdpa_values;

/* n elements of any float dtype, `stride` elements apart. */
typedef struct ml_sdpa_row {
    void *data;
    int64_t stride, n;
    ml_dtype dtype;
} ml_sdpa_row;

typedef struct ml_sdpa_impl {
    int mr, nr; /* rows of a strip (at most ML_SDPA_LINE), keys of a panel (a divisor of ML_SDPA_KEYS) */
    int k_pack; /* elements of a query or key in a word: 1, of f32; 2, of bf16 as they are (ML_SUP_BF16_DOT) */
    const ml_gemm_impl *pack_keys; /* its pack_b makes panels of nr keys */
    const ml_gemm_impl *gemm;      /* its pack_b makes panels of f32: nr columns of V */
    int direct_rows;               /* most rows that `direct` takes */
    void (*load_query)(float *dst, const ml_sdpa_row *src, float scale); /* dst: of row 0 of a strip, plus 16 i */
    void (*scores)(const ml_sdpa_scores *x);
    void (*direct)(const ml_sdpa_direct *x);
    void (*softmax)(const ml_sdpa_softmax *x);
    void (*values)(const ml_sdpa_values *x);
    /* A row of a tile: s[j] = cap * tanh(s[j] / cap) when cap > 0; then s[j] += add[j] when add is not NULL. */
    void (*adjust)(float *s, const float *add, float cap);
    uint64_t (*bits_of_bool)(const uint8_t *mask, int n); /* bit j: mask[j] is true, j < n <= 64 */
    uint64_t (*bits_of_add)(const float *add);            /* bit j: add[j] is not -inf, j < 64 */
    bool (*any_nan)(const float *x, int64_t n);           /* n is a multiple of ML_SDPA_LINE */
    void (*load)(float *dst, const ml_sdpa_row *src);
    void (*store)(const ml_sdpa_row *dst, const float *src, float factor); /* dst = factor * src */
} ml_sdpa_impl;

/* The functions of table ml_sdpa_<tier> that another one may have too, declared and as fields of it. */
#define ML_SDPA_SHARED(table) ML_SDPA_DECLARE(table)
#define ML_SDPA_DECLARE(table)                                                                                         \
    void table##_softmax(const ml_sdpa_softmax *x);                                                                    \
    void table##_values(const ml_sdpa_values *x);                                                                      \
    void table##_adjust(float *s, const float *add, float cap);                                                        \
    uint64_t table##_bits_of_bool(const uint8_t *mask, int n);                                                         \
    uint64_t table##_bits_of_add(const float *add);                                                                    \
    bool table##_any_nan(const float *x, int64_t n);                                                                   \
    void table##_load(float *dst, const ml_sdpa_row *row);                                                             \
    void table##_store(const ml_sdpa_row *row, const float *src, float factor);
#define ML_SDPA_SHARED_WITH(table) ML_SDPA_FIELDS(table)
#define ML_SDPA_FIELDS(table)                                                                                          \
    .softmax = table##_softmax, .values = table##_values, .adjust = table##_adjust,                                    \
    .bits_of_bool = table##_bits_of_bool, .bits_of_add = table##_bits_of_add, .any_nan = table##_any_nan,              \
    .load = table##_load, .store = table##_store

#endif
