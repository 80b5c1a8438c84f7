/* Rotary positions with AVX2. */
#include "device/cpu/vector_avx2.h"

#define TABLE ml_rope_avx2
#define CONVERT ml_elementwise_avx2

#include "device/cpu/rope_kernel.h"
