/* One launch of each kernel in metal/, with operands of a useful size: for counting what it does. */
#ifndef TESTS_METAL_CASES_H
#define TESTS_METAL_CASES_H

#include "common/params.h"

#include <stdbool.h>
#include <stddef.h>

#define MAX_CONSTANTS 32
#define MAX_OPERANDS 8

typedef struct launch {
    const char *source; /* "gemm.metal" */
    char function[64];
    bool bfloat;
    char what[64]; /* the problem, for people */
    struct {
        int index, value;
    } constants[MAX_CONSTANTS]; /* those that are not 0 */
    int n_constants;
    size_t operands[MAX_OPERANDS]; /* bytes by buffer index; 0: none */
    uint16_t fill[MAX_OPERANDS];   /* their contents */
    int params_index;
    union {
        ml_gpu_matmul matmul;
        ml_gpu_softmax softmax;
        ml_gpu_sdpa sdpa;
        ml_gpu_elementwise elementwise;
    } params;
    size_t params_bytes;
    uint32_t grid[3], threadgroup[3];
    bool grid_in_threads;
    size_t outputs, least_bytes; /* elements of the result; what must be read and written once */
    bool reads_once;             /* must stay within 10 % of it */
} launch;

/* The i-th launch; false behind the last. */
bool launch_at(int i, launch *out);
/* The same for small launches that together pass every barrier, those of rarely taken ways too. */
bool barrier_launch_at(int i, launch *out);

#endif
