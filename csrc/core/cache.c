/* The generic resource cache: a chained hash map with a list in order of use.
 *
 * One lock guards the map; it is never held while an item is made or destroyed. An item that is being made is in the
 * map without a value, so that each is made once and other threads wait for it.
 *
 * A fork copies the map as it is, but only the calling thread: a lock held by another one would never open again in the
 * child, nor an item that another one was making be finished. So the caches that exist are listed, a fork takes all
 * their locks, and the child drops unfinished items.
 */
#include "core/cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    struct entry *chain;
    struct entry *newer, *older; /* order of use; only entries that have an item */
    uint64_t hash;
    ml_cacheable *item; /* NULL while maker makes it */
    pthread_t maker;
    ml_cache_key key;
} entry;

struct ml_resource_cache {
    atomic_int refs;
    atomic_bool cached_only;
    pthread_mutex_t lock;
    pthread_cond_t made;
    entry **buckets;
    size_t n_buckets; /* a power of two */
    size_t n_chained; /* entries in the map, unfinished ones included */
    entry *newest, *oldest;
    ml_cache_stats stats;
    ml_resource_cache *next, *prev; /* list of the caches that exist */
};

/* ---- fork -------------------------------------------------------------------------------------------------- */

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static ml_resource_cache *list_head;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void before_fork(void) {
    pthread_mutex_lock(&list_lock);
    for (ml_resource_cache *c = list_head; c; c = c->next)
        pthread_mutex_lock(&c->lock);
}

static void after_fork_in_parent(void) {
    for (ml_resource_cache *c = list_head; c; c = c->next)
        pthread_mutex_unlock(&c->lock);
    pthread_mutex_unlock(&list_lock);
}

static void after_fork_in_child(void) {
    for (ml_resource_cache *c = list_head; c; c = c->next) {
        for (size_t i = 0; i < c->n_buckets; i++)
            for (entry **link = &c->buckets[i]; *link;) {
                entry *e = *link;
                if (e->item || pthread_equal(e->maker, pthread_self())) {
                    link = &e->chain;
                    continue;
                }
                *link = e->chain;
                c->n_chained--;
                free(e);
            }
        pthread_cond_init(&c->made, NULL); /* its waiters are gone */
    }
    after_fork_in_parent();
}

static void watch_forks(void) {
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* ---- public ------------------------------------------------------------------------------------------------ */

ml_status ml_resource_cache_create(bool cached_only, ml_resource_cache **out) {
    ml_resource_cache *c = calloc(1, sizeof *c);
    if (!c)
        goto fail;
    c->n_buckets = 64;
    c->buckets = calloc(c->n_buckets, sizeof *c->buckets);
    if (!c->buckets)
        goto fail;
    atomic_init(&c->refs, 1);
    atomic_init(&c->cached_only, cached_only);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->made, NULL);
    pthread_once(&fork_once, watch_forks);
    pthread_mutex_lock(&list_lock);
    c->next = list_head;
    if (list_head)
        list_head->prev = c;
    list_head = c;
    pthread_mutex_unlock(&list_lock);
    *out = c;
    return ML_OK;
fail:
    free(c);
    return ml_fail(ML_ERR_MEMORY, "out of memory for a resource cache");
}

void ml_resource_cache_retain(ml_resource_cache *cache) {
    if (cache)
        atomic_fetch_add_explicit(&cache->refs, 1, memory_order_relaxed);
}

void ml_resource_cache_release(ml_resource_cache *cache) {
    if (!cache || atomic_fetch_sub_explicit(&cache->refs, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_lock(&list_lock);
    *(cache->prev ? &cache->prev->next : &list_head) = cache->next;
    if (cache->next)
        cache->next->prev = cache->prev;
    pthread_mutex_unlock(&list_lock);
    for (entry *e = cache->newest; e;) {
        entry *older = e->older;
        ml_cacheable_release(e->item);
        free(e);
        e = older;
    }
    free(cache->buckets);
    pthread_cond_destroy(&cache->made);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

void ml_resource_cache_set_cached_only(ml_resource_cache *cache, bool cached_only) {
    atomic_store(&cache->cached_only, cached_only);
}

void ml_resource_cache_stats(const ml_resource_cache *cache, ml_cache_stats *out) {
    pthread_mutex_t *lock = (pthread_mutex_t *)&cache->lock;
    pthread_mutex_lock(lock);
    *out = cache->stats;
    pthread_mutex_unlock(lock);
}

void ml_cacheable_release(ml_cacheable *item) {
    if (item && atomic_fetch_sub_explicit(&item->refs, 1, memory_order_acq_rel) == 1)
        item->destroy(item);
}

/* ---- the map; every function below expects the lock -------------------------------------------------------- */

/* Eight bytes at a time by multiplication and shifts; bytes beyond the key's size do not count. */
static uint64_t hash_key(const ml_cache_key *key) {
    uint64_t h = 0x9e3779b97f4a7c15ull * (key->size + 1u);
    for (size_t i = 0; i < key->size; i += 8) {
        uint64_t word = 0;
        const size_t left = key->size - i;
        memcpy(&word, key->bytes + i, left < 8 ? left : 8);
        h = (h ^ word) * 0xff51afd7ed558ccdull; /* the multiplier of MurmurHash3's finaliser */
        h ^= h >> 32;
    }
    return h;
}

static bool same_key(const ml_cache_key *a, const ml_cache_key *b) {
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

static entry **find(ml_resource_cache *c, const ml_cache_key *key, uint64_t hash) {
    entry **link = &c->buckets[hash & (c->n_buckets - 1)];
    while (*link && ((*link)->hash != hash || !same_key(&(*link)->key, key)))
        link = &(*link)->chain;
    return link;
}

/* Twice the buckets; without memory for them the chains just grow longer. */
static void grow(ml_resource_cache *c) {
    const size_t n = 2 * c->n_buckets;
    entry **buckets = calloc(n, sizeof *buckets);
    if (!buckets)
        return;
    for (size_t i = 0; i < c->n_buckets; i++)
        for (entry *e = c->buckets[i]; e;) {
            entry *chain = e->chain;
            entry **home = &buckets[e->hash & (n - 1)];
            e->chain = *home;
            *home = e;
            e = chain;
        }
    free(c->buckets);
    c->buckets = buckets;
    c->n_buckets = n;
}

static void unlink_use(ml_resource_cache *c, entry *e) {
    *(e->newer ? &e->newer->older : &c->newest) = e->older;
    *(e->older ? &e->older->newer : &c->oldest) = e->newer;
}

static void link_newest(ml_resource_cache *c, entry *e) {
    e->newer = NULL;
    e->older = c->newest;
    *(c->newest ? &c->newest->newer : &c->oldest) = e;
    c->newest = e;
}

static void remove_from_map(ml_resource_cache *c, entry *e) {
    *find(c, &e->key, e->hash) = e->chain;
    c->n_chained--;
}

/* A use of an entry's item: to the front, with a reference for the caller. */
static ml_cacheable *use(ml_resource_cache *c, entry *e) {
    if (c->newest != e) {
        unlink_use(c, e);
        link_newest(c, e);
    }
    atomic_fetch_add_explicit(&e->item->refs, 1, memory_order_relaxed);
    return e->item;
}

/* Takes the least recently used entry out when there are too many; the caller frees it after unlocking. */
static entry *evict(ml_resource_cache *c) {
    entry *e = c->oldest;
    if (c->stats.entries <= ML_CACHE_MAX_ENTRIES)
        return NULL;
    unlink_use(c, e);
    remove_from_map(c, e);
    c->stats.entries--;
    c->stats.evictions++;
    return e;
}

/* ---- look-up ----------------------------------------------------------------------------------------------- */

/* Makes the item of an entry just put into the map. The lock is held on entry and released on return. */
static ml_status fill(ml_resource_cache *c, entry *e, ml_cache_make_fn make, void *arg, ml_cacheable **out) {
    ml_cacheable *item = NULL;
    entry *evicted = NULL;
    pthread_mutex_unlock(&c->lock);
    const ml_status status = make(&e->key, arg, &item);
    pthread_mutex_lock(&c->lock);
    if (status == ML_OK) {
        e->item = item;
        atomic_fetch_add_explicit(&item->refs, 1, memory_order_relaxed);
        link_newest(c, e);
        c->stats.entries++;
        evicted = evict(c);
        *out = item;
    } else {
        remove_from_map(c, e);
        free(e);
    }
    pthread_cond_broadcast(&c->made);
    pthread_mutex_unlock(&c->lock);
    if (evicted) {
        ml_cacheable_release(evicted->item);
        free(evicted);
    }
    return status;
}

ml_status ml_cache_get(ml_resource_cache *cache, const ml_cache_key *key, const char *key_name, ml_cache_make_fn make,
                       void *arg, ml_cacheable **out, bool *hit) {
    if (key->size > ML_CACHE_KEY_MAX)
        return ml_fail(ML_ERR_VALUE, "resource cache: a key of %u bytes; at most %d", key->size, ML_CACHE_KEY_MAX);
    const uint64_t hash = hash_key(key);
    const bool cached_only = atomic_load(&cache->cached_only);
    if (hit)
        *hit = false;
    pthread_mutex_lock(&cache->lock);
    for (;;) {
        entry *e = *find(cache, key, hash);
        if (e && e->item) {
            cache->stats.hits++;
            *out = use(cache, e);
            pthread_mutex_unlock(&cache->lock);
            if (hit)
                *hit = true;
            return ML_OK;
        }
        if (!e || cached_only)
            break;
        if (pthread_equal(e->maker, pthread_self())) {
            pthread_mutex_unlock(&cache->lock);
            return ml_fail(ML_ERR_VALUE, "resource cache: making %s needs %s itself", key_name, key_name);
        }
        pthread_cond_wait(&cache->made, &cache->lock);
    }
    cache->stats.misses++;
    if (cached_only) {
        pthread_mutex_unlock(&cache->lock);
        return ml_fail(ML_ERR_NOT_CACHED, "%s is not in the resource cache, which is cached_only", key_name);
    }
    entry *e = malloc(sizeof *e);
    if (!e) {
        pthread_mutex_unlock(&cache->lock);
        return ml_fail(ML_ERR_MEMORY, "out of memory for an entry of the resource cache");
    }
    if (cache->n_chained >= cache->n_buckets)
        grow(cache);
    entry **home = &cache->buckets[hash & (cache->n_buckets - 1)];
    *e = (entry){.chain = *home, .hash = hash, .maker = pthread_self(), .key = *key};
    *home = e;
    cache->n_chained++;
    return fill(cache, e, make, arg, out);
}
