/* Backend "mps": sgemm and sgemv of a CBLAS that is loaded at run time. The library is kept to one thread; the work is
 * cut into blocks of C and items of the batch for our own pool, so two pools never compete for the CPUs. */
#include "device/cpu/cpu.h"
#include "device/cpu/vendor.h"

#include <dlfcn.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* cblas.h's enumerations. */
enum { ROW_MAJOR = 101, COL_MAJOR = 102, NO_TRANS = 111, TRANS = 112 };

/* Builds with 32-bit integers (LP64), and those with 64-bit integers, whose symbols end in "64_". */
typedef void (*sgemm32_fn)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda,
                           const float *b, int ldb, float beta, float *c, int ldc);
typedef void (*sgemm64_fn)(int order, int ta, int tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                           int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
typedef void (*sgemv32_fn)(int order, int trans, int m, int n, float alpha, const float *a, int lda, const float *x,
                           int incx, float beta, float *y, int incy);
typedef void (*sgemv64_fn)(int order, int trans, int64_t m, int64_t n, float alpha, const float *a, int64_t lda,
                           const float *x, int64_t incx, float beta, float *y, int64_t incy);

static struct {
    sgemm32_fn sgemm32;
    sgemm64_fn sgemm64;
    sgemv32_fn sgemv32;
    sgemv64_fn sgemv64;
    char name[64], path[4096], reason[4600];
} blas;
static pthread_once_t load_once = PTHREAD_ONCE_INIT;
static pthread_mutex_t path_mutex = PTHREAD_MUTEX_INITIALIZER;
static char wanted_path[4096];

/* ---- loading ---- */

void ml_set_openblas_path(const char *path) {
    pthread_mutex_lock(&path_mutex);
    snprintf(wanted_path, sizeof wanted_path, "%s", path ? path : "");
    pthread_mutex_unlock(&path_mutex);
}

/* A function of any type; memcpy because ISO C has no conversion from object to function pointers. */
static bool find(void *library, const char *prefix, const char *name, const char *suffix, void *fn) {
    char symbol[96];
    snprintf(symbol, sizeof symbol, "%s%s%s", prefix, name, suffix);
    void *address = dlsym(library, symbol);
    if (!address)
        return false;
    memcpy(fn, &address, sizeof address);
    return true;
}

/* "OpenBLAS 0.3.34.481.3 DYNAMIC_ARCH ..." -> "OpenBLAS 0.3.34" */
static void set_name(const char *config) {
    int dots = 0;
    const char *end = config;
    for (bool version = false; *end; end++) {
        if (*end == ' ' && version)
            break;
        version = version || *end == ' ';
        if (version && *end == '.' && ++dots == 3)
            break;
    }
    snprintf(blas.name, sizeof blas.name, "%.*s", (int)(end - config), config);
}

static void configure(void *library, const char *prefix, const char *suffix) {
    char *(*get_config)(void) = NULL;
    void (*set_threads)(int) = NULL;
    if (find(library, prefix, "openblas_get_config", suffix, &get_config))
        set_name(get_config());
    else
        snprintf(blas.name, sizeof blas.name, "%s", strstr(blas.path, "Accelerate") ? "Accelerate" : "CBLAS");
    if (find(library, prefix, "openblas_set_num_threads", suffix, &set_threads))
        set_threads(1);
}

/* OpenBLAS ends the process when it gets no memory, even from the constructor that dlopen runs. So where the address
 * space is limited (ulimit -v) there must be room for what it was seen to take: itself and a first buffer, then for
 * each CPU a thread's stack and buffer, and a buffer for a thread of ours. */
static bool has_room(void) {
    const size_t library = (size_t)64 << 20, buffer = (size_t)32 << 20;
    struct rlimit space, stack;
    if (getrlimit(RLIMIT_AS, &space) != 0 || space.rlim_cur == RLIM_INFINITY)
        return true;
    const size_t largest_stack = (size_t)1 << 30; /* so that the sum below cannot wrap */
    size_t stack_size = (size_t)8 << 20;
    if (getrlimit(RLIMIT_STACK, &stack) == 0 && stack.rlim_cur != RLIM_INFINITY)
        stack_size = stack.rlim_cur < largest_stack ? (size_t)stack.rlim_cur : largest_stack;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    size_t wanted = library + (size_t)(cpus > 1 ? cpus : 1) * (stack_size + 2 * buffer);
    void *room = mmap(NULL, wanted, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) {
        snprintf(blas.reason, sizeof blas.reason, "%s is not loaded: less than %zu MiB of address space are left",
                 blas.path, wanted >> 20);
        return false;
    }
    munmap(room, wanted);
    return true;
}

static void load(void) {
    pthread_mutex_lock(&path_mutex);
    snprintf(blas.path, sizeof blas.path, "%s", wanted_path);
    pthread_mutex_unlock(&path_mutex);
    const char *variable = getenv("METALLIC_OPENBLAS");
    if (!blas.path[0] && variable)
        snprintf(blas.path, sizeof blas.path, "%s", variable);
#if defined(__APPLE__)
    if (!blas.path[0])
        snprintf(blas.path, sizeof blas.path, "/System/Library/Frameworks/Accelerate.framework/Accelerate");
#endif
    if (!blas.path[0]) {
        snprintf(blas.reason, sizeof blas.reason, "no vendor BLAS: METALLIC_OPENBLAS is not set");
        return;
    }
    if (!has_room())
        return;
    void *library = dlopen(blas.path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *error = dlerror();
        snprintf(blas.reason, sizeof blas.reason, "%s", error ? error : "dlopen failed");
        return;
    }
    static const char *const prefixes[] = {"scipy_", ""};
    for (int i = 0; i < 2; i++) {
        if (find(library, prefixes[i], "cblas_sgemm", "", &blas.sgemm32) &&
            find(library, prefixes[i], "cblas_sgemv", "", &blas.sgemv32)) {
            configure(library, prefixes[i], "");
            return;
        }
        blas.sgemm32 = NULL;
        if (find(library, prefixes[i], "cblas_sgemm", "64_", &blas.sgemm64) &&
            find(library, prefixes[i], "cblas_sgemv", "64_", &blas.sgemv64)) {
            configure(library, prefixes[i], "64_");
            return;
        }
        blas.sgemm64 = NULL;
    }
    snprintf(blas.reason, sizeof blas.reason, "%s has no cblas_sgemm and cblas_sgemv", blas.path);
    dlclose(library);
}

void ml_cpu_vendor_info(ml_vendor_info *out) {
    pthread_once(&load_once, load);
    bool available = blas.sgemm32 || blas.sgemm64;
    *out = (ml_vendor_info){.available = available,
                            .name = available ? blas.name : NULL,
                            .path = blas.path[0] ? blas.path : NULL,
                            .reason = available ? NULL : blas.reason};
}

/* ---- one block ---- */

/* A matrix as BLAS sees it: lines of unit stride, `ld` apart; by_rows says whether rows or columns are the lines. */
typedef struct layout {
    bool by_rows;
    int64_t ld;
} layout;

static bool layout_of(const ml_mat *mat, int64_t rows, int64_t cols, layout *out) {
    if ((cols <= 1 || mat->cs == 1) && (rows <= 1 || mat->rs >= cols)) {
        *out = (layout){.by_rows = true, .ld = rows <= 1 ? (cols > 1 ? cols : 1) : mat->rs};
        return out->ld > 0;
    }
    if ((rows <= 1 || mat->rs == 1) && (cols <= 1 || mat->cs >= rows)) {
        *out = (layout){.by_rows = false, .ld = cols <= 1 ? (rows > 1 ? rows : 1) : mat->cs};
        return out->ld > 0;
    }
    return false;
}

/* The largest size or stride that the library's integers hold. */
static int64_t int_limit(void) {
    return blas.sgemm64 ? INT64_MAX : INT_MAX;
}

static float *at(const ml_mat *mat, int64_t row, int64_t col) {
    return (float *)mat->data + row * mat->rs + col * mat->cs;
}

static void scale(const ml_gemm_problem *p) {
    for (int64_t i = 0; i < p->m; i++) {
        for (int64_t j = 0; j < p->n; j++) {
            float *out = at(&p->out, i, j);
            *out = p->beta == 0.0f ? 0.0f : p->beta * *out;
        }
    }
}

/* y = alpha op(A) x + beta y for n == 1. False when a stride does not fit. */
static bool run_gemv(const ml_gemm_problem *p) {
    layout a;
    int64_t incx = p->k > 1 ? p->b.rs : 1, incy = p->m > 1 ? p->out.rs : 1;
    if (!layout_of(&p->a, p->m, p->k, &a) || incx <= 0 || incy <= 0)
        return false;
    if (p->m > int_limit() || p->k > int_limit() || a.ld > int_limit() || incx > int_limit() || incy > int_limit())
        return false;
    int order = a.by_rows ? ROW_MAJOR : COL_MAJOR;
    if (blas.sgemv64)
        blas.sgemv64(order, NO_TRANS, p->m, p->k, p->alpha, p->a.data, a.ld, p->b.data, incx, p->beta, p->out.data,
                     incy);
    else
        blas.sgemv32(order, NO_TRANS, (int)p->m, (int)p->k, p->alpha, p->a.data, (int)a.ld, p->b.data, (int)incx,
                     p->beta, p->out.data, (int)incy);
    return true;
}

static bool run_gemm(const ml_gemm_problem *p) {
    layout a, b, c;
    int64_t limit = int_limit();
    if (!layout_of(&p->a, p->m, p->k, &a) || !layout_of(&p->b, p->k, p->n, &b) || !layout_of(&p->out, p->m, p->n, &c))
        return false;
    if (p->m > limit || p->n > limit || p->k > limit || a.ld > limit || b.ld > limit || c.ld > limit)
        return false;
    int order = c.by_rows ? ROW_MAJOR : COL_MAJOR;
    int ta = a.by_rows == c.by_rows ? NO_TRANS : TRANS, tb = b.by_rows == c.by_rows ? NO_TRANS : TRANS;
    if (blas.sgemm64)
        blas.sgemm64(order, ta, tb, p->m, p->n, p->k, p->alpha, p->a.data, a.ld, p->b.data, b.ld, p->beta, p->out.data,
                     c.ld);
    else
        blas.sgemm32(order, ta, tb, (int)p->m, (int)p->n, (int)p->k, p->alpha, p->a.data, (int)a.ld, p->b.data,
                     (int)b.ld, p->beta, p->out.data, (int)c.ld);
    return true;
}

static ml_gemm_problem transposed(const ml_gemm_problem *p) {
    ml_gemm_problem t = *p;
    t.m = p->n;
    t.n = p->m;
    t.a = (ml_mat){p->b.data, p->b.cs, p->b.rs, p->b.dtype};
    t.b = (ml_mat){p->a.data, p->a.cs, p->a.rs, p->a.dtype};
    t.out = (ml_mat){p->out.data, p->out.cs, p->out.rs, p->out.dtype};
    return t;
}

static ml_gemm_problem sub_problem(const ml_gemm_problem *p, const int64_t from[3], const int64_t size[3]) {
    ml_gemm_problem s = *p;
    s.m = size[0];
    s.n = size[1];
    s.k = size[2];
    s.a.data = at(&p->a, from[0], from[2]);
    s.b.data = at(&p->b, from[2], from[1]);
    s.out.data = at(&p->out, from[0], from[1]);
    return s;
}

/* Sizes or strides beyond the library's integers: blocks of at most 2^30, and of one line across a dimension whose
 * stride is too large, since a single line's distance to the next does not matter. */
static bool run_in_pieces(const ml_gemm_problem *p) {
    enum { M, N, K };
    int64_t limit = int_limit(), piece[3];
    for (int d = 0; d < 3; d++)
        piece[d] = INT64_C(1) << 30;
    const struct {
        const ml_mat *mat;
        int row, col;
    } operands[] = {{&p->a, M, K}, {&p->b, K, N}, {&p->out, M, N}};
    const int64_t size[3] = {p->m, p->n, p->k};
    for (int i = 0; i < 3; i++) {
        const ml_mat *mat = operands[i].mat;
        if (size[operands[i].row] > 1 && mat->rs > limit)
            piece[operands[i].row] = 1;
        if (size[operands[i].col] > 1 && mat->cs > limit)
            piece[operands[i].col] = 1;
    }
    int64_t from[3], now[3];
    for (from[M] = 0; from[M] < p->m; from[M] += piece[M]) {
        now[M] = p->m - from[M] < piece[M] ? p->m - from[M] : piece[M];
        for (from[N] = 0; from[N] < p->n; from[N] += piece[N]) {
            now[N] = p->n - from[N] < piece[N] ? p->n - from[N] : piece[N];
            for (from[K] = 0; from[K] < p->k; from[K] += piece[K]) {
                now[K] = p->k - from[K] < piece[K] ? p->k - from[K] : piece[K];
                ml_gemm_problem part = sub_problem(p, from, now);
                part.beta = from[K] == 0 ? p->beta : 1.0f;
                if (!run_gemm(&part))
                    return false;
            }
        }
    }
    return true;
}

static bool run_problem(const ml_gemm_problem *p) {
    if (p->m == 0 || p->n == 0)
        return true;
    if (p->k == 0 || p->alpha == 0.0f) {
        scale(p); /* sgemv would return without touching y */
        return true;
    }
    if (p->n == 1 && run_gemv(p))
        return true;
    if (p->m == 1) {
        ml_gemm_problem t = transposed(p);
        if (run_gemv(&t))
            return true;
    }
    return run_gemm(p) || run_in_pieces(p);
}

/* ---- all blocks ---- */

typedef struct mps_job {
    const ml_encode_args *args;
    int64_t items, items_per_task; /* of the batch; several small ones make a task */
    int64_t blocks_m, blocks_n;    /* of one item */
    atomic_int failed;
} mps_job;

/* Start of part i of n, on a multiple of 16: the widest micro-tile of the common kernels. */
static int64_t part_start(int64_t size, int64_t i, int64_t n) {
    if (i >= n)
        return size;
    int64_t start = (int64_t)((double)size * (double)i / (double)n);
    return size / n >= 64 ? start / 16 * 16 : start;
}

static void mps_task(void *arg, int64_t task, int worker) {
    mps_job *job = arg;
    (void)worker;
    int64_t blocks = job->blocks_m * job->blocks_n;
    int64_t first = task / blocks * job->items_per_task, block = task % blocks;
    int64_t last = first + job->items_per_task < job->items ? first + job->items_per_task : job->items;
    for (int64_t item = first; item < last; item++) {
        ml_gemm_problem p;
        ml_gemm_problem_at(job->args->op, job->args->plan, item, &p);
        int64_t im = block / job->blocks_n, in = block % job->blocks_n;
        int64_t from[3] = {part_start(p.m, im, job->blocks_m), part_start(p.n, in, job->blocks_n), 0};
        int64_t size[3] = {part_start(p.m, im + 1, job->blocks_m) - from[0],
                           part_start(p.n, in + 1, job->blocks_n) - from[1], p.k};
        ml_gemm_problem part = sub_problem(&p, from, size);
        if (!run_problem(&part))
            atomic_store(&job->failed, 1);
    }
}

/* How many blocks of m x n: about `threads`, such that each is worth waking a thread for and the operands that every
 * block packs for itself, (m + n) k per block, stay small. */
static void plan_blocks(mps_job *job, const ml_gemm_problem *p, int threads) {
    /* A microsecond does about 1e5 operations in one thread, or reads about 1e4 elements. */
    const double min_flops = 2e6, min_elements = 1e5;
    double work = 2.0 * (double)p->m * (double)p->n * (double)p->k;
    double least = p->m == 1 || p->n == 1 ? 2.0 * min_elements : min_flops;
    int64_t wanted = (int64_t)fmin(work * (double)job->items / least, (double)threads);
    job->blocks_m = job->blocks_n = 1;
    job->items_per_task = 1;
    if (wanted <= 1) {
        job->items_per_task = job->items;
        return;
    }
    if (job->items >= 2 * wanted) {
        /* Whole items, four tasks per thread to even out what the system takes away. */
        job->items_per_task = (job->items + 4 * wanted - 1) / (4 * wanted);
        return;
    }
    int64_t blocks = (wanted + job->items - 1) / job->items;
    for (int64_t bm = 1; bm <= blocks; bm++) {
        if (blocks % bm != 0)
            continue;
        int64_t bn = blocks / bm;
        double cost = (double)p->m / (double)bm + (double)p->n / (double)bn; /* operand lines of one block */
        double best = (double)p->m / (double)job->blocks_m + (double)p->n / (double)job->blocks_n;
        bool first = job->blocks_m * job->blocks_n == 1;
        if (bm <= p->m && bn <= p->n && (first || cost < best)) {
            job->blocks_m = bm;
            job->blocks_n = bn;
        }
    }
}

ml_status ml_cpu_matmul_mps(const ml_encode_args *args) {
    const ml_op *op = args->op;
    ml_vendor_info vendor;
    ml_cpu_vendor_info(&vendor);
    if (!vendor.available)
        return ml_fail(ML_ERR_DEVICE, "matmul: %s", vendor.reason);
    mps_job job = {.args = args, .items = op->matmul.batch};
    if (job.items == 0 || op->matmul.m == 0 || op->matmul.n == 0)
        return ML_OK;
    /* The library updates C in place. */
    if (op->matmul.has_c && op->matmul.beta != 0.0f && !ml_view_same(&op->in[ML_IN_C], &op->out[0])) {
        ml_op copy = {.kind = ML_OP_COPY, .n_in = 1, .n_out = 1};
        copy.in[0] = op->in[ML_IN_C];
        copy.out[0] = op->out[0];
        ml_encode_args copy_args = {.op = &copy, .label = args->label};
        ML_TRY(ml_cpu_copy(&copy_args));
    }
    ml_gemm_problem p;
    ml_gemm_problem_at(op, args->plan, 0, &p);
    plan_blocks(&job, &p, ml_get_num_threads());
    int64_t groups = (job.items + job.items_per_task - 1) / job.items_per_task;
    ml_parallel(groups * job.blocks_m * job.blocks_n, mps_task, &job);
    if (atomic_load(&job.failed))
        return ml_fail(ML_ERR_UNSUPPORTED,
                       "matmul: %s needs a unit stride and a positive leading dimension in each matrix", vendor.name);
    return ML_OK;
}
