// <metal_limits>, <metal_array>, <metal_pack>, and the types that are declared but not modelled.
#pragma once

#include "math.h"

namespace metal {

template <typename T> struct numeric_limits {
    static constexpr bool is_specialized = is_integral_v<T>, is_signed = !is_unsigned_v<T>, is_integer = true;
    static constexpr bool is_exact = true, is_bounded = true, has_infinity = false, has_quiet_NaN = false;
    static constexpr int radix = 2, digits = 8 * (int)sizeof(T) - (is_signed ? 1 : 0), digits10 = digits * 30103 / 100000;
    static constexpr T min() {
        return is_signed ? (T)((T)1 << digits) : (T)0;
    }
    static constexpr T lowest() {
        return min();
    }
    static constexpr T max() {
        return (T)~min();
    }
    static constexpr T epsilon() {
        return 0;
    }
    static constexpr T infinity() {
        return 0;
    }
};
template <> struct numeric_limits<bool> {
    static constexpr bool is_specialized = true, is_signed = false, is_integer = true, is_exact = true;
    static constexpr bool is_bounded = true, has_infinity = false, has_quiet_NaN = false;
    static constexpr int radix = 2, digits = 1, digits10 = 0;
    static constexpr bool min() {
        return false;
    }
    static constexpr bool lowest() {
        return false;
    }
    static constexpr bool max() {
        return true;
    }
};
#define SM_FLOAT_LIMITS(T, BITS, DIGITS, DIGITS10, MIN_EXPONENT, MAX_EXPONENT, LOWEST, MIN, MAX, EPSILON, INFINITE, QUIET, TINY) \
    template <> struct numeric_limits<T> {                                                                                     \
        static constexpr bool is_specialized = true, is_signed = true, is_integer = false, is_exact = false;                   \
        static constexpr bool is_bounded = true, has_infinity = true, has_quiet_NaN = true, has_signaling_NaN = true;          \
        static constexpr int radix = 2, digits = DIGITS, digits10 = DIGITS10;                                                  \
        static constexpr int min_exponent = MIN_EXPONENT, max_exponent = MAX_EXPONENT;                                         \
        static constexpr T min() {                                                                                             \
            return __builtin_bit_cast(T, (BITS)MIN);                                                                           \
        }                                                                                                                      \
        static constexpr T lowest() {                                                                                          \
            return __builtin_bit_cast(T, (BITS)LOWEST);                                                                        \
        }                                                                                                                      \
        static constexpr T max() {                                                                                             \
            return __builtin_bit_cast(T, (BITS)MAX);                                                                           \
        }                                                                                                                      \
        static constexpr T epsilon() {                                                                                         \
            return __builtin_bit_cast(T, (BITS)EPSILON);                                                                       \
        }                                                                                                                      \
        static constexpr T round_error() {                                                                                     \
            return (T)0.5f;                                                                                                    \
        }                                                                                                                      \
        static constexpr T infinity() {                                                                                        \
            return __builtin_bit_cast(T, (BITS)INFINITE);                                                                      \
        }                                                                                                                      \
        static constexpr T quiet_NaN() {                                                                                       \
            return __builtin_bit_cast(T, (BITS)QUIET);                                                                         \
        }                                                                                                                      \
        static constexpr T signaling_NaN() {                                                                                   \
            return __builtin_bit_cast(T, (BITS)(QUIET ^ (QUIET & ~INFINITE) ^ 1));                                             \
        }                                                                                                                      \
        static constexpr T denorm_min() {                                                                                      \
            return __builtin_bit_cast(T, (BITS)TINY);                                                                          \
        }                                                                                                                      \
    };
SM_FLOAT_LIMITS(float, uint, 24, 6, -125, 128, 0xff7fffff, 0x00800000, 0x7f7fffff, 0x34000000, 0x7f800000, 0x7fc00000, 1)
SM_FLOAT_LIMITS(half, ushort, 11, 3, -13, 16, 0xfbff, 0x0400, 0x7bff, 0x1400, 0x7c00, 0x7e00, 1)
SM_FLOAT_LIMITS(bfloat, ushort, 8, 2, -125, 128, 0xff7f, 0x0080, 0x7f7f, 0x3c00, 0x7f80, 0x7fc0, 1)

template <typename T, size_t N> struct array {
    typedef T value_type;
    T sm_elements[N ? N : 1];

    constexpr T &operator[](size_t i) {
        return sm_elements[i];
    }
    constexpr const T &operator[](size_t i) const {
        return sm_elements[i];
    }
    constexpr T &front() {
        return sm_elements[0];
    }
    constexpr const T &front() const {
        return sm_elements[0];
    }
    constexpr T &back() {
        return sm_elements[N - 1];
    }
    constexpr const T &back() const {
        return sm_elements[N - 1];
    }
    constexpr T *data() {
        return sm_elements;
    }
    constexpr const T *data() const {
        return sm_elements;
    }
    constexpr T *begin() {
        return sm_elements;
    }
    constexpr const T *begin() const {
        return sm_elements;
    }
    constexpr T *end() {
        return sm_elements + N;
    }
    constexpr const T *end() const {
        return sm_elements + N;
    }
    constexpr size_t size() const {
        return N;
    }
    constexpr bool empty() const {
        return N == 0;
    }
    constexpr void fill(const T &v) {
        for (size_t i = 0; i < N; i++)
            sm_elements[i] = v;
    }
};

// ---- packing: conversion to fixed point rounds to nearest even ------------------------------------------------------------------

namespace sm {
SM_INLINE uint to_unorm(float x, float scale) {
    x = x > 0.0f ? x < 1.0f ? x : 1.0f : 0.0f;
    return (uint)__builtin_rintf(x * scale);
}
SM_INLINE int to_snorm(float x, float scale) {
    x = x != x ? 0.0f : x < -1.0f ? -1.0f : x > 1.0f ? 1.0f : x;
    return (int)__builtin_rintf(x * scale);
}
SM_INLINE float from_snorm(int x, float scale) {
    const float f = (float)x / scale;
    return f < -1.0f ? -1.0f : f;
}
SM_INLINE float to_srgb(float x) {
    x = x > 0.0f ? x < 1.0f ? x : 1.0f : 0.0f;
    return x <= 0.0031308f ? 12.92f * x : 1.055f * __builtin_powf(x, 1.0f / 2.4f) - 0.055f;
}
SM_INLINE float from_srgb(float x) {
    return x <= 0.04045f ? x / 12.92f : __builtin_powf((x + 0.055f) / 1.055f, 2.4f);
}
} // namespace sm

#define SM_PACK(NAME, T)                                                                                                       \
    SM_INLINE uint pack_##NAME##_to_unorm4x8(vec<T, 4> v) {                                                                    \
        uint r = 0;                                                                                                            \
        for (int i = 0; i < 4; i++)                                                                                            \
            r |= sm::to_unorm((float)v[i], 255.0f) << (8 * i);                                                                 \
        return r;                                                                                                              \
    }                                                                                                                          \
    SM_INLINE uint pack_##NAME##_to_snorm4x8(vec<T, 4> v) {                                                                    \
        uint r = 0;                                                                                                            \
        for (int i = 0; i < 4; i++)                                                                                            \
            r |= ((uint)sm::to_snorm((float)v[i], 127.0f) & 255u) << (8 * i);                                                  \
        return r;                                                                                                              \
    }                                                                                                                          \
    SM_INLINE uint pack_##NAME##_to_unorm2x16(vec<T, 2> v) {                                                                   \
        return sm::to_unorm((float)v[0], 65535.0f) | sm::to_unorm((float)v[1], 65535.0f) << 16;                                \
    }                                                                                                                          \
    SM_INLINE uint pack_##NAME##_to_snorm2x16(vec<T, 2> v) {                                                                   \
        return ((uint)sm::to_snorm((float)v[0], 32767.0f) & 65535u) | (uint)sm::to_snorm((float)v[1], 32767.0f) << 16;         \
    }                                                                                                                          \
    SM_INLINE uint pack_##NAME##_to_srgb_unorm4x8(vec<T, 4> v) {                                                               \
        uint r = sm::to_unorm((float)v[3], 255.0f) << 24;                                                                      \
        for (int i = 0; i < 3; i++)                                                                                            \
            r |= sm::to_unorm(sm::to_srgb((float)v[i]), 255.0f) << (8 * i);                                                    \
        return r;                                                                                                              \
    }                                                                                                                          \
    SM_INLINE uint pack_##NAME##_to_unorm10a2(vec<T, 4> v) {                                                                   \
        return sm::to_unorm((float)v[0], 1023.0f) | sm::to_unorm((float)v[1], 1023.0f) << 10 |                                 \
               sm::to_unorm((float)v[2], 1023.0f) << 20 | sm::to_unorm((float)v[3], 3.0f) << 30;                               \
    }                                                                                                                          \
    SM_INLINE ushort pack_##NAME##_to_unorm565(vec<T, 3> v) {                                                                  \
        return (ushort)(sm::to_unorm((float)v[0], 31.0f) << 11 | sm::to_unorm((float)v[1], 63.0f) << 5 |                       \
                        sm::to_unorm((float)v[2], 31.0f));                                                                     \
    }                                                                                                                          \
    SM_INLINE vec<T, 4> unpack_unorm4x8_to_##NAME(uint x) {                                                                    \
        vec<T, 4> r;                                                                                                           \
        for (int i = 0; i < 4; i++)                                                                                            \
            r[i] = (T)((float)((x >> (8 * i)) & 255u) / 255.0f);                                                               \
        return r;                                                                                                              \
    }                                                                                                                          \
    SM_INLINE vec<T, 4> unpack_snorm4x8_to_##NAME(uint x) {                                                                    \
        vec<T, 4> r;                                                                                                           \
        for (int i = 0; i < 4; i++)                                                                                            \
            r[i] = (T)sm::from_snorm((signed char)(x >> (8 * i)), 127.0f);                                                     \
        return r;                                                                                                              \
    }                                                                                                                          \
    SM_INLINE vec<T, 2> unpack_unorm2x16_to_##NAME(uint x) {                                                                   \
        return vec<T, 2>((T)((float)(x & 65535u) / 65535.0f), (T)((float)(x >> 16) / 65535.0f));                               \
    }                                                                                                                          \
    SM_INLINE vec<T, 2> unpack_snorm2x16_to_##NAME(uint x) {                                                                   \
        return vec<T, 2>((T)sm::from_snorm((short)x, 32767.0f), (T)sm::from_snorm((short)(x >> 16), 32767.0f));                \
    }                                                                                                                          \
    SM_INLINE vec<T, 4> unpack_srgb_unorm4x8_to_##NAME(uint x) {                                                               \
        vec<T, 4> r;                                                                                                           \
        for (int i = 0; i < 3; i++)                                                                                            \
            r[i] = (T)sm::from_srgb((float)((x >> (8 * i)) & 255u) / 255.0f);                                                  \
        r[3] = (T)((float)(x >> 24) / 255.0f);                                                                                 \
        return r;                                                                                                              \
    }                                                                                                                          \
    SM_INLINE vec<T, 4> unpack_unorm10a2_to_##NAME(uint x) {                                                                   \
        return vec<T, 4>((T)((float)(x & 1023u) / 1023.0f), (T)((float)((x >> 10) & 1023u) / 1023.0f),                         \
                         (T)((float)((x >> 20) & 1023u) / 1023.0f), (T)((float)(x >> 30) / 3.0f));                             \
    }                                                                                                                          \
    SM_INLINE vec<T, 3> unpack_unorm565_to_##NAME(ushort x) {                                                                  \
        return vec<T, 3>((T)((float)(x >> 11) / 31.0f), (T)((float)((x >> 5) & 63u) / 63.0f), (T)((float)(x & 31u) / 31.0f));  \
    }
SM_PACK(float, float)
SM_PACK(half, half)

// ---- not modelled ------------------------------------------------------------------------------------------------------------------

enum class access { sample, read, write, read_write };
enum class coord { normalized, pixel };
enum class filter { nearest, linear };
enum class min_filter { nearest, linear };
enum class mag_filter { nearest, linear };
enum class mip_filter { none, nearest, linear };
enum class address { clamp_to_zero, clamp_to_edge, repeat, mirrored_repeat, clamp_to_border };
enum class compare_func { never, less, less_equal, greater, greater_equal, equal, not_equal, always };
enum class component { x, y, z, w };

struct sampler {
    template <typename... A> constexpr sampler(A...) {}
};

namespace sm {
template <typename...> constexpr bool never = false;
}
#define SM_NO_TEXTURE(METHOD)                                                                                                  \
    template <typename... P> vec<T, 4> METHOD(P...) const {                                                                    \
        static_assert(sm::never<P...>, "textures are not modelled by the software Metal");                                     \
        return vec<T, 4>();                                                                                                    \
    }
#define SM_NO_SIZE(METHOD)                                                                                                     \
    template <typename... P> uint METHOD(P...) const {                                                                         \
        static_assert(sm::never<P...>, "textures are not modelled by the software Metal");                                     \
        return 0;                                                                                                              \
    }
#define SM_TEXTURE(NAME)                                                                                                       \
    template <typename T, access A = access::sample> struct NAME {                                                             \
        SM_NO_TEXTURE(read)                                                                                                    \
        SM_NO_TEXTURE(write)                                                                                                   \
        SM_NO_TEXTURE(sample)                                                                                                  \
        SM_NO_TEXTURE(gather)                                                                                                  \
        SM_NO_TEXTURE(fence)                                                                                                   \
        SM_NO_SIZE(get_width)                                                                                                  \
        SM_NO_SIZE(get_height)                                                                                                 \
        SM_NO_SIZE(get_depth)                                                                                                  \
        SM_NO_SIZE(get_array_size)                                                                                             \
        SM_NO_SIZE(get_num_mip_levels)                                                                                         \
        SM_NO_SIZE(get_num_samples)                                                                                            \
    };
SM_TEXTURE(texture1d)
SM_TEXTURE(texture1d_array)
SM_TEXTURE(texture2d)
SM_TEXTURE(texture2d_array)
SM_TEXTURE(texture2d_ms)
SM_TEXTURE(texture3d)
SM_TEXTURE(texturecube)
SM_TEXTURE(texturecube_array)
SM_TEXTURE(texture_buffer)
SM_TEXTURE(depth2d)
SM_TEXTURE(depth2d_array)
SM_TEXTURE(depthcube)

// <metal_uniform>: a promise to the compiler, which makes no difference here.
template <typename T> using uniform = T;
template <typename T> constexpr SM_INLINE T make_uniform(T x) {
    return x;
}

// <metal_logging>: messages go nowhere, as where nobody has attached a log.
enum os_log_type { os_log_type_debug, os_log_type_info, os_log_type_default, os_log_type_error, os_log_type_fault };
struct os_log {
    constexpr os_log(const char *, const char *) {}
    template <typename... A> void log(const char *, A...) const {}
    template <typename... A> void log_debug(const char *, A...) const {}
    template <typename... A> void log_info(const char *, A...) const {}
    template <typename... A> void log_error(const char *, A...) const {}
    template <typename... A> void log_fault(const char *, A...) const {}
    template <typename... A> void log_with_type(os_log_type, const char *, A...) const {}
};
constexpr os_log os_log_default("", "");
} // namespace metal
