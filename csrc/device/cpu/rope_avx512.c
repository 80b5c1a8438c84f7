/* Rotary positions with AVX-512. */
#include "device/cpu/vector_avx512.h"

#define TABLE ml_rope_avx512
#define CONVERT ml_elementwise_avx512

#include "device/cpu/rope_kernel.h"
