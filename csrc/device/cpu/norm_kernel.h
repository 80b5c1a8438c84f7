/* The kernels of the norms, written once over the primitives of vector_<tier>.h. Included by norm_<tier>.c only, which
 * defines TABLE (the tier's ml_norm_impl) and CONVERT (its ml_elementwise_impl). */
#include "device/cpu/norm.h"
#include "device/cpu/vector_typed.h"

extern const ml_norm_impl TABLE;
extern const ml_elementwise_impl CONVERT;

enum { CHAINS = 4 }; /* vectors in flight: covers the latency of an addition */

V_FN float fold(const vf s[CHAINS]) {
    return v_sum(v_add(v_add(s[0], s[1]), v_add(s[2], s[3])));
}

V_FN float sum_run(ml_dtype dtype, const void *x, int64_t n) {
    vf s[CHAINS] = {v_zero(), v_zero(), v_zero(), v_zero()};
    int64_t i = 0;
    for (; i + CHAINS * VW <= n; i += CHAINS * VW) {
        ML_UNROLL for (int c = 0; c < CHAINS; c++) s[c] = v_add(s[c], load_as(dtype, at(dtype, x, i + c * VW)));
    }
    for (; i + VW <= n; i += VW)
        s[0] = v_add(s[0], load_as(dtype, at(dtype, x, i)));
    if (VW > 1 && i < n)
        s[1] = v_add(s[1], load_tail_as(dtype, at(dtype, x, i), n - i));
    return fold(s);
}

V_FN float squares_run(ml_dtype dtype, const void *x, int64_t n) {
    vf s[CHAINS] = {v_zero(), v_zero(), v_zero(), v_zero()};
    int64_t i = 0;
    for (; i + CHAINS * VW <= n; i += CHAINS * VW) {
        ML_UNROLL for (int c = 0; c < CHAINS; c++) {
            const vf v = load_as(dtype, at(dtype, x, i + c * VW));
            s[c] = v_fma(v, v, s[c]);
        }
    }
    for (; i + VW <= n; i += VW) {
        const vf v = load_as(dtype, at(dtype, x, i));
        s[0] = v_fma(v, v, s[0]);
    }
    if (VW > 1 && i < n) {
        const vf v = load_tail_as(dtype, at(dtype, x, i), n - i);
        s[1] = v_fma(v, v, s[1]);
    }
    return fold(s);
}

/* The sum as memory holds it: reading back what was just stored costs less than rounding in registers would. */
V_FN float add_squares_run(ml_dtype dtype, void *sum, const void *x, const void *r, int64_t n) {
    vf s[2] = {v_zero(), v_zero()};
    int64_t i = 0;
    for (; i + 2 * VW <= n; i += 2 * VW) {
        vf v[2];
        ML_UNROLL for (int c = 0; c < 2; c++) v[c] =
            v_add(load_as(dtype, at(dtype, x, i + c * VW)), load_as(dtype, at(dtype, r, i + c * VW)));
        store_pair_as(dtype, at_mutable(dtype, sum, i), v[0], v[1]);
        ML_UNROLL for (int c = 0; c < 2; c++) {
            if (dtype != ML_F32)
                v[c] = load_as(dtype, at(dtype, sum, i + c * VW));
            s[c] = v_fma(v[c], v[c], s[c]);
        }
    }
    for (; i + VW <= n; i += VW) {
        store_as(dtype, at_mutable(dtype, sum, i),
                 v_add(load_as(dtype, at(dtype, x, i)), load_as(dtype, at(dtype, r, i))));
        const vf v = load_as(dtype, at(dtype, sum, i));
        s[0] = v_fma(v, v, s[0]);
    }
    if (VW > 1 && i < n) {
        store_tail_as(dtype, at_mutable(dtype, sum, i),
                      v_add(load_tail_as(dtype, at(dtype, x, i), n - i), load_tail_as(dtype, at(dtype, r, i), n - i)),
                      n - i);
        const vf v = load_tail_as(dtype, at(dtype, sum, i), n - i);
        s[1] = v_fma(v, v, s[1]);
    }
    return v_sum(v_add(s[0], s[1]));
}

V_FN void moments_run(ml_dtype dtype, float out[2], const void *x, int64_t n, float pivot) {
    const vf from = v_set1(pivot);
    vf s[CHAINS] = {v_zero(), v_zero(), v_zero(), v_zero()}, q[CHAINS] = {v_zero(), v_zero(), v_zero(), v_zero()};
    int64_t i = 0;
    for (; i + CHAINS * VW <= n; i += CHAINS * VW) {
        ML_UNROLL for (int c = 0; c < CHAINS; c++) {
            const vf d = v_sub(load_as(dtype, at(dtype, x, i + c * VW)), from);
            s[c] = v_add(s[c], d);
            q[c] = v_fma(d, d, q[c]);
        }
    }
    for (; i + VW <= n; i += VW) {
        const vf d = v_sub(load_as(dtype, at(dtype, x, i)), from);
        s[0] = v_add(s[0], d);
        q[0] = v_fma(d, d, q[0]);
    }
    float rest_s = 0.0f, rest_q = 0.0f;
    if (VW > 1 && i < n) { /* lanes without an element hold zeros, not differences */
        float lanes[VW] = {0};
        v_store_n(lanes, v_sub(load_tail_as(dtype, at(dtype, x, i), n - i), from), n - i);
        const vf d = v_load(lanes);
        rest_s = v_sum(d);
        rest_q = v_sum(v_mul(d, d));
    }
    out[0] = fold(s) + rest_s;
    out[1] = fold(q) + rest_q;
}

typedef struct map_vectors {
    vf pivot, shift, scale; /* shift = -rest * scale */
    const float *weight, *offset;
} map_vectors;

V_FN vf mapped(bool centred, bool weighted, bool shifted, const map_vectors *m, vf x, int64_t i, int64_t n) {
    const bool whole = n >= VW;
    const vf y = centred ? v_fma(v_sub(x, m->pivot), m->scale, m->shift) : v_mul(x, m->scale);
    const vf w = !weighted ? m->scale : whole ? v_load(m->weight + i) : v_load_n(m->weight + i, n, 0.0f);
    const vf b = !shifted ? m->scale : whole ? v_load(m->offset + i) : v_load_n(m->offset + i, n, 0.0f);
    if (weighted && shifted)
        return v_fma(y, w, b);
    return weighted ? v_mul(y, w) : shifted ? v_add(y, b) : y;
}

/* With constant dtype, centred, weighted and shifted. */
V_FN void map_run(ml_dtype dtype, bool centred, bool weighted, bool shifted, void *y, const void *x, int64_t n,
                  const ml_norm_map *map) {
    const map_vectors m = {v_set1(map->pivot), v_set1(-map->rest * map->scale), v_set1(map->scale), map->weight,
                           map->offset};
    int64_t i = 0;
    for (; i + 2 * VW <= n; i += 2 * VW) {
        const vf a = mapped(centred, weighted, shifted, &m, load_as(dtype, at(dtype, x, i)), i, VW);
        const vf b = mapped(centred, weighted, shifted, &m, load_as(dtype, at(dtype, x, i + VW)), i + VW, VW);
        store_pair_as(dtype, at_mutable(dtype, y, i), a, b);
    }
    for (; i + VW <= n; i += VW)
        store_as(dtype, at_mutable(dtype, y, i),
                 mapped(centred, weighted, shifted, &m, load_as(dtype, at(dtype, x, i)), i, VW));
    if (VW > 1 && i < n)
        store_tail_as(dtype, at_mutable(dtype, y, i),
                      mapped(centred, weighted, shifted, &m, load_tail_as(dtype, at(dtype, x, i), n - i), i, n - i),
                      n - i);
}

V_FN void map_as(ml_dtype dtype, bool centred, void *y, const void *x, int64_t n, const ml_norm_map *map) {
    if (map->weight && map->offset)
        map_run(dtype, centred, true, true, y, x, n, map);
    else if (map->weight)
        map_run(dtype, centred, true, false, y, x, n, map);
    else if (map->offset)
        map_run(dtype, centred, false, true, y, x, n, map);
    else
        map_run(dtype, centred, false, false, y, x, n, map);
}

/* ---- one function per dtype -------------------------------------------------------------------------------------- */

#define DEFINE_DTYPE(suffix, dtype)                                                                                    \
    static float sum_##suffix(const void *x, int64_t n) {                                                              \
        return sum_run(dtype, x, n);                                                                                   \
    }                                                                                                                  \
    static float squares_##suffix(const void *x, int64_t n) {                                                          \
        return squares_run(dtype, x, n);                                                                               \
    }                                                                                                                  \
    static float add_squares_##suffix(void *s, const void *x, const void *r, int64_t n) {                              \
        return add_squares_run(dtype, s, x, r, n);                                                                     \
    }                                                                                                                  \
    static void moments_##suffix(float out[2], const void *x, int64_t n, float pivot) {                                \
        moments_run(dtype, out, x, n, pivot);                                                                          \
    }                                                                                                                  \
    static void scale_##suffix(void *y, const void *x, int64_t n, const ml_norm_map *map) {                            \
        map_as(dtype, false, y, x, n, map);                                                                            \
    }                                                                                                                  \
    static void normalise_##suffix(void *y, const void *x, int64_t n, const ml_norm_map *map) {                        \
        map_as(dtype, true, y, x, n, map);                                                                             \
    }
DEFINE_DTYPE(f32, ML_F32)
DEFINE_DTYPE(f16, ML_F16)
DEFINE_DTYPE(bf16, ML_BF16)

const ml_norm_impl TABLE = {
    .sum = {sum_f32, sum_f16, sum_bf16},
    .squares = {squares_f32, squares_f16, squares_bf16},
    .add_squares = {add_squares_f32, add_squares_f16, add_squares_bf16},
    .moments = {moments_f32, moments_f16, moments_bf16},
    .scale = {scale_f32, scale_f16, scale_bf16},
    .normalise = {normalise_f32, normalise_f16, normalise_bf16},
    .convert = &CONVERT,
};
