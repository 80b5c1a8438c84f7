/* The CPU device's kernel table: the .inc lists, which are the only place where a kernel is declared.
 *
 * One row per kernel:
 *
 *     ML_KERNEL(name, op, family, dtypes, supports, isa, rank, mr, nr, max_n, impl, ...)
 *
 *   name      unquoted: what the plan, the metrics and ml.kernels() show, e.g. gemm_avx512_f32_14x32
 *   op        ML_OP_...
 *   family    ML_BACKEND_... for ML_OP_MATMUL, ML_SOFTMAX_... or ML_SDPA_... for those, 0 elsewhere
 *   dtypes    ML_DTYPE_BITs of every dtype that may occur among operands and result
 *   supports  ML_SUP_... bits; ML_SUP_BF16_DOT limits a row to bf16 operands (of matmul; q and k of attention) and
 *             METALLIC_PRECISION=fast, ML_SUP_F16_DOT to f16 operands
 *   isa       ML_ISA_... bits it needs, implied ones included: ML_ISA_AVX2 | ML_ISA_AVX512; 0: always
 *   rank      among rows that can do a case the highest wins: scalar 0, avx2 and neon 10, avx512, neon_fp16 and
 *             neon_bf16 20, avx512_bf16 30, amx 40, plus 1 to 9 for a more specialised kernel of the same tier
 *   mr, nr    micro-tile of a GEMM kernel; rows and keys of an attention kernel; else 0
 *   max_n     largest N of one pass, 0: any
 *   impl      a constant function table with external linkage; its type goes with the list:
 *             gemm_kernels.inc         ml_gemm_impl
 *             gemv_kernels.inc         ml_gemv_impl
 *             elementwise_kernels.inc  ml_elementwise_impl
 *             softmax_kernels.inc      ml_softmax_impl
 *             sdpa_kernels.inc         ml_sdpa_impl
 *             norm_kernels.inc         ml_norm_impl
 *             activate_kernels.inc     ml_activate_impl
 *             rope_kernels.inc         ml_rope_impl
 *             vendor_kernels.inc       ignored: the library is loaded at run time (write `none`)
 *   ...       initializers of other members of ml_kernel_desc, for GEMM kernels: .k_unit = 32
 *
 * A list is included twice, first to declare the tables and then to make the rows, so it holds nothing but rows,
 * comments and #if for the architecture: rows for x86 tiers stand inside #if defined(__x86_64__), those for NEON inside
 * #if defined(__aarch64__).
 */
#include "device/cpu/activate.h"
#include "device/cpu/norm.h"
#include "device/cpu/rope.h"
#include "device/cpu/sdpa.h"
#include "device/cpu/softmax.h"

#define ML_KERNEL(name, op, family, dtypes, supports, isa, rank, mr, nr, max_n, impl, ...)                             \
    extern const ml_gemm_impl impl;
#include "device/cpu/gemm_kernels.inc"
#undef ML_KERNEL
#define ML_KERNEL(name, op, family, dtypes, supports, isa, rank, mr, nr, max_n, impl) extern const ml_gemv_impl impl;
#include "device/cpu/gemv_kernels.inc"
#undef ML_KERNEL
#define ML_KERNEL(name, op, family, dtypes, supports, isa, rank, mr, nr, max_n, impl)                                  \
    extern const ml_elementwise_impl impl;
#include "device/cpu/elementwise_kernels.inc"
#undef ML_KERNEL
#define ML_KERNEL(name, op, family, dtypes, supports, isa, rank, mr, nr, max_n, impl) extern const ml_softmax_impl impl;
#include "device/cpu/softmax_kernels.inc"
#undef ML_KERNEL
#define ML_KERNEL(name, op, family, dtypes, supports, isa, rank, mr, nr, max_n, impl) extern const ml_sdpa_impl impl;
#include "device/cpu/sdpa_kernels.inc"
#undef ML_KERNEL
#define ML_KERNEL(name, op, family, dtypes, supports, isa, rank, mr, nr, max_n, impl) extern const ml_norm_impl impl;
#include "device/cpu/norm_kernels.inc"
#undef ML_KERNEL
#define ML_KERNEL(name, op, family, dtypes, supports, isa, rank, mr, nr, max_n, impl)                                  \
    extern const ml_activate_impl impl;
#include "device/cpu/activate_kernels.inc"
#undef ML_KERNEL
#define ML_KERNEL(name, op, family, dtypes, supports, isa, rank, mr, nr, max_n, impl) extern const ml_rope_impl impl;
#include "device/cpu/rope_kernels.inc"
#undef ML_KERNEL

#define ML_ROW(name_, op_, family_, dtypes_, supports_, isa_, rank_, mr_, nr_, max_n_, ...)                            \
    {.name = #name_,                                                                                                   \
     .op = (op_),                                                                                                      \
     .family = (family_),                                                                                              \
     .dtypes = (dtypes_),                                                                                              \
     .supports = (supports_),                                                                                          \
     .isa = (isa_),                                                                                                    \
     .rank = (rank_),                                                                                                  \
     .mr = (mr_),                                                                                                      \
     .nr = (nr_),                                                                                                      \
     .max_n = (max_n_),                                                                                                \
     .impl = __VA_ARGS__},

const ml_kernel_desc ml_cpu_kernels[] = {
#define ML_KERNEL(name, op, family, dtypes, supports, isa, rank, mr, nr, max_n, ...)                                   \
    ML_ROW(name, op, family, dtypes, supports, isa, rank, mr, nr, max_n, &__VA_ARGS__)
#include "device/cpu/gemm_kernels.inc"
#include "device/cpu/gemv_kernels.inc"
#include "device/cpu/elementwise_kernels.inc"
#include "device/cpu/softmax_kernels.inc"
#include "device/cpu/sdpa_kernels.inc"
#include "device/cpu/norm_kernels.inc"
#include "device/cpu/activate_kernels.inc"
#include "device/cpu/rope_kernels.inc"
#undef ML_KERNEL
#define ML_KERNEL(name, op, family, dtypes, supports, isa, rank, mr, nr, max_n, impl)                                  \
    ML_ROW(name, op, family, dtypes, supports, isa, rank, mr, nr, max_n, NULL)
#include "device/cpu/vendor_kernels.inc"
#undef ML_KERNEL
};
const int ml_cpu_n_kernels = (int)(sizeof ml_cpu_kernels / sizeof ml_cpu_kernels[0]);
