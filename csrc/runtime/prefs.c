/* The table of preferences and everything that follows from it: environment, keywords, layers, per-thread overrides. */
#include "runtime/prefs.h"

#include "core/pool.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum ml_pref_type {
    PREF_CHOICE,  /* one of `accepted`, stored as the int of the same position in `values` */
    PREF_INT,     /* int64_t, not negative */
    PREF_THREADS, /* int, at least 1, or "auto" */
    PREF_BOOL,
    PREF_OPS, /* bits of ml_op_kind */
    PREF_ISA, /* mask of ML_ISA_... */
    PREF_PATH
} ml_pref_type;

typedef struct ml_pref_row {
    const char *env, *alias;
    ml_pref_type type;
    const char *accepted;
    const int8_t *values;
    size_t offset, size;
    bool per_thread;
} ml_pref_row;

#define ACCEPT_BOOL "1, 0, true, false, on, off, yes, no"
#define ACCEPT_COUNT "a whole number from 0"
#define FIELD(f) offsetof(ml_pref_values, f), sizeof(((ml_pref_values *)0)->f)
#define VALUES(...) ((const int8_t[]){__VA_ARGS__})

_Static_assert(sizeof(ml_matmul_backend) == sizeof(int) && sizeof(ml_log_level) == sizeof(int),
               "enums are stored as int");
_Static_assert(offsetof(ml_pref_values, select) == 0, "a thread's overrides are laid over ml_prefs alone");

/* The devices' names are their values: a choice that is stored as text. */
#define ACCEPT_DEVICE "auto, cpu, metal, cuda"

static const ml_pref_row table[ML_PREF_COUNT] = {
    [ML_PREF_DEVICE] = {"METALLIC_DEVICE", NULL, PREF_CHOICE, ACCEPT_DEVICE, NULL, FIELD(device), false},
    [ML_PREF_MATMUL_BACKEND] = {"METALLIC_MATMUL_BACKEND", "FORCE_MATMUL_BACKEND", PREF_CHOICE,
                                "auto, mlx, mps, gemv, custom",
                                VALUES(ML_BACKEND_AUTO, ML_BACKEND_MLX, ML_BACKEND_MPS, ML_BACKEND_GEMV,
                                       ML_BACKEND_GEMV),
                                FIELD(select.matmul_backend), true},
    [ML_PREF_MATMUL_VARIANT_FORCE] = {"METALLIC_MATMUL_VARIANT_FORCE", NULL, PREF_CHOICE, "auto, smalln, gemm",
                                      VALUES(ML_FORCE_AUTO, ML_FORCE_SMALLN, ML_FORCE_GEMM),
                                      FIELD(select.matmul_variant_force), true},
    [ML_PREF_MATMUL_SMALLN_MAX_N] = {"METALLIC_MATMUL_SMALLN_MAX_N", "METALLIC_SMALLN_MAX_N", PREF_INT, ACCEPT_COUNT,
                                     NULL, FIELD(select.smalln_max_n), true},
    [ML_PREF_MATMUL_SIMD_M_MIN] = {"METALLIC_MATMUL_SIMD_M_MIN", NULL, PREF_INT, ACCEPT_COUNT, NULL,
                                   FIELD(select.simd_m_min), true},
    [ML_PREF_MATMUL_SIMD_N_MIN] = {"METALLIC_MATMUL_SIMD_N_MIN", NULL, PREF_INT, ACCEPT_COUNT, NULL,
                                   FIELD(select.simd_n_min), true},
    [ML_PREF_MATMUL_FORCE_SMALLN] = {"METALLIC_MATMUL_FORCE_SMALLN", NULL, PREF_BOOL, ACCEPT_BOOL, NULL,
                                     FIELD(select.matmul_force_smalln), true},
    [ML_PREF_SOFTMAX_VARIANT] = {"METALLIC_SOFTMAX_VARIANT", "METALLIC_SOFTMAX_BACKEND", PREF_CHOICE,
                                 "auto, vec, block", VALUES(ML_SOFTMAX_AUTO, ML_SOFTMAX_VEC, ML_SOFTMAX_BLOCK),
                                 FIELD(select.softmax_variant), true},
    [ML_PREF_SOFTMAX_VEC_MAX_K] = {"METALLIC_SOFTMAX_VEC_MAX_K", NULL, PREF_INT, ACCEPT_COUNT, NULL,
                                   FIELD(select.softmax_vec_max_k), true},
    [ML_PREF_SDPA_VARIANT] = {"METALLIC_SDPA_VARIANT", NULL, PREF_CHOICE, "auto, composed, vector, tiled",
                              VALUES(ML_SDPA_AUTO, ML_SDPA_COMPOSED, ML_SDPA_VECTOR, ML_SDPA_TILED),
                              FIELD(select.sdpa_variant), true},
    [ML_PREF_DISPATCH] = {"METALLIC_DISPATCH", NULL, PREF_OPS,
                          "all, none, or a comma-separated list of matmul, softmax, sdpa", NULL,
                          FIELD(select.dispatch_ops), true},
    [ML_PREF_PRECISION] = {"METALLIC_PRECISION", NULL, PREF_CHOICE, "fast, high",
                           VALUES(ML_PRECISION_FAST, ML_PRECISION_HIGH), FIELD(select.precision), true},
    [ML_PREF_SUBMIT] = {"METALLIC_SUBMIT", NULL, PREF_CHOICE, "batched, per_item",
                        VALUES(ML_SUBMIT_BATCHED, ML_SUBMIT_PER_ITEM), FIELD(select.submit), true},
    [ML_PREF_EXP_KERNELS] = {"METALLIC_EXP_KERNELS", NULL, PREF_BOOL, ACCEPT_BOOL, NULL, FIELD(select.exp_kernels),
                             true},
    [ML_PREF_VARIANTS] = {"METALLIC_VARIANTS", NULL, PREF_PATH, "a path", NULL, FIELD(variants), false},
    [ML_PREF_ISA] = {"METALLIC_ISA", NULL, PREF_ISA,
                     "auto, scalar, avx2, avx512, avx512_bf16, avx512_fp16, amx, neon, neon_fp16, neon_bf16", NULL,
                     FIELD(isa_mask), false},
    [ML_PREF_NUM_THREADS] = {"METALLIC_NUM_THREADS", NULL, PREF_THREADS, "auto, or a whole number from 1", NULL,
                             FIELD(num_threads), false},
    [ML_PREF_LOG_LEVEL] = {"METALLIC_LOG_LEVEL", NULL, PREF_CHOICE, "off, error, warn, info, debug, trace",
                           VALUES(ML_LOG_OFF, ML_LOG_ERROR, ML_LOG_WARN, ML_LOG_INFO, ML_LOG_DEBUG, ML_LOG_TRACE),
                           FIELD(log_level), false},
    [ML_PREF_METRICS_JSONL_PATH] = {"METALLIC_METRICS_JSONL_PATH", NULL, PREF_PATH, "a path", NULL,
                                    FIELD(metrics_jsonl_path), false},
    [ML_PREF_METRICS_CONSOLE] = {"METALLIC_METRICS_CONSOLE", NULL, PREF_BOOL, ACCEPT_BOOL, NULL, FIELD(metrics_console),
                                 false},
    [ML_PREF_ENABLE_PROFILING] = {"METALLIC_ENABLE_PROFILING", NULL, PREF_BOOL, ACCEPT_BOOL, NULL,
                                  FIELD(enable_profiling), false},
    [ML_PREF_CHECK] = {"METALLIC_CHECK", NULL, PREF_BOOL, ACCEPT_BOOL, NULL, FIELD(check), false},
    [ML_PREF_CACHE_DIR] = {"METALLIC_CACHE_DIR", NULL, PREF_PATH, "a path", NULL, FIELD(cache_dir), false},
};

ml_pref_info ml_pref_describe(ml_pref_id id) {
    return (ml_pref_info){table[id].env, table[id].alias, table[id].accepted, table[id].per_thread};
}

void ml_pref_set_init(ml_pref_set *set) {
    memset(set, 0, sizeof *set);
    set->values.select = (ml_prefs)ML_PREFS_DEFAULTS;
    set->values.isa_mask = ~0u;
    set->values.log_level = ML_LOG_WARN;
}

/* ---- values ---- */

/* Position of word in a list such as "auto, mlx, mps", or -1. */
static int position_in(const char *list, const char *word) {
    size_t length = strlen(word);
    int position = 0;
    for (const char *p = list; *p; position++) {
        size_t n = strcspn(p, ",");
        if (n == length && memcmp(p, word, n) == 0)
            return position;
        p += n;
        p += strspn(p, ", ");
    }
    return -1;
}

static bool parse_count(const char *word, int64_t least, int64_t most, int64_t *out) {
    if (!isdigit((unsigned char)word[0]))
        return false;
    char *end;
    errno = 0;
    long long value = strtoll(word, &end, 10);
    *out = value;
    return errno == 0 && *end == '\0' && value >= least && value <= most;
}

static bool parse_ops(const char *word, uint32_t *out) {
    static const uint32_t bits[] = {1u << ML_OP_MATMUL | 1u << ML_OP_MATMUL_RAGGED, 1u << ML_OP_SOFTMAX,
                                    1u << ML_OP_SDPA};
    *out = 0;
    if (strcmp(word, "none") == 0)
        return true;
    if (strcmp(word, "all") == 0) {
        *out = ~0u;
        return true;
    }
    while (*word) {
        char name[16];
        size_t n = strcspn(word, ", ");
        if (n >= sizeof name)
            return false;
        memcpy(name, word, n);
        name[n] = '\0';
        int position = position_in("matmul, softmax, sdpa", name);
        if (position < 0)
            return false;
        *out |= bits[position];
        word += n;
        word += strspn(word, ", ");
    }
    return true;
}

/* Without surrounding blanks, in lower case; false when it does not fit. */
static bool normalise(const char *text, char *out, size_t size) {
    text += strspn(text, " \t\r\n");
    size_t n = strlen(text);
    while (n > 0 && isspace((unsigned char)text[n - 1]))
        n--;
    if (n >= size)
        return false;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)tolower((unsigned char)text[i]);
    out[n] = '\0';
    return true;
}

/* Parses text into its field of values, which is untouched when text is not accepted. */
static bool parse(const ml_pref_row *row, const char *text, ml_pref_values *values) {
    char *field = (char *)values + row->offset;
    if (row->type == PREF_PATH) {
        if (strlen(text) >= row->size)
            return false;
        strcpy(field, text);
        return true;
    }
    char word[128];
    int64_t count;
    if (!normalise(text, word, sizeof word) || word[0] == '\0')
        return false;
    switch (row->type) {
    case PREF_CHOICE: {
        int position = position_in(row->accepted, word);
        if (position < 0)
            return false;
        if (row->values) {
            int value = row->values[position];
            memcpy(field, &value, sizeof value);
        } else {
            strcpy(field, position == 0 ? "" : word);
        }
        return true;
    }
    case PREF_INT:
        if (!parse_count(word, 0, INT64_MAX, &count))
            return false;
        memcpy(field, &count, sizeof count);
        return true;
    case PREF_THREADS: {
        int threads;
        if (!ml_threads_from_text(word, &threads))
            return false;
        memcpy(field, &threads, sizeof threads);
        return true;
    }
    case PREF_BOOL: {
        int position = position_in(ACCEPT_BOOL, word);
        bool value = position % 2 == 0;
        if (position < 0)
            return false;
        memcpy(field, &value, sizeof value);
        return true;
    }
    case PREF_OPS: {
        uint32_t bits;
        if (!parse_ops(word, &bits))
            return false;
        memcpy(field, &bits, sizeof bits);
        return true;
    }
    case PREF_ISA: {
        uint32_t mask;
        if (!ml_isa_mask_from_name(word, &mask))
            return false;
        memcpy(field, &mask, sizeof mask);
        return true;
    }
    case PREF_PATH:
        break;
    }
    return false;
}

/* ---- environment ---- */

static bool load_variable(ml_pref_set *set, ml_pref_id id, const char *name, const ml_pref_source *source) {
    const char *text = source->get(source->arg, name);
    if (!text || text[strspn(text, " \t\r\n")] == '\0')
        return false;
    if (parse(&table[id], text, &set->values)) {
        set->given |= 1u << id;
        return true;
    }
    if (source->warn) {
        char message[512];
        snprintf(message, sizeof message, "%s: unknown value \"%.80s\" counts as unset; accepted: %s", name, text,
                 table[id].accepted);
        source->warn(source->arg, message);
    }
    return false;
}

void ml_pref_set_load_from(ml_pref_set *set, const ml_pref_source *source) {
    for (int id = 0; id < ML_PREF_COUNT; id++)
        if (!load_variable(set, (ml_pref_id)id, table[id].env, source) && table[id].alias)
            load_variable(set, (ml_pref_id)id, table[id].alias, source);
}

static const char *from_environment(void *arg, const char *name) {
    (void)arg;
    return getenv(name);
}

static void warn_about(void *arg, const char *message) {
    (void)arg;
    ml_warn_once("%s", message);
}

void ml_pref_set_load_env(ml_pref_set *set) {
    ml_pref_source source = {.get = from_environment, .warn = warn_about};
    ml_pref_set_load_from(set, &source);
}

/* ---- keywords ---- */

/* "matmul_backend" names METALLIC_MATMUL_BACKEND, "force_matmul_backend" FORCE_MATMUL_BACKEND. */
static bool keyword_matches(const char *key, const char *env) {
    static const char prefix[] = "METALLIC_";
    if (!env)
        return false;
    if (strncmp(env, prefix, sizeof prefix - 1) == 0)
        env += sizeof prefix - 1;
    for (; *env; env++, key++)
        if (*key != tolower((unsigned char)*env))
            return false;
    return *key == '\0';
}

static ml_status unknown_keyword(const char *key) {
    char list[768];
    size_t used = 0;
    for (int id = 0; id < ML_PREF_COUNT && used < sizeof list - 1; id++) {
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", id ? ", " : "", table[id].env + 9);
    }
    for (char *p = list; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    return ml_fail(ML_ERR_VALUE, "unknown preference \"%.40s\"; accepted: %s", key ? key : "(null)", list);
}

static ml_status find_keyword(const char *key, ml_pref_id *id, bool *is_alias) {
    for (int i = 0; key && i < ML_PREF_COUNT; i++) {
        *is_alias = !keyword_matches(key, table[i].env);
        if (!*is_alias || keyword_matches(key, table[i].alias)) {
            *id = (ml_pref_id)i;
            return ML_OK;
        }
    }
    return unknown_keyword(key);
}

ml_status ml_pref_set_load(ml_pref_set *set, const ml_pref *prefs, int n) {
    ml_pref_set next = *set;
    for (int canonical = 0; canonical < 2; canonical++) { /* aliases first: what comes later wins */
        for (int i = 0; i < n; i++) {
            ml_pref_id id = ML_PREF_COUNT;
            bool is_alias;
            ML_TRY(find_keyword(prefs[i].key, &id, &is_alias));
            if (is_alias == (canonical == 1) || !prefs[i].value)
                continue;
            if (!parse(&table[id], prefs[i].value, &next.values))
                return ml_fail(ML_ERR_VALUE, "preference %s: \"%.80s\" is not accepted; accepted: %s", prefs[i].key,
                               prefs[i].value, table[id].accepted);
            next.given |= 1u << id;
        }
    }
    *set = next;
    return ML_OK;
}

/* ---- layers ---- */

/* Lays the fields of the bits in `given` from high over low; both are ml_pref_values or, when every bit belongs to
 * `select`, ml_prefs. *low_given may be NULL. */
static void overlay(void *low, uint32_t *low_given, const void *high, uint32_t given) {
    uint32_t force = 1u << ML_PREF_MATMUL_VARIANT_FORCE, smalln = 1u << ML_PREF_MATMUL_FORCE_SMALLN;
    ml_prefs *select = low;
    uint32_t taken_back = 0;
    if ((given & (force | smalln)) == force) {
        select->matmul_force_smalln = false;
        taken_back = smalln;
    } else if ((given & (force | smalln)) == smalln) {
        bool wanted = ((const ml_prefs *)high)->matmul_force_smalln;
        if (select->matmul_variant_force == (wanted ? ML_FORCE_GEMM : ML_FORCE_SMALLN)) {
            select->matmul_variant_force = ML_FORCE_AUTO;
            taken_back = force;
        }
    }
    for (int id = 0; id < ML_PREF_COUNT; id++)
        if (given >> id & 1u)
            memcpy((char *)low + table[id].offset, (const char *)high + table[id].offset, table[id].size);
    if (low_given)
        *low_given = (*low_given & ~taken_back) | given;
}

void ml_pref_set_merge(ml_pref_set *low, const ml_pref_set *high) {
    overlay(&low->values, &low->given, &high->values, high->given);
}

/* ---- overrides of a thread ---- */

/* What one override gives, and what holds in it: that laid over the frames below. */
typedef struct ml_pref_frame {
    struct ml_pref_frame *below;
    const void *owner;
    uint32_t own_given, given;
    ml_prefs own, values;
} ml_pref_frame;

static _Thread_local ml_pref_frame *top;
static pthread_key_t frames_key; /* frees the frames of a thread that ends before it popped them */
static pthread_once_t frames_once = PTHREAD_ONCE_INIT;
static bool frames_key_made;

static void free_frames(void *arg) {
    for (ml_pref_frame *frame = arg; frame;) {
        ml_pref_frame *below = frame->below;
        free(frame);
        frame = below;
    }
    top = NULL;
}

static void make_frames_key(void) {
    frames_key_made = pthread_key_create(&frames_key, free_frames) == 0;
}

static void set_top(ml_pref_frame *frame) {
    top = frame;
    pthread_once(&frames_once, make_frames_key);
    if (frames_key_made)
        pthread_setspecific(frames_key, frame);
}

static void lay_over_below(ml_pref_frame *frame) {
    frame->values = (ml_prefs)ML_PREFS_DEFAULTS;
    frame->given = 0;
    if (frame->below) {
        frame->values = frame->below->values;
        frame->given = frame->below->given;
    }
    overlay(&frame->values, &frame->given, &frame->own, frame->own_given);
}

ml_status ml_prefs_push_for(const void *owner, const ml_pref *prefs, int n) {
    ml_pref_set set;
    ml_pref_set_init(&set);
    ML_TRY(ml_pref_set_load(&set, prefs, n));
    for (int i = 0; i < n; i++) {
        ml_pref_id id = ML_PREF_COUNT;
        bool is_alias;
        ML_TRY(find_keyword(prefs[i].key, &id, &is_alias));
        if (!table[id].per_thread)
            return ml_fail(ML_ERR_VALUE,
                           "preference %s has its effect when a context is made: give it to the context or set %s",
                           prefs[i].key, table[id].env);
    }
    ml_pref_frame *frame = malloc(sizeof *frame);
    if (!frame)
        return ml_fail(ML_ERR_MEMORY, "out of memory for preference overrides");
    *frame = (ml_pref_frame){.below = top, .owner = owner, .own = set.values.select, .own_given = set.given};
    lay_over_below(frame);
    set_top(frame);
    return ML_OK;
}

ml_status ml_prefs_push(const ml_pref *prefs, int n) {
    return ml_prefs_push_for(NULL, prefs, n);
}

/* The frame without the owner's topmost one; *found: it was there. What is above it no longer has its values. */
static ml_pref_frame *without(ml_pref_frame *frame, const void *owner, bool *found) {
    if (!frame)
        return NULL;
    if (frame->owner == owner) {
        ml_pref_frame *below = frame->below;
        free(frame);
        *found = true;
        return below;
    }
    frame->below = without(frame->below, owner, found);
    if (*found)
        lay_over_below(frame);
    return frame;
}

void ml_prefs_pop_for(const void *owner) {
    bool found = false;
    set_top(without(top, owner, &found));
}

void ml_prefs_pop(void) {
    ml_pref_frame *frame = top;
    if (!frame)
        return;
    set_top(frame->below);
    free(frame);
}

void ml_prefs_apply_thread(ml_prefs *prefs) {
    if (__builtin_expect(top != NULL, 0))
        overlay(prefs, NULL, &top->values, top->given);
}

/* ---- files ---- */

char *ml_cache_dir(const ml_pref_values *values, char *buf, size_t size) {
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (values->cache_dir[0])
        snprintf(buf, size, "%s", values->cache_dir);
    else if (xdg && xdg[0] == '/') /* the specification has relative paths ignored */
        snprintf(buf, size, "%s/metallic", xdg);
    else if (home && home[0])
        snprintf(buf, size, "%s/.cache/metallic", home);
    else
        buf[0] = '\0';
    return buf;
}
