/* Findings of the API, and in what mode kernels run. */
#include "core/log.h"
#include "softmetal/objc_classes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { KEPT = 1000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static sm_findings all;   /* since sm_objc_take_findings */
static sm_findings loose; /* those of no command buffer, for the next one */
static bool mode_given;
static sm_objc_mode given_mode;

/* ---- findings ---- */

static void add(sm_findings *list, const sm_finding *finding) {
    if (list->n < KEPT)
        (void)sm_findings_add(list, finding); /* without memory for it the list stays as it is */
}

void sm_found(const sm_finding *finding) {
    pthread_mutex_lock(&lock);
    add(&all, finding);
    pthread_mutex_unlock(&lock);
}

void sm_claim_findings(sm_findings *list) {
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < loose.n; i++)
        add(list, &loose.items[i]);
    sm_findings_clear(&loose);
    pthread_mutex_unlock(&lock);
}

void sm_objc_take_findings(sm_findings *out) {
    pthread_mutex_lock(&lock);
    *out = all;
    memset(&all, 0, sizeof all);
    pthread_mutex_unlock(&lock);
}

/* "-[MTLBuffer contents] 'weights': " */
static void name_call(const sm_call *call, char *out, size_t size) {
    const sm_class *isa = sm_class_at(call->self);
    const sm_object *o = isa ? NULL : sm_object_at(call->self);
    const char *label = NULL, *selector = call->selector;
    out[0] = '\0';
    if (!selector)
        return;
    if (o && atomic_load(&o->refs) != 0 && sm_is_kind(call->self, &sm_labelled_class))
        label = ((const sm_labelled *)call->self)->label;
    const char *name = isa ? isa->name : o ? atomic_load(&o->isa)->name : "?";
    snprintf(out, size, "%c[%s %s]%s%.80s%s: ", isa ? '+' : '-', name, selector, label ? " '" : "", label ? label : "",
             label ? "'" : "");
}

static sm_command_buffer *buffer_of(const sm_call *call) {
    if (call->buffer)
        return call->buffer;
    const sm_object *o = sm_object_at(call->self);
    if (!o || atomic_load(&o->refs) == 0)
        return NULL;
    for (const sm_class *c = atomic_load(&o->isa); c; c = c->super)
        if (c->command_buffer)
            return c->command_buffer(call->self);
    return NULL;
}

static __attribute__((format(printf, 3, 0))) void report(const sm_call *call, sm_severity severity, const char *format,
                                                         va_list args) {
    char message[1024];
    name_call(call, message, sizeof message);
    const size_t n = strlen(message);
    vsnprintf(message + n, sizeof message - n, format, args);
    const sm_finding finding = {
        .severity = severity, .kind = SM_FINDING_API, .kernel = (char *)call->kernel, .buffer = -1, .message = message};
    sm_found(&finding);
    if (severity != SM_ERROR) {
        ml_warn_once("software Metal: %s", message);
        return;
    }
    sm_command_buffer *buffer = buffer_of(call);
    if (buffer) {
        sm_command_buffer_found(buffer, &finding);
        return;
    }
    pthread_mutex_lock(&lock);
    add(&loose, &finding);
    pthread_mutex_unlock(&lock);
}

void sm_violation(const sm_call *call, const char *format, ...) {
    va_list args;
    va_start(args, format);
    report(call, SM_ERROR, format, args);
    va_end(args);
}

void sm_advice(const sm_call *call, const char *format, ...) {
    va_list args;
    va_start(args, format);
    report(call, SM_WARNING, format, args);
    va_end(args);
}

/* ---- arguments ---- */

sm_id sm_expect_or_nil(const sm_call *call, sm_id object, const sm_class *isa, const char *argument) {
    if (!object)
        return NULL;
    const sm_object *o = sm_object_at(object);
    if (!o) {
        sm_violation(call, "%s is no object", argument);
        return NULL;
    }
    if (!sm_is_kind(object, isa)) {
        sm_violation(call, "%s is a %s, not a %s", argument, atomic_load(&o->isa)->name, isa->name);
        return NULL;
    }
    if (sm_is_released(object)) {
        sm_violation(call, "%s is used after its last reference was released", argument);
        return NULL;
    }
    if (o->uninitialised) {
        sm_violation(call, "%s is used after alloc without init", argument);
        return NULL;
    }
    return object;
}

sm_id sm_expect(const sm_call *call, sm_id object, const sm_class *isa, const char *argument) {
    if (!object)
        sm_violation(call, "%s is nil", argument);
    return sm_expect_or_nil(call, object, isa, argument);
}

/* ---- mode ---- */

void sm_objc_set_mode(const sm_objc_mode *mode) {
    pthread_mutex_lock(&lock);
    mode_given = mode != NULL;
    if (mode)
        given_mode = *mode;
    pthread_mutex_unlock(&lock);
}

static bool is_true(const char *text) {
    return text && (strcmp(text, "1") == 0 || strcasecmp(text, "true") == 0 || strcasecmp(text, "yes") == 0 ||
                    strcasecmp(text, "on") == 0);
}

sm_objc_mode sm_current_mode(void) {
    pthread_mutex_lock(&lock);
    const bool given = mode_given;
    sm_objc_mode mode = given_mode;
    pthread_mutex_unlock(&lock);
    if (given)
        return mode;
    const char *order = getenv("METALLIC_ORDER");
    mode = (sm_objc_mode){.check = is_true(getenv("METALLIC_CHECK"))};
    if (order && strcmp(order, "reverse") == 0)
        mode.order = SM_ORDER_REVERSE;
    else if (order && strncmp(order, "shuffle", 7) == 0 && (order[7] == '\0' || order[7] == ':')) {
        mode.order = SM_ORDER_SHUFFLE;
        mode.seed = order[7] ? strtoull(order + 8, NULL, 10) : 0;
    }
    return mode;
}
