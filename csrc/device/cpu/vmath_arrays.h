/* Body of vmath_<tier>.c, after vector_<tier>.h. TABLE names the tier's ml_vmath_impl. */
#include "device/cpu/vmath.h"
#include "device/cpu/vmath_impl.h"

#define DEFINE_ARRAY(name, F)                                                                                          \
    static void name(float *dst, const float *src, int64_t n) {                                                        \
        int64_t i = 0;                                                                                                 \
        for (; i + VW <= n; i += VW)                                                                                   \
            v_store(dst + i, F(v_load(src + i)));                                                                      \
        if (VW > 1 && i < n)                                                                                           \
            v_store_n(dst + i, F(v_load_n(src + i, n - i, 1.0f)), n - i);                                              \
    }
DEFINE_ARRAY(exp2_array, v_exp2)
DEFINE_ARRAY(exp2_low_array, v_exp2_low)
DEFINE_ARRAY(exp_array, v_exp)
DEFINE_ARRAY(log_array, v_log)
DEFINE_ARRAY(tanh_array, v_tanh)
DEFINE_ARRAY(erf_array, v_erf)
DEFINE_ARRAY(sin_turns_array, v_sin_turns)
DEFINE_ARRAY(cos_turns_array, v_cos_turns)

const ml_vmath_impl TABLE = {exp2_array, exp2_low_array, exp_array,       log_array,
                             tanh_array, erf_array,      sin_turns_array, cos_turns_array};
