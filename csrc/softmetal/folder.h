/* The private folder of compiled kernels, and the headers they are compiled with.
 *
 * Every file is written under a name of its own and renamed into place, so that any number of processes may work in the
 * folder at once; whoever finds a file finds it whole. */
#ifndef SM_FOLDER_H
#define SM_FOLDER_H

#include "core/status.h"

#include <limits.h>

#define SM_PATH_MAX 4096

/* path: SM_PATH_MAX bytes. A name in the folder that nobody else has, for a file on its way. */
ml_status sm_temporary_name(const char *folder, const char *suffix, char *path);
/* Removes what a process that died left on its way, and what nobody has used for three months; not the folder keep.
 * Once per process; called before a compiler run, beside which it costs nothing. Whoever finds a file gone that was
 * there makes it anew. */
void sm_folder_tidy(const char *folder, const char *keep);
/* The folder host-<digest> with the embedded headers in shim/ and include/, made if it is not there. */
ml_status sm_host_headers(const char *folder, char *path);
/* The digest of the embedded headers. */
void sm_host_digest(char hex[33]);

#endif
