/* Element-wise row kernels in plain C, the reference of the vector tiers. */
#include "device/cpu/elementwise.h"

typedef float vec;
#define VEC vec
#define WIDTH 1
#define SPLAT(x) (x)
#define ADD(a, b) ((a) + (b))
#define SUB(a, b) ((a) - (b))
#define MUL(a, b) ((a) * (b))
#define DIV(a, b) ((a) / (b))
#define QUIET(v) (v)
#define LOAD_F32(p) (*(p))
#define STORE_F32(p, v) (*(p) = (v))
#define LOAD_F16(p) ml_half_to_float(*(p))
#define STORE_F16(p, v) (*(p) = ml_float_to_half(v))
#define LOAD_BF16(p) ml_bfloat_to_float(*(p))
#define STORE_BF16(p, v) (*(p) = ml_float_to_bfloat(v))
#define TABLE ml_elementwise_scalar
#define TRANSPOSE4 transpose4
#define TRANSPOSE2 transpose2

#define DEFINE_TRANSPOSE(name, T)                                                                                      \
    static void name(const ml_ew_transpose *t) {                                                                       \
        T *dst = t->dst;                                                                                               \
        const T *src = t->src;                                                                                         \
        for (int64_t j = 0; j < t->cols; j++) {                                                                        \
            for (int64_t i = 0; i < t->rows; i++)                                                                      \
                dst[i * t->dst_ld + j] = src[j * t->src_ld + i];                                                       \
        }                                                                                                              \
    }
DEFINE_TRANSPOSE(transpose4, uint32_t)
DEFINE_TRANSPOSE(transpose2, uint16_t)

#include "device/cpu/elementwise_rows.h"
