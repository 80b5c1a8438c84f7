// Layer norm over the last axis, a threadgroup per row, four elements at a time; mean first, then the variance about it.
#include <metal_stdlib>
using namespace metal;

constant constexpr uint max_simdgroups = 32;

// The sum over the threadgroup, in every thread. partial: a float per simdgroup, free again when this returns.
inline float threadgroup_sum(float value, threadgroup float *partial, uint lane, uint simdgroup, uint simdgroups) {
    value = simd_sum(value);
    if (lane == 0)
        partial[simdgroup] = value;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    value = simd_sum(lane < simdgroups ? partial[lane] : 0.0f);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return value;
}

template <typename T>
[[kernel]] void layer_norm(device const T *x [[buffer(0)]], device const T *weight [[buffer(1)]],
                           device const T *bias [[buffer(2)]], device T *out [[buffer(3)]],
                           constant uint &columns [[buffer(4)]], constant float &eps [[buffer(5)]],
                           uint row [[threadgroup_position_in_grid]],
                           uint thread_index [[thread_index_in_threadgroup]], uint threads [[threads_per_threadgroup]],
                           uint lane [[thread_index_in_simdgroup]],
                           uint simdgroup [[simdgroup_index_in_threadgroup]],
                           uint simdgroups [[simdgroups_per_threadgroup]]) {
    typedef vec<T, 4> T4;
    threadgroup float partial[max_simdgroups];
    device const T4 *row4 = (device const T4 *)(x + row * columns);
    device T4 *out4 = (device T4 *)(out + row * columns);
    const uint fours = columns / 4;

    float sum = 0.0f;
    for (uint c = thread_index; c < fours; c += threads)
        sum += dot(float4(row4[c]), float4(1.0f));
    const float mean = threadgroup_sum(sum, partial, lane, simdgroup, simdgroups) / columns;

    float square = 0.0f;
    for (uint c = thread_index; c < fours; c += threads) {
        const float4 d = float4(row4[c]) - mean;
        square += dot(d, d);
    }
    const float variance = threadgroup_sum(square, partial, lane, simdgroup, simdgroups) / columns;
    const float scale = rsqrt(variance + eps);

    for (uint c = thread_index; c < fours; c += threads) {
        const float4 w = float4(((device const T4 *)weight)[c]);
        const float4 b = float4(((device const T4 *)bias)[c]);
        out4[c] = T4(fma((float4(row4[c]) - mean) * scale, w, b));
    }
}

#define LAYER_NORM(name, T)                                                                                            \
    template [[host_name("layer_norm_" name)]] [[kernel]] void layer_norm<T>(                                          \
        device const T *, device const T *, device const T *, device T *, constant uint &, constant float &, uint,     \
        uint, uint, uint, uint, uint);
LAYER_NORM("float32", float)
LAYER_NORM("float16", half)
LAYER_NORM("bfloat16", bfloat)
