/* Attention kernels in AVX-512: strips of 14 rows, panels of 32 keys, as in the GEMM of this tier. */
#include "device/cpu/transpose_avx512.h"
#include "device/cpu/vector_avx512.h"

#define MR 14
#define NV 2
#define DIRECT_ROWS 8
#define TABLE ml_sdpa_avx512
#define GEMM ml_gemm_avx512

V_FN vm v_mask(uint64_t bits) {
    return (vm)bits;
}
V_FN uint64_t v_bits(vm m) {
    return m;
}

/* Halves of two vectors at a time, so that each step leaves half as many: 15 of two shuffles and one op each, where a
 * transposition takes 64 shuffles. */
#define DEFINE_ACROSS(name, op)                                                                                        \
    V_FN vf name(vf *r) {                                                                                              \
        ML_UNROLL for (int i = 0; i < 8; i++) {                                                                        \
            const vf a = r[2 * i], b = r[2 * i + 1];                                                                   \
            r[i] = op(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));                                             \
        }                                                                                                              \
        ML_UNROLL for (int i = 0; i < 4; i++) {                                                                        \
            const vf a = r[2 * i], b = r[2 * i + 1];                                                                   \
            r[i] = op(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));                                   \
        }                                                                                                              \
        ML_UNROLL for (int n = 2; n > 0; n--) { /* 128-bit lanes: two steps */                                         \
            ML_UNROLL for (int i = 0; i < n; i++) {                                                                    \
                const vf a = r[2 * i], b = r[2 * i + 1];                                                               \
                r[i] = op(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));                         \
            }                                                                                                          \
        }                                                                                                              \
        return r[0];                                                                                                   \
    }

#include "device/cpu/sdpa_simd.h"
