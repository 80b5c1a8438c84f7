// bfloat, and half where the compiler has no type of that arithmetic.
#pragma once

#include "base.h"

namespace metal {
namespace sm {
// Round to nearest even for every bit pattern; NaNs become quiet.
constexpr SM_INLINE uint16_t float_to_bfloat_bits(float f) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, f);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
constexpr SM_INLINE float bfloat_bits_to_float(uint16_t h) {
    return __builtin_bit_cast(float, (uint32_t)h << 16);
}

constexpr SM_INLINE uint16_t float_to_half_bits(float f) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, f);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t a = bits & 0x7fffffffu;
    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | ((a >> 13) & 0x3ffu));
    if (a >= 0x477ff000u) // 65520, rounds to infinity
        return (uint16_t)(sign | 0x7c00u);
    if (a < 0x38800000u) { // below 2^-14: the ulp of [0.5, 1) is 2^-24, the smallest half
        const float shifted = __builtin_bit_cast(float, a) + 0.5f;
        return (uint16_t)(sign | (__builtin_bit_cast(uint32_t, shifted) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((a - (112u << 23) + 0xfffu + ((a >> 13) & 1u)) >> 13));
}
constexpr SM_INLINE float half_bits_to_float(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t m = (uint32_t)(h & 0x7fffu) << 13;
    if (m >= 31u << 23)
        return __builtin_bit_cast(float, sign | (m + (224u << 23)));
    if (m < 1u << 23) { // m 2^-24 is 2^-14 (1 + f) - 2^-14, exactly
        const float f = __builtin_bit_cast(float, m + (113u << 23)) - __builtin_bit_cast(float, 113u << 23);
        return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, f) | sign);
    }
    return __builtin_bit_cast(float, sign | (m + (112u << 23)));
}
} // namespace sm
} // namespace metal

// A 16-bit float: arithmetic in float, rounded after each operation. Conversion to float is the only implicit one out of
// it (a template, so that no standard conversion to int can follow: c ? bf : 0 is a bfloat).
#define SM_SMALL_FLOAT(NAME, TO_BITS, FROM_BITS, EXPLICIT_FROM_FLOAT)                                                          \
    struct NAME {                                                                                                              \
        uint16_t sm_bits;                                                                                                      \
        NAME() = default;                                                                                                      \
        constexpr EXPLICIT_FROM_FLOAT NAME(float f) : sm_bits(metal::sm::TO_BITS(f)) {}                                        \
        template <typename T, typename = std::enable_if_t<std::is_integral_v<T>>>                                              \
        constexpr NAME(T i) : sm_bits(metal::sm::TO_BITS((float)i)) {}                                                         \
        template <typename T, typename = std::enable_if_t<!std::is_integral_v<T>>, typename = void,                            \
                  typename = std::enable_if_t<metal::is_floating_point<T>::value || std::is_same_v<T, double>>>                \
        constexpr explicit NAME(T f) : sm_bits(metal::sm::TO_BITS((float)f)) {}                                                \
        template <typename T, typename = std::enable_if_t<std::is_same_v<T, float>>> constexpr operator T() const {            \
            return metal::sm::FROM_BITS(sm_bits);                                                                              \
        }                                                                                                                      \
        template <typename T, typename = std::enable_if_t<metal::is_arithmetic<T>::value && !std::is_same_v<T, float> &&       \
                                                          !std::is_same_v<T, NAME> && !std::is_same_v<T, bool>>,               \
                  typename = void>                                                                                             \
        constexpr explicit operator T() const {                                                                                \
            return (T)metal::sm::FROM_BITS(sm_bits);                                                                           \
        }                                                                                                                      \
        constexpr explicit operator bool() const {                                                                             \
            return metal::sm::FROM_BITS(sm_bits) != 0;                                                                         \
        }                                                                                                                      \
        constexpr NAME operator-() const {                                                                                     \
            NAME r{};                                                                                                          \
            r.sm_bits = (uint16_t)(sm_bits ^ 0x8000u);                                                                         \
            return r;                                                                                                          \
        }                                                                                                                      \
        constexpr NAME operator+() const {                                                                                     \
            return *this;                                                                                                      \
        }                                                                                                                      \
        constexpr NAME &operator++() {                                                                                         \
            return *this = NAME((float)*this + 1.0f);                                                                          \
        }                                                                                                                      \
        constexpr NAME &operator--() {                                                                                         \
            return *this = NAME((float)*this - 1.0f);                                                                          \
        }                                                                                                                      \
        constexpr NAME operator++(int) {                                                                                       \
            NAME old = *this;                                                                                                  \
            ++*this;                                                                                                           \
            return old;                                                                                                        \
        }                                                                                                                      \
        constexpr NAME operator--(int) {                                                                                       \
            NAME old = *this;                                                                                                  \
            --*this;                                                                                                           \
            return old;                                                                                                        \
        }                                                                                                                      \
    };

SM_SMALL_FLOAT(bfloat, float_to_bfloat_bits, bfloat_bits_to_float, explicit)
#if !SM_NATIVE_HALF
SM_SMALL_FLOAT(half, float_to_half_bits, half_bits_to_float, )
#endif

// With itself and integers the result is the small type, with float it is float (bfloat with half too).
#define SM_SMALL_OP(NAME, OP)                                                                                                  \
    constexpr SM_INLINE NAME operator OP(NAME a, NAME b) {                                                                     \
        return NAME((float)a OP(float) b);                                                                                     \
    }                                                                                                                          \
    constexpr SM_INLINE float operator OP(NAME a, float b) {                                                                   \
        return (float)a OP b;                                                                                                  \
    }                                                                                                                          \
    constexpr SM_INLINE float operator OP(float a, NAME b) {                                                                   \
        return a OP(float) b;                                                                                                  \
    }                                                                                                                          \
    template <typename I, std::enable_if_t<std::is_integral_v<I>, int> = 0>                                                    \
    constexpr SM_INLINE NAME operator OP(NAME a, I b) {                                                                        \
        return NAME((float)a OP(float) b);                                                                                     \
    }                                                                                                                          \
    template <typename I, std::enable_if_t<std::is_integral_v<I>, int> = 0>                                                    \
    constexpr SM_INLINE NAME operator OP(I a, NAME b) {                                                                        \
        return NAME((float)a OP(float) b);                                                                                     \
    }                                                                                                                          \
    template <typename T, typename = decltype((float)std::declval<T>())>                                                       \
    constexpr SM_INLINE NAME &operator OP##=(NAME &a, T b) {                                                                   \
        return a = NAME((float)a OP(float) b);                                                                                 \
    }
#define SM_SMALL_COMPARE(NAME, OP)                                                                                             \
    constexpr SM_INLINE bool operator OP(NAME a, NAME b) {                                                                     \
        return (float)a OP(float) b;                                                                                           \
    }                                                                                                                          \
    constexpr SM_INLINE bool operator OP(NAME a, float b) {                                                                    \
        return (float)a OP b;                                                                                                  \
    }                                                                                                                          \
    constexpr SM_INLINE bool operator OP(float a, NAME b) {                                                                    \
        return a OP(float) b;                                                                                                  \
    }                                                                                                                          \
    template <typename I, std::enable_if_t<std::is_integral_v<I>, int> = 0>                                                    \
    constexpr SM_INLINE bool operator OP(NAME a, I b) {                                                                        \
        return (float)a OP(float) b;                                                                                           \
    }                                                                                                                          \
    template <typename I, std::enable_if_t<std::is_integral_v<I>, int> = 0>                                                    \
    constexpr SM_INLINE bool operator OP(I a, NAME b) {                                                                        \
        return (float)a OP(float) b;                                                                                           \
    }
#define SM_SMALL_OPS(NAME)                                                                                                     \
    SM_SMALL_OP(NAME, +)                                                                                                       \
    SM_SMALL_OP(NAME, -)                                                                                                       \
    SM_SMALL_OP(NAME, *)                                                                                                       \
    SM_SMALL_OP(NAME, /)                                                                                                       \
    SM_SMALL_COMPARE(NAME, ==)                                                                                                 \
    SM_SMALL_COMPARE(NAME, !=)                                                                                                 \
    SM_SMALL_COMPARE(NAME, <)                                                                                                  \
    SM_SMALL_COMPARE(NAME, <=)                                                                                                 \
    SM_SMALL_COMPARE(NAME, >)                                                                                                  \
    SM_SMALL_COMPARE(NAME, >=)

SM_SMALL_OPS(bfloat)
#if !SM_NATIVE_HALF
SM_SMALL_OPS(half)
#endif

#define SM_MIXED_OP(TYPE, OP)                                                                                                  \
    constexpr SM_INLINE TYPE operator OP(bfloat a, half b) {                                                                   \
        return (float)a OP(float) b;                                                                                           \
    }                                                                                                                          \
    constexpr SM_INLINE TYPE operator OP(half a, bfloat b) {                                                                   \
        return (float)a OP(float) b;                                                                                           \
    }
SM_MIXED_OP(float, +)
SM_MIXED_OP(float, -)
SM_MIXED_OP(float, *)
SM_MIXED_OP(float, /)
SM_MIXED_OP(bool, ==)
SM_MIXED_OP(bool, !=)
SM_MIXED_OP(bool, <)
SM_MIXED_OP(bool, <=)
SM_MIXED_OP(bool, >)
SM_MIXED_OP(bool, >=)

// The value of a half literal: 0.1h is written (half)0.1, one rounding.
namespace metal {
namespace sm {
SM_INLINE constexpr half half_literal(double v) {
    return (half)v;
}
} // namespace sm
using ::bfloat;
using ::half;
using ::uchar;
using ::uint;
using ::ulong;
using ::ushort;
} // namespace metal
