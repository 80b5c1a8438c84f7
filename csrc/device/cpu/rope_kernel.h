/* The kernels of rotary positions, written once over the primitives of vector_<tier>.h. Included by rope_<tier>.c only,
 * which defines TABLE (the tier's ml_rope_impl) and CONVERT (its ml_elementwise_impl). */
#include "device/cpu/rope.h"
#include "device/cpu/vector_typed.h"
#include "device/cpu/vmath.h"

extern const ml_rope_impl TABLE;
extern const ml_elementwise_impl CONVERT;

/* Whole turns go in double, so that what is rounded to f32 is at most half a turn. Adding 1.5 * 2^52 leaves no bits
 * behind the point; from there on every double is whole turns. */
V_FN float part_of_turn(double t) {
    const double whole = t + 0x1.8p52 - 0x1.8p52;
    return t < 0x1p51 && t > -0x1p51 ? (float)(t - whole) : 0.0f;
}

static void factors_halves(const ml_rope_factors *to, const double *turns, double position, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        to->other[i] = part_of_turn(position * turns[i]);
    for (int64_t i = 0; i < n; i += VW) {
        vf s, c;
        const bool whole = i + VW <= n;
        v_sincos_turns(whole ? v_load(to->other + i) : v_load_n(to->other + i, n - i, 0.0f), &s, &c);
        if (whole) {
            v_store(to->own + i, c);
            v_store(to->other + i, s);
        } else {
            v_store_n(to->own + i, c, n - i);
            v_store_n(to->other + i, s, n - i);
        }
    }
}

static void factors_interleaved(const ml_rope_factors *to, const double *turns, double position, int64_t n) {
    factors_halves(to, turns, position, n);
    for (int64_t i = n - 1; i >= 0; i--) {
        const float c = to->own[i], s = to->other[i];
        to->own[2 * i] = to->own[2 * i + 1] = c;
        to->other[2 * i] = -s;
        to->other[2 * i + 1] = s;
    }
}

V_FN void rotate_halves(ml_dtype dtype, void *y, const void *x, const ml_rope_factors *f, int64_t n) {
    int64_t i = 0;
    for (; i + VW <= n; i += VW) {
        const vf a = load_as(dtype, at(dtype, x, i)), b = load_as(dtype, at(dtype, x, n + i));
        const vf c = v_load(f->own + i), s = v_load(f->other + i);
        store_as(dtype, at_mutable(dtype, y, i), v_fma(a, c, v_mul(v_sub(v_zero(), b), s)));
        store_as(dtype, at_mutable(dtype, y, n + i), v_fma(a, s, v_mul(b, c)));
    }
    if (VW > 1 && i < n) {
        const int64_t k = n - i;
        const vf a = load_tail_as(dtype, at(dtype, x, i), k), b = load_tail_as(dtype, at(dtype, x, n + i), k);
        const vf c = v_load_n(f->own + i, k, 0.0f), s = v_load_n(f->other + i, k, 0.0f);
        store_tail_as(dtype, at_mutable(dtype, y, i), v_fma(a, c, v_mul(v_sub(v_zero(), b), s)), k);
        store_tail_as(dtype, at_mutable(dtype, y, n + i), v_fma(a, s, v_mul(b, c)), k);
    }
}

V_FN void rotate_interleaved(ml_dtype dtype, void *y, const void *x, const ml_rope_factors *f, int64_t n) {
    int64_t i = 0;
    if (VW == 1) {
        for (; i < 2 * n; i += 2) {
            const vf a = load_as(dtype, at(dtype, x, i)), b = load_as(dtype, at(dtype, x, i + 1));
            const vf c = v_set1(f->own[i]), s = v_set1(f->other[i + 1]);
            store_as(dtype, at_mutable(dtype, y, i), v_fma(a, c, v_mul(v_sub(v_zero(), b), s)));
            store_as(dtype, at_mutable(dtype, y, i + 1), v_fma(b, c, v_mul(a, s)));
        }
        return;
    }
    for (; i + VW <= 2 * n; i += VW) {
        const vf v = load_as(dtype, at(dtype, x, i));
        store_as(dtype, at_mutable(dtype, y, i),
                 v_fma(v, v_load(f->own + i), v_mul(v_swap_pairs(v), v_load(f->other + i))));
    }
    if (i < 2 * n) {
        const int64_t k = 2 * n - i;
        const vf v = load_tail_as(dtype, at(dtype, x, i), k);
        const vf c = v_load_n(f->own + i, k, 0.0f), s = v_load_n(f->other + i, k, 0.0f);
        store_tail_as(dtype, at_mutable(dtype, y, i), v_fma(v, c, v_mul(v_swap_pairs(v), s)), k);
    }
}

#define DEFINE_DTYPE(suffix, dtype)                                                                                    \
    static void halves_##suffix(void *y, const void *x, const ml_rope_factors *f, int64_t n) {                         \
        rotate_halves(dtype, y, x, f, n);                                                                              \
    }                                                                                                                  \
    static void interleaved_##suffix(void *y, const void *x, const ml_rope_factors *f, int64_t n) {                    \
        rotate_interleaved(dtype, y, x, f, n);                                                                         \
    }
DEFINE_DTYPE(f32, ML_F32)
DEFINE_DTYPE(f16, ML_F16)
DEFINE_DTYPE(bf16, ML_BF16)

const ml_rope_impl TABLE = {
    .factors = {factors_halves, factors_interleaved},
    .rotate = {{halves_f32, halves_f16, halves_bf16}, {interleaved_f32, interleaved_f16, interleaved_bf16}},
    .convert = &CONVERT,
};
