/* Preferences: the METALLIC_* variables, their keywords, and the order in which layers win.
 *
 *     argument > ml_prefs_push (this thread) > context options > environment > default
 *
 * A layer is an ml_pref_set: values and a mask of those that were given. How the runtime uses it:
 *
 *     ml_pref_set base, over;                             // when a context is made
 *     ml_pref_set_init(&base);
 *     ml_pref_set_load_env(&base);
 *     ml_pref_set_init(&over);
 *     ML_TRY(ml_pref_set_load(&over, options->prefs, options->n_prefs));
 *     ml_pref_set_merge(&base, &over);                    // base.values is complete: defaults fill what nobody gave
 *
 *     ml_prefs now = ctx->prefs.select;                   // for each operation
 *     ml_prefs_apply_thread(&now);
 */
#ifndef ML_RUNTIME_PREFS_H
#define ML_RUNTIME_PREFS_H

#include "core/log.h"
#include "core/op.h"

/* One per variable, in the order of the table in prefs.c and of docs/DISPATCHER.md. */
typedef enum ml_pref_id {
    ML_PREF_DEVICE = 0,
    ML_PREF_MATMUL_BACKEND,
    ML_PREF_MATMUL_VARIANT_FORCE,
    ML_PREF_MATMUL_SMALLN_MAX_N,
    ML_PREF_MATMUL_SIMD_M_MIN,
    ML_PREF_MATMUL_SIMD_N_MIN,
    ML_PREF_MATMUL_FORCE_SMALLN,
    ML_PREF_SOFTMAX_VARIANT,
    ML_PREF_SOFTMAX_VEC_MAX_K,
    ML_PREF_SDPA_VARIANT,
    ML_PREF_DISPATCH,
    ML_PREF_PRECISION,
    ML_PREF_SUBMIT,
    ML_PREF_EXP_KERNELS,
    ML_PREF_VARIANTS,
    ML_PREF_ISA,
    ML_PREF_NUM_THREADS,
    ML_PREF_LOG_LEVEL,
    ML_PREF_METRICS_JSONL_PATH,
    ML_PREF_METRICS_CONSOLE,
    ML_PREF_ENABLE_PROFILING,
    ML_PREF_CHECK,
    ML_PREF_CACHE_DIR,
    ML_PREF_COUNT
} ml_pref_id;

#define ML_PREF_NAME_MAX 32
#define ML_PREF_PATH_MAX 1024

typedef struct ml_pref_values {
    ml_prefs select; /* what the dispatcher looks at; the only part that ml_prefs_push can change */

    /* The rest has its effect when a context is made. "" and 0 mean "not given". */
    char device[ML_PREF_NAME_MAX]; /* "cpu", "metal", "cuda"; "": the best one present */
    uint32_t isa_mask;             /* ML_ISA_... bits that may be used; ~0u: all that the CPU has */
    int num_threads;               /* 0: every CPU this process may use */
    ml_log_level log_level;
    char metrics_jsonl_path[ML_PREF_PATH_MAX]; /* "": none */
    bool metrics_console;
    bool enable_profiling;
    bool check;
    char cache_dir[ML_PREF_PATH_MAX]; /* "": ml_cache_dir() finds the default */
    char variants[ML_PREF_PATH_MAX];  /* manifest in place of the built-in one (GPU devices); "": the built-in one */
} ml_pref_values;

typedef struct ml_pref_set {
    uint32_t given; /* bit per ml_pref_id */
    ml_pref_values values;
} ml_pref_set;

/* Nothing given, every value its default. */
void ml_pref_set_init(ml_pref_set *set);

/* Reads the environment. An unknown value is reported once per process (ml_warn_once, with the accepted ones) and
 * counts as unset; so does an empty one, silently. A canonical name beats its alias. */
void ml_pref_set_load_env(ml_pref_set *set);

/* The same from another source than getenv, for tests. warn takes each complaint; it may be NULL. */
typedef struct ml_pref_source {
    const char *(*get)(void *arg, const char *name); /* NULL: not set */
    void (*warn)(void *arg, const char *message);
    void *arg;
} ml_pref_source;
void ml_pref_set_load_from(ml_pref_set *set, const ml_pref_source *source);

/* Adds keywords ("matmul_backend", or an alias's "smalln_max_n"; never the METALLIC_ spelling). A canonical keyword
 * beats its alias whatever their order; of one keyword given twice the last counts. Errors: ML_ERR_VALUE (unknown
 * keyword, or a value that the preference does not accept; the message lists what is accepted), set unchanged then. */
ml_status ml_pref_set_load(ml_pref_set *set, const ml_pref *prefs, int n);

/* Lays what `high` gives over `low`. Within one layer VARIANT_FORCE beats FORCE_SMALLN; between layers the higher one
 * wins: giving either in `high` takes the other one back to its default unless `high` gives it too. */
void ml_pref_set_merge(ml_pref_set *low, const ml_pref_set *high);

static inline bool ml_pref_given(const ml_pref_set *set, ml_pref_id id) {
    return (set->given >> id) & 1u;
}

/* ml_prefs_push and ml_prefs_pop for a caller whose blocks need not end in the order in which they began (coroutines of
 * one thread): pop takes away the owner's latest override, wherever it is, and what lies above stays. */
ml_status ml_prefs_push_for(const void *owner, const ml_pref *prefs, int n);
void ml_prefs_pop_for(const void *owner);

/* Lays the calling thread's overrides (ml_prefs_push) over prefs. */
void ml_prefs_apply_thread(ml_prefs *prefs);

/* One row of the table of preferences, for documentation and tests. */
typedef struct ml_pref_info {
    const char *env;      /* "METALLIC_MATMUL_BACKEND" */
    const char *alias;    /* "FORCE_MATMUL_BACKEND"; NULL when there is none */
    const char *accepted; /* "auto, mlx, mps, gemv, custom" */
    bool per_thread;      /* ml_prefs_push takes it */
} ml_pref_info;
ml_pref_info ml_pref_describe(ml_pref_id id);

/* The folder for files that outlive the process: cache_dir when not empty, else $XDG_CACHE_HOME/metallic, else
 * $HOME/.cache/metallic, else "". Into buf; returns buf. Does not create it. */
char *ml_cache_dir(const ml_pref_values *values, char *buf, size_t size);

#endif
