/* Softmax kernels with AVX-512. */
#include "device/cpu/vector_avx512.h"

#define TABLE ml_softmax_avx512
#define CONVERT ml_elementwise_avx512
#define MATH ml_vmath_avx512

#include "device/cpu/softmax_kernel.h"
