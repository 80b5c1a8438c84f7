/* Compile options and libraries. */
#include "softmetal/objc_library.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIBRARY_UNSUPPORTED = 1 }; /* MTLLibraryError */

void sm_set_error(sm_id *error, const char *domain, long code, const char *text) {
    if (error)
        *error = sm_error(domain, code, text);
}

/* ---- compile options ----------------------------------------------------------------------------------------- */

typedef struct compile_options {
    sm_object object;
    sm_uint language_version;
    sm_int math_mode;
    sm_id macros; /* kept */
} compile_options;

static void options_destroy(sm_id self) {
    sm_drop(((compile_options *)self)->macros);
}

const sm_class sm_compile_options_class = {.name = "MTLCompileOptions",
                                           .super = &sm_nsobject_class,
                                           .size = sizeof(compile_options),
                                           .flags = SM_CLASS_NEW,
                                           .destroy = options_destroy};

sm_uint sm_options_language_version(sm_id self, sm_sel selector) {
    (void)selector;
    const sm_uint version = ((compile_options *)self)->language_version;
    return version ? version : 0x30002;
}

void sm_options_set_language_version(sm_id self, sm_sel selector, sm_uint version) {
    const sm_uint major = version >> 16, minor = version & 0xffff;
    if (major < 1 || major > 4 || minor > 9) {
        sm_violation(SM_CALL, "0x%lx is no MTLLanguageVersion", version);
        return;
    }
    ((compile_options *)self)->language_version = version;
}

sm_int sm_options_math_mode(sm_id self, sm_sel selector) {
    (void)selector;
    return ((compile_options *)self)->math_mode;
}

/* The mathematics is the safe one, whatever is asked for. */
void sm_options_set_math_mode(sm_id self, sm_sel selector, sm_int mode) {
    if (mode < 0 || mode > 2)
        sm_violation(SM_CALL, "%ld is no MTLMathMode", mode);
    else
        ((compile_options *)self)->math_mode = mode;
}

sm_bool sm_options_fast_math(sm_id self, sm_sel selector) {
    (void)selector;
    return ((compile_options *)self)->math_mode == 2;
}

void sm_options_set_fast_math(sm_id self, sm_sel selector, sm_bool fast) {
    (void)selector;
    ((compile_options *)self)->math_mode = fast ? 2 : 0;
}

sm_id sm_options_macros(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_hand_out(((compile_options *)self)->macros);
}

void sm_options_set_macros(sm_id self, sm_sel selector, sm_id macros) {
    compile_options *o = self;
    if (macros && !sm_expect(SM_CALL, macros, &sm_dictionary_class, "the dictionary of macros"))
        return;
    for (size_t i = 0; macros && i < sm_dictionary_count(macros); i++) {
        sm_id key, value;
        sm_dictionary_at(macros, i, &key, &value);
        if (!sm_is_kind(key, &sm_string_class) ||
            !(sm_is_kind(value, &sm_string_class) || sm_is_kind(value, &sm_number_class))) {
            sm_violation(SM_CALL, "names of macros are NSString, values NSString or NSNumber");
            return;
        }
    }
    sm_keep(macros);
    sm_drop(o->macros);
    o->macros = macros;
}

/* ---- libraries ----------------------------------------------------------------------------------------------- */

static void library_destroy(sm_id self) {
    sm_mtl_library *l = self;
    for (int i = 0; i < 2; i++)
        if (l->variants[i])
            sm_library_release(l->variants[i]);
    for (int i = 0; i < l->n_macros; i++) {
        free((char *)l->macros[i].name);
        free((char *)l->macros[i].value);
    }
    free(l->macros);
    free(l->source);
    pthread_mutex_destroy(&l->lock);
    sm_labelled_destroy(self);
}

const sm_class sm_library_class = {.name = "MTLLibrary",
                                   .super = &sm_labelled_class,
                                   .size = sizeof(sm_mtl_library),
                                   .is_protocol = true,
                                   .destroy = library_destroy};

ml_status sm_library_variant(sm_mtl_library *l, bool checked, sm_library **out, char **log) {
    pthread_mutex_lock(&l->lock);
    ml_status status = ML_OK;
    if (!l->variants[checked]) {
        const sm_library_options options = {.source = l->source,
                                            .name = l->base.label,
                                            .macros = l->macros,
                                            .n_macros = l->n_macros,
                                            .language_version = l->language_version,
                                            .checked = checked};
        status = sm_library_create(&options, &l->variants[checked], log);
    }
    *out = l->variants[checked];
    pthread_mutex_unlock(&l->lock);
    return status;
}

sm_library *sm_library_any_variant(sm_mtl_library *l) {
    pthread_mutex_lock(&l->lock);
    sm_library *variant = l->variants[0] ? l->variants[0] : l->variants[1];
    pthread_mutex_unlock(&l->lock);
    return variant;
}

static bool copy_macros(sm_mtl_library *l, sm_id macros) {
    const size_t n = macros ? sm_dictionary_count(macros) : 0;
    l->macros = calloc(n + 1, sizeof *l->macros);
    if (!l->macros)
        return false;
    for (size_t i = 0; i < n; i++) {
        sm_id key, value;
        sm_dictionary_at(macros, i, &key, &value);
        sm_id text = sm_is_kind(value, &sm_number_class) ? sm_number_string(value, NULL) : value;
        l->macros[i] = (sm_macro){.name = strdup(sm_text(key)), .value = strdup(sm_text(text))};
        l->n_macros++;
        if (!l->macros[i].name || !l->macros[i].value)
            return false;
    }
    return true;
}

static sm_id make_library(sm_id device, const char *source, const compile_options *options, sm_id *error) {
    sm_mtl_library *l = sm_object_new(&sm_library_class);
    if (!l)
        return NULL;
    pthread_mutex_init(&l->lock, NULL);
    l->base.device = sm_keep(device);
    l->source = strdup(source);
    l->language_version = options ? (uint32_t)options->language_version : 0;
    char *log = NULL;
    sm_library *variant;
    ml_status status = ML_ERR_MEMORY;
    if (l->source && copy_macros(l, options ? options->macros : NULL))
        status = sm_library_variant(l, sm_current_mode().check, &variant, &log);
    if (status != ML_OK) {
        sm_set_error(error, SM_LIBRARY_DOMAIN, SM_LIBRARY_COMPILE_FAILURE,
                     log && *log               ? log
                     : status == ML_ERR_MEMORY ? "out of memory"
                                               : ml_last_error());
        sm_release(l);
        l = NULL;
    }
    free(log);
    return l;
}

sm_id sm_device_new_library(sm_id self, sm_sel selector, sm_id source, sm_id options, sm_id *error) {
    if (!sm_expect(SM_CALL, source, &sm_string_class, "the source"))
        return NULL;
    return make_library(self, sm_text(source),
                        sm_expect_or_nil(SM_CALL, options, &sm_compile_options_class, "the options"), error);
}

sm_id sm_device_new_library_url(sm_id self, sm_sel selector, sm_id url, sm_id *error) {
    (void)self;
    if (!sm_expect(SM_CALL, url, &sm_url_class, "the URL"))
        return NULL;
    char text[400];
    snprintf(text, sizeof text, "%.300s: a compiled library holds Apple's own code: give the source",
             sm_path_of(url) ? sm_path_of(url) : "the library");
    sm_set_error(error, SM_LIBRARY_DOMAIN, LIBRARY_UNSUPPORTED, text);
    return NULL;
}

/* There is no application bundle that would have one. */
sm_id sm_device_new_default_library(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return NULL;
}

sm_id sm_library_function_names(sm_id self, sm_sel selector) {
    (void)selector;
    const sm_library *variant = sm_library_any_variant(self);
    const int n = sm_library_function_count(variant);
    sm_id *names = calloc((size_t)n + 1, sizeof *names);
    if (!names)
        return NULL;
    for (int i = 0; i < n; i++)
        names[i] = sm_string(sm_library_function(variant, i)->name);
    sm_id made = sm_array(names, (size_t)n);
    free(names);
    return made;
}
