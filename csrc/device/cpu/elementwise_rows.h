/* Body of an element-wise tier. The including file defines
 *   VEC, WIDTH                    a vector of WIDTH floats
 *   SPLAT(x), ADD DIV MUL SUB (a, b)
 *   QUIET(v)                      v with signalling NaNs made quiet
 *   LOAD_F32(p) STORE_F32(p, v)   and the same for F16 and BF16, which convert; any alignment
 *   TABLE                         name of the tier's ml_elementwise_impl
 *   TRANSPOSE4, TRANSPOSE2        its transposes
 * What is left of a row that is no multiple of WIDTH goes through the same vectors by way of the stack. */
#include "device/cpu/elementwise.h"

#include <string.h>

#define DEFINE_ROW(name, T, LOAD, STORE, OP)                                                                           \
    static void name(const ml_ew_row *row) {                                                                           \
        T *out = row->out;                                                                                             \
        const T *a = row->a, *b = row->b;                                                                              \
        int64_t i = 0, n = row->n, whole = n / WIDTH * WIDTH;                                                          \
        if (!b) {                                                                                                      \
            const VEC value = SPLAT(row->b_value);                                                                     \
            for (; i < whole; i += WIDTH)                                                                              \
                STORE(out + i, OP(LOAD(a + i), value));                                                                \
        } else if (!a) {                                                                                               \
            const VEC value = SPLAT(row->a_value);                                                                     \
            for (; i < whole; i += WIDTH)                                                                              \
                STORE(out + i, OP(value, LOAD(b + i)));                                                                \
        } else {                                                                                                       \
            for (; i < whole; i += WIDTH)                                                                              \
                STORE(out + i, OP(LOAD(a + i), LOAD(b + i)));                                                          \
        }                                                                                                              \
        if (WIDTH == 1 || i == n)                                                                                      \
            return;                                                                                                    \
        T tail_a[WIDTH] = {0}, tail_b[WIDTH] = {0};                                                                    \
        size_t bytes = (size_t)(n - i) * sizeof(T);                                                                    \
        if (a)                                                                                                         \
            memcpy(tail_a, a + i, bytes);                                                                              \
        if (b)                                                                                                         \
            memcpy(tail_b, b + i, bytes);                                                                              \
        STORE(tail_a, OP(a ? LOAD(tail_a) : SPLAT(row->a_value), b ? LOAD(tail_b) : SPLAT(row->b_value)));             \
        memcpy(out + i, tail_a, bytes);                                                                                \
    }

#define DEFINE_CONVERSION(name, D, S, LOAD, STORE)                                                                     \
    static void name(D *dst, const S *src, int64_t n) {                                                                \
        int64_t i = 0;                                                                                                 \
        for (; i + WIDTH <= n; i += WIDTH)                                                                             \
            STORE(dst + i, LOAD(src + i));                                                                             \
        if (WIDTH == 1 || i == n)                                                                                      \
            return;                                                                                                    \
        S tail[WIDTH] = {0};                                                                                           \
        D result[WIDTH];                                                                                               \
        memcpy(tail, src + i, (size_t)(n - i) * sizeof(S));                                                            \
        STORE(result, LOAD(tail));                                                                                     \
        memcpy(dst + i, result, (size_t)(n - i) * sizeof(D));                                                          \
    }

#define DEFINE_ROWS(dtype, T, LOAD, STORE)                                                                             \
    DEFINE_ROW(add_##dtype, T, LOAD, STORE, ADD)                                                                       \
    DEFINE_ROW(sub_##dtype, T, LOAD, STORE, SUB)                                                                       \
    DEFINE_ROW(mul_##dtype, T, LOAD, STORE, MUL)                                                                       \
    DEFINE_ROW(div_##dtype, T, LOAD, STORE, DIV)

DEFINE_ROWS(f32, float, LOAD_F32, STORE_F32)
DEFINE_ROWS(f16, uint16_t, LOAD_F16, STORE_F16)
DEFINE_ROWS(bf16, uint16_t, LOAD_BF16, STORE_BF16)
DEFINE_CONVERSION(widen_f16, float, uint16_t, LOAD_F16, STORE_F32)
#define LOAD_QUIET(p) QUIET(LOAD_BF16(p)) /* a shift; F16C does this by itself */
DEFINE_CONVERSION(widen_bf16, float, uint16_t, LOAD_QUIET, STORE_F32)
DEFINE_CONVERSION(narrow_f16, uint16_t, float, LOAD_F32, STORE_F16)
DEFINE_CONVERSION(narrow_bf16, uint16_t, float, LOAD_F32, STORE_BF16)

static void transpose1(const ml_ew_transpose *t) {
    uint8_t *dst = t->dst;
    const uint8_t *src = t->src;
    for (int64_t j = 0; j < t->cols; j++) {
        for (int64_t i = 0; i < t->rows; i++)
            dst[i * t->dst_ld + j] = src[j * t->src_ld + i];
    }
}

const ml_elementwise_impl TABLE = {
    .rows = {[ML_F32] = {add_f32, sub_f32, mul_f32, div_f32},
             [ML_F16] = {add_f16, sub_f16, mul_f16, div_f16},
             [ML_BF16] = {add_bf16, sub_bf16, mul_bf16, div_bf16}},
    .widen = {[ML_F16] = widen_f16, [ML_BF16] = widen_bf16},
    .narrow = {[ML_F16] = narrow_f16, [ML_BF16] = narrow_bf16},
    .transpose = {transpose1, TRANSPOSE2, TRANSPOSE4},
};
