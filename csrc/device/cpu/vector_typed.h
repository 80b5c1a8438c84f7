/* Vectors from and to memory of any float dtype, after vector_<tier>.h. With a constant dtype nothing is decided at run
 * time. */
#ifndef ML_CPU_VECTOR_TYPED_H
#define ML_CPU_VECTOR_TYPED_H

#include "core/dtype.h"

V_FN vf load_as(ml_dtype dtype, const void *p) {
    return dtype == ML_F16 ? v_from_f16(p) : dtype == ML_BF16 ? v_from_bf16(p) : v_load(p);
}
V_FN void store_as(ml_dtype dtype, void *p, vf v) {
    if (dtype == ML_F16)
        v_to_f16(p, v);
    else if (dtype == ML_BF16)
        v_to_bf16(p, v);
    else
        v_store(p, v);
}
/* Address of element i. */
V_FN const void *at(ml_dtype dtype, const void *p, int64_t i) {
    return (const char *)p + i * (dtype == ML_F32 ? 4 : 2);
}
V_FN void *at_mutable(ml_dtype dtype, void *p, int64_t i) {
    return (char *)p + i * (dtype == ML_F32 ? 4 : 2);
}
V_FN vf load_tail_as(ml_dtype dtype, const void *p, int64_t n) {
    return dtype == ML_F16 ? v_from_f16_n(p, n) : dtype == ML_BF16 ? v_from_bf16_n(p, n) : v_load_n(p, n, 0.0f);
}
V_FN void store_tail_as(ml_dtype dtype, void *p, vf v, int64_t n) {
    if (dtype == ML_F16)
        v_to_f16_n(p, v, n);
    else if (dtype == ML_BF16)
        v_to_bf16_n(p, v, n);
    else
        v_store_n(p, v, n);
}
/* Two vectors that follow each other; for bf16 one conversion serves both unless there is a NaN. */
V_FN void store_pair_as(ml_dtype dtype, void *p, vf a, vf b) {
    if (dtype == ML_BF16 && VW > 1 && __builtin_expect(!v_any_nan(a, b), 1)) {
        v_to_bf16_pair(p, a, b);
        return;
    }
    store_as(dtype, p, a);
    store_as(dtype, at_mutable(dtype, p, VW), b);
}

#endif
