/* Kernels of the norms with NEON. */
#include "device/cpu/vector_neon.h"

#define TABLE ml_norm_neon
#define CONVERT ml_elementwise_neon

#include "device/cpu/norm_kernel.h"
