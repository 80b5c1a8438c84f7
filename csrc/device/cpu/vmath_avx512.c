/* Elementary functions over arrays with AVX-512. */
#include "device/cpu/vector_avx512.h"

#define TABLE ml_vmath_avx512

#include "device/cpu/vmath_arrays.h"
