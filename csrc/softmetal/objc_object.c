/* Where objects live, who refers to them, and autorelease pools. */
#include "softmetal/objc_classes.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- where objects live ------------------------------------------------------------------------------------- */

/* Slots of one size in chunks that are never given back, so that whatever address a program sends a message to, it can
 * be told whether an object lives there, lived there, or never did. Free slots are used again oldest first. */
enum { CHUNK = 1 << 20, CHUNKS = 4096, SIZES = 7, SMALLEST = 64, KEEP_FREE = 1024 };

typedef struct chunk {
    size_t slot_size, used; /* slots that have ever held an object lie below used */
} chunk;

typedef struct free_slot {
    sm_object object;
    struct free_slot *next;
} free_slot;

static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    chunk *chunk;
    free_slot *first, *last;
    int n_free;
} sizes[SIZES];
static _Atomic(uintptr_t) chunks[CHUNKS]; /* open addressing by address */
static int n_chunks;
static uint32_t next_serial;

static size_t chunk_place(uintptr_t base) {
    return base / CHUNK * 2654435761u % CHUNKS;
}

static chunk *add_chunk(size_t slot_size) {
    /* Of the heap, where leak checkers look for what objects hold. */
    chunk *c = n_chunks < CHUNKS / 2 ? aligned_alloc(CHUNK, CHUNK) : NULL;
    if (!c)
        return NULL;
    memset(c, 0, CHUNK);
    c->slot_size = slot_size;
    c->used = slot_size; /* the first slot is the header's */
    size_t at = chunk_place((uintptr_t)c);
    while (atomic_load(&chunks[at]))
        at = (at + 1) % CHUNKS;
    atomic_store(&chunks[at], (uintptr_t)c);
    n_chunks++;
    return c;
}

static sm_object *take_slot(size_t size) {
    int i = 0;
    while (i < SIZES && (size_t)SMALLEST << i < size)
        i++;
    if (i == SIZES)
        return NULL;
    const size_t slot_size = (size_t)SMALLEST << i;
    sm_object *o = NULL;
    pthread_mutex_lock(&slots_lock);
    if (sizes[i].n_free > KEEP_FREE) {
        free_slot *f = sizes[i].first;
        sizes[i].first = f->next;
        sizes[i].n_free--;
        o = &f->object;
    } else {
        chunk *c = sizes[i].chunk;
        if (!c || c->used + slot_size > CHUNK)
            c = sizes[i].chunk = add_chunk(slot_size);
        if (c) {
            o = (sm_object *)((char *)c + c->used);
            c->used += slot_size;
        }
    }
    if (o) {
        memset((char *)o + sizeof *o, 0, slot_size - sizeof *o);
        o->serial = ++next_serial;
    }
    pthread_mutex_unlock(&slots_lock);
    return o;
}

/* The class stays, for messages to what is gone. */
static void give_slot(sm_object *o, size_t size) {
    int i = 0;
    while ((size_t)SMALLEST << i < size)
        i++;
    free_slot *f = (free_slot *)o;
    pthread_mutex_lock(&slots_lock);
    f->next = NULL;
    if (sizes[i].n_free++ > 0)
        sizes[i].last->next = f;
    else
        sizes[i].first = f;
    sizes[i].last = f;
    pthread_mutex_unlock(&slots_lock);
}

sm_object *sm_object_at(const void *address) {
    const uintptr_t p = (uintptr_t)address, base = p / CHUNK * CHUNK;
    if (!base)
        return NULL;
    for (size_t at = chunk_place(base);; at = (at + 1) % CHUNKS) {
        const uintptr_t c = atomic_load_explicit(&chunks[at], memory_order_acquire);
        if (!c)
            return NULL;
        if (c == base)
            break;
    }
    const chunk *c = (const chunk *)base;
    if ((p - base) % c->slot_size != 0 || p == base)
        return NULL;
    sm_object *o = (sm_object *)p;
    return atomic_load_explicit(&o->isa, memory_order_acquire) ? o : NULL;
}

/* ---- references --------------------------------------------------------------------------------------------- */

#define PROGRAM UINT64_C(1)
#define INTERNAL (UINT64_C(1) << 32)

sm_id sm_object_new(const sm_class *isa) {
    sm_object *o = take_slot(isa->size);
    if (!o)
        return NULL;
    o->uninitialised = false;
    atomic_store_explicit(&o->refs, PROGRAM, memory_order_relaxed);
    atomic_store_explicit(&o->isa, isa, memory_order_release);
    return o;
}

static void destroy(sm_object *o) {
    const sm_class *isa = atomic_load(&o->isa);
    for (const sm_class *c = isa; c; c = c->super)
        if (c->destroy) {
            c->destroy(o);
            break;
        }
    give_slot(o, isa->size);
}

bool sm_is_released(sm_id object) {
    const sm_object *o = object;
    return o && (uint32_t)atomic_load(&o->refs) == 0;
}

/* Takes one reference away if there is one. */
static bool give_up(sm_object *o, uint64_t one) {
    uint64_t now = atomic_load(&o->refs);
    do {
        if (one == PROGRAM ? (uint32_t)now == 0 : now < INTERNAL)
            return false;
    } while (!atomic_compare_exchange_weak(&o->refs, &now, now - one));
    if (now == one)
        destroy(o);
    return true;
}

sm_id sm_retain(sm_id object) {
    if (object)
        atomic_fetch_add(&((sm_object *)object)->refs, PROGRAM);
    return object;
}

bool sm_try_release(sm_id object) {
    return give_up(object, PROGRAM);
}

void sm_release(sm_id object) {
    if (object)
        (void)give_up(object, PROGRAM);
}

sm_id sm_keep(sm_id object) {
    if (object)
        atomic_fetch_add(&((sm_object *)object)->refs, INTERNAL);
    return object;
}

void sm_drop(sm_id object) {
    if (object)
        (void)give_up(object, INTERNAL);
}

bool sm_is_kind(sm_id object, const sm_class *isa) {
    for (const sm_class *c = object ? atomic_load(&((sm_object *)object)->isa) : NULL; c; c = c->super)
        if (c == isa)
            return true;
    return false;
}

/* ---- autorelease pools: marks in one stack of each thread ---------------------------------------------------- */

typedef struct pool_entry {
    sm_object *object;
    uint32_t serial;
    bool is_mark;
} pool_entry;

typedef struct pool_stack {
    pool_entry *items;
    size_t n, capacity;
    size_t pools;
} pool_stack;

static pthread_key_t pool_key;
static pthread_once_t pool_once = PTHREAD_ONCE_INIT;

static void pop_one(pool_stack *s) {
    const pool_entry e = s->items[--s->n];
    if (e.is_mark) {
        s->pools--;
        return;
    }
    if (e.object->serial == e.serial && give_up(e.object, PROGRAM))
        return;
    sm_violation(&(const sm_call){.self = NULL, .selector = NULL},
                 "an autorelease pool holds an object at %p that has been released more often than it was retained",
                 (void *)e.object);
}

static void free_stack(void *arg) {
    pool_stack *s = arg;
    while (s->n > 0)
        pop_one(s);
    free(s->items);
    free(s);
}

static void make_pool_key(void) {
    pthread_key_create(&pool_key, free_stack);
}

static pool_stack *my_stack(void) {
    pthread_once(&pool_once, make_pool_key);
    pool_stack *s = pthread_getspecific(pool_key);
    if (!s)
        s = calloc(1, sizeof *s);
    if (s)
        pthread_setspecific(pool_key, s);
    return s;
}

static bool push(pool_stack *s, pool_entry e) {
    if (s->n == s->capacity) {
        const size_t capacity = s->capacity ? 2 * s->capacity : 64;
        pool_entry *grown = realloc(s->items, capacity * sizeof *grown);
        if (!grown)
            return false;
        s->items = grown;
        s->capacity = capacity;
    }
    s->items[s->n++] = e;
    return true;
}

void *sm_pool_push(void) {
    pool_stack *s = my_stack();
    if (!s || !push(s, (pool_entry){.is_mark = true}))
        return NULL;
    s->pools++;
    return (void *)(uintptr_t)s->n;
}

void sm_pool_pop(void *pool) {
    pool_stack *s = my_stack();
    const size_t mark = (size_t)(uintptr_t)pool;
    if (!s || !pool) /* its push found no memory */
        return;
    if (mark > s->n || !s->items[mark - 1].is_mark) {
        sm_violation(&(const sm_call){.self = NULL, .selector = NULL},
                     "an autorelease pool is popped that is not open in this thread");
        return;
    }
    while (s->n >= mark)
        pop_one(s);
}

sm_id sm_autorelease(sm_id object) {
    pool_stack *s = my_stack();
    if (!object || !s)
        return object;
    if (s->pools == 0)
        sm_advice(&(const sm_call){.self = object, .selector = "autorelease"},
                  "no autorelease pool is open in this thread: the object lives until the thread ends");
    (void)push(s, (pool_entry){.object = object, .serial = ((sm_object *)object)->serial}); /* else it is never freed */
    return object;
}

sm_id sm_hand_out(sm_id object) {
    return sm_autorelease(sm_retain(object));
}
