/* Elementary functions over arrays in plain C. */
#include "device/cpu/vector_scalar.h"

#define TABLE ml_vmath_scalar

#include "device/cpu/vmath_arrays.h"
