#include "runtime/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ml_free(void *p) {
    free(p);
}

static bool reserve(ml_json *j, size_t more) {
    if (j->failed)
        return false;
    if (j->size + more + 1 <= j->capacity)
        return true;
    size_t capacity = j->capacity ? j->capacity : 512;
    while (capacity < j->size + more + 1)
        capacity *= 2;
    char *data = realloc(j->data, capacity);
    if (!data) {
        j->failed = true;
        return false;
    }
    j->data = data;
    j->capacity = capacity;
    return true;
}

static void put(ml_json *j, const char *text, size_t n) {
    if (!reserve(j, n))
        return;
    memcpy(j->data + j->size, text, n);
    j->size += n;
}

static void put_text(ml_json *j, const char *text) {
    put(j, text, strlen(text));
}

/* Length of the well-formed UTF-8 sequence at s, 0 when it is none (RFC 3629: no overlong forms, no surrogates). */
static int utf8_length(const unsigned char *s) {
    int n = s[0] < 0x80                   ? 1
            : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
            : (s[0] & 0xf0) == 0xe0       ? 3
            : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                          : 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

static void put_quoted(ml_json *j, const char *text) {
    put(j, "\"", 1);
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        int n = utf8_length(s);
        if (n == 0) {
            put_text(j, "\\ufffd");
            s++;
        } else if (*s == '"' || *s == '\\') {
            char escaped[2] = {'\\', (char)*s++};
            put(j, escaped, 2);
        } else if (*s < 0x20) {
            char escaped[8];
            snprintf(escaped, sizeof escaped, "\\u%04x", *s++);
            put_text(j, escaped);
        } else {
            put(j, (const char *)s, (size_t)n);
            s += n;
        }
    }
    put(j, "\"", 1);
}

static void begin_value(ml_json *j, const char *key) {
    if (j->comma)
        put(j, ",", 1);
    if (key) {
        put_quoted(j, key);
        put(j, ":", 1);
    }
    j->comma = true;
}

void ml_json_object_begin(ml_json *j, const char *key) {
    begin_value(j, key);
    put(j, "{", 1);
    j->comma = false;
}

void ml_json_object_end(ml_json *j) {
    put(j, "}", 1);
    j->comma = true;
}

void ml_json_array_begin(ml_json *j, const char *key) {
    begin_value(j, key);
    put(j, "[", 1);
    j->comma = false;
}

void ml_json_array_end(ml_json *j) {
    put(j, "]", 1);
    j->comma = true;
}

void ml_json_string(ml_json *j, const char *key, const char *value) {
    begin_value(j, key);
    if (value)
        put_quoted(j, value);
    else
        put_text(j, "null");
}

void ml_json_int(ml_json *j, const char *key, int64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    begin_value(j, key);
    put_text(j, text);
}

void ml_json_number(ml_json *j, const char *key, double value) {
    char text[32] = "null";
    if (isfinite(value)) {
        for (int digits = 9; digits <= 17; digits += 4) {
            snprintf(text, sizeof text, "%.*g", digits, value);
            if (strtod(text, NULL) == value)
                break;
        }
        for (char *p = text; *p; p++) /* a locale's decimal comma */
            if (*p == ',')
                *p = '.';
    }
    begin_value(j, key);
    put_text(j, text);
}

void ml_json_bool(ml_json *j, const char *key, bool value) {
    begin_value(j, key);
    put_text(j, value ? "true" : "false");
}

void ml_json_ints(ml_json *j, const char *key, const int64_t *values, int n) {
    ml_json_array_begin(j, key);
    for (int i = 0; i < n; i++)
        ml_json_int(j, NULL, values[i]);
    ml_json_array_end(j);
}

void ml_json_raw(ml_json *j, const char *key, const char *text) {
    begin_value(j, key);
    put_text(j, text);
}

ml_status ml_json_finish(ml_json *j, char **out) {
    reserve(j, 0);
    if (j->failed) {
        ml_json_discard(j);
        return ml_fail(ML_ERR_MEMORY, "out of memory while writing JSON");
    }
    j->data[j->size] = '\0';
    *out = j->data;
    *j = (ml_json)ML_JSON_INIT;
    return ML_OK;
}

void ml_json_discard(ml_json *j) {
    free(j->data);
    *j = (ml_json)ML_JSON_INIT;
}
