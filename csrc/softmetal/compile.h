/* The C++ compiler: found once per library, run for each kernel that the cache folder does not have. */
#ifndef SM_COMPILE_H
#define SM_COMPILE_H

#include "softmetal/folder.h"
#include "softmetal/module.h"
#include "softmetal/process.h"

typedef struct sm_compiler {
    char command[1024]; /* its path and leading words */
    char identity[256]; /* first line of --version */
    char cpu[33];       /* digest of this machine's CPU features */
    bool is_clang;
    bool portable; /* compile for any machine of this architecture that sm_builtin_text() serves */
    int major;     /* gcc or clang version */
    char folder[SM_PATH_MAX], headers[SM_PATH_MAX];
} sm_compiler;

/* Finds the compiler (METALLIC_CXX, CXX, c++, g++, clang++), the cache folder and the headers in it. */
ml_status sm_compiler_find(sm_compiler *out);

/* From here on modules do not depend on this machine's CPU. */
void sm_compiler_set_portable(sm_compiler *compiler);

/* MSL as written to MSL without macros and comments. *text and *messages (malloc'ed; NULL when there are none) are the
 * caller's. ML_ERR_COMPILE: messages say why. */
ml_status sm_preprocess(const sm_compiler *compiler, const sm_library_options *options, char **text, char **messages);

/* C++ of a module to the path of its shared object. fallback: "file:line" for errors that belong to no line of the
 * user's. */
ml_status sm_compile_module(const sm_compiler *compiler, const char *text, bool checked, const char *fallback,
                            char *object_path, char **messages);

/* Rewrites compiler output: messages about the shim are moved to the line of the user's source that led there, the rest
 * of the context is dropped. malloc'ed; NULL when nothing remains. (messages.c) */
char *sm_clean_messages(const char *text, const char *fallback, bool errors_only);

#endif
