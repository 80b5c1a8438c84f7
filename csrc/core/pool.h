/* The process's one pool of CPU threads.
 *
 * Workers are started when first needed, pinned one per allowed CPU, spin briefly after work and then sleep. A call is
 * served by the caller plus workers; when the pool is busy with another thread's call, or the call is made from inside
 * a task, the caller does all of it alone. The pool starts anew in a forked child.
 */
#ifndef ML_CORE_POOL_H
#define ML_CORE_POOL_H

#include <stdbool.h>
#include <stdint.h>

/* task in [0, tasks); worker in [0, ml_get_num_threads() at the time of the call). Which worker runs a task is not
 * determined, so results must not depend on it: worker only selects scratch memory. */
typedef void (*ml_task_fn)(void *arg, int64_t task, int worker);

/* Runs fn for every task once and returns when all are done. tasks <= 1 never leaves the caller. The caller takes tasks
 * from the first on, workers from the last on, in whatever order they come: with two threads, each finds much of what
 * it had in its caches when the same call comes again; with more, who wants that deals out runs of tasks of its own. */
void ml_parallel(int64_t tasks, ml_task_fn fn, void *arg);

/* The same for a few microseconds of work, less than it takes to wake a thread: workers that are awake help, and those
 * that sleep are woken only where such calls follow each other so closely that they stay awake. */
void ml_parallel_brief(int64_t tasks, ml_task_fn fn, void *arg);

/* The same with worker in [0, max_workers): for callers whose per-worker scratch was sized before the call, so that
 * another thread's ml_set_num_threads() in between cannot make worker exceed it. */
void ml_parallel_limit(int64_t tasks, int max_workers, ml_task_fn fn, void *arg);

/* A number of threads as METALLIC_NUM_THREADS has it: a whole number from 1 (at most ML_THREADS_TEXT_MAX), or "auto"
 * (0) in any case; blanks around it do not count. False, *out untouched: anything else. The environment is read by this
 * alone, so that what a warning calls unset is unset for the pool too. */
#define ML_THREADS_TEXT_MAX 4096
bool ml_threads_from_text(const char *text, int *out);

/* CPUs this process may use: affinity, cgroup quota (rounded up), at least 1. */
int ml_cpu_count(void);

/* CPU quota of the cgroups (v1 and v2, ancestors included) that this process is in, in CPUs; 0 when there is none. The
 * arguments are the paths of /proc/self/mountinfo and /proc/self/cgroup. */
double ml_cgroup_cpu_quota(const char *mountinfo_path, const char *cgroup_path);

#endif
