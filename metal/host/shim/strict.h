// MSL as C++ for OpenCL, for a check of address spaces: declarations without bodies. Only messages about address spaces are
// passed on, so that what is missing or looser here refuses nothing.
#pragma once

#pragma OPENCL EXTENSION cl_khr_fp16 : enable

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef unsigned long size_t;
typedef long ptrdiff_t;
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long int64_t;
typedef uchar uint8_t;
typedef ushort uint16_t;
typedef uint uint32_t;
typedef ulong uint64_t;

struct bfloat {
    ushort sm_bits;
    bfloat() = default;
    template <class T> explicit bfloat(T);
    operator float() const;
    operator float() const __global;
    operator float() const __local;
    operator float() const __constant;
};

// OpenCL has atomic types of these names.
#define atomic_int sm_atomic_int
#define atomic_uint sm_atomic_uint
#define atomic_float sm_atomic_float
#define atomic_ulong sm_atomic_ulong
#define atomic_long sm_atomic_long

namespace metal {
template <class T, int N> using vec = T __attribute__((ext_vector_type(N)));
template <class T, int N> struct packed_vec {
    T x, y, z;
    operator vec<T, N>() const;
};
template <class T, int C, int R> struct matrix {
    vec<T, R> columns[C];
    template <class... A> explicit matrix(A...);
    matrix() = default;
    __private vec<T, R> &operator[](long);
};
} // namespace metal

#define SM_VECTORS(NAME, T)                                                                                                    \
    typedef T __attribute__((ext_vector_type(2))) NAME##2, packed_##NAME##2;                                                   \
    typedef T __attribute__((ext_vector_type(3))) NAME##3;                                                                     \
    typedef T __attribute__((ext_vector_type(4))) NAME##4, packed_##NAME##4;                                                   \
    typedef T __attribute__((ext_vector_type(3))) packed_##NAME##3;
SM_VECTORS(bool, int)
SM_VECTORS(char, char)
SM_VECTORS(uchar, uchar)
SM_VECTORS(short, short)
SM_VECTORS(ushort, ushort)
SM_VECTORS(int, int)
SM_VECTORS(uint, uint)
SM_VECTORS(long, long)
SM_VECTORS(ulong, ulong)
SM_VECTORS(half, half)
SM_VECTORS(float, float)
typedef ushort __attribute__((ext_vector_type(2))) bfloat2;
typedef ushort __attribute__((ext_vector_type(3))) bfloat3;
typedef ushort __attribute__((ext_vector_type(4))) bfloat4;

#define SM_MATRICES(T)                                                                                                         \
    typedef metal::matrix<T, 2, 2> T##2x2;                                                                                     \
    typedef metal::matrix<T, 2, 3> T##2x3;                                                                                     \
    typedef metal::matrix<T, 2, 4> T##2x4;                                                                                     \
    typedef metal::matrix<T, 3, 2> T##3x2;                                                                                     \
    typedef metal::matrix<T, 3, 3> T##3x3;                                                                                     \
    typedef metal::matrix<T, 3, 4> T##3x4;                                                                                     \
    typedef metal::matrix<T, 4, 2> T##4x2;                                                                                     \
    typedef metal::matrix<T, 4, 3> T##4x3;                                                                                     \
    typedef metal::matrix<T, 4, 4> T##4x4;
SM_MATRICES(float)
SM_MATRICES(half)

template <class To, class From> To as_type(From);

namespace metal {
template <class T, T V> struct integral_constant {
    static constexpr __constant T value = V;
    typedef T value_type;
    constexpr operator T() const { return V; }
    constexpr T operator()() const { return V; }
};
template <bool B> using bool_constant = integral_constant<bool, B>;
typedef bool_constant<true> true_type;
typedef bool_constant<false> false_type;
template <class A, class B> struct is_same : false_type {};
template <class A> struct is_same<A, A> : true_type {};
template <class A, class B> constexpr __constant bool is_same_v = is_same<A, B>::value;
template <bool B, class T = void> struct enable_if {};
template <class T> struct enable_if<true, T> {
    typedef T type;
};
template <bool B, class T = void> using enable_if_t = typename enable_if<B, T>::type;
template <bool B, class T, class F> struct conditional {
    typedef T type;
};
template <class T, class F> struct conditional<false, T, F> {
    typedef F type;
};
template <bool B, class T, class F> using conditional_t = typename conditional<B, T, F>::type;
template <class T> struct remove_const {
    typedef T type;
};
template <class T> struct remove_const<const T> {
    typedef T type;
};
template <class T> using remove_cv_t = typename remove_const<T>::type;
template <class T> struct is_floating_point : bool_constant<is_same<T, float>::value || is_same<T, half>::value> {};
template <class T> struct is_integral : bool_constant<__is_integral(T)> {};
template <class T> constexpr __constant bool is_floating_point_v = is_floating_point<T>::value;
template <class T> constexpr __constant bool is_integral_v = is_integral<T>::value;
template <class T> struct numeric_limits {
    static constexpr T min();
    static constexpr T max();
    static constexpr T lowest();
    static constexpr T epsilon();
    static constexpr T infinity();
    static constexpr T quiet_NaN();
};
template <class T, size_t N> struct array {
    T sm_elements[N];
    __private T &operator[](size_t);
    __global T &operator[](size_t) __global;
    __local T &operator[](size_t) __local;
    __constant T &operator[](size_t) __constant;
    size_t size() const;
};

enum class mem_flags { mem_none, mem_device, mem_threadgroup, mem_texture = 4, mem_threadgroup_imageblock = 8 };
mem_flags operator|(mem_flags, mem_flags);
enum memory_order {
    memory_order_relaxed,
    memory_order_acquire = 2,
    memory_order_release,
    memory_order_acq_rel,
    memory_order_seq_cst
};
enum thread_scope { thread_scope_thread, thread_scope_simdgroup, thread_scope_threadgroup, thread_scope_device };
template <class... A> void threadgroup_barrier(A...);
template <class... A> void simdgroup_barrier(A...);
template <class... A> void atomic_thread_fence(A...);

template <class T> struct atomic {
    T sm_value;
};
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<bool> atomic_bool;
typedef atomic<float> atomic_float;
typedef atomic<ulong> atomic_ulong;
// Atomics live in device or threadgroup memory.
#define SM_ATOMIC(NAME, RESULT)                                                                                                \
    template <class T, class... A> RESULT atomic_##NAME##_explicit(volatile __global atomic<T> *, A...);                       \
    template <class T, class... A> RESULT atomic_##NAME##_explicit(volatile __local atomic<T> *, A...);
SM_ATOMIC(store, void)
SM_ATOMIC(exchange, T)
SM_ATOMIC(fetch_add, T)
SM_ATOMIC(fetch_sub, T)
SM_ATOMIC(fetch_min, T)
SM_ATOMIC(fetch_max, T)
SM_ATOMIC(fetch_and, T)
SM_ATOMIC(fetch_or, T)
SM_ATOMIC(fetch_xor, T)
SM_ATOMIC(min, void)
SM_ATOMIC(max, void)
template <class T> T atomic_load_explicit(const volatile __global atomic<T> *, memory_order);
template <class T> T atomic_load_explicit(const volatile __local atomic<T> *, memory_order);
template <class T>
bool atomic_compare_exchange_weak_explicit(volatile __global atomic<T> *, __private T *, T, memory_order, memory_order);
template <class T>
bool atomic_compare_exchange_weak_explicit(volatile __local atomic<T> *, __private T *, T, memory_order, memory_order);

template <class T, int C, int R = C> struct simdgroup_matrix {
    simdgroup_matrix() = default;
    explicit simdgroup_matrix(T);
    __private vec<T, 2> &thread_elements();
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;
template <class T, int C, int R = C> simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(T);
#define SM_MOVE(SPACE)                                                                                                         \
    template <class T, int C, int R, class... A>                                                                               \
    void simdgroup_load(__private simdgroup_matrix<T, C, R> &, const SPACE T *, A...);                                         \
    template <class T, int C, int R, class... A> void simdgroup_store(simdgroup_matrix<T, C, R>, SPACE T *, A...);
SM_MOVE(__global)
SM_MOVE(__local)
template <class D, class... A> void simdgroup_multiply(__private D &, A...);
template <class D, class... A> void simdgroup_multiply_accumulate(__private D &, A...);

// The result has the type of the first argument.
#define SM_FUNCTION(NAME) template <class A, class... R> A NAME(A, R...);
#define SM_TEST(NAME) template <class A, class... R> bool NAME(A, R...);
#define SM_TWO_RESULTS(NAME) template <class A, class B> A NAME(A, __private B &);
#define SM_MATH(DO)                                                                                                            \
    DO(acos) DO(acosh) DO(asin) DO(asinh) DO(atan) DO(atan2) DO(atanh) DO(ceil) DO(copysign) DO(cos) DO(cosh) DO(cospi)        \
    DO(divide) DO(exp) DO(exp2) DO(exp10) DO(fabs) DO(abs) DO(fdim) DO(floor) DO(fma) DO(fmax) DO(fmax3) DO(fmedian3)          \
    DO(fmin) DO(fmin3) DO(fmod) DO(fract) DO(ldexp) DO(log) DO(log2) DO(log10) DO(max) DO(max3) DO(median3) DO(min)            \
    DO(min3) DO(nextafter) DO(pow) DO(powr) DO(rint) DO(round) DO(rsqrt) DO(sin) DO(sinh) DO(sinpi) DO(sqrt) DO(tan)           \
    DO(tanh) DO(tanpi) DO(trunc) DO(clamp) DO(mix) DO(saturate) DO(sign) DO(smoothstep) DO(step)
SM_MATH(SM_FUNCTION)
SM_TWO_RESULTS(frexp)
SM_TWO_RESULTS(modf)
SM_TWO_RESULTS(sincos)
namespace fast {
SM_MATH(SM_FUNCTION)
}
namespace precise {
SM_MATH(SM_FUNCTION)
}
#define SM_OTHERS(DO)                                                                                                          \
    DO(select) DO(addsat) DO(subsat) DO(hadd) DO(rhadd) DO(mulhi) DO(madhi) DO(madsat) DO(mul24) DO(mad24) DO(rotate)          \
    DO(absdiff) DO(clz) DO(ctz) DO(popcount) DO(reverse_bits) DO(extract_bits) DO(insert_bits) DO(cross) DO(normalize)         \
    DO(reflect) DO(refract) DO(faceforward)
SM_OTHERS(SM_FUNCTION)
template <class T, int N> T dot(vec<T, N>, vec<T, N>);
template <class T, int N> T length(vec<T, N>);
template <class T, int N> T distance(vec<T, N>, vec<T, N>);
SM_TEST(isnan)
SM_TEST(isinf)
SM_TEST(isfinite)
SM_TEST(isnormal)
SM_TEST(signbit)
SM_TEST(all)
SM_TEST(any)
#define SM_LANES(P)                                                                                                            \
    SM_FUNCTION(P##_sum) SM_FUNCTION(P##_product) SM_FUNCTION(P##_min) SM_FUNCTION(P##_max) SM_FUNCTION(P##_and)               \
    SM_FUNCTION(P##_or) SM_FUNCTION(P##_xor) SM_FUNCTION(P##_prefix_inclusive_sum) SM_FUNCTION(P##_prefix_exclusive_sum)       \
    SM_FUNCTION(P##_prefix_inclusive_product) SM_FUNCTION(P##_prefix_exclusive_product) SM_FUNCTION(P##_shuffle)               \
    SM_FUNCTION(P##_shuffle_xor) SM_FUNCTION(P##_shuffle_up) SM_FUNCTION(P##_shuffle_down)                                     \
    SM_FUNCTION(P##_shuffle_rotate_up) SM_FUNCTION(P##_shuffle_rotate_down) SM_FUNCTION(P##_shuffle_and_fill_up)               \
    SM_FUNCTION(P##_shuffle_and_fill_down) SM_FUNCTION(P##_broadcast) SM_FUNCTION(P##_broadcast_first) SM_TEST(P##_all)        \
    SM_TEST(P##_any)
SM_LANES(simd)
SM_LANES(quad)
bool simd_is_first();
bool quad_is_first();
struct simd_vote {
    typedef ulong vote_t;
    explicit operator ulong() const;
};
simd_vote simd_ballot(bool);
simd_vote simd_active_threads_mask();
template <class T> bool is_function_constant_defined(const __constant T &);
} // namespace metal
using metal::atomic_bool;
using metal::atomic_float;
using metal::atomic_int;
using metal::atomic_uint;
using metal::atomic_ulong;
