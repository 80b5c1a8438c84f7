/* The kernels of softmax, written once over the primitives of vector_<tier>.h. Included by softmax_<tier>.c only, which
 * defines TABLE (the tier's ml_softmax_impl), CONVERT (its ml_elementwise_impl) and MATH (its ml_vmath_impl). */
#include "device/cpu/cpu.h"
#include "device/cpu/softmax.h"
#include "device/cpu/vector_typed.h"
#include "device/cpu/vmath.h"

extern const ml_softmax_impl TABLE;
extern const ml_elementwise_impl CONVERT;

enum { CHAINS = 4 }; /* vectors in flight: covers the latency of an addition */

/* ---- masks ------------------------------------------------------------------------------------------------------- */

static void hide(float *s, const uint8_t *seen, int64_t n, float hidden) {
    const vf h = v_set1(hidden);
    int64_t i = 0;
    for (; i + VW <= n; i += VW)
        v_store(s + i, v_select(v_from_bool(seen + i), v_load(s + i), h));
    for (; i < n; i++)
        s[i] = seen[i] ? s[i] : hidden;
}

V_FN vf add_one(vf s, vf mask, vf scale) {
    const vf none = v_set1(-INFINITY);
    return v_select(v_equal(mask, none), none, v_fma(s, scale, mask));
}

V_FN void add(ml_dtype dtype, float *s, const void *mask, int64_t n, float scale) {
    const vf by = v_set1(scale);
    int64_t i = 0;
    for (; i + VW <= n; i += VW)
        v_store(s + i, add_one(v_load(s + i), load_as(dtype, at(dtype, mask, i)), by));
    if (VW > 1 && i < n)
        v_store_n(s + i, add_one(v_load_n(s + i, n - i, 0.0f), load_tail_as(dtype, at(dtype, mask, i), n - i), by),
                  n - i);
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

/* n < VW elements, `rest` in the other lanes. */
V_FN vf load_filled(ml_dtype dtype, const void *p, int64_t n, float rest) {
    if (dtype == ML_F32)
        return v_load_n(p, n, rest);
    float lanes[VW];
    v_store(lanes, load_tail_as(dtype, p, n));
    return v_load_n(lanes, n, rest);
}

/* A NaN is never the second operand, and so is dropped. */
#define DEFINE_LEADING(name, BETTER, NONE, FOLD)                                                                       \
    V_FN float name(ml_dtype dtype, const void *x, int64_t n) {                                                        \
        vf best[CHAINS];                                                                                               \
        ML_UNROLL for (int c = 0; c < CHAINS; c++) best[c] = v_set1(NONE);                                             \
        int64_t i = 0;                                                                                                 \
        for (; i + CHAINS * VW <= n; i += CHAINS * VW) {                                                               \
            ML_UNROLL for (int c = 0; c < CHAINS; c++) best[c] =                                                       \
                BETTER(load_as(dtype, at(dtype, x, i + c * VW)), best[c]);                                             \
        }                                                                                                              \
        for (; i + VW <= n; i += VW)                                                                                   \
            best[0] = BETTER(load_as(dtype, at(dtype, x, i)), best[0]);                                                \
        if (VW > 1 && i < n)                                                                                           \
            best[0] = BETTER(load_filled(dtype, at(dtype, x, i), n - i, NONE), best[0]);                               \
        ML_UNROLL for (int c = 1; c < CHAINS; c++) best[0] = BETTER(best[c], best[0]);                                 \
        return FOLD;                                                                                                   \
    }
DEFINE_LEADING(largest, v_max, -INFINITY, v_largest(best[0]))
DEFINE_LEADING(smallest, v_min, INFINITY, -v_largest(v_sub(v_set1(-0.0f), best[0])))

typedef struct weigher {
    vf base, factor;
#if V_LOOKUP16
    v_exp2_line line;
#endif
} weigher;

V_FN weigher weigher_of(const ml_softmax_weight *w) {
    return (weigher){
        .base = v_set1(w->base),
        .factor = v_set1(w->factor),
#if V_LOOKUP16
        .line = {v_set1(w->factor), v_set1(V_EXP2_MAGIC - w->shift)},
#endif
    };
}

/* near: with a shift in place of the base. *top: of the exponents so far, for too_high. */
V_FN vf weight(bool near, vf s, const weigher *w, vf *top) {
#if V_LOOKUP16
    if (near)
        return v_exp2_on_line(s, &w->line, top);
#endif
    return v_exp2(v_mul(v_sub(s, w->base), w->factor));
}

/* Whether the look-up cannot tell the weights any more. */
V_FN bool too_high(const vf top[CHAINS]) {
#if V_LOOKUP16
    const vf best = v_max(v_max(top[0], top[1]), v_max(top[2], top[3]));
    return v_less(v_set1(V_EXP2_MAGIC + ML_SOFTMAX_HIGHEST), best) != 0;
#else
    return false;
#endif
}

/* Constants of a run. */
typedef struct exp_kind {
    ml_dtype dtype;
    bool keep, near; /* the weights are written; with a shift in place of the base */
} exp_kind;

V_FN float exp_run(exp_kind kind, float *e, const void *x, int64_t n, const ml_softmax_weight *w) {
    const ml_dtype dtype = kind.dtype;
    const weigher by = weigher_of(w);
    vf sum[CHAINS], top[CHAINS];
    ML_UNROLL for (int c = 0; c < CHAINS; c++) {
        sum[c] = v_zero();
        top[c] = v_zero();
    }
    int64_t i = 0;
    for (; i + CHAINS * VW <= n; i += CHAINS * VW) {
        ML_UNROLL for (int c = 0; c < CHAINS; c++) {
            const vf v = weight(kind.near, load_as(dtype, at(dtype, x, i + c * VW)), &by, &top[c]);
            if (kind.keep)
                v_store(e + i + c * VW, v);
            sum[c] = v_add(sum[c], v);
        }
    }
    for (; i + VW <= n; i += VW) {
        const vf v = weight(kind.near, load_as(dtype, at(dtype, x, i)), &by, &top[0]);
        if (kind.keep)
            v_store(e + i, v);
        sum[0] = v_add(sum[0], v);
    }
    if (VW > 1 && i < n) {
        const vf v = weight(kind.near, load_filled(dtype, at(dtype, x, i), n - i, w->hidden), &by, &top[1]);
        if (kind.keep)
            v_store_n(e + i, v, n - i);
        sum[1] = v_add(sum[1], v);
    }
    if (kind.near && too_high(top))
        return INFINITY;
    return v_sum(v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3])));
}

V_FN float exp_as(ml_dtype dtype, bool keep, float *e, const void *x, int64_t n, const ml_softmax_weight *w) {
    if (V_LOOKUP16 && w->base == 0.0f)
        return exp_run((exp_kind){dtype, keep, true}, e, x, n, w);
    return exp_run((exp_kind){dtype, keep, false}, e, x, n, w);
}
static float sum_exp(const float *s, int64_t n, const ml_softmax_weight *w) {
    return exp_as(ML_F32, false, NULL, s, n, w);
}

V_FN void scale_run(ml_dtype dtype, void *dst, const float *e, int64_t n, float by) {
    const vf factor = v_set1(by);
    int64_t i = 0;
    for (; dtype == ML_BF16 && i + 2 * VW <= n; i += 2 * VW)
        v_to_bf16_pair((uint16_t *)dst + i, v_mul(v_load(e + i), factor), v_mul(v_load(e + i + VW), factor));
    for (; i + VW <= n; i += VW)
        store_as(dtype, (void *)(uintptr_t)at(dtype, dst, i), v_mul(v_load(e + i), factor));
    if (VW > 1 && i < n)
        store_tail_as(dtype, (void *)(uintptr_t)at(dtype, dst, i), v_mul(v_load_n(e + i, n - i, 0.0f), factor), n - i);
}

V_FN vf log_one(vf s, const float c[3]) {
    return v_sub(v_mul(v_sub(s, v_set1(c[0])), v_set1(c[1])), v_set1(c[2]));
}

V_FN void log_run(ml_dtype dtype, void *dst, const float *s, int64_t n, const float c[3]) {
    int64_t i = 0;
    for (; i + VW <= n; i += VW)
        store_as(dtype, (void *)(uintptr_t)at(dtype, dst, i), log_one(v_load(s + i), c));
    if (VW > 1 && i < n)
        store_tail_as(dtype, (void *)(uintptr_t)at(dtype, dst, i), log_one(v_load_n(s + i, n - i, 0.0f), c), n - i);
}

/* ---- columns ----------------------------------------------------------------------------------------------------- */

enum { GROUP = ML_SOFTMAX_GROUP / VW };

#define DEFINE_COLUMNS_LEADING(name, BETTER)                                                                           \
    static void name(float *best, const ml_softmax_tile *t) {                                                          \
        for (int64_t c = 0; c < t->cols; c += ML_SOFTMAX_GROUP) {                                                      \
            vf b[GROUP];                                                                                               \
            ML_UNROLL for (int g = 0; g < GROUP; g++) b[g] = v_load(best + c + g * VW);                                \
            const float *s = t->s + c;                                                                                 \
            for (int64_t r = 0; r < t->rows; r++, s += t->ld) {                                                        \
                ML_UNROLL for (int g = 0; g < GROUP; g++) b[g] = BETTER(v_load(s + g * VW), b[g]);                     \
            }                                                                                                          \
            ML_UNROLL for (int g = 0; g < GROUP; g++) v_store(best + c + g * VW, b[g]);                                \
        }                                                                                                              \
    }
DEFINE_COLUMNS_LEADING(columns_largest, v_max)
DEFINE_COLUMNS_LEADING(columns_smallest, v_min)

static void columns_exp(float *sum, float *e, int64_t e_ld, const ml_softmax_tile *t, const float *base, float factor) {
    const vf by = v_set1(factor);
    for (int64_t c = 0; c < t->cols; c += ML_SOFTMAX_GROUP) {
        vf total[GROUP], from[GROUP];
        ML_UNROLL for (int g = 0; g < GROUP; g++) total[g] = v_load(sum + c + g * VW);
        ML_UNROLL for (int g = 0; g < GROUP; g++) from[g] = v_load(base + c + g * VW);
        const float *s = t->s + c;
        float *to = e ? e + c : NULL;
        for (int64_t r = 0; r < t->rows; r++, s += t->ld) {
            ML_UNROLL for (int g = 0; g < GROUP; g++) {
                const vf v = v_exp2_low(v_mul(v_sub(v_load(s + g * VW), from[g]), by));
                total[g] = v_add(total[g], v);
                if (to)
                    v_store(to + g * VW, v);
            }
            to = to ? to + e_ld : NULL;
        }
        ML_UNROLL for (int g = 0; g < GROUP; g++) v_store(sum + c + g * VW, total[g]);
    }
}

V_FN void columns_scale(ml_dtype dtype, void *dst, const float *e, const float *by, int64_t n) {
    int64_t c = 0;
    for (; c + VW <= n; c += VW)
        store_as(dtype, (void *)(uintptr_t)at(dtype, dst, c), v_mul(v_load(e + c), v_load(by + c)));
    if (VW > 1 && c < n)
        store_tail_as(dtype, (void *)(uintptr_t)at(dtype, dst, c),
                      v_mul(v_load_n(e + c, n - c, 0.0f), v_load_n(by + c, n - c, 0.0f)), n - c);
}

/* ---- one function per dtype -------------------------------------------------------------------------------------- */

#define DEFINE_DTYPE(suffix, dtype)                                                                                    \
    static void add_##suffix(float *s, const void *mask, int64_t n, float scale) {                                     \
        add(dtype, s, mask, n, scale);                                                                                 \
    }                                                                                                                  \
    static float largest_##suffix(const void *x, int64_t n) {                                                          \
        return largest(dtype, x, n);                                                                                   \
    }                                                                                                                  \
    static float smallest_##suffix(const void *x, int64_t n) {                                                         \
        return smallest(dtype, x, n);                                                                                  \
    }                                                                                                                  \
    static float exp_##suffix(float *e, const void *x, int64_t n, const ml_softmax_weight *w) {                        \
        return exp_as(dtype, true, e, x, n, w);                                                                        \
    }                                                                                                                  \
    static void scale_##suffix(void *dst, const float *e, int64_t n, float by) {                                       \
        scale_run(dtype, dst, e, n, by);                                                                               \
    }                                                                                                                  \
    static void log_##suffix(void *dst, const float *s, int64_t n, const float c[3]) {                                 \
        log_run(dtype, dst, s, n, c);                                                                                  \
    }                                                                                                                  \
    static void columns_scale_##suffix(void *dst, const float *e, const float *by, int64_t n) {                        \
        columns_scale(dtype, dst, e, by, n);                                                                           \
    }
DEFINE_DTYPE(f32, ML_F32)
DEFINE_DTYPE(f16, ML_F16)
DEFINE_DTYPE(bf16, ML_BF16)

const ml_softmax_impl TABLE = {
    .hide = hide,
    .add = {add_f32, add_f16, add_bf16},
    .largest = {largest_f32, largest_f16, largest_bf16},
    .smallest = {smallest_f32, smallest_f16, smallest_bf16},
    .exp = {exp_f32, exp_f16, exp_bf16},
    .sum_exp = sum_exp,
    .scale = {scale_f32, scale_f16, scale_bf16},
    .log = {log_f32, log_f16, log_bf16},
    .columns_largest = columns_largest,
    .columns_smallest = columns_smallest,
    .columns_exp = columns_exp,
    .columns_scale = {columns_scale_f32, columns_scale_f16, columns_scale_bf16},
    .shifts = V_LOOKUP16,
    .convert = &CONVERT,
    .math = &MATH,
};
