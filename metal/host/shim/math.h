// <metal_math>, <metal_common>, <metal_relational>. Errors: what the C library gives (below 1 ulp in glibc), half and
// bfloat rounded once from the float result; metal::fast and metal::precise are the same functions. fma rounds once.
#pragma once

#include "each.h"

namespace metal {
namespace sm {
constexpr double pi = 3.14159265358979323846;

// sin, cos, tan of pi x: the argument is reduced exactly, to at most a half, before it is multiplied; so the zeros and poles
// are exact, as C23 has them.
SM_INLINE double half_turns(float x, bool &odd) {
    const double n = __builtin_rint((double)x);
    odd = 0.5 * n != __builtin_rint(0.5 * n);
    return (double)x - n;
}
SM_INLINE float sinpi_scalar(float x) {
    bool odd;
    const double r = half_turns(x, odd);
    if (r == 0)
        return x * 0.0f;
    const float s = (float)__builtin_sin(pi * r);
    return odd ? -s : s;
}
SM_INLINE float cospi_scalar(float x) {
    bool odd;
    const double r = half_turns(x, odd);
    if (r == 0.5 || r == -0.5)
        return 0.0f;
    const float c = (float)__builtin_cos(pi * r);
    return odd ? -c : c;
}
SM_INLINE float tanpi_scalar(float x) {
    bool odd;
    const double r = half_turns(x, odd);
    if (r == 0.5 || r == -0.5)
        return r > 0 ? __builtin_inff() : -__builtin_inff();
    if (r == 0)
        return odd ? x * -0.0f : x * 0.0f;
    return (float)__builtin_tan(pi * r);
}
SM_INLINE float pow_scalar(float x, float y) {
    return __builtin_powf(x, y);
}
SM_INLINE float fmax_scalar(float x, float y) {
    return __builtin_isnan(x) ? y : y > x ? y : x;
}
SM_INLINE float fmin_scalar(float x, float y) {
    return __builtin_isnan(x) ? y : y < x ? y : x;
}
template <typename T> SM_INLINE T middle(T x, T y, T z) {
    const T low = x < y ? x : y, high = x < y ? y : x;
    return z < low ? low : z > high ? high : z;
}
// Below 1 in the type of the result: a tiny negative x would round up to it.
SM_INLINE float fract_scalar(float x, float below_one) {
    const float f = x - __builtin_floorf(x);
    return f < below_one ? f : x != x ? x : below_one;
}
SM_INLINE float smooth(float low, float high, float x) {
    float t = (x - low) / (high - low);
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    return t * t * (3.0f - 2.0f * t);
}
} // namespace sm

SM_FLOAT1(acos, __builtin_acosf(x))
SM_FLOAT1(acosh, __builtin_acoshf(x))
SM_FLOAT1(asin, __builtin_asinf(x))
SM_FLOAT1(asinh, __builtin_asinhf(x))
SM_FLOAT1(atan, __builtin_atanf(x))
SM_FLOAT1(atanh, __builtin_atanhf(x))
SM_FLOAT1(ceil, __builtin_ceilf(x))
SM_FLOAT1(cos, __builtin_cosf(x))
SM_FLOAT1(cosh, __builtin_coshf(x))
SM_FLOAT1(cospi, sm::cospi_scalar(x))
SM_FLOAT1(exp, __builtin_expf(x))
SM_FLOAT1(exp2, __builtin_exp2f(x))
SM_FLOAT1(exp10, (float)__builtin_exp2((double)x * 3.32192809488736234787))
SM_FLOAT1(fabs, __builtin_fabsf(x))
SM_FLOAT1(floor, __builtin_floorf(x))
SM_FLOAT1(log, __builtin_logf(x))
SM_FLOAT1(log2, __builtin_log2f(x))
SM_FLOAT1(log10, __builtin_log10f(x))
SM_FLOAT1(rint, __builtin_rintf(x))
SM_FLOAT1(round, __builtin_roundf(x))
SM_FLOAT1(rsqrt, (float)(1.0 / __builtin_sqrt((double)x)))
SM_FLOAT1(sin, __builtin_sinf(x))
SM_FLOAT1(sinh, __builtin_sinhf(x))
SM_FLOAT1(sinpi, sm::sinpi_scalar(x))
SM_FLOAT1(sqrt, __builtin_sqrtf(x))
SM_FLOAT1(tan, __builtin_tanf(x))
SM_FLOAT1(tanh, __builtin_tanhf(x))
SM_FLOAT1(tanpi, sm::tanpi_scalar(x))
SM_FLOAT1(trunc, __builtin_truncf(x))
SM_FLOAT1(saturate, (x > 0.0f ? x < 1.0f ? x : 1.0f : 0.0f))
SM_FLOAT1(sign, (x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x == 0.0f ? x : 0.0f))

SM_FLOAT2(atan2, __builtin_atan2f(x, y))
SM_FLOAT2(copysign, __builtin_copysignf(x, y))
SM_FLOAT2(divide, x / y)
SM_FLOAT2(fdim, (x != x || y != y ? x + y : x > y ? x - y : 0.0f))
SM_FLOAT2(fmax, sm::fmax_scalar(x, y))
SM_FLOAT2(fmin, sm::fmin_scalar(x, y))
SM_FLOAT2(fmod, __builtin_fmodf(x, y))
SM_FLOAT2(pow, sm::pow_scalar(x, y))
SM_FLOAT2(powr, (x < 0.0f ? __builtin_nanf("") : sm::pow_scalar(x, y)))
SM_FLOAT2(step, (y < x ? 0.0f : 1.0f))
SM_FLOAT3(fmax3, sm::fmax_scalar(x, sm::fmax_scalar(y, z)))
SM_FLOAT3(fmin3, sm::fmin_scalar(x, sm::fmin_scalar(y, z)))
SM_FLOAT3(fmedian3, sm::middle(x, y, z))
SM_FLOAT3(smoothstep, sm::smooth(x, y, z))

SM_INLINE float fract(float x) {
    return sm::fract_scalar(x, 0x1.fffffep-1f);
}
SM_INLINE half fract(half x) {
    return (half)sm::fract_scalar((float)x, 0x1.ffcp-1f);
}
template <typename T> SM_INLINE sm::if_bfloat<T> fract(T x) {
    return T(sm::fract_scalar((float)x, 0x1.fep-1f));
}
SM_VECTOR1(fract)

// In double the product of two halves is exact, and its sum with a third is never rounded onto a tie of half.
SM_INLINE float fma(float x, float y, float z) {
    return __builtin_fmaf(x, y, z);
}
SM_INLINE half fma(half x, half y, half z) {
    return (half)((double)(float)x * (double)(float)y + (double)(float)z);
}
template <typename T> SM_INLINE sm::if_bfloat<T> fma(T x, sm::same_t<T> y, sm::same_t<T> z) {
    return T(__builtin_fmaf((float)x, (float)y, (float)z));
}
SM_VECTOR3(fma)

SM_INLINE float mix(float x, float y, float a) {
    return x + (y - x) * a;
}
SM_INLINE half mix(half x, half y, half a) {
    return (half)((float)x + ((float)y - (float)x) * (float)a);
}
template <typename T> SM_INLINE sm::if_bfloat<T> mix(T x, sm::same_t<T> y, sm::same_t<T> a) {
    return T((float)x + ((float)y - (float)x) * (float)a);
}
SM_VECTOR3(mix)

SM_INLINE float nextafter(float x, float y) {
    return __builtin_nextafterf(x, y);
}
SM_INLINE half nextafter(half x, half y) {
    if (x != x || y != y)
        return x + y;
    if (x == y)
        return y;
    ushort bits = as_type<ushort>(x);
    if (x == (half)0.0f)
        return as_type<half>((ushort)((as_type<ushort>(y) & 0x8000u) | 1u));
    bits = (ushort)(((float)y > (float)x) == ((float)x > 0) ? bits + 1 : bits - 1);
    return as_type<half>(bits);
}
SM_VECTOR2(nextafter)

// ---- minimum, maximum, clamping ----------------------------------------------------------------------------------------------

#define SM_MINMAX(T)                                                                                                           \
    SM_INLINE constexpr T max(T x, T y) {                                                                                      \
        return x < y ? y : x;                                                                                                  \
    }                                                                                                                          \
    SM_INLINE constexpr T min(T x, T y) {                                                                                      \
        return y < x ? y : x;                                                                                                  \
    }                                                                                                                          \
    SM_INLINE constexpr T max3(T x, T y, T z) {                                                                                \
        return max(x, max(y, z));                                                                                              \
    }                                                                                                                          \
    SM_INLINE constexpr T min3(T x, T y, T z) {                                                                                \
        return min(x, min(y, z));                                                                                              \
    }                                                                                                                          \
    SM_INLINE constexpr T median3(T x, T y, T z) {                                                                             \
        return max(min(x, y), min(max(x, y), z));                                                                              \
    }                                                                                                                          \
    SM_INLINE constexpr T clamp(T x, T low, T high) {                                                                          \
        return min(max(x, low), high);                                                                                         \
    }
SM_INTEGERS(SM_MINMAX)
SM_FLOAT2_SCALAR(max, sm::fmax_scalar(x, y))
SM_FLOAT2_SCALAR(min, sm::fmin_scalar(x, y))
SM_FLOAT3_SCALAR(max3, sm::fmax_scalar(x, sm::fmax_scalar(y, z)))
SM_FLOAT3_SCALAR(min3, sm::fmin_scalar(x, sm::fmin_scalar(y, z)))
SM_FLOAT3_SCALAR(median3, sm::middle(x, y, z))
SM_FLOAT3_SCALAR(clamp, sm::fmin_scalar(sm::fmax_scalar(x, y), z))
SM_VECTOR2(max)
SM_VECTOR2(min)
SM_VECTOR3(max3)
SM_VECTOR3(min3)
SM_VECTOR3(median3)
SM_VECTOR3(clamp)

#define SM_ABS(T)                                                                                                              \
    SM_INLINE constexpr T abs(T x) {                                                                                           \
        return x < (T)0 ? (T)-x : x;                                                                                           \
    }
SM_INTEGERS(SM_ABS)
SM_INLINE float abs(float x) {
    return __builtin_fabsf(x);
}
SM_INLINE half abs(half x) {
    return (half)__builtin_fabsf((float)x);
}
template <typename T> SM_INLINE sm::if_bfloat<T> abs(T x) {
    return T(__builtin_fabsf((float)x));
}
SM_VECTOR1(abs)

// ---- functions with a second result or an integer argument --------------------------------------------------------------------

namespace sm {
template <typename T> using if_float = enable_if_t<metal::is_floating_point<T>::value, int>;
} // namespace sm

template <typename T, sm::if_float<T> = 0> SM_INLINE T frexp(T x, int &exponent) {
    return (T)__builtin_frexpf((float)x, &exponent);
}
template <typename T, sm::if_float<T> = 0> SM_INLINE T ldexp(T x, int k) {
    return (T)__builtin_ldexpf((float)x, k);
}
template <typename T, sm::if_float<T> = 0> SM_INLINE int ilogb(T x) {
    return __builtin_ilogbf((float)x);
}
template <typename T, sm::if_float<T> = 0> SM_INLINE T modf(T x, T &whole) {
    float w;
    const float f = __builtin_modff((float)x, &w);
    whole = (T)w;
    return (T)f;
}
template <typename T, sm::if_float<T> = 0> SM_INLINE T sincos(T x, T &c) {
    const float v = (float)x;
    c = (T)__builtin_cosf(v);
    return (T)__builtin_sinf(v);
}
template <typename T, int N> SM_INLINE vec<T, N> frexp(vec<T, N> x, vec<int, N> &exponent) {
    for (int i = 0; i < N; i++)
        x[i] = frexp(x[i], exponent[i]);
    return x;
}
template <typename T, int N> SM_INLINE vec<T, N> ldexp(vec<T, N> x, sm::same_t<vec<int, N>> k) {
    for (int i = 0; i < N; i++)
        x[i] = ldexp(x[i], k[i]);
    return x;
}
template <typename T, int N> SM_INLINE vec<int, N> ilogb(vec<T, N> x) {
    vec<int, N> r;
    for (int i = 0; i < N; i++)
        r[i] = ilogb(x[i]);
    return r;
}
template <typename T, int N> SM_INLINE vec<T, N> modf(vec<T, N> x, vec<T, N> &whole) {
    for (int i = 0; i < N; i++)
        x[i] = modf(x[i], whole[i]);
    return x;
}
template <typename T, int N> SM_INLINE vec<T, N> sincos(vec<T, N> x, vec<T, N> &c) {
    for (int i = 0; i < N; i++)
        x[i] = sincos(x[i], c[i]);
    return x;
}

// ---- tests and selection ---------------------------------------------------------------------------------------------------------

SM_FLOAT_TEST1(isfinite, __builtin_isfinite(x) != 0)
SM_FLOAT_TEST1(isinf, __builtin_isinf(x) != 0)
SM_FLOAT_TEST1(isnan, __builtin_isnan(x) != 0)
SM_INLINE bool isnormal(float x) {
    return __builtin_isnormal(x) != 0;
}
SM_INLINE bool isnormal(half x) {
    const uint e = as_type<ushort>(x) & 0x7c00u;
    return e != 0 && e != 0x7c00u;
}
template <typename T, typename = sm::if_bfloat<T>> SM_INLINE bool isnormal(T x) {
    return __builtin_isnormal((float)x) != 0;
}
SM_VECTOR_TEST1(isnormal)
SM_FLOAT_TEST1(signbit, __builtin_signbit(x) != 0)

template <typename T, sm::if_float<T> = 0> SM_INLINE bool isordered(T x, sm::same_t<T> y) {
    return !(isnan(x) || isnan(y));
}
template <typename T, sm::if_float<T> = 0> SM_INLINE bool isunordered(T x, sm::same_t<T> y) {
    return isnan(x) || isnan(y);
}
template <typename T, int N> SM_INLINE vec<bool, N> isordered(vec<T, N> x, sm::same_t<vec<T, N>> y) {
    return !(isnan(x) || isnan(y));
}
template <typename T, int N> SM_INLINE vec<bool, N> isunordered(vec<T, N> x, sm::same_t<vec<T, N>> y) {
    return isnan(x) || isnan(y);
}

SM_INLINE bool all(bool x) {
    return x;
}
SM_INLINE bool any(bool x) {
    return x;
}
template <int N> SM_INLINE bool all(vec<bool, N> v) {
    bool r = true;
    for (int i = 0; i < N; i++)
        r = r && v.sm_data[i];
    return r;
}
template <int N> SM_INLINE bool any(vec<bool, N> v) {
    bool r = false;
    for (int i = 0; i < N; i++)
        r = r || v.sm_data[i];
    return r;
}

// c ? b : a, by component where c is a vector.
template <typename T, SM_IF(sm::is_number_v<T>)> SM_INLINE T select(T a, T b, bool c) {
    return c ? b : a;
}
template <typename A, typename B, typename V = sm::operands<A, B>>
SM_INLINE V select(const A &a, const B &b, sm::same_t<sm::truth<V>> c) {
    const V x = a, y = b;
    V r;
    for (int i = 0; i < sm::vector_traits<V>::size; i++)
        r.sm_data[i] = c.sm_data[i] ? y.sm_data[i] : x.sm_data[i];
    return r;
}
} // namespace metal
