/* Two rows of bf16 woven into words, for gemm_pack_pairs.h. */
#ifndef ML_CPU_PAIRS_H
#define ML_CPU_PAIRS_H

#include "device/cpu/vector_avx512.h"

V_FN vf v_pairs(const void *lo, const void *hi, int n) {
    const __m256i even = n == VW ? _mm256_loadu_si256(lo) : _mm256_maskz_loadu_epi16(v_first(n), lo);
    const __m256i odd = n == VW ? _mm256_loadu_si256(hi) : _mm256_maskz_loadu_epi16(v_first(n), hi);
    return _mm512_castsi512_ps(
        _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16)));
}

#endif
