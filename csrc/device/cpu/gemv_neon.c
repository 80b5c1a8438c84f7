/* Vector and small-N kernels for NEON. 32 registers: up to 21 accumulators in a tile. */
#include "device/cpu/vector_neon.h"

#define W VW
typedef uint16x4_t vh;
typedef uint16x8_t vw;
typedef int64_t v_tail;

V_FN v_tail v_tail_of(int64_t n) {
    return n;
}
V_FN vf v_load_tail(const void *p, v_tail tail) {
    return v_load_n(p, tail, 0.0f);
}
V_FN void v_store_tail(float *p, v_tail tail, vf v) {
    v_store_n(p, v, tail);
}
/* 8 bf16 are 4 words of two: the upper half of each is the odd element as it stands, the lower one is a shift away. */
V_FN vf v_even_of(vw words) {
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u16(words), 16));
}
V_FN vf v_odd_of(vw words) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_u16(words), vdupq_n_u32(0xffff0000u)));
}
V_FN vw v_load_words(const void *p) {
    vw words;
    memcpy(&words, p, sizeof words);
    return words;
}
V_FN vw v_load_words_tail(const void *p, int64_t n) {
    if (n < W)
        return vcombine_u16(v_load_halves_n(p, n), vdup_n_u16(0));
    return vcombine_u16(v_load_halves(p), v_load_halves_n((const char *)p + 2 * W, n - W));
}
V_FN void v_unzip(vf a, vf b, vf *even, vf *odd) {
    *even = vuzp1q_f32(a, b);
    *odd = vuzp2q_f32(a, b);
}
V_FN void v_zip(vf even, vf odd, vf *a, vf *b) {
    *a = vzip1q_f32(even, odd);
    *b = vzip2q_f32(even, odd);
}
/* 4 x 4 floats, rows to columns. */
V_FN void v_transpose4(float *to, int64_t to_ld, const float *from, int64_t from_ld) {
    vf r[4] = {v_load(from), v_load(from + from_ld), v_load(from + 2 * from_ld), v_load(from + 3 * from_ld)};
    v_transpose(r);
    for (int i = 0; i < 4; i++)
        v_store(to + i * to_ld, r[i]);
}

/* What gemv_simd.h calls by these names is in vector_neon.h by others: conversions of registers there, of memory here.
 */
#define v_load16 v_load_halves
#define v_load16_tail v_load_halves_n
#define v_from_f16 v_widen_f16
#define v_from_bf16 v_widen_bf16
#define v_narrow_f16 v_to_f16
#define v_narrow_bf16 v_to_bf16

/* Tiles of at most 21 sums: with 24 compilers keep some of them in memory. */
#define DOT_COLS 8
#define dot_rows(dt, n)                                                                                                \
    ((n) == 4 && (dt) != ML_BF16 ? 5 : (n) <= 5 ? 4 : (n) == 6 || ((n) == 7 && (dt) != ML_BF16) ? 3 : 2)
#define dot_chains(n) ((n) <= 2 ? 2 : 1)
#define dot_keeps(sums) ((sums) <= 20)
#define AXPY_COLS 8
#define axpy_vectors(n) ((n) <= 2 ? 8 : (n) == 3 ? 6 : (n) <= 5 ? 4 : (n) == 6 ? 3 : 2)
#define ML_GEMV_IMPL ml_gemv_neon
#include "device/cpu/gemv_simd.h"
