/* GELU, SiLU and SwiGLU with NEON. */
#include "device/cpu/vector_neon.h"

#define TABLE ml_activate_neon
#define CONVERT ml_elementwise_neon

#include "device/cpu/activate_kernel.h"
