/* Strict mode: what Apple's compiler would reject. */
#ifndef SM_STRICT_H
#define SM_STRICT_H

#include "mslc/mslc.h"
#include "softmetal/compile.h"

/* Checks the whole unit: first the rules that tokens tell (mslc_check), then types and address spaces with a clang in
 * C++ for OpenCL mode. ML_OK: nothing to object to. ML_ERR_COMPILE: *messages. ML_ERR_DEVICE: there is no clang (the
 * message says how to get one). */
ml_status sm_strict_check(const sm_compiler *compiler, mslc_unit *unit, char **messages);

#endif
