// Scalar types of MSL, the running thread, and the traits that everything else builds on.
#pragma once

#include "abi.h"
#include <type_traits>

#define SM_INLINE inline __attribute__((always_inline))

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef decltype(sizeof(0)) size_t;
typedef decltype((char *)0 - (char *)0) ptrdiff_t;

// half rounds to binary16 after every operation. g++ 12 and clang 15 have such a type; see half.h for the rest.
#if (defined(__clang__) && (__clang_major__ >= 15 || defined(__AVX512FP16__) || defined(__aarch64__))) || \
    (!defined(__clang__) && defined(__FLT16_MAX__) && defined(__GNUC__) && __GNUC__ >= 12)
typedef _Float16 half;
#define SM_NATIVE_HALF 1
#else
#define SM_NATIVE_HALF 0
struct half;
#endif
struct bfloat;

namespace metal {
using std::add_const;
using std::add_const_t;
using std::add_cv;
using std::add_cv_t;
using std::add_lvalue_reference;
using std::add_lvalue_reference_t;
using std::add_pointer;
using std::add_pointer_t;
using std::add_rvalue_reference;
using std::add_rvalue_reference_t;
using std::add_volatile;
using std::add_volatile_t;
using std::aligned_storage;
using std::alignment_of;
using std::bool_constant;
using std::common_type;
using std::common_type_t;
using std::conditional;
using std::conditional_t;
using std::conjunction;
using std::conjunction_v;
using std::decay;
using std::decay_t;
using std::declval;
using std::disjunction;
using std::disjunction_v;
using std::enable_if;
using std::enable_if_t;
using std::extent;
using std::extent_v;
using std::false_type;
using std::integral_constant;
using std::is_array;
using std::is_array_v;
using std::is_assignable;
using std::is_base_of;
using std::is_base_of_v;
using std::is_class;
using std::is_class_v;
using std::is_const;
using std::is_const_v;
using std::is_constructible;
using std::is_constructible_v;
using std::is_convertible;
using std::is_convertible_v;
using std::is_copy_constructible;
using std::is_default_constructible;
using std::is_enum;
using std::is_enum_v;
using std::is_function;
using std::is_integral;
using std::is_integral_v;
using std::is_lvalue_reference;
using std::is_lvalue_reference_v;
using std::is_pointer;
using std::is_pointer_v;
using std::is_reference;
using std::is_reference_v;
using std::is_rvalue_reference;
using std::is_rvalue_reference_v;
using std::is_same;
using std::is_same_v;
using std::is_standard_layout;
using std::is_trivially_copyable;
using std::is_union;
using std::is_union_v;
using std::is_unsigned;
using std::is_unsigned_v;
using std::is_void;
using std::is_void_v;
using std::is_volatile;
using std::make_signed;
using std::make_signed_t;
using std::make_unsigned;
using std::make_unsigned_t;
using std::negation;
using std::negation_v;
using std::rank;
using std::remove_all_extents;
using std::remove_all_extents_t;
using std::remove_const;
using std::remove_const_t;
using std::remove_cv;
using std::remove_cv_t;
using std::remove_extent;
using std::remove_extent_t;
using std::remove_pointer;
using std::remove_pointer_t;
using std::remove_reference;
using std::remove_reference_t;
using std::remove_volatile;
using std::remove_volatile_t;
using std::true_type;
using std::underlying_type;
using std::underlying_type_t;

template <typename T> constexpr remove_reference_t<T> &&move(T &&x) {
    return static_cast<remove_reference_t<T> &&>(x);
}
template <typename T> constexpr T &&forward(remove_reference_t<T> &x) {
    return static_cast<T &&>(x);
}

// Names of Apple's headers that libraries have come to use.
template <typename... T> using _disjunction = std::disjunction<T...>;
template <typename... T> using _conjunction = std::conjunction<T...>;
template <typename T> using _negation = std::negation<T>;

// Address spaces are no part of types here.
template <typename T> struct remove_addrspace {
    typedef T type;
};
template <typename T> using remove_addrspace_t = T;

// std's traits do not know half and bfloat.
template <typename T>
struct is_floating_point
    : bool_constant<is_same_v<remove_cv_t<T>, float> || is_same_v<remove_cv_t<T>, half> ||
                    is_same_v<remove_cv_t<T>, bfloat>> {};
template <typename T> constexpr bool is_floating_point_v = is_floating_point<T>::value;
template <typename T> struct is_arithmetic : bool_constant<is_integral_v<T> || is_floating_point<T>::value> {};
template <typename T> constexpr bool is_arithmetic_v = is_arithmetic<T>::value;
template <typename T> struct is_scalar : bool_constant<is_arithmetic<T>::value || std::is_scalar_v<T>> {};
template <typename T> constexpr bool is_scalar_v = is_scalar<T>::value;
template <typename T> struct is_fundamental : bool_constant<is_arithmetic<T>::value || is_void_v<T>> {};
template <typename T>
struct is_signed
    : bool_constant<is_floating_point<T>::value || (is_integral_v<T> && !is_unsigned_v<T>)> {};
template <typename T> constexpr bool is_signed_v = is_signed<T>::value;
template <typename T> struct is_object : bool_constant<std::is_object_v<T>> {};

template <typename T, int N> struct vec;
template <typename T, int N> struct packed_vec;

namespace sm {
// A type that takes no part in deduction.
template <typename T> struct same {
    typedef T type;
};
template <typename T> using same_t = typename same<T>::type;

template <typename T> struct vector_traits {
    static constexpr bool is_vector = false;
    static constexpr int size = 1;
    typedef T element;
    typedef T value; // the type arithmetic happens in
};
template <typename T, int N> struct vector_traits<vec<T, N>> {
    static constexpr bool is_vector = true;
    static constexpr int size = N;
    typedef T element;
    typedef vec<T, N> value;
};
template <typename T, int N> struct vector_traits<packed_vec<T, N>> {
    static constexpr bool is_vector = true;
    static constexpr int size = N;
    typedef T element;
    typedef vec<T, N> value;
};
template <typename T> constexpr bool is_vector_v = vector_traits<T>::is_vector;
template <typename T> constexpr bool is_number_v = metal::is_arithmetic<T>::value;
template <typename T> using element_t = typename vector_traits<T>::element;
template <typename T> using value_t = typename vector_traits<T>::value;
// The vector type of an operation on operands of which at least one is a vector.
template <typename A, typename... B> struct widest {
    typedef conditional_t<is_vector_v<A>, value_t<A>, typename widest<B...>::type> type;
};
template <typename A> struct widest<A> {
    typedef value_t<A> type;
};
template <typename... A>
using vector_of = enable_if_t<(is_vector_v<A> || ...), typename widest<A...>::type>;

// The thread that runs on this stack. The assembly has no inputs, so the compiler computes it once per function.
SM_INLINE sm_thread *self() {
    uintptr_t sp;
#if defined(__x86_64__)
    __asm__("mov %%rsp, %0" : "=r"(sp));
#elif defined(__aarch64__)
    __asm__("mov %0, sp" : "=r"(sp));
#else
    sp = (uintptr_t)__builtin_frame_address(0);
#endif
    return sm_thread_of((const void *)sp);
}

// One per module, set when it is opened.
__attribute__((visibility("hidden"))) extern const sm_host *host;
} // namespace sm
} // namespace metal

template <typename To, typename From> constexpr SM_INLINE To as_type(From x) {
    static_assert(sizeof(To) == sizeof(From), "as_type needs types of equal size");
    return __builtin_bit_cast(To, x);
}
namespace metal {
using ::as_type;
}
