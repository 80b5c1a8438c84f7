/* The manifest: JSON, read in one pass into rows for the dispatcher and variants for the encoders. */
#include "device/gpu/registry.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const ml_gpu_type_names[4] = {"f32", "f16", "bf16", "any"};

typedef struct name_bit {
    const char *name;
    uint32_t bit;
} name_bit;

static const name_bit dtype_names[] = {{"f32", ML_DTYPE_BIT(ML_F32)},
                                       {"f16", ML_DTYPE_BIT(ML_F16)},
                                       {"bf16", ML_DTYPE_BIT(ML_BF16)},
                                       {"i32", ML_DTYPE_BIT(ML_I32)},
                                       {"u8", ML_DTYPE_BIT(ML_U8)},
                                       {"bool", ML_DTYPE_BIT(ML_BOOL)},
                                       {NULL, 0}};
static const name_bit type_names[] = {{"f32", 1u << ML_GPU_TYPE_F32},
                                      {"f16", 1u << ML_GPU_TYPE_F16},
                                      {"bf16", 1u << ML_GPU_TYPE_BF16},
                                      {"any", 1u << ML_GPU_TYPE_ANY},
                                      {NULL, 0}};
static const name_bit support_names[] = {{"bias", ML_SUP_BIAS},
                                         {"activation", ML_SUP_ACTIVATION},
                                         {"alpha_beta", ML_SUP_ALPHA_BETA},
                                         {"any_strides", ML_SUP_ANY_STRIDES},
                                         {"mixed_dtypes", ML_SUP_MIXED_DTYPES},
                                         {"causal", ML_SUP_CAUSAL},
                                         {"mask", ML_SUP_MASK},
                                         {"window", ML_SUP_WINDOW},
                                         {"sinks", ML_SUP_SINKS},
                                         {"softcap", ML_SUP_SOFTCAP},
                                         {NULL, 0}};
static const name_bit feature_names[] = {{"simdgroup_reduce", ML_GPU_SIMDGROUP_REDUCE},
                                         {"simdgroup_mm", ML_GPU_SIMDGROUP_MM},
                                         {"bfloat", ML_GPU_BFLOAT},
                                         {NULL, 0}};
static const name_bit case_names[] = {
    {"same_dtype", ML_CASE_SAME_DTYPE}, {"transpose", ML_CASE_TRANSPOSE}, {"integer", ML_CASE_INTEGER}, {NULL, 0}};
static const name_bit matmul_families[] = {
    {"mlx", ML_BACKEND_MLX}, {"mps", ML_BACKEND_MPS}, {"gemv", ML_BACKEND_GEMV}, {NULL, 0}};
static const name_bit softmax_families[] = {{"vec", ML_SOFTMAX_VEC}, {"block", ML_SOFTMAX_BLOCK}, {NULL, 0}};
static const name_bit sdpa_families[] = {{"vector", ML_SDPA_VECTOR}, {"tiled", ML_SDPA_TILED}, {NULL, 0}};
static const name_bit no_families[] = {{"", 0}, {NULL, 0}};
static const name_bit plan_tiles[] = {
    {"64x64", ML_CASE_TILE_64X64}, {"64x32", ML_CASE_TILE_64X32}, {"generic", ML_CASE_TILE_GENERIC}, {NULL, 0}};
static const name_bit layouts[] = {{"nt", 1}, {"nn", 2}, {NULL, 0}};

typedef struct reader {
    const char *name; /* of the manifest */
    char *start, *at;
    ml_status status; /* ML_OK until something is wrong */
} reader;

/* One entry while it is read. */
typedef struct entry {
    ml_kernel_desc row;
    ml_gpu_variant variant;
    const char *op, *family, *plan_tile, *layout;
    uint32_t cases;
    bool enabled;
} entry;

/* ---- JSON -------------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void wrong(reader *r, const char *format, ...) {
    if (r->status != ML_OK)
        return;
    int line = 1;
    for (const char *p = r->start; p < r->at; p++)
        line += *p == '\n';
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    r->status = ml_fail(ML_ERR_VALUE, "%s:%d: %s", r->name, line, text);
}

static char peek(reader *r) {
    r->at += strspn(r->at, " \t\r\n");
    return r->status == ML_OK ? *r->at : '\0';
}

static bool take(reader *r, char c) {
    if (peek(r) != c)
        return false;
    r->at++;
    return true;
}

static void expect(reader *r, char c) {
    if (r->status == ML_OK && !take(r, c))
        wrong(r, "'%c' is expected here", c);
}

/* Ended in place: the closing quote becomes the terminator. */
static const char *read_string(reader *r) {
    expect(r, '"');
    if (r->status != ML_OK)
        return "";
    char *text = r->at;
    r->at += strcspn(r->at, "\"\\\n");
    if (*r->at != '"') {
        wrong(r, "names are plain: no escapes, no line ends");
        return "";
    }
    *r->at++ = '\0';
    return text;
}

static int read_int(reader *r) {
    peek(r);
    char *end;
    long value = strtol(r->at, &end, 10);
    if (r->status != ML_OK || end == r->at || value < 0 || value > 1 << 20) {
        wrong(r, "a number from 0 to 1048576 is expected here");
        return 0;
    }
    r->at = end;
    return (int)value;
}

static bool read_bool(reader *r) {
    peek(r);
    const bool yes = strncmp(r->at, "true", 4) == 0;
    if (!yes && strncmp(r->at, "false", 5) != 0)
        wrong(r, "true or false is expected here");
    else if (r->status == ML_OK)
        r->at += yes ? 4 : 5;
    return yes;
}

/* The next of a list that ends in `close`. */
static bool more(reader *r, char close, int i) {
    if (r->status != ML_OK || take(r, close))
        return false;
    if (i > 0)
        expect(r, ',');
    return r->status == ML_OK;
}

static uint32_t bit_of(reader *r, const char *what, const char *name, const name_bit *names) {
    for (; names->name; names++)
        if (strcmp(name, names->name) == 0)
            return names->bit;
    wrong(r, "%s '%.40s' is unknown", what, name);
    return 0;
}

static uint32_t read_bits(reader *r, const char *what, const name_bit *names) {
    uint32_t bits = 0;
    expect(r, '[');
    for (int i = 0; more(r, ']', i); i++)
        bits |= bit_of(r, what, read_string(r), names);
    return bits;
}

/* ---- entries ----------------------------------------------------------------------------------------------- */

static void read_tile(reader *r, ml_gpu_variant *v) {
    expect(r, '{');
    for (int i = 0; more(r, '}', i); i++) {
        const char *key = read_string(r);
        expect(r, ':');
        const int value = read_int(r);
        if (strcmp(key, "bm") == 0)
            v->bm = value;
        else if (strcmp(key, "bn") == 0)
            v->bn = value;
        else if (strcmp(key, "bk") == 0)
            v->bk = value;
        else if (strcmp(key, "bq") == 0)
            v->bq = value;
        else if (strcmp(key, "rows") == 0)
            v->rows = value;
        else if (strcmp(key, "head_dim") == 0)
            v->head_dim = value;
        else if (strcmp(key, "tm") != 0 && strcmp(key, "tn") != 0)
            wrong(r, "a tile has no '%.40s'", key);
    }
}

static void read_threadgroup(reader *r, ml_gpu_variant *v) {
    expect(r, '[');
    int i = 0;
    for (; more(r, ']', i); i++) {
        const int n = read_int(r);
        if (i < 3)
            v->threadgroup[i] = n;
    }
    if (r->status == ML_OK && (i != 3 || v->threadgroup[0] < 1 || v->threadgroup[1] < 1 || v->threadgroup[2] < 1))
        wrong(r, "a threadgroup has three sizes of at least 1");
}

static const ml_gpu_source *find_source(reader *r, const char *name) {
    for (int i = 0; i < ml_gpu_n_sources; i++)
        if (strcmp(ml_gpu_sources[i].name, name) == 0)
            return &ml_gpu_sources[i];
    wrong(r, "there is no source '%.60s'", name);
    return NULL;
}

static void read_field(reader *r, const char *key, entry *e) {
    ml_gpu_variant *v = &e->variant;
    if (strcmp(key, "name") == 0)
        v->name = read_string(r);
    else if (strcmp(key, "op") == 0)
        e->op = read_string(r);
    else if (strcmp(key, "family") == 0)
        e->family = read_string(r);
    else if (strcmp(key, "source") == 0)
        v->source = find_source(r, read_string(r));
    else if (strcmp(key, "function") == 0)
        v->function = read_string(r);
    else if (strcmp(key, "reduce") == 0)
        v->reduce = read_string(r);
    else if (strcmp(key, "types") == 0)
        v->types = (uint8_t)read_bits(r, "type", type_names);
    else if (strcmp(key, "dtypes") == 0)
        e->row.dtypes = read_bits(r, "dtype", dtype_names);
    else if (strcmp(key, "supports") == 0)
        e->row.supports = read_bits(r, "capability", support_names);
    else if (strcmp(key, "needs") == 0)
        e->row.isa = read_bits(r, "feature", feature_names);
    else if (strcmp(key, "when") == 0)
        e->cases = read_bits(r, "case", case_names);
    else if (strcmp(key, "tile") == 0)
        read_tile(r, v);
    else if (strcmp(key, "threadgroup") == 0)
        read_threadgroup(r, v);
    else if (strcmp(key, "rank") == 0)
        e->row.rank = read_int(r);
    else if (strcmp(key, "max_n") == 0)
        e->row.max_n = read_int(r);
    else if (strcmp(key, "bucket") == 0)
        e->row.nr = read_int(r);
    else if (strcmp(key, "enabled") == 0)
        e->enabled = read_bool(r);
    else if (strcmp(key, "experimental") == 0)
        e->row.experimental = read_bool(r);
    else if (strcmp(key, "plan_tile") == 0)
        e->plan_tile = read_string(r);
    else if (strcmp(key, "layout") == 0)
        e->layout = read_string(r);
    else
        wrong(r, "a kernel has no '%.40s'", key);
}

/* What follows from the fields: the operation and family, and the cases a row is made for. */
static void complete(reader *r, entry *e) {
    static const struct {
        const char *name;
        ml_op_kind op;
        const name_bit *families;
    } ops[] = {{"matmul", ML_OP_MATMUL, matmul_families}, {"softmax", ML_OP_SOFTMAX, softmax_families},
               {"sdpa", ML_OP_SDPA, sdpa_families},       {"binary", ML_OP_BINARY, no_families},
               {"copy", ML_OP_COPY, no_families},         {"fill", ML_OP_FILL, no_families}};
    ml_kernel_desc *row = &e->row;
    const ml_gpu_variant *v = &e->variant;
    if (!v->name || !e->op || !e->family || !v->source || !v->function || !v->types || !row->dtypes) {
        wrong(r, "kernel '%.60s' lacks name, op, family, source, function, types or dtypes", v->name ? v->name : "");
        return;
    }
    const size_t n_ops = sizeof ops / sizeof ops[0];
    size_t i = 0;
    while (i < n_ops && strcmp(ops[i].name, e->op) != 0)
        i++;
    if (i == n_ops) {
        wrong(r, "operation '%.40s' is unknown", e->op);
        return;
    }
    row->name = v->name;
    row->op = ops[i].op;
    row->family = (int)bit_of(r, "family", e->family, ops[i].families);
    row->requires_cases = e->cases;
    if (e->plan_tile)
        row->prefers = bit_of(r, "plan_tile", e->plan_tile, plan_tiles);
    if (e->layout && bit_of(r, "layout", e->layout, layouts) == 2)
        row->requires_cases = row->prefers = ML_CASE_A_COLUMNS;
    else if (e->layout)
        row->prefers = ML_CASE_A_ROWS;
    if (row->op == ML_OP_SDPA)
        row->requires_cases |= ML_CASE_SAME_DTYPE; /* {t} stands for both */
    if (row->op == ML_OP_SDPA && v->rows > 0)
        row->prefers = v->rows == 1 ? ML_CASE_ROWS_1 : v->rows <= 4 ? ML_CASE_ROWS_4 : ML_CASE_ROWS_8;
    if (row->op == ML_OP_BINARY || row->op == ML_OP_COPY)
        row->prefers = e->cases;
    if ((row->op == ML_OP_MATMUL && (v->bm < 1 || v->bn < 1)) || (row->op == ML_OP_SDPA && v->rows + v->bq < 1))
        wrong(r, "kernel '%.60s' has no tile", v->name);
    if (row->op != ML_OP_SOFTMAX && v->threadgroup[0] < 1)
        wrong(r, "kernel '%.60s' has no threadgroup", v->name);
}

static void read_entry(reader *r, entry *e) {
    *e = (entry){.enabled = true};
    expect(r, '{');
    for (int i = 0; more(r, '}', i); i++) {
        const char *key = read_string(r);
        expect(r, ':');
        read_field(r, key, e);
    }
    if (r->status == ML_OK)
        complete(r, e);
}

static bool add(reader *r, ml_gpu_registry *g, const entry *e) {
    const size_t n = (size_t)g->n + 1;
    ml_kernel_desc *rows = realloc(g->rows, n * sizeof *rows);
    if (rows)
        g->rows = rows;
    ml_gpu_variant *variants = rows ? realloc(g->variants, n * sizeof *variants) : NULL;
    if (!variants) {
        r->status = ml_fail(ML_ERR_MEMORY, "out of memory for kernel descriptors");
        return false;
    }
    g->variants = variants;
    g->rows[g->n] = e->row;
    g->variants[g->n++] = e->variant;
    return true;
}

static void read_manifest(reader *r, ml_gpu_registry *g) {
    bool seen = false;
    expect(r, '{');
    for (int i = 0; more(r, '}', i); i++) {
        const char *key = read_string(r);
        expect(r, ':');
        if (strcmp(key, "version") == 0) {
            if (read_int(r) != 1)
                wrong(r, "this manifest is of another version than 1");
        } else if (strcmp(key, "kernels") == 0) {
            seen = true;
            expect(r, '[');
            for (int k = 0; more(r, ']', k); k++) {
                entry e;
                read_entry(r, &e);
                if (r->status == ML_OK && e.enabled && !add(r, g, &e))
                    return;
            }
        } else {
            wrong(r, "a manifest has no '%.40s'", key);
        }
    }
    if (r->status == ML_OK && (!seen || peek(r)))
        wrong(r, seen ? "there is text behind the manifest" : "a manifest has 'kernels'");
}

ml_status ml_gpu_registry_read(const char *name, const char *text, const ml_gpu_info *info, ml_gpu_registry **out) {
    ml_gpu_registry *g = calloc(1, sizeof *g);
    if (g) {
        g->text = strdup(text);
        g->source = strdup(text);
    }
    if (!g || !g->text || !g->source) {
        ml_gpu_registry_free(g);
        return ml_fail(ML_ERR_MEMORY, "out of memory for a kernel manifest");
    }
    reader r = {.name = name, .start = g->text, .at = g->text};
    read_manifest(&r, g);
    if (r.status == ML_OK && info->gemm_dtypes) {
        const entry vendor = {.row = {.name = info->gemm_name,
                                      .op = ML_OP_MATMUL,
                                      .family = ML_BACKEND_MPS,
                                      .dtypes = info->gemm_dtypes,
                                      .supports = ML_SUP_ALPHA_BETA,
                                      .requires_cases = ML_CASE_PRODUCT,
                                      .rank = 20}};
        add(&r, g, &vendor);
    }
    if (r.status != ML_OK) {
        ml_gpu_registry_free(g);
        return r.status;
    }
    for (int i = 0; i < g->n; i++)
        g->rows[i].impl = g->variants[i].source ? &g->variants[i] : NULL;
    *out = g;
    return ML_OK;
}

void ml_gpu_registry_free(ml_gpu_registry *g) {
    if (!g)
        return;
    free(g->rows);
    free(g->variants);
    free(g->text);
    free(g->source);
    free(g);
}
