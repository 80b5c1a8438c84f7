/* The resource cache: hits, eviction, cached_only, failures, one maker per item, fork. */
#include "test_core.h"

#include "core/cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct item {
    ml_cacheable base;
    int value;
} item;

static atomic_int made, alive;

static void destroy_item(ml_cacheable *self) {
    atomic_fetch_sub(&alive, 1);
    free(self);
}

static ml_status make_item(const ml_cache_key *key, void *arg, ml_cacheable **out) {
    item *it = calloc(1, sizeof *it);
    atomic_init(&it->base.refs, 1);
    it->base.destroy = destroy_item;
    memcpy(&it->value, key->bytes, sizeof it->value);
    atomic_fetch_add(&made, 1);
    atomic_fetch_add(&alive, 1);
    if (arg)
        usleep(*(useconds_t *)arg);
    *out = &it->base;
    return ML_OK;
}

static ml_status fail_to_make(const ml_cache_key *key, void *arg, ml_cacheable **out) {
    return ml_fail(ML_ERR_COMPILE, "made to fail");
}

static ml_cache_key key_of(int value) {
    ml_cache_key key;
    memset(&key, value & 0xff, sizeof key); /* what is beyond size must not matter */
    key.size = 20;
    memset(key.bytes, 0, key.size);
    memcpy(key.bytes, &value, sizeof value);
    return key;
}

static bool get(ml_resource_cache *cache, int value, bool *hit) {
    const ml_cache_key key = key_of(value);
    ml_cacheable *it;
    if (ml_cache_get(cache, &key, "test", make_item, NULL, &it, hit) != ML_OK)
        return false;
    const bool right = ((item *)it)->value == value;
    ml_cacheable_release(it);
    return right;
}

static ml_status make_recursively(const ml_cache_key *key, void *arg, ml_cacheable **out) {
    ml_cacheable *it;
    int next;
    memcpy(&next, key->bytes, sizeof next);
    if (next == 1000) {
        check(ml_cache_get(arg, key, "itself", make_recursively, arg, &it, NULL) == ML_ERR_VALUE);
        check(get(arg, 2000, NULL)); /* another key is fine */
    }
    return make_item(key, NULL, out);
}

static void test_basics(void) {
    ml_resource_cache *cache;
    ml_cache_stats stats;
    ml_cacheable *it = NULL;
    bool hit = true;
    atomic_store(&made, 0);
    check(ml_resource_cache_create(false, &cache) == ML_OK);
    check(get(cache, 1, &hit) && !hit);
    check(get(cache, 1, &hit) && hit && atomic_load(&made) == 1);
    check(get(cache, 2, &hit) && !hit);
    ml_resource_cache_stats(cache, &stats);
    check(stats.entries == 2 && stats.hits == 1 && stats.misses == 2 && stats.evictions == 0);

    /* Keys that are prefixes of one another differ. */
    ml_cache_key key = key_of(1);
    key.size = 19;
    check(ml_cache_get(cache, &key, "prefix", make_item, NULL, &it, &hit) == ML_OK && !hit);
    ml_cacheable_release(it);
    key.size = ML_CACHE_KEY_MAX + 1;
    check(ml_cache_get(cache, &key, "long", make_item, NULL, &it, &hit) == ML_ERR_VALUE);

    key = key_of(3);
    check(ml_cache_get(cache, &key, "bad", fail_to_make, NULL, &it, &hit) == ML_ERR_COMPILE);
    check(strcmp(ml_last_error(), "made to fail") == 0);
    check(get(cache, 3, &hit) && !hit); /* a failure is not remembered */

    ml_resource_cache_set_cached_only(cache, true);
    check(get(cache, 1, &hit) && hit);
    key = key_of(4);
    check(ml_cache_get(cache, &key, "matmul f16", make_item, NULL, &it, &hit) == ML_ERR_NOT_CACHED);
    check(strstr(ml_last_error(), "matmul f16") != NULL);
    ml_resource_cache_set_cached_only(cache, false);
    check(get(cache, 4, &hit) && !hit);

    key = key_of(1000);
    check(ml_cache_get(cache, &key, "outer", make_recursively, cache, &it, NULL) == ML_OK);
    ml_resource_cache_retain(cache);
    ml_resource_cache_release(cache);
    ml_resource_cache_release(cache);
    check(atomic_load(&alive) == 1 && ((item *)it)->value == 1000); /* ours outlives the cache */
    ml_cacheable_release(it);
    check(atomic_load(&alive) == 0);
}

static void test_eviction(void) {
    ml_resource_cache *cache;
    ml_cache_stats stats;
    bool hit;
    check(ml_resource_cache_create(false, &cache) == ML_OK);
    bool right = true;
    for (int i = 0; i < ML_CACHE_MAX_ENTRIES + 100; i++) {
        right &= get(cache, i, &hit) && !hit;
        if (i >= 50 && i % 50 == 0)
            right &= get(cache, 7, &hit) && hit; /* in use all the time */
    }
    check(right);
    ml_resource_cache_stats(cache, &stats);
    check(stats.entries == ML_CACHE_MAX_ENTRIES && atomic_load(&alive) == ML_CACHE_MAX_ENTRIES);
    check(stats.evictions == 100);
    check(get(cache, 7, &hit) && hit);
    check(get(cache, 1, &hit) && !hit); /* among the oldest: gone */
    check(get(cache, ML_CACHE_MAX_ENTRIES, &hit) && hit);
    ml_resource_cache_release(cache);
    check(atomic_load(&alive) == 0);
}

typedef struct work {
    ml_resource_cache *cache;
    unsigned seed;
    int keys, rounds;
    bool right;
} work;

static void *use_cache(void *arg) {
    work *w = arg;
    useconds_t delay = 200;
    w->right = true;
    for (int i = 0; i < w->rounds; i++) {
        const int value = (int)(rand_r(&w->seed) % (unsigned)w->keys);
        const ml_cache_key key = key_of(value);
        ml_cacheable *it;
        if (ml_cache_get(w->cache, &key, "test", make_item, i < 100 ? &delay : NULL, &it, NULL) != ML_OK ||
            ((item *)it)->value != value)
            w->right = false;
        else
            ml_cacheable_release(it);
    }
    return NULL;
}

static void test_threads(int keys) {
    work w[4];
    pthread_t threads[4];
    ml_resource_cache *cache;
    ml_cache_stats stats;
    atomic_store(&made, 0);
    check(ml_resource_cache_create(false, &cache) == ML_OK);
    for (int i = 0; i < 4; i++) {
        w[i] = (work){cache, (unsigned)rng(), keys, 20000, false};
        pthread_create(&threads[i], NULL, use_cache, &w[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        check(w[i].right);
    }
    ml_resource_cache_stats(cache, &stats);
    check(stats.hits + stats.misses == 80000 && stats.misses == atomic_load(&made));
    check(stats.entries == stats.misses - stats.evictions);
    if (keys <= ML_CACHE_MAX_ENTRIES)
        check(atomic_load(&made) <= keys); /* each was made once, however many threads wanted it */
    ml_resource_cache_release(cache);
    check(atomic_load(&alive) == 0);
}

/* Forks while other threads hold the cache's lock and make items: the child must be able to use the same keys. */
static void test_fork(void) {
    ml_resource_cache *cache;
    pthread_t thread;
    check(ml_resource_cache_create(false, &cache) == ML_OK);
    work w = {cache, (unsigned)rng(), 50, 30000, false};
    pthread_create(&thread, NULL, use_cache, &w);
    for (int i = 0; i < 5; i++) {
        usleep(2000);
        const pid_t child = fork();
        if (child == 0) {
            bool right = true;
            for (int k = 0; k < 50; k++)
                right &= get(cache, k, NULL);
            _exit(right ? 0 : 1);
        }
        int status = -1;
        check(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    pthread_join(thread, NULL);
    check(w.right);
    ml_resource_cache_release(cache);
    check(atomic_load(&alive) == 0);
}

void test_cache(void) {
    test_basics();
    test_eviction();
    test_threads(30);
    test_threads(2 * ML_CACHE_MAX_ENTRIES);
    test_fork();
}
