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

#include "device/cpu/sdpa_simd.h"
