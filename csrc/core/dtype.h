/* Element types: sizes, names, promotion, conversion. */
#ifndef ML_CORE_DTYPE_H
#define ML_CORE_DTYPE_H

#include "core/half.h" /* ml_half_to_float and its siblings, inline */
#include "core/status.h"

#define ML_DTYPE_BIT(dt) (1u << (dt))
#define ML_FLOAT_DTYPES (ML_DTYPE_BIT(ML_F32) | ML_DTYPE_BIT(ML_F16) | ML_DTYPE_BIT(ML_BF16))

static inline size_t ml_dtype_size_of(ml_dtype dt) {
    static const uint8_t sizes[ML_DTYPE_COUNT] = {4, 2, 2, 4, 1, 1};
    return sizes[dt];
}
static inline bool ml_dtype_is_float(ml_dtype dt) {
    return dt <= ML_BF16;
}

/* SEMANTICS "Dtypes": equal stays; f16 with bf16 gives f32; f32 wins over both; a float wins over an integer; bool < u8
 * < i32. */
ml_dtype ml_dtype_promote(ml_dtype a, ml_dtype b);

/* As ml_float_to_half and ml_float_to_bfloat, from a double with one rounding. */
uint16_t ml_double_to_half(double d);
uint16_t ml_double_to_bfloat(double d);

/* One element. load widens to double exactly; store rounds once (float -> int truncates; the caller checks ranges, what
 * is out of range saturates and NaN gives 0). p need not be aligned. */
double ml_load_element(ml_dtype dt, const void *p);
void ml_store_element(ml_dtype dt, void *p, double value);

#endif
