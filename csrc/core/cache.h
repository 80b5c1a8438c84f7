/* A generic resource cache: keys are byte strings that hold every fact that changes the prepared thing, values are
 * reference-counted items. Thread-safe. */
#ifndef ML_CORE_CACHE_H
#define ML_CORE_CACHE_H

#include "core/status.h"

#include <stdatomic.h>

#define ML_CACHE_KEY_MAX 64
#define ML_CACHE_MAX_ENTRIES 4096

typedef struct ml_cache_key {
    uint8_t size; /* bytes used, at most ML_CACHE_KEY_MAX */
    uint8_t bytes[ML_CACHE_KEY_MAX];
} ml_cache_key;

/* An item embeds this first. destroy runs when the cache and the last user have let go. */
typedef struct ml_cacheable {
    atomic_int refs;
    void (*destroy)(struct ml_cacheable *self);
} ml_cacheable;

/* Makes the item for a key that missed, with one reference, which the cache takes over. Runs without any lock held; it
 * may ask the cache for other keys. One thread makes an item, others that want it meanwhile wait. */
typedef ml_status (*ml_cache_make_fn)(const ml_cache_key *key, void *arg, ml_cacheable **out);

/* The item of key (a new reference; ml_cacheable_release), made on a miss. *hit (may be NULL) says which. Errors: those
 * of make; ML_ERR_NOT_CACHED when the cache is cached_only and misses (the message names key_name); ML_ERR_VALUE when a
 * make asks for the key it is making. Beyond ML_CACHE_MAX_ENTRIES the least recently used item leaves the cache. */
ml_status ml_cache_get(ml_resource_cache *cache, const ml_cache_key *key, const char *key_name, ml_cache_make_fn make,
                       void *arg, ml_cacheable **out, bool *hit);
void ml_cacheable_release(ml_cacheable *item);

#endif
