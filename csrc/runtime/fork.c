#include "runtime/fork.h"

#include <stddef.h>

static pthread_mutex_t list_mutex = PTHREAD_MUTEX_INITIALIZER;
static ml_fork_lock *list;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static atomic_uint generation;

static void before_fork(void) {
    pthread_mutex_lock(&list_mutex);
    for (ml_fork_lock *l = list; l; l = l->next)
        l->lock(l->arg);
}

static void after_fork(void) {
    for (ml_fork_lock *l = list; l; l = l->next)
        l->unlock(l->arg);
    pthread_mutex_unlock(&list_mutex);
}

static void after_fork_in_child(void) {
    atomic_fetch_add(&generation, 1);
    after_fork();
}

static void install(void) {
    pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

static void lock_list(void) {
    pthread_once(&once, install);
    pthread_mutex_lock(&list_mutex);
}

static void link_lock(ml_fork_lock *l) {
    l->previous = NULL;
    l->next = list;
    if (list)
        list->previous = l;
    list = l;
}

void ml_fork_lock_add(ml_fork_lock *l) {
    lock_list();
    link_lock(l);
    pthread_mutex_unlock(&list_mutex);
}

void ml_fork_lock_remove(ml_fork_lock *l) {
    pthread_mutex_lock(&list_mutex);
    if (l->previous)
        l->previous->next = l->next;
    else
        list = l->next;
    if (l->next)
        l->next->previous = l->previous;
    pthread_mutex_unlock(&list_mutex);
}

static void lock_mutex(void *arg) {
    pthread_mutex_lock(arg);
}

static void unlock_mutex(void *arg) {
    pthread_mutex_unlock(arg);
}

void ml_fork_mutex_lock(ml_fork_mutex *m) {
    if (!atomic_load_explicit(&m->added, memory_order_acquire)) {
        lock_list();
        if (!atomic_load_explicit(&m->added, memory_order_relaxed)) {
            m->fork_lock = (ml_fork_lock){.lock = lock_mutex, .unlock = unlock_mutex, .arg = &m->mutex};
            link_lock(&m->fork_lock);
            atomic_store_explicit(&m->added, true, memory_order_release);
        }
        pthread_mutex_unlock(&list_mutex);
    }
    pthread_mutex_lock(&m->mutex);
}

void ml_fork_mutex_unlock(ml_fork_mutex *m) {
    pthread_mutex_unlock(&m->mutex);
}

uint32_t ml_fork_generation(void) {
    return atomic_load_explicit(&generation, memory_order_relaxed);
}
