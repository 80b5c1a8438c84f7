// Elements of every dtype, as float or int, and by their bits.
#ifndef ML_METAL_NUMBERS_H
#define ML_METAL_NUMBERS_H

#include "common/types.h"

inline bool is_float_dtype(int dtype) {
    return dtype <= ML_GPU_BF16;
}

inline int load_int(device const void *p, long i, int dtype) {
    if (dtype == ML_GPU_I32)
        return ((device const int *)p)[i];
    const uchar x = ((device const uchar *)p)[i];
    return dtype == ML_GPU_BOOL ? int(x != 0) : int(x);
}

inline float load_number(device const void *p, long i, int dtype) {
    return is_float_dtype(dtype) ? load_float(p, i, dtype) : float(load_int(p, i, dtype));
}

inline uint load_bits(device const void *p, long i, int bytes) {
    return bytes == 4   ? ((device const uint *)p)[i]
           : bytes == 2 ? ((device const ushort *)p)[i]
                        : ((device const uchar *)p)[i];
}

inline void store_bits(device void *p, long i, uint bits, int bytes) {
    if (bytes == 4)
        ((device uint *)p)[i] = bits;
    else if (bytes == 2)
        ((device ushort *)p)[i] = ushort(bits);
    else
        ((device uchar *)p)[i] = uchar(bits);
}

// Rounds or truncates into any dtype; bool is "not zero". False when the value is NaN or out of an integer dtype's
// range; the element is then left as it was.
inline bool store_number(device void *p, long i, float x, int dtype) {
    if (is_float_dtype(dtype)) {
        store_float(p, i, x, dtype);
    } else if (dtype == ML_GPU_BOOL) {
        ((device uchar *)p)[i] = uchar(x != 0.0f);
    } else if (dtype == ML_GPU_I32) {
        if (!(x >= -2147483648.0f && x < 2147483648.0f))
            return false;
        ((device int *)p)[i] = int(x);
    } else {
        if (!(x > -1.0f && x < 256.0f))
            return false;
        ((device uchar *)p)[i] = uchar(x);
    }
    return true;
}

// Beyond 24 bits what is cut off leaves its mark in the last bit (rounding to odd), so that rounding to bf16 is the
// only one.
inline float float_to_odd(int x) {
    const uint size = x < 0 ? 0u - uint(x) : uint(x);
    const uint cut = size >= 1u << 24 ? 8u - clz(size) : 0u;
    uint kept = size >> cut;
    if ((size & ((1u << cut) - 1u)) != 0)
        kept |= 1u;
    const float y = float(kept << cut);
    return x < 0 ? -y : y;
}

inline bool store_int(device void *p, long i, int x, int dtype) {
    if (is_float_dtype(dtype)) {
        store_float(p, i, dtype == ML_GPU_BF16 ? float_to_odd(x) : float(x), dtype);
    } else if (dtype == ML_GPU_I32) {
        ((device int *)p)[i] = x;
    } else if (dtype == ML_GPU_BOOL) {
        ((device uchar *)p)[i] = uchar(x != 0);
    } else {
        if (x < 0 || x > 255)
            return false;
        ((device uchar *)p)[i] = uchar(x);
    }
    return true;
}

#endif
