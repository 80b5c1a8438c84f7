/* Runs the kernels of metal/ in the software Metal, checked, and counts what they do:
 *
 *     test_metal_kernels METAL_FOLDER              one dtype: no findings; what must be read once is read once
 *     test_metal_kernels METAL_FOLDER --table      every kernel: a line of counts, for tools/metal_kernels.py
 *     test_metal_kernels METAL_FOLDER --strict     Apple's rules, by a clang
 *     test_metal_kernels METAL_FOLDER --barriers   takes out one barrier after the other: the checker must miss each
 *
 * Exit code 77 where there is no compiler to run them with. */
#include "metal_cases.h"

#include "softmetal/executor.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- counting: the executor's services, with counters in front ---- */

static struct {
    atomic_ulong barriers, lane_operations, products, bytes_read, bytes_written; /* first three: once per thread */
} counts;
static const sm_kernel *running;
static sm_binding bound[SM_MAX_BUFFERS];
static sm_host counting;

static void count_barrier(const sm_place *place, sm_scope scope, uint32_t mem_flags) {
    if (scope == SM_SCOPE_THREADGROUP)
        atomic_fetch_add(&counts.barriers, 1);
    sm_executor_host()->barrier(place, scope, mem_flags);
}

static void count_meeting(const sm_place *place, sm_scope scope, sm_combine combine, const void *in, void *out) {
    const bool product = strncmp(place->operation, "simdgroup_multiply", 18) == 0;
    atomic_fetch_add(product ? &counts.products : &counts.lane_operations, 1);
    sm_executor_host()->meet(place, scope, combine, in, out);
}

/* Bytes of device operands; parameters in constant memory do not count. */
static void count_access(const void *address, uint64_t size, uint32_t flags, const void *pc) {
    const char *at = address;
    if (at >= (const char *)&counting && at < (const char *)(&counting + 1))
        return; /* a module reads its table of services: none of the kernel's business */
    const sm_thread *self = sm_thread_of(__builtin_frame_address(0));
    const sm_function *f = running->function;
    for (uint32_t i = 0; i < f->n_arguments; i++) {
        const char *start = self->group->arguments[i];
        if (f->arguments[i].kind != SM_ARGUMENT_BUFFER || f->arguments[i].is_constant || !start)
            continue;
        if (at < start || at >= start + bound[f->arguments[i].index].length)
            continue;
        if (flags & SM_ACCESS_READ)
            atomic_fetch_add(&counts.bytes_read, size);
        if (flags & SM_ACCESS_WRITE)
            atomic_fetch_add(&counts.bytes_written, size);
        break;
    }
    sm_executor_host()->access(address, size, flags, pc);
}

static const sm_host *counting_host(void) {
    counting = *sm_executor_host();
    counting.barrier = count_barrier;
    counting.meet = count_meeting;
    counting.access = count_access;
    return &counting;
}

/* ---- running ---- */

static int failures;

static void fail(const launch *l, const char *what, const char *more) {
    fprintf(stderr, "FAILED: %s (%s): %s%s%s\n", l->function, l->what, what, more ? ": " : "", more ? more : "");
    failures++;
}

static char *read_text(const char *folder, const char *name, char *path, size_t size) {
    snprintf(path, size, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    char *text = file ? calloc(1, 1 << 20) : NULL;
    if (text && fread(text, 1, (1 << 20) - 1, file) == 0)
        text[0] = 0;
    if (file)
        fclose(file);
    return text;
}

typedef struct build {
    const char *folder;
    bool strict;
    const sm_macro *extra; /* NULL: none */
} build;

static ml_status create_library(const launch *l, const build *b, sm_library **out, char **log) {
    char path[4096];
    char *text = read_text(b->folder, l->source, path, sizeof path);
    if (!text)
        return ml_fail(ML_ERR_VALUE, "cannot read %s", path);
    sm_macro macros[2];
    int n_macros = 0;
    if (l->bfloat)
        macros[n_macros++] = (sm_macro){"ML_BFLOAT", "1"};
    if (b->extra)
        macros[n_macros++] = *b->extra;
    const sm_library_options options = {.source = text,
                                        .name = path,
                                        .macros = macros,
                                        .n_macros = n_macros,
                                        .include_dirs = &b->folder,
                                        .n_include_dirs = 1,
                                        .language_version = l->bfloat ? 0x30001 : 0x30000,
                                        .checked = !b->strict,
                                        .strict = b->strict};
    const ml_status status = sm_library_create(&options, out, log);
    free(text);
    return status;
}

/* The library of the last call is kept: launches of one source follow each other. */
static sm_library *library_of(const launch *l, const char *folder) {
    static sm_library *library;
    static char key[64];
    char wanted[64];
    snprintf(wanted, sizeof wanted, "%s %d", l->source, l->bfloat);
    if (library && strcmp(wanted, key) == 0)
        return library;
    sm_library_release(library);
    library = NULL;
    if (create_library(l, &(build){.folder = folder}, &library, NULL) != ML_OK)
        library = NULL;
    snprintf(key, sizeof key, "%s", wanted);
    return library;
}

/* Every constant of the module gets a value: the launch's, else 0. */
static unsigned char *constants_of(const launch *l, const sm_kernel *kernel) {
    enum { MAX = 64 };
    static const int zero;
    sm_constant_value values[MAX];
    bool flags[MAX];
    int numbers[MAX], n = 0;
    for (uint32_t i = 0; i < kernel->module->n_constants && n < MAX; i++) {
        const sm_constant *c = &kernel->module->constants[i];
        values[n] = (sm_constant_value){.index = c->index, .data = &zero};
        for (int k = 0; k < l->n_constants; k++) {
            if (l->constants[k].index != c->index)
                continue;
            numbers[n] = l->constants[k].value;
            flags[n] = numbers[n] != 0;
            values[n].data = c->size == 1 ? (const void *)&flags[n] : (const void *)&numbers[n];
        }
        n++;
    }
    unsigned char *block;
    return sm_constants_create(kernel, values, n, &block) == ML_OK ? block : NULL;
}

static void check(const launch *l, size_t moved) {
    if (l->reads_once && (double)moved > 1.1 * (double)l->least_bytes) {
        char text[96];
        snprintf(text, sizeof text, "%zu, at least %zu are needed", moved, l->least_bytes);
        fail(l, "bytes moved", text);
    }
}

static void print(const launch *l, const sm_kernel *kernel, size_t moved) {
    uint64_t threads = 1, groups = 1;
    for (int d = 0; d < 3; d++) {
        threads *= l->threadgroup[d];
        groups *= l->grid_in_threads ? (l->grid[d] + l->threadgroup[d] - 1) / l->threadgroup[d] : l->grid[d];
    }
    const double all = (double)(threads * groups), outputs = (double)l->outputs;
    printf("%s\t%s\t%s\t%llu\t%llu\t%.4g\t%.4g\t%.4g\t%.4g\t%.4g\n", l->source, l->function, l->what,
           (unsigned long long)threads, (unsigned long long)sm_kernel_threadgroup_memory(kernel),
           (double)atomic_load(&counts.barriers) / all, (double)atomic_load(&counts.lane_operations) / all,
           (double)atomic_load(&counts.products) / all, (double)moved / outputs, (double)l->least_bytes / outputs);
}

/* Runs l with memory of its own. */
static ml_status dispatch(const launch *l, sm_kernel *kernel, sm_findings *findings) {
    unsigned char *constants = constants_of(l, kernel);
    sm_dispatch d = {.kernel = kernel, .constants = constants, .grid_in_threads = l->grid_in_threads};
    for (int i = 0; i < MAX_OPERANDS; i++) {
        if (l->operands[i] == 0)
            continue;
        uint16_t *memory = aligned_alloc(64, (l->operands[i] + 63) / 64 * 64);
        d.buffers[i] = (sm_binding){.address = memory, .length = l->operands[i]};
        for (size_t k = 0; memory && k < l->operands[i] / 2; k++)
            memory[k] = l->fill[i];
    }
    d.buffers[l->params_index] = (sm_binding){.address = (void *)(uintptr_t)&l->params, .length = l->params_bytes};
    memcpy(d.grid, l->grid, sizeof d.grid);
    memcpy(d.threads_per_threadgroup, l->threadgroup, sizeof l->threadgroup);
    memcpy(bound, d.buffers, sizeof bound);
    running = kernel;
    memset(&counts, 0, sizeof counts);
    const ml_status status = constants ? sm_dispatch_run(&d, findings) : ML_ERR_VALUE;
    for (int i = 0; i < MAX_OPERANDS; i++)
        if (l->operands[i])
            free(d.buffers[i].address);
    sm_constants_release(constants);
    return status;
}

static void run(const launch *l, const char *folder, bool table) {
    char *log = NULL;
    sm_kernel *kernel = NULL;
    sm_library *library = library_of(l, folder);
    if (!library || sm_library_load(library, l->function, counting_host(), &kernel, &log) != ML_OK) {
        fail(l, ml_last_error(), log);
        free(log);
        return;
    }
    free(log);
    sm_findings findings = {0};
    if (dispatch(l, kernel, &findings) != ML_OK)
        fail(l, ml_last_error(), NULL);
    if (sm_findings_count(&findings, SM_NOTE) > 0) {
        char *text = sm_findings_text(&findings);
        fail(l, "findings", text);
        free(text);
    }
    const size_t moved = atomic_load(&counts.bytes_read) + atomic_load(&counts.bytes_written);
    check(l, moved);
    if (table)
        print(l, kernel, moved);
    sm_findings_clear(&findings);
    sm_kernel_release(kernel);
}

/* One dtype is enough to see that kernels do what they should; those without simdgroup matrices are quicker to compile.
 */
static bool is_short(const launch *l) {
    return strstr(l->function, "bf16") == NULL && strstr(l->function, "f32") == NULL &&
           (l->reads_once || strstr(l->function, "64x64") || strstr(l->function, "d64"));
}

/* Each source as each of its libraries. */
static int check_strict(const char *folder) {
    char compiler[4096], last[64] = "";
    if (sm_strict_compiler(compiler, sizeof compiler) != ML_OK) {
        fprintf(stderr, "skipped: %s\n", ml_last_error());
        return 77;
    }
    launch l;
    for (int i = 0; launch_at(i, &l); i++) {
        char key[64], *log = NULL;
        snprintf(key, sizeof key, "%s %d", l.source, l.bfloat);
        if (strcmp(key, last) == 0)
            continue;
        memcpy(last, key, sizeof last);
        sm_library *library = NULL;
        if (create_library(&l, &(build){.folder = folder, .strict = true}, &library, &log) != ML_OK)
            fail(&l, ml_last_error(), log);
        else
            sm_library_release(library);
        free(log);
    }
    return failures ? 1 : 0;
}

/* ---- barriers ---- */

/* Whether the checker finds something in a launch of this source without the barrier in this line. */
static bool is_missed(const char *folder, const char *source, const char *word, int line) {
    char name[64], value[160];
    snprintf(name, sizeof name, "%s(flags)", word);
    snprintf(value, sizeof value, "(__LINE__ == %d ? (void)0 : %s(flags))", line, word);
    const sm_macro macro = {name, value};
    const build b = {.folder = folder, .extra = &macro};
    bool missed = false;
    launch l;
    for (int i = 0; !missed && barrier_launch_at(i, &l); i++) {
        sm_library *library = NULL;
        sm_kernel *kernel = NULL;
        sm_findings findings = {0};
        if (strcmp(l.source, source) != 0)
            continue;
        if (create_library(&l, &b, &library, NULL) != ML_OK ||
            sm_library_load(library, l.function, sm_executor_host(), &kernel, NULL) != ML_OK ||
            dispatch(&l, kernel, &findings) != ML_OK)
            fail(&l, ml_last_error(), NULL);
        missed = sm_findings_count(&findings, SM_WARNING) > 0;
        sm_findings_clear(&findings);
        if (kernel)
            sm_kernel_release(kernel);
        if (library)
            sm_library_release(library);
    }
    return missed;
}

/* The barriers of a file that this source consists of. */
static void check_barriers(const char *folder, const char *source, const char *file) {
    static const char *const words[] = {"threadgroup_barrier", "simdgroup_barrier"};
    char path[4096];
    char *text = read_text(folder, file, path, sizeof path);
    int line = 1;
    for (char *at = text; at && *at; line++) {
        char *end = strchr(at, '\n');
        if (end)
            *end = 0;
        for (int w = 0; w < 2; w++) {
            const char *call = strstr(at, words[w]);
            if (!call || call[strlen(words[w])] != '(' || is_missed(folder, source, words[w], line))
                continue;
            fprintf(stderr, "FAILED: %s:%d: nothing is found without this barrier\n", path, line);
            failures++;
        }
        at = end ? end + 1 : NULL;
    }
    free(text);
}

static int check_all_barriers(const char *folder) {
    static const char *const files[][2] = {{"gemm.metal", "gemm.metal"},
                                           {"gemm_generic.metal", "gemm_generic.metal"},
                                           {"gemv.metal", "gemv.metal"},
                                           {"softmax.metal", "softmax.metal"},
                                           {"softmax.metal", "common/reduce.h"},
                                           {"sdpa_vector.metal", "sdpa_vector.metal"},
                                           {"sdpa_tiled.metal", "sdpa_tiled.metal"},
                                           {"elementwise.metal", "elementwise.metal"}};
    launch l;
    for (int i = 0; barrier_launch_at(i, &l); i++) {
        sm_library *library = NULL;
        sm_kernel *kernel = NULL;
        sm_findings findings = {0};
        if (create_library(&l, &(build){.folder = folder}, &library, NULL) != ML_OK ||
            sm_library_load(library, l.function, sm_executor_host(), &kernel, NULL) != ML_OK ||
            dispatch(&l, kernel, &findings) != ML_OK || sm_findings_count(&findings, SM_NOTE) > 0)
            fail(&l, "with all its barriers", ml_last_error());
        sm_findings_clear(&findings);
        if (kernel)
            sm_kernel_release(kernel);
        if (library)
            sm_library_release(library);
    }
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        check_barriers(folder, files[i][0], files[i][1]);
    return failures ? 1 : 0;
}

int main(int argc, char **argv) {
    const bool table = argc > 2 && strcmp(argv[2], "--table") == 0;
    if (argc < 2) {
        fputs("usage: test_metal_kernels METAL_FOLDER [--table | --strict | --barriers]\n", stderr);
        return 2;
    }
    char compiler[4096];
    if (sm_compiler_path(compiler, sizeof compiler) != ML_OK) {
        fprintf(stderr, "skipped: %s\n", ml_last_error());
        return 77;
    }
    if (argc > 2 && strcmp(argv[2], "--strict") == 0)
        return check_strict(argv[1]);
    if (argc > 2 && strcmp(argv[2], "--barriers") == 0)
        return check_all_barriers(argv[1]);
    launch l;
    for (int i = 0; launch_at(i, &l); i++)
        if (table || is_short(&l))
            run(&l, argv[1], table);
    return failures ? 1 : 0;
}
