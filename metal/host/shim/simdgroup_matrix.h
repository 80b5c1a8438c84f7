// <metal_simdgroup_matrix>: 8x8, two elements a lane. Lane l holds row (l/16*4 + l/2%4), columns (l/8%2*4 + l%2*2) and the
// next: the arrangement of Apple's GPUs, which kernels that use thread_elements() rely on.
#pragma once

#include "simd.h"

namespace metal {
namespace sm {
constexpr SM_INLINE uint fragment_row(uint lane) {
    return (lane >> 4) * 4 + (lane >> 1 & 3);
}
constexpr SM_INLINE uint fragment_column(uint lane) {
    return (lane >> 3 & 1) * 4 + (lane & 1) * 2;
}
} // namespace sm

template <typename T, int Cols, int Rows = Cols> struct simdgroup_matrix {
    static_assert(Cols == 8 && Rows == 8, "simdgroup matrices are 8x8");
    static_assert(is_floating_point<T>::value, "simdgroup matrices are of half, bfloat or float");
    typedef vec<T, 2> storage_type;
    storage_type sm_elements;

    simdgroup_matrix() = default;
    // The value on the diagonal.
    explicit SM_INLINE simdgroup_matrix(T diagonal) {
        const uint lane = sm::self()->index_in_simdgroup;
        const uint r = sm::fragment_row(lane), c = sm::fragment_column(lane);
        sm_elements = storage_type(r == c ? diagonal : (T)0.0f, r == c + 1 ? diagonal : (T)0.0f);
    }
    SM_INLINE storage_type &thread_elements() {
        return sm_elements;
    }
    SM_INLINE const storage_type &thread_elements() const {
        return sm_elements;
    }
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

template <typename T, int Cols, int Rows = Cols> SM_INLINE simdgroup_matrix<T, Cols, Rows> make_filled_simdgroup_matrix(T v) {
    simdgroup_matrix<T, Cols, Rows> m;
    m.sm_elements = vec<T, 2>(v);
    return m;
}
template <typename T, int Cols, int Rows = Cols>
SM_INLINE simdgroup_matrix<T, Cols, Rows> make_diagonal_simdgroup_matrix(T v) {
    return simdgroup_matrix<T, Cols, Rows>(v);
}

// Element (r, c) is at src[(origin.y + r) * elements_per_row + origin.x + c], or with r and c exchanged. Each lane moves its
// own two elements: nobody waits.
template <typename T, int C, int R>
SM_INLINE void simdgroup_load(simdgroup_matrix<T, C, R> &d, const T *src, ulong elements_per_row = C, ulong2 origin = 0,
                              bool transpose_matrix = false) {
    const uint lane = sm::self()->index_in_simdgroup;
    const ulong r = sm::fragment_row(lane), c = sm::fragment_column(lane);
    const T *p = src + origin.y * elements_per_row + origin.x;
    d.sm_elements.x = transpose_matrix ? p[c * elements_per_row + r] : p[r * elements_per_row + c];
    d.sm_elements.y = transpose_matrix ? p[(c + 1) * elements_per_row + r] : p[r * elements_per_row + c + 1];
}
template <typename T, int C, int R>
SM_INLINE void simdgroup_store(simdgroup_matrix<T, C, R> a, T *dst, ulong elements_per_row = C, ulong2 origin = 0,
                               bool transpose_matrix = false) {
    const uint lane = sm::self()->index_in_simdgroup;
    const ulong r = sm::fragment_row(lane), c = sm::fragment_column(lane);
    T *p = dst + origin.y * elements_per_row + origin.x;
    p[transpose_matrix ? c * elements_per_row + r : r * elements_per_row + c] = a.sm_elements.x;
    p[transpose_matrix ? (c + 1) * elements_per_row + r : r * elements_per_row + c + 1] = a.sm_elements.y;
}

namespace sm {
// What a lane brings to d = a b + c. A missing lane counts as zeros.
template <typename A, typename B, typename C> struct fragments {
    vec<A, 2> a;
    vec<B, 2> b;
    vec<C, 2> c;
};

// Accumulates in float in the order of k, one rounding at the end.
template <typename D, typename A, typename B, typename C> SM_UNCHECKED void multiply(const sm_lanes *lanes) {
    float a[8][8] = {}, b[8][8] = {}, d[8][8] = {};
    for (uint i = 0; i < SM_SIMD_WIDTH; i++) {
        if (!(lanes->active >> i & 1))
            continue;
        const fragments<A, B, C> &in = *(const fragments<A, B, C> *)lanes->in[i];
        const uint r = fragment_row(i), c = fragment_column(i);
        a[r][c] = (float)in.a.sm_data[0];
        a[r][c + 1] = (float)in.a.sm_data[1];
        b[r][c] = (float)in.b.sm_data[0];
        b[r][c + 1] = (float)in.b.sm_data[1];
        d[r][c] = (float)in.c.sm_data[0];
        d[r][c + 1] = (float)in.c.sm_data[1];
    }
    for (int r = 0; r < 8; r++)
        for (int k = 0; k < 8; k++)
            for (int c = 0; c < 8; c++)
                d[r][c] += a[r][k] * b[k][c];
    for (uint i = 0; i < SM_SIMD_WIDTH; i++) {
        if (!(lanes->active >> i & 1))
            continue;
        const uint r = fragment_row(i), c = fragment_column(i);
        vec<D, 2> &out = *(vec<D, 2> *)lanes->out[i];
        out.sm_data[0] = (D)d[r][c];
        out.sm_data[1] = (D)d[r][c + 1];
    }
}
template <typename D, typename A, typename B, typename C>
SM_INLINE vec<D, 2> multiply_accumulate(const char *name, vec<A, 2> a, vec<B, 2> b, vec<C, 2> c, const char *file, uint line) {
    const fragments<A, B, C> in = {a, b, c};
    return meet<vec<D, 2>>(name, SM_SCOPE_SIMDGROUP, multiply<D, A, B, C>, in, file, line);
}
} // namespace sm

template <typename D, typename A, typename B, typename C>
SM_INLINE void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8> &d, simdgroup_matrix<A, 8, 8> a,
                                             simdgroup_matrix<B, 8, 8> b, simdgroup_matrix<C, 8, 8> c, SM_AT) {
    d.sm_elements = sm::multiply_accumulate<D>("simdgroup_multiply_accumulate", a.sm_elements, b.sm_elements, c.sm_elements,
                                               sm_file, sm_line);
}
template <typename D, typename A, typename B>
SM_INLINE void simdgroup_multiply(simdgroup_matrix<D, 8, 8> &d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b,
                                  SM_AT) {
    d.sm_elements =
        sm::multiply_accumulate<D>("simdgroup_multiply", a.sm_elements, b.sm_elements, vec<D, 2>((D)0.0f), sm_file, sm_line);
}

// An operator cannot take the place of its call: all products written so share one.
template <typename A, typename B>
SM_INLINE simdgroup_matrix<A, 8, 8> operator*(simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b) {
    simdgroup_matrix<A, 8, 8> d;
    simdgroup_multiply(d, a, b);
    return d;
}
#define SM_FRAGMENT_OP(OP)                                                                                                     \
    template <typename T>                                                                                                      \
    SM_INLINE simdgroup_matrix<T, 8, 8> operator OP(simdgroup_matrix<T, 8, 8> a, simdgroup_matrix<T, 8, 8> b) {                \
        a.sm_elements = a.sm_elements OP b.sm_elements;                                                                        \
        return a;                                                                                                              \
    }
SM_FRAGMENT_OP(+)
SM_FRAGMENT_OP(-)
template <typename T> SM_INLINE simdgroup_matrix<T, 8, 8> operator*(simdgroup_matrix<T, 8, 8> a, sm::same_t<T> s) {
    a.sm_elements = a.sm_elements * s;
    return a;
}
template <typename T> SM_INLINE simdgroup_matrix<T, 8, 8> operator*(sm::same_t<T> s, simdgroup_matrix<T, 8, 8> a) {
    return a * s;
}
} // namespace metal
