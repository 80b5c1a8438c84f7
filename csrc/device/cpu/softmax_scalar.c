/* Softmax kernels in plain C. */
#include "device/cpu/vector_scalar.h"

#define TABLE ml_softmax_scalar
#define CONVERT ml_elementwise_scalar
#define MATH ml_vmath_scalar

#include "device/cpu/softmax_kernel.h"
