/* Softmax kernels with NEON. */
#include "device/cpu/vector_neon.h"

#define TABLE ml_softmax_neon
#define CONVERT ml_elementwise_neon
#define MATH ml_vmath_neon

#include "device/cpu/softmax_kernel.h"
