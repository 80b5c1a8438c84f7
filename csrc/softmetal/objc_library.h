/* Libraries, as functions see them. */
#ifndef SM_OBJC_LIBRARY_H
#define SM_OBJC_LIBRARY_H

#include "softmetal/objc_classes.h"

/* MTLLibraryError */
#define SM_LIBRARY_DOMAIN "MTLLibraryErrorDomain"
enum { SM_LIBRARY_COMPILE_FAILURE = 3, SM_LIBRARY_FUNCTION_NOT_FOUND = 5 };

/* MTLLibrary. The source is kept: which variant is compiled, checked or not, is decided by who runs it. */
typedef struct sm_mtl_library {
    sm_labelled base;
    char *source;
    sm_macro *macros;
    int n_macros;
    uint32_t language_version;
    pthread_mutex_t lock;
    sm_library *variants[2]; /* unchecked, checked; NULL: not yet */
} sm_mtl_library;

/* *log as of sm_library_create. The library belongs to l. */
ml_status sm_library_variant(sm_mtl_library *l, bool checked, sm_library **out, char **log);
/* One that has been made already, to list functions. */
sm_library *sm_library_any_variant(sm_mtl_library *l);

void sm_set_error(sm_id *error, const char *domain, long code, const char *text); /* error may be NULL */

#endif
