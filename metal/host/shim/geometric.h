// <metal_geometric>. Sums run in the order of the components, in float for half and bfloat.
#pragma once

#include "math.h"

namespace metal {
namespace sm {
template <typename T> using sum_t = conditional_t<is_same_v<T, float>, float, conditional_t<is_integral_v<T>, T, float>>;
}
#define SM_VV(NAME)                                                                                                            \
    template <typename A, typename B, typename V = sm::operands<A, B>>                                                         \
    SM_INLINE sm::element_t<V> NAME(const A &a, const B &b)

SM_VV(dot) {
    const V x = a, y = b;
    typedef sm::sum_t<sm::element_t<V>> S;
    S s = (S)x.sm_data[0] * (S)y.sm_data[0];
    for (int i = 1; i < sm::vector_traits<V>::size; i++)
        s += (S)x.sm_data[i] * (S)y.sm_data[i];
    return (sm::element_t<V>)s;
}
SM_VV(distance_squared) {
    const V d = V(a) - V(b);
    return dot(d, d);
}
template <typename A, typename V = sm::operand<A>> SM_INLINE sm::element_t<V> length_squared(const A &a) {
    return dot(V(a), V(a));
}
template <typename A, typename V = sm::operand<A>> SM_INLINE sm::element_t<V> length(const A &a) {
    const V x = a;
    float s = 0;
    for (int i = 0; i < sm::vector_traits<V>::size; i++)
        s += (float)x.sm_data[i] * (float)x.sm_data[i];
    return (sm::element_t<V>)__builtin_sqrtf(s);
}
SM_VV(distance) {
    return length(V(a) - V(b));
}
template <typename A, typename V = sm::operand<A>> SM_INLINE V normalize(const A &a) {
    const V x = a;
    float s = 0;
    for (int i = 0; i < sm::vector_traits<V>::size; i++)
        s += (float)x.sm_data[i] * (float)x.sm_data[i];
    const float scale = 1.0f / __builtin_sqrtf(s);
    V r;
    for (int i = 0; i < sm::vector_traits<V>::size; i++)
        r.sm_data[i] = (sm::element_t<V>)((float)x.sm_data[i] * scale);
    return r;
}
template <typename A, typename B, typename V = sm::operands<A, B>> SM_INLINE V cross(const A &a, const B &b) {
    static_assert(sm::vector_traits<V>::size == 3, "cross needs vectors of 3");
    const V x = a, y = b;
    return V(x.y * y.z - x.z * y.y, x.z * y.x - x.x * y.z, x.x * y.y - x.y * y.x);
}
template <typename T, int N> SM_INLINE vec<T, N> faceforward(vec<T, N> n, vec<T, N> i, vec<T, N> ref) {
    return dot(ref, i) < (T)0 ? n : -n;
}
template <typename T, int N> SM_INLINE vec<T, N> reflect(vec<T, N> i, vec<T, N> n) {
    return i - n * ((T)2 * dot(n, i));
}
template <typename T, int N> SM_INLINE vec<T, N> refract(vec<T, N> i, vec<T, N> n, T eta) {
    const float d = (float)dot(n, i), e = (float)eta;
    const float k = 1.0f - e * e * (1.0f - d * d);
    if (k < 0)
        return vec<T, N>((T)0.0f);
    return i * eta - n * (T)(e * d + __builtin_sqrtf(k));
}
} // namespace metal
