// What the attention kernels share: function constants, operands of a head, and how a row of results ends.
#ifndef ML_METAL_ATTENTION_H
#define ML_METAL_ATTENTION_H

#include "common/reduce.h"
#include "common/visibility.h"

constant int q_dtype [[function_constant(ML_GPU_FC_A_DTYPE)]];
constant int out_dtype [[function_constant(ML_GPU_FC_OUT_DTYPE)]];
constant bool unit_step [[function_constant(ML_GPU_FC_UNIT_STEP)]];
constant bool vectors [[function_constant(ML_GPU_FC_VECTOR)]];

// Positions [row] of a head: element (row, d) at offset + row * stride + d * step.
struct Head {
    long offset, row, step;

    Head(constant ml_gpu_heads &s, int batch, int head) : row(s.row), step(unit_step ? 1 : s.step) {
        offset = s.offset + batch * s.batch + head * s.head;
    }
    long at(int i, int d) const {
        return offset + i * row + d * step;
    }
};

inline float sink_of(constant ml_gpu_sdpa &p, device const void *sinks, int head) {
    return load_float(sinks, p.sink_offset + head * p.sink_step, sink_dtype);
}

// Largest score and sum of exponentials relative to it, of the keys seen so far.
struct Running {
    float top, sum;

    // Takes in one more visible score: its weight; `factor` is for what was added up before.
    float add(float score, thread float &factor) {
        const float larger = max(top, score);
        factor = rescale(top, larger);
        top = larger;
        const float weight = precise::exp(score - base_of(top));
        sum = sum * factor + weight;
        return weight;
    }
    // Nothing was visible, or all of it -inf: the row is zeros, whatever values its weights of zero met. Before the
    // sink.
    bool is_empty() const {
        return top == -INFINITY && !isnan(sum);
    }
    // The sink joins the sum only.
    float add_sink(float sink) {
        float factor;
        add(sink, factor);
        return factor;
    }
    // By which the weighted values are multiplied in the end.
    float normaliser() const {
        return sum == 0.0f ? 1.0f : 1.0f / sum;
    }
};

#endif
