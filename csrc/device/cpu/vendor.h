/* The platform's BLAS, loaded at run time: the "mps" backend of the CPU device. */
#ifndef ML_CPU_VENDOR_H
#define ML_CPU_VENDOR_H

#include <stdbool.h>

/* Loads the library on the first call. name: "OpenBLAS 0.3.34"; reason: why it is not available, NULL when it is. Both
 * live as long as the process. */
typedef struct ml_vendor_info {
    bool available;
    const char *name, *path, *reason;
} ml_vendor_info;
void ml_cpu_vendor_info(ml_vendor_info *out);

#endif
