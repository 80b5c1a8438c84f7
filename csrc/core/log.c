#include "core/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define LINE_MAX_BYTES 2048

static atomic_int current_level = ML_LOG_WARN;

void ml_log_set_level(ml_log_level level) {
    atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

ml_log_level ml_log_get_level(void) {
    return (ml_log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

static const char *level_name(ml_log_level level) {
    static const char *const names[] = {"off", "error", "warning", "info", "debug", "trace"};
    return (unsigned)level < sizeof names / sizeof names[0] ? names[level] : "?";
}

/* One write per message: lines of different threads do not mix. */
static void emit(ml_log_level level, const char *message) {
    char line[LINE_MAX_BYTES + 64];
    int n = snprintf(line, sizeof line, "metallic: %s: %s\n", level_name(level), message);
    if (n > 0)
        fwrite(line, 1, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1, stderr);
}

void ml_log(ml_log_level level, const char *format, ...) {
    if (level == ML_LOG_OFF || level > ml_log_get_level())
        return;
    char message[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    emit(level, message);
}

/* Hashes of the messages shown so far: open addressing, entries are only ever added, by compare-and-swap. There is no
 * lock that a fork could leave held. A process with more different warnings than the table holds has seen enough. */
#define SHOWN_SLOTS 1024
static _Atomic uint64_t shown[SHOWN_SLOTS];

static uint64_t hash_text(const char *s) {
    uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a */
    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * 0x100000001b3ull;
    return h ? h : 1;
}

static bool first_time(const char *message) {
    const uint64_t h = hash_text(message);
    for (unsigned i = 0; i < SHOWN_SLOTS; i++) {
        _Atomic uint64_t *slot = &shown[(h + i) % SHOWN_SLOTS];
        uint64_t seen = 0;
        if (atomic_compare_exchange_strong(slot, &seen, h))
            return true;
        if (seen == h)
            return false;
    }
    return false;
}

void ml_warn_once(const char *format, ...) {
    if (ml_log_get_level() < ML_LOG_WARN)
        return;
    char message[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (first_time(message))
        emit(ML_LOG_WARN, message);
}
