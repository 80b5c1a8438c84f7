#include "softmetal/strict.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- finding clang
 * ----------------------------------------------------------------------------------------------------------- */

static bool is_clang(const sm_compiler *c, const char *words) {
    char log[SM_PATH_MAX];
    sm_arguments a = {0};
    int code = 1;
    sm_arguments_split(&a, words);
    sm_arguments_add(&a, "--version");
    bool found = sm_temporary_name(c->folder, ".txt", log) == ML_OK && sm_run(&a, log, &code) == ML_OK && code == 0;
    char *text = found ? sm_read_file(log, NULL) : NULL;
    found = text && strstr(text, "clang");
    free(text);
    unlink(log);
    sm_arguments_free(&a);
    return found;
}

static ml_status find_clang(const sm_compiler *c, char *command, size_t size) {
    static const char *const pythons[] = {"python3", "python"};
    const char *own = getenv("METALLIC_CLANG");
    char program[SM_PATH_MAX];
    if (own && *own) {
        if (is_clang(c, own) && snprintf(command, size, "%s", own) < (int)size)
            return ML_OK;
        return ml_fail(ML_ERR_DEVICE, "METALLIC_CLANG is '%s', which is no clang", own);
    }
    static const char *const names[] = {"clang",    "clang-19", "clang-18", "clang-17",
                                        "clang-16", "clang-15", "clang-14"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (sm_find_program(names[i], program, sizeof program) && sm_command_text(program, "", command, size) &&
            is_clang(c, command))
            return ML_OK;
    for (int i = 0; i < 2; i++)
        if (sm_find_program(pythons[i], program, sizeof program) &&
            sm_command_text(program, " -m ziglang clang", command, size) && is_clang(c, command))
            return ML_OK;
    return ml_fail(ML_ERR_DEVICE,
                   "strict mode needs clang, and there is none on PATH: install clang, or the Python package "
                   "ziglang, or set METALLIC_CLANG");
}

ml_status sm_strict_compiler(char *command, size_t size) {
    sm_compiler *c = calloc(1, sizeof *c);
    if (!c)
        return ml_fail(ML_ERR_MEMORY, "out of memory");
    ml_status status = sm_cache_folder(c->folder, sizeof c->folder);
    if (status == ML_OK)
        status = find_clang(c, command, size);
    free(c);
    return status;
}

static bool about_spaces(const char *line, size_t n) {
    /* Members that the compiler makes by itself have no address space here; in Metal they take each one they need. */
    if (memmem(line, n, "implicitly-deleted", 18) || memmem(line, n, "in default address space", 24) ||
        memmem(line, n, "no matching conversion", 22))
        return false;
    /* These name types with their address spaces, whatever they object to; it is in the note. */
    if (memmem(line, n, "no matching constructor", 23) || memmem(line, n, "no viable conversion", 20) ||
        memmem(line, n, "invalid operands", 16))
        return false;
    /* bfloats compute as floats in the sketch; where a float becomes one by itself, compiling says so. */
    if (memmem(line, n, "no known conversion", 19) && memmem(line, n, "bfloat", 6))
        return false;
    /* [with T = __global float *], of a template that the sketch has no use for. */
    if (memmem(line, n, "substitution failure", 20) && !memmem(line, n, "address space", 13))
        return false;
    static const char *const words[] = {"address space", "__generic", "__private", "__global", "__local", "__constant"};
    for (size_t k = 0; k < sizeof words / sizeof words[0]; k++)
        if (memmem(line, n, words[k], strlen(words[k])))
            return true;
    return false;
}

/* Whether a note behind this error, up to the next message that is none, is about a member that the compiler makes by
 * itself: assignment, most of all, of structs in other memory than thread's. */
static bool about_implicit(const char *line) {
    for (line = strchr(line, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
        const size_t n = strcspn(line + 1, "\n");
        if (!memmem(line + 1, n, ": note: ", 8))
            return false;
        if (memmem(line + 1, n, "(the implicit ", 14))
            return true;
    }
    return false;
}

/* Keeps the errors about address spaces, those explained by such a note with the note. The declarations clang sees here
 * are a sketch of Metal's, so its other objections may be to the sketch; what is wrong with types in general is found
 * when a kernel is compiled. malloc'ed; NULL when nothing remains. */
static char *only_spaces(const char *messages) {
    static const char note[] = ": note: ";
    char *out = malloc(2 * strlen(messages) + 1), *p = out;
    const char *error = NULL;
    size_t error_length = 0;
    for (const char *line = messages; out && *line;) {
        const char *end = strchr(line, '\n');
        end = end ? end : line + strlen(line);
        const size_t n = (size_t)(end - line);
        const char *is_note = memmem(line, n, note, strlen(note));
        if (!is_note && about_spaces(line, n)) {
            p += sprintf(p, "%.*s\n", (int)n, line);
            error = NULL;
        } else if (!is_note) {
            /* Objects are made where they are declared, in Metal as here: what is said of constructors is the sketch's.
             */
            const bool sketch =
                memmem(line, n, "no matching con", 15) || about_implicit(line); /* constructor, conversion */
            error = sketch ? NULL : line;
            error_length = n;
        } else if (error && about_spaces(line, n)) {
            const char *text = is_note + strlen(note), *viable = memmem(text, (size_t)(end - text), "viable: ", 8);
            text = viable ? viable + 8 : text;
            p += sprintf(p, "%.*s: %.*s\n", (int)error_length, error, (int)(end - text), text);
            error = NULL;
        }
        line = *end ? end + 1 : end;
    }
    if (out && p > out)
        return out;
    free(out);
    return NULL;
}

/* The words of Metal in place of OpenCL's. */
static char *in_metal_words(const char *messages) {
    static const struct {
        const char *from, *to;
    } words[] = {
        {"__global", "device"}, {"__constant", "constant"}, {"__local", "threadgroup"}, {"__private", "thread"}};
    char *out = malloc(2 * strlen(messages) + 1), *p = out;
    while (out && *messages) {
        size_t k = 0;
        while (k < 4 && strncmp(messages, words[k].from, strlen(words[k].from)) != 0)
            k++;
        if (k < 4) {
            p += sprintf(p, "%s", words[k].to);
            messages += strlen(words[k].from);
        } else {
            *p++ = *messages++;
        }
    }
    if (out)
        *p = 0;
    return out;
}

/* ---- checking
 * --------------------------------------------------------------------------------------------------------------------
 */

static ml_status run_clang(const sm_compiler *c, const char *command, const char *text, char **messages) {
    char source[SM_PATH_MAX], log[SM_PATH_MAX];
    ML_TRY(sm_temporary_name(c->folder, ".clcpp", source));
    ML_TRY(sm_temporary_name(c->folder, ".txt", log));
    ML_TRY(sm_write_file(source, text, strlen(text)));
    sm_arguments a = {0};
    sm_arguments_split(&a, command);
    /* Without the generic address space a pointer that names none is private, as a pointer of Metal's that says thread.
     */
    const char *const flags[] = {
        "-x",
        "clcpp",
        "-cl-std=clc++2021",
        "-cl-no-stdinc",
        "-Xclang",
        "-cl-ext=+cl_khr_fp16",
        "-Xclang",
        "-cl-ext=-__opencl_c_generic_address_space,-__opencl_c_pipes,-__opencl_c_device_enqueue",
        "-target",
        "spir64",
        "-fsyntax-only",
        "-nostdinc",
        "-fno-color-diagnostics",
        "-fno-caret-diagnostics",
        "-ferror-limit=0",
        "-w"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        sm_arguments_add(&a, flags[i]);
    sm_arguments_add(&a, "-include");
    sm_arguments_printf(&a, "%s/shim/strict.h", c->headers);
    sm_arguments_add(&a, source);
    int code = 1;
    ml_status status = sm_run(&a, log, &code);
    sm_arguments_free(&a);
    if (status == ML_OK && code != 0) {
        char *output = sm_read_file(log, NULL);
        char *clean = output ? sm_clean_messages(output, "strict mode", false) : NULL;
        char *kept = clean ? only_spaces(clean) : NULL;
        *messages = kept ? in_metal_words(kept) : NULL;
        free(kept);
        free(clean);
        free(output);
        status = *messages ? ML_ERR_COMPILE : ML_OK;
    }
    unlink(source);
    unlink(log);
    return status;
}

ml_status sm_strict_check(const sm_compiler *c, mslc_unit *unit, char **messages) {
    char command[SM_PATH_MAX + 32], *text = NULL;
    ML_TRY(find_clang(c, command, sizeof command));
    ML_TRY(mslc_check(unit, messages));
    ML_TRY(mslc_emit_strict(unit, &text));
    const ml_status status = run_clang(c, command, text, messages);
    free(text);
    return status;
}
