/* How long two threads take to read a block, half each, when every call begins and ends together: the least that a
 * product of one row can take here, however its kernel is written. x86-64 with AVX-512, two CPUs.
 *
 *     gcc -O2 -march=native -pthread benches/read_halves.c -o read_halves && ./read_halves
 */
#define _GNU_SOURCE
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { MAX_BYTES = 32 << 20, HUGE_PAGE = 2 << 20, STEP = 512, MAX_CALLS = 4000, STOP = -1 };
static const double US_PER_SIZE = 700e3;

static _Atomic long call, finished; /* numbers of the call asked for, and of the last one that the helper has done */
static char *block;
static size_t bytes;
static volatile float result;

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void pin_to(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void read_all(const char *p, size_t n) {
    __m512 sums[8];
    for (int i = 0; i < 8; i++)
        sums[i] = _mm512_setzero_ps();
    for (size_t at = 0; at < n; at += STEP)
        for (int i = 0; i < 8; i++)
            sums[i] = _mm512_add_ps(sums[i], _mm512_load_ps((const void *)(p + at + 64 * i)));
    for (int i = 1; i < 8; i++)
        sums[0] = _mm512_add_ps(sums[0], sums[i]);
    result = _mm512_reduce_add_ps(sums[0]);
}

static void *helper(void *unused) {
    (void)unused;
    pin_to(1);
    for (long seen = 0;;) {
        while (atomic_load(&call) == seen)
            _mm_pause();
        seen = atomic_load(&call);
        if (seen == STOP)
            return NULL;
        read_all(block + bytes / 2, bytes / 2);
        atomic_store(&finished, seen);
    }
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(void) {
    static const size_t sizes[] = {896 * 896 * 4, 1152 * 896 * 4, 4864 * 896 * 4,
                                   896 * 896 * 2, 1152 * 896 * 2, 4864 * 896 * 2};
    static double times[MAX_CALLS];
    pin_to(0);
    char *memory = mmap(NULL, MAX_BYTES + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return 1;
    block = memory + (-(uintptr_t)memory & (HUGE_PAGE - 1));
    madvise(block, MAX_BYTES, MADV_HUGEPAGE);
    for (size_t i = 0; i < MAX_BYTES; i += 4096)
        block[i] = 0;
    pthread_t thread;
    if (pthread_create(&thread, NULL, helper, NULL) != 0)
        return 1;
    long number = 0;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        bytes = sizes[s] / (2 * STEP) * (2 * STEP);
        int n = 0;
        for (double end = now_us() + US_PER_SIZE; n < MAX_CALLS && now_us() < end; n++) {
            const double start = now_us();
            atomic_store(&call, ++number);
            read_all(block, bytes / 2);
            while (atomic_load(&finished) != number)
                _mm_pause();
            times[n] = now_us() - start;
        }
        qsort(times, (size_t)n, sizeof times[0], ascending);
        printf("%9zu bytes: least %6.1f us, median %6.1f us, %4.0f GB/s\n", bytes, times[0], times[n / 2],
               (double)bytes / times[n / 2] * 1e-3);
    }
    atomic_store(&call, STOP);
    pthread_join(thread, NULL);
    return 0;
}
