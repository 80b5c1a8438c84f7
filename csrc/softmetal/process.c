#include "softmetal/process.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#if !defined(__linux__) /* unistd.h has it there */
extern char **environ;
#endif

void sm_arguments_add(sm_arguments *a, const char *word) {
    if (a->count + 1 >= a->capacity) {
        const int bigger = a->capacity ? 2 * a->capacity : 32;
        char **moved = realloc(a->words, (size_t)bigger * sizeof *moved);
        if (!moved) {
            a->failed = true;
            return;
        }
        a->words = moved;
        a->capacity = bigger;
    }
    a->words[a->count] = strdup(word);
    a->failed = a->failed || !a->words[a->count];
    a->words[++a->count] = NULL;
}

void sm_arguments_printf(sm_arguments *a, const char *format, ...) {
    char *word = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&word, format, args) < 0)
        word = NULL;
    va_end(args);
    if (word)
        sm_arguments_add(a, word);
    else
        a->failed = true;
    free(word);
}

void sm_arguments_split(sm_arguments *a, const char *words) {
    char *word = malloc(strlen(words) + 1);
    if (!word) {
        a->failed = true;
        return;
    }
    for (;;) {
        words += strspn(words, " \t");
        if (!*words)
            break;
        size_t n = 0;
        char quote = 0;
        for (; *words && (quote || !strchr(" \t", *words)); words++) {
            if (*words == '\\' && quote != '\'' && words[1])
                word[n++] = *++words;
            else if (quote ? *words == quote : *words == '"' || *words == '\'')
                quote = quote ? 0 : *words;
            else
                word[n++] = *words;
        }
        word[n] = 0;
        sm_arguments_add(a, word);
    }
    free(word);
}

bool sm_command_text(const char *program, const char *words, char *command, size_t size) {
    size_t n = 0;
    for (; *program && n + 2 < size; program++) {
        if (strchr(" \t\\'\"", *program))
            command[n++] = '\\';
        command[n++] = *program;
    }
    const size_t rest = strlen(words);
    if (*program || n + rest >= size)
        return false;
    memcpy(command + n, words, rest + 1);
    return true;
}

void sm_arguments_free(sm_arguments *a) {
    for (int i = 0; i < a->count; i++)
        free(a->words[i]);
    free(a->words);
    *a = (sm_arguments){0};
}

/* The environment with LC_ALL=C, so that messages can be read; NULL: out of memory. */
static char **plain_environment(void) {
    static char locale[] = "LC_ALL=C";
    size_t n = 0;
    while (environ[n])
        n++;
    char **copy = malloc((n + 2) * sizeof *copy);
    if (!copy)
        return NULL;
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], "LC_ALL=", 7) != 0)
            copy[k++] = environ[i];
    copy[k++] = locale;
    copy[k] = NULL;
    return copy;
}

ml_status sm_run(const sm_arguments *a, const char *output_path, int *exit_code) {
    if (a->failed || a->count == 0)
        return ml_fail(ML_ERR_MEMORY, "out of memory");
    char **environment = plain_environment();
    if (!environment)
        return ml_fail(ML_ERR_MEMORY, "out of memory");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, output_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t pid;
    const int error = posix_spawnp(&pid, a->words[0], &actions, NULL, a->words, environment);
    posix_spawn_file_actions_destroy(&actions);
    free(environment);
    if (error)
        return ml_fail(ML_ERR_DEVICE, "cannot run %s: %s", a->words[0], strerror(error));
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return ml_fail(ML_ERR_DEVICE, "lost track of %s: %s", a->words[0], strerror(errno));
    *exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return ML_OK;
}

char *sm_read_file(const char *path, size_t *length) {
    FILE *f = fopen(path, "rbe");
    if (!f)
        return NULL;
    char *data = NULL;
    size_t n = 0, capacity = 0;
    for (;;) {
        if (capacity - n < 4096) {
            capacity = capacity ? 2 * capacity : 16384;
            char *moved = realloc(data, capacity);
            if (!moved)
                break;
            data = moved;
        }
        const size_t got = fread(data + n, 1, capacity - n - 1, f);
        n += got;
        if (got == 0) {
            if (ferror(f))
                break;
            fclose(f);
            data[n] = 0;
            if (length)
                *length = n;
            return data;
        }
    }
    free(data);
    fclose(f);
    return NULL;
}

ml_status sm_write_file(const char *path, const char *data, size_t length) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return ml_fail(ML_ERR_DEVICE, "cannot create %s: %s (METALLIC_CACHE_DIR chooses another folder)", path,
                       strerror(errno));
    size_t done = 0;
    while (done < length) {
        const ssize_t n = write(fd, data + done, length - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            const int error = errno;
            close(fd);
            unlink(path);
            return ml_fail(ML_ERR_DEVICE, "cannot write %s: %s (METALLIC_CACHE_DIR chooses another folder)", path,
                           strerror(error));
        }
        done += (size_t)n;
    }
    if (close(fd) != 0) {
        unlink(path);
        return ml_fail(ML_ERR_DEVICE, "cannot write %s: %s (METALLIC_CACHE_DIR chooses another folder)", path,
                       strerror(errno));
    }
    return ML_OK;
}

static bool is_program(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

bool sm_find_program(const char *name, char *path, size_t size) {
    if (strchr(name, '/')) {
        if (!is_program(name))
            return false;
        return snprintf(path, size, "%s", name) < (int)size;
    }
    const char *dirs = getenv("PATH");
    for (dirs = dirs ? dirs : "/usr/bin:/bin"; *dirs;) {
        const size_t n = strcspn(dirs, ":");
        if (n && snprintf(path, size, "%.*s/%s", (int)n, dirs, name) < (int)size && is_program(path))
            return true;
        dirs += n + (dirs[n] == ':');
    }
    return false;
}
