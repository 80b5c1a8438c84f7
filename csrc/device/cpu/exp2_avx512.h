/* 2^t by look-up with AVX-512, included by vmath.h.
 *
 * t is the nearest k / 32 and a rest r of at most 1/64: 2^t is a whole power of two, 2^(i/32) of a table, i the low
 * five bits of k, and 1 + r (c1 + r c2), a fit of 2^r within 2^-24.2. A constant whose last place is 1/32 leaves k in
 * the low bits of its sum with t. The table holds the bits of 2^(i/32) less i << 18, so that adding k << 18 both takes
 * them back and puts in the exponent. Within 2 ulp: the table's rounding, the fit's error and three roundings more. */
#ifndef ML_CPU_EXP2_AVX512_H
#define ML_CPU_EXP2_AVX512_H

#define V_EXP2_MAGIC 0x1.8p18f
#define V_EXP2_LEAST (-126.0f) /* below it the exponent would not be a normal number's */

static const uint32_t v_exp2_bits[32] = {
    0x3f800000, 0x3f7ecd87, 0x3f7daac3, 0x3f7c980f, 0x3f7b95c2, 0x3f7aa43a, 0x3f79c3d3, 0x3f78f4f0,
    0x3f7837f0, 0x3f778d3a, 0x3f76f532, 0x3f767043, 0x3f75fed7, 0x3f75a15b, 0x3f75583f, 0x3f7523f6,
    0x3f7504f3, 0x3f74fbaf, 0x3f7508a4, 0x3f752c4d, 0x3f75672a, 0x3f75b9be, 0x3f76248c, 0x3f76a81e,
    0x3f7744fd, 0x3f77fbb8, 0x3f78ccdf, 0x3f79b907, 0x3f7ac0c7, 0x3f7be4ba, 0x3f7d257d, 0x3f7e83b3,
};

/* near: V_EXP2_MAGIC + k / 32; the result is 0 where `kept` is not set. */
V_FN vf v_exp2_at(vf near, vf r, __mmask16 kept) {
    const __m512i k = _mm512_castps_si512(near), low = _mm512_loadu_si512(v_exp2_bits);
    const __m512i bits = _mm512_permutex2var_epi32(low, k, _mm512_loadu_si512(v_exp2_bits + 16));
    const vf power = _mm512_castsi512_ps(_mm512_add_epi32(bits, _mm512_slli_epi32(k, 18)));
    const vf p = v_fma(r, v_set1(0x1.ebe3ecp-3f), v_set1(0x1.62e57p-1f));
    return _mm512_maskz_fmadd_ps(kept, v_mul(power, r), p, power);
}

/* near is t or as far above V_EXP2_MAGIC as t is above 0; NaN is kept. */
V_FN __mmask16 v_exp2_kept(vf near, float zero) {
    return _mm512_cmp_ps_mask(near, v_set1(zero + V_EXP2_LEAST), _CMP_NLT_UQ);
}

V_FN vf v_exp2_looked_up(vf t) {
    const vf magic = v_set1(V_EXP2_MAGIC), near = v_add(t, magic);
    return v_exp2_at(near, v_sub(t, v_sub(near, magic)), v_exp2_kept(t, 0.0f));
}

/* 2^(x * factor - shift) for |shift| <= 2^16, an integer. The product is not rounded; *top is the largest of its last
 * value and V_EXP2_MAGIC plus the exponents. From an exponent of 127 on the result is undefined. */
typedef struct v_exp2_line {
    vf factor, magic; /* V_EXP2_MAGIC - shift */
} v_exp2_line;
V_FN vf v_exp2_on_line(vf x, const v_exp2_line *line, vf *top) {
    const vf near = v_fma(x, line->factor, line->magic);
    *top = v_max(near, *top);
    const vf r = _mm512_fmsub_ps(x, line->factor, v_sub(near, line->magic));
    return v_exp2_at(near, r, v_exp2_kept(near, V_EXP2_MAGIC));
}

#endif
