// Activations of the matmul epilogue. Each form is chosen such that large negative x gives -0 instead of a difference
// of nearly equal numbers; a NaN stays one.
#ifndef ML_METAL_ACTIVATION_H
#define ML_METAL_ACTIVATION_H

#include "common/types.h"

// x times the logistic function of z; -0 for x = -inf, where it would be -inf * 0.
inline float times_logistic(float x, float z) {
    return x == -INFINITY ? -0.0f : x / (1.0f + precise::exp(-z));
}

// x Phi(x). With y = |x|, Phi(-y) = exp(-y^2/2) t P(t), t = 1 / (1 + 0.35 y): P is a least-squares fit, reweighted
// towards equal relative errors (3.2e-8), over 0 <= y <= 14.5; beyond, the tail is below what float holds. Nothing
// cancels, so the negative tail keeps its relative precision.
inline float gelu(float x) {
    if (isnan(x))
        return x;
    const float y = min(fabs(x), 14.5f);
    const float t = 1.0f / fma(0.35f, y, 1.0f);
    float p = -2.915802991e-02f;
    p = fma(p, t, 1.440316091e-01f);
    p = fma(p, t, -2.558403993e-01f);
    p = fma(p, t, 1.593212497e-01f);
    p = fma(p, t, -2.321339142e-02f);
    p = fma(p, t, 1.055529258e-01f);
    p = fma(p, t, 1.198211850e-01f);
    p = fma(p, t, 1.398635289e-01f);
    p = fma(p, t, 1.396213061e-01f);
    const float square = y * y;
    const float rest = fma(y, y, -square); // what the square lost: e^-(s + d)/2 = e^-s/2 (1 - d/2)
    const float tail = precise::exp(-0.5f * square) * fma(-0.5f, rest, 1.0f);
    return max(x, 0.0f) - (y * t) * (p * tail);
}

inline float activate(float x, int kind) {
    if (kind == ML_GPU_ACT_RELU)
        return x < 0.0f ? 0.0f : x;
    if (kind == ML_GPU_ACT_SILU)
        return times_logistic(x, x);
    if (kind == ML_GPU_ACT_GELU)
        return gelu(x);
    if (kind == ML_GPU_ACT_GELU_TANH) // (1 + tanh(u)) / 2 is the logistic function of 2u; 2 sqrt(2 / pi)
        return times_logistic(x, 1.5957691216f * x * fma(x * x, 0.044715f, 1.0f));
    return x;
}

#endif
