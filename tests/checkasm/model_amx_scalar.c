/* device/cpu/gemm_amx_bf16.c as it is, but with modelled tiles and with vectors of one element: for any machine. */
#include "model_tiles.h"

#include "device/cpu/vector_scalar.h"

#define ML_CPU_TRANSPOSE_H
#define v_transpose(r) (void)(r)

#define ML_CPU_PAIRS_H
V_FN vf v_pairs(const void *lo, const void *hi, int n) {
    uint16_t pair[2] = {0};
    float word;
    if (n > 0) {
        memcpy(&pair[0], lo, sizeof pair[0]);
        memcpy(&pair[1], hi, sizeof pair[1]);
    }
    memcpy(&word, pair, sizeof word); /* little endian */
    return word;
}

#define ml_gemm_amx_bf16 model_gemm_amx_scalar /* the table */
/* NOLINTNEXTLINE(bugprone-suspicious-include): the same source, on purpose */
#include "device/cpu/gemm_amx_bf16.c"

#include "model.h"
const model_kernel model_amx_scalar = MODEL_AMX("model_amx_scalar_32x32", &model_gemm_amx_scalar, 0);
