/* Element-wise row kernels with AVX-512. */
#include "device/cpu/elementwise_x86.h"

static inline __m512 load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

static inline void store_f16(uint16_t *p, __m512 v) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

static inline __m512 load_bf16(const uint16_t *p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

static inline __m512 quiet(__m512 v) {
    __m512i x = _mm512_castps_si512(v);
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_castsi512_ps(_mm512_mask_or_epi32(x, nan, x, _mm512_set1_epi32(0x400000)));
}

/* As in the AVX2 tier. VCVTNEPS2BF16 is no replacement: it flushes denormals to zero. */
static inline void store_bf16(uint16_t *p, __m512 v) {
    __m512i x = _mm512_castps_si512(v), top = _mm512_srli_epi32(x, 16);
    __m512i odd = _mm512_and_si512(top, _mm512_set1_epi32(1));
    __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(x, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    __m512i result = _mm512_mask_or_epi32(rounded, nan, top, _mm512_set1_epi32(0x40));
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(result));
}

#define VEC __m512
#define WIDTH 16
#define SPLAT(x) _mm512_set1_ps(x)
#define ADD(a, b) _mm512_add_ps(a, b)
#define SUB(a, b) _mm512_sub_ps(a, b)
#define MUL(a, b) _mm512_mul_ps(a, b)
#define DIV(a, b) _mm512_div_ps(a, b)
#define QUIET(v) quiet(v)
#define LOAD_F32(p) _mm512_loadu_ps(p)
#define STORE_F32(p, v) _mm512_storeu_ps(p, v)
#define LOAD_F16(p) load_f16(p)
#define STORE_F16(p, v) store_f16(p, v)
#define LOAD_BF16(p) load_bf16(p)
#define STORE_BF16(p, v) store_bf16(p, v)
#define TABLE ml_elementwise_avx512
#define TRANSPOSE4 transpose4_x86
#define TRANSPOSE2 transpose2_x86
extern const ml_elementwise_impl TABLE;

#include "device/cpu/elementwise_rows.h"
