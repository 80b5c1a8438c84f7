/* From MSL source to loaded kernel modules: the interface of the compile part of the software Metal (library.c).
 *
 *     sm_library_create    preprocesses and parses: lists the kernels in well under a second, compiles no bodies
 *     sm_library_load      translates, compiles (or takes from the cache folder) and loads what one kernel needs
 *     sm_constants_create  the immutable block of function constants of one pipeline
 *
 * All functions may be called from any thread. Objects are reference counted; strings and tables inside an object live
 * as long as it does.
 *
 * Errors: ML_ERR_COMPILE for source that is rejected and when no C++ compiler is found, ML_ERR_VALUE for bad arguments
 * (unknown function, constant of a wrong size), ML_ERR_DEVICE when the cache folder cannot be used, ML_ERR_MEMORY. The
 * first 1 KiB of the message is ml_last_error(); with log not NULL the whole text comes through it (malloc'ed; also
 * warnings on success; NULL when there is nothing to say). Lines of source errors look like
 * "file.metal:12:5: error: ...".
 */
#ifndef SM_MODULE_H
#define SM_MODULE_H

#include "core/status.h"
#include "mslc/mslc.h"

/* ---- libraries --------------------------------------------------------------------------------------------- */

typedef struct sm_macro {
    const char *name;
    const char *value; /* NULL: 1 */
} sm_macro;

typedef struct sm_library_options {
    const char *source; /* need not end in 0 when length is given */
    size_t length;      /* 0: strlen(source) */
    const char *name;   /* for messages and reports: a path; NULL: "program_source" */
    const sm_macro *macros;
    int n_macros;
    const char *const *include_dirs; /* searched for #include "..." after the folder of name */
    int n_include_dirs;
    uint32_t language_version; /* as MTLLanguageVersion: 0x30001 is MSL 3.1; 0: 0x30002 */
    bool checked;              /* memory accesses call the host's checker; slower */
    bool strict;               /* refuse what Apple's compiler refuses; ML_ERR_DEVICE when there is no clang to tell */
} sm_library_options;

typedef struct sm_library sm_library;

ml_status sm_library_create(const sm_library_options *options, sm_library **out, char **log);
void sm_library_retain(sm_library *library);
void sm_library_release(sm_library *library);
int sm_library_function_count(const sm_library *library);
const sm_function_info *sm_library_function(const sm_library *library, int i);        /* in order of the source */
const sm_function_info *sm_library_find(const sm_library *library, const char *name); /* NULL: none */

/* ---- loaded kernels ---------------------------------------------------------------------------------------- */

typedef struct sm_kernel {
    const sm_module *module; /* arrays[].offset is for the executor to fill */
    const sm_function *function;
    const char *object_path; /* the shared object, with its line table; stays readable while the kernel lives */
    const void *image_begin, *image_end; /* where it is mapped: code and constant tables */
    sm_library *library;
    void *executor; /* for the executor: layout of this kernel; freed by executor_free */
    void (*executor_free)(void *executor);
} sm_kernel;

/* The kernel called name, compiled on first use; later calls with the same host give the same object (a new reference).
 * Where the library is checked, so is the kernel. host must outlive the kernel. */
ml_status sm_library_load(sm_library *library, const char *name, const sm_host *host, sm_kernel **out, char **log);
void sm_kernel_retain(sm_kernel *kernel);
void sm_kernel_release(sm_kernel *kernel);

/* ---- function constants ------------------------------------------------------------------------------------ */

typedef struct sm_constant_value {
    const char *name; /* NULL: by index */
    int32_t index;
    const void *data; /* a value of the constant's type (bool: one byte, not 0 is true) */
    size_t size;      /* 0: the type's size; else must equal it */
} sm_constant_value;

/* Builds the block for sm_thread.constants; *block is released with sm_constants_release. Values for constants that the
 * kernel's module does not have are ignored, as Metal does. A constant that the kernel reaches, that has no value and
 * is not optional, is ML_ERR_VALUE. */
ml_status sm_constants_create(const sm_kernel *kernel, const sm_constant_value *values, int n, unsigned char **block);
void sm_constants_release(unsigned char *block);

/* ---- pieces ------------------------------------------------------------------------------------------------ */

/* The folder of compiled kernels, created with mode 0700: METALLIC_CACHE_DIR, else $XDG_CACHE_HOME/metallic, else
 * ~/.cache/metallic. Errors: ML_ERR_DEVICE when it belongs to somebody else or others may write to it. */
ml_status sm_cache_folder(char *path, size_t size);
/* The C++ compiler in use ("/usr/bin/g++") or ML_ERR_COMPILE with advice. */
ml_status sm_compiler_path(char *path, size_t size);
/* Which clang strict mode uses ("/usr/bin/clang", "python3 -m ziglang clang"), or ML_ERR_DEVICE with advice. */
ml_status sm_strict_compiler(char *command, size_t size);

#endif
