/* Failures: a status code and a per-thread message. */
#ifndef ML_CORE_STATUS_H
#define ML_CORE_STATUS_H

#include "metallic.h"

/* Stores the message (printf-style, truncated to 1 KiB) for ml_last_error() and returns status:
 *     return ml_fail(ML_ERR_SHAPE, "matmul: a %s and b %s do not fit", ...);                                        */
ml_status ml_fail(ml_status status, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

#define ML_TRY(expr)                                                                                                   \
    do {                                                                                                               \
        ml_status ml_try_status_ = (expr);                                                                             \
        if (ml_try_status_ != ML_OK)                                                                                   \
            return ml_try_status_;                                                                                     \
    } while (0)

#endif
