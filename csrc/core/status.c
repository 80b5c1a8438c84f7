#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ML_MESSAGE_MAX 1024

static _Thread_local char last_error[ML_MESSAGE_MAX];

ml_status ml_fail(ml_status status, const char *format, ...) {
    /* Formatted aside first: an argument may be ml_last_error() itself. */
    char message[ML_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    memcpy(last_error, message, strlen(message) + 1);
    return status;
}

const char *ml_last_error(void) {
    return last_error;
}

const char *ml_status_name(ml_status status) {
    static const char *const names[ML_STATUS_COUNT] = {
        [ML_OK] = "ML_OK",
        [ML_ERR_SHAPE] = "ML_ERR_SHAPE",
        [ML_ERR_DTYPE] = "ML_ERR_DTYPE",
        [ML_ERR_VALUE] = "ML_ERR_VALUE",
        [ML_ERR_DEVICE] = "ML_ERR_DEVICE",
        [ML_ERR_MEMORY] = "ML_ERR_MEMORY",
        [ML_ERR_UNSUPPORTED] = "ML_ERR_UNSUPPORTED",
        [ML_ERR_COMPILE] = "ML_ERR_COMPILE",
        [ML_ERR_CHECK] = "ML_ERR_CHECK",
        [ML_ERR_NOT_CACHED] = "ML_ERR_NOT_CACHED",
    };
    return (unsigned)status < ML_STATUS_COUNT ? names[status] : "unknown status";
}

const char *ml_version(void) {
    return ML_VERSION;
}
