/* Elementary functions over arrays with AVX2. */
#include "device/cpu/vector_avx2.h"

#define TABLE ml_vmath_avx2

#include "device/cpu/vmath_arrays.h"
