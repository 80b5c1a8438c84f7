// How a scalar function is spread over scalar types and over vectors.
//
// Scalars are plain overloads, one per type, so that mixed arguments are as ambiguous as they are in Metal. bfloat is a
// template so that an overload of the user's own wins over it. Any argument that is a vector makes the result a vector;
// scalars beside it are spread.
#pragma once

#include "vec.h"

#define SM_IF(...) enable_if_t<(__VA_ARGS__), int> = 0
#define SM_INTEGERS(DO)                                                                                                        \
    DO(char)                                                                                                                   \
    DO(uchar)                                                                                                                  \
    DO(short)                                                                                                                  \
    DO(ushort)                                                                                                                 \
    DO(int)                                                                                                                    \
    DO(uint)                                                                                                                   \
    DO(long)                                                                                                                   \
    DO(ulong)

namespace metal {
namespace sm {
template <typename T> using if_bfloat = enable_if_t<is_same_v<T, bfloat>, T>;
template <typename T> using if_integral_to_float = enable_if_t<is_integral_v<T>, float>;
template <typename A, typename B, typename C, typename V = vector_of<A, B, C>>
using operands3 =
    enable_if_t<is_convertible_v<const A &, V> && is_convertible_v<const B &, V> && is_convertible_v<const C &, V>, V>;
} // namespace sm
} // namespace metal

#define SM_VECTOR1(NAME)                                                                                                       \
    template <typename A, typename V = sm::operand<A>> SM_INLINE V NAME(const A &a) {                                          \
        const V x = a;                                                                                                         \
        V r;                                                                                                                   \
        for (int i = 0; i < sm::vector_traits<V>::size; i++)                                                                   \
            r.sm_data[i] = NAME(x.sm_data[i]);                                                                                 \
        return r;                                                                                                              \
    }
#define SM_VECTOR2(NAME)                                                                                                       \
    template <typename A, typename B, typename V = sm::operands<A, B>> SM_INLINE V NAME(const A &a, const B &b) {              \
        const V x = a, y = b;                                                                                                  \
        V r;                                                                                                                   \
        for (int i = 0; i < sm::vector_traits<V>::size; i++)                                                                   \
            r.sm_data[i] = NAME(x.sm_data[i], y.sm_data[i]);                                                                   \
        return r;                                                                                                              \
    }
#define SM_VECTOR3(NAME)                                                                                                       \
    template <typename A, typename B, typename C, typename V = sm::operands3<A, B, C>>                                         \
    SM_INLINE V NAME(const A &a, const B &b, const C &c) {                                                                     \
        const V x = a, y = b, z = c;                                                                                           \
        V r;                                                                                                                   \
        for (int i = 0; i < sm::vector_traits<V>::size; i++)                                                                   \
            r.sm_data[i] = NAME(x.sm_data[i], y.sm_data[i], z.sm_data[i]);                                                     \
        return r;                                                                                                              \
    }
// A test: the result is bool, or a vector of bool.
#define SM_VECTOR_TEST1(NAME)                                                                                                  \
    template <typename A, typename V = sm::operand<A>> SM_INLINE sm::truth<V> NAME(const A &a) {                               \
        const V x = a;                                                                                                         \
        sm::truth<V> r;                                                                                                        \
        for (int i = 0; i < sm::vector_traits<V>::size; i++)                                                                   \
            r.sm_data[i] = NAME(x.sm_data[i]);                                                                                 \
        return r;                                                                                                              \
    }

// Functions of floats: computed in float and rounded once for half and bfloat.
#define SM_FLOAT1(NAME, EXPR)                                                                                                  \
    SM_INLINE float NAME(float x) {                                                                                            \
        return EXPR;                                                                                                           \
    }                                                                                                                          \
    SM_INLINE half NAME(half x) {                                                                                              \
        return (half)NAME((float)x);                                                                                           \
    }                                                                                                                          \
    template <typename T> SM_INLINE sm::if_bfloat<T> NAME(T x) {                                                               \
        return T(NAME((float)x));                                                                                              \
    }                                                                                                                          \
    template <typename T> SM_INLINE sm::if_integral_to_float<T> NAME(T x) {                                                    \
        return NAME((float)x);                                                                                                 \
    }                                                                                                                          \
    SM_VECTOR1(NAME)
#define SM_FLOAT2_SCALAR(NAME, EXPR)                                                                                           \
    SM_INLINE float NAME(float x, float y) {                                                                                   \
        return EXPR;                                                                                                           \
    }                                                                                                                          \
    SM_INLINE half NAME(half x, half y) {                                                                                      \
        return (half)NAME((float)x, (float)y);                                                                                 \
    }                                                                                                                          \
    template <typename T> SM_INLINE sm::if_bfloat<T> NAME(T x, sm::same_t<T> y) {                                              \
        return T(NAME((float)x, (float)y));                                                                                    \
    }
#define SM_FLOAT2(NAME, EXPR)                                                                                                  \
    SM_FLOAT2_SCALAR(NAME, EXPR)                                                                                               \
    SM_VECTOR2(NAME)
#define SM_FLOAT3_SCALAR(NAME, EXPR)                                                                                           \
    SM_INLINE float NAME(float x, float y, float z) {                                                                          \
        return EXPR;                                                                                                           \
    }                                                                                                                          \
    SM_INLINE half NAME(half x, half y, half z) {                                                                              \
        return (half)NAME((float)x, (float)y, (float)z);                                                                       \
    }                                                                                                                          \
    template <typename T> SM_INLINE sm::if_bfloat<T> NAME(T x, sm::same_t<T> y, sm::same_t<T> z) {                             \
        return T(NAME((float)x, (float)y, (float)z));                                                                          \
    }
#define SM_FLOAT3(NAME, EXPR)                                                                                                  \
    SM_FLOAT3_SCALAR(NAME, EXPR)                                                                                               \
    SM_VECTOR3(NAME)
#define SM_FLOAT_TEST1(NAME, EXPR)                                                                                             \
    SM_INLINE bool NAME(float x) {                                                                                             \
        return EXPR;                                                                                                           \
    }                                                                                                                          \
    SM_INLINE bool NAME(half h) {                                                                                              \
        const float x = (float)h;                                                                                              \
        return EXPR;                                                                                                           \
    }                                                                                                                          \
    template <typename T, typename = sm::if_bfloat<T>> SM_INLINE bool NAME(T h) {                                              \
        const float x = (float)h;                                                                                              \
        return EXPR;                                                                                                           \
    }                                                                                                                          \
    SM_VECTOR_TEST1(NAME)
