/* exp, exp2, log, tanh, erf, sine and cosine on vectors of f32, in every tier the same code over the primitives of
 * vector_<tier>.h, which is to be included first.
 *
 * Largest errors in units in the last place (ulp), found over every float; tests/checkasm asserts them on a dense grid
 * and over every f16 value: ML_VMATH_ULP_... of vmath_impl.h. A NaN stays a NaN, infinities give the mathematical
 * limit, overflow gives infinity and underflow is gradual.
 *
 * Method: the argument is reduced so that a short polynomial does (W. J. Cody and W. Waite, Software Manual for the
 * Elementary Functions, 1980: a constant in two parts, the first so short that its products are exact). The polynomials
 * are minimax fits of the relative error by C. L. Lawson's algorithm (iteratively reweighted least squares, 1961) on
 * Chebyshev nodes, with one coefficient after the other rounded to f32 and the rest fitted again. */
#ifndef ML_CPU_VMATH_H
#define ML_CPU_VMATH_H

#include <math.h>

#if V_LOOKUP16
#include "device/cpu/exp2_avx512.h"
#endif

/* 2^r for r in [-1/2, 1/2] within 2^-28.3. */
V_FN vf v_exp2_part(vf r) {
    vf p = v_set1(0x1.416b64p-13f);
    p = v_fma(p, r, v_set1(0x1.5f0834p-10f));
    p = v_fma(p, r, v_set1(0x1.3b2de0p-7f));
    p = v_fma(p, r, v_set1(0x1.c6af7cp-5f));
    p = v_fma(p, r, v_set1(0x1.ebfbdcp-3f));
    p = v_fma(p, r, v_set1(0x1.62e430p-1f));
    return v_fma(p, r, v_set1(1.0f));
}

/* 2^t for t in [-160, 129]. */
V_FN vf v_exp2_reduced(vf t) {
    vf n;
    const vf r = v_fraction(t, &n);
    return v_scale(v_exp2_part(r), n);
}

/* The same for results that are rounded to 16 bits: within 2^-18.5; t <= 129. */
V_FN vf v_exp2_part_short(vf r) {
    vf p = v_set1(0x1.399a6cp-7f);
    p = v_fma(p, r, v_set1(0x1.ca134cp-5f));
    p = v_fma(p, r, v_set1(0x1.ec06c2p-3f));
    p = v_fma(p, r, v_set1(0x1.62e0ep-1f));
    return v_fma(p, r, v_set1(0x1.ffffe8p-1f));
}
V_FN vf v_exp2_low_short(vf t) {
    vf n;
    const vf r = v_fraction(V_ANY_POWER ? t : v_max(v_set1(-160.0f), t), &n);
    return v_scale(v_exp2_part_short(r), n);
}

V_FN vf v_exp2(vf t) {
    return v_exp2_reduced(V_ANY_POWER ? t : v_max(v_set1(-160.0f), v_min(v_set1(129.0f), t)));
}

/* 2^t for t < 127 or NaN, for weights: what is below 2^-126 may become 0. */
V_FN vf v_exp2_low(vf t) {
#if V_LOOKUP16
    return v_exp2_looked_up(t);
#else
    return v_exp2_reduced(v_max(v_set1(-160.0f), t));
#endif
}

/* (e^r - 1 - r) / r^2 within 2^-26.1 for |r| <= ln(2)/2. */
V_FN vf v_exp_rest(vf r) {
    vf p = v_set1(0x1.6b97a6p-10f);
    p = v_fma(p, r, v_set1(0x1.122538p-7f));
    p = v_fma(p, r, v_set1(0x1.5556f6p-5f));
    p = v_fma(p, r, v_set1(0x1.5554b4p-3f));
    return v_fma(p, r, v_set1(0x1.fffffep-2f));
}

/* x - n ln 2: the first part of ln 2 has 15 bits, so that n times it is exact. */
V_FN vf v_reduce_ln2(vf x, vf n) {
    return v_fma(n, v_set1(-0x1.7f7d1cp-20f), v_fma(n, v_set1(-0x1.62e4p-1f), x));
}

V_FN vf v_exp(vf x) {
    x = v_min(v_set1(89.0f), v_max(v_set1(-104.5f), x));
    const vf n = v_round(v_mul(x, v_set1(0x1.715476p+0f))); /* 1 / ln 2 */
    const vf r = v_reduce_ln2(x, n);
    const vf p = v_fma(v_mul(r, r), v_exp_rest(r), r);
    return v_scale(v_add(v_set1(1.0f), p), n);
}

/* x = m 2^n with m in [sqrt(1/2), sqrt(2)), f = m - 1: log x = n ln 2 + f - f^2/2 + f^3 P(f), P within 2^-27.3 of
 * log(1 + f). */
V_FN vf v_log(vf x) {
    vf n, m = v_frexp(x, &n);
    const vm above = v_less(v_set1(0x1.6a09e6p+0f), m); /* sqrt(2) */
    m = v_select(above, v_mul(m, v_set1(0.5f)), m);
    n = v_select(above, v_add(n, v_set1(1.0f)), n);
    const vf f = v_sub(m, v_set1(1.0f)), z = v_mul(f, f);
    vf p = v_set1(-0x1.38c9fap-4f);
    p = v_fma(p, f, v_set1(0x1.0573b2p-3f));
    p = v_fma(p, f, v_set1(-0x1.0d8bfap-3f));
    p = v_fma(p, f, v_set1(0x1.22d710p-3f));
    p = v_fma(p, f, v_set1(-0x1.547164p-3f));
    p = v_fma(p, f, v_set1(0x1.99a028p-3f));
    p = v_fma(p, f, v_set1(-0x1.00022ap-2f));
    p = v_fma(p, f, v_set1(0x1.555554p-2f));
    vf y = v_fma(n, v_set1(0x1.7f7d1cp-20f), v_mul(v_mul(f, z), p));
    y = v_fma(z, v_set1(-0.5f), y);
    y = v_fma(n, v_set1(0x1.62e4p-1f), v_add(f, y));
    y = v_select(v_less(x, v_set1(INFINITY)), y, x); /* infinity and NaN */
    y = v_select(v_equal(x, v_zero()), v_set1(-INFINITY), y);
    return v_select(v_less(x, v_zero()), v_set1(NAN), y);
}

/* With u = e^(-2|x|) - 1 in (-1, 0], tanh |x| = -u / (2 + u): nothing cancels. */
V_FN vf v_tanh(vf x) {
    const vf t = v_max(v_set1(-40.0f), v_mul(v_set1(-2.0f), v_abs(x)));
    const vf n = v_round(v_mul(t, v_set1(0x1.715476p+0f)));
    const vf r = v_reduce_ln2(t, n), power = v_scale(v_set1(1.0f), n);
    const vf q = v_fma(v_mul(r, r), v_exp_rest(r), r); /* e^r - 1 */
    const vf u = v_fma(power, q, v_sub(power, v_set1(1.0f)));
    return v_copysign(v_div(u, v_add(v_set1(2.0f), u)), x);
}

/* Below 1, x + x P(x^2), P within 2^-29.4; above, 1 - 2^Q(|x|), where Q fits log2(erfc) so that the error of erf stays
 * below 2^-34; from 4 on erf is 1 in f32. */
V_FN vf v_erf(vf x) {
    const vf a = v_abs(x), z = v_mul(x, x);
    vf p = v_set1(0x1.4771fep-14f);
    p = v_fma(p, z, v_set1(-0x1.a3515ep-11f));
    p = v_fma(p, z, v_set1(0x1.53f224p-8f));
    p = v_fma(p, z, v_set1(-0x1.b7f71ap-6f));
    p = v_fma(p, z, v_set1(0x1.ce2ce6p-4f));
    p = v_fma(p, z, v_set1(-0x1.81273ep-2f));
    p = v_fma(p, z, v_set1(0x1.06eba8p-3f));
    const vf near = v_fma(p, x, x), b = v_min(v_set1(4.0f), a);
    vf q = v_set1(-0x1.06926ap-15f);
    q = v_fma(q, b, v_set1(0x1.4de9d8p-11f));
    q = v_fma(q, b, v_set1(-0x1.8d98e2p-8f));
    q = v_fma(q, b, v_set1(0x1.29f2b8p-5f));
    q = v_fma(q, b, v_set1(-0x1.405900p-3f));
    q = v_fma(q, b, v_set1(-0x1.d3bb4cp-1f));
    q = v_fma(q, b, v_set1(-0x1.a13014p+0f));
    q = v_fma(q, b, v_set1(0x1.1d1be6p-12f));
    const vf far = v_copysign(v_sub(v_set1(1.0f), v_exp2_reduced(q)), x);
    return v_select(v_less(a, v_set1(1.0f)), near, far);
}

/* Sine and cosine of 2 pi x, that is of x turns, for |x| < 2^20; NaN for NaN. What is left of x after whole quarter
 * turns is exact and at most an eighth: the polynomials are within 2^-28.0 of sin(2 pi r) and 2^-31.0 of cos(2 pi r).
 */
V_FN void v_sincos_turns(vf x, vf *sine, vf *cosine) {
    const vf f = v_sub(x, v_round(x)), q = v_round(v_mul(f, v_set1(4.0f)));
    const vf r = v_fma(q, v_set1(-0.25f), f), z = v_mul(r, r);
    vf s = v_set1(-0x1.2d791ap+6f);
    s = v_fma(s, z, v_set1(0x1.465e16p+6f));
    s = v_fma(s, z, v_set1(-0x1.4abbb8p+5f));
    s = v_fma(s, z, v_set1(-0x1.a3305cp-23f)); /* the rest of 2 pi */
    s = v_fma(r, v_set1(0x1.921fb6p+2f), v_mul(r, s));
    vf c = v_set1(0x1.d4f7eep+5f);
    c = v_fma(c, z, v_set1(-0x1.55b2b6p+6f));
    c = v_fma(c, z, v_set1(0x1.03c1b0p+6f));
    c = v_fma(c, z, v_set1(-0x1.3bd3ccp+4f));
    c = v_fma(c, z, v_set1(1.0f));
    const vf odd = v_abs(q), zero = v_zero();
    const vm swapped = v_equal(odd, v_set1(1.0f)); /* one quarter turn either way */
    const vf s1 = v_select(swapped, c, s), c1 = v_select(swapped, s, c);
    /* q: -2 -1 0 1 2 turns (s, c) into (-s, -c) (-c, s) (s, c) (c, -s) (-s, -c) */
    const vm half = v_equal(odd, v_set1(2.0f)), minus = v_equal(q, v_set1(-1.0f)), plus = v_equal(q, v_set1(1.0f));
    *sine = v_select(half, v_sub(zero, s1), v_select(minus, v_sub(zero, s1), s1));
    *cosine = v_select(half, v_sub(zero, c1), v_select(plus, v_sub(zero, c1), c1));
}
V_FN vf v_sin_turns(vf x) {
    vf s, c;
    v_sincos_turns(x, &s, &c);
    return s;
}
V_FN vf v_cos_turns(vf x) {
    vf s, c;
    v_sincos_turns(x, &s, &c);
    return c;
}

#endif
