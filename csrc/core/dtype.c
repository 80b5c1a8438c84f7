#include "core/dtype.h"

static const char *const dtype_names[ML_DTYPE_COUNT] = {
    [ML_F32] = "float32", [ML_F16] = "float16", [ML_BF16] = "bfloat16",
    [ML_I32] = "int32",   [ML_U8] = "uint8",    [ML_BOOL] = "bool",
};

const char *ml_dtype_name(ml_dtype dtype) {
    return (unsigned)dtype < ML_DTYPE_COUNT ? dtype_names[dtype] : "unknown dtype";
}

size_t ml_dtype_size(ml_dtype dtype) {
    return (unsigned)dtype < ML_DTYPE_COUNT ? ml_dtype_size_of(dtype) : 0;
}

ml_dtype ml_dtype_promote(ml_dtype a, ml_dtype b) {
    if (a == b)
        return a;
    if (ml_dtype_is_float(a) && ml_dtype_is_float(b))
        return ML_F32;
    /* Floats come before integers, and integers from the widest to bool, in the enumeration. */
    return a < b ? a : b;
}

/* A double as a float rounded to odd: truncated, the last bit set where anything was cut off. Rounding that again to a
 * format with at least two bits less gives what one rounding of the double gives (Boldo and Melquiond, "Emulation of
 * FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE Trans. Computers, 2008). */
static float round_to_odd(double d) {
    uint64_t u;
    memcpy(&u, &d, sizeof u);
    const uint32_t sign = (uint32_t)(u >> 32) & 0x80000000u;
    const uint64_t mantissa = u & ((1ull << 52) - 1);
    const int field = (int)(u >> 52 & 0x7ff);
    const int exponent = field - 1023 + 127;
    uint32_t bits;
    if (field == 0x7ff) {
        bits = 0x7f800000u | (uint32_t)(mantissa >> 29) | (mantissa ? 1u << 22 : 0);
    } else if (exponent >= 255) {
        bits = 0x7f7fffffu; /* beyond the largest float: odd, and rounds to infinity like the double itself */
    } else if (exponent > 0) {
        bits = (uint32_t)exponent << 23 | (uint32_t)(mantissa >> 29) | ((mantissa & ((1u << 29) - 1)) != 0);
    } else {
        const uint64_t full = field ? mantissa | 1ull << 52 : mantissa;
        const int shift = 30 - exponent;
        bits = shift > 53 ? full != 0 : (uint32_t)(full >> shift) | ((full & ((1ull << shift) - 1)) != 0);
    }
    return ml_float_from_bits(bits | sign);
}

uint16_t ml_double_to_half(double d) {
    return ml_float_to_half(round_to_odd(d));
}

uint16_t ml_double_to_bfloat(double d) {
    return ml_float_to_bfloat(round_to_odd(d));
}

double ml_load_element(ml_dtype dt, const void *p) {
    uint16_t h;
    float f;
    int32_t i;
    switch (dt) {
    case ML_F32:
        memcpy(&f, p, sizeof f);
        return f;
    case ML_F16:
        memcpy(&h, p, sizeof h);
        return ml_half_to_float(h);
    case ML_BF16:
        memcpy(&h, p, sizeof h);
        return ml_bfloat_to_float(h);
    case ML_I32:
        memcpy(&i, p, sizeof i);
        return i;
    case ML_U8:
        return *(const uint8_t *)p;
    case ML_BOOL:
        return *(const uint8_t *)p != 0;
    case ML_DTYPE_COUNT:
        break;
    }
    return 0;
}

/* Truncates; the conversion in C is undefined outside [low, high] and for NaN. */
static int32_t saturate(double value, double low, double high) {
    if (!(value > low))
        return value <= low ? (int32_t)low : 0;
    return (int32_t)(value < high ? value : high);
}

void ml_store_element(ml_dtype dt, void *p, double value) {
    uint16_t h;
    float f;
    int32_t i;
    switch (dt) {
    case ML_F32:
        f = (float)value;
        memcpy(p, &f, sizeof f);
        return;
    case ML_F16:
        h = ml_double_to_half(value);
        memcpy(p, &h, sizeof h);
        return;
    case ML_BF16:
        h = ml_double_to_bfloat(value);
        memcpy(p, &h, sizeof h);
        return;
    case ML_I32:
        i = saturate(value, INT32_MIN, INT32_MAX);
        memcpy(p, &i, sizeof i);
        return;
    case ML_U8:
        *(uint8_t *)p = (uint8_t)saturate(value, 0, UINT8_MAX);
        return;
    case ML_BOOL:
        *(uint8_t *)p = value != 0;
        return;
    case ML_DTYPE_COUNT:
        return;
    }
}
