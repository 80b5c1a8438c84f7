// <metal_matrix>: matrix<T, C, R> has C columns of R rows, as the type names say (float4x2: 4 columns of float2).
#pragma once

#include "geometric.h"

namespace metal {
template <typename T, int C, int R> struct matrix {
    vec<T, R> columns[C];

    matrix() = default;
    // The scalar on the diagonal.
    template <typename S, enable_if_t<sm::scalar_to<S, T>, int> = 0> SM_INLINE explicit matrix(S s) {
        for (int c = 0; c < C; c++) {
            columns[c] = vec<T, R>((T)0.0f);
            if (c < R)
                columns[c][c] = (T)s;
        }
    }
    // C columns, or C * R scalars in column order.
    template <typename... A, enable_if_t<sizeof...(A) + 1 == C && (is_convertible_v<A, vec<T, R>> && ...), int> = 0>
    SM_INLINE matrix(const vec<T, R> &first, const A &...rest) : columns{first, vec<T, R>(rest)...} {}
    template <typename A, typename B, typename... D,
              enable_if_t<sizeof...(D) + 2 == C * R && sm::is_number_v<A> && sm::is_number_v<B> &&
                              (sm::is_number_v<D> && ...),
                          int> = 0>
    SM_INLINE matrix(A a, B b, D... rest) {
        const T all[] = {(T)a, (T)b, (T)rest...};
        for (int c = 0; c < C; c++)
            for (int r = 0; r < R; r++)
                columns[c][r] = all[c * R + r];
    }
    template <typename U, enable_if_t<!is_same_v<U, T>, int> = 0> SM_INLINE explicit matrix(const matrix<U, C, R> &m) {
        for (int c = 0; c < C; c++)
            columns[c] = vec<T, R>(m.columns[c]);
    }

    SM_INLINE vec<T, R> &operator[](long c) {
        return columns[c];
    }
    SM_INLINE const vec<T, R> &operator[](long c) const {
        return columns[c];
    }
};

#define SM_MATRIX_OP(OP)                                                                                                       \
    template <typename T, int C, int R>                                                                                        \
    SM_INLINE matrix<T, C, R> operator OP(const matrix<T, C, R> &a, const matrix<T, C, R> &b) {                                \
        matrix<T, C, R> r;                                                                                                     \
        for (int c = 0; c < C; c++)                                                                                            \
            r.columns[c] = a.columns[c] OP b.columns[c];                                                                       \
        return r;                                                                                                              \
    }                                                                                                                          \
    template <typename T, int C, int R>                                                                                        \
    SM_INLINE matrix<T, C, R> &operator OP##=(matrix<T, C, R> &a, const matrix<T, C, R> &b) {                                  \
        return a = a OP b;                                                                                                     \
    }
SM_MATRIX_OP(+)
SM_MATRIX_OP(-)

template <typename T, int C, int R> SM_INLINE matrix<T, C, R> operator-(const matrix<T, C, R> &a) {
    matrix<T, C, R> r;
    for (int c = 0; c < C; c++)
        r.columns[c] = -a.columns[c];
    return r;
}
template <typename T, int C, int R, typename S, enable_if_t<sm::scalar_to<S, T>, int> = 0>
SM_INLINE matrix<T, C, R> operator*(const matrix<T, C, R> &a, S s) {
    matrix<T, C, R> r;
    for (int c = 0; c < C; c++)
        r.columns[c] = a.columns[c] * (T)s;
    return r;
}
template <typename T, int C, int R, typename S, enable_if_t<sm::scalar_to<S, T>, int> = 0>
SM_INLINE matrix<T, C, R> operator*(S s, const matrix<T, C, R> &a) {
    return a * s;
}
template <typename T, int C, int R, typename S, enable_if_t<sm::scalar_to<S, T>, int> = 0>
SM_INLINE matrix<T, C, R> operator/(const matrix<T, C, R> &a, S s) {
    matrix<T, C, R> r;
    for (int c = 0; c < C; c++)
        r.columns[c] = a.columns[c] / (T)s;
    return r;
}
// Matrix times column vector: the columns weighted by its components, added in order.
template <typename T, int C, int R>
SM_INLINE vec<T, R> operator*(const matrix<T, C, R> &m, const sm::same_t<vec<T, C>> &v) {
    vec<T, R> s = m.columns[0] * v[0];
    for (int c = 1; c < C; c++)
        s += m.columns[c] * v[c];
    return s;
}
// Row vector times matrix.
template <typename T, int C, int R>
SM_INLINE vec<T, C> operator*(const sm::same_t<vec<T, R>> &v, const matrix<T, C, R> &m) {
    vec<T, C> r;
    for (int c = 0; c < C; c++)
        r[c] = dot(v, m.columns[c]);
    return r;
}
template <typename T, int K, int R, int C>
SM_INLINE matrix<T, C, R> operator*(const matrix<T, K, R> &a, const matrix<T, C, K> &b) {
    matrix<T, C, R> r;
    for (int c = 0; c < C; c++)
        r.columns[c] = a * b.columns[c];
    return r;
}
template <typename T, int C, int R, typename B>
SM_INLINE auto operator*=(matrix<T, C, R> &a, const B &b) -> decltype(a = a * b) {
    return a = a * b;
}
template <typename T, int C, int R> SM_INLINE bool operator==(const matrix<T, C, R> &a, const matrix<T, C, R> &b) {
    bool equal = true;
    for (int c = 0; c < C; c++)
        equal = equal && all(a.columns[c] == b.columns[c]);
    return equal;
}
template <typename T, int C, int R> SM_INLINE bool operator!=(const matrix<T, C, R> &a, const matrix<T, C, R> &b) {
    return !(a == b);
}
template <typename T, int C, int R> SM_INLINE matrix<T, R, C> transpose(const matrix<T, C, R> &m) {
    matrix<T, R, C> t;
    for (int c = 0; c < C; c++)
        for (int r = 0; r < R; r++)
            t.columns[r][c] = m.columns[c][r];
    return t;
}
// By elimination with partial pivoting, in double.
template <typename T, int N> SM_INLINE T determinant(const matrix<T, N, N> &m) {
    double a[N][N], det = 1;
    for (int c = 0; c < N; c++)
        for (int r = 0; r < N; r++)
            a[r][c] = (double)(float)m.columns[c][r];
    for (int i = 0; i < N; i++) {
        int p = i;
        for (int r = i + 1; r < N; r++)
            if (__builtin_fabs(a[r][i]) > __builtin_fabs(a[p][i]))
                p = r;
        if (a[p][i] == 0)
            return (T)0.0f;
        if (p != i) {
            det = -det;
            for (int c = 0; c < N; c++) {
                const double swap = a[i][c];
                a[i][c] = a[p][c];
                a[p][c] = swap;
            }
        }
        det *= a[i][i];
        for (int r = i + 1; r < N; r++) {
            const double f = a[r][i] / a[i][i];
            for (int c = i; c < N; c++)
                a[r][c] -= f * a[i][c];
        }
    }
    return (T)(float)det;
}
} // namespace metal

#define SM_MATRIX_NAMES(T)                                                                                                     \
    typedef metal::matrix<T, 2, 2> T##2x2;                                                                                     \
    typedef metal::matrix<T, 2, 3> T##2x3;                                                                                     \
    typedef metal::matrix<T, 2, 4> T##2x4;                                                                                     \
    typedef metal::matrix<T, 3, 2> T##3x2;                                                                                     \
    typedef metal::matrix<T, 3, 3> T##3x3;                                                                                     \
    typedef metal::matrix<T, 3, 4> T##3x4;                                                                                     \
    typedef metal::matrix<T, 4, 2> T##4x2;                                                                                     \
    typedef metal::matrix<T, 4, 3> T##4x3;                                                                                     \
    typedef metal::matrix<T, 4, 4> T##4x4;
#define SM_USE_MATRIX(T)                                                                                                       \
    using ::T##2x2;                                                                                                            \
    using ::T##2x3;                                                                                                            \
    using ::T##2x4;                                                                                                            \
    using ::T##3x2;                                                                                                            \
    using ::T##3x3;                                                                                                            \
    using ::T##3x4;                                                                                                            \
    using ::T##4x2;                                                                                                            \
    using ::T##4x3;                                                                                                            \
    using ::T##4x4;
SM_MATRIX_NAMES(float)
SM_MATRIX_NAMES(half)
namespace metal {
SM_USE_MATRIX(float)
SM_USE_MATRIX(half)
} // namespace metal
namespace simd {
SM_USE_MATRIX(float)
SM_USE_MATRIX(half)
} // namespace simd
