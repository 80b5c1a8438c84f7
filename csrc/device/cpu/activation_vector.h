/* Activations on vectors, after vector_<isa>.h. */
#ifndef ML_CPU_ACTIVATION_VECTOR_H
#define ML_CPU_ACTIVATION_VECTOR_H

#include "core/op.h"
#include "device/cpu/vmath.h"

/* x times the logistic function of z; -0 where it vanishes, x = -inf included. */
V_FN vf v_times_logistic(vf x, vf z) {
    return v_div(v_max(v_set1(-1e9f), x), v_add(v_set1(1.0f), v_exp(v_sub(v_zero(), z))));
}

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

V_FN vf v_activate(ml_activation act, vf x) {
    switch (act) {
    case ML_ACT_RELU:
        return v_max(v_zero(), x);
    case ML_ACT_SILU:
        return v_times_logistic(x, x);
    case ML_ACT_GELU:
        return v_gelu(x);
    case ML_ACT_GELU_TANH: { /* (1 + tanh(u)) / 2 is the logistic function of 2u */
        vf u = v_fma(v_mul(x, x), v_set1(0.044715f), v_set1(1.0f));
        return v_times_logistic(x, v_mul(v_mul(x, v_set1(1.5957691216f)), u)); /* 2 sqrt(2 / pi) */
    }
    default:
        return x;
    }
}

#endif
