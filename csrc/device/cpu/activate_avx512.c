/* GELU, SiLU and SwiGLU with AVX-512. */
#include "device/cpu/vector_avx512.h"

#define TABLE ml_activate_avx512
#define CONVERT ml_elementwise_avx512

#include "device/cpu/activate_kernel.h"
