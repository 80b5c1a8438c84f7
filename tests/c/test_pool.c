/* The thread pool: every task runs exactly once whatever the number of threads, callers and forks. Prints the cost of a
 * call for information; nothing here depends on time except a limit against hanging. */
#include "core/pool.h"
#include "metallic.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

/* The sanitizers' own run-time libraries do not survive every fork: ThreadSanitizer refuses threads in the child of a
 * process with threads, AddressSanitizer's allocator may be locked when another thread forks. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BUILT_WITH_TSAN 1
#endif
#if __has_feature(address_sanitizer)
#define BUILT_WITH_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define BUILT_WITH_TSAN 1
#endif
#if defined(__SANITIZE_ADDRESS__)
#define BUILT_WITH_ASAN 1
#endif

static int failures;

static void fail(const char *what, int64_t got, int64_t want) {
    fprintf(stderr, "FAILED: %s: got %lld, want %lld\n", what, (long long)got, (long long)want);
    failures++;
}

static void expect(const char *what, int64_t got, int64_t want) {
    if (got != want)
        fail(what, got, want);
}

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

/* ---- every task once, worker in range, one task at a time per worker ---- */

enum { MAX_TASKS = 5000, MAX_WORKERS = 64 };

typedef struct count_job {
    int runs[MAX_TASKS]; /* plain: a task has one owner */
    atomic_int in_use[MAX_WORKERS];
    atomic_int bad_worker, shared_worker;
    int limit, work;
} count_job;

static void count_task(void *arg, int64_t task, int worker) {
    count_job *job = arg;
    if (worker < 0 || worker >= job->limit) {
        atomic_fetch_add(&job->bad_worker, 1);
        return;
    }
    if (atomic_exchange(&job->in_use[worker], 1))
        atomic_fetch_add(&job->shared_worker, 1);
    volatile int sink = 0;
    for (int i = 0; i < job->work; i++)
        sink = sink + i;
    job->runs[task]++;
    atomic_store(&job->in_use[worker], 0);
}

static void check_counts(int64_t tasks, int limit, int work) {
    count_job *job = calloc(1, sizeof *job);
    job->limit = limit;
    job->work = work;
    ml_parallel_limit(tasks, limit, count_task, job);
    int64_t wrong = 0;
    for (int64_t i = 0; i < MAX_TASKS; i++)
        wrong += job->runs[i] != (i < tasks);
    expect("tasks that did not run exactly once", wrong, 0);
    expect("worker ids out of range", job->bad_worker, 0);
    expect("two tasks at once on one worker id", job->shared_worker, 0);
    free(job);
}

static void test_counts(int threads) {
    static const int64_t sizes[] = {0, 1, 2, 3, 7, 64, 1000, MAX_TASKS};
    ml_set_num_threads(threads);
    expect("ml_get_num_threads", ml_get_num_threads(), threads);
    for (int repeat = 0; repeat < 20; repeat++) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            check_counts(sizes[i], threads, repeat % 3 * 50);
    }
    check_counts(1000, 1, 10); /* fewer workers than threads: the others must keep out */
    check_counts(1000, 2, 10);
}

/* ---- nesting ---- */

typedef struct nest_job {
    atomic_int inner, outside;
} nest_job;

static void inner_task(void *arg, int64_t task, int worker) {
    nest_job *job = arg;
    atomic_fetch_add(&job->inner, 1);
    if (worker != 0)
        atomic_fetch_add(&job->outside, 1);
    (void)task;
}

static void outer_task(void *arg, int64_t task, int worker) {
    ml_parallel(10, inner_task, arg);
    (void)task;
    (void)worker;
}

static void test_nesting(void) {
    nest_job job = {0};
    ml_parallel(100, outer_task, &job);
    expect("nested tasks", job.inner, 1000);
    expect("nested tasks that left their caller", job.outside, 0);
}

/* ---- many callers, resizing meanwhile ---- */

static atomic_int stop_resizing;

static void *caller_main(void *arg) {
    for (int i = 0; i < 200; i++)
        check_counts(1 + (i * 37) % 300, MAX_WORKERS, i % 5 * 40);
    return arg;
}

static void *resizer_main(void *arg) {
    static const int sizes[] = {1, 2, 7, 3, 5};
    for (int i = 0; !atomic_load(&stop_resizing); i++) {
        ml_set_num_threads(sizes[i % 5]);
        usleep(500);
    }
    return arg;
}

static void test_callers(bool resize) {
    pthread_t callers[4], resizer;
    atomic_store(&stop_resizing, 0);
    if (resize)
        pthread_create(&resizer, NULL, resizer_main, NULL);
    for (int i = 0; i < 4; i++)
        pthread_create(&callers[i], NULL, caller_main, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(callers[i], NULL);
    atomic_store(&stop_resizing, 1);
    if (resize)
        pthread_join(resizer, NULL);
}

/* ---- fork ---- */

static void expect_child_ok(const char *what, pid_t pid) {
    for (int waited = 0; waited < 2000; waited++) { /* 20 s: a child that hangs is a failure, not a hang */
        int status = 0;
        if (waitpid(pid, &status, WNOHANG) == pid) {
            expect(what, status, 0);
            return;
        }
        usleep(10000);
    }
    fail(what, -1, 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void fork_once(void) {
    pid_t pid = fork();
    if (pid == 0) {
        failures = 0;
        for (int i = 0; i < 10; i++)
            check_counts(100, MAX_WORKERS, 20);
        pid_t grandchild = fork();
        if (grandchild == 0) {
            check_counts(100, MAX_WORKERS, 20);
            _exit(failures != 0);
        }
        expect_child_ok("grandchild", grandchild);
        _exit(failures != 0);
    }
    expect_child_ok("child", pid);
    check_counts(100, MAX_WORKERS, 20);
}

static atomic_int stop_working;

static void *busy_main(void *arg) {
    while (!atomic_load(&stop_working))
        check_counts(200, MAX_WORKERS, 500);
    return arg;
}

static void test_fork(void) {
#if defined(BUILT_WITH_TSAN)
    printf("skipped: fork (ThreadSanitizer cannot follow it)\n");
    return;
#endif
    if (getenv("TEST_IN_EMULATOR")) {
        printf("skipped: fork (an emulator's own threads do not survive it)\n");
        return;
    }
    fork_once();
#if defined(BUILT_WITH_ASAN)
    printf("skipped: fork while busy (AddressSanitizer's allocator cannot follow it)\n");
    return;
#endif
    pthread_t busy;
    atomic_store(&stop_working, 0);
    pthread_create(&busy, NULL, busy_main, NULL);
    for (int i = 0; i < 10; i++) {
        usleep(1000);
        fork_once();
    }
    atomic_store(&stop_working, 1);
    pthread_join(busy, NULL);
}

/* ---- cgroup quota ---- */

static void write_file(const char *dir, const char *name, const char *text) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (f) {
        fputs(text, f);
        fclose(f);
    }
}

/* A tree below a temporary directory in the place of /sys/fs/cgroup and /proc/self. */
static void test_cgroup(void) {
    char base[] = "/tmp/metallic pool XXXXXX"; /* the blank is written \040 in mountinfo */
    if (!mkdtemp(base)) {
        fail("mkdtemp", 0, 1);
        return;
    }
    char escaped[64] = "", dir[256], leaf[256], mountinfo[300], group[300], text[600];
    for (const char *p = base; *p; p++)
        snprintf(escaped + strlen(escaped), sizeof escaped - strlen(escaped), *p == ' ' ? "\\040" : "%c", *p);
    snprintf(dir, sizeof dir, "%s/outer", base);
    snprintf(leaf, sizeof leaf, "%s/outer/leaf", base);
    mkdir(dir, 0700);
    mkdir(leaf, 0700);
    snprintf(mountinfo, sizeof mountinfo, "%s/mountinfo", base);
    snprintf(group, sizeof group, "%s/cgroup", base);

    snprintf(text, sizeof text, "30 24 0:27 / %s rw,nosuid shared:4 - cgroup2 cgroup2 rw\n", escaped);
    write_file(base, "mountinfo", text);
    write_file(base, "cgroup", "0::/outer/leaf\n");
    write_file(leaf, "cpu.max", "max 100000\n");
    expect("v2 without a quota", (int64_t)(10 * ml_cgroup_cpu_quota(mountinfo, group)), 0);
    write_file(leaf, "cpu.max", "400000 100000\n");
    expect("v2 quota * 10", (int64_t)(10 * ml_cgroup_cpu_quota(mountinfo, group)), 40);
    write_file(dir, "cpu.max", "150000 100000\n");
    expect("v2 quota of the parent * 10", (int64_t)(10 * ml_cgroup_cpu_quota(mountinfo, group)), 15);

    snprintf(text, sizeof text, "31 24 0:28 /docker/x %s/outer rw - cgroup cgroup rw,cpu,cpuacct\n", escaped);
    write_file(base, "mountinfo", text);
    write_file(base, "cgroup", "5:cpu,cpuacct:/docker/x/leaf\n4:memory:/other\n");
    write_file(leaf, "cpu.cfs_quota_us", "-1\n");
    write_file(leaf, "cpu.cfs_period_us", "100000\n");
    expect("v1 without a quota", (int64_t)(10 * ml_cgroup_cpu_quota(mountinfo, group)), 0);
    write_file(leaf, "cpu.cfs_quota_us", "250000\n");
    expect("v1 quota * 10", (int64_t)(10 * ml_cgroup_cpu_quota(mountinfo, group)), 25);
    expect("no such files", (int64_t)ml_cgroup_cpu_quota("/nonexistent", group), 0);

    static const char *const names[] = {"outer/leaf/cpu.max",
                                        "outer/leaf/cpu.cfs_quota_us",
                                        "outer/leaf/cpu.cfs_period_us",
                                        "outer/cpu.max",
                                        "mountinfo",
                                        "cgroup",
                                        "outer/leaf",
                                        "outer"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(text, sizeof text, "%s/%s", base, names[i]);
        remove(text);
    }
    rmdir(base);
}

/* ---- cost of a call, for information ---- */

static void empty_task(void *arg, int64_t task, int worker) {
    (void)arg;
    (void)task;
    (void)worker;
}

typedef struct latency_job {
    _Atomic double other_started; /* when a task first ran on another thread */
} latency_job;

/* The caller's task waits (boundedly) for the other one, so that the second thread's start is seen. */
static void latency_task(void *arg, int64_t task, int worker) {
    latency_job *job = arg;
    (void)task;
    double start = now_us();
    if (worker != 0)
        atomic_store(&job->other_started, start);
    while (worker == 0 && atomic_load(&job->other_started) == 0 && now_us() - start < 300)
        ;
}

/* Where each of two tasks of a few microseconds ran. */
static void brief_task(void *arg, int64_t task, int worker) {
    ((int *)arg)[task] = worker;
    for (double end = now_us() + 5; now_us() < end;)
        ;
}

static void test_brief(void) {
    enum { ROUNDS = 200 };
    ml_set_num_threads(2);
    int alone = 0, shared = 0;
    for (int i = 0; i < ROUNDS && !alone; i++) { /* after a pause: whoever sleeps goes on sleeping */
        int worker[2] = {-1, -1};
        usleep(2000);
        ml_parallel_brief(2, brief_task, worker);
        expect("brief: task 0 ran", worker[0] >= 0, 1);
        expect("brief: task 1 ran", worker[1] >= 0, 1);
        alone += worker[0] == 0 && worker[1] == 0;
    }
    expect("brief: without help after a pause", alone > 0, 1);
    const double end = now_us() + 2e6;
    for (int i = 0; (i < ROUNDS || !shared) && now_us() < end; i++) { /* one after the other: a worker is woken */
        int worker[2] = {-1, -1};
        ml_parallel_brief(2, brief_task, worker);
        expect("brief: task 0 of many ran", worker[0] >= 0, 1);
        expect("brief: task 1 of many ran", worker[1] >= 0, 1);
        shared += worker[0] != worker[1];
    }
    if (ml_cpu_count() > 1)
        expect("brief: helped where calls follow closely", shared > 0, 1);
}

/* ---- who sleeps and who is woken, of four threads on however few CPUs ---- */

#if defined(__linux__) && !defined(ML_POOL_PORTABLE)
#define FOUR_THREADS 1
static int pretended_cpus; /* 0: the truth */

/* In the place of the C library's: workers spin only where there is a CPU for each. */
int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set) {
    CPU_ZERO_S(size, set);
    if (syscall(SYS_sched_getaffinity, pid, size, set) < 0)
        return -1;
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT_S(size, set) < pretended_cpus; cpu++)
        CPU_SET_S(cpu, size, set);
    return 0;
}

/* Waits until every other thread of the process sleeps. */
static bool all_others_sleep(void) {
    const double end = now_us() + 2e6;
    while (now_us() < end) {
        DIR *tasks = opendir("/proc/self/task");
        if (!tasks)
            return false;
        bool awake = false;
        for (struct dirent *entry; (entry = readdir(tasks));) {
            long id = strtol(entry->d_name, NULL, 10);
            if (id == 0 || id == getpid())
                continue;
            char path[64], text[256] = "";
            snprintf(path, sizeof path, "/proc/self/task/%ld/stat", id);
            FILE *f = fopen(path, "r");
            if (!f)
                continue;
            const char *name_end = fgets(text, sizeof text, f) ? strrchr(text, ')') : NULL;
            awake = awake || !name_end || strncmp(name_end, ") S", 3) != 0;
            fclose(f);
        }
        closedir(tasks);
        if (!awake)
            return true;
        usleep(100);
    }
    return false;
}

static void sleeping_task(void *arg, int64_t task, int worker) {
    atomic_int *runs = arg;
    atomic_fetch_add(&runs[worker], 1);
    usleep(100);
    (void)task;
}

static void sleeping_long_task(void *arg, int64_t task, int worker) {
    atomic_int *runs = arg;
    atomic_fetch_add(&runs[worker], 1);
    usleep(1000);
    (void)task;
}

/* One of three workers is awake and takes tasks of a brief job: the two that sleep go on sleeping. */
static void test_brief_wakes_nobody(void) {
    int rounds = 0, helped = 0;
    for (const double end = now_us() + 3e6; rounds < 200 && helped < 20 && now_us() < end; rounds++) {
        if (!all_others_sleep()) {
            printf("skipped: brief jobs of four threads (the others do not come to rest)\n");
            return;
        }
        latency_job woken = {0};
        ml_parallel(2, latency_task, &woken);
        atomic_int runs[4] = {0, 0, 0, 0};
        ml_parallel_brief(20, sleeping_task, runs);
        int workers = 0;
        for (int id = 1; id < 4; id++)
            workers += runs[id] > 0;
        if (workers > 1) {
            fail("brief: workers that helped when one was awake", workers, 1);
            return;
        }
        helped += workers;
    }
    printf("brief job, one of three workers awake: it helped in %d of %d rounds\n", helped, rounds);
}

static double cpu_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

/* Workers that are awake and may not help with a long job go to sleep. Its tasks sleep too, so what the process uses
 * meanwhile is what waiting threads use; other processes can only make it less. */
static void test_excluded_workers_sleep(void) {
    enum { ROUNDS = 10, TASKS = 50 };
    double wall = 0, cpu = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int ran[8];
        atomic_int runs[4] = {0, 0, 0, 0};
        for (int i = 0; i < 50; i++)
            ml_parallel(8, brief_task, ran);
        wall -= now_us();
        cpu -= cpu_us();
        ml_parallel_limit(TASKS, 2, sleeping_long_task, runs);
        wall += now_us();
        cpu += cpu_us();
        expect("limit 2: tasks of the first two", runs[0] + runs[1], TASKS);
    }
    printf("job of two of four threads: %.0f us of CPU time in %.0f us\n", cpu, wall);
    if (cpu > wall / 4)
        fail("limit 2: us of CPU time while all tasks sleep", (int64_t)cpu, (int64_t)(wall / 4));
}

static void test_four_threads(void) {
    if (getenv("TEST_IN_EMULATOR")) {
        printf("skipped: four threads (an emulator has threads of its own)\n");
        return;
    }
    pretended_cpus = 4;
    if (ml_cpu_count() < 4)
        printf("skipped: four threads (a CPU quota)\n");
    else {
        ml_set_num_threads(4);
        test_excluded_workers_sleep();
        test_brief_wakes_nobody();
    }
    pretended_cpus = 0;
    ml_set_num_threads(1); /* what comes next starts its own */
}
#endif

static int compare_double(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_latency(const char *what, int pause_us) {
    enum { ROUNDS = 200 };
    double wake[ROUNDS], call[ROUNDS];
    int woken = 0;
    for (int i = 0; i < ROUNDS; i++) {
        latency_job job = {0};
        if (pause_us)
            usleep((unsigned)pause_us);
        double start = now_us();
        ml_parallel(2, latency_task, &job);
        if (job.other_started > 0)
            wake[woken++] = job.other_started - start;
        if (pause_us)
            usleep((unsigned)pause_us);
        start = now_us();
        ml_parallel(2, empty_task, NULL);
        call[i] = now_us() - start;
    }
    qsort(wake, (size_t)woken, sizeof wake[0], compare_double);
    qsort(call, ROUNDS, sizeof call[0], compare_double);
    printf("%-16s second thread starts after %6.1f us (median of %d; 90 %%: %.1f), empty call %5.2f us\n", what,
           woken ? wake[woken / 2] : -1.0, woken, woken ? wake[woken * 9 / 10] : -1.0, call[ROUNDS / 2]);
}

int main(void) {
    alarm(300);
    static const int sizes[] = {1, 2, 7, 3};
    printf("CPUs: %d\n", ml_cpu_count());
    test_cgroup();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        test_counts(sizes[i]);
        test_nesting();
    }
    test_brief();
#if defined(FOUR_THREADS)
    test_four_threads();
#endif
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        ml_set_num_threads(sizes[i]);
        test_callers(false);
        test_fork();
    }
    test_callers(true);
    ml_set_num_threads(0);
    printf("default threads: %d\n", ml_get_num_threads());
    if (ml_get_num_threads() > 1) {
        print_latency("hot", 0);
        print_latency("20 us apart", 20);
        print_latency("2 ms apart", 2000);
    }
    printf(failures ? "%d failures\n" : "ok\n", failures);
    return failures != 0;
}
