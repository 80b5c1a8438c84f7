/* Elementary functions over arrays with NEON. */
#include "device/cpu/vector_neon.h"

#define TABLE ml_vmath_neon

#include "device/cpu/vmath_arrays.h"
