/* Kernels of the norms in plain C. */
#include "device/cpu/vector_scalar.h"

#define TABLE ml_norm_scalar
#define CONVERT ml_elementwise_scalar

#include "device/cpu/norm_kernel.h"
