/* One dispatch: its arguments, its threadgroups over the cores, its findings. */
#include "softmetal/executor.h"

#include "core/pool.h"
#include "softmetal/checker.h"
#include "softmetal/engine.h"
#include "softmetal/fiber.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    MAX_CONSTANTS_BYTES = 64 << 10,
    SERIAL_THREADS = 64, /* fewer threads than this are not worth a second core */
    TASKS_PER_WORKER = 8,
    STACK_MAPPINGS = 24 * 1024 /* stacks of all workers; two mappings each where guards need them, of 65530 */
};

/* ---- host services ---- */

static void unsupported(const sm_place *place, const char *message) {
    sm_engine *e = sm_engine_here();
    e->unsupported = message;
    e->unsupported_place = *place; /* the place itself is on the stack that is given up */
    sm_engine_abort(e);
}

static void fence(const sm_place *place, sm_scope scope, uint32_t mem_flags, int order) {
    sm_check_fence(place, scope, mem_flags, order);
}

static const sm_host host = {
    .abi = SM_ABI_VERSION,
    .barrier = sm_engine_barrier,
    .fence = fence,
    .meet = sm_engine_meet,
    .live_lanes = sm_engine_live_lanes,
    .unsupported = unsupported,
    .access = sm_check_access,
    .out_of_bounds = sm_check_index,
    .misaligned = sm_check_misaligned,
};

const sm_host *sm_executor_host(void) {
    return &host;
}

/* ---- unbound buffers ---- */

static _Atomic(char *) zeros; /* SM_MAX_BUFFERS spaces, each zeros and a guard; lives as long as the process */

static char *zero_pages(void) {
    char *map = atomic_load(&zeros);
    if (map)
        return map;
    map = mmap(NULL, SM_MAX_BUFFERS * SM_ZERO_SPACING, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    for (int i = 0; i < SM_MAX_BUFFERS; i++) /* in the middle, so that negative indices are recognised, too */
        if (mprotect(map + (uintptr_t)i * SM_ZERO_SPACING + SM_ZERO_SPACING / 2, SM_ZERO_BYTES, PROT_READ) != 0) {
            munmap(map, SM_MAX_BUFFERS * SM_ZERO_SPACING);
            return NULL;
        }
    char *none = NULL;
    if (!atomic_compare_exchange_strong(&zeros, &none, map)) {
        munmap(map, SM_MAX_BUFFERS * SM_ZERO_SPACING);
        return none;
    }
    return map;
}

int sm_zero_index(uintptr_t address) {
    uintptr_t low = (uintptr_t)atomic_load_explicit(&zeros, memory_order_relaxed);
    return low && address - low < SM_MAX_BUFFERS * SM_ZERO_SPACING ? (int)((address - low) / SM_ZERO_SPACING) : -1;
}

/* ---- layout of threadgroup memory ---- */

static void layout_free(void *layout) {
    sm_lines_forget(layout);
    free(layout);
}

static uint64_t round_up(uint64_t n, uint64_t to) {
    return (n + to - 1) / to * to;
}

static uint64_t gap_of(const sm_module *module) {
    return module->checked ? SM_CHECKED_GAP_BYTES : SM_GAP_BYTES;
}

/* Made by whoever comes first; two at once compute the same, and do not write what is there: a module that two kernels
 * share may be running. */
static sm_layout *layout_of(const sm_kernel *kernel) {
    _Atomic(void *) *place = (_Atomic(void *) *)&((sm_kernel *)kernel)->executor;
    sm_layout *layout = atomic_load(place);
    if (layout)
        return layout;
    layout = calloc(1, sizeof *layout);
    if (!layout)
        return NULL;
    uint64_t gap = gap_of(kernel->module), at = gap;
    for (sm_threadgroup_array *a = kernel->module->arrays; a; a = a->next) {
        at = round_up(at, a->align > 16 ? a->align : 16);
        if (__atomic_load_n(&a->offset, __ATOMIC_RELAXED) != at)
            __atomic_store_n(&a->offset, at, __ATOMIC_RELAXED);
        at = round_up(at + a->size, SM_GAP_BYTES) + gap;
        layout->declared += a->size;
    }
    layout->bytes = at;
    ((sm_kernel *)kernel)->executor_free = layout_free;
    void *none = NULL;
    if (!atomic_compare_exchange_strong(place, &none, layout)) {
        layout_free(layout);
        return none;
    }
    return layout;
}

uint64_t sm_kernel_threadgroup_memory(const sm_kernel *kernel) {
    uint64_t bytes = 0;
    for (const sm_threadgroup_array *a = kernel->module->arrays; a; a = a->next)
        bytes += a->size;
    return bytes;
}

/* ---- arguments ---- */

static ml_status api_finding(const sm_job *job, sm_findings *findings, sm_finding_kind kind, const char *message) {
    sm_finding f = {.severity = SM_ERROR,
                    .kind = kind,
                    .kernel = (char *)job->function->name,
                    .file = (char *)job->function->file,
                    .line = job->function->line,
                    .buffer = -1,
                    .message = (char *)message};
    return sm_findings_add(findings, &f);
}

/* fault: where there are none, so that using them is a fault that tells the index. */
static ml_status bind_zeros(sm_job *job, uint32_t i, bool fault) {
    char *map = zero_pages();
    if (!map)
        return ml_fail(ML_ERR_MEMORY, "kernel '%s': no memory for an unbound buffer", job->function->name);
    const uintptr_t inside = fault ? SM_ZERO_SPACING / 4 : SM_ZERO_SPACING / 2;
    job->arguments[i] = map + (uintptr_t)job->function->arguments[i].index * SM_ZERO_SPACING + inside;
    return ML_OK;
}

static ml_status bind_buffer(sm_job *job, uint32_t i, sm_findings *findings) {
    const sm_argument *a = &job->function->arguments[i];
    const sm_binding *b = &job->dispatch->buffers[a->index];
    const char *kernel = job->function->name;
    if (!b->address)
        return bind_zeros(job, i, job->dispatch->fault_unbound);
    if (b->offset > b->length)
        return ml_fail(ML_ERR_VALUE, "kernel '%s': offset %llu of buffer %d lies beyond its %llu bytes", kernel,
                       (unsigned long long)b->offset, a->index, (unsigned long long)b->length);
    job->arguments[i] = (char *)b->address + b->offset;
    if (job->module->checked && a->is_reference && b->length - b->offset < a->element_size) {
        char message[300];
        snprintf(message, sizeof message, "kernel '%s': argument '%s' needs %u bytes, but buffer %d has %llu", kernel,
                 a->name, (unsigned)a->element_size, a->index, (unsigned long long)(b->length - b->offset));
        return api_finding(job, findings, SM_FINDING_API, message);
    }
    return ML_OK;
}

static ml_status bind(sm_job *job, sm_findings *findings) {
    const sm_function *f = job->function;
    if (f->n_arguments > SM_MAX_ARGUMENTS)
        return ml_fail(ML_ERR_VALUE, "kernel '%s' has %u arguments, more than %d", f->name, (unsigned)f->n_arguments,
                       SM_MAX_ARGUMENTS);
    sm_layout *layout = layout_of(job->dispatch->kernel);
    if (!layout)
        return ml_fail(ML_ERR_MEMORY, "kernel '%s': out of memory", f->name);
    uint64_t at = layout->bytes, declared = layout->declared;
    for (uint32_t i = 0; i < f->n_arguments; i++) {
        const sm_argument *a = &f->arguments[i];
        const bool absent = a->enabled && !a->enabled(job->constants);
        if (a->kind == SM_ARGUMENT_BUILTIN)
            continue;
        if (absent) { /* a compiler may read what a reference refers to before the kernel asks whether it is there */
            if (a->kind == SM_ARGUMENT_BUFFER && a->is_reference && a->index >= 0 && a->index < SM_MAX_BUFFERS)
                ML_TRY(bind_zeros(job, i, false));
            continue;
        }
        if (a->kind == SM_ARGUMENT_TEXTURE || a->kind == SM_ARGUMENT_SAMPLER)
            return ml_fail(ML_ERR_VALUE, "kernel '%s': argument '%s' is a %s, which is not modelled", f->name, a->name,
                           a->kind == SM_ARGUMENT_TEXTURE ? "texture" : "sampler");
        bool buffer = a->kind == SM_ARGUMENT_BUFFER;
        if (a->index < 0 || a->index >= (buffer ? SM_MAX_BUFFERS : SM_MAX_THREADGROUP_BUFFERS))
            return ml_fail(ML_ERR_VALUE, "kernel '%s': argument '%s' has index %d", f->name, a->name, a->index);
        if (buffer) {
            ML_TRY(bind_buffer(job, i, findings));
            continue;
        }
        uint32_t bytes = job->dispatch->threadgroup_memory[a->index];
        job->in_threadgroup[i] = true;
        job->arguments[i] = (void *)(uintptr_t)(at + 1);
        at = round_up(at + bytes, SM_GAP_BYTES) + gap_of(job->module);
        declared += bytes;
    }
    job->threadgroup_bytes = at;
    if (declared > SM_MAX_THREADGROUP_MEMORY) {
        char message[200];
        snprintf(message, sizeof message, "kernel '%s' needs %llu bytes of threadgroup memory; the limit is %u",
                 f->name, (unsigned long long)declared, (unsigned)SM_MAX_THREADGROUP_MEMORY);
        ML_TRY(api_finding(job, findings, SM_FINDING_THREADGROUP_MEMORY, message));
        return ml_fail(ML_ERR_VALUE, "%s", message);
    }
    return ML_OK;
}

static ml_status measure(sm_job *job) {
    const sm_dispatch *d = job->dispatch;
    const sm_function *f = job->function;
    uint64_t limit =
        f->max_total_threads && f->max_total_threads < SM_MAX_THREADS ? f->max_total_threads : SM_MAX_THREADS;
    uint64_t threads = 1;
    job->n_groups = 1;
    for (int i = 0; i < 3; i++) {
        uint64_t grid = d->grid[i] ? d->grid[i] : 1;
        job->size[i] = d->threads_per_threadgroup[i] ? d->threads_per_threadgroup[i] : 1;
        threads = threads > limit ? threads : threads * job->size[i];
        uint64_t groups = d->grid_in_threads ? (grid + job->size[i] - 1) / job->size[i] : grid;
        uint64_t all = d->grid_in_threads ? grid : groups * job->size[i];
        if (all > UINT32_MAX || job->n_groups > UINT64_C(1) << 48)
            return ml_fail(ML_ERR_VALUE, "kernel '%s': the grid is too large", f->name);
        job->groups[i] = (uint32_t)groups;
        job->threads[i] = (uint32_t)all;
        job->n_groups *= groups;
    }
    if (threads > limit)
        return ml_fail(ML_ERR_VALUE, "kernel '%s' (%s:%u): %u x %u x %u threads per threadgroup; the limit is %u",
                       f->name, f->file ? f->file : "?", (unsigned)f->line, job->size[0], job->size[1], job->size[2],
                       (unsigned)limit);
    return ML_OK;
}

/* ---- running ---- */

/* A permutation of [0, n): a Feistel network over the next even power of two, walked until it lands inside. */
static uint64_t permute(uint64_t i, uint64_t n, uint64_t key) {
    unsigned bits = 64u - (unsigned)__builtin_clzll(n | 1), half = (bits + 1) / 2;
    uint64_t mask = (UINT64_C(1) << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint64_t state = key + (round << 56) + right, t = left ^ (sm_random(&state) & mask);
            left = right;
            right = t;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

static void position_of(const sm_job *job, uint64_t i, uint32_t position[3]) {
    if (job->dispatch->order == SM_ORDER_REVERSE)
        i = job->n_groups - 1 - i;
    else if (job->dispatch->order == SM_ORDER_SHUFFLE)
        i = permute(i, job->n_groups, job->shuffle);
    position[0] = (uint32_t)(i % job->groups[0]);
    position[1] = (uint32_t)(i / job->groups[0] % job->groups[1]);
    position[2] = (uint32_t)(i / job->groups[0] / job->groups[1]);
}

/* Where a dispatch's failures are collected. An engine's first one is kept unchecked; checked, there is one engine. */
typedef struct failures {
    sm_job job;
    sm_raw *first; /* by worker; count 0: none */
    sm_raws *all;  /* checked */
    atomic_bool abandoned;
} failures;

static void run_task(void *arg, int64_t task, int worker) {
    failures *f = arg;
    sm_job *job = &f->job;
    if (atomic_load_explicit(&job->stop, memory_order_relaxed))
        return;
    sm_engine *e = job->engines[worker];
    if (!e)
        e = job->engines[worker] = sm_engine_take(job);
    if (!e) {
        atomic_store(&job->out_of_memory, true);
        atomic_store(&job->stop, true);
        return;
    }
    uint64_t first = (uint64_t)task * job->groups_per_task, end = first + job->groups_per_task;
    if (end > job->n_groups)
        end = job->n_groups;
    sm_fault_state state;
    sm_fault_enter(e, &state);
    for (uint64_t i = first; i < end && !atomic_load_explicit(&job->stop, memory_order_relaxed); i++) {
        uint32_t position[3];
        position_of(job, i, position);
        if (sm_engine_run(e, position))
            continue;
        if (atomic_load(&job->out_of_memory)) {
            atomic_store(&job->stop, true);
            break;
        }
        atomic_store(&f->abandoned, true);
        sm_raw raw;
        sm_raw_from_fault(e, &raw);
        if (!f->first[worker].count)
            f->first[worker] = raw;
        if (!job->checker)
            atomic_store(&job->stop, true);
        else if (!e->fault.signal && !e->unsupported)
            f->first[worker].count = 0; /* the checker gave up after a finding of its own */
        else if (!(e->fault.signal && job->checker->fault_expected))
            sm_raw_add(f->all, &raw);
        memset(&e->fault, 0, sizeof e->fault);
        e->unsupported = NULL;
    }
    sm_fault_leave(&state);
}

static ml_status tell_declared(const sm_job *job) {
    const sm_dispatch *d = job->dispatch;
    for (uint32_t i = 0; i < job->function->n_arguments; i++) {
        const sm_argument *a = &job->function->arguments[i];
        const sm_binding *b = &d->buffers[a->index >= 0 ? a->index : 0];
        if (a->kind != SM_ARGUMENT_BUFFER || !job->arguments[i] || !b->address)
            continue;
        sm_access_range range = {.address = (char *)b->address + b->offset,
                                 .length = b->length - b->offset,
                                 .touch = a->access == SM_MODE_READ || a->is_constant || b->read_only ? SM_TOUCH_READ
                                                                                                      : SM_TOUCH_WRITE,
                                 .buffer = a->index,
                                 .label = b->label ? b->label : a->name};
        ML_TRY(sm_hazards_touch(d->hazards, &range));
    }
    return ML_OK;
}

/* How many threadgroups a task has, and how many workers there may be. */
static void plan(sm_job *job) {
    uint64_t threads = (uint64_t)job->size[0] * job->size[1] * job->size[2];
    uint64_t workers = (uint64_t)ml_get_num_threads(), fit = STACK_MAPPINGS / threads;
    if (workers > fit)
        workers = fit;
    if (job->module->checked || threads * job->n_groups < SERIAL_THREADS || workers < 1)
        workers = 1;
    uint64_t tasks = workers == 1 ? 1 : workers * TASKS_PER_WORKER;
    job->max_workers = (int)workers;
    job->groups_per_task = (job->n_groups + tasks - 1) / tasks;
}

/* What is left to say once all has run: findings, and the status. */
static ml_status conclude(failures *f, sm_findings *findings) {
    sm_job *job = &f->job;
    ml_status status = ML_OK;
    if (job->checker)
        status = sm_checker_finish(job->checker);
    else if (job->dispatch->hazards)
        status = tell_declared(job);
    if (job->dispatch->hazards) {
        ml_status ended = sm_hazards_end(job->dispatch->hazards, findings);
        status = status == ML_OK ? ended : status;
    }
    if (status == ML_OK && atomic_load(&job->out_of_memory))
        status = ml_fail(ML_ERR_MEMORY, "kernel '%s': no memory to run it", job->function->name);
    sm_findings own = {0};
    sm_raws one = {0};
    for (int i = 0; i < job->max_workers && !job->checker; i++)
        if (f->first[i].count)
            sm_raw_add(&one, &f->first[i]);
    if (status == ML_OK)
        status = sm_report(job, job->checker ? f->all : &one, &own);
    for (size_t i = 0; i < own.n && status == ML_OK; i++)
        status = sm_findings_add(findings, &own.items[i]);
    if (status == ML_OK && atomic_load(&f->abandoned)) {
        const sm_finding *why = NULL;
        for (size_t i = 0; i < own.n; i++)
            if (!why || own.items[i].kind == SM_FINDING_WILD_ACCESS || own.items[i].kind == SM_FINDING_STACK_OVERFLOW)
                why = &own.items[i];
        status = why ? ml_fail(ML_ERR_DEVICE, "%s:%u: %s", why->file ? why->file : "kernel", (unsigned)why->line,
                               why->message)
                     : ml_fail(ML_ERR_DEVICE, "kernel '%s' was abandoned", job->function->name);
    }
    sm_findings_clear(&own);
    free(one.items);
    return status;
}

ml_status sm_dispatch_run(const sm_dispatch *dispatch, sm_findings *findings) {
    static const unsigned char no_constants[MAX_CONSTANTS_BYTES];
    const sm_kernel *kernel = dispatch->kernel;
    if (!SM_HAVE_FIBERS)
        return ml_fail(ML_ERR_DEVICE, "the software Metal does not run on this kind of machine");
    if (kernel->module->constants_bytes > MAX_CONSTANTS_BYTES && !dispatch->constants)
        return ml_fail(ML_ERR_VALUE, "kernel '%s': too many function constants", kernel->function->name);
    failures f = {.job = {.dispatch = dispatch,
                          .module = kernel->module,
                          .function = kernel->function,
                          .constants = dispatch->constants ? dispatch->constants : no_constants}};
    sm_job *job = &f.job;
    uint64_t seed = dispatch->seed;
    job->shuffle = sm_random(&seed);
    ML_TRY(measure(job));
    ML_TRY(bind(job, findings));
    plan(job);
    ml_status status = ML_OK;
    bool begun = false;
    f.first = calloc((size_t)job->max_workers, sizeof *f.first);
    job->engines = calloc((size_t)job->max_workers, sizeof *job->engines);
    if (!f.first || !job->engines) {
        status = ml_fail(ML_ERR_MEMORY, "kernel '%s': out of memory", job->function->name);
        goto done;
    }
    if (job->module->checked) {
        if ((status = sm_checker_create(job, &job->checker)) != ML_OK)
            goto done;
        f.all = &job->checker->raws;
        job->engines[0] = sm_engine_take(job);
        if (!job->engines[0]) {
            status = ml_fail(ML_ERR_MEMORY, "kernel '%s': no memory to run it", job->function->name);
            goto done;
        }
        if ((status = sm_checker_attach(job->checker, job->engines[0])) != ML_OK)
            goto done;
    }
    if (dispatch->hazards) {
        if ((status = sm_hazards_begin(dispatch->hazards, job->function->name, dispatch->kernel)) != ML_OK)
            goto done;
        begun = true;
    }
    sm_fault_install();
    int64_t tasks = (int64_t)((job->n_groups + job->groups_per_task - 1) / job->groups_per_task);
    ml_parallel_limit(tasks, job->max_workers, run_task, &f);
    begun = false;
    status = conclude(&f, findings);
done:
    if (begun)
        (void)sm_hazards_end(dispatch->hazards, NULL);
    for (int i = 0; i < job->max_workers && job->engines; i++)
        if (job->engines[i])
            sm_engine_give(job->engines[i]);
    sm_checker_free(job->checker);
    free(job->engines);
    free(f.first);
    return status;
}
