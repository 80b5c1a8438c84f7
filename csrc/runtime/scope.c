/* The label path of a thread: "a/b/c". */
#include "runtime/thread.h"

#include <string.h>

void ml_scope_push(const char *name) {
    ml_thread *t = ml_thread_get();
    if (!t)
        return;
    int depth = t->scopes++;
    if (depth >= ML_SCOPE_MAX)
        return; /* counted, so that pops match, but not shown */
    size_t end = strlen(t->label);
    t->scope_ends[depth] = (uint16_t)end;
    if (!name || !*name)
        return;
    size_t length = strlen(name);
    size_t slash = end > 0;
    if (end + slash + length >= ML_LABEL_MAX)
        length = end + slash + 1 < ML_LABEL_MAX ? ML_LABEL_MAX - 1 - end - slash : 0;
    if (length == 0)
        return;
    if (slash)
        t->label[end] = '/';
    memcpy(t->label + end + slash, name, length);
    t->label[end + slash + length] = '\0';
}

void ml_scope_pop(void) {
    ml_thread *t = ml_thread_get();
    if (!t || t->scopes == 0)
        return;
    if (--t->scopes < ML_SCOPE_MAX)
        t->label[t->scope_ends[t->scopes]] = '\0';
}
