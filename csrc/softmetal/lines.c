/* From code addresses to MSL source lines, with the system's addr2line: it comes with the compiler that built the
 * module, and knows inlining. Answers are kept with the kernel. */
#include "softmetal/checker.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#if !defined(__linux__) /* unistd.h has it there */
extern char **environ;
#endif

enum { BATCH = 256 };

typedef struct sm_known_line {
    uintptr_t pc;
    sm_line line;
} sm_known_line;

static bool ends_with(const char *s, size_t n, const char *tail) {
    size_t m = strlen(tail);
    return n >= m && memcmp(s + n - m, tail, m) == 0 && (n == m || s[n - m - 1] == '/');
}

bool sm_shim_file(const char *file) {
    return strstr(file, SM_SHIM_FILE) != NULL; /* also its parts, "<metal>/math.h" */
}

/* One line of output, "/folder/file.metal:12 (discriminator 3)", into line unless it is not the user's source. */
static void take_frame(const sm_kernel *kernel, const char *text, sm_line *line) {
    const char *colon = strstr(text, " (discriminator");
    const char *end = colon ? colon : text + strlen(text);
    colon = end;
    while (colon > text && *colon != ':')
        colon--;
    size_t n = (size_t)(colon - text);
    unsigned long number = strtoul(colon + 1, NULL, 10);
    if (!n || !number || text[0] == '?' || sm_shim_file(text))
        return;
    const char *own = kernel->function->file; /* without the compiler's working folder */
    line->file = own && ends_with(text, n, own) ? strdup(own) : strndup(text, n);
    line->line = (uint32_t)number;
}

/* Output of "addr2line -a -i": for each address a line with it, then its frames, innermost first. */
static void parse(const sm_kernel *kernel, FILE *output, sm_line *out, size_t n) {
    char text[4096];
    size_t at = SIZE_MAX;
    while (fgets(text, sizeof text, output)) {
        text[strcspn(text, "\n")] = 0;
        if (strncmp(text, "0x", 2) == 0 && !strchr(text, ':'))
            at++;
        else if (at < n && !out[at].file)
            take_frame(kernel, text, &out[at]);
    }
}

/* Neither end outlives an exec. */
static bool open_pipe(int ends[2]) {
#if defined(__linux__)
    return pipe2(ends, O_CLOEXEC) == 0;
#else
    if (pipe(ends) != 0)
        return false;
    return fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0 && fcntl(ends[1], F_SETFD, FD_CLOEXEC) == 0;
#endif
}

static bool run(const sm_kernel *kernel, const char *tool, const uintptr_t *pcs, size_t n, sm_line *out) {
    static const char *const options[] = {"-a", "-i", "-e"};
    enum { N_OPTIONS = 3 };
    char *argv[BATCH + N_OPTIONS + 3], numbers[BATCH][2 + 16 + 1];
    int argc = 0, pipes[2];
    argv[argc++] = (char *)tool;
    for (int i = 0; i < N_OPTIONS; i++)
        argv[argc++] = (char *)options[i];
    argv[argc++] = (char *)kernel->object_path;
    for (size_t i = 0; i < n; i++) {
        snprintf(numbers[i], sizeof numbers[i], "0x%llx",
                 (unsigned long long)(pcs[i] - (uintptr_t)kernel->image_begin));
        argv[argc++] = numbers[i];
    }
    argv[argc] = NULL;
    if (!open_pipe(pipes))
        return false;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    pid_t pid = -1;
    bool started = posix_spawnp(&pid, tool, &actions, NULL, argv, environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    close(pipes[1]);
    FILE *output = started ? fdopen(pipes[0], "r") : NULL;
    if (output) {
        parse(kernel, output, out, n);
        fclose(output);
    } else {
        close(pipes[0]);
    }
    int status = 0;
    if (started)
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    return started && WIFEXITED(status) && WEXITSTATUS(status) != 127;
}

static void remember(sm_layout *layout, uintptr_t pc, const sm_line *line) {
    if (layout->n_lines == layout->lines_capacity) {
        size_t capacity = layout->lines_capacity ? 2 * layout->lines_capacity : 64;
        sm_known_line *lines = realloc(layout->lines, capacity * sizeof *lines);
        if (!lines)
            return;
        layout->lines = lines;
        layout->lines_capacity = capacity;
    }
    sm_known_line *known = &layout->lines[layout->n_lines++];
    known->pc = pc;
    known->line.line = line->line;
    known->line.file = line->file ? strdup(line->file) : NULL;
}

static bool recall(const sm_layout *layout, uintptr_t pc, sm_line *line) {
    for (size_t i = 0; i < layout->n_lines; i++)
        if (layout->lines[i].pc == pc) {
            line->line = layout->lines[i].line.line;
            line->file = layout->lines[i].line.file ? strdup(layout->lines[i].line.file) : NULL;
            return true;
        }
    return false;
}

void sm_lines_forget(sm_layout *layout) {
    for (size_t i = 0; i < layout->n_lines; i++)
        free(layout->lines[i].line.file);
    free(layout->lines);
}

void sm_lines_find(const sm_kernel *kernel, const uintptr_t *pcs, size_t n, sm_line *out) {
    memset(out, 0, n * sizeof *out);
    sm_layout *layout = kernel->executor;
    bool cache = layout && !atomic_flag_test_and_set(&layout->lines_busy);
    uintptr_t low = (uintptr_t)kernel->image_begin, high = (uintptr_t)kernel->image_end;
    for (size_t i = 0; i < n;) {
        uintptr_t batch[BATCH];
        size_t index[BATCH], m = 0;
        sm_line found[BATCH] = {0};
        for (; i < n && m < BATCH; i++)
            if (pcs[i] >= low && pcs[i] < high && !(cache && recall(layout, pcs[i], &out[i]))) {
                batch[m] = pcs[i];
                index[m++] = i;
            }
        if (!m || !kernel->object_path)
            continue;
        if (!run(kernel, "addr2line", batch, m, found))
            (void)run(kernel, "llvm-addr2line", batch, m, found);
        for (size_t k = 0; k < m; k++) {
            if (cache)
                remember(layout, batch[k], &found[k]);
            out[index[k]] = found[k];
        }
    }
    if (cache)
        atomic_flag_clear(&layout->lines_busy);
}
