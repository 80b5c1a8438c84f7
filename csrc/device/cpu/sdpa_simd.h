/* The kernels of fused attention, written once over the primitives of vector_<tier>.h. Included by sdpa_<tier>.c only,
 * which defines
 *
 *   MR, NV                 rows of a strip, at most 16; vectors of keys in a panel (NR = NV * VW)
 *   TABLE, GEMM            the tier's ml_sdpa_impl, ml_sdpa_<tier>; the ml_gemm_impl whose panels are NR wide
 *   v_mask(bits)           lane j of a vm where bit j < VW is set
 *   v_bits(m)              and back
 *   v_transpose(r)         a VW x VW block in place
 *   DIRECT_ROWS            most rows for which K is transposed in registers
 *
 * With V_LANES (vector_neon.h) queries and weights are loaded a vector at a time, and multiplied lane by lane.
 */
#include "device/cpu/sdpa_scores_simd.h"
#include "device/cpu/vmath.h"

#include <math.h>

extern const ml_gemm_impl GEMM;
extern const ml_sdpa_impl TABLE;
/* What a tier with dot products shares has external linkage, as ml_sdpa_<tier>_<name>. */
ML_SDPA_SHARED(TABLE)
#define TIER_NAME_(table, name) table##_##name
#define TIER_NAME(table, name) TIER_NAME_(table, name)
#define SHARED(name) TIER_NAME(TABLE, name)

/* ---- elements ---- */

V_FN void store_as(const ml_dtype dtype, void *p, vf v) {
    if (dtype == ML_F16)
        v_to_f16(p, v);
    else if (dtype == ML_BF16)
        v_to_bf16(p, v);
    else
        v_store(p, v);
}

static void spread(char *dst, const void *src, int64_t n, int64_t stride, size_t size) {
    if (stride == 1) {
        memcpy(dst, src, (size_t)n * size);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        memcpy(dst + i * stride * (int64_t)size, (const char *)src + i * (int64_t)size, size);
}

void SHARED(load)(float *dst, const ml_sdpa_row *row) {
    const size_t size = ml_dtype_size_of(row->dtype);
    const int64_t step = row->stride * (int64_t)size;
    const char *src = row->data;
    int64_t j = 0;
    if (row->stride == 1)
        for (; j + VW <= row->n; j += VW)
            v_store(dst + j, load_as(row->dtype, src + j * step));
    for (; j < row->n; j += VW) {
        const int64_t n = row->n - j < VW ? row->n - j : VW;
        float lanes[VW] = {0}; /* raw elements */
        collect(lanes, src + j * step, n, row->stride, size);
        v_store(lanes, load_as(row->dtype, lanes));
        memcpy(dst + j, lanes, (size_t)n * sizeof(float));
    }
}

void SHARED(store)(const ml_sdpa_row *row, const float *src, float factor) {
    const size_t size = ml_dtype_size_of(row->dtype);
    const int64_t step = row->stride * (int64_t)size;
    const vf f = v_set1(factor);
    char *dst = row->data;
    int64_t j = 0;
    if (row->stride == 1)
        for (; j + VW <= row->n; j += VW)
            store_as(row->dtype, dst + j * step, v_mul(v_load(src + j), f));
    for (; j < row->n; j += VW) {
        const int64_t n = row->n - j < VW ? row->n - j : VW;
        float lanes[VW] = {0};
        memcpy(lanes, src + j, (size_t)n * sizeof(float));
        store_as(row->dtype, lanes, v_mul(v_load(lanes), f));
        spread(dst + j * step, lanes, n, row->stride, size);
    }
}

/* ---- scores of keys where they lie ---- */

/* The sums of m rows over VW elements of d: kt[e] holds element e of VW keys. */
V_FN void add_block(const int m, vf *acc, const vf *kt, const float *q, int64_t d) {
    q += d / LINE * LINE * MR + d % LINE;
#ifdef V_LANES
    ML_UNROLL for (int i = 0; i < m; i++) {
        const vf qv = v_load(q + i * LINE);
        ML_UNROLL for (int e = 0; e < VW; e++) acc[i] = v_fma_lane(qv, e, kt[e], acc[i]);
    }
#else
    ML_UNROLL for (int e = 0; e < VW; e++) {
        ML_UNROLL for (int i = 0; i < m; i++) acc[i] = v_fma(v_set1(q[i * LINE + e]), kt[e], acc[i]);
    }
#endif
}

/* An incomplete block of K: up to VW keys with up to VW elements, zeros beyond. */
static __attribute__((noinline)) void copy_block(float block[VW][VW], const ml_sdpa_direct *x, int key, int64_t d) {
    const int64_t size = (int64_t)ml_dtype_size_of(x->dtype), count = x->dim - d < VW ? x->dim - d : VW;
    const char *k = (const char *)x->k + (key * x->k_stride + d) * size;
    for (int j = 0; j < VW; j++, k += x->k_stride * size) {
        float lanes[VW] = {0};
        if (key + j < x->keys)
            memcpy(lanes, k, (size_t)(count * size));
        v_store(block[j], load_as(x->dtype, lanes));
    }
}

/* VW keys at a time: their transposed blocks never leave the registers, and the shuffles run beside the multiply-adds.
 */
V_FN void direct_of(const int m, const ml_dtype dtype, const ml_sdpa_direct *x) {
    const int64_t size = (int64_t)ml_dtype_size_of(dtype), step = x->k_stride * size, dim = x->dim;
    const char *k = x->k;
    for (int key = 0; key < x->keys; key += VW, k += VW * step) {
        vf acc[MR];
        ML_UNROLL for (int i = 0; i < m; i++) acc[i] = v_zero();
        int64_t d = 0;
        for (; d + VW <= dim && key + VW <= x->keys; d += VW) {
            vf kt[VW];
            const char *row = k + d * size;
            ML_UNROLL for (int j = 0; j < VW; j++, row += step) kt[j] = load_as(dtype, row);
            v_transpose(kt);
            add_block(m, acc, kt, x->q, d);
        }
        for (; d < dim; d += VW) {
            float block[VW][VW] __attribute__((aligned(64)));
            vf kt[VW];
            copy_block(block, x, key, d);
            ML_UNROLL for (int j = 0; j < VW; j++) kt[j] = v_load(block[j]);
            v_transpose(kt);
            add_block(m, acc, kt, x->q, d);
        }
        ML_UNROLL for (int i = 0; i < m; i++) v_store(x->s + i * KEYS + key, acc[i]);
    }
}

/* ---- weights ---- */

void SHARED(adjust)(float *s, const float *add, float cap) {
    const vf c = v_set1(cap);
    for (int j = 0; j < KEYS; j += VW) {
        vf v = v_load(s + j);
        if (cap > 0.0f)
            v = v_mul(c, v_tanh(v_div(v, c)));
        if (add)
            v = v_add(v, v_load(add + j));
        v_store(s + j, v);
    }
}

uint64_t SHARED(bits_of_add)(const float *add) {
    uint64_t hidden = 0;
    for (int j = 0; j < KEYS; j += VW)
        hidden |= v_bits(v_equal(v_load(add + j), v_set1(-INFINITY))) << j;
    return ~hidden;
}

bool SHARED(any_nan)(const float *x, int64_t n) {
    int found = 0;
    for (int64_t i = 0; i < n; i += VW)
        found |= v_any_nan(v_load(x + i), v_load(x + i));
    return found != 0;
}

/* Eight bytes at a time: each to 1 or 0, then gathered into a byte by a multiplication. */
uint64_t SHARED(bits_of_bool)(const uint8_t *mask, int n) {
    uint64_t bits = 0;
    for (int j = 0; j < n; j += 8) {
        uint64_t x = 0;
        memcpy(&x, mask + j, (size_t)(n - j < 8 ? n - j : 8));
        x |= x >> 4;
        x |= x >> 2;
        x |= x >> 1;
        x &= UINT64_C(0x0101010101010101);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        x = __builtin_bswap64(x);
#endif
        bits |= (x * UINT64_C(0x0102040810204080) >> 56) << j;
    }
    return bits;
}

/* What weights are taken relative to: the maximum, or 0 where there is none, because -inf - (-inf) is NaN. */
V_FN vf base_of(vf max) {
    return v_select(v_equal(max, v_set1(-INFINITY)), v_zero(), max);
}

/* 2^(s - base), or e^(s - base), for s <= base. */
V_FN vf weight(vf s, vf base, const bool natural) {
    const vf t = v_sub(s, base);
    return v_exp2_low(natural ? v_mul(t, v_set1(0x1.715476p+0f)) : t); /* 1 / ln 2 */
}

/* Lane i < n: what op makes of the lanes of r[i]; other lanes: none, with which op changes nothing. r is overwritten.
 * Few are taken one by one: of makes a scalar of a vector. */
#ifndef DEFINE_ACROSS
#define DEFINE_ACROSS(name, op)                                                                                        \
    V_FN vf name(vf *r) {                                                                                              \
        v_transpose(r);                                                                                                \
        ML_UNROLL for (int half = VW / 2; half > 0; half /= 2) {                                                       \
            ML_UNROLL for (int i = 0; i < half; i++) r[i] = op(r[i], r[i + half]);                                     \
        }                                                                                                              \
        return r[0];                                                                                                   \
    }
#endif
DEFINE_ACROSS(largest_of_all, v_max)
DEFINE_ACROSS(sum_of_all, v_add)
#define DEFINE_ACROSS_FEW(name, all, of, none)                                                                         \
    V_FN vf name(vf *r, int n) {                                                                                       \
        if (n > VW / 4) {                                                                                              \
            for (int i = n; i < VW; i++)                                                                               \
                r[i] = v_set1(none);                                                                                   \
            return all(r);                                                                                             \
        }                                                                                                              \
        vf lanes = v_set1(none); /* in registers: a vector is not loaded from what has just been stored in parts */    \
        for (int i = 0; i < n; i++)                                                                                    \
            lanes = v_select(v_mask(UINT64_C(1) << i), v_set1(of(r[i])), lanes);                                       \
        return lanes;                                                                                                  \
    }
DEFINE_ACROSS_FEW(largest_across, largest_of_all, v_largest, -INFINITY)
DEFINE_ACROSS_FEW(sum_across, sum_of_all, v_sum, 0.0f)

/* whole: all rows see all KEYS keys. Rows are taken a vector's lanes at a time, so that their maxima and sums, which
 * lie across vectors, are made together. */
V_FN void softmax_of(const bool natural, const bool whole, const ml_sdpa_softmax *x) {
    const int keys = whole ? KEYS : x->keys;
    float base[VW] __attribute__((aligned(64)));
    vf r[VW];
    for (int first = 0; first < x->m; first += VW) {
        const int rows = x->m - first < VW ? x->m - first : VW;
        float *s = x->s + first * KEYS;
        const uint64_t *seen = x->seen + first;
        for (int i = 0; i < rows; i++) {
            uint64_t bits = seen[i];
            vf m = v_set1(-INFINITY); /* v_max passes a NaN over that comes first */
            for (int j = 0; j < keys; j += VW, bits >>= VW) {
                const vf v = v_load(s + i * KEYS + j);
                m = v_max(whole ? v : v_select(v_mask(bits), v, m), m);
            }
            r[i] = m;
        }
        const vf old = v_load(x->max + first), max = v_max(largest_across(r, rows), old), b = base_of(max);
        v_store(x->max + first, max);
        v_store(base, b);
        v_store(x->rescale + first, weight(old, b, natural));
        for (int i = 0; i < rows; i++) {
            uint64_t bits = seen[i];
            const vf row_base = v_set1(base[i]);
            vf sum = v_zero();
            if (!whole && bits == 0)
                x->rescale[first + i] = 1.0f;
            for (int j = 0; j < keys; j += VW, bits >>= VW) {
                vf p = weight(v_load(s + i * KEYS + j), row_base, natural);
                if (!whole)
                    p = v_select(v_mask(bits), p, v_set1(-0.0f));
                v_store(s + i * KEYS + j, p);
                sum = v_add(sum, p);
            }
            r[i] = sum;
        }
        v_store(x->sum + first, v_fma(v_load(x->sum + first), v_load(x->rescale + first), sum_across(r, rows)));
    }
}

void SHARED(softmax)(const ml_sdpa_softmax *x) {
    uint64_t all = ~UINT64_C(0);
    for (int i = 0; i < x->m; i++)
        all &= x->seen[i];
    if (x->keys == KEYS && all == ~UINT64_C(0) && !x->natural)
        softmax_of(false, true, x);
    else if (x->natural)
        softmax_of(true, false, x);
    else
        softmax_of(false, false, x);
}

/* ---- values ---- */

/* nv vectors of columns from `col` on. */
V_FN void values_of(const int m, const int nv, const ml_dtype dtype, const ml_sdpa_values *x, int64_t col) {
    const int64_t size = (int64_t)ml_dtype_size_of(dtype), step = x->v_stride * size;
    const char *v = (const char *)x->v + col * size;
    const float *p = x->p;
    float *to = x->acc + col;
    vf acc[MR][NV];
    ML_UNROLL for (int i = 0; i < m; i++) {
        const vf r = v_set1(x->rescale[i]);
        ML_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = v_mul(v_load(to + i * x->ldacc + j * VW), r);
    }
    int64_t key = 0;
#ifdef V_LANES
    for (; key + VW <= x->keys; key += VW, p += VW) {
        vf pv[MR];
        ML_UNROLL for (int i = 0; i < m; i++) pv[i] = v_load(p + i * KEYS);
        ML_UNROLL for (int e = 0; e < VW; e++, v += step) {
            vf vv[NV];
            ML_UNROLL for (int j = 0; j < nv; j++) vv[j] = load_as(dtype, v + j * VW * size);
            ML_UNROLL for (int i = 0; i < m; i++) {
                ML_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = v_fma_lane(pv[i], e, vv[j], acc[i][j]);
            }
        }
    }
#endif
    for (; key < x->keys; key++) {
        vf vv[NV];
        ML_UNROLL for (int j = 0; j < nv; j++) vv[j] = load_as(dtype, v + j * VW * size);
        ML_UNROLL for (int i = 0; i < m; i++) {
            const vf w = v_set1(p[i * KEYS]);
            ML_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = v_fma(w, vv[j], acc[i][j]);
        }
        v += step;
        p++;
    }
    ML_UNROLL for (int i = 0; i < m; i++) {
        ML_UNROLL for (int j = 0; j < nv; j++) v_store(to + i * x->ldacc + j * VW, acc[i][j]);
    }
}

V_FN void values_with(const int m, const ml_dtype dtype, const ml_sdpa_values *x) {
    int64_t col = 0;
    for (; col + NV * VW <= x->cols; col += NV * VW)
        values_of(m, NV, dtype, x, col);
    for (; col < x->cols; col += VW)
        values_of(m, 1, dtype, x, col);
}

/* ---- the table ---- */

#define STRIP(m)                                                                                                       \
    static void values_f32_##m(const ml_sdpa_values *x) {                                                              \
        values_with(m, ML_F32, x);                                                                                     \
    }                                                                                                                  \
    static void values_f16_##m(const ml_sdpa_values *x) {                                                              \
        values_with(m, ML_F16, x);                                                                                     \
    }                                                                                                                  \
    static void values_bf16_##m(const ml_sdpa_values *x) {                                                             \
        values_with(m, ML_BF16, x);                                                                                    \
    }
#define DIRECT(m)                                                                                                      \
    static void direct_f32_##m(const ml_sdpa_direct *x) {                                                              \
        direct_of(m, ML_F32, x);                                                                                       \
    }                                                                                                                  \
    static void direct_f16_##m(const ml_sdpa_direct *x) {                                                              \
        direct_of(m, ML_F16, x);                                                                                       \
    }                                                                                                                  \
    static void direct_bf16_##m(const ml_sdpa_direct *x) {                                                             \
        direct_of(m, ML_BF16, x);                                                                                      \
    }
#define ROW_DIRECT_F32(m) direct_f32_##m,
#define ROW_DIRECT_F16(m) direct_f16_##m,
#define ROW_DIRECT_BF16(m) direct_bf16_##m,
#define ROW_F32(m) values_f32_##m,
#define ROW_F16(m) values_f16_##m,
#define ROW_BF16(m) values_bf16_##m,
#if DIRECT_ROWS == 8
#define FOR_FEW_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#elif DIRECT_ROWS == MR
#define FOR_FEW_ROWS FOR_ROWS
#endif
FOR_ROWS(STRIP)
FOR_FEW_ROWS(DIRECT)

static void direct(const ml_sdpa_direct *x) {
    static void (*const by_rows[3][DIRECT_ROWS])(const ml_sdpa_direct *) = {
        [ML_F32] = {FOR_FEW_ROWS(ROW_DIRECT_F32)},
        [ML_F16] = {FOR_FEW_ROWS(ROW_DIRECT_F16)},
        [ML_BF16] = {FOR_FEW_ROWS(ROW_DIRECT_BF16)}};
    by_rows[x->dtype][x->m - 1](x);
}

void SHARED(values)(const ml_sdpa_values *x) {
    static void (*const by_rows[3][MR])(const ml_sdpa_values *) = {
        [ML_F32] = {FOR_ROWS(ROW_F32)}, [ML_F16] = {FOR_ROWS(ROW_F16)}, [ML_BF16] = {FOR_ROWS(ROW_BF16)}};
    by_rows[x->dtype][x->m - 1](x);
}

const ml_sdpa_impl TABLE = {.mr = MR,
                            .nr = NR,
                            .k_pack = 1,
                            .gemm = &GEMM,
                            .pack_keys = &GEMM,
                            .direct_rows = DIRECT_ROWS,
                            .scores = scores,
                            .load_query = load_query,
                            .direct = direct,
                            ML_SDPA_SHARED_WITH(TABLE)};
