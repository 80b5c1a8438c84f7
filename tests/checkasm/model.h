/* Kernels over instructions that are modelled in software: the device's own source, compiled once more. main() gives
 * them to the checkers like rows of ml_cpu_kernels, on machines that lack those instructions too. */
#ifndef CHECKASM_MODEL_H
#define CHECKASM_MODEL_H

#include "checkasm.h"

typedef struct model_kernel {
    ml_kernel_desc row;   /* as in the device's table, but for name and impl */
    uint32_t needs;       /* what the model itself takes of this machine, instead of row.isa */
    int (*entered)(void); /* threads whose registers are set up */
} model_kernel;

/* gemm_amx_bf16.c with the tiles of model_tiles.h and with vectors of one element, or those of AVX-512. */
extern const model_kernel model_amx_scalar, model_amx_avx512;

#define MODEL_AMX(name_, impl_, needs_)                                                                                \
    {.row = {.name = (name_),                                                                                          \
             .op = ML_OP_MATMUL,                                                                                       \
             .family = ML_BACKEND_MLX,                                                                                 \
             .dtypes = ML_DTYPE_BIT(ML_F32) | ML_DTYPE_BIT(ML_F16) | ML_DTYPE_BIT(ML_BF16),                            \
             .supports = ML_SUP_BIAS | ML_SUP_ACTIVATION | ML_SUP_ALPHA_BETA | ML_SUP_ANY_STRIDES |                    \
                         ML_SUP_MIXED_DTYPES | ML_SUP_BF16_DOT,                                                        \
             .isa = ML_ISA_AVX2 | ML_ISA_AVX512 | ML_ISA_AMX_BF16,                                                     \
             .mr = 32,                                                                                                 \
             .nr = 32,                                                                                                 \
             .k_unit = 32,                                                                                             \
             .impl = (impl_)},                                                                                         \
     .needs = (needs_),                                                                                                \
     .entered = tile_threads}

#endif
