/* The vector primitives of one-element vectors: plain C for any machine, the reference of the other tiers. See
 * vector_avx2.h for what each does; the tiers' headers offer the same names. */
#ifndef ML_CPU_VECTOR_H
#define ML_CPU_VECTOR_H

#include "core/half.h"

#include <stdbool.h>

#define VW 1
typedef float vf;
typedef bool vm;

#define V_FN static inline __attribute__((always_inline))

V_FN vf v_zero(void) {
    return 0.0f;
}
V_FN vf v_set1(float x) {
    return x;
}
V_FN vf v_add(vf a, vf b) {
    return a + b;
}
V_FN vf v_sub(vf a, vf b) {
    return a - b;
}
V_FN vf v_mul(vf a, vf b) {
    return a * b;
}
V_FN vf v_div(vf a, vf b) {
    return a / b;
}
V_FN vf v_fma(vf a, vf b, vf c) { /* two roundings: machines without the instruction would call a library */
    return a * b + c;
}
V_FN vf v_max(vf a, vf b) {
    return a > b ? a : b;
}
V_FN vf v_min(vf a, vf b) {
    return a < b ? a : b;
}
V_FN vf v_abs(vf a) {
    return ml_float_from_bits(ml_float_bits(a) & 0x7fffffffu);
}
V_FN vf v_copysign(vf magnitude, vf sign) {
    return ml_float_from_bits((ml_float_bits(magnitude) & 0x7fffffffu) | (ml_float_bits(sign) & 0x80000000u));
}
V_FN vf v_round(vf a) { /* adding 1.5 * 2^23 leaves no bits behind the point */
    return (a + 0x1.8p23f) - 0x1.8p23f;
}
#define V_LOOKUP16 0
#define V_ANY_POWER 0
V_FN vf v_fraction(vf t, vf *n) {
    *n = v_round(t);
    return t - *n;
}
V_FN vf v_pow2(int32_t n) {
    return ml_float_from_bits((uint32_t)(n + 127) << 23);
}
V_FN vf v_scale(vf a, vf n) {
    /* A NaN has no integer; whatever stands for it, the product is NaN. */
    const int32_t whole = n == n ? (int32_t)n : 0, half = whole >> 1;
    return a * v_pow2(half) * v_pow2(whole - half);
}
V_FN vf v_frexp(vf x, vf *n) {
    const bool tiny = x < 0x1p-126f;
    const uint32_t bits = ml_float_bits(tiny ? x * 0x1p24f : x);
    *n = (float)((int32_t)(bits >> 23) - 127 - (tiny ? 24 : 0));
    return ml_float_from_bits((bits & 0x7fffffu) | 0x3f800000u);
}
V_FN vm v_less(vf a, vf b) {
    return a < b;
}
V_FN vm v_equal(vf a, vf b) {
    return a == b;
}
V_FN vf v_select(vm m, vf yes, vf no) {
    return m ? yes : no;
}
V_FN vf v_load(const void *p) {
    return *(const float *)p;
}
V_FN void v_store(void *p, vf v) {
    *(float *)p = v;
}
/* A vector of one element has no part: n is 0. */
V_FN vf v_load_n(const void *p, int64_t n, float rest) {
    (void)p;
    (void)n;
    return rest;
}
V_FN void v_store_n(void *p, vf v, int64_t n) {
    (void)p;
    (void)v;
    (void)n;
}
V_FN vf v_from_f16(const void *p) {
    return ml_half_to_float(*(const uint16_t *)p);
}
V_FN vf v_from_bf16(const void *p) {
    return ml_bfloat_to_float(*(const uint16_t *)p);
}
V_FN void v_to_f16(void *p, vf v) {
    *(uint16_t *)p = ml_float_to_half(v);
}
V_FN void v_to_bf16(void *p, vf v) {
    *(uint16_t *)p = ml_float_to_bfloat(v);
}
V_FN void v_to_bf16_pair(void *p, vf a, vf b) {
    v_to_bf16(p, a);
    v_to_bf16((uint16_t *)p + 1, b);
}
V_FN vf v_from_f16_n(const void *p, int64_t n) {
    return v_load_n(p, n, 0.0f);
}
V_FN vf v_from_bf16_n(const void *p, int64_t n) {
    return v_load_n(p, n, 0.0f);
}
V_FN void v_to_f16_n(void *p, vf v, int64_t n) {
    v_store_n(p, v, n);
}
V_FN void v_to_bf16_n(void *p, vf v, int64_t n) {
    v_store_n(p, v, n);
}
V_FN vm v_from_bool(const void *p) {
    return *(const uint8_t *)p != 0;
}
V_FN vf v_swap_pairs(vf a) { /* a pair does not fit: callers do without */
    return a;
}
V_FN int v_any_nan(vf a, vf b) {
    return a != a || b != b;
}
V_FN float v_sum(vf v) {
    return v;
}
V_FN float v_largest(vf v) {
    return v;
}

#endif
