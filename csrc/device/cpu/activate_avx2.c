/* GELU, SiLU and SwiGLU with AVX2. */
#include "device/cpu/vector_avx2.h"

#define TABLE ml_activate_avx2
#define CONVERT ml_elementwise_avx2

#include "device/cpu/activate_kernel.h"
