/* Activations on vectors, after vector_<isa>.h. */
#ifndef ML_CPU_ACTIVATION_VECTOR_H
#define ML_CPU_ACTIVATION_VECTOR_H

#include "core/op.h"
#include "device/cpu/vmath.h"

#include <stdbool.h>

enum { V_ACTIVATE_MOST = 4 };

#if V_LOOKUP16
#include "device/cpu/activation_avx512.h"
#endif

#if !V_LOOKUP16
/* x times the logistic function of z, by e^-|z|, which does not overflow; -0 where it vanishes, x = -inf included.
 * is_short: for results that are rounded to 16 bits. */
V_FN vf v_times_logistic(vf x, vf z, bool is_short) {
    const vf one = v_set1(1.0f), away = v_sub(v_zero(), v_abs(z));
    const vf e = is_short ? v_exp2_low_short(v_mul(away, v_set1(0x1.715476p+0f))) : v_exp(away); /* 1 / ln 2 */
    const vf above = v_mul(v_max(v_set1(-1e9f), x), v_select(v_less(z, v_zero()), e, one));
    return v_div(above, v_add(one, e));
}
V_FN void v_times_logistic_many(vf *x, const vf *z, int n, bool is_short) {
    ML_UNROLL for (int i = 0; i < n; i++) x[i] = v_times_logistic(x[i], z[i], is_short);
}
#endif

/* x Phi(x). With y = |x|, Phi(-y) = exp(-y^2/2) t P(t), t = 1 / (1 + 0.35 y): P is a least-squares fit, reweighted
 * towards equal relative errors (3.2e-8), over 0 <= y <= 14.5; beyond, the tail is below what f32 holds. Nothing
 * cancels, so the negative tail keeps its relative precision. */
V_FN vf v_gelu(vf x) {
    vf y = v_min(v_set1(14.5f), v_abs(x));
    vf t = v_div(v_set1(1.0f), v_fma(v_set1(0.35f), y, v_set1(1.0f)));
    vf p = v_set1(-2.915802991e-02f);
    p = v_fma(p, t, v_set1(1.440316091e-01f));
    p = v_fma(p, t, v_set1(-2.558403993e-01f));
    p = v_fma(p, t, v_set1(1.593212497e-01f));
    p = v_fma(p, t, v_set1(-2.321339142e-02f));
    p = v_fma(p, t, v_set1(1.055529258e-01f));
    p = v_fma(p, t, v_set1(1.198211850e-01f));
    p = v_fma(p, t, v_set1(1.398635289e-01f));
    p = v_fma(p, t, v_set1(1.396213061e-01f));
    vf square = v_mul(y, y);
    vf rest = v_fma(y, y, v_sub(v_zero(), square)); /* what the square lost: e^-(s + d)/2 = e^-s/2 (1 - d/2) */
    vf half = v_set1(-0.5f);
    vf tail = v_mul(v_exp(v_mul(half, square)), v_fma(half, rest, v_set1(1.0f)));
    return v_sub(v_max(v_zero(), x), v_mul(v_mul(y, t), v_mul(p, tail)));
}

/* x[i] = act(x[i]) for n <= V_ACTIVATE_MOST vectors. is_short: for results that are rounded to 16 bits; relatively
 * within 2^-17. */
V_FN void v_activate_many(ml_activation act, vf *x, int n, bool is_short) {
#if V_LOOKUP16
    if (act == ML_ACT_GELU) {
        v_gelu_by_table(x, n, is_short);
        return;
    }
#endif
    vf z[V_ACTIVATE_MOST];
    switch (act) {
    case ML_ACT_RELU:
        ML_UNROLL for (int i = 0; i < n; i++) x[i] = v_max(v_zero(), x[i]);
        break;
    case ML_ACT_SILU:
        ML_UNROLL for (int i = 0; i < n; i++) z[i] = x[i];
        v_times_logistic_many(x, z, n, is_short);
        break;
    case ML_ACT_GELU:
        ML_UNROLL for (int i = 0; i < n; i++) x[i] = v_gelu(x[i]);
        break;
    case ML_ACT_GELU_TANH: /* (1 + tanh(u)) / 2 is the logistic function of 2u */
        ML_UNROLL for (int i = 0; i < n; i++) {
            const vf u = v_fma(v_mul(x[i], x[i]), v_set1(0.044715f), v_set1(1.0f));
            z[i] = v_mul(v_mul(x[i], v_set1(1.5957691216f)), u); /* 2 sqrt(2 / pi) */
        }
        v_times_logistic_many(x, z, n, is_short);
        break;
    default:
        break;
    }
}

V_FN vf v_activate(ml_activation act, vf x) {
    v_activate_many(act, &x, 1, false);
    return x;
}

#endif
