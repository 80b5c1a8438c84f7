/* Ceilings of this machine: how fast the pool's threads together can read a block of memory, and how many
 * floating-point operations they can do on registers. Both are measured with nothing else in the loop, so that a kernel
 * that is said to reach 0.9 of the ceiling really leaves a tenth on the table, and one above it was not timed properly.
 */
#include "ceiling.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "core/cpuinfo.h"
#include "core/pool.h"
#include "metallic.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

enum { MAX_THREADS = 1024, LINE = 64 };

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- one team, one measurement ---- */

typedef struct slot {
    int64_t begin, end; /* ns */
    double amount;      /* bytes or flops done between them */
    uint64_t sink;      /* keeps the compiler from dropping the work */
    char pad[LINE];
} slot;

typedef struct team {
    double (*work)(struct team *team, int member, uint64_t *sink); /* does one piece; returns its bytes or flops */
    const char *data;
    int64_t lines, ns;
    int members, pattern;
    atomic_int arrived;
    slot *slots;
} team;

/* A member keeps its piece for the whole measurement, so that the piece can live in that core's cache. All start
 * together: a thread may be woken only milliseconds later. When a member never comes (the pool was busy and the caller
 * does all of it alone), the others stop waiting; the rate below is right in any order. */
static void team_member(void *arg, int64_t task, int worker) {
    (void)worker;
    team *t = arg;
    slot *s = &t->slots[task];
    s->amount = 0;
    t->work(t, (int)task, &s->sink); /* untimed: pages, caches, clock */
    atomic_fetch_add(&t->arrived, 1);
    const int64_t patience = now_ns() + 50000000;
    while (atomic_load_explicit(&t->arrived, memory_order_acquire) < t->members && now_ns() < patience) {
    }
    s->begin = s->end = now_ns();
    do {
        s->amount += t->work(t, (int)task, &s->sink);
        s->end = now_ns();
    } while (s->end - s->begin < t->ns);
}

/* Work of the whole team per nanosecond, from the first start to the last end. */
static double team_rate(team *t) {
    atomic_store(&t->arrived, 0);
    ml_parallel(t->members, team_member, t);
    int64_t begin = INT64_MAX, end = 0;
    double amount = 0;
    for (int i = 0; i < t->members; i++) {
        const slot *s = &t->slots[i];
        begin = s->begin < begin ? s->begin : begin;
        end = s->end > end ? s->end : end;
        amount += s->amount;
    }
    return end > begin ? amount / (double)(end - begin) : 0.0;
}

/* ---- reading ----
 * Which way of walking is fastest depends on the prefetchers, so several are tried and the best counts: one stream,
 * four streams side by side (as a matrix-vector kernel walks rows), four with software prefetch. */

enum { READ_STREAM1 = 0, READ_STREAM4, READ_PREFETCH4, READ_PATTERNS };
enum { PREFETCH_LINES = 16 };

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static uint64_t read_avx512(const char *p, int64_t lines, int streams, bool ahead) {
    const int64_t part = lines / streams;
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
    if (streams == 1) {
        int64_t i = 0;
        for (; i + 4 <= part; i += 4, p += 4 * LINE) {
            s0 = _mm512_xor_si512(s0, _mm512_loadu_si512(p));
            s1 = _mm512_xor_si512(s1, _mm512_loadu_si512(p + LINE));
            s2 = _mm512_xor_si512(s2, _mm512_loadu_si512(p + 2 * LINE));
            s3 = _mm512_xor_si512(s3, _mm512_loadu_si512(p + 3 * LINE));
        }
        for (; i < part; i++, p += LINE)
            s0 = _mm512_xor_si512(s0, _mm512_loadu_si512(p));
    } else {
        const char *p1 = p + part * LINE, *p2 = p1 + part * LINE, *p3 = p2 + part * LINE;
        for (int64_t i = 0; i < part * LINE; i += LINE) {
            if (ahead) {
                _mm_prefetch(p + i + PREFETCH_LINES * LINE, _MM_HINT_T0);
                _mm_prefetch(p1 + i + PREFETCH_LINES * LINE, _MM_HINT_T0);
                _mm_prefetch(p2 + i + PREFETCH_LINES * LINE, _MM_HINT_T0);
                _mm_prefetch(p3 + i + PREFETCH_LINES * LINE, _MM_HINT_T0);
            }
            s0 = _mm512_xor_si512(s0, _mm512_loadu_si512(p + i));
            s1 = _mm512_xor_si512(s1, _mm512_loadu_si512(p1 + i));
            s2 = _mm512_xor_si512(s2, _mm512_loadu_si512(p2 + i));
            s3 = _mm512_xor_si512(s3, _mm512_loadu_si512(p3 + i));
        }
    }
    s0 = _mm512_xor_si512(_mm512_xor_si512(s0, s1), _mm512_xor_si512(s2, s3));
    return (uint64_t)_mm512_reduce_add_epi64(s0);
}

__attribute__((target("avx2"))) static uint64_t read_avx2(const char *p, int64_t lines, int streams, bool ahead) {
    const int64_t part = lines / streams;
    const char *q[4] = {p, p + part * LINE, p + 2 * part * LINE, p + 3 * part * LINE};
    __m256i s[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
    for (int64_t i = 0; i < part * LINE; i += LINE) {
        for (int j = 0; j < streams; j++) {
            if (ahead)
                _mm_prefetch(q[j] + i + PREFETCH_LINES * LINE, _MM_HINT_T0);
            s[j] = _mm256_xor_si256(s[j], _mm256_loadu_si256((const __m256i *)(q[j] + i)));
            s[3 - j] = _mm256_xor_si256(s[3 - j], _mm256_loadu_si256((const __m256i *)(q[j] + i + 32)));
        }
    }
    s[0] = _mm256_xor_si256(_mm256_xor_si256(s[0], s[1]), _mm256_xor_si256(s[2], s[3]));
    return (uint64_t)_mm256_extract_epi64(s[0], 0) ^ (uint64_t)_mm256_extract_epi64(s[0], 1) ^
           (uint64_t)_mm256_extract_epi64(s[0], 2) ^ (uint64_t)_mm256_extract_epi64(s[0], 3);
}
#endif

static uint64_t read_plain(const char *p, int64_t lines, int streams, bool ahead) {
    typedef uint64_t v2 __attribute__((vector_size(16), aligned(1), may_alias));
    const int64_t part = lines / streams;
    v2 s[4] = {{0}, {0}, {0}, {0}};
    for (int64_t i = 0; i < part * LINE; i += LINE) {
        for (int j = 0; j < streams; j++) {
            const char *q = p + j * part * LINE + i;
            if (ahead)
                __builtin_prefetch(q + PREFETCH_LINES * LINE);
            for (int l = 0; l < 4; l++)
                s[l] ^= *(const v2 *)(q + 16 * l);
        }
    }
    s[0] ^= s[1] ^ s[2] ^ s[3];
    return s[0][0] ^ s[0][1];
}

static double read_work(team *t, int member, uint64_t *sink) {
    const int64_t first = t->lines * member / t->members, count = t->lines * (member + 1) / t->members - first;
    const int streams = t->pattern == READ_STREAM1 ? 1 : 4;
    const bool ahead = t->pattern == READ_PREFETCH4;
    const char *p = t->data + first * LINE;
    /* A reading of the clock must not weigh: at least 256 KiB between two. */
    const int64_t passes = count < 1 ? 0 : (count + 4095) / count;
    for (int64_t i = 0; i < passes; i++) {
#if defined(__x86_64__)
        const uint32_t isa = ml_cpu_info_get()->isa;
        if (isa & ML_ISA_AVX512)
            *sink ^= read_avx512(p, count, streams, ahead);
        else if (isa & ML_ISA_AVX2)
            *sink ^= read_avx2(p, count, streams, ahead);
        else
#endif
            *sink ^= read_plain(p, count, streams, ahead);
    }
    const int64_t lines = count / streams * streams;
    return (double)(passes * lines * LINE);
}

/* ---- arithmetic ----
 * Independent chains of fused multiply-adds on registers: latency times issue width of current cores is at most 10.
 * Half floats accumulate in f32 here, so their peak is f32's where the machine has no dot product into f32. */

enum { CHAINS = 12, FMA_ROUNDS = 4096 };

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static double fma_avx512(uint64_t *sink) {
    __m512 acc[CHAINS];
    const __m512 x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(0.001f);
    for (int c = 0; c < CHAINS; c++)
        acc[c] = _mm512_set1_ps((float)c);
    for (int i = 0; i < FMA_ROUNDS; i++)
        for (int c = 0; c < CHAINS; c++)
            acc[c] = _mm512_fmadd_ps(acc[c], x, y);
    float sum = 0;
    for (int c = 0; c < CHAINS; c++)
        sum += _mm512_reduce_add_ps(acc[c]);
    *sink ^= (uint64_t)(sum > 1.0f);
    return 2.0 * 16 * CHAINS * FMA_ROUNDS;
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) static double dot_avx512_bf16(uint64_t *sink) {
    __m512 acc[CHAINS];
    const __m512bh x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.25f));
    const __m512bh y = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.125f), _mm512_set1_ps(-0.25f));
    for (int c = 0; c < CHAINS; c++)
        acc[c] = _mm512_set1_ps((float)c);
    for (int i = 0; i < FMA_ROUNDS; i++)
        for (int c = 0; c < CHAINS; c++)
            acc[c] = _mm512_dpbf16_ps(acc[c], x, y);
    float sum = 0;
    for (int c = 0; c < CHAINS; c++)
        sum += _mm512_reduce_add_ps(acc[c]);
    *sink ^= (uint64_t)(sum > 1.0f);
    return 4.0 * 16 * CHAINS * FMA_ROUNDS;
}

__attribute__((target("avx2,fma"))) static double fma_avx2(uint64_t *sink) {
    __m256 acc[CHAINS];
    const __m256 x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(0.001f);
    for (int c = 0; c < CHAINS; c++)
        acc[c] = _mm256_set1_ps((float)c);
    for (int i = 0; i < FMA_ROUNDS; i++)
        for (int c = 0; c < CHAINS; c++)
            acc[c] = _mm256_fmadd_ps(acc[c], x, y);
    __m256 total = acc[0];
    for (int c = 1; c < CHAINS; c++)
        total = _mm256_add_ps(total, acc[c]);
    *sink ^= (uint64_t)_mm256_movemask_ps(total);
    return 2.0 * 8 * CHAINS * FMA_ROUNDS;
}
#endif

#if defined(__aarch64__)
static double fma_plain(uint64_t *sink) {
    float32x4_t acc[CHAINS];
    const float32x4_t x = vdupq_n_f32(0.999f), y = vdupq_n_f32(0.001f);
    for (int c = 0; c < CHAINS; c++)
        acc[c] = vdupq_n_f32((float)c);
    for (int i = 0; i < FMA_ROUNDS; i++)
        for (int c = 0; c < CHAINS; c++)
            acc[c] = vfmaq_f32(acc[c], x, y);
    float sum = 0;
    for (int c = 0; c < CHAINS; c++)
        sum += vaddvq_f32(acc[c]);
    *sink ^= (uint64_t)(sum > 1.0f);
    return 2.0 * 4 * CHAINS * FMA_ROUNDS;
}
#else
static double fma_plain(uint64_t *sink) {
    typedef float v4 __attribute__((vector_size(16)));
    v4 acc[CHAINS];
    const v4 x = {0.999f, 0.998f, 0.997f, 0.996f}, y = {0.001f, 0.002f, 0.003f, 0.004f};
    for (int c = 0; c < CHAINS; c++)
        acc[c] = y * (float)c;
    for (int i = 0; i < FMA_ROUNDS; i++)
        for (int c = 0; c < CHAINS; c++)
            acc[c] = acc[c] * x + y;
    v4 total = acc[0];
    for (int c = 1; c < CHAINS; c++)
        total += acc[c];
    *sink ^= (uint64_t)(total[0] + total[1] + total[2] + total[3] > 1.0f);
    return 2.0 * 4 * CHAINS * FMA_ROUNDS;
}
#endif

static double flops_work(team *t, int member, uint64_t *sink) {
    (void)member;
#if defined(__x86_64__)
    const uint32_t isa = ml_cpu_info_get()->isa;
    if (t->pattern == ML_BF16 && (isa & ML_ISA_AVX512_BF16))
        return dot_avx512_bf16(sink);
    if (isa & ML_ISA_AVX512)
        return fma_avx512(sink);
    if (isa & ML_ISA_AVX2)
        return fma_avx2(sink);
#else
    (void)t;
#endif
    return fma_plain(sink);
}

/* ---- Python ---- */

static double measure(team *t, double seconds, int first, int last) {
    int members = ml_get_num_threads();
    t->members = members > MAX_THREADS ? MAX_THREADS : members;
    t->ns = (int64_t)(seconds * 1e9 / (last - first + 1));
    t->slots = PyMem_RawCalloc((size_t)t->members, sizeof *t->slots);
    if (!t->slots)
        return -1;
    double best = 0;
    for (t->pattern = first; t->pattern <= last; t->pattern++) {
        const double rate = team_rate(t);
        best = rate > best ? rate : best;
    }
    PyMem_RawFree(t->slots);
    return best;
}

static PyObject *measure_read_gbs(PyObject *module, PyObject *args) {
    (void)module;
    Py_buffer view;
    double seconds;
    if (!PyArg_ParseTuple(args, "y*d:_measure_read_gbs", &view, &seconds))
        return NULL;
    /* Whole cache lines only: a vector load across two of them costs twice. */
    const size_t skip = -(uintptr_t)view.buf % LINE;
    team t = {.work = read_work, .data = (const char *)view.buf + skip, .lines = (view.len - (Py_ssize_t)skip) / LINE};
    if (t.lines < 1 || !(seconds >= 0 && seconds <= 60)) {
        PyBuffer_Release(&view);
        PyErr_SetString(PyExc_ValueError, "_measure_read_gbs: needs a whole cache line and 0 to 60 seconds");
        return NULL;
    }
    double rate;
    Py_BEGIN_ALLOW_THREADS
    rate = measure(&t, seconds, READ_STREAM1, READ_PREFETCH4);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    return rate < 0 ? PyErr_NoMemory() : PyFloat_FromDouble(rate);
}

static PyObject *measure_flops(PyObject *module, PyObject *args) {
    (void)module;
    const char *name;
    double seconds;
    if (!PyArg_ParseTuple(args, "sd:_measure_flops", &name, &seconds))
        return NULL;
    int dtype = ML_F32;
    while (dtype <= ML_BF16 && strcmp(name, ml_dtype_name((ml_dtype)dtype)) != 0)
        dtype++;
    if (dtype > ML_BF16 || !(seconds >= 0 && seconds <= 60)) {
        PyErr_Format(PyExc_ValueError, "_measure_flops: needs a floating dtype (not \"%s\") and 0 to 60 seconds", name);
        return NULL;
    }
    team t = {.work = flops_work};
    double rate;
    Py_BEGIN_ALLOW_THREADS
    rate = measure(&t, seconds, dtype, dtype);
    Py_END_ALLOW_THREADS
    return rate < 0 ? PyErr_NoMemory() : PyFloat_FromDouble(rate);
}

PyMethodDef ml_ceiling_methods[] = {
    {"_measure_read_gbs", measure_read_gbs, METH_VARARGS,
     "_measure_read_gbs(buffer, seconds) -> float\n\nGB/s at which the pool's threads together read a C-contiguous "
     "buffer "
     "over and over."},
    {"_measure_flops", measure_flops, METH_VARARGS,
     "_measure_flops(dtype, seconds) -> float\n\nGFLOP/s of the pool's threads on registers, accumulating in float32; "
     "a "
     "multiply-add counts as two."},
    {NULL, NULL, 0, NULL},
};
