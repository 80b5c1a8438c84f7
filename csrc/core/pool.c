/* One pool, one job at a time.
 *
 * The job's unclaimed tasks are one 64-bit word, `claim` = (job number, first task left, tasks up to the last left).
 * Whoever wants a task shortens the range with a compare-and-swap; success proves that the job was still the one whose
 * fields (fn, arg, ...) were read just before, so a worker that wakes late can neither run a stale function nor take a
 * task twice. The caller takes tasks from the front and workers from the back: calls that repeat find much of their
 * data in the caches of the same core again. Then the caller waits only for tasks in progress: a worker that the system
 * does not schedule costs nothing.
 *
 * There is no lock to inherit across fork: `busy` is a try-lock whose loser works alone, everything else is atomic, and
 * the child's fork handler sets all of it back to the beginning.
 */
#include "core/pool.h"

#include "core/status.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__) && !defined(ML_POOL_PORTABLE)
#define ML_POOL_LINUX 1
#include <linux/futex.h>
#include <sys/syscall.h>
#else
#define ML_POOL_LINUX 0
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum {
    MAX_THREADS = 512,
    TASK_BITS = 16,             /* of each task number in the claim word: tasks that a job can have */
    WORKER_SPIN_NS = 50 * 1000, /* about what a futex wake-up costs, so that spinning at most doubles a wait */
    CALLER_SPIN_NS = 200 * 1000,
    SPINS_PER_CLOCK = 16,
    WAKE_FAN_OUT = 2 /* threads that one thread wakes; the woken wake more while tasks are left */
};
#define TASK_MASK ((UINT64_C(1) << TASK_BITS) - 1)
#define CACHE_LINE 128 /* two lines: adjacent ones are prefetched together */

typedef struct worker {
    pthread_t thread;
    int slice; /* of the allowed CPUs; -1: not pinned */
} worker;

static struct {
    _Alignas(CACHE_LINE) _Atomic uint64_t claim; /* job number, front, back: see front_of() */
    _Atomic(ml_task_fn) fn;
    _Atomic(void *) arg;
    _Atomic int64_t first; /* number of the job's task 0 */
    _Atomic int max_workers;
    atomic_bool wake; /* whoever sees tasks left wakes sleepers */
    _Atomic uint64_t fp_mode;

    _Alignas(CACHE_LINE) atomic_uint unfinished; /* tasks of the job that have not returned; a futex */
    atomic_int caller_sleeps;

    _Alignas(CACHE_LINE) atomic_uint epoch; /* raised when there is something to look at; a futex */
    atomic_int sleepers, spinners;
    atomic_int spin; /* workers and caller may spin */
    atomic_int stop;

    _Alignas(CACHE_LINE) atomic_int busy; /* 1: a thread owns the pool; guards what follows */
    int threads;                          /* the size that the workers below were started for; 0: none yet */
    int64_t last_brief_ns;                /* when the latest brief job began */
    int n_workers;
    worker workers[MAX_THREADS];
#if ML_POOL_LINUX
    int n_slices, free_slice; /* no worker is on free_slice: the caller's */
    int slice_worker[MAX_THREADS];
    int16_t cpu_slice[CPU_SETSIZE]; /* -1: not allowed */
    cpu_set_t allowed;
#endif
} pool;

/* Settings outlive a fork. */
static atomic_int wanted_threads;  /* 0: the default */
static atomic_int default_threads; /* 0: not computed */

static _Thread_local bool inside_task;

/* ---- machine ---- */

static inline void relax(void) {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* on many cores yield is a no-op */
#endif
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Rounding and denormal modes: results must not depend on which thread computes them. */
static inline uint64_t fp_mode_get(void) {
#if defined(__x86_64__)
    return _mm_getcsr() & ~0x3fu; /* without the sticky exception flags */
#elif defined(__aarch64__)
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
#else
    return 0;
#endif
}

static inline void fp_mode_set(uint64_t mode) {
#if defined(__x86_64__)
    _mm_setcsr((unsigned)mode);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" ::"r"(mode));
#else
    (void)mode;
#endif
}

/* ---- sleeping: futex, or one mutex and condition for all words ---- */

#if ML_POOL_LINUX
static void park(atomic_uint *word, unsigned expected) {
    syscall(SYS_futex, (void *)word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void unpark(atomic_uint *word, int n) {
    syscall(SYS_futex, (void *)word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}
#else
static pthread_mutex_t park_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t park_cond = PTHREAD_COND_INITIALIZER;

static void park(atomic_uint *word, unsigned expected) {
    pthread_mutex_lock(&park_mutex);
    while (atomic_load(word) == expected)
        pthread_cond_wait(&park_cond, &park_mutex);
    pthread_mutex_unlock(&park_mutex);
}

static void unpark(atomic_uint *word, int n) {
    (void)word;
    (void)n;
    pthread_mutex_lock(&park_mutex);
    pthread_cond_broadcast(&park_cond);
    pthread_mutex_unlock(&park_mutex);
}
#endif

/* ---- the job ---- */

/* Of a claim word: tasks front_of() ... back_of() - 1 are left. */
static inline int64_t back_of(uint64_t claim) {
    return (int64_t)(claim & TASK_MASK);
}
static inline int64_t front_of(uint64_t claim) {
    return (int64_t)(claim >> TASK_BITS & TASK_MASK);
}
static inline int64_t left_of(uint64_t claim) {
    return back_of(claim) - front_of(claim);
}

static inline bool tasks_left(void) {
    return left_of(atomic_load_explicit(&pool.claim, memory_order_acquire)) != 0;
}

/* Wakes sleepers when the workers that are awake are not enough for `wanted` more. */
static void wake_workers(int64_t wanted) {
    int64_t missing = wanted - atomic_load(&pool.spinners);
    if (missing > 0 && atomic_load(&pool.sleepers) > 0)
        unpark(&pool.epoch, missing < WAKE_FAN_OUT ? (int)missing : WAKE_FAN_OUT);
}

/* Runs tasks until none is left to claim. */
static void run_tasks(int id) {
    unsigned finished = 0;
    for (;;) {
        uint64_t claim = atomic_load_explicit(&pool.claim, memory_order_acquire);
        if (left_of(claim) == 0)
            break;
        /* These loads may see a later job's values; then the claim word has changed too (it was 0 left before they were
         * written) and the exchange fails. */
        ml_task_fn fn = atomic_load_explicit(&pool.fn, memory_order_acquire);
        void *arg = atomic_load_explicit(&pool.arg, memory_order_acquire);
        int64_t first = atomic_load_explicit(&pool.first, memory_order_acquire);
        uint64_t fp_mode = atomic_load_explicit(&pool.fp_mode, memory_order_acquire);
        if (id >= atomic_load_explicit(&pool.max_workers, memory_order_acquire))
            break;
        const uint64_t rest = id == 0 ? claim + (UINT64_C(1) << TASK_BITS) : claim - 1;
        if (!atomic_compare_exchange_weak_explicit(&pool.claim, &claim, rest, memory_order_acq_rel,
                                                   memory_order_relaxed))
            continue;
        if (finished == 0 && fp_mode != fp_mode_get())
            fp_mode_set(fp_mode);
        fn(arg, first + (id == 0 ? front_of(claim) : back_of(rest)), id);
        finished++;
    }
    /* The job cannot end before this, so all tasks counted belong to one job. */
    if (finished && atomic_fetch_sub(&pool.unfinished, finished) == finished && atomic_load(&pool.caller_sleeps))
        unpark(&pool.unfinished, 1);
}

static void wait_unfinished(void) {
    int64_t deadline = 0;
    bool spin = atomic_load_explicit(&pool.spin, memory_order_relaxed);
    while (spin) {
        for (int i = 0; i < SPINS_PER_CLOCK; i++) {
            if (atomic_load_explicit(&pool.unfinished, memory_order_acquire) == 0)
                return;
            relax();
        }
        int64_t now = now_ns();
        if (deadline == 0)
            deadline = now + CALLER_SPIN_NS;
        else if (now > deadline)
            break;
    }
    atomic_store(&pool.caller_sleeps, 1);
    for (unsigned left; (left = atomic_load(&pool.unfinished)) != 0;)
        park(&pool.unfinished, left);
    atomic_store(&pool.caller_sleeps, 0);
}

/* The pool is owned. Whether a brief job wakes workers that sleep: where such jobs follow each other so closely that
 * the woken stay awake for the next ones. */
static bool brief_job_wakes(void) {
    const int64_t now = now_ns(), since = now - pool.last_brief_ns;
    pool.last_brief_ns = now;
    return since < WORKER_SPIN_NS;
}

/* The pool is owned. At most TASK_MASK tasks. */
static void run_job(int64_t first, int64_t tasks, bool wake, ml_task_fn fn, void *arg) {
    uint64_t number = (atomic_load_explicit(&pool.claim, memory_order_relaxed) >> 2 * TASK_BITS) + 1;
    atomic_store_explicit(&pool.fn, fn, memory_order_release);
    atomic_store_explicit(&pool.arg, arg, memory_order_release);
    atomic_store_explicit(&pool.first, first, memory_order_release);
    atomic_store_explicit(&pool.wake, wake, memory_order_release);
    atomic_store_explicit(&pool.unfinished, (unsigned)tasks, memory_order_release);
    atomic_store(&pool.claim, number << 2 * TASK_BITS | (uint64_t)tasks);
    atomic_fetch_add(&pool.epoch, 1u);
    if (wake)
        wake_workers(tasks - 1 < pool.n_workers ? tasks - 1 : pool.n_workers);
    run_tasks(0);
    wait_unfinished();
}

/* ---- workers ---- */

/* When a worker that begins to spin now goes to sleep; 0: at once. */
static int64_t spin_end(void) {
    return atomic_load_explicit(&pool.spin, memory_order_relaxed) ? now_ns() + WORKER_SPIN_NS : 0;
}

static void *worker_main(void *p) {
    int id = (int)(intptr_t)p;
    int64_t spin_until = 0;
    inside_task = true;
    while (!atomic_load(&pool.stop)) {
        uint64_t seen = atomic_load_explicit(&pool.claim, memory_order_acquire);
        if (left_of(seen) && id < atomic_load_explicit(&pool.max_workers, memory_order_acquire)) {
            /* Pass the wake-up on before the work. `wake` is at least as new as the job seen; if it is a later job's,
             * the one seen is over and needs nobody. */
            if (atomic_load_explicit(&pool.wake, memory_order_acquire))
                wake_workers(left_of(seen) - 1);
            run_tasks(id);
            spin_until = spin_end();
            continue;
        }
        if (spin_until) {
            atomic_fetch_add(&pool.spinners, 1);
            bool found = false;
            do {
                for (int i = 0; i < SPINS_PER_CLOCK && !found; i++) {
                    relax();
                    found = tasks_left() || atomic_load_explicit(&pool.stop, memory_order_relaxed);
                }
            } while (!found && now_ns() < spin_until);
            atomic_fetch_sub(&pool.spinners, 1);
            /* Also when the caller has taken all of that job by then: others may follow. But a job that this thread may
             * not help with can be long. */
            const bool may_help = id < atomic_load_explicit(&pool.max_workers, memory_order_acquire);
            spin_until = found && may_help ? spin_end() : 0;
            if (spin_until)
                continue;
        }
        unsigned epoch = atomic_load(&pool.epoch);
        atomic_fetch_add(&pool.sleepers, 1);
        /* Sequentially consistent: either this sees the job, or its publisher sees the sleeper. A thread that may not
         * help with this job sleeps too, until the epoch moves. */
        uint64_t claim = atomic_load(&pool.claim);
        bool idle = left_of(claim) == 0 || id >= atomic_load(&pool.max_workers);
        if (idle && !atomic_load(&pool.stop))
            park(&pool.epoch, epoch);
        atomic_fetch_sub(&pool.sleepers, 1);
    }
    return NULL;
}

#if ML_POOL_LINUX
/* Cuts the allowed CPUs into as many contiguous slices as there are threads (one CPU each when the counts agree).
 * Workers get a slice each and the caller's slice stays free. */
static void plan_slices(int threads, int cpus) {
    pool.n_slices = 0;
    CPU_ZERO(&pool.allowed);
    if (threads > cpus || sched_getaffinity(getpid(), sizeof pool.allowed, &pool.allowed) != 0)
        return;
    int count = CPU_COUNT(&pool.allowed), seen = 0;
    if (count < threads)
        return;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        pool.cpu_slice[cpu] = -1;
        if (CPU_ISSET(cpu, &pool.allowed))
            pool.cpu_slice[cpu] = (int16_t)(seen++ * threads / count);
    }
    for (int i = 0; i < threads; i++)
        pool.slice_worker[i] = -1;
    pool.n_slices = threads;
    int cpu = sched_getcpu();
    pool.free_slice = cpu >= 0 && cpu < CPU_SETSIZE && pool.cpu_slice[cpu] >= 0 ? pool.cpu_slice[cpu] : 0;
}

static void move_worker(int index, int slice) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &pool.allowed) && pool.cpu_slice[cpu] == slice)
            CPU_SET(cpu, &set);
    }
    pthread_setaffinity_np(pool.workers[index].thread, sizeof set, &set);
    pool.workers[index].slice = slice;
    pool.slice_worker[slice] = index;
}

static void place_new_worker(int index) {
    pool.workers[index].slice = -1;
    for (int slice = 0; slice < pool.n_slices; slice++) {
        if (slice != pool.free_slice && pool.slice_worker[slice] < 0) {
            move_worker(index, slice);
            return;
        }
    }
}

/* The caller runs on a worker's slice: that worker changes to the free one. A woken thread that shares its waker's CPU
 * may wait there for the next timer tick. */
static void keep_off_callers_cpu(void) {
    if (pool.n_slices == 0)
        return;
    int cpu = sched_getcpu();
    int slice = cpu >= 0 && cpu < CPU_SETSIZE ? pool.cpu_slice[cpu] : -1;
    if (slice < 0 || slice == pool.free_slice)
        return;
    int index = pool.slice_worker[slice];
    pool.slice_worker[slice] = -1;
    if (index >= 0)
        move_worker(index, pool.free_slice);
    pool.free_slice = slice;
}
#else
static void plan_slices(int threads, int cpus) {
    (void)threads;
    (void)cpus;
}

static void place_new_worker(int index) {
    pool.workers[index].slice = -1;
}

static void keep_off_callers_cpu(void) {
}
#endif

/* The pool is owned and idle. */
static void stop_workers(void) {
    atomic_store(&pool.stop, 1);
    atomic_fetch_add(&pool.epoch, 1u);
    unpark(&pool.epoch, INT_MAX);
    for (int i = 0; i < pool.n_workers; i++)
        pthread_join(pool.workers[i].thread, NULL);
    atomic_store(&pool.stop, 0);
    pool.n_workers = 0;
    pool.threads = 0;
}

/* The pool is owned and idle. Fewer workers than asked for is not an error: the others do the work. */
static void start_workers(int threads) {
    int cpus = ml_cpu_count();
    atomic_store(&pool.spin, threads <= cpus);
    plan_slices(threads, cpus);
    sigset_t all, old;
    sigfillset(&all); /* signals belong to the application's threads */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int i = 0; i < threads - 1; i++) {
        if (pthread_create(&pool.workers[i].thread, NULL, worker_main, (void *)(intptr_t)(i + 1)) != 0)
            break;
        pool.n_workers++;
        place_new_worker(i);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pool.threads = threads;
}

static bool own_pool(void) {
    int idle = 0;
    return atomic_load_explicit(&pool.busy, memory_order_relaxed) == 0 &&
           atomic_compare_exchange_strong_explicit(&pool.busy, &idle, 1, memory_order_acquire, memory_order_relaxed);
}

static void disown_pool(void) {
    atomic_store_explicit(&pool.busy, 0, memory_order_release);
}

/* ---- fork, unload ---- */

/* Only the forking thread lives on in the child: no workers, no job. */
static void restart_in_child(void) {
    atomic_init(&pool.claim, 0);
    atomic_init(&pool.unfinished, 0);
    atomic_init(&pool.caller_sleeps, 0);
    atomic_init(&pool.sleepers, 0);
    atomic_init(&pool.spinners, 0);
    atomic_init(&pool.stop, 0);
    pool.threads = 0;
    pool.n_workers = 0;
#if !ML_POOL_LINUX
    pthread_mutex_init(&park_mutex, NULL);
    pthread_cond_init(&park_cond, NULL);
#endif
    atomic_init(&pool.busy, 0);
}

__attribute__((constructor)) static void register_fork_handler(void) {
    pthread_atfork(NULL, NULL, restart_in_child);
}

/* Workers must not outlive the code they run when the library is unloaded. A pool that is in use stays: the process is
 * on its way out then. */
__attribute__((destructor)) static void stop_at_unload(void) {
    if (own_pool())
        stop_workers();
}

/* ---- interface ---- */

int ml_cpu_count(void) {
    int count = 0;
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(getpid(), sizeof set, &set) == 0)
        count = CPU_COUNT(&set);
#endif
    if (count <= 0)
        count = (int)sysconf(_SC_NPROCESSORS_ONLN);
#if defined(__linux__)
    double quota = ml_cgroup_cpu_quota("/proc/self/mountinfo", "/proc/self/cgroup");
    if (quota > 0 && quota < count) {
        int whole = (int)quota;
        count = whole + (quota > whole);
    }
#endif
    return count < 1 ? 1 : count;
}

static int clamp_threads(long n) {
    return n > MAX_THREADS ? MAX_THREADS : (int)n;
}

bool ml_threads_from_text(const char *text, int *out) {
    static const char blanks[] = " \t\r\n\v\f";
    text += strspn(text, blanks);
    size_t length = strlen(text);
    while (length > 0 && strchr(blanks, text[length - 1]))
        length--;
    if (length == 4 && strncasecmp(text, "auto", 4) == 0) {
        *out = 0;
        return true;
    }
    int n = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9' || n > ML_THREADS_TEXT_MAX)
            return false;
        n = 10 * n + (text[i] - '0');
    }
    if (n < 1 || n > ML_THREADS_TEXT_MAX)
        return false;
    *out = n;
    return true;
}

static int compute_default(void) {
    const char *text = getenv("METALLIC_NUM_THREADS");
    int n = 0;
    return clamp_threads(text && ml_threads_from_text(text, &n) && n > 0 ? n : ml_cpu_count());
}

void ml_set_num_threads(int n) {
    if (n < 1)
        atomic_store(&default_threads, compute_default());
    atomic_store(&wanted_threads, n < 1 ? 0 : clamp_threads(n));
}

int ml_get_num_threads(void) {
    int n = atomic_load_explicit(&wanted_threads, memory_order_relaxed);
    if (n > 0)
        return n;
    n = atomic_load_explicit(&default_threads, memory_order_relaxed);
    if (n == 0) {
        n = compute_default();
        atomic_store(&default_threads, n);
    }
    return n;
}

static void parallel(int64_t tasks, int max_workers, bool brief, ml_task_fn fn, void *arg) {
    int threads = tasks > 1 && max_workers > 1 && !inside_task ? ml_get_num_threads() : 1;
    bool outermost = !inside_task;
    inside_task = true;
    if (threads > 1 && own_pool()) {
        if (pool.threads != threads) {
            stop_workers();
            start_workers(threads);
        }
        keep_off_callers_cpu();
        atomic_store_explicit(&pool.max_workers, max_workers, memory_order_release);
        atomic_store_explicit(&pool.fp_mode, fp_mode_get(), memory_order_release);
        const bool wake = !brief || brief_job_wakes();
        for (int64_t first = 0; first < tasks; first += (int64_t)TASK_MASK) {
            int64_t rest = tasks - first;
            run_job(first, rest < (int64_t)TASK_MASK ? rest : (int64_t)TASK_MASK, wake, fn, arg);
        }
        disown_pool();
    } else {
        for (int64_t task = 0; task < tasks; task++)
            fn(arg, task, 0);
    }
    if (outermost)
        inside_task = false;
}

void ml_parallel_limit(int64_t tasks, int max_workers, ml_task_fn fn, void *arg) {
    parallel(tasks, max_workers, false, fn, arg);
}

void ml_parallel(int64_t tasks, ml_task_fn fn, void *arg) {
    parallel(tasks, INT_MAX, false, fn, arg);
}

void ml_parallel_brief(int64_t tasks, ml_task_fn fn, void *arg) {
    parallel(tasks, INT_MAX, true, fn, arg);
}
