// <metal_atomic>, barriers and fences. Atomics are real ones: threadgroups run on several CPUs.
#pragma once

#include "base.h"
#include "half.h"

namespace metal {

enum class mem_flags {
    mem_none = SM_MEM_NONE,
    mem_device = SM_MEM_DEVICE,
    mem_threadgroup = SM_MEM_THREADGROUP,
    mem_texture = SM_MEM_TEXTURE,
    mem_threadgroup_imageblock = SM_MEM_THREADGROUP_IMAGEBLOCK,
    mem_device_and_threadgroup = SM_MEM_DEVICE | SM_MEM_THREADGROUP
};
constexpr SM_INLINE mem_flags operator|(mem_flags a, mem_flags b) {
    return (mem_flags)((int)a | (int)b);
}
constexpr SM_INLINE mem_flags operator&(mem_flags a, mem_flags b) {
    return (mem_flags)((int)a & (int)b);
}

enum memory_order {
    memory_order_relaxed = __ATOMIC_RELAXED,
    memory_order_acquire = __ATOMIC_ACQUIRE,
    memory_order_release = __ATOMIC_RELEASE,
    memory_order_acq_rel = __ATOMIC_ACQ_REL,
    memory_order_seq_cst = __ATOMIC_SEQ_CST
};
enum thread_scope {
    thread_scope_thread = SM_SCOPE_THREAD,
    thread_scope_simdgroup = SM_SCOPE_SIMDGROUP,
    thread_scope_threadgroup = SM_SCOPE_THREADGROUP,
    thread_scope_device = SM_SCOPE_DEVICE
};
typedef thread_scope memory_scope;
constexpr thread_scope memory_scope_device = thread_scope_device;
constexpr thread_scope memory_scope_threadgroup = thread_scope_threadgroup;
constexpr thread_scope memory_scope_simdgroup = thread_scope_simdgroup;
constexpr thread_scope memory_scope_thread = thread_scope_thread;

// The place of a call in the user's source, as default arguments.
#define SM_AT const char *sm_file = __builtin_FILE(), uint sm_line = __builtin_LINE()

namespace sm {
SM_INLINE void barrier(const char *operation, sm_scope scope, mem_flags flags, const char *file, uint line) {
    const sm_place place = {operation, file, line};
    host->barrier(&place, scope, (uint32_t)flags);
    self()->mark = 0;
}
} // namespace sm

SM_INLINE void threadgroup_barrier(mem_flags flags, SM_AT) {
    sm::barrier("threadgroup_barrier", SM_SCOPE_THREADGROUP, flags, sm_file, sm_line);
}
SM_INLINE void threadgroup_barrier(mem_flags flags, thread_scope, SM_AT) {
    sm::barrier("threadgroup_barrier", SM_SCOPE_THREADGROUP, flags, sm_file, sm_line);
}
SM_INLINE void simdgroup_barrier(mem_flags flags, SM_AT) {
    sm::barrier("simdgroup_barrier", SM_SCOPE_SIMDGROUP, flags, sm_file, sm_line);
}
SM_INLINE void simdgroup_barrier(mem_flags flags, thread_scope, SM_AT) {
    sm::barrier("simdgroup_barrier", SM_SCOPE_SIMDGROUP, flags, sm_file, sm_line);
}
SM_INLINE void atomic_thread_fence(mem_flags flags, memory_order order, thread_scope scope = thread_scope_device, SM_AT) {
    const sm_place place = {"atomic_thread_fence", sm_file, sm_line};
    sm::host->fence(&place, (sm_scope)scope, (uint32_t)flags, (int)order);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

template <typename T> struct atomic {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 1 || sizeof(T) == 2, "no atomic of this size");
    T sm_value;
};
template <typename T> using _atomic = atomic<T>;
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<bool> atomic_bool;
typedef atomic<float> atomic_float;
typedef atomic<long> atomic_long;
typedef atomic<ulong> atomic_ulong;
typedef atomic<short> atomic_short;
typedef atomic<ushort> atomic_ushort;

namespace sm {
template <int Size> struct bits_of;
template <> struct bits_of<1> {
    typedef uint8_t type;
};
template <> struct bits_of<2> {
    typedef uint16_t type;
};
template <> struct bits_of<4> {
    typedef uint32_t type;
};
template <> struct bits_of<8> {
    typedef uint64_t type;
};
template <typename T> using bits_t = typename bits_of<sizeof(T)>::type;

template <typename T> SM_INLINE volatile bits_t<T> *word(const volatile atomic<T> *object) {
    return (volatile bits_t<T> *)(uintptr_t)object;
}
// A read-modify-write that the hardware does not have, by compare and exchange (sequentially consistent, which is no weaker
// than any order asked for).
template <typename T, typename F> SM_INLINE T update(volatile atomic<T> *object, F next) {
    bits_t<T> old = __atomic_load_n(word(object), __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(word(object), &old, __builtin_bit_cast(bits_t<T>, (T)next(__builtin_bit_cast(T, old))),
                                        true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
    }
    return __builtin_bit_cast(T, old);
}
} // namespace sm

template <typename T> SM_INLINE void atomic_store_explicit(volatile atomic<T> *object, sm::same_t<T> v, memory_order order) {
    __atomic_store_n(sm::word(object), __builtin_bit_cast(sm::bits_t<T>, v), order);
}
template <typename T> SM_INLINE T atomic_load_explicit(const volatile atomic<T> *object, memory_order order) {
    return __builtin_bit_cast(T, __atomic_load_n(sm::word(object), order));
}
template <typename T>
SM_INLINE T atomic_exchange_explicit(volatile atomic<T> *object, sm::same_t<T> v, memory_order order) {
    return __builtin_bit_cast(T, __atomic_exchange_n(sm::word(object), __builtin_bit_cast(sm::bits_t<T>, v), order));
}
template <typename T>
SM_INLINE bool atomic_compare_exchange_weak_explicit(volatile atomic<T> *object, T *expected, sm::same_t<T> desired,
                                                     memory_order success, memory_order failure) {
    sm::bits_t<T> e = __builtin_bit_cast(sm::bits_t<T>, *expected);
    const bool done = __atomic_compare_exchange_n(sm::word(object), &e, __builtin_bit_cast(sm::bits_t<T>, desired), false,
                                                  success, failure);
    if (!done)
        *expected = __builtin_bit_cast(T, e);
    return done;
}
template <typename T>
SM_INLINE bool atomic_compare_exchange_strong_explicit(volatile atomic<T> *object, T *expected, sm::same_t<T> desired,
                                                       memory_order success, memory_order failure) {
    return atomic_compare_exchange_weak_explicit(object, expected, desired, success, failure);
}

#define SM_ATOMIC(NAME, BUILTIN, EXPR)                                                                                         \
    template <typename T>                                                                                                      \
    SM_INLINE T atomic_fetch_##NAME##_explicit(volatile atomic<T> *object, sm::same_t<T> v, memory_order order) {              \
        if constexpr (is_integral_v<T>)                                                                                        \
            return (T)BUILTIN((volatile T *)sm::word(object), v, order);                                                       \
        else                                                                                                                   \
            return sm::update(object, [=](T old) { return (T)(EXPR); });                                                \
    }
#define SM_ATOMIC_BY_EXCHANGE(NAME, EXPR)                                                                                      \
    template <typename T>                                                                                                      \
    SM_INLINE T atomic_fetch_##NAME##_explicit(volatile atomic<T> *object, sm::same_t<T> v, memory_order) {                    \
        return sm::update(object, [=](T old) { return (T)(EXPR); });                                                    \
    }
SM_ATOMIC(add, __atomic_fetch_add, old + v)
SM_ATOMIC(sub, __atomic_fetch_sub, old - v)
#define SM_ATOMIC_BITS(NAME, BUILTIN)                                                                                          \
    template <typename T>                                                                                                      \
    SM_INLINE T atomic_fetch_##NAME##_explicit(volatile atomic<T> *object, sm::same_t<T> v, memory_order order) {              \
        static_assert(is_integral_v<T>, "atomic bit operations need an integer");                                              \
        return (T)BUILTIN((volatile T *)sm::word(object), v, order);                                                           \
    }
SM_ATOMIC_BITS(and, __atomic_fetch_and)
SM_ATOMIC_BITS(or, __atomic_fetch_or)
SM_ATOMIC_BITS(xor, __atomic_fetch_xor)
SM_ATOMIC_BY_EXCHANGE(min, v < old ? v : old)
SM_ATOMIC_BY_EXCHANGE(max, v > old ? v : old)
// Without a result (atomic_ulong).
template <typename T> SM_INLINE void atomic_min_explicit(volatile atomic<T> *object, sm::same_t<T> v, memory_order order) {
    atomic_fetch_min_explicit(object, v, order);
}
template <typename T> SM_INLINE void atomic_max_explicit(volatile atomic<T> *object, sm::same_t<T> v, memory_order order) {
    atomic_fetch_max_explicit(object, v, order);
}
} // namespace metal

using metal::atomic_bool;
using metal::atomic_float;
using metal::atomic_int;
using metal::atomic_long;
using metal::atomic_uint;
using metal::atomic_ulong;
