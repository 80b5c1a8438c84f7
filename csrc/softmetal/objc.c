/* Objects, selectors, autorelease pools, and the few classes of Foundation. */
#include "softmetal/objc_classes.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- selectors: a text has one address ---- */

typedef struct known_selector {
    struct known_selector *next;
    char text[];
} known_selector;

static _Atomic(known_selector *) selectors;

static void *sel_register(const char *text) {
    for (;;) {
        known_selector *first = atomic_load(&selectors);
        for (known_selector *s = first; s; s = s->next)
            if (strcmp(s->text, text) == 0)
                return s->text;
        const size_t size = strlen(text) + 1;
        known_selector *s = malloc(sizeof *s + size);
        if (!s)
            return NULL;
        memcpy(s->text, text, size);
        s->next = first;
        if (atomic_compare_exchange_strong(&selectors, &first, s)) /* else another thread was first: look again */
            return s->text;
        free(s);
    }
}

/* ---- objects ---- */

sm_id sm_object_new(const sm_class *isa) {
    sm_object *o = calloc(1, isa->size);
    if (!o)
        return NULL;
    o->isa = isa;
    atomic_init(&o->refs, 1);
    return o;
}

sm_id sm_retain(sm_id object) {
    sm_object *o = object;
    if (o && o->isa)
        atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
    return object;
}

void sm_release(sm_id object) {
    sm_object *o = object;
    if (!o || !o->isa || atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (o->isa->destroy)
        o->isa->destroy(object);
    free(o);
}

/* ---- autorelease pools: marks in one stack of each thread ---- */

typedef struct pool_stack {
    sm_id *objects;
    size_t n, capacity;
} pool_stack;

static pthread_key_t pool_key;
static pthread_once_t pool_once = PTHREAD_ONCE_INIT;

static void free_stack(void *arg) {
    pool_stack *s = arg;
    while (s->n > 0)
        sm_release(s->objects[--s->n]);
    free(s->objects);
    free(s);
}

static void make_pool_key(void) {
    pthread_key_create(&pool_key, free_stack);
}

static pool_stack *my_stack(void) {
    static _Thread_local pool_stack *mine;
    if (mine)
        return mine;
    pthread_once(&pool_once, make_pool_key);
    mine = calloc(1, sizeof *mine);
    if (mine)
        pthread_setspecific(pool_key, mine);
    return mine;
}

static void *pool_push(void) {
    const pool_stack *s = my_stack();
    return (void *)(uintptr_t)((s ? s->n : 0) + 1);
}

static void pool_pop(void *pool) {
    pool_stack *s = my_stack();
    const size_t mark = (size_t)(uintptr_t)pool - 1;
    while (s && s->n > mark)
        sm_release(s->objects[--s->n]);
}

sm_id sm_autorelease(sm_id object) {
    pool_stack *s = my_stack();
    if (!object || !s)
        return object;
    if (s->n == s->capacity) {
        const size_t capacity = s->capacity ? 2 * s->capacity : 64;
        sm_id *grown = realloc(s->objects, capacity * sizeof *grown);
        if (!grown)
            return object; /* never released: the lesser evil */
        s->objects = grown;
        s->capacity = capacity;
    }
    s->objects[s->n++] = object;
    return object;
}

/* ---- look-up ---- */

static long return_zero(void) {
    return 0;
}

static sm_size return_no_size(sm_id self, sm_sel selector) {
    (void)self;
    (void)selector;
    return (sm_size){0, 0, 0};
}

static sm_id object_retain(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_retain(self);
}

static void object_release(sm_id self, sm_sel selector) {
    (void)selector;
    sm_release(self);
}

static sm_id class_new(sm_id self, sm_sel selector) {
    (void)selector;
    return sm_object_new(self);
}

static signed char object_responds(sm_id self, sm_sel selector, sm_sel asked);

static const sm_method object_methods[] = {SM_METHOD("retain", object_retain), SM_METHOD("release", object_release),
                                           SM_METHOD("respondsToSelector:", object_responds), SM_METHODS_END};
static const sm_method object_class_methods[] = {SM_METHOD("new", class_new), SM_METHOD("alloc", class_new),
                                                 SM_METHODS_END};

static void *find(const sm_method *methods, const char *selector) {
    for (; methods && methods->selector; methods++)
        if (strcmp(methods->selector, selector) == 0)
            return (void *)methods->function;
    return NULL;
}

static void *find_method(const sm_object *receiver, const char *selector) {
    const sm_class *class_object = (const sm_class *)receiver;
    void *found = receiver->isa ? find(receiver->isa->methods, selector) : find(class_object->class_methods, selector);
    if (!found)
        found = find(receiver->isa ? object_methods : object_class_methods, selector);
    return found;
}

static signed char object_responds(sm_id self, sm_sel selector, sm_sel asked) {
    (void)selector;
    return find_method(self, asked) != NULL;
}

/* What was found last, for each selector and class: a message costs two loads and compares. */
typedef struct cache_line {
    _Atomic(const void *) class_object, selector;
    _Atomic(void *) function;
    atomic_uint version; /* odd while it is written */
} cache_line;
enum { CACHE_LINES = 256 };
static cache_line cache[CACHE_LINES];

static void *lookup(void *receiver, void *selector) {
    if (!receiver)
        return (void *)(strcmp(selector, "maxThreadsPerThreadgroup") == 0 ? (void (*)(void))return_no_size
                                                                          : (void (*)(void))return_zero);
    const sm_object *o = receiver;
    const void *key = o->isa ? (const void *)o->isa : receiver;
    cache_line *line = &cache[((uintptr_t)key / 64 ^ (uintptr_t)selector / 16) % CACHE_LINES];
    const unsigned before = atomic_load_explicit(&line->version, memory_order_acquire);
    const bool same = atomic_load_explicit(&line->class_object, memory_order_relaxed) == key &&
                      atomic_load_explicit(&line->selector, memory_order_relaxed) == selector;
    void *function = atomic_load_explicit(&line->function, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    if (same && before % 2 == 0 && atomic_load_explicit(&line->version, memory_order_relaxed) == before)
        return function;
    function = find_method(o, selector);
    if (!function)
        return (void *)(void (*)(void))return_zero;
    unsigned even = before & ~1u;
    if (atomic_compare_exchange_strong(&line->version, &even, even + 1)) {
        atomic_store_explicit(&line->class_object, key, memory_order_relaxed);
        atomic_store_explicit(&line->selector, selector, memory_order_relaxed);
        atomic_store_explicit(&line->function, function, memory_order_relaxed);
        atomic_store_explicit(&line->version, even + 2, memory_order_release);
    }
    return function;
}

static void *get_class(const char *name) {
    const sm_class *const *tables[] = {sm_foundation_classes, sm_metal_classes, sm_command_classes, sm_mps_classes};
    for (int t = 0; t < 4; t++)
        for (const sm_class *const *c = tables[t]; *c; c++)
            if (strcmp((*c)->name, name) == 0)
                return (void *)(uintptr_t)*c;
    return NULL;
}

/* ---- Foundation ---- */

typedef struct string_object {
    sm_object object;
    char *text;
} string_object;

static void string_destroy(sm_id self) {
    free(((string_object *)self)->text);
}

static const char *string_utf8(sm_id self, sm_sel selector) {
    (void)selector;
    return ((string_object *)self)->text;
}

static sm_id string_with_utf8(sm_id self, sm_sel selector, const char *text) {
    (void)selector;
    string_object *s = text ? sm_object_new(self) : NULL;
    if (!s)
        return NULL;
    s->text = strdup(text);
    return sm_autorelease(s);
}

static const sm_method string_methods[] = {SM_METHOD("UTF8String", string_utf8), SM_METHODS_END};
static const sm_method string_class_methods[] = {SM_METHOD("stringWithUTF8String:", string_with_utf8), SM_METHODS_END};
static const sm_class string_class = {.name = "NSString",
                                      .size = sizeof(string_object),
                                      .methods = string_methods,
                                      .class_methods = string_class_methods,
                                      .destroy = string_destroy};

sm_id sm_string(const char *text) {
    return string_with_utf8((sm_id)(uintptr_t)&string_class, NULL, text);
}

const char *sm_text(sm_id string) {
    return string ? ((string_object *)string)->text : "";
}

typedef struct error_object {
    sm_object object;
    long code;
    sm_id description;
} error_object;

static void error_destroy(sm_id self) {
    sm_release(((error_object *)self)->description);
}

static sm_id error_description(sm_id self, sm_sel selector) {
    (void)selector;
    return ((error_object *)self)->description;
}

static long error_code(sm_id self, sm_sel selector) {
    (void)selector;
    return ((error_object *)self)->code;
}

static const sm_method error_methods[] = {SM_METHOD("localizedDescription", error_description),
                                          SM_METHOD("code", error_code), SM_METHODS_END};
static const sm_class error_class = {
    .name = "NSError", .size = sizeof(error_object), .methods = error_methods, .destroy = error_destroy};

sm_id sm_error(long code, const char *text) {
    error_object *e = sm_object_new(&error_class);
    if (!e)
        return NULL;
    e->code = code;
    e->description = sm_retain(sm_string(text));
    return sm_autorelease(e);
}

const sm_class *const sm_foundation_classes[] = {&string_class, &error_class, NULL};

/* ---- entry ---- */

static void *create_default_device(void) {
    sm_device_object *device = sm_object_new(&sm_device_class);
    if (!device)
        return NULL;
    const char *check = getenv("METALLIC_CHECK"), *order = getenv("METALLIC_ORDER");
    device->checked = check && *check && strcmp(check, "0") != 0;
    if (order && strcmp(order, "reverse") == 0)
        device->order = SM_ORDER_REVERSE;
    else if (order && strcmp(order, "shuffle") == 0)
        device->order = SM_ORDER_SHUFFLE;
    return device;
}

const sm_objc *sm_objc_api(void) {
    static const sm_objc api = {.sel_register = sel_register,
                                .get_class = get_class,
                                .lookup = lookup,
                                .pool_push = pool_push,
                                .pool_pop = pool_pop,
                                .create_default_device = create_default_device};
    return &api;
}
