#include "softmetal/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REPORT_FD = 3 };

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

/* A program that ignores SIGCHLD never learns how its children ended. */
static bool exit_codes_are_lost(void) {
    struct sigaction now;
    if (sigaction(SIGCHLD, NULL, &now) != 0)
        return false;
    return (now.sa_flags & SA_NOCLDWAIT) || (!(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_IGN);
}

/* Two ends that no exec inherits, above the descriptors that the child gets. */
static bool open_pipe(int ends[2]) {
    int low[2];
    if (pipe(low) != 0)
        return false;
    ends[0] = fcntl(low[0], F_DUPFD_CLOEXEC, REPORT_FD + 1);
    ends[1] = fcntl(low[1], F_DUPFD_CLOEXEC, REPORT_FD + 1);
    close(low[0]);
    close(low[1]);
    if (ends[0] >= 0 && ends[1] >= 0)
        return true;
    if (ends[0] >= 0)
        close(ends[0]);
    if (ends[1] >= 0)
        close(ends[1]);
    return false;
}

static int spawn(char *const *words, const char *output_path, int report, pid_t *pid) {
    char **environment = plain_environment();
    if (!environment)
        return ENOMEM;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, output_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    if (report >= 0)
        posix_spawn_file_actions_adddup2(&actions, report, REPORT_FD);
    posix_spawnattr_t attributes; /* compilers wait for children of their own */
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGCHLD);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    const int error = posix_spawnp(pid, words[0], &actions, &attributes, words, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    free(environment);
    return error;
}

/* Runs it under a shell, which writes the exit code into a pipe. */
static ml_status run_reported(const sm_arguments *a, const char *output_path, int *exit_code) {
    sm_arguments shell = {0};
    int ends[2];
    sm_arguments_add(&shell, "/bin/sh");
    sm_arguments_add(&shell, "-c");
    sm_arguments_printf(&shell, "\"$@\" %d>&-; echo $? >&%d", REPORT_FD, REPORT_FD);
    sm_arguments_add(&shell, "sh");
    for (int i = 0; i < a->count; i++)
        sm_arguments_add(&shell, a->words[i]);
    if (shell.failed || !open_pipe(ends)) {
        sm_arguments_free(&shell);
        return ml_fail(ML_ERR_DEVICE, "cannot run %s: %s", a->words[0], strerror(errno));
    }
    pid_t pid;
    const int error = spawn(shell.words, output_path, ends[1], &pid);
    close(ends[1]);
    sm_arguments_free(&shell);
    char text[16];
    size_t n = 0;
    while (!error && n < sizeof text - 1) {
        const ssize_t got = read(ends[0], text + n, sizeof text - 1 - n);
        if (got == 0 || (got < 0 && errno != EINTR))
            break;
        n += got > 0 ? (size_t)got : 0;
    }
    close(ends[0]);
    if (error)
        return ml_fail(ML_ERR_DEVICE, "cannot run %s: %s", a->words[0], strerror(error));
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) /* the signal may be back */
        ;
    text[n] = 0;
    *exit_code = n ? atoi(text) : -1;
    return ML_OK;
}

ml_status sm_run(const sm_arguments *a, const char *output_path, int *exit_code) {
    if (a->failed || a->count == 0)
        return ml_fail(ML_ERR_MEMORY, "out of memory");
    if (exit_codes_are_lost())
        return run_reported(a, output_path, exit_code);
    pid_t pid;
    const int error = spawn(a->words, output_path, -1, &pid);
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
