/* The kernels and their manifest as text: metal/, with headers put in (metal/embed.py). */
#include "device/gpu/registry.h"

#include "gpu_sources.inc"
