// Reductions of a long array. Sum: a partial sum per threadgroup, then a second dispatch over those. Maximum: a device
// atomic. Argmax: the threadgroup that comes last finishes, in one dispatch.
#include <metal_stdlib>
using namespace metal;

template <typename T>
[[kernel]] void sum_partial(device const T *x [[buffer(0)]], device float *partial [[buffer(1)]],
                            constant uint &n [[buffer(2)]], uint i [[thread_position_in_grid]],
                            uint step [[threads_per_grid]], uint thread_index [[thread_index_in_threadgroup]],
                            uint threads [[threads_per_threadgroup]], uint group [[threadgroup_position_in_grid]]) {
    threadgroup float tree[256];
    float sum = 0.0f;
    for (; i < n; i += step)
        sum += float(x[i]);
    tree[thread_index] = sum;
    for (uint width = threads / 2; width > 0; width /= 2) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (thread_index < width)
            tree[thread_index] += tree[thread_index + width];
    }
    if (thread_index == 0)
        partial[group] = tree[0];
}

// One simdgroup.
[[kernel]] void sum_final(device const float *partial [[buffer(0)]], device float *out [[buffer(1)]],
                          constant uint &n [[buffer(2)]], uint lane [[thread_index_in_simdgroup]]) {
    float sum = 0.0f;
    for (uint i = lane; i < n; i += 32)
        sum += partial[i];
    sum = simd_sum(sum);
    if (lane == 0)
        out[0] = sum;
}

// Bits of a float such that unsigned order is the order of the floats (no NaNs), and back.
inline uint ordered(float x) {
    const uint bits = as_type<uint>(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// top holds 0 before, ordered(maximum) after.
template <typename T>
[[kernel]] void max_atomic(device const T *x [[buffer(0)]], device atomic_uint *top [[buffer(1)]],
                           constant uint &n [[buffer(2)]], uint i [[thread_position_in_grid]],
                           uint thread_index [[thread_index_in_threadgroup]],
                           uint lane [[thread_index_in_simdgroup]]) {
    threadgroup atomic_uint best;
    if (thread_index == 0)
        atomic_store_explicit(&best, 0u, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const uint own = simd_max(i < n ? ordered(float(x[i])) : 0u);
    if (lane == 0)
        atomic_fetch_max_explicit(&best, own, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (thread_index == 0)
        atomic_fetch_max_explicit(top, atomic_load_explicit(&best, memory_order_relaxed), memory_order_relaxed);
}

struct Candidate {
    float value;
    uint index;

    // The larger value; of equal ones the first.
    Candidate better(Candidate other) const thread {
        const bool take = other.value > value || (other.value == value && other.index < index);
        return {take ? other.value : value, take ? other.index : index};
    }
    Candidate over_simdgroup() const thread {
        Candidate best = {value, index};
        for (ushort d = 16; d > 0; d /= 2)
            best = best.better({simd_shuffle_down(best.value, d), simd_shuffle_down(best.index, d)});
        return best;
    }
};

// The result lands in lane 0 of simdgroup 0.
inline Candidate over_threadgroup(Candidate own, threadgroup float *values, threadgroup uint *indices, uint lane,
                                  uint simdgroup, uint simdgroups) {
    own = own.over_simdgroup();
    if (lane == 0) {
        values[simdgroup] = own.value;
        indices[simdgroup] = own.index;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (lane < simdgroups)
        own = {values[lane], indices[lane]};
    else
        own = {-INFINITY, 0xffffffffu};
    return own.over_simdgroup();
}

// arrived holds 0 before. Needs a device with atomic_thread_fence (MSL 3.2).
template <typename T>
[[kernel]] void argmax(device const T *x [[buffer(0)]], device float *values [[buffer(1)]],
                       device uint *indices [[buffer(2)]], device atomic_uint *arrived [[buffer(3)]],
                       device uint *out [[buffer(4)]], constant uint &n [[buffer(5)]],
                       uint i [[thread_position_in_grid]], uint step [[threads_per_grid]],
                       uint thread_index [[thread_index_in_threadgroup]], uint threads [[threads_per_threadgroup]],
                       uint group [[threadgroup_position_in_grid]], uint groups [[threadgroups_per_grid]],
                       uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
                       uint simdgroups [[simdgroups_per_threadgroup]]) {
    threadgroup float group_values[32];
    threadgroup uint group_indices[32];
    threadgroup bool is_last;

    Candidate best = {-INFINITY, 0xffffffffu};
    for (; i < n; i += step)
        best = best.better({float(x[i]), i});
    best = over_threadgroup(best, group_values, group_indices, lane, simdgroup, simdgroups);
    if (thread_index == 0) {
        values[group] = best.value;
        indices[group] = best.index;
        atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
        is_last = atomic_fetch_add_explicit(arrived, 1u, memory_order_relaxed) == groups - 1;
    }
    threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
    if (!is_last)
        return;
    atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
    best = {-INFINITY, 0xffffffffu};
    for (uint g = thread_index; g < groups; g += threads)
        best = best.better({values[g], indices[g]});
    best = over_threadgroup(best, group_values, group_indices, lane, simdgroup, simdgroups);
    if (thread_index == 0)
        out[0] = best.index;
}

#define REDUCE(name, T)                                                                                                \
    template [[host_name("sum_partial_" name)]] [[kernel]] void sum_partial<T>(                                        \
        device const T *, device float *, constant uint &, uint, uint, uint, uint, uint);                              \
    template [[host_name("max_atomic_" name)]] [[kernel]] void max_atomic<T>(                                          \
        device const T *, device atomic_uint *, constant uint &, uint, uint, uint);                                    \
    template [[host_name("argmax_" name)]] [[kernel]] void argmax<T>(                                                  \
        device const T *, device float *, device uint *, device atomic_uint *, device uint *, constant uint &, uint,   \
        uint, uint, uint, uint, uint, uint, uint, uint);
REDUCE("float32", float)
REDUCE("float16", half)
REDUCE("bfloat16", bfloat)
