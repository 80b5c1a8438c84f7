/* The functions of vmath.h over arrays, for operations that have no kernel of their own to inline them into, and for
 * the tests. One table per tier: vmath_<tier>.c. */
#ifndef ML_CPU_VMATH_IMPL_H
#define ML_CPU_VMATH_IMPL_H

#include <stdint.h>

/* Largest error of each function in units in the last place. */
#define ML_VMATH_ULP_EXP2 1.25
#define ML_VMATH_ULP_EXP2_LOW 2.0 /* for magnitudes below ML_VMATH_EXP2_LOW_LIMIT */
#define ML_VMATH_EXP2_LOW_LIMIT 126.0
#define ML_VMATH_ULP_EXP 1.25
#define ML_VMATH_ULP_LOG 1.0
#define ML_VMATH_ULP_TANH 2.75
#define ML_VMATH_ULP_ERF 1.5
#define ML_VMATH_ULP_SIN 1.75 /* of turns */
#define ML_VMATH_ULP_COS 1.75

/* dst[i] = f(src[i]), i < n; dst may be src. */
typedef void (*ml_vmath_fn)(float *dst, const float *src, int64_t n);

typedef struct ml_vmath_impl {
    ml_vmath_fn exp2, exp2_low, exp, log, tanh, erf;
    ml_vmath_fn sin_turns, cos_turns; /* |x| < 2^20 */
} ml_vmath_impl;

extern const ml_vmath_impl ml_vmath_scalar;
#if defined(__x86_64__)
extern const ml_vmath_impl ml_vmath_avx2, ml_vmath_avx512;
#elif defined(__aarch64__)
extern const ml_vmath_impl ml_vmath_neon;
#endif

#endif
