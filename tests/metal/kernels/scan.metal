// Inclusive prefix sum in three dispatches: blocks, the blocks' totals (by the same kernel), and their addition.
#include <metal_stdlib>
using namespace metal;

constant constexpr uint PER_THREAD = 4;

// out: sums within the block, in float; totals: the sum of each block.
template <typename T>
[[kernel]] void scan_blocks(device const T *x [[buffer(0)]], device float *out [[buffer(1)]],
                            device float *totals [[buffer(2)]], constant uint &n [[buffer(3)]],
                            uint i [[thread_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
                            uint threads [[threads_per_threadgroup]], uint group [[threadgroup_position_in_grid]],
                            uint lane [[thread_index_in_simdgroup]],
                            uint simdgroup [[simdgroup_index_in_threadgroup]],
                            uint simdgroups [[simdgroups_per_threadgroup]]) {
    threadgroup float simd_totals[32];
    float values[PER_THREAD];
    const uint first = i * PER_THREAD;
    for (uint k = 0; k < PER_THREAD; k++)
        values[k] = first + k < n ? float(x[first + k]) : 0.0f;
    for (uint k = 1; k < PER_THREAD; k++)
        values[k] += values[k - 1];

    const float own = values[PER_THREAD - 1];
    float before = simd_prefix_exclusive_sum(own);
    if (lane == 31)
        simd_totals[simdgroup] = before + own;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (simdgroup == 0) {
        const float sum = simd_prefix_exclusive_sum(lane < simdgroups ? simd_totals[lane] : 0.0f);
        if (lane < simdgroups)
            simd_totals[lane] = sum;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    before += simd_totals[simdgroup];

    for (uint k = 0; k < PER_THREAD; k++)
        if (first + k < n)
            out[first + k] = before + values[k];
    if (thread_index == threads - 1)
        totals[group] = before + own;
}

// totals: inclusive sums of the blocks' totals; block: elements of a block.
template <typename T>
[[kernel]] void scan_add(device const float *sums [[buffer(0)]], device const float *totals [[buffer(1)]],
                         device T *out [[buffer(2)]], constant uint &n [[buffer(3)]],
                         constant uint &block [[buffer(4)]], uint i [[thread_position_in_grid]]) {
    if (i >= n)
        return;
    const uint before = i / block;
    out[i] = T(before > 0 ? sums[i] + totals[before - 1] : sums[i]);
}

#define SCAN(name, T)                                                                                                  \
    template [[host_name("scan_blocks_" name)]] [[kernel]] void scan_blocks<T>(                                        \
        device const T *, device float *, device float *, constant uint &, uint, uint, uint, uint, uint, uint, uint);  \
    template [[host_name("scan_add_" name)]] [[kernel]] void scan_add<T>(device const float *, device const float *,   \
                                                                         device T *, constant uint &, constant uint &, \
                                                                         uint);
SCAN("float32", float)
SCAN("float16", half)
SCAN("bfloat16", bfloat)
