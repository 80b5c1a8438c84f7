/* Element-wise row kernels with AVX2 and F16C. */
#include "device/cpu/elementwise_x86.h"

static inline __m256 load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

static inline void store_f16(uint16_t *p, __m256 v) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

static inline __m256 load_bf16(const uint16_t *p) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

static inline __m256 quiet(__m256 v) {
    __m256 nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
    return _mm256_or_ps(v, _mm256_and_ps(nan, _mm256_castsi256_ps(_mm256_set1_epi32(0x400000))));
}

/* To nearest even: add 0x7fff plus the last bit that stays. NaNs, which that could turn into infinity, are made quiet.
 */
static inline void store_bf16(uint16_t *p, __m256 v) {
    __m256i x = _mm256_castps_si256(v), top = _mm256_srli_epi32(x, 16);
    __m256i odd = _mm256_and_si256(top, _mm256_set1_epi32(1));
    __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(x, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    __m256i quiet = _mm256_or_si256(top, _mm256_set1_epi32(0x40));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    __m256i result = _mm256_blendv_epi8(rounded, quiet, nan);
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(result, result), 0x08);
    _mm_storeu_si128((__m128i *)p, _mm256_castsi256_si128(packed));
}

#define VEC __m256
#define WIDTH 8
#define SPLAT(x) _mm256_set1_ps(x)
#define ADD(a, b) _mm256_add_ps(a, b)
#define SUB(a, b) _mm256_sub_ps(a, b)
#define MUL(a, b) _mm256_mul_ps(a, b)
#define DIV(a, b) _mm256_div_ps(a, b)
#define QUIET(v) quiet(v)
#define LOAD_F32(p) _mm256_loadu_ps(p)
#define STORE_F32(p, v) _mm256_storeu_ps(p, v)
#define LOAD_F16(p) load_f16(p)
#define STORE_F16(p, v) store_f16(p, v)
#define LOAD_BF16(p) load_bf16(p)
#define STORE_BF16(p, v) store_bf16(p, v)
#define TABLE ml_elementwise_avx2
#define TRANSPOSE4 transpose4_x86
#define TRANSPOSE2 transpose2_x86
extern const ml_elementwise_impl TABLE;

#include "device/cpu/elementwise_rows.h"
