/* Locks of the runtime, and their state in a forked child: every registered lock is held across fork(), so the child
 * finds what it guards consistent and the lock free. */
#ifndef ML_RUNTIME_FORK_H
#define ML_RUNTIME_FORK_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* For critical sections of a few instructions. Yields when the holder seems to be off its CPU. */
typedef struct ml_spinlock {
    atomic_bool held;
} ml_spinlock;

static inline void ml_spin_lock(ml_spinlock *l) {
    while (atomic_exchange_explicit(&l->held, true, memory_order_acquire))
        for (int i = 0; atomic_load_explicit(&l->held, memory_order_relaxed); i++)
            if (i % 64 == 63)
                sched_yield();
}

static inline void ml_spin_unlock(ml_spinlock *l) {
    atomic_store_explicit(&l->held, false, memory_order_release);
}

/* Something to lock before fork() and to unlock after it, in parent and child. Embedded in what owns it. Must be added
 * and removed outside of what lock() acquires. */
typedef struct ml_fork_lock {
    void (*lock)(void *arg);
    void (*unlock)(void *arg);
    void *arg;
    struct ml_fork_lock *next, *previous;
} ml_fork_lock;

void ml_fork_lock_add(ml_fork_lock *l);
void ml_fork_lock_remove(ml_fork_lock *l);

/* A mutex of a source file, held across fork. Initialise with ML_FORK_MUTEX. */
typedef struct ml_fork_mutex {
    pthread_mutex_t mutex;
    ml_fork_lock fork_lock;
    atomic_bool added;
} ml_fork_mutex;
#define ML_FORK_MUTEX {.mutex = PTHREAD_MUTEX_INITIALIZER}

void ml_fork_mutex_lock(ml_fork_mutex *m);
void ml_fork_mutex_unlock(ml_fork_mutex *m);

/* Counts the forks between the first process and this one. Known from the first ml_fork_lock_add on. */
uint32_t ml_fork_generation(void);

#endif
