// <metal_integer>: every function for every integer type and its vectors.
#pragma once

#include "each.h"

namespace metal {
namespace sm {
template <typename T> using if_integral = enable_if_t<is_integral_v<T> && !is_same_v<T, bool>, T>;
template <typename T> constexpr int bits_v = 8 * (int)sizeof(T);
template <typename T> constexpr T lowest_v = is_unsigned_v<T> ? (T)0 : (T)((T)1 << (bits_v<T> - 1));
template <typename T> constexpr T highest_v = (T)~lowest_v<T>;
template <typename T> using wide_t = conditional_t<is_unsigned_v<T>, unsigned __int128, __int128>;

template <typename T> SM_INLINE T clip(__int128 v) {
    return v < (__int128)lowest_v<T> ? lowest_v<T> : v > (__int128)highest_v<T> ? highest_v<T> : (T)v;
}
// The product of two ulongs is beyond __int128, that of two longs is not.
template <typename T> SM_INLINE T multiply_add_clip(T x, T y, T z) {
    const wide_t<T> v = (wide_t<T>)x * (wide_t<T>)y;
    if constexpr (is_unsigned_v<T>)
        return v > (wide_t<T>)(T)~(T)0 - z ? (T)~(T)0 : (T)(v + z);
    else
        return clip<T>(v + z);
}
} // namespace sm

#define SM_INT1(NAME, EXPR)                                                                                                    \
    template <typename T> SM_INLINE sm::if_integral<T> NAME(T x) {                                                             \
        typedef make_unsigned_t<T> U;                                                                                          \
        (void)sizeof(U);                                                                                                       \
        return (T)(EXPR);                                                                                                      \
    }                                                                                                                          \
    SM_VECTOR1(NAME)
#define SM_INT2(NAME, EXPR)                                                                                                    \
    template <typename T> SM_INLINE sm::if_integral<T> NAME(T x, T y) {                                                        \
        return (T)(EXPR);                                                                                                      \
    }                                                                                                                          \
    SM_VECTOR2(NAME)
#define SM_INT3(NAME, EXPR)                                                                                                    \
    template <typename T> SM_INLINE sm::if_integral<T> NAME(T x, T y, T z) {                                                   \
        return (T)(EXPR);                                                                                                      \
    }                                                                                                                          \
    SM_VECTOR3(NAME)

SM_INT1(clz, (U)x == 0 ? sm::bits_v<T> : __builtin_clzll((unsigned long long)(U)x) - (64 - sm::bits_v<T>))
SM_INT1(ctz, (U)x == 0 ? sm::bits_v<T> : __builtin_ctzll((unsigned long long)(U)x))
SM_INT1(popcount, __builtin_popcountll((unsigned long long)(U)x))

template <typename T> SM_INLINE sm::if_integral<T> reverse_bits(T x) {
    make_unsigned_t<T> from = (make_unsigned_t<T>)x, to = 0;
    for (int i = 0; i < sm::bits_v<T>; i++) {
        to = (make_unsigned_t<T>)((to << 1) | (from & 1u));
        from = (make_unsigned_t<T>)(from >> 1);
    }
    return (T)to;
}
SM_VECTOR1(reverse_bits)

SM_INT2(addsat, sm::clip<T>((__int128)x + (__int128)y))
SM_INT2(subsat, sm::clip<T>((__int128)x - (__int128)y))
SM_INT2(hadd, ((__int128)x + (__int128)y) >> 1)
SM_INT2(rhadd, ((__int128)x + (__int128)y + 1) >> 1)
SM_INT2(mulhi, (sm::wide_t<T>)x * (sm::wide_t<T>)y >> sm::bits_v<T>)
SM_INT2(mul24, (T)((make_unsigned_t<T>)x * (make_unsigned_t<T>)y))
SM_INT2(rotate, ((make_unsigned_t<T>)x << (y & (sm::bits_v<T> - 1))) |
                    ((make_unsigned_t<T>)x >> ((sm::bits_v<T> - y) & (sm::bits_v<T> - 1))))
SM_INT3(madhi, (T)((sm::wide_t<T>)x * (sm::wide_t<T>)y >> sm::bits_v<T>) + (sm::wide_t<T>)z)
SM_INT3(madsat, sm::multiply_add_clip(x, y, z))
SM_INT3(mad24, (T)((make_unsigned_t<T>)x * (make_unsigned_t<T>)y + (make_unsigned_t<T>)z))

// The distance fits the unsigned type of the same size, which is what comes back.
template <typename T, typename = sm::if_integral<T>> SM_INLINE make_unsigned_t<T> absdiff(T x, T y) {
    typedef make_unsigned_t<T> U;
    return x > y ? (U)((U)x - (U)y) : (U)((U)y - (U)x);
}
template <typename T, int N> SM_INLINE vec<make_unsigned_t<T>, N> absdiff(vec<T, N> x, vec<T, N> y) {
    vec<make_unsigned_t<T>, N> r;
    for (int i = 0; i < N; i++)
        r[i] = absdiff(x[i], y[i]);
    return r;
}

template <typename T> SM_INLINE sm::if_integral<T> extract_bits(T x, uint offset, uint bits) {
    if (bits == 0)
        return 0;
    const uint above = sm::bits_v<T> - offset - bits;
    return (T)((T)((make_unsigned_t<T>)x << above) >> (above + offset));
}
template <typename T> SM_INLINE sm::if_integral<T> insert_bits(T base, T insert, uint offset, uint bits) {
    typedef make_unsigned_t<T> U;
    if (bits == 0)
        return base;
    const U mask = (U)((U)((U)~(U)0 >> (sm::bits_v<T> - bits)) << offset);
    return (T)(((U)base & (U)~mask) | ((U)((U)insert << offset) & mask));
}
template <typename T, int N> SM_INLINE vec<T, N> extract_bits(vec<T, N> x, uint offset, uint bits) {
    for (int i = 0; i < N; i++)
        x[i] = extract_bits(x[i], offset, bits);
    return x;
}
template <typename T, int N>
SM_INLINE vec<T, N> insert_bits(vec<T, N> base, vec<T, N> insert, uint offset, uint bits) {
    for (int i = 0; i < N; i++)
        base[i] = insert_bits(base[i], insert[i], offset, bits);
    return base;
}
} // namespace metal
