/* Softmax kernels with AVX2. */
#include "device/cpu/vector_avx2.h"

#define TABLE ml_softmax_avx2
#define CONVERT ml_elementwise_avx2
#define MATH ml_vmath_avx2

#include "device/cpu/softmax_kernel.h"
