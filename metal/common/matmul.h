// What the matmul kernels share: function constants, places in a batch, and the epilogue.
#ifndef ML_METAL_MATMUL_H
#define ML_METAL_MATMUL_H

#include "common/activation.h"

constant bool use_out_source [[function_constant(ML_GPU_FC_USE_OUT_SOURCE)]];
constant bool do_axpby [[function_constant(ML_GPU_FC_DO_AXPBY)]];
constant bool has_bias [[function_constant(ML_GPU_FC_HAS_BIAS)]];
constant int activation [[function_constant(ML_GPU_FC_ACTIVATION)]];
constant int skip_hidden [[function_constant(ML_GPU_FC_SKIP_HIDDEN)]];
constant bool has_batch [[function_constant(ML_GPU_FC_HAS_BATCH)]];
constant int c_dtype [[function_constant(ML_GPU_FC_C_DTYPE)]];
constant int bias_dtype [[function_constant(ML_GPU_FC_BIAS_DTYPE)]];
constant int out_dtype [[function_constant(ML_GPU_FC_OUT_DTYPE)]];

// Where item `index` of the batch begins in a, b, c and out.
struct BatchOffsets {
    long a, b, c, out;
};

inline BatchOffsets batch_offsets(constant ml_gpu_matmul &p, uint index) {
    BatchOffsets o = {p.a.offset, p.b.offset, p.c.offset, p.out.offset};
    if (!has_batch)
        return o;
    for (int d = p.batch_ndim - 1; d >= 0; d--) {
        const uint size = uint(p.batch_shape[d]);
        const long i = long(index % size);
        index /= size;
        o.a += i * p.a.batch[d];
        o.b += i * p.b.batch[d];
        o.c += i * p.c.batch[d];
        o.out += i * p.out.batch[d];
    }
    return o;
}

// alpha * sum + beta * c + bias, then the activation, one rounding as it is stored. c and bias are read only where they
// count.
struct Epilogue {
    device const void *c;
    device const void *bias;
    device void *out;
    long c_offset, out_offset;

    void store(constant ml_gpu_matmul &p, float sum, int i, int j) const {
        float value = do_axpby ? p.alpha * sum : sum;
        if (use_out_source) {
            const float source = load_float(c, c_offset + i * p.c.rs + j * p.c.cs, c_dtype);
            value += do_axpby ? p.beta * source : source;
        }
        if (has_bias)
            value += load_float(bias, p.bias_offset + i * p.bias_rs + j * p.bias_cs, bias_dtype);
        store_float(out, out_offset + i * p.out.rs + j * p.out.cs, activate(value, activation), out_dtype);
    }
};

// What invisible keys leave out of the values of an attention: their weights are -0 in a, and b was taken as zero where
// it is not finite; here such elements come back for the rows that do see them.
template <typename T>
float add_visible(float sum, Operand<T> a, Operand<T> b, constant ml_gpu_matmul &p, BatchOffsets at, int i, int j) {
    for (int k = 0; k < p.k; k++) {
        const float value = float(b.at(at.b + k * p.b.rs + j * p.b.cs));
        if (isfinite(value))
            continue;
        const float weight = float(a.at(at.a + i * p.a.rs + k * p.a.cs));
        if (!is_hidden(weight))
            sum += weight * value;
    }
    return sum;
}

#endif
