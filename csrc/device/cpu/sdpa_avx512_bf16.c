/* Attention kernels with AVX-512 BF16: scores are dot products of bf16 pairs, twice the multiply-adds of f32; the rest
 * is the AVX-512 tier's. Weights stay f32, so their product with the values gains nothing. */
#include "device/cpu/vector_avx512.h"

#define MR 14
#define NV 2
#define PAIRS

V_FN vf v_madd(vf x, vf k, vf acc) {
    return _mm512_dpbf16_ps(acc, (__m512bh)_mm512_castps_si512(x), (__m512bh)_mm512_castps_si512(k));
}

#include "device/cpu/sdpa_scores_simd.h"

extern const ml_gemm_impl ml_gemm_avx512, ml_gemm_avx512_bf16;
extern const ml_sdpa_impl ml_sdpa_avx512_bf16;
ML_SDPA_SHARED(ml_sdpa_avx512)

const ml_sdpa_impl ml_sdpa_avx512_bf16 = {.mr = MR,
                                          .nr = NR,
                                          .k_pack = 2,
                                          .gemm = &ml_gemm_avx512,
                                          .pack_keys = &ml_gemm_avx512_bf16,
                                          .scores = scores,
                                          .load_query = load_query,
                                          ML_SDPA_SHARED_WITH(ml_sdpa_avx512)};
