// Elements whose dtype the host chooses, and the dtypes of template arguments.
#ifndef ML_METAL_TYPES_H
#define ML_METAL_TYPES_H

#include <metal_stdlib>

#include "common/params.h"

using namespace metal;

// bfloat16 by its bits, for kernels that must also run where MSL has no bfloat.
inline float bf16_value(ushort bits) {
    return as_type<float>(uint(bits) << 16);
}

// To nearest, ties to even; a NaN stays one.
inline ushort bf16_bits(float x) {
    const uint u = as_type<uint>(x);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return ushort(u >> 16 | 0x40u);
    return ushort((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

inline bool is_hidden(float weight) { // -0
    return as_type<uint>(weight) == 0x80000000u;
}

// Element i of a float dtype.
inline float load_float(device const void *p, long i, int dtype) {
    if (dtype == ML_GPU_F32)
        return ((device const float *)p)[i];
    if (dtype == ML_GPU_F16)
        return float(((device const half *)p)[i]);
    return bf16_value(((device const ushort *)p)[i]);
}

inline void store_float(device void *p, long i, float x, int dtype) {
    if (dtype == ML_GPU_F32)
        ((device float *)p)[i] = x;
    else if (dtype == ML_GPU_F16)
        ((device half *)p)[i] = half(x);
    else
        ((device ushort *)p)[i] = bf16_bits(x);
}

// Template argument of kernels that read any float dtype; they compute with float.
struct any_type {};

// An operand in device memory: element i as T, or groups of four where the address allows it.
template <typename T> struct Operand {
    typedef T element;
    device const T *data;
    Operand(device const void *base, int) : data((device const T *)base) {
    }
    T at(long i) const {
        return data[i];
    }
    vec<T, 4> four(long i) const {
        return *(device const vec<T, 4> *)(data + i);
    }
};
template <> struct Operand<any_type> {
    typedef float element;
    device const void *data;
    int dtype;
    Operand(device const void *base, int dtype_) : data(base), dtype(dtype_) {
    }
    float at(long i) const {
        return load_float(data, i, dtype);
    }
    float4 four(long i) const {
        if (dtype == ML_GPU_F32)
            return *(device const float4 *)((device const float *)data + i);
        if (dtype == ML_GPU_F16)
            return float4(*(device const half4 *)((device const half *)data + i));
        const uint4 bits = uint4(*(device const ushort4 *)((device const ushort *)data + i));
        return as_type<float4>(bits << 16);
    }
};

#endif
