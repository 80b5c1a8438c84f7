// Softmax of the rows of a matrix, a threadgroup per row: simdgroup reductions, then one over the simdgroups.
#include <metal_stdlib>
using namespace metal;

template <typename T>
[[kernel]] void softmax(device const T *x [[buffer(0)]], device T *out [[buffer(1)]],
                        constant uint &columns [[buffer(2)]], uint row [[threadgroup_position_in_grid]],
                        uint thread_index [[thread_index_in_threadgroup]], uint threads [[threads_per_threadgroup]],
                        uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]],
                        uint simdgroups [[simdgroups_per_threadgroup]]) {
    threadgroup float tops[32];
    threadgroup float sums[32];
    x += row * columns;
    out += row * columns;

    float top = -INFINITY;
    for (uint c = thread_index; c < columns; c += threads)
        top = max(top, float(x[c]));
    top = simd_max(top);
    if (lane == 0)
        tops[simdgroup] = top;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    top = simd_max(lane < simdgroups ? tops[lane] : -INFINITY);

    float sum = 0.0f;
    for (uint c = thread_index; c < columns; c += threads)
        sum += exp(float(x[c]) - top);
    sum = simd_sum(sum);
    if (lane == 0)
        sums[simdgroup] = sum;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const float scale = 1.0f / simd_sum(lane < simdgroups ? sums[lane] : 0.0f);

    for (uint c = thread_index; c < columns; c += threads)
        out[c] = T(exp(float(x[c]) - top) * scale);
}

#define SOFTMAX(name, T)                                                                                               \
    template [[host_name("softmax_" name)]] [[kernel]] void softmax<T>(                                                \
        device const T *, device T *, constant uint &, uint, uint, uint, uint, uint, uint);
SOFTMAX("float32", float)
SOFTMAX("float16", half)
SOFTMAX("bfloat16", bfloat)
