/* Selectors, classes, look-up, and what every object understands. */
#include "softmetal/objc_classes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- selectors: a text has one address ---------------------------------------------------------------------- */

typedef enum result_kind { RESULT_WORD = 0, RESULT_FLOAT, RESULT_STRUCT } result_kind;

typedef struct known_selector {
    struct known_selector *next;
    char text[];
} known_selector;

enum { BUCKETS = 256 };
static _Atomic(known_selector *) selectors[BUCKETS];

static _Atomic(known_selector *) *bucket_of(const char *text) {
    unsigned hash = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        hash = hash * 31 + *p;
    return &selectors[hash % BUCKETS];
}

static void *sel_register(const char *text) {
    _Atomic(known_selector *) *bucket = bucket_of(text);
    for (;;) {
        known_selector *first = atomic_load(bucket);
        for (known_selector *s = first; s; s = s->next)
            if (strcmp(s->text, text) == 0)
                return s->text;
        const size_t size = strlen(text) + 1;
        known_selector *s = malloc(sizeof *s + size);
        if (!s)
            return NULL;
        memcpy(s->text, text, size);
        s->next = first;
        if (atomic_compare_exchange_strong(bucket, &first, s)) /* else another thread was first: look again */
            return s->text;
        free(s);
    }
}

/* ---- classes ------------------------------------------------------------------------------------------------ */

static const sm_class *const classes[] = {&sm_nsobject_class,
                                          &sm_string_class,
                                          &sm_number_class,
                                          &sm_array_class,
                                          &sm_dictionary_class,
                                          &sm_mutable_dictionary_class,
                                          &sm_url_class,
                                          &sm_error_class,
                                          &sm_pool_class,
                                          &sm_labelled_class,
                                          &sm_device_class,
                                          &sm_architecture_class,
                                          &sm_buffer_class,
                                          &sm_compile_options_class,
                                          &sm_library_class,
                                          &sm_function_class,
                                          &sm_function_constant_class,
                                          &sm_constant_values_class,
                                          &sm_pipeline_class,
                                          &sm_pipeline_descriptor_class,
                                          &sm_queue_class,
                                          &sm_command_buffer_class,
                                          &sm_encoder_class,
                                          &sm_compute_encoder_class,
                                          &sm_blit_encoder_class,
                                          &sm_matrix_descriptor_class,
                                          &sm_vector_descriptor_class,
                                          &sm_matrix_class,
                                          &sm_vector_class,
                                          &sm_matrix_multiplication_class,
                                          &sm_matrix_vector_class};
enum { CLASSES = sizeof classes / sizeof *classes };

static void *get_class(const char *name) {
    for (int i = 0; i < CLASSES; i++)
        if (!classes[i]->is_protocol && strcmp(classes[i]->name, name) == 0)
            return (void *)(uintptr_t)classes[i];
    return NULL;
}

const sm_class *sm_class_at(const void *address) {
    for (int i = 0; i < CLASSES; i++)
        if (classes[i] == address)
            return classes[i];
    return NULL;
}

sm_id sm_class_object(const sm_class *isa) {
    return (sm_id)(uintptr_t)isa;
}

/* ---- methods ------------------------------------------------------------------------------------------------ */

typedef struct method {
    const sm_class *isa;
    bool of_class;
    const char *selector, *returns;
    void (*function)(void);
} method;

static const method methods[] = {
#define SM_INSTANCE_METHOD(class_name, selector, function, returns, arguments)                                         \
    {&sm_##class_name##_class, false, selector, #returns, (void (*)(void))(function)},
#define SM_CLASS_METHOD(class_name, selector, function, returns, arguments)                                            \
    {&sm_##class_name##_class, true, selector, #returns, (void (*)(void))(function)},
#include "softmetal/objc_methods.inc"
#undef SM_INSTANCE_METHOD
#undef SM_CLASS_METHOD
};
enum { METHODS = sizeof methods / sizeof *methods, PLACES = 4096 };

/* What each class understands, inherited methods too: filled once, read by all. */
typedef struct place {
    const void *isa; /* its class object for class methods; for instances the class's name */
    const char *selector;
    void (*function)(void);
} place;
static place places[PLACES];
static result_kind results[METHODS]; /* by row */
static const char *row_selectors[METHODS];
static pthread_once_t places_once = PTHREAD_ONCE_INIT;

static size_t place_of(const void *isa, const char *selector) {
    return ((uintptr_t)isa / 8 * 31 + (uintptr_t)selector / 16) * 2654435761u % PLACES;
}

static void add_place(const void *isa, const char *selector, void (*function)(void)) {
    size_t at = place_of(isa, selector);
    for (; places[at].isa; at = (at + 1) % PLACES)
        if (places[at].isa == isa && places[at].selector == selector)
            return; /* the subclass's own */
    places[at] = (place){isa, selector, function};
}

static const void *key_of(const sm_class *isa, bool of_class) {
    return of_class ? (const void *)isa : (const void *)isa->name;
}

static void fill_places(void) {
    for (int i = 0; i < METHODS; i++) {
        const char *returns = methods[i].returns;
        row_selectors[i] = sel_register(methods[i].selector);
        results[i] = strcmp(returns, "sm_size") == 0                                   ? RESULT_STRUCT
                     : strcmp(returns, "double") == 0 || strcmp(returns, "float") == 0 ? RESULT_FLOAT
                                                                                       : RESULT_WORD;
    }
    for (int c = 0; c < CLASSES; c++)
        for (const sm_class *from = classes[c]; from; from = from->super)
            for (int i = 0; i < METHODS; i++)
                if (methods[i].isa == from && row_selectors[i])
                    add_place(key_of(classes[c], methods[i].of_class), row_selectors[i], methods[i].function);
}

static void *find(const sm_class *isa, bool of_class, const char *selector) {
    const void *key = key_of(isa, of_class);
    for (size_t at = place_of(key, selector); places[at].isa; at = (at + 1) % PLACES)
        if (places[at].isa == key && places[at].selector == selector)
            return (void *)places[at].function;
    return NULL;
}

void *sm_method_of(const void *receiver, const char *selector) {
    const sm_class *isa = sm_class_at(receiver);
    if (isa)
        return find(isa, true, selector);
    const sm_object *o = sm_object_at(receiver);
    return o ? find(atomic_load(&o->isa), false, selector) : NULL;
}

/* ---- look-up ------------------------------------------------------------------------------------------------ */

static long zero_word(void) {
    return 0;
}

static double zero_float(void) {
    return 0.0;
}

static sm_size zero_struct(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return (sm_size){0, 0, 0};
}

/* What is wrong with the receiver, or with what it is asked. */
static void refuse(sm_id self, sm_sel selector) {
    const sm_call call = {.self = self, .selector = selector};
    const sm_object *o = sm_object_at(self);
    if (o && sm_is_released(self))
        sm_violation(&call, strcmp(selector, "release") == 0
                                ? "the object is released more often than it was retained"
                                : "the object is used after its last reference was released");
    else if (o && o->uninitialised)
        sm_violation(&call, "the object is used after alloc without init");
    else if (o || sm_class_at(self))
        sm_violation(&call, "unrecognized selector");
    else
        sm_violation(&call, "%p is no object", self);
}

static long refuse_word(sm_id self, sm_sel selector) {
    refuse(self, selector);
    return 0;
}

static double refuse_float(sm_id self, sm_sel selector) {
    refuse(self, selector);
    return 0.0;
}

static sm_size refuse_struct(sm_id self, sm_sel selector) {
    refuse(self, selector);
    return (sm_size){0, 0, 0};
}

static void *by_result(const char *selector, bool refused) {
    result_kind kind = RESULT_WORD;
    for (int i = 0; i < METHODS; i++)
        if (row_selectors[i] == selector)
            kind = results[i];
    switch (kind) {
    case RESULT_FLOAT:
        return (void *)(void (*)(void))(refused ? (void (*)(void))refuse_float : (void (*)(void))zero_float);
    case RESULT_STRUCT:
        return (void *)(refused ? (void (*)(void))refuse_struct : (void (*)(void))zero_struct);
    default:
        return (void *)(refused ? (void (*)(void))refuse_word : (void (*)(void))zero_word);
    }
}

static bool is_init(const char *selector) {
    return strncmp(selector, "init", 4) == 0 || strcmp(selector, "retain") == 0 || strcmp(selector, "release") == 0 ||
           strcmp(selector, "autorelease") == 0 || strcmp(selector, "respondsToSelector:") == 0;
}

static void *lookup(void *receiver, void *selector) {
    pthread_once(&places_once, fill_places);
    if (!receiver || !selector)
        return by_result(selector, false);
    const sm_object *o = sm_object_at(receiver);
    void *found = NULL;
    if (!o)
        found = sm_method_of(receiver, selector);
    else if (!sm_is_released(receiver) && (!o->uninitialised || is_init(selector)))
        found = find(atomic_load(&o->isa), false, selector);
    return found ? found : by_result(selector, true);
}

static void *create_default_device(void) {
    return sm_object_new(&sm_device_class);
}

const sm_objc *sm_objc_api(void) {
    static const sm_objc api = {.sel_register = sel_register,
                                .get_class = get_class,
                                .lookup = lookup,
                                .pool_push = sm_pool_push,
                                .pool_pop = sm_pool_pop,
                                .create_default_device = create_default_device};
    return &api;
}

/* ---- NSObject ----------------------------------------------------------------------------------------------- */

const sm_class sm_nsobject_class = {.name = "NSObject", .size = sizeof(sm_object), .flags = SM_CLASS_NEW};

static sm_id make(sm_id self, sm_sel selector, bool initialise) {
    const sm_class *isa = sm_class_at(self);
    if (!(isa->flags & SM_CLASS_NEW) || (initialise && (isa->flags & SM_CLASS_INIT))) {
        sm_violation(SM_CALL, initialise && (isa->flags & SM_CLASS_NEW)
                                  ? "objects of this class need alloc and an init... method of their own"
                                  : "objects of this class are not made with new or alloc");
        return NULL;
    }
    sm_object *o = sm_object_new(isa);
    if (o)
        o->uninitialised = !initialise;
    return o;
}

sm_id sm_class_new(sm_id self, sm_sel selector) {
    sm_id made = make(self, selector, true);
    if (made && sm_class_at(self) == &sm_pool_class)
        return sm_pool_init(made, selector);
    return made;
}

sm_id sm_class_alloc(sm_id self, sm_sel selector) {
    return make(self, selector, false);
}

sm_id sm_class_self(sm_id self, sm_sel selector) {
    (void)selector;
    return self;
}

sm_id sm_class_retain(sm_id self, sm_sel selector) {
    (void)selector;
    return self;
}

void sm_class_release(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
}

sm_bool sm_class_responds(sm_id self, sm_sel selector, sm_sel asked) {
    (void)selector;
    return asked && sm_method_of(self, asked) != NULL;
}

sm_bool sm_class_instances_respond(sm_id self, sm_sel selector, sm_sel asked) {
    (void)selector;
    return asked && find(sm_class_at(self), false, asked) != NULL;
}

sm_id sm_object_init(sm_id self, sm_sel selector) {
    sm_object *o = self;
    if (atomic_load(&o->isa)->flags & SM_CLASS_INIT) {
        sm_violation(SM_CALL, "objects of this class need an init... method of their own");
        sm_release(self);
        return NULL;
    }
    o->uninitialised = false;
    return self;
}

sm_id sm_object_retain(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_retain(self);
}

void sm_object_release(sm_id self, sm_sel selector) {
    if (!sm_try_release(self))
        sm_violation(SM_CALL, "the object is released more often than it was retained");
}

sm_id sm_object_autorelease(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_autorelease(self);
}

sm_uint sm_object_retain_count(sm_id self, sm_sel selector) {
    (void)selector;
    return (uint32_t)atomic_load(&((sm_object *)self)->refs);
}

sm_bool sm_object_responds(sm_id self, sm_sel selector, sm_sel asked) {
    (void)selector;
    return asked && sm_method_of(self, asked) != NULL;
}

sm_id sm_object_class(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_class_object(atomic_load(&((sm_object *)self)->isa));
}

sm_bool sm_object_is_kind(sm_id self, sm_sel selector, sm_id isa) {
    (void)selector;
    return sm_is_kind(self, sm_class_at(isa)) && isa;
}

sm_bool sm_object_is_equal(sm_id self, sm_sel selector, sm_id other) {
    (void)selector;
    return self == other;
}

sm_id sm_object_description(sm_id self, sm_sel selector) {
    (void)selector;
    char text[300];
    const char *label = sm_is_kind(self, &sm_labelled_class) ? ((sm_labelled *)self)->label : NULL;
    snprintf(text, sizeof text, "<%s: %p>%s%.200s", atomic_load(&((sm_object *)self)->isa)->name, self,
             label ? " " : "", label ? label : "");
    return sm_string(text);
}
