#include <metal_stdlib>
using namespace metal;

// out[g] = sum of x[g * n ... g * n + n - 1], n threads per threadgroup (a power of two).
kernel void block_sum(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                      threadgroup float *partial [[threadgroup(0)]], uint i [[thread_position_in_grid]],
                      uint lane [[thread_position_in_threadgroup]], uint n [[threads_per_threadgroup]],
                      uint group [[threadgroup_position_in_grid]]) {
    partial[lane] = x[i];
    for (uint half_n = n / 2; half_n > 0; half_n /= 2) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (lane < half_n)
            partial[lane] += partial[lane + half_n];
    }
    if (lane == 0)
        out[group] = partial[0];
}

// The same, by somebody who measured that it is faster without the barrier.
kernel void block_sum_fast(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                           threadgroup float *partial [[threadgroup(0)]], uint i [[thread_position_in_grid]],
                           uint lane [[thread_position_in_threadgroup]], uint n [[threads_per_threadgroup]],
                           uint group [[threadgroup_position_in_grid]]) {
    partial[lane] = x[i];
    for (uint half_n = n / 2; half_n > 0; half_n /= 2) {
        if (lane < half_n)
            partial[lane] += partial[lane + half_n];
    }
    if (lane == 0)
        out[group] = partial[0];
}
