// Reductions over a threadgroup: with simdgroup operations, then over the simdgroups; or a tree in threadgroup memory,
// for devices without them and a power of two of threads (M. Harris, Optimizing parallel reduction in CUDA, 2007).
#ifndef ML_METAL_REDUCE_H
#define ML_METAL_REDUCE_H

#include "common/types.h"

constant bool simd_reduce [[function_constant(ML_GPU_FC_SIMD_REDUCE)]];

struct MaxOf {
    static float identity() {
        return -INFINITY;
    }
    static float both(float a, float b) {
        return max(a, b);
    }
    static float lanes(float v) {
        return simd_max(v);
    }
};
struct SumOf {
    static float identity() {
        return 0.0f;
    }
    static float both(float a, float b) {
        return a + b;
    }
    static float lanes(float v) {
        return simd_sum(v);
    }
};

// Where a thread stands in its threadgroup.
struct Place {
    uint thread_index, threads;
    uint simdgroup, simdgroups, lane;
};

// The same result in every thread. scratch: one float per simdgroup, or per thread without simd_reduce; it may be used
// again at once.
template <typename Op> float reduce_threads(float value, threadgroup float *scratch, Place at) {
    if (simd_reduce) {
        value = Op::lanes(value);
        if (at.simdgroups == 1)
            return value;
        if (at.lane == 0)
            scratch[at.simdgroup] = value;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        value = Op::lanes(at.lane < at.simdgroups ? scratch[at.lane] : Op::identity());
    } else {
        scratch[at.thread_index] = value;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint half_way = at.threads / 2; half_way > 0; half_way /= 2) {
            if (at.thread_index < half_way)
                scratch[at.thread_index] = Op::both(scratch[at.thread_index], scratch[at.thread_index + half_way]);
            threadgroup_barrier(mem_flags::mem_threadgroup);
        }
        value = scratch[0];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    return value;
}

// The factor that moves a sum of exponentials from one maximum to a larger one; a NaN in the sum stays.
inline float rescale(float from, float to) {
    return from == to ? 1.0f : precise::exp(from - to);
}

// What exponentials are taken relative to: nothing visible, or all of it -inf, leaves zeros.
inline float base_of(float top) {
    return top == -INFINITY ? 0.0f : top;
}

#endif
