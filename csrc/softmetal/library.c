/* Libraries: parsed source, and the kernels compiled and loaded from it. */
#include "softmetal/module.h"

#include "mslc/mslc.h"
#include "softmetal/builtin.h"
#include "softmetal/compile.h"
#include "softmetal/executor.h"
#include "softmetal/strict.h"

#include <dlfcn.h>
#if defined(__linux__)
#include <link.h>
#endif
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct loaded {
    sm_kernel kernel; /* first: handed out */
    atomic_int refs;
    void *object; /* from dlopen */
    char path[SM_PATH_MAX];
} loaded;

struct sm_library {
    atomic_int refs;
    sm_compiler compiler; /* without a command until it is needed, where the source is built in */
    mslc_unit *unit;
    bool checked, strict;
    pthread_mutex_t lock; /* of kernels; held while one is compiled, so that two threads do not compile the same */
    loaded **kernels;     /* by function; those loaded and alive, not counted as references */
};

/* ---- errors
 * ------------------------------------------------------------------------------------------------------------------ */

/* The whole text to *log, the beginning to ml_last_error(), which is right already where there is none. Takes messages
 * over. */
static ml_status report(ml_status status, char *messages, char **log) {
    if (status == ML_ERR_COMPILE && messages)
        ml_fail(status, "%s", messages);
    if (log)
        *log = messages;
    else
        free(messages);
    return status;
}

/* ---- libraries
 * ---------------------------------------------------------------------------------------------------------------- */

ml_status sm_library_create(const sm_library_options *options, sm_library **out, char **log) {
    if (log)
        *log = NULL;
    if (!options->source)
        return ml_fail(ML_ERR_VALUE, "a Metal library needs source text");
    sm_library *library = calloc(1, sizeof *library);
    if (!library)
        return ml_fail(ML_ERR_MEMORY, "out of memory");
    atomic_init(&library->refs, 1);
    pthread_mutex_init(&library->lock, NULL);
    library->checked = options->checked;
    library->strict = options->strict;
    char *text = NULL, *messages = NULL;
    const char *builtin = sm_builtin_text(options);
    ml_status status = builtin ? ML_OK : sm_compiler_find(&library->compiler);
    if (status == ML_OK && !builtin)
        status = sm_preprocess(&library->compiler, options, &text, &messages);
    if (status == ML_OK && (builtin || text))
        status = mslc_parse(builtin ? builtin : text, strlen(builtin ? builtin : text), &library->unit, &messages);
    free(text);
    if (status == ML_OK && options->strict)
        status = sm_strict_check(&library->compiler, library->unit, &messages);
    if (status == ML_OK) {
        library->kernels = calloc((size_t)mslc_function_count(library->unit) + 1, sizeof *library->kernels);
        if (!library->kernels)
            status = ml_fail(ML_ERR_MEMORY, "out of memory");
    }
    if (status != ML_OK) {
        sm_library_release(library);
        return report(status, messages, log);
    }
    *out = library;
    return report(ML_OK, messages, log);
}

void sm_library_retain(sm_library *library) {
    atomic_fetch_add_explicit(&library->refs, 1, memory_order_relaxed);
}

void sm_library_release(sm_library *library) {
    if (!library || atomic_fetch_sub_explicit(&library->refs, 1, memory_order_acq_rel) != 1)
        return;
    mslc_free(library->unit);
    free(library->kernels);
    pthread_mutex_destroy(&library->lock);
    free(library);
}

int sm_library_function_count(const sm_library *library) {
    return mslc_function_count(library->unit);
}

const sm_function_info *sm_library_function(const sm_library *library, int i) {
    return mslc_function(library->unit, i);
}

static int find(const sm_library *library, const char *name) {
    for (int i = 0; i < mslc_function_count(library->unit); i++)
        if (strcmp(mslc_function(library->unit, i)->name, name) == 0)
            return i;
    return -1;
}

const sm_function_info *sm_library_find(const sm_library *library, const char *name) {
    return mslc_function(library->unit, find(library, name));
}

/* ---- kernels
 * --------------------------------------------------------------------------------------------------------------------
 */

typedef struct image {
    const void *inside; /* an address in the object */
    uintptr_t begin, end;
} image;

#if defined(__linux__)
static int find_image(struct dl_phdr_info *info, size_t size, void *data) {
    image *im = data;
    uintptr_t begin = UINTPTR_MAX, end = 0;
    bool ours = false;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_LOAD)
            continue;
        const uintptr_t low = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, high = low + info->dlpi_phdr[i].p_memsz;
        begin = low < begin ? low : begin;
        end = high > end ? high : end;
        ours = ours || ((uintptr_t)im->inside >= low && (uintptr_t)im->inside < high);
    }
    if (ours) {
        im->begin = begin;
        im->end = end;
    }
    return ours;
}

static void look_up_image(image *im) {
    dl_iterate_phdr(find_image, im);
}

/* Mapping an object that was cut short would end the process: the linker writes the section headers last. */
static bool is_whole(const char *path) {
    ElfW(Ehdr) header;
    struct stat st;
    FILE *file = fopen(path, "rbe");
    const bool whole = file && fread(&header, sizeof header, 1, file) == 1 && fstat(fileno(file), &st) == 0 &&
                       memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 &&
                       header.e_shoff + (uint64_t)header.e_shnum * header.e_shentsize <= (uint64_t)st.st_size;
    if (file)
        fclose(file);
    return whole;
}
#else
/* No kernel runs here (fiber.h): nobody asks where one lies. */
static void look_up_image(image *im) {
    (void)im;
}

static bool is_whole(const char *path) {
    (void)path;
    return true;
}
#endif

static ml_status load_object(loaded *l, const sm_host *host) {
    if (!is_whole(l->path))
        return ml_fail(ML_ERR_COMPILE, "%s is no whole shared object", l->path);
    l->object = dlopen(l->path, RTLD_NOW | RTLD_LOCAL);
    if (!l->object)
        return ml_fail(ML_ERR_COMPILE, "a compiled kernel cannot be loaded: %s", dlerror());
    sm_module_open_fn open = (sm_module_open_fn)dlsym(l->object, SM_MODULE_SYMBOL);
    const sm_module *module = open ? open(host) : NULL;
    if (!module)
        return ml_fail(ML_ERR_DEVICE, "%s is no kernel module of this version", l->path);
    image im = {(const void *)module, 0, 0};
    look_up_image(&im);
    l->kernel.module = module;
    l->kernel.function = &module->functions[0];
    l->kernel.object_path = l->path;
    l->kernel.image_begin = (const void *)im.begin;
    l->kernel.image_end = (const void *)im.end;
    return ML_OK;
}

/* Strict mode: the kernel's own arrays must fit, as the device's compiler sees to. */
static ml_status check_memory(const loaded *l, const sm_function_info *info, char **messages) {
    uint64_t total = 0;
    for (const sm_threadgroup_array *a = l->kernel.module->arrays; a; a = a->next)
        total = (total + a->align - 1) / a->align * a->align + a->size;
    if (total <= SM_MAX_THREADGROUP_MEMORY)
        return ML_OK;
    char text[512];
    snprintf(text, sizeof text, "%s:%u:1: error: kernel '%s' needs %llu bytes of threadgroup memory; the limit is %u\n",
             info->file, info->line, info->name, (unsigned long long)total, SM_MAX_THREADGROUP_MEMORY);
    *messages = strdup(text);
    return ML_ERR_COMPILE;
}

static void destroy(loaded *l) {
    if (l->kernel.executor_free)
        l->kernel.executor_free(l->kernel.executor);
    if (l->object)
        dlclose(l->object);
    free(l);
}

static ml_status make(sm_library *library, int i, const sm_host *host, loaded **out, char **messages) {
    char *text = NULL;
    const sm_function_info *info = mslc_function(library->unit, i);
    ML_TRY(mslc_emit(library->unit, i, &text, messages));
    loaded *l = calloc(1, sizeof *l);
    char fallback[1024];
    snprintf(fallback, sizeof fallback, "%s:%u:1", info->file, info->line);
    ml_status status = l ? ML_OK : ml_fail(ML_ERR_MEMORY, "out of memory");
    if (status == ML_OK && !library->checked)
        status = sm_builtin_module(text, l->path);
    const bool compiles = status == ML_OK && !l->path[0];
    if (compiles && !library->compiler.command[0])
        status = sm_compiler_find(&library->compiler);
    if (compiles && status == ML_OK)
        status = sm_compile_module(&library->compiler, text, library->checked, fallback, l->path, messages);
    if (status == ML_OK)
        status = load_object(l, host);
    if (status == ML_ERR_COMPILE && compiles && !*messages && !l->object) {
        /* What the folder kept cannot be loaded (cut short, or of another machine): once more from the source. */
        unlink(l->path);
        status = sm_compile_module(&library->compiler, text, library->checked, fallback, l->path, messages);
        if (status == ML_OK)
            status = load_object(l, host);
    }
    free(text);
    if (status == ML_OK && library->strict)
        status = check_memory(l, info, messages);
    if (status != ML_OK) {
        if (l)
            destroy(l);
        return status;
    }
    atomic_init(&l->refs, 1);
    l->kernel.library = library;
    sm_library_retain(library);
    *out = l;
    return ML_OK;
}

ml_status sm_library_load(sm_library *library, const char *name, const sm_host *host, sm_kernel **out, char **log) {
    if (log)
        *log = NULL;
    const int i = find(library, name);
    if (i < 0)
        return ml_fail(ML_ERR_VALUE, "no kernel called '%s' in this library", name);
    char *messages = NULL;
    ml_status status = ML_OK;
    pthread_mutex_lock(&library->lock);
    loaded *l = library->kernels[i];
    if (l) {
        atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
    } else {
        status = make(library, i, host, &l, &messages);
        if (status == ML_OK)
            library->kernels[i] = l;
    }
    pthread_mutex_unlock(&library->lock);
    if (status == ML_OK)
        *out = &l->kernel;
    return report(status, messages, log);
}

void sm_kernel_retain(sm_kernel *kernel) {
    atomic_fetch_add_explicit(&((loaded *)kernel)->refs, 1, memory_order_relaxed);
}

void sm_kernel_release(sm_kernel *kernel) {
    if (!kernel)
        return;
    loaded *l = (loaded *)kernel;
    sm_library *library = kernel->library;
    /* Under the lock, so that nobody takes it out of the table while it goes. */
    pthread_mutex_lock(&library->lock);
    const bool last = atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) == 1;
    for (int i = 0; last && i < mslc_function_count(library->unit); i++)
        if (library->kernels[i] == l)
            library->kernels[i] = NULL;
    pthread_mutex_unlock(&library->lock);
    if (last) {
        destroy(l);
        sm_library_release(library);
    }
}

/* ---- function constants
 * ----------------------------------------------------------------------------------------------------------- */

static const sm_constant_value *value_of(const sm_constant *c, const sm_constant_value *values, int n) {
    for (int i = n - 1; i >= 0; i--)
        if (values[i].name ? strcmp(values[i].name, c->name) == 0 : values[i].index == c->index)
            return &values[i];
    return NULL;
}

static bool reaches(const sm_function_info *info, const char *name) {
    for (int i = 0; i < info->n_constants; i++)
        if (strcmp(info->constants[i].name, name) == 0)
            return true;
    return false;
}

ml_status sm_constants_create(const sm_kernel *kernel, const sm_constant_value *values, int n, unsigned char **block) {
    const sm_module *m = kernel->module;
    const sm_function_info *info = sm_library_find(kernel->library, kernel->function->name);
    unsigned char *b = aligned_alloc(32, m->constants_bytes ? m->constants_bytes : 32);
    if (!b)
        return ml_fail(ML_ERR_MEMORY, "out of memory");
    memset(b, 0, m->constants_bytes ? m->constants_bytes : 32);
    for (uint32_t i = 0; i < m->n_constants; i++) {
        const sm_constant *c = &m->constants[i];
        const sm_constant_value *v = value_of(c, values, n);
        ml_status status = ML_OK;
        if (!v && info && reaches(info, c->name) && !c->optional)
            status = ml_fail(ML_ERR_VALUE, "kernel '%s' needs a value for the function constant '%s' (index %d)",
                             kernel->function->name, c->name, c->index);
        else if (v && v->size && v->size != c->size)
            status = ml_fail(ML_ERR_VALUE, "function constant '%s' is a %s of %u bytes, not %zu", c->name, c->type,
                             c->size, v->size);
        if (status != ML_OK) {
            free(b);
            return status;
        }
        if (!v)
            continue;
        if (strcmp(c->type, "bool") == 0)
            b[c->offset] = *(const unsigned char *)v->data != 0;
        else
            memcpy(b + c->offset, v->data, c->size);
        b[c->defined_offset] = 1;
    }
    *block = b;
    return ML_OK;
}

void sm_constants_release(unsigned char *block) {
    free(block);
}
