/* Activations by look-up with AVX-512, included by activation_vector.h.
 *
 * GELU: with y = |x|, x Phi(x) = max(0, x) - y Phi(-y). log2 Phi(-y) is smooth: around each of 16 multiples of 15/16 a
 * polynomial in the distance does, minimax fits by Lawson's algorithm as in vmath.h. In full, Phi(-y) = P 2^p with P a
 * power of two, which keeps p small, of degree 5 and within 2^-23.7; for results of 16 bits P is 1, the degree 4 and
 * the error 2^-17.9. 2^p is a polynomial in p - floor(p), within 2^-28.8 or 2^-18.5. Nothing cancels, so the negative
 * tail keeps its relative precision. Beyond y = 14.5 the tail is below what f32 holds.
 *
 * The logistic function is 1 / (1 + e^-z), with the table of exp2_avx512.h, unless a z of the vectors at hand is below
 * -87, where e^-z leaves f32; then e^-|z| of all of them, in full: 2^t is 2^(k/16), of a table, times a polynomial in
 * t - k/16, within 2^-29.1. */
#ifndef ML_CPU_ACTIVATION_AVX512_H
#define ML_CPU_ACTIVATION_AVX512_H

#include "device/cpu/vmath.h"

/* clang-format off */
static const float v_sixteenth_powers[16] = /* 2^(k/16) */
    {0x1p+0f, 0x1.0b5586p+0f, 0x1.172b84p+0f, 0x1.2387a6p+0f, 0x1.306fep+0f, 0x1.3dea64p+0f, 0x1.4bfdaep+0f,
     0x1.5ab07ep+0f, 0x1.6a09e6p+0f, 0x1.7a1148p+0f, 0x1.8ace54p+0f, 0x1.9c4918p+0f, 0x1.ae89fap+0f,
     0x1.c199bep+0f, 0x1.d5818ep+0f, 0x1.ea4afap+0f};
static const float v_gelu_power[16] =
    {0x1p-1f, 0x1p-3f, 0x1p-5f, 0x1p-9f, 0x1p-13f, 0x1p-19f, 0x1p-27f, 0x1p-35f, 0x1p-45f, 0x1p-56f, 0x1p-68f, 0x1p-81f,
     0x1p-96f, 0x1p-112f, 0x1p-129f, 0x1p-148f};
static const float v_gelu_degree5[6][16] = {
    {9.854216332e-10f, 4.792364538e-01f, -3.995752335e-02f, 3.316426277e-01f, -4.653120339e-01f, -4.639619589e-01f,
     3.160564601e-01f, -1.375857145e-01f, 1.669663042e-01f, 2.240936756e-01f, 2.977680042e-02f, -4.189492166e-01f,
     -1.243289337e-01f, -8.809956163e-02f, -3.116316795e-01f, 2.039754093e-01f},
    {-1.151104212e+00f, -2.128423214e+00f, -3.264786005e+00f, -4.485920429e+00f, -5.753264427e+00f, -7.047244072e+00f,
     -8.357522964e+00f, -9.678333282e+00f, -1.100627232e+01f, -1.233922863e+01f, -1.367583561e+01f, -1.501517487e+01f,
     -1.635660744e+01f, -1.769967842e+01f, -1.904405212e+01f, -2.038947868e+01f},
    {-4.592208266e-01f, -5.723441839e-01f, -6.333323717e-01f, -6.659423709e-01f, -6.842336059e-01f, -6.951312423e-01f,
     -7.020062804e-01f, -7.065654397e-01f, -7.097196579e-01f, -7.119817734e-01f, -7.136529088e-01f, -7.149205804e-01f,
     -7.159018517e-01f, -7.166770697e-01f, -7.172986269e-01f, -7.178058028e-01f},
    {-5.245475098e-02f, -2.932868898e-02f, -1.551408041e-02f, -8.482863195e-03f, -4.918995313e-03f, -3.022908932e-03f,
     -1.967151184e-03f, -1.337539288e-03f, -9.342180565e-04f, -6.796078524e-04f, -5.160400760e-04f, -3.985245712e-04f,
     -3.181137145e-04f, -2.388364956e-04f, -1.866135717e-04f, -1.572864567e-04f},
    {7.052758243e-03f, 4.945171066e-03f, 2.611452248e-03f, 1.308914740e-03f, 6.779759424e-04f, 3.726176510e-04f,
     2.175025729e-04f, 1.327738428e-04f, 8.360610809e-05f, 5.691135084e-05f, 3.816349272e-05f, 3.013125206e-05f,
     2.015414248e-05f, 1.487091959e-05f, 7.115128028e-06f, 6.702174687e-06f},
    {-2.783075906e-04f, -5.869118613e-04f, -3.798675025e-04f, -1.842390193e-04f, -7.826341607e-05f, -4.744676698e-05f,
     -5.889136901e-06f, 4.669419923e-06f, -2.951243550e-05f, -2.505112570e-05f, 5.191214314e-06f, 1.212079951e-05f,
     3.284261766e-05f, -2.601116466e-05f, -4.247245306e-05f, -2.305728049e-05f},
};
static const float v_gelu_degree4[5][16] = {
    {-1.000000000e+00f, -2.520763636e+00f, -5.039957523e+00f, -8.668356895e+00f, -1.346531200e+01f, -1.946396255e+01f,
     -2.668394279e+01f, -3.513758469e+01f, -4.483303452e+01f, -5.577590561e+01f, -6.797022247e+01f, -8.141895294e+01f,
     -9.612432861e+01f, -1.120880966e+02f, -1.293116302e+02f, -1.477960205e+02f},
    {-1.151103258e+00f, -2.128414631e+00f, -3.264780283e+00f, -4.485919952e+00f, -5.753263474e+00f, -7.047244072e+00f,
     -8.357522964e+00f, -9.678333282e+00f, -1.100627232e+01f, -1.233922863e+01f, -1.367583561e+01f, -1.501517487e+01f,
     -1.635660744e+01f, -1.769967842e+01f, -1.904405212e+01f, -2.038947868e+01f},
    {-4.592404366e-01f, -5.723432302e-01f, -6.333324909e-01f, -6.659489870e-01f, -6.842341423e-01f, -6.951122880e-01f,
     -7.020326257e-01f, -7.066025734e-01f, -7.096910477e-01f, -7.120066881e-01f, -7.136790752e-01f, -7.147859931e-01f,
     -7.159124613e-01f, -7.167827487e-01f, -7.173491120e-01f, -7.179543972e-01f},
    {-5.232884362e-02f, -2.948845178e-02f, -1.561824325e-02f, -8.520723321e-03f, -4.939149600e-03f, -3.028979758e-03f,
     -1.967359334e-03f, -1.336578396e-03f, -9.382182034e-04f, -6.830453058e-04f, -5.151929217e-04f, -3.964948119e-04f,
     -3.131588455e-04f, -2.424210688e-04f, -1.925765100e-04f, -1.604021090e-04f},
    {6.733984221e-03f, 4.942811094e-03f, 2.612401964e-03f, 1.329595922e-03f, 6.802106509e-04f, 2.957606921e-04f,
     3.344634897e-04f, 3.012098023e-04f, -4.182270641e-05f, 1.657774119e-04f, 1.565835119e-04f, -5.806567497e-04f,
     6.440799189e-05f, 4.912071745e-04f, 2.307065588e-04f, 6.856347900e-04f},
};
/* clang-format on */

V_FN vf v_lookup16(const float table[16], __m512i index) { /* by the low four bits */
    return _mm512_permutexvar_ps(index, _mm512_loadu_ps(table));
}

/* p - floor(p): VSCALEFPS takes the floor itself. */
V_FN vf v_above_floor(vf p) {
    return _mm512_reduce_ps(p, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
V_FN vf v_exp2_floor(vf t) {
    const vf r = v_above_floor(t);
    vf p = v_set1(0x1.c4456ep-13f);
    p = v_fma(p, r, v_set1(0x1.47373ap-10f));
    p = v_fma(p, r, v_set1(0x1.3cfd82p-7f));
    p = v_fma(p, r, v_set1(0x1.c68af6p-5f));
    p = v_fma(p, r, v_set1(0x1.ebfd3ap-3f));
    p = v_fma(p, r, v_set1(0x1.62e42cp-1f));
    p = v_fma(p, r, v_set1(1.0f));
    return v_scale(p, t);
}
V_FN vf v_exp2_floor_short(vf t) {
    const vf r = v_above_floor(t);
    vf p = v_set1(0x1.bb8558p-7f);
    p = v_fma(p, r, v_set1(0x1.aa0f4cp-5f));
    p = v_fma(p, r, v_set1(0x1.ee7a60p-3f));
    p = v_fma(p, r, v_set1(0x1.62d158p-1f));
    p = v_fma(p, r, v_set1(0x1.00002cp+0f));
    return v_scale(p, t);
}

/* e^-|z|; 0 for infinities and NaN. In full, 1 / ln 2 has two parts, and what the first product lost is not lost. */
V_FN vf v_exp_away(vf z, bool is_short) {
    const vf away = _mm512_range_ps(z, v_set1(111.0f), 0xe); /* -min(|z|, 111); -111 for NaN */
    const vf turns = v_set1(0x1.715476p+0f);
    if (is_short)
        return v_exp2_floor_short(v_mul(away, turns));
    const vf magic = v_set1(0x1.8p19f), near = v_fma(away, turns, magic); /* leaves k, of k / 16, in the low bits */
    const vf t = v_sub(near, magic), base = v_lookup16(v_sixteenth_powers, _mm512_castps_si512(near));
    const vf r = v_fma(away, v_set1(0x1.4ae0cp-26f), _mm512_fmsub_ps(away, turns, t));
    vf p = v_set1(0x1.c6b46ap-5f);
    p = v_fma(p, r, v_set1(0x1.ebfff4p-3f));
    p = v_fma(p, r, v_set1(0x1.62e430p-1f));
    return v_scale(v_fma(v_mul(p, r), base, base), t); /* VSCALEFPS takes the floor of t */
}

/* x times the logistic function of z; -0 where it vanishes, x = -inf included. is_short: for results that are rounded
 * to 16 bits. */
V_FN vf v_times_logistic(vf x, vf z, bool is_short) {
    const vf e = v_exp_away(z, is_short), bounded = v_max(v_set1(-1e9f), x);
    const __mmask16 below = _mm512_movepi32_mask(_mm512_castps_si512(z));
    return v_div(_mm512_mask_mul_ps(bounded, below, bounded, e), v_add(v_set1(1.0f), e));
}

/* e^-z for z >= -87 or NaN; 1 / ln 2 as in v_exp_away. */
V_FN vf v_exp_minus(vf z, bool is_short) {
    const vf turns = v_set1(-0x1.715476p+0f), magic = v_set1(V_EXP2_MAGIC), near = v_fma(z, turns, magic);
    vf r = _mm512_fmsub_ps(z, turns, v_sub(near, magic));
    if (!is_short)
        r = v_fma(z, v_set1(-0x1.4ae0cp-26f), r);
    return v_exp2_at(near, r, v_exp2_kept(near, V_EXP2_MAGIC));
}

static __attribute__((noinline, cold, unused)) void v_times_logistic_far(vf *x, const vf *z, int n, bool is_short) {
    for (int i = 0; i < n; i++)
        x[i] = v_times_logistic(x[i], z[i], is_short);
}

/* x[i] times the logistic function of z[i], for n <= V_ACTIVATE_MOST vectors. */
V_FN void v_times_logistic_many(vf *x, const vf *z, int n, bool is_short) {
    vf least = v_zero();
    ML_UNROLL for (int i = 0; i < n; i++) least = v_min(z[i], least); /* passes NaN over */
    if (__builtin_expect(v_less(least, v_set1(-87.0f)) != 0, 0)) {
        vf y[V_ACTIVATE_MOST], by[V_ACTIVATE_MOST]; /* copies, so that x may live in registers */
        for (int i = 0; i < n; i++) {
            y[i] = x[i];
            by[i] = z[i];
        }
        v_times_logistic_far(y, by, n, is_short);
        for (int i = 0; i < n; i++)
            x[i] = y[i];
        return;
    }
    ML_UNROLL for (int i = 0; i < n; i++) x[i] = v_div(x[i], v_add(v_set1(1.0f), v_exp_minus(z[i], is_short)));
}

/* x[i] = gelu(x[i]) for n <= V_ACTIVATE_MOST vectors, which share the loads of the tables. */
V_FN void v_gelu_by_table(vf *x, int n, bool is_short) {
    const int degree = is_short ? 4 : 5;
    const float (*table)[16] = is_short ? v_gelu_degree4 : v_gelu_degree5;
    const vf magic = v_set1(0x1.8p23f); /* leaves the nearest integer in the low bits */
    __m512i index[V_ACTIVATE_MOST];
    vf y[V_ACTIVATE_MOST], r[V_ACTIVATE_MOST], p[V_ACTIVATE_MOST];
    ML_UNROLL for (int i = 0; i < n; i++) {
        y[i] = _mm512_range_ps(x[i], v_set1(14.5f), 0xa); /* min(|x|, 14.5); 14.5 for NaN, which max(0, x) keeps */
        const vf t = v_fma(y[i], v_set1(0x1.111112p+0f), magic);
        index[i] = _mm512_castps_si512(t);
        r[i] = v_fma(v_sub(t, magic), v_set1(-0.9375f), y[i]); /* exact */
        p[i] = v_lookup16(table[degree], index[i]);
    }
    ML_UNROLL for (int k = degree - 1; k >= 0; k--) {
        ML_UNROLL for (int i = 0; i < n; i++) p[i] = v_fma(p[i], r[i], v_lookup16(table[k], index[i]));
    }
    ML_UNROLL for (int i = 0; i < n; i++) {
        vf tail = is_short ? v_exp2_floor_short(p[i]) : v_exp2_floor(p[i]);
        if (!is_short)
            tail = v_mul(tail, v_lookup16(v_gelu_power, index[i]));
        x[i] = _mm512_fnmadd_ps(y[i], tail, v_max(v_zero(), x[i]));
    }
}

#endif
