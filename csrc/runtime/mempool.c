#include "runtime/mempool.h"

#include "runtime/fork.h"
#include "runtime/thread.h"

#include <stdlib.h>
#include <string.h>

#define SHARDS 16
#define SMALL_MAX ((size_t)8 << 10)
#define MEDIUM_MAX ((size_t)1 << 20)
#define SMALL_CLASSES 24  /* 64, 128, ... 512, then four per doubling up to 8 KiB */
#define MEDIUM_CLASSES 20 /* in pages: 1, 2, ... 8, then four per doubling up to 64 */
#define CLASSES (SMALL_CLASSES + MEDIUM_CLASSES)
#define SLAB_BLOCKS 256
#define MEDIUM_SLAB ((size_t)4 << 20)
#define CACHE_LINE 64

/* The owner's hold on the pool, a bias of the count of bytes in use: whoever brings that to 0 destroys the pool. */
#define OWNER ((int64_t)1 << 62)

typedef struct slab slab;

typedef struct block {
    ml_buffer buf; /* first: a buffer's address is its block's */
    struct block *next;
    slab *home;
    int64_t in_use; /* bytes counted while handed out */
} block;

struct slab {
    slab *next, *previous;
    ml_mempool *pool;
    ml_buffer *memory;
    size_t block_size;
    int shard, size_class; /* shard -1: a large block */
    int live;              /* blocks handed out; guarded by the shard's lock */
    int n_blocks;
    block blocks[];
};

typedef struct shard {
    _Alignas(CACHE_LINE) ml_spinlock lock;
    block *free[CLASSES];
    slab *slabs;
    int64_t allocations, hits, reserved, n_slabs;
} shard;

struct ml_mempool {
    ml_device *device;
    bool poison, device_only;
    ml_fork_lock fork_lock;
    _Alignas(CACHE_LINE) _Atomic(int64_t) in_use; /* bytes, plus OWNER while open */
    _Atomic(int64_t) peak;
    shard shards[SHARDS];

    _Alignas(CACHE_LINE) ml_spinlock large_lock;
    slab *large_idle; /* most recently freed first */
    slab *large_oldest;
    int64_t large_idle_bytes, large_reserved, large_blocks, large_allocations, large_hits;
};

/* ---- size classes ------------------------------------------------------------------------------------------ */

/* Units 1..8 have classes 0..7; above, four classes per doubling. */
static int class_of_units(size_t units) {
    if (units <= 8)
        return (int)units - 1;
    int top = 63 - __builtin_clzll((unsigned long long)(units - 1)); /* 2^top < units <= 2^(top+1) */
    int quarter = (int)((units - 1) >> (top - 2)) & 3;
    return 8 + (top - 3) * 4 + quarter;
}

static size_t units_of_class(int size_class) {
    if (size_class < 8)
        return (size_t)size_class + 1;
    int top = (size_class - 8) / 4 + 3, quarter = (size_class - 8) % 4;
    return ((size_t)1 << top) + ((size_t)(quarter + 1) << (top - 2));
}

static size_t class_bytes(int size_class) {
    return size_class < SMALL_CLASSES ? units_of_class(size_class) * CACHE_LINE
                                      : units_of_class(size_class - SMALL_CLASSES) * ML_PAGE_BYTES;
}

/* ---- slabs ---- */

static void destroy_block(ml_buffer *self);

static void free_slab(slab *s) {
    ml_buffer_release(s->memory);
    free(s);
}

/* A slab whose blocks are all free; not yet linked anywhere. */
static ml_status make_slab(ml_mempool *pool, size_t block_size, int n_blocks, slab **out) {
    slab *s = calloc(1, sizeof *s + (size_t)n_blocks * sizeof s->blocks[0]);
    if (!s)
        return ml_fail(ML_ERR_MEMORY, "out of memory for %d block descriptors", n_blocks);
    ml_status status =
        pool->device->vtbl->alloc(pool->device, block_size * (size_t)n_blocks, pool->device_only, &s->memory);
    if (status != ML_OK) {
        free(s);
        return status;
    }
    s->pool = pool;
    s->block_size = block_size;
    s->n_blocks = n_blocks;
    s->shard = -1;
    for (int i = 0; i < n_blocks; i++) {
        block *b = &s->blocks[i];
        size_t offset = block_size * (size_t)i;
        b->buf.host = s->memory->host ? (char *)s->memory->host + offset : NULL;
        b->buf.handle = s->memory->handle;
        b->buf.handle_offset = s->memory->handle_offset + offset;
        b->buf.device = pool->device;
        b->buf.destroy = destroy_block;
        b->home = s;
        b->next = i + 1 < n_blocks ? b + 1 : NULL;
    }
    *out = s;
    return ML_OK;
}

static void destroy_pool(ml_mempool *pool) {
    ml_fork_lock_remove(&pool->fork_lock);
    for (int i = 0; i < SHARDS; i++)
        for (slab *s = pool->shards[i].slabs, *next; s; s = next) {
            next = s->next;
            free_slab(s);
        }
    for (slab *s = pool->large_idle, *next; s; s = next) {
        next = s->next;
        free_slab(s);
    }
    free(pool);
}

static void give_up(ml_mempool *pool, int64_t bytes) {
    if (atomic_fetch_sub_explicit(&pool->in_use, bytes, memory_order_acq_rel) == bytes)
        destroy_pool(pool);
}

/* ---- freeing ---- */

static void unlink_large(ml_mempool *pool, slab *s) {
    *(s->previous ? &s->previous->next : &pool->large_idle) = s->next;
    *(s->next ? &s->next->previous : &pool->large_oldest) = s->previous;
    s->next = s->previous = NULL;
    pool->large_idle_bytes -= (int64_t)s->block_size;
}

/* Takes idle blocks over the limit out of the list, oldest first; the caller frees them outside the lock. */
static slab *evict_large(ml_mempool *pool, int64_t limit) {
    slab *evicted = NULL;
    while (pool->large_idle_bytes > limit) {
        slab *s = pool->large_oldest;
        unlink_large(pool, s);
        pool->large_reserved -= (int64_t)s->block_size;
        pool->large_blocks--;
        s->next = evicted;
        evicted = s;
    }
    return evicted;
}

static void free_slabs(slab *s) {
    while (s) {
        slab *next = s->next;
        free_slab(s);
        s = next;
    }
}

static void free_large(ml_mempool *pool, slab *s) {
    ml_spin_lock(&pool->large_lock);
    s->previous = NULL;
    s->next = pool->large_idle;
    *(s->next ? &s->next->previous : &pool->large_oldest) = s;
    pool->large_idle = s;
    pool->large_idle_bytes += (int64_t)s->block_size;
    slab *evicted = evict_large(pool, ML_POOL_IDLE_MAX);
    ml_spin_unlock(&pool->large_lock);
    free_slabs(evicted);
}

static void destroy_block(ml_buffer *self) {
    block *b = (block *)self;
    slab *s = b->home;
    ml_mempool *pool = s->pool;
    int64_t bytes = b->in_use;
    if (s->shard < 0) {
        free_large(pool, s);
    } else {
        shard *sh = &pool->shards[s->shard];
        ml_spin_lock(&sh->lock);
        b->next = sh->free[s->size_class];
        sh->free[s->size_class] = b;
        s->live--;
        ml_spin_unlock(&sh->lock);
    }
    give_up(pool, bytes);
}

/* ---- allocation ---- */

static void hand_out(ml_mempool *pool, block *b, size_t size, ml_buffer **out) {
    int64_t bytes = (int64_t)size;
    b->in_use = bytes;
    atomic_store_explicit(&b->buf.refs, 1, memory_order_relaxed);
    atomic_store_explicit(&b->buf.flags, 0, memory_order_relaxed);
    atomic_store_explicit(&b->buf.pending, NULL, memory_order_relaxed);
    b->buf.size = size;
    int64_t now = atomic_fetch_add_explicit(&pool->in_use, bytes, memory_order_relaxed) + bytes - OWNER;
    int64_t peak = atomic_load_explicit(&pool->peak, memory_order_relaxed);
    while (now > peak &&
           !atomic_compare_exchange_weak_explicit(&pool->peak, &peak, now, memory_order_relaxed, memory_order_relaxed))
        continue;
    if (__builtin_expect(pool->poison, 0) && b->buf.host)
        memset(b->buf.host, 0xff, size);
    *out = &b->buf;
}

static ml_status grow_shard(ml_mempool *pool, int index, int size_class) {
    size_t bytes = class_bytes(size_class);
    size_t n = size_class < SMALL_CLASSES ? SLAB_BLOCKS : MEDIUM_SLAB / bytes;
    slab *s = NULL;
    ml_status status = make_slab(pool, bytes, n > SLAB_BLOCKS ? SLAB_BLOCKS : (int)n, &s);
    if (status != ML_OK) { /* what lies idle may be what is missing; and one block is all that was asked for */
        ml_mempool_trim(pool);
        ML_TRY(make_slab(pool, bytes, 1, &s));
    }
    s->shard = index;
    s->size_class = size_class;
    shard *sh = &pool->shards[index];
    ml_spin_lock(&sh->lock);
    s->next = sh->slabs;
    if (s->next)
        s->next->previous = s;
    sh->slabs = s;
    sh->n_slabs++;
    sh->reserved += (int64_t)bytes * s->n_blocks;
    s->blocks[s->n_blocks - 1].next = sh->free[size_class];
    sh->free[size_class] = s->blocks;
    ml_spin_unlock(&sh->lock);
    return ML_OK;
}

static ml_status alloc_shard(ml_mempool *pool, size_t size, int size_class, ml_buffer **out) {
    ml_thread *t = ml_thread_get();
    int index = t ? t->index % SHARDS : 0;
    shard *sh = &pool->shards[index];
    bool hit = true;
    for (;;) {
        ml_spin_lock(&sh->lock);
        block *b = sh->free[size_class];
        if (__builtin_expect(b != NULL, 1)) {
            sh->free[size_class] = b->next;
            b->home->live++;
            sh->allocations++;
            sh->hits += hit;
            ml_spin_unlock(&sh->lock);
            hand_out(pool, b, size, out);
            return ML_OK;
        }
        ml_spin_unlock(&sh->lock);
        hit = false;
        ML_TRY(grow_shard(pool, index, size_class));
    }
}

static ml_status alloc_large(ml_mempool *pool, size_t size, ml_buffer **out) {
    size_t rounded = (size + ML_PAGE_BYTES - 1) / ML_PAGE_BYTES * ML_PAGE_BYTES;
    if (rounded < size || size > (size_t)OWNER - 1)
        return ml_fail(ML_ERR_MEMORY, "%zu bytes are more than any memory holds", size);
    ml_spin_lock(&pool->large_lock);
    pool->large_allocations++;
    slab *best = NULL;
    for (slab *s = pool->large_idle; s; s = s->next)
        if (s->block_size >= rounded && s->block_size - rounded < rounded / 4 &&
            (!best || s->block_size < best->block_size))
            best = s;
    if (best) {
        unlink_large(pool, best);
        pool->large_hits++;
    }
    ml_spin_unlock(&pool->large_lock);
    if (!best) {
        ml_status status = make_slab(pool, rounded, 1, &best);
        if (status != ML_OK) { /* what lies idle may be what is missing */
            ml_mempool_trim(pool);
            ML_TRY(make_slab(pool, rounded, 1, &best));
        }
        ml_spin_lock(&pool->large_lock);
        pool->large_reserved += (int64_t)rounded;
        pool->large_blocks++;
        ml_spin_unlock(&pool->large_lock);
    }
    hand_out(pool, &best->blocks[0], size, out);
    return ML_OK;
}

ml_status ml_mempool_alloc(ml_mempool *pool, size_t size, bool page_aligned, ml_buffer **out) {
    size += size == 0;
    if (size <= SMALL_MAX && !page_aligned)
        return alloc_shard(pool, size, class_of_units((size + CACHE_LINE - 1) / CACHE_LINE), out);
    if (size <= MEDIUM_MAX)
        return alloc_shard(pool, size, SMALL_CLASSES + class_of_units((size + ML_PAGE_BYTES - 1) / ML_PAGE_BYTES), out);
    return alloc_large(pool, size, out);
}

/* ---- the pool ---- */

static void lock_for_fork(void *arg) {
    ml_mempool *pool = arg;
    for (int i = 0; i < SHARDS; i++)
        ml_spin_lock(&pool->shards[i].lock);
    ml_spin_lock(&pool->large_lock);
}

static void unlock_after_fork(void *arg) {
    ml_mempool *pool = arg;
    ml_spin_unlock(&pool->large_lock);
    for (int i = 0; i < SHARDS; i++)
        ml_spin_unlock(&pool->shards[i].lock);
}

ml_status ml_mempool_create(ml_device *dev, bool poison, bool device_only, ml_mempool **out) {
    void *memory;
    if (posix_memalign(&memory, CACHE_LINE, sizeof(ml_mempool)) != 0)
        return ml_fail(ML_ERR_MEMORY, "out of memory for a memory pool");
    ml_mempool *pool = memset(memory, 0, sizeof *pool);
    pool->device = dev;
    pool->poison = poison;
    pool->device_only = device_only;
    atomic_init(&pool->in_use, OWNER);
    pool->fork_lock = (ml_fork_lock){.lock = lock_for_fork, .unlock = unlock_after_fork, .arg = pool};
    ml_fork_lock_add(&pool->fork_lock);
    *out = pool;
    return ML_OK;
}

void ml_mempool_close(ml_mempool *pool) {
    if (pool)
        give_up(pool, OWNER);
}

/* Takes the idle slabs of a shard out of it; the caller frees them outside the lock. */
static slab *take_idle(shard *sh) {
    slab *idle = NULL;
    ml_spin_lock(&sh->lock);
    for (int c = 0; c < CLASSES; c++)
        for (block **link = &sh->free[c]; *link;)
            if ((*link)->home->live == 0)
                *link = (*link)->next;
            else
                link = &(*link)->next;
    for (slab *s = sh->slabs, *next; s; s = next) {
        next = s->next;
        if (s->live > 0)
            continue;
        *(s->previous ? &s->previous->next : &sh->slabs) = next;
        if (next)
            next->previous = s->previous;
        sh->n_slabs--;
        sh->reserved -= (int64_t)s->block_size * s->n_blocks;
        s->next = idle;
        idle = s;
    }
    ml_spin_unlock(&sh->lock);
    return idle;
}

void ml_mempool_trim(ml_mempool *pool) {
    for (int i = 0; i < SHARDS; i++)
        free_slabs(take_idle(&pool->shards[i]));
    ml_spin_lock(&pool->large_lock);
    slab *evicted = evict_large(pool, 0);
    ml_spin_unlock(&pool->large_lock);
    free_slabs(evicted);
}

void ml_mempool_stats(ml_mempool *pool, ml_memory_stats *out) {
    ml_memory_stats s = {.bytes_in_use = atomic_load(&pool->in_use) & ~OWNER, .peak_in_use = atomic_load(&pool->peak)};
    for (int i = 0; i < SHARDS; i++) {
        shard *sh = &pool->shards[i];
        ml_spin_lock(&sh->lock);
        s.bytes_reserved += sh->reserved;
        s.allocations += sh->allocations;
        s.pool_hits += sh->hits;
        s.blocks += sh->n_slabs;
        ml_spin_unlock(&sh->lock);
    }
    ml_spin_lock(&pool->large_lock);
    s.bytes_reserved += pool->large_reserved;
    s.allocations += pool->large_allocations;
    s.pool_hits += pool->large_hits;
    s.blocks += pool->large_blocks;
    ml_spin_unlock(&pool->large_lock);
    *out = s;
}
