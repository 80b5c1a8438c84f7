/* mslc: Metal Shading Language to C++17.
 *
 * The input is MSL that a C++ preprocessor has been through (macros expanded, `# line "file"` markers kept). Parsing
 * looks at declarations only: it finds the kernels, their parameters, the function constants, and edits tokens where
 * MSL and C++ differ; bodies are left to the C++ compiler. Emitting writes the translated source, of all kernels only
 * those asked for, and the tables of the module contract (abi.h). #line directives keep every token on its line of the
 * user's file.
 */
#ifndef MSLC_H
#define MSLC_H

#include "core/status.h"
#include "mslc/abi.h"

/* ---- what parsing knows -------------------------------------------------------------------------------------- */

/* A kernel's parameter. Sizes are known only once the kernel is compiled (sm_argument). */
typedef struct sm_argument_info {
    sm_argument_kind kind;
    int32_t index;
    const char *name;
    const char *type;    /* element type as written after template arguments are put in where that is simple */
    const char *builtin; /* SM_ARGUMENT_BUILTIN: "thread_position_in_grid"; else NULL */
    sm_access_mode access;
    bool is_constant, is_reference, is_pointer;
    const char *condition; /* name of the function constant in [[function_constant(name)]]; NULL: always there */
} sm_argument_info;

typedef struct sm_constant_info {
    const char *name;
    int32_t index;
    const char *type;
    bool optional; /* the source asks is_function_constant_defined(name): it may stay without a value */
} sm_constant_info;

typedef struct sm_function_info {
    const char *name; /* host_name where given */
    const char *file;
    uint32_t line;
    const sm_argument_info *arguments;
    int n_arguments;
    const sm_constant_info *constants; /* those the kernel can reach */
    int n_constants;
    uint32_t max_total_threads; /* 0: not given, or not a plain number (see sm_function) */
} sm_function_info;

/* ---- translating --------------------------------------------------------------------------------------------- */

typedef struct mslc_unit mslc_unit;

/* Parses length bytes of text, which are copied. On ML_ERR_COMPILE *message holds lines "file:line:column: error: ...",
 * to be freed by the caller; it is untouched otherwise. */
ml_status mslc_parse(const char *text, size_t length, mslc_unit **out, char **message);
void mslc_free(mslc_unit *unit);

/* The kernels in order of the source; for a template one entry per instantiation that has a host_name (or, without one,
 * under the template's own name). Strings and tables live as long as the unit. */
int mslc_function_count(const mslc_unit *unit);
const sm_function_info *mslc_function(const mslc_unit *unit, int i);

/* C++ source of a module that holds function i; *text is to be freed by the caller. ML_ERR_COMPILE for what is declared
 * but not modelled (textures, argument buffers), *message as above. The unit does not change: any number of threads may
 * emit from it. */
ml_status mslc_emit(const mslc_unit *unit, int i, char **text, char **message);

/* Strict mode. mslc_check: what Metal does not have, as far as tokens and declarations tell; ML_ERR_COMPILE with all
 * objections in *message. mslc_emit_strict: the whole source as C++ for OpenCL, for a compiler to check address spaces
 * and types: their words become __global, __constant, __local and __private, attributes go, kernels are plain
 * functions. */
ml_status mslc_check(mslc_unit *unit, char **message);
ml_status mslc_emit_strict(const mslc_unit *unit, char **text);

#endif
