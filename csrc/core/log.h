/* Leveled messages to stderr; METALLIC_LOG_LEVEL = off, error, warn (default), info, debug,
 * trace. */
#ifndef ML_CORE_LOG_H
#define ML_CORE_LOG_H

typedef enum ml_log_level {
    ML_LOG_OFF = 0,
    ML_LOG_ERROR,
    ML_LOG_WARN,
    ML_LOG_INFO,
    ML_LOG_DEBUG,
    ML_LOG_TRACE
} ml_log_level;

void ml_log_set_level(ml_log_level level); /* default: ML_LOG_WARN */
ml_log_level ml_log_get_level(void);
void ml_log(ml_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* As ml_log(ML_LOG_WARN), but a message is shown once per process. */
void ml_warn_once(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
