/* Compiler output, in terms of the user's source. */
#include "softmetal/compile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct output {
    char *data;
    size_t length, capacity;
} output;

static void append(output *o, const char *text, size_t n) {
    if (o->capacity - o->length <= n) {
        const size_t bigger = (o->capacity + n + 256) * 2;
        char *moved = realloc(o->data, bigger);
        if (!moved)
            return;
        o->data = moved;
        o->capacity = bigger;
    }
    memcpy(o->data + o->length, text, n);
    o->length += n;
    o->data[o->length] = 0;
}

static void append_line(output *o, const char *place, size_t place_length, const char *rest, size_t rest_length) {
    append(o, place, place_length);
    append(o, rest, rest_length);
    append(o, "\n", 1);
}

/* "file:12:5" or "file:12" in front of ": error: " and its kin; the length of the place, 0 where the line has none. */
static size_t place_length(const char *line, size_t n, const char **kind) {
    static const char *const kinds[] = {": fatal error: ", ": error: ", ": warning: ", ": note: "};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        const char *at = memmem(line, n, kinds[k], strlen(kinds[k]));
        if (at) {
            *kind = kinds[k];
            return (size_t)(at - line);
        }
    }
    return 0;
}

static bool is_shim(const char *line, size_t n) {
    return n >= strlen(SM_SHIM_FILE) && memcmp(line, SM_SHIM_FILE, strlen(SM_SHIM_FILE)) == 0;
}

char *sm_clean_messages(const char *text, const char *fallback, bool errors_only) {
    output o = {0};
    const char *required = NULL; /* "file:line:column" that led to the instantiation being reported (gcc, before it) */
    size_t required_length = 0;
    for (const char *line = text; *line;) {
        const char *end = strchr(line, '\n');
        end = end ? end : line + strlen(line);
        const size_t n = (size_t)(end - line);
        const char *next = *end ? end + 1 : end, *kind = NULL;
        const char *here = memmem(line, n, ":   required from", 17);
        const size_t place = place_length(line, n, &kind);
        if (here && !is_shim(line, n)) {
            required = line;
            required_length = (size_t)(here - line);
        } else if (place && (!errors_only || strstr(kind, "error"))) {
            if (!is_shim(line, n)) {
                append_line(&o, line, place, line + place, n - place);
            } else if (required) {
                append_line(&o, required, required_length, line + place, n - place);
            } else {
                /* clang says afterwards where the instantiation was asked for */
                const char *from = fallback, *p = next;
                size_t from_length = strlen(fallback);
                while (*p) {
                    const char *stop = strchr(p, '\n');
                    stop = stop ? stop : p + strlen(p);
                    const char *note;
                    const size_t at = place_length(p, (size_t)(stop - p), &note);
                    if (at && strcmp(note, ": note: ") != 0)
                        break;
                    if (at && !is_shim(p, at) && memmem(p, (size_t)(stop - p), "requested here", 14)) {
                        from = p;
                        from_length = at;
                        break;
                    }
                    p = *stop ? stop + 1 : stop;
                }
                append_line(&o, from, from_length, line + place, n - place);
            }
            required = NULL;
        }
        line = next;
    }
    if (!o.length && *text && errors_only) {
        /* Nothing in it has the form of a message (a linker's, say): all of it is better than none. */
        append(&o, fallback, strlen(fallback));
        append_line(&o, ": error: ", 9, text, strlen(text));
    }
    if (!o.length) {
        free(o.data);
        return NULL;
    }
    return o.data;
}
