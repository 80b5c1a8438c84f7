/* Kernels of the norms with AVX-512. */
#include "device/cpu/vector_avx512.h"

#define TABLE ml_norm_avx512
#define CONVERT ml_elementwise_avx512

#include "device/cpu/norm_kernel.h"
