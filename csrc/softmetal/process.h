/* Running a program without a shell, and small files. */
#ifndef SM_PROCESS_H
#define SM_PROCESS_H

#include "core/status.h"

/* A program and its leading words ("ccache g++"), argv-style; ends in NULL. */
typedef struct sm_arguments {
    char **words;
    int count, capacity;
    bool failed; /* out of memory */
} sm_arguments;

void sm_arguments_add(sm_arguments *arguments, const char *word);
void sm_arguments_printf(sm_arguments *arguments, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* At spaces; as in a shell, quotes and backslashes keep what they protect together. */
void sm_arguments_split(sm_arguments *arguments, const char *words);
/* Writes program so that splitting gives one word, and the further words as they are. False: it does not fit. */
bool sm_command_text(const char *program, const char *words, char *command, size_t size);
void sm_arguments_free(sm_arguments *arguments);

/* Runs words[0] (found on PATH) with stdin empty, LC_ALL=C and standard output and error in one file, output_path.
 * *exit_code: -1 when a signal ended it. Errors: ML_ERR_DEVICE when it cannot be started. */
ml_status sm_run(const sm_arguments *arguments, const char *output_path, int *exit_code);

/* The whole file, malloc'ed, ends in 0. NULL when it cannot be read; *length may be NULL. */
char *sm_read_file(const char *path, size_t *length);
/* Creates path, which must not exist, mode 0600. */
ml_status sm_write_file(const char *path, const char *data, size_t length);
/* Where PATH has an executable of that name (a name with a slash is taken as it is); false: nowhere. */
bool sm_find_program(const char *name, char *path, size_t size);

#endif
