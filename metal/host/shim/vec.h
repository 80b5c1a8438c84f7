// vec<T, N> and packed_vec<T, N>: constructors, swizzles, operators.
//
// The translator writes a swizzle v.zyx as v.template sm_swizzle<2, 1, 0>(), and one that is assigned to as
// v.template sm_swizzle_ref<2, 1, 0>(); single components are members.
#pragma once

#include "half.h"

namespace metal {
namespace sm {

template <typename T, int N> struct vec_storage;
template <typename T> struct vec_storage<T, 2> {
    union {
        struct {
            T x, y;
        };
        struct {
            T r, g;
        };
        T sm_data[2];
    };
    vec_storage() = default;
    constexpr vec_storage(T a, T b) : x(a), y(b) {}
};
template <typename T> struct vec_storage<T, 3> {
    union {
        struct {
            T x, y, z;
        };
        struct {
            T r, g, b;
        };
        T sm_data[3];
    };
    vec_storage() = default;
    constexpr vec_storage(T a, T b, T c) : x(a), y(b), z(c) {}
};
template <typename T> struct vec_storage<T, 4> {
    union {
        struct {
            T x, y, z, w;
        };
        struct {
            T r, g, b, a;
        };
        T sm_data[4];
    };
    vec_storage() = default;
    constexpr vec_storage(T a, T b, T c, T d) : x(a), y(b), z(c), w(d) {}
};

template <typename S, typename T> constexpr bool scalar_to = is_arithmetic<S>::value && is_constructible_v<T, S>;
template <typename A> constexpr int count_v = is_arithmetic<A>::value ? 1 : vector_traits<A>::size;
template <typename A> constexpr bool component_v = is_arithmetic<A>::value || is_vector_v<A>;

template <int... I> struct ints {};
template <int N> struct make_ints;
template <> struct make_ints<2> {
    typedef ints<0, 1> type;
};
template <> struct make_ints<3> {
    typedef ints<0, 1, 2> type;
};
template <> struct make_ints<4> {
    typedef ints<0, 1, 2, 3> type;
};

// Component I of the concatenation of the arguments of a constructor.
template <typename T, int I, typename A, typename... R> constexpr SM_INLINE T pick(const A &a, const R &...rest) {
    if constexpr (I >= count_v<A>)
        return pick<T, I - count_v<A>>(rest...);
    else if constexpr (is_vector_v<A>)
        return (T)a.template sm_get<I>();
    else
        return (T)a;
}

template <typename V, int... I> struct swizzle_ref;

// What vec and packed_vec (V) share.
template <typename V, typename T> struct swizzles {
    template <int... I> constexpr SM_INLINE vec<T, (int)sizeof...(I)> sm_swizzle() const {
        const V &v = static_cast<const V &>(*this);
        return vec<T, (int)sizeof...(I)>(v.template sm_get<I>()...);
    }
    template <int... I> SM_INLINE swizzle_ref<V, I...> sm_swizzle_ref() {
        return swizzle_ref<V, I...>{static_cast<V &>(*this)};
    }
    template <int I> constexpr SM_INLINE T sm_get() const {
        const V &v = static_cast<const V &>(*this);
        if constexpr (I == 0)
            return v.x;
        else if constexpr (I == 1)
            return v.y;
        else if constexpr (I == 2)
            return v.z;
        else
            return v.w;
    }
};
} // namespace sm

template <typename T, int N>
struct alignas(sizeof(T) * (N == 3 ? 4 : N)) vec : sm::vec_storage<T, N>, sm::swizzles<vec<T, N>, T> {
    typedef typename sm::make_ints<N>::type sm_all;

    vec() = default;
    // Every component the same.
    template <typename S, enable_if_t<sm::scalar_to<S, T> && is_convertible_v<S, T>, int> = 0>
    constexpr SM_INLINE vec(S s) : vec(sm_all(), (T)s) {}
    template <typename S, enable_if_t<sm::scalar_to<S, T> && !is_convertible_v<S, T>, int> = 0, typename = void>
    constexpr SM_INLINE explicit vec(S s) : vec(sm_all(), (T)s) {}
    // Conversion of every component.
    template <typename U, enable_if_t<!is_same_v<U, T>, int> = 0>
    constexpr SM_INLINE explicit vec(const vec<U, N> &v) : vec(sm_all(), nullptr, v) {}
    template <typename U, enable_if_t<!is_same_v<U, T>, int> = 0>
    constexpr SM_INLINE explicit vec(const packed_vec<U, N> &v) : vec(sm_all(), nullptr, v) {}
    constexpr SM_INLINE vec(const packed_vec<T, N> &v) : vec(sm_all(), nullptr, v) {}
    // Any mix of scalars and vectors with N components together.
    template <typename A, typename B, typename... R,
              enable_if_t<sm::component_v<A> && sm::component_v<B> && (sm::component_v<R> && ...) &&
                              sm::count_v<A> + sm::count_v<B> + (0 + ... + sm::count_v<R>) == N,
                          int> = 0>
    constexpr SM_INLINE vec(const A &a, const B &b, const R &...rest) : vec(sm_all(), nullptr, a, b, rest...) {}

    constexpr SM_INLINE T &operator[](long i) {
        return this->sm_data[i];
    }
    constexpr SM_INLINE const T &operator[](long i) const {
        return this->sm_data[i];
    }

  private:
    template <int... I> constexpr SM_INLINE vec(sm::ints<I...>, T s) : sm::vec_storage<T, N>(((void)I, s)...) {}
    template <int... I, typename... A>
    constexpr SM_INLINE vec(sm::ints<I...>, decltype(nullptr), const A &...a)
        : sm::vec_storage<T, N>(sm::pick<T, I>(a...)...) {}
};

// The memory form: no padding, alignment of the element. Arithmetic happens in vec<T, N>.
namespace sm {
template <typename T, int N> struct packed_storage;
template <typename T> struct packed_storage<T, 2> {
    union {
        struct {
            T x, y;
        };
        struct {
            T r, g;
        };
        T sm_data[2];
    };
};
template <typename T> struct packed_storage<T, 3> {
    union {
        struct {
            T x, y, z;
        };
        struct {
            T r, g, b;
        };
        T sm_data[3];
    };
};
template <typename T> struct packed_storage<T, 4> {
    union {
        struct {
            T x, y, z, w;
        };
        struct {
            T r, g, b, a;
        };
        T sm_data[4];
    };
};
} // namespace sm

template <typename T, int N> struct packed_vec : sm::packed_storage<T, N>, sm::swizzles<packed_vec<T, N>, T> {
    packed_vec() = default;
    SM_INLINE packed_vec(const vec<T, N> &v) {
        for (int i = 0; i < N; i++)
            this->sm_data[i] = v.sm_data[i];
    }
    template <typename S, enable_if_t<sm::scalar_to<S, T>, int> = 0>
    SM_INLINE explicit packed_vec(S s) : packed_vec(vec<T, N>(s)) {}
    template <typename U, enable_if_t<!is_same_v<U, T>, int> = 0>
    SM_INLINE explicit packed_vec(const vec<U, N> &v) : packed_vec(vec<T, N>(v)) {}
    template <typename U, enable_if_t<!is_same_v<U, T>, int> = 0>
    SM_INLINE explicit packed_vec(const packed_vec<U, N> &v) : packed_vec(vec<T, N>(v)) {}
    template <typename A, typename B, typename... R,
              enable_if_t<sm::component_v<A> && sm::component_v<B> && (sm::component_v<R> && ...) &&
                              sm::count_v<A> + sm::count_v<B> + (0 + ... + sm::count_v<R>) == N,
                          int> = 0>
    SM_INLINE packed_vec(const A &a, const B &b, const R &...rest) : packed_vec(vec<T, N>(a, b, rest...)) {}

    SM_INLINE T &operator[](long i) {
        return this->sm_data[i];
    }
    SM_INLINE const T &operator[](long i) const {
        return this->sm_data[i];
    }
};

// ---- operators ------------------------------------------------------------------------------------------------------------

namespace sm {
// The vector an operator on A and B works in; a scalar is spread over the components.
template <typename A, typename B, typename V = vector_of<A, B>>
using operands = enable_if_t<is_convertible_v<const A &, V> && is_convertible_v<const B &, V>, V>;
template <typename A> using operand = enable_if_t<is_vector_v<A>, value_t<A>>;
template <typename V> using truth = vec<bool, vector_traits<V>::size>;
} // namespace sm

#define SM_VECTOR_OP(OP)                                                                                                       \
    template <typename A, typename B, typename V = sm::operands<A, B>> SM_INLINE V operator OP(const A &a, const B &b) {       \
        const V x = a, y = b;                                                                                                  \
        V r;                                                                                                                   \
        for (int i = 0; i < sm::vector_traits<V>::size; i++)                                                                   \
            r.sm_data[i] = (sm::element_t<V>)(x.sm_data[i] OP y.sm_data[i]);                                                   \
        return r;                                                                                                              \
    }                                                                                                                          \
    template <typename A, typename B, typename V = sm::operands<A, B>, enable_if_t<sm::is_vector_v<A>, int> = 0>               \
    SM_INLINE A &operator OP##=(A &a, const B &b) {                                                                            \
        return a = A(V(a) OP V(b));                                                                                            \
    }
#define SM_VECTOR_COMPARE(OP)                                                                                                  \
    template <typename A, typename B, typename V = sm::operands<A, B>>                                                         \
    SM_INLINE sm::truth<V> operator OP(const A &a, const B &b) {                                                               \
        const V x = a, y = b;                                                                                                  \
        sm::truth<V> r;                                                                                                        \
        for (int i = 0; i < sm::vector_traits<V>::size; i++)                                                                   \
            r.sm_data[i] = x.sm_data[i] OP y.sm_data[i];                                                                       \
        return r;                                                                                                              \
    }
#define SM_VECTOR_UNARY(OP)                                                                                                    \
    template <typename A, typename V = sm::operand<A>> SM_INLINE V operator OP(const A &a) {                                   \
        const V x = a;                                                                                                         \
        V r;                                                                                                                   \
        for (int i = 0; i < sm::vector_traits<V>::size; i++)                                                                   \
            r.sm_data[i] = (sm::element_t<V>)(OP x.sm_data[i]);                                                                \
        return r;                                                                                                              \
    }
#define SM_VECTOR_STEP(OP, BINARY)                                                                                             \
    template <typename A, typename V = sm::operand<A>> SM_INLINE A &operator OP(A &a) {                                        \
        return a = A(V(a) BINARY V(sm::element_t<V>(1)));                                                                      \
    }                                                                                                                          \
    template <typename A, typename V = sm::operand<A>> SM_INLINE A operator OP(A &a, int) {                                    \
        A old = a;                                                                                                             \
        OP a;                                                                                                                  \
        return old;                                                                                                            \
    }
SM_VECTOR_OP(+)
SM_VECTOR_OP(-)
SM_VECTOR_OP(*)
SM_VECTOR_OP(/)
SM_VECTOR_OP(%)
SM_VECTOR_OP(&)
SM_VECTOR_OP(|)
SM_VECTOR_OP(^)
SM_VECTOR_OP(<<)
SM_VECTOR_OP(>>)
SM_VECTOR_COMPARE(==)
SM_VECTOR_COMPARE(!=)
SM_VECTOR_COMPARE(<)
SM_VECTOR_COMPARE(<=)
SM_VECTOR_COMPARE(>)
SM_VECTOR_COMPARE(>=)
SM_VECTOR_COMPARE(&&)
SM_VECTOR_COMPARE(||)
SM_VECTOR_UNARY(-)
SM_VECTOR_UNARY(+)
SM_VECTOR_UNARY(~)
SM_VECTOR_STEP(++, +)
SM_VECTOR_STEP(--, -)
template <typename A, typename V = sm::operand<A>> SM_INLINE sm::truth<V> operator!(const A &a) {
    const V x = a;
    sm::truth<V> r;
    for (int i = 0; i < sm::vector_traits<V>::size; i++)
        r.sm_data[i] = !x.sm_data[i];
    return r;
}

// v.zy = ...: stores component k of the right side to component I[k].
namespace sm {
template <typename V, int... I> struct swizzle_ref {
    typedef element_t<V> T;
    typedef vec<T, (int)sizeof...(I)> value;
    V &v;

    SM_INLINE value get() const {
        return value(v.template sm_get<I>()...);
    }
    SM_INLINE operator value() const {
        return get();
    }
    SM_INLINE const swizzle_ref &operator=(const value &x) const {
        const value copy = x;
        int k = 0;
        ((v[I] = copy.sm_data[k++]), ...);
        return *this;
    }
    SM_INLINE const swizzle_ref &operator=(const swizzle_ref &x) const {
        return *this = x.get();
    }
    SM_INLINE T &operator[](long i) const {
        const int at[] = {I...};
        return v[at[i]];
    }
#define SM_REF_OP(OP)                                                                                                          \
    SM_INLINE const swizzle_ref &operator OP##=(const value &x) const {                                                        \
        return *this = get() OP x;                                                                                             \
    }
    SM_REF_OP(+)
    SM_REF_OP(-)
    SM_REF_OP(*)
    SM_REF_OP(/)
    SM_REF_OP(%)
    SM_REF_OP(&)
    SM_REF_OP(|)
    SM_REF_OP(^)
    SM_REF_OP(<<)
    SM_REF_OP(>>)
};
} // namespace sm
} // namespace metal

// ---- names ------------------------------------------------------------------------------------------------------------------

#define SM_VECTOR_NAMES(T, TYPE)                                                                                               \
    typedef metal::vec<TYPE, 2> T##2;                                                                                          \
    typedef metal::vec<TYPE, 3> T##3;                                                                                          \
    typedef metal::vec<TYPE, 4> T##4;
#define SM_PACKED_NAMES(T, TYPE)                                                                                               \
    typedef metal::packed_vec<TYPE, 2> packed_##T##2;                                                                          \
    typedef metal::packed_vec<TYPE, 3> packed_##T##3;                                                                          \
    typedef metal::packed_vec<TYPE, 4> packed_##T##4;
#define SM_ALL_VECTORS(DO)                                                                                                     \
    DO(bool, bool)                                                                                                             \
    DO(char, char)                                                                                                             \
    DO(uchar, uchar)                                                                                                           \
    DO(short, short)                                                                                                           \
    DO(ushort, ushort)                                                                                                         \
    DO(int, int)                                                                                                               \
    DO(uint, uint)                                                                                                             \
    DO(long, long)                                                                                                             \
    DO(ulong, ulong)                                                                                                           \
    DO(half, half)                                                                                                             \
    DO(float, float)                                                                                                           \
    DO(bfloat, bfloat)
SM_ALL_VECTORS(SM_VECTOR_NAMES)
SM_ALL_VECTORS(SM_PACKED_NAMES)

// The same names inside metal, and Apple's C names for what a header shares with host code.
#define SM_USE_NAMES(T, TYPE)                                                                                                  \
    using ::packed_##T##2;                                                                                                     \
    using ::packed_##T##3;                                                                                                     \
    using ::packed_##T##4;                                                                                                     \
    using ::T##2;                                                                                                              \
    using ::T##3;                                                                                                              \
    using ::T##4;
#define SM_SIMD_NAMES(T, TYPE)                                                                                                 \
    typedef T##2 simd_##T##2, vector_##T##2;                                                                                   \
    typedef T##3 simd_##T##3, vector_##T##3;                                                                                   \
    typedef T##4 simd_##T##4, vector_##T##4;
namespace metal {
SM_ALL_VECTORS(SM_USE_NAMES)
}
namespace simd {
SM_ALL_VECTORS(SM_USE_NAMES)
}
SM_ALL_VECTORS(SM_SIMD_NAMES)
