/* device/cpu/gemm_amx_bf16.c as it is, but with modelled tiles: for machines with AVX-512. */
#include "model_tiles.h"

#define ml_gemm_amx_bf16 model_gemm_amx_avx512 /* the table */
/* NOLINTNEXTLINE(bugprone-suspicious-include): the same source, on purpose */
#include "device/cpu/gemm_amx_bf16.c"

#include "model.h"
const model_kernel model_amx_avx512 =
    MODEL_AMX("model_amx_avx512_32x32", &model_gemm_amx_avx512, ML_ISA_AVX2 | ML_ISA_AVX512);
