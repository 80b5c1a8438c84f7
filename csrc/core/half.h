/* IEEE binary16 and bfloat16 <-> binary32, inline so that loops over them vectorise on any baseline.
 *
 * Round to nearest even for every bit pattern, by integer arithmetic and selects instead of branches. Subnormal halves
 * are rounded by one float addition of a constant whose ulp is the smallest subnormal half; after F. Giesen, "Half to
 * float done quick" (2012) and his float-to-half variants. No intermediate is a subnormal float, so that flush-to-zero
 * modes change nothing; the rounding mode is taken to be the default one. NaNs become quiet and keep sign and top
 * payload bits, as the F16C and AVX512-BF16 instructions do.
 */
#ifndef ML_CORE_HALF_H
#define ML_CORE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t ml_float_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float ml_float_from_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* All ones where a < b, for a and b below 2^31. Not a comparison, because GCC turns selects around float arithmetic
 * into branches, and then does not vectorise the loop. */
static inline uint32_t ml_mask_less(uint32_t a, uint32_t b) {
    return (uint32_t)((int32_t)(a - b) >> 31);
}

static inline uint32_t ml_select(uint32_t mask, uint32_t yes, uint32_t no) {
    return no ^ (mask & (yes ^ no));
}

static inline float ml_half_to_float(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t m = (uint32_t)(h & 0x7fffu) << 13; /* exponent and mantissa at their place in a float */
    const uint32_t subnormal = ml_mask_less(m, 1u << 23);
    const uint32_t special = ~ml_mask_less(m, 31u << 23); /* infinity or NaN */
    /* Bias 15 -> 127, exponent 31 -> 255. A subnormal m 2^-24 is 2^-14 (1 + f) - 2^-14, where the difference is exact;
     * the others subtract zero, which makes a NaN quiet. */
    const uint32_t biased = m + (112u << 23) + (special & 112u << 23) + (subnormal & 1u << 23);
    const float f = ml_float_from_bits(biased) - ml_float_from_bits(subnormal & 113u << 23);
    return ml_float_from_bits(ml_float_bits(f) | sign);
}

static inline uint16_t ml_float_to_half(float f) {
    const uint32_t bits = ml_float_bits(f);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t a = bits & 0x7fffffffu;
    /* Adding just under half an ulp, plus one where the kept part is odd, rounds to nearest even; a carry out of the
     * mantissa moves on to the next exponent and, from 65520 on, to infinity. */
    const uint32_t normal = (a - (112u << 23) + 0xfffu + ((a >> 13) & 1u)) >> 13;
    /* The ulp of [0.5, 1) is 2^-24, the smallest half. */
    const uint32_t subnormal = ml_float_bits(ml_float_from_bits(a) + 0.5f) - ml_float_bits(0.5f);
    const uint32_t nan = ml_mask_less(255u << 23, a) & (0x200u | ((a >> 13) & 0x3ffu));
    uint32_t h = ml_select(ml_mask_less(a, 113u << 23), subnormal, normal); /* below 2^-14 */
    h = ml_select(ml_mask_less(a, 143u << 23), h, 0x7c00u | nan);           /* below 2^16 */
    return (uint16_t)(h | sign);
}

static inline float ml_bfloat_to_float(uint16_t h) {
    const uint32_t quiet = (h & 0x7fffu) > 0x7f80u ? 1u << 22 : 0;
    return ml_float_from_bits((uint32_t)h << 16 | quiet);
}

static inline uint16_t ml_float_to_bfloat(float f) {
    const uint32_t bits = ml_float_bits(f);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const uint32_t nan = (bits >> 16) | 0x40u;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

#endif
