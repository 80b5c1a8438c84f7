/* Body of vmath_<tier>.c, after vector_<tier>.h. TABLE names the tier's ml_vmath_impl. What is left of an array that is
 * no multiple of VW goes through the same vectors by way of the stack. */
#include "device/cpu/vmath.h"
#include "device/cpu/vmath_impl.h"

#include <string.h>

#define DEFINE_ARRAY(name, F)                                                                                          \
    static void name(float *dst, const float *src, int64_t n) {                                                        \
        int64_t i = 0;                                                                                                 \
        for (; i + VW <= n; i += VW)                                                                                   \
            v_store(dst + i, F(v_load(src + i)));                                                                      \
        if (VW == 1 || i == n)                                                                                         \
            return;                                                                                                    \
        float tail[VW] = {0};                                                                                          \
        memcpy(tail, src + i, (size_t)(n - i) * sizeof(float));                                                        \
        v_store(tail, F(v_load(tail)));                                                                                \
        memcpy(dst + i, tail, (size_t)(n - i) * sizeof(float));                                                        \
    }
DEFINE_ARRAY(exp2_array, v_exp2)
DEFINE_ARRAY(exp_array, v_exp)
DEFINE_ARRAY(log_array, v_log)
DEFINE_ARRAY(tanh_array, v_tanh)
DEFINE_ARRAY(erf_array, v_erf)

const ml_vmath_impl TABLE = {exp2_array, exp_array, log_array, tanh_array, erf_array};
