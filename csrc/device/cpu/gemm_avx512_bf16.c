/* AVX-512 BF16 GEMM tier: VDPBF16PS multiplies two steps along k at once, twice the multiply-adds of f32.
 *
 * Each lane takes two fused multiply-adds one after the other, the odd step first, each rounded to nearest even;
 * operands and results below 2^-126 count as zero whatever MXCSR says (Intel SDM volume 2C, VDPBF16PS). docs/gemm.md
 * states the error bound. The tile is that of f32: a word of A is broadcast, a word of B has its own lane. */
#include "device/cpu/cpu.h"
#include "device/cpu/vector_avx512.h"
#include "device/cpu/pairs_avx512.h"

#define MR 14
#define NV 2
#define K_PACK 2

V_FN vf v_madd(vf x, vf b, vf acc) {
    return _mm512_dpbf16_ps(acc, (__m512bh)_mm512_castps_si512(x), (__m512bh)_mm512_castps_si512(b));
}

#define V_PAIRS_STRIDED
/* Every other bf16 from lo and hi on: the lower halves of words. What lies past the last one is not read. */
V_FN vf v_pairs_apart(const void *lo, const void *hi, int n) {
    const __mmask32 first = (__mmask32)((UINT64_C(1) << (n > 0 ? 2 * n - 1 : 0)) - 1u);
    const __m512i even = _mm512_maskz_loadu_epi16(first, lo), odd = _mm512_maskz_loadu_epi16(first, hi);
    return _mm512_castsi512_ps(
        _mm512_or_si512(_mm512_and_si512(even, _mm512_set1_epi32(0xffff)), _mm512_slli_epi32(odd, 16)));
}
/* The bf16 at lo, hi and before them. */
V_FN vf v_pairs_back(const void *lo, const void *hi, int n) {
    const __m512i from = _mm512_setr_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __mmask16 last = (__mmask16)(0xffffu << (VW - n));
    const __m256i even = _mm256_maskz_loadu_epi16(last, (const uint16_t *)lo - (VW - 1));
    const __m256i odd = _mm256_maskz_loadu_epi16(last, (const uint16_t *)hi - (VW - 1));
    return _mm512_castsi512_ps(_mm512_permutexvar_epi32(
        from, _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16))));
}

#include "device/cpu/transpose_avx512.h"
#include "device/cpu/gemm_vector.h"
#include "device/cpu/gemm_pack_pairs.h"

const ml_gemm_impl ml_gemm_avx512_bf16 = {
    .ukr = ukr, .pack_a = pack_a, .pack_b = pack_b, .mr = MR, .nr = NR, .k_pack = K_PACK};
