/* Element types: sizes, names, promotion, conversion. */
#ifndef ML_CORE_DTYPE_H
#define ML_CORE_DTYPE_H

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

/* SEMANTICS "Dtypes": equal stays; f16 with bf16 gives f32; f32 wins over both; a float wins over an integer; bool < u8 <
 * i32. */
ml_dtype ml_dtype_promote(ml_dtype a, ml_dtype b);

/* IEEE half and bfloat16, round to nearest even, every bit pattern; NaNs stay NaNs (quiet, sign and top payload kept). */
float ml_half_to_float(uint16_t h);
uint16_t ml_float_to_half(float f);
uint16_t ml_double_to_half(double f); /* one rounding */
float ml_bfloat_to_float(uint16_t h);
uint16_t ml_float_to_bfloat(float f);
uint16_t ml_double_to_bfloat(double f);

/* One element. load widens to double exactly; store rounds once (float -> int truncates; the caller checks ranges). */
double ml_load_element(ml_dtype dt, const void *p);
void ml_store_element(ml_dtype dt, void *p, double value);

#endif
