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

/* clang puts the current folder in front of the names of a precompiled header. */
static bool is_shim(const char *line, size_t n) {
    const char *end = memchr(line, ':', n);
    const char *at = end ? memmem(line, (size_t)(end - line), SM_SHIM_FILE, strlen(SM_SHIM_FILE)) : NULL;
    return at && (at == line || at[-1] == '/');
}

/* What a linker (GNU's, gold, lld) says of a function that has no body. Its name; NULL: this line says no such thing.
 */
static const char *undefined_name(const char *line, size_t n, size_t *length) {
    static const char *const words[] = {"undefined reference to `", "undefined reference to '", "undefined symbol: "};
    for (size_t k = 0; k < sizeof words / sizeof words[0]; k++) {
        const char *at = memmem(line, n, words[k], strlen(words[k]));
        if (!at)
            continue;
        at += strlen(words[k]);
        *length = (size_t)(line + n - at);
        if (k < 2 && memchr(at, '\'', *length))
            *length = (size_t)((const char *)memchr(at, '\'', *length) - at);
        return at;
    }
    return NULL;
}

static char *undefined_functions(const char *text, const char *fallback) {
    output o = {0};
    for (const char *line = text; *line;) {
        size_t length = 0;
        const size_t n = strcspn(line, "\n");
        const char *name = undefined_name(line, n, &length);
        if (name && !(o.length && memmem(o.data, o.length, name, length))) {
            append(&o, fallback, strlen(fallback));
            append(&o, ": error: ", 9);
            append_line(&o, name, length, " is declared, but not defined", 29);
        }
        line += n + (line[n] == '\n');
    }
    return o.data;
}

char *sm_clean_messages(const char *text, const char *fallback, bool errors_only) {
    char *undefined = errors_only ? undefined_functions(text, fallback) : NULL;
    if (undefined)
        return undefined;
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
