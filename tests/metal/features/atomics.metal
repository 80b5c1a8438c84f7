// Atomics of every kind, in device and threadgroup memory. Slots are read by the tests in the order of the operations.
#include <metal_stdlib>
using namespace metal;

template <typename T>
kernel void atomic_integers(device _atomic<T> *slots [[buffer(0)]], device T *old [[buffer(1)]],
                            uint i [[thread_position_in_grid]]) {
    const T v = T(i);
    atomic_fetch_add_explicit(&slots[0], T(1), memory_order_relaxed);
    atomic_fetch_sub_explicit(&slots[1], T(2), memory_order_relaxed);
    atomic_fetch_and_explicit(&slots[2], T(~(T(1) << (v % 16))), memory_order_relaxed);
    atomic_fetch_or_explicit(&slots[3], T(T(1) << (v % 16)), memory_order_relaxed);
    atomic_fetch_xor_explicit(&slots[4], v, memory_order_relaxed);
    atomic_fetch_min_explicit(&slots[5], v, memory_order_relaxed);
    atomic_fetch_max_explicit(&slots[6], v, memory_order_relaxed);
    old[i] = atomic_fetch_add_explicit(&slots[7], T(1), memory_order_relaxed);
    T expected = atomic_load_explicit(&slots[8], memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&slots[8], &expected, T(expected + 3), memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
    atomic_exchange_explicit(&slots[9], T(77), memory_order_relaxed);
    atomic_store_explicit(&slots[10], T(5), memory_order_relaxed);
}
template [[host_name("atomic_integers_int")]] kernel void atomic_integers<int>(device atomic_int *, device int *, uint);
template [[host_name("atomic_integers_uint")]] kernel void atomic_integers<uint>(device atomic_uint *, device uint *, uint);

kernel void atomic_others(device atomic_float *floats [[buffer(0)]], device atomic_ulong *longs [[buffer(1)]],
                          device atomic_bool *flags [[buffer(2)]], device atomic<uint> *generic [[buffer(3)]],
                          uint i [[thread_position_in_grid]]) {
    atomic_fetch_add_explicit(&floats[0], 0.5f, memory_order_relaxed);
    atomic_fetch_sub_explicit(&floats[1], 0.25f, memory_order_relaxed);
    float want = atomic_load_explicit(&floats[2], memory_order_relaxed);
    while (want < float(i) && !atomic_compare_exchange_weak_explicit(&floats[2], &want, float(i), memory_order_relaxed,
                                                                     memory_order_relaxed))
        ;
    atomic_exchange_explicit(&floats[3], 2.0f, memory_order_relaxed);
    atomic_max_explicit(&longs[0], (ulong(i) << 33) + i, memory_order_relaxed);
    atomic_min_explicit(&longs[1], (ulong(i) << 33) + 5, memory_order_relaxed);
    if (i == 3)
        atomic_store_explicit(&flags[0], true, memory_order_relaxed);
    bool unset = false;
    if (i == 4)
        atomic_compare_exchange_weak_explicit(&flags[1], &unset, true, memory_order_relaxed, memory_order_relaxed);
    atomic_fetch_add_explicit(generic, i, memory_order_relaxed);
}

// In threadgroup memory; a histogram.
kernel void atomic_shared(device const uchar *keys [[buffer(0)]], device uint *counts [[buffer(1)]],
                          device float *sum [[buffer(2)]], uint i [[thread_index_in_threadgroup]],
                          uint n [[threads_per_threadgroup]]) {
    threadgroup atomic_uint bins[16];
    threadgroup atomic_int lowest;
    threadgroup atomic_float total;
    if (i < 16)
        atomic_store_explicit(&bins[i], 0, memory_order_relaxed);
    if (i == 0) {
        atomic_store_explicit(&lowest, 1000, memory_order_relaxed);
        atomic_store_explicit(&total, 0, memory_order_relaxed);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    atomic_fetch_add_explicit(&bins[keys[i] & 15], 1u, memory_order_relaxed);
    atomic_fetch_min_explicit(&lowest, int(keys[i]), memory_order_relaxed);
    atomic_fetch_add_explicit(&total, float(keys[i]), memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (i < 16)
        counts[i] = atomic_load_explicit(&bins[i], memory_order_relaxed);
    if (i == 0) {
        counts[16] = uint(atomic_load_explicit(&lowest, memory_order_relaxed));
        sum[0] = atomic_load_explicit(&total, memory_order_relaxed);
    }
}
