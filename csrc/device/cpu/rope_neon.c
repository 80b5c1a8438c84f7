/* Rotary positions with NEON. */
#include "device/cpu/vector_neon.h"

#define TABLE ml_rope_neon
#define CONVERT ml_elementwise_neon

#include "device/cpu/rope_kernel.h"
