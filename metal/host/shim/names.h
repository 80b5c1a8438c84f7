// metal::fast and metal::precise are the functions themselves: ours are at least as exact as the precise ones.
#pragma once

#include "kernel.h"

#define SM_FOR_MATH(DO)                                                                                                        \
    DO(abs)                                                                                                                    \
    DO(acos)                                                                                                                   \
    DO(acosh)                                                                                                                  \
    DO(asin)                                                                                                                   \
    DO(asinh)                                                                                                                  \
    DO(atan)                                                                                                                   \
    DO(atan2)                                                                                                                  \
    DO(atanh)                                                                                                                  \
    DO(ceil)                                                                                                                   \
    DO(clamp)                                                                                                                  \
    DO(copysign)                                                                                                               \
    DO(cos)                                                                                                                    \
    DO(cosh)                                                                                                                   \
    DO(cospi)                                                                                                                  \
    DO(cross)                                                                                                                  \
    DO(distance)                                                                                                               \
    DO(distance_squared)                                                                                                       \
    DO(divide)                                                                                                                 \
    DO(dot)                                                                                                                    \
    DO(exp)                                                                                                                    \
    DO(exp10)                                                                                                                  \
    DO(exp2)                                                                                                                   \
    DO(fabs)                                                                                                                   \
    DO(faceforward)                                                                                                            \
    DO(fdim)                                                                                                                   \
    DO(floor)                                                                                                                  \
    DO(fma)                                                                                                                    \
    DO(fmax)                                                                                                                   \
    DO(fmax3)                                                                                                                  \
    DO(fmedian3)                                                                                                               \
    DO(fmin)                                                                                                                   \
    DO(fmin3)                                                                                                                  \
    DO(fmod)                                                                                                                   \
    DO(fract)                                                                                                                  \
    DO(frexp)                                                                                                                  \
    DO(ilogb)                                                                                                                  \
    DO(isfinite)                                                                                                               \
    DO(isinf)                                                                                                                  \
    DO(isnan)                                                                                                                  \
    DO(isnormal)                                                                                                               \
    DO(ldexp)                                                                                                                  \
    DO(length)                                                                                                                 \
    DO(length_squared)                                                                                                         \
    DO(log)                                                                                                                    \
    DO(log10)                                                                                                                  \
    DO(log2)                                                                                                                   \
    DO(max)                                                                                                                    \
    DO(max3)                                                                                                                   \
    DO(median3)                                                                                                                \
    DO(min)                                                                                                                    \
    DO(min3)                                                                                                                   \
    DO(mix)                                                                                                                    \
    DO(modf)                                                                                                                   \
    DO(nextafter)                                                                                                              \
    DO(normalize)                                                                                                              \
    DO(pow)                                                                                                                    \
    DO(powr)                                                                                                                   \
    DO(reflect)                                                                                                                \
    DO(refract)                                                                                                                \
    DO(rint)                                                                                                                   \
    DO(round)                                                                                                                  \
    DO(rsqrt)                                                                                                                  \
    DO(saturate)                                                                                                               \
    DO(sign)                                                                                                                   \
    DO(signbit)                                                                                                                \
    DO(sin)                                                                                                                    \
    DO(sincos)                                                                                                                 \
    DO(sinh)                                                                                                                   \
    DO(sinpi)                                                                                                                  \
    DO(smoothstep)                                                                                                             \
    DO(sqrt)                                                                                                                   \
    DO(step)                                                                                                                   \
    DO(tan)                                                                                                                    \
    DO(tanh)                                                                                                                   \
    DO(tanpi)                                                                                                                  \
    DO(trunc)
#define SM_USING(NAME) using metal::NAME;

namespace metal {
namespace fast {
SM_FOR_MATH(SM_USING)
}
namespace precise {
SM_FOR_MATH(SM_USING)
}
} // namespace metal
