/* GELU, SiLU and SwiGLU in plain C. */
#include "device/cpu/vector_scalar.h"

#define TABLE ml_activate_scalar
#define CONVERT ml_elementwise_scalar

#include "device/cpu/activate_kernel.h"
