// What Apple's own headers build on and some libraries call (after '#pragma METAL internals : enable'): the functions of
// <metal_math> with a last argument that says which form, and those of lanes.
#pragma once

#include "names.h"

#define __METAL_PRECISE_MATH__ 0
#define __METAL_FAST_MATH__ 1
#define __METAL_MAYBE_FAST_MATH__ 2

#define SM_INTERNAL1(NAME)                                                                                                     \
    template <typename T> SM_INLINE T __metal_##NAME(T x, int) {                                                               \
        return metal::NAME(x);                                                                                                 \
    }
#define SM_INTERNAL2(NAME)                                                                                                     \
    template <typename T, typename U> SM_INLINE T __metal_##NAME(T x, U y, int) {                                              \
        return metal::NAME(x, y);                                                                                              \
    }
#define SM_INTERNAL3(NAME)                                                                                                     \
    template <typename T> SM_INLINE T __metal_##NAME(T x, T y, T z, int) {                                                     \
        return metal::NAME(x, y, z);                                                                                           \
    }
#define SM_INTERNAL_TEST(NAME)                                                                                                 \
    template <typename T> SM_INLINE auto __metal_##NAME(T x, int) {                                                            \
        return metal::NAME(x);                                                                                                 \
    }
#define SM_EACH_INTERNAL1(DO)                                                                                                  \
    DO(acos) DO(acosh) DO(asin) DO(asinh) DO(atan) DO(atanh) DO(ceil) DO(cos) DO(cosh) DO(cospi) DO(exp) DO(exp10) DO(exp2)    \
    DO(fabs) DO(floor) DO(fract) DO(log) DO(log10) DO(log2) DO(rint) DO(round) DO(rsqrt) DO(saturate) DO(sign) DO(sin)         \
    DO(sinh) DO(sinpi) DO(sqrt) DO(tan) DO(tanh) DO(tanpi) DO(trunc)
SM_EACH_INTERNAL1(SM_INTERNAL1)
SM_INTERNAL2(atan2)
SM_INTERNAL2(copysign)
SM_INTERNAL2(divide)
SM_INTERNAL2(fdim)
SM_INTERNAL2(fmax)
SM_INTERNAL2(fmin)
SM_INTERNAL2(fmod)
SM_INTERNAL2(ldexp)
SM_INTERNAL2(pow)
SM_INTERNAL2(powr)
SM_INTERNAL3(clamp)
SM_INTERNAL3(fmax3)
SM_INTERNAL3(fmedian3)
SM_INTERNAL3(fmin3)
SM_INTERNAL_TEST(ilogb)
SM_INTERNAL_TEST(isfinite)
SM_INTERNAL_TEST(isinf)
SM_INTERNAL_TEST(isnan)
SM_INTERNAL_TEST(isnormal)
template <typename T> SM_INLINE T __metal_fma(T x, T y, T z) {
    return metal::fma(x, y, z);
}
template <typename T> SM_INLINE T __metal_nextafter(T x, T y) {
    return metal::nextafter(x, y);
}
template <typename T, typename K, typename... Mode> SM_INLINE T __metal_frexp(T x, K *exponent, Mode...) {
    return metal::frexp(x, *exponent);
}
template <typename T, typename K, typename... Mode> SM_INLINE T __metal_modf(T x, K *whole, Mode...) {
    return metal::modf(x, *whole);
}

#define SM_INTERNAL_LANES(NAME)                                                                                                \
    template <typename T> SM_INLINE T __metal_##NAME(T data, SM_AT) {                                                          \
        return metal::NAME(data, sm_file, sm_line);                                                                            \
    }
#define SM_INTERNAL_SHUFFLE(NAME)                                                                                              \
    template <typename T> SM_INLINE T __metal_##NAME(T data, ushort lane, SM_AT) {                                             \
        return metal::NAME(data, lane, sm_file, sm_line);                                                                      \
    }
#define SM_INTERNAL_FILL(NAME)                                                                                                 \
    template <typename T> SM_INLINE T __metal_##NAME(T data, T filling, ushort delta, ushort modulo, SM_AT) {                  \
        return metal::NAME(data, filling, delta, modulo, sm_file, sm_line);                                                    \
    }
#define SM_EACH_INTERNAL_LANES(P)                                                                                              \
    SM_INTERNAL_LANES(P##_sum)                                                                                                 \
    SM_INTERNAL_LANES(P##_product)                                                                                             \
    SM_INTERNAL_LANES(P##_min)                                                                                                 \
    SM_INTERNAL_LANES(P##_max)                                                                                                 \
    SM_INTERNAL_LANES(P##_and)                                                                                                 \
    SM_INTERNAL_LANES(P##_or)                                                                                                  \
    SM_INTERNAL_LANES(P##_prefix_inclusive_sum)                                                                                \
    SM_INTERNAL_LANES(P##_prefix_exclusive_sum)                                                                                \
    SM_INTERNAL_LANES(P##_prefix_inclusive_product)                                                                            \
    SM_INTERNAL_LANES(P##_prefix_exclusive_product)                                                                            \
    SM_INTERNAL_LANES(P##_broadcast_first)                                                                                     \
    SM_INTERNAL_SHUFFLE(P##_broadcast)                                                                                         \
    SM_INTERNAL_SHUFFLE(P##_shuffle)                                                                                           \
    SM_INTERNAL_SHUFFLE(P##_shuffle_down)                                                                                      \
    SM_INTERNAL_SHUFFLE(P##_shuffle_rotate_down)                                                                               \
    SM_INTERNAL_SHUFFLE(P##_shuffle_rotate_up)                                                                                 \
    SM_INTERNAL_SHUFFLE(P##_shuffle_up)                                                                                        \
    SM_INTERNAL_SHUFFLE(P##_shuffle_xor)                                                                                       \
    SM_INTERNAL_FILL(P##_shuffle_and_fill_down)                                                                                \
    SM_INTERNAL_FILL(P##_shuffle_and_fill_up)
SM_EACH_INTERNAL_LANES(simd)
SM_EACH_INTERNAL_LANES(quad)
// The operation is Metal's for integers; headers instantiate it for bfloat by way of float without ever calling it.
template <typename T> SM_INLINE T __metal_simd_xor(T data, SM_AT) {
    if constexpr (metal::is_integral_v<metal::sm::element_t<T>>)
        return metal::simd_xor(data, sm_file, sm_line);
    else
        return data;
}

template <typename T> SM_INLINE T __metal_get_simdgroup_size(T) {
    return SM_SIMD_WIDTH;
}
template <typename T> SM_INLINE T __metal_get_thread_index_in_simdgroup(T) {
    return (T)metal::sm::self()->index_in_simdgroup;
}
