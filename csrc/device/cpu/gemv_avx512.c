/* Vector and small-N kernels for AVX-512 (F, BW, DQ, VL). 32 registers: up to 24 accumulators in a tile. */
#include "device/cpu/gemv_lines_avx512.h"
#include "device/cpu/gemv_outer_avx512.h"

#define W 16
typedef __m512 vf;
typedef __m256i vh;
typedef __m512i vw;
typedef __mmask16 v_tail;

#define V_FN static inline __attribute__((always_inline))
V_FN vf v_zero(void) {
    return _mm512_setzero_ps();
}
V_FN vf v_set1(float x) {
    return _mm512_set1_ps(x);
}
V_FN vf v_load(const void *p) {
    return _mm512_loadu_ps(p);
}
V_FN void v_store(float *p, vf v) {
    _mm512_storeu_ps(p, v);
}
V_FN vf v_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
V_FN vf v_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
V_FN v_tail v_tail_of(int64_t n) {
    return (__mmask16)((1u << n) - 1u);
}
V_FN vf v_load_tail(const void *p, v_tail tail) {
    return _mm512_maskz_loadu_ps(tail, p);
}
V_FN void v_store_tail(float *p, v_tail tail, vf v) {
    _mm512_mask_storeu_ps(p, tail, v);
}
V_FN vh v_load16(const void *p) {
    return _mm256_loadu_si256(p);
}
V_FN vh v_load16_tail(const void *p, int64_t n) {
    return _mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1u), p);
}
V_FN vf v_from_f16(vh h) {
    return _mm512_cvtph_ps(h);
}
V_FN vf v_from_bf16(vh h) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
/* 32 bf16 are 16 words of two: the upper half of each is the odd element as it stands, the lower one is a shift away.
 */
V_FN vf v_even_of(vw words) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
}
V_FN vf v_odd_of(vw words) {
    return _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32((int)0xffff0000u)));
}
V_FN vw v_load_words(const void *p) {
    return _mm512_loadu_si512(p);
}
V_FN vw v_load_words_tail(const void *p, int64_t n) {
    return _mm512_maskz_loadu_epi16((__mmask32)((UINT64_C(1) << n) - 1u), p);
}
V_FN void v_unzip(vf a, vf b, vf *even, vf *odd) {
    const __m512i from = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    *even = _mm512_permutex2var_ps(a, from, b);
    *odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(from, _mm512_set1_epi32(1)), b);
}
V_FN void v_narrow_f16(uint16_t *p, vf v) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
/* Round to nearest even on the bits; a NaN keeps its upper half and becomes quiet. */
V_FN void v_narrow_bf16(uint16_t *p, vf v) {
    const __m512i bits = _mm512_castps_si512(v), high = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i r = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    r = _mm512_mask_or_epi32(r, nan, high, _mm512_set1_epi32(0x40));
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(r));
}
V_FN void v_zip(vf even, vf odd, vf *a, vf *b) {
    const __m512i from = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *a = _mm512_permutex2var_ps(even, from, odd);
    *b = _mm512_permutex2var_ps(even, _mm512_add_epi32(from, _mm512_set1_epi32(8)), odd);
}

#define DOT_COLS 8
#define dot_rows(dt, n) ((n) == 1 ? 8 : (n) <= 6 ? 4 : 3)
#define dot_chains(n) ((n) <= 2 ? 2 : 1)
#define dot_keeps(sums) 1
#define AXPY_COLS 8
#define axpy_vectors(n) ((n) <= 2 ? 8 : (n) <= 3 ? 6 : (n) <= 6 ? 4 : 3)
#define ML_GEMV_IMPL ml_gemv_avx512
#define ML_GEMV_OWN_F32_1
static void dot_f32_1(const ml_gemv_block *b, int64_t row, int64_t end, int col);
#define ML_GEMV_OWN_F16_1
static void dot_f16_1(const ml_gemv_block *b, int64_t row, int64_t end, int col);
static void axpy_f16_1(const ml_gemv_block *b, int64_t row, int64_t end, int col);
#define ML_GEMV_OUTER                                                                                                  \
    .outer = {[ML_F32] = outer_f32, [ML_F16] = outer_f16}, .outer_cols = 14,                                           \
    .outer_rows = {[ML_F32] = INT64_MAX, [ML_F16] = 256}
#include "device/cpu/gemv_simd.h"

/* ---- f32, one column ---------------------------------------------------------------------------------- */

static inline __m512 line_madd(__m512i w, __m512i x, __m512 acc) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), acc);
}
static inline __m512 line_madd_part(__m512i w, __m512i x, __m512 acc, __mmask16 words) {
    return _mm512_mask3_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), acc, words);
}

static void dot_f32_1(const ml_gemv_block *b, int64_t row, int64_t end, int col) {
    (void)col;
    line_rows(b, 4, row, end);
}

/* ---- f16, one column ------------------------------------------------------------------------------------
 * Nothing is left to hide the conversion behind here. From memory, two conversions to 256 bits take less time on Zen 4
 * than one to 512 (1.1 cycles against 1.9 for 16 elements with their products), so these vectors have half the width;
 * with bandwidth the limit elsewhere, no machine loses. */

enum { HALF = W / 2, HALF_ROWS = 8, HALF_AHEAD_ROWS = 4, HALF_NEAR_BYTES = 8192 };

/* fetch: the next tile is fetched in the order of memory, which the hardware follows better than its rows; into the
 * nearest cache where that has room for it. */
static inline __attribute__((always_inline)) void dot_f16_1_tile(const ml_gemv_block *b, const int rows,
                                                                 const bool fetch, int64_t row, int col) {
    const int64_t k = b->k, ldw = b->ldw, x_step = (int64_t)ML_GEMV_X_BLOCK * b->n;
    const uint16_t *w = (const uint16_t *)b->w + row * ldw;
    const char *ahead = (const char *)(w + rows * ldw);
    const bool near = rows * k * (int64_t)sizeof *w <= HALF_NEAR_BYTES;
    const float *x = b->x + col * ML_GEMV_X_BLOCK;
    __m256 acc[HALF_ROWS][2];
    ML_UNROLL for (int r = 0; r < rows; r++) acc[r][0] = acc[r][1] = _mm256_setzero_ps();
    int64_t p = 0;
    for (; p + ML_GEMV_X_BLOCK <= k; p += ML_GEMV_X_BLOCK, x += x_step) {
        if (fetch && near) {
            ML_UNROLL for (int r = 0; r < rows; r++) __builtin_prefetch(ahead + r * LINE, 0, 3);
            ahead += rows * LINE;
        } else if (fetch) {
            ML_UNROLL for (int r = 0; r < rows; r++) __builtin_prefetch(ahead + r * LINE, 0, 2);
            ahead += rows * LINE;
        }
        ML_UNROLL for (int u = 0; u < ML_GEMV_X_BLOCK / HALF; u++) {
            const __m256 xv = _mm256_loadu_ps(x + u * HALF);
            ML_UNROLL for (int r = 0; r < rows; r++) {
                const __m128i h = _mm_loadu_si128((const __m128i *)(w + p + r * ldw + u * HALF));
                acc[r][u % 2] = _mm256_fmadd_ps(_mm256_cvtph_ps(h), xv, acc[r][u % 2]);
            }
        }
    }
    for (; p < k; p += HALF, x += HALF) {
        const __mmask8 mask = (__mmask8)(k - p >= HALF ? 0xff : (1u << (k - p)) - 1u);
        const __m256 xv = _mm256_maskz_loadu_ps(mask, x);
        ML_UNROLL for (int r = 0; r < rows; r++) {
            const __m128i h = _mm_maskz_loadu_epi16(mask, w + p + r * ldw);
            acc[r][0] = _mm256_fmadd_ps(_mm256_cvtph_ps(h), xv, acc[r][0]);
        }
    }
    float sums[HALF_ROWS];
    ML_UNROLL for (int r = 0; r < rows; r += 4) {
        vf s[4];
        ML_UNROLL for (int i = 0; i < 4; i++) {
            const int from = r + i < rows ? r + i : r;
            s[i] = _mm512_zextps256_ps512(_mm256_add_ps(acc[from][0], acc[from][1]));
        }
        v_sum4(s[0], s[1], s[2], s[3], sums + r);
    }
    ML_UNROLL for (int r = 0; r < rows; r++) {
        float *y = &b->y[(row + r) * b->n + col];
        *y = b->accumulate ? *y + sums[r] : sums[r];
    }
}

static void dot_f16_1(const ml_gemv_block *b, int64_t row, int64_t end, int col) {
    for (; b->stream && row + HALF_AHEAD_ROWS <= end; row += HALF_AHEAD_ROWS)
        dot_f16_1_tile(b, HALF_AHEAD_ROWS, true, row, col);
    for (; row + HALF_ROWS <= end; row += HALF_ROWS)
        dot_f16_1_tile(b, HALF_ROWS, false, row, col);
    for (; row < end; row++)
        dot_f16_1_tile(b, 1, false, row, col);
}

static inline __attribute__((always_inline)) void axpy_f16_1_tile(const ml_gemv_block *b, const int vectors,
                                                                  int64_t row, int col) {
    float *y = b->y + col * b->ldy + row;
    const float *x = b->x + col * b->x_cs;
    const uint16_t *w = (const uint16_t *)b->w + row;
    __m256 acc[16];
    ML_UNROLL for (int v = 0; v < vectors; v++) acc[v] =
        b->accumulate ? _mm256_loadu_ps(y + v * HALF) : _mm256_setzero_ps();
    for (int64_t p = 0; p < b->k; p++, w += b->ldw, x += b->x_rs) {
        if (b->stream) { /* as in axpy_tile */
            ML_UNROLL for (int line = 0; line < vectors / 4; line++)
                __builtin_prefetch(w + AXPY_AHEAD * vectors * HALF + line * 32, 0, 2);
        }
        const __m256 xv = _mm256_set1_ps(*x);
        ML_UNROLL for (int v = 0; v < vectors; v++) {
            const __m128i h = _mm_loadu_si128((const __m128i *)(w + v * HALF));
            acc[v] = _mm256_fmadd_ps(_mm256_cvtph_ps(h), xv, acc[v]);
        }
    }
    ML_UNROLL for (int v = 0; v < vectors; v++) _mm256_storeu_ps(y + v * HALF, acc[v]);
}

static void axpy_f16_1(const ml_gemv_block *b, int64_t row, int64_t end, int col) {
    for (; row + 16 * HALF <= end; row += 16 * HALF)
        axpy_f16_1_tile(b, 16, row, col);
    for (; row + HALF <= end; row += HALF)
        axpy_f16_1_tile(b, 1, row, col);
    if (row < end)
        axpy_tail(b, ML_F16, 1, row, end - row, col);
}
