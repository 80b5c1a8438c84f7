// y = A x for a row-major A [rows, columns]. A threadgroup makes four rows: its simdgroups take turns over the columns,
// a lane has four rows of four columns in registers, and the simdgroups' sums meet in threadgroup memory.
#include <metal_stdlib>
using namespace metal;

template <typename T, uint ROWS = 4, uint SIMDGROUPS = 4>
[[kernel, max_total_threads_per_threadgroup(SIMDGROUPS * 32)]] void
gemv(device const T *a [[buffer(0)]], device const T *x [[buffer(1)]], device T *y [[buffer(2)]],
     constant uint &rows [[buffer(3)]], constant uint &columns [[buffer(4)]],
     uint group [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]],
     uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]) {
    threadgroup float partial[SIMDGROUPS][ROWS];
    const uint first = group * ROWS;
    float sums[ROWS] = {};
    float values[4];

    for (uint c = (simdgroup * 32 + lane) * 4; c < columns; c += SIMDGROUPS * 32 * 4) {
        const uint here = min(4u, columns - c);
        for (uint k = 0; k < here; k++)
            values[k] = float(x[c + k]);
        for (uint r = 0; r < ROWS && first + r < rows; r++) {
            device const T *at = a + (first + r) * columns + c;
            for (uint k = 0; k < here; k++)
                sums[r] += float(at[k]) * values[k];
        }
    }
    for (uint r = 0; r < ROWS; r++) {
        const float sum = simd_sum(sums[r]);
        if (lane == 0)
            partial[simdgroup][r] = sum;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (thread_index < ROWS && first + thread_index < rows) {
        float sum = 0.0f;
        for (uint s = 0; s < SIMDGROUPS; s++)
            sum += partial[s][thread_index];
        y[first + thread_index] = T(sum);
    }
}

#define GEMV(name, T)                                                                                                  \
    template [[host_name("gemv_" name)]] [[kernel]] void gemv<T>(                                                      \
        device const T *, device const T *, device T *, constant uint &, constant uint &, uint, uint, uint, uint);
GEMV("float32", float)
GEMV("float16", half)
GEMV("bfloat16", bfloat)
