// What translated code uses: function constants, threadgroup variables, loop and site marks, and the binding of kernel
// parameters.
#pragma once

#include "simdgroup_matrix.h"
#include "integer.h"
#include "matrix.h"
#include "library.h"

namespace metal {
namespace sm {

// ---- function constants -------------------------------------------------------------------------------------------------------

// constant T name [[function_constant(i)]]; becomes static const constant<T, ...> name; a use of it name(). Offsets are into
// the pipeline's block.
template <typename T, uint32_t Offset, uint32_t Defined> struct constant {
    typedef T type;
    SM_INLINE const T &at(const unsigned char *block) const {
        return *(const T *)(block + Offset);
    }
    SM_INLINE bool defined(const unsigned char *block) const {
        return block[Defined] != 0;
    }
    SM_INLINE const T &operator()() const {
        return at(self()->constants);
    }
    SM_INLINE operator const T &() const {
        return (*this)();
    }
    SM_INLINE bool defined() const {
        return defined(self()->constants);
    }
};

// ---- designated array elements ------------------------------------------------------------------------------------------------

// T a[n] = {[first ... last] = x}; stores x to all of them.
template <typename T> struct element_range {
    T *a;
    long first, last;
    constexpr SM_INLINE void operator=(const T &x) const {
        const T value = x;
        for (long i = first; i <= last; i++)
            a[i] = value;
    }
};
template <typename T, size_t N>
constexpr SM_INLINE element_range<remove_const_t<T>> elements(T (&a)[N], long first, long last) {
    return {const_cast<remove_const_t<T> *>(a), first, last};
}
template <typename T, size_t N> constexpr SM_INLINE element_range<remove_const_t<T>> elements(T (&a)[N], long i) {
    return elements(a, i, i);
}

// ---- threadgroup variables ------------------------------------------------------------------------------------------------------

__attribute__((visibility("hidden"))) extern sm_threadgroup_array *arrays;

struct registered_array : sm_threadgroup_array {
    registered_array(const char *variable, const char *where, uint at, uint64_t bytes, uint32_t alignment) {
        next = arrays;
        name = variable;
        file = where;
        line = at;
        align = alignment;
        size = bytes;
        offset = 0;
        arrays = this;
    }
};
// Site is a local class of the kernel: one per declaration and instantiation.
template <typename T, typename Site> struct threadgroup_site {
    static registered_array array;
};
template <typename T, typename Site>
registered_array threadgroup_site<T, Site>::array(Site::name(), Site::file(), Site::line(), sizeof(T), alignof(T));

template <typename T, typename Site> SM_INLINE T &threadgroup_variable() {
    return *(T *)(self()->group->static_memory + threadgroup_site<T, Site>::array.offset);
}

// ---- places ------------------------------------------------------------------------------------------------------------------------

// Tells apart operations on one source line: wraps the first argument of each.
template <uint Mark, typename T> SM_INLINE T &&marked(T &&x) {
    self()->mark = Mark;
    return static_cast<T &&>(x);
}
template <uint Mark, typename T> SM_INLINE const T &marked(const T &x) {
    self()->mark = Mark;
    return x;
}

// Around a loop in which lanes may meet: lanes in different iterations do not.
struct loop {
    const uint64_t outer;
    const uint line;
    uint turn;
    explicit SM_INLINE loop(uint at) : outer(self()->path), line(at), turn(0) {
        self()->loop_depth++;
    }
    SM_INLINE ~loop() {
        sm_thread *t = self();
        t->loop_depth--;
        t->path = outer;
    }
    SM_INLINE void step() {
        sm_thread *t = self();
        turn++;
        const uint depth = t->loop_depth - 1;
        if (depth < SM_LOOP_LEVELS)
            t->loops[depth] = {line, turn};
        const uint64_t mixed = (outer ^ ((uint64_t)line << 32 | turn)) * 0x9e3779b97f4a7c15u;
        t->path = mixed ^ mixed >> 29;
    }
};

// A member of the user's that is called like a swizzle: .xy has become .template sm_swizzle<0, 1>().
#define SM_SWIZZLE_MEMBER(NAME, ...) \
    template <int... I, ::metal::enable_if_t<::metal::is_same_v<::metal::sm::ints<I...>, ::metal::sm::ints<__VA_ARGS__>>, int> = 0> \
    auto &sm_swizzle() { \
        return NAME; \
    } \
    template <int... I, ::metal::enable_if_t<::metal::is_same_v<::metal::sm::ints<I...>, ::metal::sm::ints<__VA_ARGS__>>, int> = 0> \
    auto &sm_swizzle() const { \
        return NAME; \
    } \
    template <int... I, ::metal::enable_if_t<::metal::is_same_v<::metal::sm::ints<I...>, ::metal::sm::ints<__VA_ARGS__>>, int> = 0> \
    auto &sm_swizzle_ref() { \
        return NAME; \
    }

// ---- binding -----------------------------------------------------------------------------------------------------------------------

template <typename F> struct signature;
template <typename R, typename... P> struct signature<R (*)(P...)> {
    static_assert(is_void_v<R>, "a kernel returns void");
    template <int I, typename First, typename... Rest> struct nth : nth<I - 1, Rest...> {};
    template <typename First, typename... Rest> struct nth<0, First, Rest...> {
        typedef First type;
    };
    template <int I> using parameter = typename nth<I, P...>::type;
};

template <typename P> struct pointee {
    typedef remove_pointer_t<remove_reference_t<P>> type;
};
template <typename T> struct size_of {
    static constexpr uint32_t size = sizeof(T), align = alignof(T);
};
template <> struct size_of<void> {
    static constexpr uint32_t size = 0, align = 1;
};
template <> struct size_of<const void> : size_of<void> {};

// A buffer or threadgroup parameter: a pointer, or a reference to what is at the address.
template <typename P> SM_INLINE P bind(void *address) {
    static_assert(is_pointer_v<P> || is_reference_v<P>, "a buffer parameter is a pointer or a reference");
    if constexpr (is_pointer_v<P>)
        return (P)address;
    else
        return *(remove_reference_t<P> *)address;
}
template <typename P> constexpr sm_argument describe(sm_argument_kind kind, int32_t index, const char *name, const char *type,
                                                     bool is_constant, int (*enabled)(const unsigned char *)) {
    typedef typename pointee<P>::type T;
    typedef size_of<remove_cv_t<T>> S;
    return sm_argument{kind, index, name, type, S::size, S::align, is_const_v<T> ? SM_MODE_READ : SM_MODE_READ_WRITE,
                       is_constant, is_reference_v<P>, is_pointer_v<P>, enabled != nullptr, enabled};
}
constexpr sm_argument describe_other(sm_argument_kind kind, int32_t index, const char *name, const char *type) {
    return sm_argument{kind, index, name, type, 0, 1, SM_MODE_READ, 0, 0, 0, 0, nullptr};
}

// Built-ins: uint or ushort, scalar or vector as the kernel declares them.
template <typename P> SM_INLINE remove_cv_t<remove_reference_t<P>> builtin(const uint32_t (&v)[3]) {
    typedef remove_cv_t<remove_reference_t<P>> T;
    T r;
    if constexpr (is_vector_v<T>) {
        for (int i = 0; i < vector_traits<T>::size && i < 3; i++)
            r[i] = (element_t<T>)v[i];
        return r;
    } else {
        return (T)v[0];
    }
}
template <typename P> SM_INLINE remove_cv_t<remove_reference_t<P>> builtin(uint32_t v) {
    return (remove_cv_t<remove_reference_t<P>>)v;
}
} // namespace sm

template <typename T, uint32_t Offset, uint32_t Defined>
SM_INLINE bool is_function_constant_defined(const sm::constant<T, Offset, Defined> &c) {
    return c.defined();
}
} // namespace metal
