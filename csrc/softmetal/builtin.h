/* Kernels compiled when the package was built: sources preprocessed, modules linked, in one block of bytes ("pack")
 * that is part of the library where the build had a C++ compiler (metal/mslc/pack.c makes it). So the project's own
 * kernels need no compiler where they run. */
#ifndef SM_BUILTIN_H
#define SM_BUILTIN_H

#include "softmetal/module.h"

/* ---- the pack ---- */

#define SM_PACK_MAGIC "SMPACK01"

/* Followed by its entries, then by their contents. */
typedef struct sm_pack_header {
    char magic[8];
    uint64_t entries;
} sm_pack_header;

typedef struct sm_pack_entry {
    char key[40];           /* sm_pack_text_key, sm_pack_module_key */
    char digest[40];        /* of the content */
    uint64_t offset, bytes; /* from the start of the pack */
} sm_pack_entry;

/* A source as given to sm_library_create, without macros and include folders: the content is its preprocessed text,
 * with a terminating 0. */
void sm_pack_text_key(const char *source, size_t length, uint32_t language_version, char key[40]);
/* The C++ of a module (mslc_emit): the content is a shared object. */
void sm_pack_module_key(const char *text, char key[40]);

/* ---- what is in it ---- */

/* The preprocessed text, or NULL when this library is to be compiled: other options, another source, no pack, or a CPU
 * that its modules are not for. */
const char *sm_builtin_text(const sm_library_options *options);
/* Puts the module into the folder of compiled kernels, if it is not there, else into memory, and its path into path
 * (SM_PATH_MAX bytes); path is empty when the pack has no such module. Errors: ML_ERR_DEVICE when neither can be used.
 */
ml_status sm_builtin_module(const char *text, char *path);

#endif
