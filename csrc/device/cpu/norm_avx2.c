/* Kernels of the norms with AVX2. */
#include "device/cpu/vector_avx2.h"

#define TABLE ml_norm_avx2
#define CONVERT ml_elementwise_avx2

#include "device/cpu/norm_kernel.h"
