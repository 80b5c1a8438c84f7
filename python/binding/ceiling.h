/* What this machine can do at most, measured: the yardstick of `metallic sweep`. Private to the package. */
#ifndef ML_BINDING_CEILING_H
#define ML_BINDING_CEILING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* _measure_read_gbs(buffer, seconds) and _measure_flops(dtype, seconds), for PyModule_AddFunctions. */
extern PyMethodDef ml_ceiling_methods[];

#endif
