/* The vector primitives of the NEON tier (Advanced SIMD of every AArch64 CPU); vector_avx2.h says what each does.
 * Besides those:
 *
 *   v_fma_lane(a, i, b, c)   lane i of a, times b, plus c: one instruction, where a broadcast would be a second
 */
#ifndef ML_CPU_VECTOR_H
#define ML_CPU_VECTOR_H

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define VW 4
typedef float32x4_t vf;
typedef uint32x4_t vm;

#define V_FN static inline __attribute__((always_inline))

V_FN vf v_zero(void) {
    return vdupq_n_f32(0.0f);
}
V_FN vf v_set1(float x) {
    return vdupq_n_f32(x);
}
V_FN vf v_add(vf a, vf b) {
    return vaddq_f32(a, b);
}
V_FN vf v_sub(vf a, vf b) {
    return vsubq_f32(a, b);
}
V_FN vf v_mul(vf a, vf b) {
    return vmulq_f32(a, b);
}
V_FN vf v_div(vf a, vf b) {
    return vdivq_f32(a, b);
}
V_FN vf v_fma(vf a, vf b, vf c) {
    return vfmaq_f32(c, a, b);
}
#define V_LANES
V_FN vf v_fma_lane(vf a, int i, vf b, vf c) {
    return i == 0   ? vfmaq_laneq_f32(c, b, a, 0)
           : i == 1 ? vfmaq_laneq_f32(c, b, a, 1)
           : i == 2 ? vfmaq_laneq_f32(c, b, a, 2)
                    : vfmaq_laneq_f32(c, b, a, 3);
}
/* FMAX and FMIN would return a NaN that is the first operand, too. */
V_FN vf v_max(vf a, vf b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
V_FN vf v_min(vf a, vf b) {
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
V_FN vf v_abs(vf a) {
    return vabsq_f32(a);
}
V_FN vf v_copysign(vf magnitude, vf sign) {
    return vbslq_f32(vdupq_n_u32(0x80000000u), sign, magnitude);
}
V_FN vf v_round(vf a) {
    return vrndnq_f32(a);
}
#define V_LOOKUP16 0
#define V_ANY_POWER 0
V_FN vf v_fraction(vf t, vf *n) {
    *n = v_round(t);
    return vsubq_f32(t, *n);
}
V_FN vf v_pow2(int32x4_t n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}
/* In two factors, because 2^n itself may be out of range. The first product is exact. */
V_FN vf v_scale(vf a, vf n) {
    const int32x4_t whole = vcvtnq_s32_f32(n), half = vshrq_n_s32(whole, 1);
    return vmulq_f32(vmulq_f32(a, v_pow2(half)), v_pow2(vsubq_s32(whole, half)));
}
V_FN vm v_less(vf a, vf b) {
    return vcltq_f32(a, b);
}
V_FN vm v_equal(vf a, vf b) {
    return vceqq_f32(a, b);
}
V_FN vf v_select(vm m, vf yes, vf no) {
    return vbslq_f32(m, yes, no);
}
V_FN vf v_frexp(vf x, vf *n) {
    const vm tiny = v_less(x, v_set1(0x1p-126f));
    const uint32x4_t bits = vreinterpretq_u32_f32(v_select(tiny, v_mul(x, v_set1(0x1p24f)), x));
    const vf exponent = vcvtq_f32_u32(vshrq_n_u32(bits, 23));
    *n = v_sub(exponent, v_select(tiny, v_set1(127.0f + 24.0f), v_set1(127.0f)));
    return vreinterpretq_f32_u32(vbslq_u32(vdupq_n_u32(0x7fffff), bits, vdupq_n_u32(0x3f800000)));
}
/* Copies, so that any alignment and any type that memory was written with will do. */
V_FN vf v_load(const void *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
V_FN void v_store(void *p, vf v) {
    memcpy(p, &v, sizeof v);
}
V_FN float v_load_one(const void *p) {
    float x;
    memcpy(&x, p, sizeof x);
    return x;
}
V_FN vf v_load_n(const void *p, int64_t n, float rest) {
    const char *from = p;
    vf v = v_set1(rest);
    if (n & 2) {
        float32x2_t pair;
        memcpy(&pair, from, sizeof pair);
        v = vcombine_f32(pair, vget_high_f32(v));
    }
    if (n == 1)
        v = vsetq_lane_f32(v_load_one(from), v, 0);
    else if (n == 3)
        v = vsetq_lane_f32(v_load_one(from + 8), v, 2);
    return v;
}
V_FN void v_store_n(void *p, vf v, int64_t n) {
    char *to = p;
    float last = vgetq_lane_f32(v, 0);
    if (n & 2) {
        const float32x2_t pair = vget_low_f32(v);
        memcpy(to, &pair, sizeof pair);
        last = vgetq_lane_f32(v, 2);
    }
    if (n & 1)
        memcpy(to + 4 * (n - 1), &last, sizeof last);
}
V_FN uint16x4_t v_load_halves(const void *p) {
    uint16x4_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
V_FN void v_store_halves(void *p, uint16x4_t v) {
    memcpy(p, &v, sizeof v);
}
/* The first n < 4, and zeros. */
V_FN uint16x4_t v_load_halves_n(const void *p, int64_t n) {
    uint32_t pair = 0;
    uint16_t last = 0;
    if (n & 2)
        memcpy(&pair, p, sizeof pair);
    if (n & 1)
        memcpy(&last, (const char *)p + 2 * (n - 1), sizeof last);
    return vcreate_u16(pair | (uint64_t)last << (16 * (n & 2)));
}
V_FN void v_store_halves_n(void *p, uint16x4_t v, int64_t n) {
    const uint64_t bits = vget_lane_u64(vreinterpret_u64_u16(v), 0);
    const uint32_t pair = (uint32_t)bits;
    const uint16_t last = (uint16_t)(bits >> (16 * (n & 2)));
    if (n & 2)
        memcpy(p, &pair, sizeof pair);
    if (n & 1)
        memcpy((char *)p + 2 * (n - 1), &last, sizeof last);
}
V_FN vf v_widen_f16(uint16x4_t h) {
    return vcvt_f32_f16(vreinterpret_f16_u16(h));
}
V_FN vf v_widen_bf16(uint16x4_t h) {
    return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}
V_FN uint16x4_t v_narrow_f16(vf v) {
    return vreinterpret_u16_f16(vcvt_f16_f32(v));
}
/* To nearest even: add 0x7fff plus the last bit that stays. NaNs, which that could turn into infinity, become quiet. */
V_FN uint32x4_t v_round_bf16(vf v) {
    const uint32x4_t x = vreinterpretq_u32_f32(v), odd = vandq_u32(vshrq_n_u32(x, 16), vdupq_n_u32(1));
    return vaddq_u32(vaddq_u32(x, vdupq_n_u32(0x7fff)), odd);
}
V_FN uint16x4_t v_narrow_bf16(vf v) {
    const uint32x4_t quiet = vorrq_u32(vreinterpretq_u32_f32(v), vdupq_n_u32(0x400000));
    return vshrn_n_u32(vbslq_u32(vceqq_f32(v, v), v_round_bf16(v), quiet), 16);
}
V_FN vf v_from_f16(const void *p) {
    return v_widen_f16(v_load_halves(p));
}
V_FN vf v_from_bf16(const void *p) {
    return v_widen_bf16(v_load_halves(p));
}
V_FN vf v_from_f16_n(const void *p, int64_t n) {
    return v_widen_f16(v_load_halves_n(p, n));
}
V_FN vf v_from_bf16_n(const void *p, int64_t n) {
    return v_widen_bf16(v_load_halves_n(p, n));
}
V_FN void v_to_f16(void *p, vf v) {
    v_store_halves(p, v_narrow_f16(v));
}
V_FN void v_to_bf16(void *p, vf v) {
    v_store_halves(p, v_narrow_bf16(v));
}
V_FN void v_to_f16_n(void *p, vf v, int64_t n) {
    v_store_halves_n(p, v_narrow_f16(v), n);
}
V_FN void v_to_bf16_n(void *p, vf v, int64_t n) {
    v_store_halves_n(p, v_narrow_bf16(v), n);
}
/* The upper halves of eight rounded elements. */
V_FN void v_to_bf16_pair(void *p, vf a, vf b) {
    const uint16x8_t low = vreinterpretq_u16_u32(v_round_bf16(a)), high = vreinterpretq_u16_u32(v_round_bf16(b));
    const uint16x8_t both = vuzp2q_u16(low, high);
    memcpy(p, &both, sizeof both);
}
V_FN vm v_from_bool(const void *p) {
    uint32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    const uint32x4_t wide = vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bytes))));
    return vtstq_u32(wide, wide);
}
V_FN vf v_swap_pairs(vf a) {
    return vrev64q_f32(a);
}
V_FN int v_any_nan(vf a, vf b) {
    return vminvq_u32(vandq_u32(vceqq_f32(a, a), vceqq_f32(b, b))) == 0;
}
V_FN float v_sum(vf v) {
    return vaddvq_f32(v);
}
/* out[0..3] = the sums of four vectors. */
V_FN void v_sum4(vf a, vf b, vf c, vf d, float *out) {
    v_store(out, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)));
}
V_FN float v_largest(vf v) {
    return vmaxvq_f32(v);
}
/* A block of VW x VW, rows to columns. */
V_FN void v_transpose(vf r[4]) {
    const float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(r[0], r[1])),
                      b = vreinterpretq_f64_f32(vtrn2q_f32(r[0], r[1]));
    const float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(r[2], r[3])),
                      d = vreinterpretq_f64_f32(vtrn2q_f32(r[2], r[3]));
    r[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
    r[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
    r[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
    r[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}

#endif
