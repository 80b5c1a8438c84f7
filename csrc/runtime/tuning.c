/* Reads tuning tables; the format is in tuning/README.md. */
#include "runtime/tuning.h"

#include "core/log.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER "device,family,op,dtypes,m,n,k,winner,kernel,gain"
enum { DEVICE, FAMILY, OP, DTYPES, M, N, K, WINNER, KERNEL, GAIN, COLUMNS };
#define FILE_MAX ((size_t)4 << 20)

/* The tables of tuning/, as text. */
static const char *const shipped[] = {
#include "runtime/tuning_tables.inc"
};

static bool matches(const char *pattern, const char *name) {
    size_t n = strlen(pattern);
    if (n > 0 && pattern[n - 1] == '*')
        return strncmp(pattern, name, n - 1) == 0;
    return strcmp(pattern, name) == 0;
}

/* Splits a line at its commas, in place. */
static bool split(char *line, char *fields[COLUMNS]) {
    int n = 0;
    for (char *p = line;; p++) {
        if (n == COLUMNS)
            return false;
        fields[n++] = p;
        p = strchr(p, ',');
        if (!p)
            return n == COLUMNS;
        *p = '\0';
    }
}

static bool parse_bound(const char **p, int64_t *out) {
    if (!isdigit((unsigned char)**p))
        return false;
    char *end;
    errno = 0;
    long long value = strtoll(*p, &end, 10);
    *out = value;
    *p = end;
    return errno == 0;
}

/* "5", "1..16", "17..", "..16", "*" */
static bool parse_range(const char *text, int64_t *low, int64_t *high) {
    *low = 0;
    *high = INT64_MAX;
    if (strcmp(text, "*") == 0)
        return true;
    bool has_low = parse_bound(&text, low);
    if (has_low && *text == '\0') {
        *high = *low;
        return true;
    }
    if (strncmp(text, "..", 2) != 0)
        return false;
    text += 2;
    if (*text == '\0')
        return has_low;
    return parse_bound(&text, high) && *text == '\0' && *low <= *high;
}

static bool parse_dtypes(char *text, uint32_t *bits) {
    *bits = 0;
    for (char *name = text; name;) {
        char *next = strchr(name, '|');
        if (next)
            *next++ = '\0';
        int dt = 0;
        while (dt <= ML_BF16 && strcmp(name, ml_dtype_name((ml_dtype)dt)) != 0)
            dt++;
        if (dt > ML_BF16)
            return false;
        *bits |= ML_DTYPE_BIT(dt);
        name = next;
    }
    return true;
}

static bool parse_winner(const char *text, int *family) {
    if (strcmp(text, "mlx") == 0)
        *family = ML_BACKEND_MLX;
    else if (strcmp(text, "mps") == 0)
        *family = ML_BACKEND_MPS;
    else if (strcmp(text, "gemv") == 0)
        *family = ML_BACKEND_GEMV;
    else
        return false;
    return true;
}

/* A decimal number above zero. The locale's decimal point must not matter, so digits are read here. */
static bool parse_gain(const char *text, float *out) {
    double value = 0, unit = 1;
    bool point = false;
    if (!*text || strlen(text) > 12)
        return false;
    for (; *text; text++) {
        if (*text == '.' && !point) {
            point = true;
            continue;
        }
        if (!isdigit((unsigned char)*text))
            return false;
        value = value * 10 + (*text - '0');
        if (point)
            unit *= 10;
    }
    *out = (float)(value / unit);
    return value > 0;
}

/* Fills row from a line (cut up in place). Returns what is wrong, or NULL. */
static const char *parse_row(char *fields[COLUMNS], ml_tuning_row *row) {
    if (strcmp(fields[DEVICE], "cpu") != 0 && strcmp(fields[DEVICE], "metal") != 0 &&
        strcmp(fields[DEVICE], "cuda") != 0)
        return "device must be cpu, metal or cuda";
    if (!fields[FAMILY][0])
        return "family is empty";
    if (strcmp(fields[OP], "matmul") != 0)
        return "op must be matmul";
    *row = (ml_tuning_row){.op = ML_OP_MATMUL};
    if (!parse_dtypes(fields[DTYPES], &row->dtypes))
        return "dtypes must be float32, float16, bfloat16, joined by |";
    if (!parse_range(fields[M], &row->m_min, &row->m_max) || !parse_range(fields[N], &row->n_min, &row->n_max) ||
        !parse_range(fields[K], &row->k_min, &row->k_max))
        return "m, n and k must be a number, low..high, low.., ..high or *";
    if (!parse_winner(fields[WINNER], &row->family))
        return "winner must be mlx, mps or gemv";
    row->kernel = fields[KERNEL][0] ? fields[KERNEL] : NULL;
    if (!parse_gain(fields[GAIN], &row->gain))
        return "gain must be a number above 0";
    return NULL;
}

ml_status ml_tuning_parse(const char *name, const char *text, const ml_tuning_query *query, ml_tuning *out) {
    size_t length = strlen(text), lines = 1;
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    /* One block: the rows, then a copy of the text that kernel names point into. */
    ml_tuning_row *rows = malloc(lines * sizeof *rows + length + 1);
    if (!rows)
        return ml_fail(ML_ERR_MEMORY, "out of memory for tuning table %s", name);
    char *line = memcpy((char *)(rows + lines), text, length + 1);
    bool header_seen = false;
    int n = 0;
    for (int number = 1; line; number++) {
        char *next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        size_t end = strlen(line);
        if (end > 0 && line[end - 1] == '\r')
            line[end - 1] = '\0';
        const char *fault = NULL;
        char *fields[COLUMNS];
        if (line[0] == '\0' || line[0] == '#') {
            /* nothing */
        } else if (!header_seen) {
            header_seen = strcmp(line, HEADER) == 0;
            fault = header_seen ? NULL : "the header must be " HEADER;
        } else if (!split(line, fields)) {
            fault = "a row has ten columns";
        } else {
            fault = parse_row(fields, &rows[n]);
            if (!fault && matches(fields[DEVICE], query->device) && matches(fields[FAMILY], query->family))
                n++;
        }
        if (fault) {
            free(rows);
            return ml_fail(ML_ERR_VALUE, "%s:%d: %s", name, number, fault);
        }
        line = next;
    }
    if (n == 0) {
        free(rows);
        rows = NULL;
    }
    *out = (ml_tuning){.rows = rows, .n = n};
    return ML_OK;
}

/* The file's text, to be freed; NULL with *fault when it is there but cannot be read, NULL without when it is absent.
 */
static char *read_text(const char *path, const char **fault) {
    FILE *file = fopen(path, "rb");
    *fault = NULL;
    if (!file) {
        if (errno != ENOENT && errno != ENOTDIR)
            *fault = "cannot be opened";
        return NULL;
    }
    char *text = malloc(FILE_MAX + 1);
    size_t n = text ? fread(text, 1, FILE_MAX + 1, file) : 0;
    if (!text)
        *fault = "out of memory";
    else if (ferror(file))
        *fault = "cannot be read";
    else if (n > FILE_MAX)
        *fault = "is larger than 4 MiB";
    else if (memchr(text, '\0', n))
        *fault = "holds a zero byte";
    fclose(file);
    if (*fault) {
        free(text);
        return NULL;
    }
    text[n] = '\0';
    return text;
}

ml_status ml_tuning_for(const char *device, const char *family, const char *cache_dir, ml_tuning *out) {
    ml_tuning_query query = {device, family};
    *out = (ml_tuning){0};
    char path[1200];
    if (cache_dir && cache_dir[0] && (size_t)snprintf(path, sizeof path, "%s/tuning.csv", cache_dir) < sizeof path) {
        const char *fault;
        char *text = read_text(path, &fault);
        if (fault)
            ml_warn_once("tuning table %s %s: ignored", path, fault);
        if (text) {
            ml_status status = ml_tuning_parse(path, text, &query, out);
            free(text);
            if (status == ML_ERR_MEMORY)
                return status;
            if (status != ML_OK)
                ml_warn_once("tuning table ignored: %s", ml_last_error());
            if (out->n > 0)
                return ML_OK;
        }
    }
    for (size_t i = 0; i < sizeof shipped / sizeof shipped[0] && out->n == 0; i++)
        ML_TRY(ml_tuning_parse("built-in tuning table", shipped[i], &query, out));
    return ML_OK;
}

void ml_tuning_release(ml_tuning *tuning) {
    free(tuning->rows);
    *tuning = (ml_tuning){0};
}
