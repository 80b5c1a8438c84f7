/* Scratch memory of rotary positions on the CPU. */
#ifndef ML_ROPE_LAYOUT_H
#define ML_ROPE_LAYOUT_H

#include "core/op.h"

enum { ML_ROPE_POSITIONS = 16 }; /* whose cosines and sines are at hand at once */

/* Shared, at offset 0: the turns (angle / 2 pi) that each pair makes per position, in double. Then, for each thread,
 * the factors of some positions (two floats for each element) and an f32 copy of one row's turning part. In bytes,
 * multiples of 64. */
static inline int64_t ml_rope_shared_bytes(const ml_rope_params *p) {
    return (p->dims / 2 * (int64_t)sizeof(double) + 63) / 64 * 64;
}
static inline int64_t ml_rope_table_floats(const ml_rope_params *p) {
    return (p->dims + 15) / 16 * 16;
}
static inline int64_t ml_rope_worker_bytes(const ml_rope_params *p) {
    return (2 * ML_ROPE_POSITIONS + 1) * ml_rope_table_floats(p) * (int64_t)sizeof(float) + 64;
}
static inline int64_t ml_rope_scratch_bytes(const ml_rope_params *p, int threads) {
    return ml_rope_shared_bytes(p) + threads * ml_rope_worker_bytes(p);
}

#endif
