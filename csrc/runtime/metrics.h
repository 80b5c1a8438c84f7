/* Metrics: one record per dispatch, for the console, JSON-lines files and profiles.
 *
 * Nothing is measured or formatted unless somebody listens: a context with a console or file sink, or a profile of any
 * thread. ml_metrics_wanted() is all that a dispatch costs otherwise.
 */
#ifndef ML_RUNTIME_METRICS_H
#define ML_RUNTIME_METRICS_H

#include "runtime/context.h"
#include "runtime/thread.h"

extern atomic_int ml_metrics_profiles; /* open profiles of all threads */

static inline bool ml_metrics_wanted(const ml_context *ctx) {
    return ctx->sink || atomic_load_explicit(&ml_metrics_profiles, memory_order_relaxed) > 0;
}

/* What METALLIC_METRICS_CONSOLE and METALLIC_METRICS_JSONL_PATH ask for; NULL when neither is set. A file that cannot
 * be opened is reported once and counts as unset. Contexts with the same path share the file. */
typedef struct ml_metrics_sink ml_metrics_sink;
ml_metrics_sink *ml_metrics_sink_open(const ml_pref_values *prefs);
void ml_metrics_sink_close(ml_metrics_sink *sink);

double ml_metrics_now_us(void); /* monotonic */

/* One dispatch. Times in microseconds; device_us below 0: not measured. */
typedef struct ml_metrics_record {
    const ml_op *op;
    const ml_plan *plan;
    int64_t copied_bytes;
    int dispatches, barriers;
    int64_t command_buffer; /* number of the one it was recorded into; 0: none (cpu) */
    bool cache_hit;
    double host_us, device_us;
} ml_metrics_record;
void ml_metrics_emit(const ml_context *ctx, const ml_thread *t, const ml_metrics_record *record);

#endif
