/* Rotary positions in plain C. */
#include "device/cpu/vector_scalar.h"

#define TABLE ml_rope_scalar
#define CONVERT ml_elementwise_scalar

#include "device/cpu/rope_kernel.h"
