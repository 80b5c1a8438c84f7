#include "softmetal/compile.h"

#include "softmetal/digest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the compiler
 * --------------------------------------------------------------------------------------------------------- */

/* words: a program's name or path and further words; or a path with spaces in it, as it is. */
static bool try_command(const char *words, char *command, size_t size) {
    char program[SM_PATH_MAX];
    if (strchr(words, '/') && sm_find_program(words, program, sizeof program))
        return sm_command_text(program, "", command, size);
    sm_arguments a = {0};
    sm_arguments_split(&a, words);
    bool found = !a.failed && a.count > 0 && sm_find_program(a.words[0], program, sizeof program) &&
                 sm_command_text(program, "", command, size);
    for (int i = 1; found && i < a.count; i++) {
        const size_t n = strlen(command);
        command[n] = ' ';
        found = n + 1 < size && sm_command_text(a.words[i], "", command + n + 1, size - n - 1);
    }
    sm_arguments_free(&a);
    return found;
}

static ml_status find_command(char *command, size_t size) {
    static const char *const variables[] = {"METALLIC_CXX", "CXX"};
    static const char *const names[] = {"c++", "g++", "clang++"};
    for (int i = 0; i < 2; i++) {
        const char *words = getenv(variables[i]);
        if (!words || !*words)
            continue;
        if (try_command(words, command, size))
            return ML_OK;
        return ml_fail(ML_ERR_COMPILE,
                       "%s is '%s', which is no program on this machine: a C++17 compiler is needed to run Metal "
                       "kernels on the CPU",
                       variables[i], words);
    }
    for (int i = 0; i < 3; i++)
        if (try_command(names[i], command, size))
            return ML_OK;
    return ml_fail(ML_ERR_COMPILE,
                   "no C++ compiler found (looked for c++, g++ and clang++ on PATH): one is needed to run Metal "
                   "kernels on the CPU. Install g++ or clang, or set METALLIC_CXX");
}

ml_status sm_compiler_path(char *path, size_t size) {
    return find_command(path, size);
}

/* The first line of "compiler --version", kept in the folder under the program's path, size and time. */
static ml_status identify(sm_compiler *c) {
    char key[33], path[SM_PATH_MAX], temporary[SM_PATH_MAX];
    struct stat st;
    memset(&st, 0, sizeof st);
    sm_arguments words = {0};
    sm_arguments_split(&words, c->command);
    if (words.count > 0)
        stat(words.words[0], &st);
    sm_arguments_free(&words);
    sm_digest d;
    sm_digest_begin(&d);
    sm_digest_text(&d, c->command);
    sm_digest_add(&d, &st.st_size, sizeof st.st_size);
    sm_digest_add(&d, &st.st_mtime, sizeof st.st_mtime);
    sm_digest_end(&d, key);
    if (snprintf(path, sizeof path, "%s/cxx-%s", c->folder, key) >= (int)sizeof path)
        return ml_fail(ML_ERR_DEVICE, "the path %s is too long", c->folder);
    char *text = sm_read_file(path, NULL);
    if (!text) {
        sm_arguments a = {0};
        int code = 1;
        sm_arguments_split(&a, c->command);
        sm_arguments_add(&a, "--version");
        ml_status status = sm_temporary_name(c->folder, ".txt", temporary);
        if (status == ML_OK)
            status = sm_run(&a, temporary, &code);
        sm_arguments_free(&a);
        ML_TRY(status);
        text = sm_read_file(temporary, NULL);
        if (code != 0 || !text || !*text) {
            unlink(temporary);
            free(text);
            return ml_fail(
                ML_ERR_COMPILE,
                "%s does not answer to --version: a C++17 compiler is needed to run Metal kernels on the CPU",
                c->command);
        }
        rename(temporary, path);
    }
    snprintf(c->identity, sizeof c->identity, "%.*s", (int)strcspn(text, "\n"), text);
    free(text);
    c->is_clang = strstr(c->identity, "clang") != NULL;
    for (const char *p = c->identity; *p && !c->major; p++)
        if (*p >= '0' && *p <= '9' && (p == c->identity || p[-1] == ' '))
            c->major = atoi(p);
    return ML_OK;
}

/* Modules are compiled for this very CPU: its features are part of their names. */
static void describe_cpu(char hex[33]) {
    sm_digest d;
    sm_digest_begin(&d);
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[4096];
    int kept = 0;
    while (f && kept < 2 && fgets(line, sizeof line, f))
        if (strncmp(line, "model name", 10) == 0 || strncmp(line, "flags", 5) == 0 ||
            strncmp(line, "Features", 8) == 0 || strncmp(line, "CPU part", 8) == 0) {
            sm_digest_text(&d, line);
            kept++;
        }
    if (f)
        fclose(f);
    sm_digest_end(&d, hex);
}

ml_status sm_compiler_find(sm_compiler *out) {
    memset(out, 0, sizeof *out);
    ML_TRY(find_command(out->command, sizeof out->command));
    ML_TRY(sm_cache_folder(out->folder, sizeof out->folder));
    ML_TRY(sm_host_headers(out->folder, out->headers));
    describe_cpu(out->cpu);
    return identify(out);
}

void sm_compiler_set_portable(sm_compiler *c) {
    c->portable = true;
    snprintf(c->cpu, sizeof c->cpu, "portable");
}

/* ---- preprocessing
 * ----------------------------------------------------------------------------------------------------------- */

static void add_definitions(sm_arguments *a, const sm_library_options *o) {
    const uint32_t version = o->language_version ? o->language_version : 0x30002;
    sm_arguments_printf(a, "-D__METAL_VERSION__=%u", (version >> 16) * 100 + (version & 0xffff) * 10);
    sm_arguments_add(a, "-D__METAL__=1");
    sm_arguments_add(a, "-D__METAL_MACOS__=1");
    if (version >= 0x30001)
        sm_arguments_add(a, "-D__HAVE_BFLOAT__=1");
    for (int i = 0; i < o->n_macros; i++)
        sm_arguments_printf(a, "-D%s=%s", o->macros[i].name, o->macros[i].value ? o->macros[i].value : "1");
}

ml_status sm_preprocess(const sm_compiler *c, const sm_library_options *o, char **text, char **messages) {
    char source[SM_PATH_MAX], result[SM_PATH_MAX], log[SM_PATH_MAX];
    const char *name = o->name ? o->name : "program_source";
    ML_TRY(sm_temporary_name(c->folder, ".metal", source));
    ML_TRY(sm_temporary_name(c->folder, ".ii", result));
    ML_TRY(sm_temporary_name(c->folder, ".txt", log));
    size_t length = o->length ? o->length : strlen(o->source);
    const char *content = o->source;
    if (length >= 3 &&
        memcmp(content, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark, which only a file may begin with */
        content += 3;
        length -= 3;
    }
    char *whole = malloc(length + strlen(name) * 2 + 32);
    if (!whole)
        return ml_fail(ML_ERR_MEMORY, "out of memory");
    char *p = whole + sprintf(whole, "#line 1 \"");
    for (const char *q = name; *q; q++) {
        if (*q == '"' || *q == '\\')
            *p++ = '\\';
        *p++ = *q;
    }
    p += sprintf(p, "\"\n");
    memcpy(p, content, length);
    p += length;
    *p++ = '\n';
    ml_status status = sm_write_file(source, whole, (size_t)(p - whole));
    free(whole);

    sm_arguments a = {0};
    sm_arguments_split(&a, c->command);
    const char *const flags[] = {"-E", "-x", "c++", "-std=c++17", "-undef", "-nostdinc", "-fdiagnostics-color=never",
                                 "-w"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        sm_arguments_add(&a, flags[i]);
    add_definitions(&a, o);
    const char *slash = strrchr(name, '/');
    if (slash)
        sm_arguments_printf(&a, "-iquote%.*s", slash == name ? 1 : (int)(slash - name), name);
    else
        sm_arguments_add(&a, "-iquote.");
    for (int i = 0; i < o->n_include_dirs; i++)
        sm_arguments_printf(&a, "-I%s", o->include_dirs[i]);
    sm_arguments_printf(&a, "-isystem%s/include", c->headers);
    sm_arguments_add(&a, source);
    sm_arguments_add(&a, "-o");
    sm_arguments_add(&a, result);
    int code = 1;
    if (status == ML_OK)
        status = sm_run(&a, log, &code);
    sm_arguments_free(&a);
    if (status == ML_OK && code != 0) {
        char *output = sm_read_file(log, NULL);
        *messages = output ? sm_clean_messages(output, name, true) : NULL;
        free(output);
        status = ml_fail(ML_ERR_COMPILE, "%s rejected %s without a message", c->command, name);
    } else if (status == ML_OK) {
        *text = sm_read_file(result, NULL);
        if (!*text)
            status = ml_fail(ML_ERR_DEVICE, "the preprocessor's result cannot be read");
    }
    unlink(source);
    unlink(result);
    unlink(log);
    return status;
}

/* ---- modules
 * --------------------------------------------------------------------------------------------------------------------
 */

static void add_flags(sm_arguments *a, const sm_compiler *c, bool checked) {
    /* -ffp-contract=off and -fexcess-precision=16: every operation is rounded as it is written. No exceptions, no
     * trapping arithmetic, no errno: nothing observes them. */
    static const char *const common[] = {"-std=c++17",
                                         "-fPIC",
                                         "-O2",
                                         "-w",
                                         "-fvisibility=hidden",
                                         "-fvisibility-inlines-hidden",
                                         "-fno-strict-aliasing",
                                         "-fwrapv",
                                         "-fsigned-char",
                                         "-ffp-contract=off",
                                         "-fno-math-errno",
                                         "-fno-trapping-math",
                                         "-fno-exceptions",
                                         "-fno-rtti",
                                         "-fno-threadsafe-statics",
                                         "-fno-stack-protector",
                                         "-fno-asynchronous-unwind-tables",
                                         "-pipe",
                                         "-fdiagnostics-color=never",
                                         "-Wno-narrowing"};
    static const char *const gcc[] = {"-fno-diagnostics-show-caret", "-fno-diagnostics-show-option", "-fmax-errors=20",
                                      "-fno-semantic-interposition"};
    static const char *const clang[] = {"-fno-caret-diagnostics", "-Wno-c++11-narrowing", "-ferror-limit=20"};
    for (size_t i = 0; i < sizeof common / sizeof common[0]; i++)
        sm_arguments_add(a, common[i]);
    for (size_t i = 0; !c->is_clang && i < sizeof gcc / sizeof gcc[0]; i++)
        sm_arguments_add(a, gcc[i]);
    for (size_t i = 0; c->is_clang && i < sizeof clang / sizeof clang[0]; i++)
        sm_arguments_add(a, clang[i]);
#if defined(__x86_64__)
    static const char *const portable[] = {"-mavx2", "-mfma", "-mf16c"};
    for (size_t i = 0; c->portable && i < sizeof portable / sizeof portable[0]; i++)
        sm_arguments_add(a, portable[i]);
    if (!c->portable)
        sm_arguments_add(a, "-march=native");
    if (!c->is_clang && c->major >= 12)
        sm_arguments_add(a, "-fexcess-precision=16");
#elif defined(__aarch64__)
    if (!c->portable)
        sm_arguments_add(a, "-mcpu=native");
    if (!c->is_clang && c->major >= 13)
        sm_arguments_add(a, "-fexcess-precision=16");
#endif
    if (checked) {
        sm_arguments_add(a, "-DSM_CHECKED");
        sm_arguments_add(a, c->is_clang ? "-gline-tables-only" : "-g1");
        sm_arguments_add(a, "-gdwarf-4"); /* GNU addr2line takes the first file of version 5 for the one before it */
        sm_arguments_add(a, "-fsanitize=thread,bounds,alignment");
        sm_arguments_add(a, "-fsanitize-recover=all");
        if (!c->is_clang)
            sm_arguments_add(a, "--param=tsan-instrument-func-entry-exit=0");
    }
    sm_arguments_printf(a, "-I%s/shim", c->headers);
}

static void digest_flags(sm_digest *d, const sm_compiler *c, const sm_arguments *flags) {
    sm_digest_begin(d);
    sm_digest_text(d, c->identity);
    sm_digest_text(d, c->command);
    sm_digest_text(d, c->cpu);
    for (int i = 0; i < flags->count; i++)
        sm_digest_text(d, flags->words[i]);
}

static ml_status place(const char *temporary, const char *path) {
    if (rename(temporary, path) == 0)
        return ML_OK;
    const int error = errno;
    unlink(temporary);
    return ml_fail(ML_ERR_DEVICE, "cannot rename %s to %s: %s", temporary, path, strerror(error));
}

/* The shim, precompiled for these flags; header is the name to include it by. */
static ml_status precompile(const sm_compiler *c, const sm_arguments *flags, char *header) {
    char hex[33], folder[SM_PATH_MAX], result[SM_PATH_MAX], temporary[SM_PATH_MAX], log[SM_PATH_MAX],
        source[SM_PATH_MAX];
    struct stat st;
    sm_digest d;
    digest_flags(&d, c, flags);
    sm_digest_end(&d, hex);
    if (snprintf(folder, sizeof folder, "%s/pch-%s", c->folder, hex) >= (int)sizeof folder - 32)
        return ml_fail(ML_ERR_DEVICE, "the path %s is too long", c->folder);
    snprintf(header, SM_PATH_MAX, "%.*s/shim.h", (int)sizeof folder - 32, folder);
    snprintf(result, sizeof result, "%.*s/shim.h.%s", (int)sizeof folder - 32, folder, c->is_clang ? "pch" : "gch");
    if (stat(result, &st) == 0)
        return ML_OK;
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return ml_fail(ML_ERR_DEVICE, "cannot create %s: %s", folder, strerror(errno));
    if (stat(header, &st) != 0) {
        static const char line[] = "#include <shim.h>\n"; /* found through the flags: a path may have any character */
        ML_TRY(sm_temporary_name(c->folder, ".h", source));
        ML_TRY(sm_write_file(source, line, sizeof line - 1));
        ML_TRY(place(source, header));
    }
    ML_TRY(sm_temporary_name(c->folder, ".gch", temporary));
    ML_TRY(sm_temporary_name(c->folder, ".txt", log));
    sm_arguments a = {0};
    sm_arguments_split(&a, c->command);
    for (int i = 0; i < flags->count; i++)
        sm_arguments_add(&a, flags->words[i]);
    sm_arguments_add(&a, "-x");
    sm_arguments_add(&a, "c++-header");
    sm_arguments_add(&a, header);
    sm_arguments_add(&a, "-o");
    sm_arguments_add(&a, temporary);
    int code = 1;
    ml_status status = sm_run(&a, log, &code);
    sm_arguments_free(&a);
    if (status == ML_OK && code != 0) {
        char *output = sm_read_file(log, NULL);
        status = ml_fail(ML_ERR_COMPILE,
                         "%s cannot compile the software Metal's headers (C++17 and room in %s are needed):\n%s",
                         c->command, c->folder, output ? output : "");
        free(output);
    }
    unlink(log);
    if (status == ML_OK)
        status = place(temporary, result);
    else
        unlink(temporary);
    return status;
}

/* Compiles and links apart: asked for both with -fsanitize, the driver would link a sanitizer runtime. */
static ml_status run_compiler(const sm_compiler *c, const sm_arguments *flags, const char *header, const char *source,
                              const char *object, const char *log) {
    char part[SM_PATH_MAX];
    ML_TRY(sm_temporary_name(c->folder, ".o", part));
    sm_arguments a = {0};
    sm_arguments_split(&a, c->command);
    for (int i = 0; i < flags->count; i++)
        sm_arguments_add(&a, flags->words[i]);
    if (c->is_clang) {
        sm_arguments_add(&a, "-include-pch");
        sm_arguments_printf(&a, "%s.pch", header);
    } else {
        sm_arguments_add(&a, "-include");
        sm_arguments_add(&a, header);
    }
    const char *const compile[] = {"-c", "-x", "c++", source, "-o", part};
    for (size_t i = 0; i < sizeof compile / sizeof compile[0]; i++)
        sm_arguments_add(&a, compile[i]);
    int code = 1;
    ml_status status = sm_run(&a, log, &code);
    sm_arguments_free(&a);
    if (status == ML_OK && code == 0) {
        sm_arguments_split(&a, c->command);
        const char *const link[] = {"-shared",         part,          "-o",  object, "-nodefaultlibs",
                                    "-Wl,--as-needed", "-Wl,-z,defs", "-lm", "-lc",  "-lgcc"};
        for (size_t i = 0; i < sizeof link / sizeof link[0]; i++)
            sm_arguments_add(&a, link[i]);
        status = sm_run(&a, log, &code);
        sm_arguments_free(&a);
    }
    unlink(part);
    return status != ML_OK ? status : code == 0 ? ML_OK : ML_ERR_COMPILE;
}

ml_status sm_compile_module(const sm_compiler *c, const char *text, bool checked, const char *fallback,
                            char *object_path, char **messages) {
    char hex[33], header[SM_PATH_MAX], source[SM_PATH_MAX], object[SM_PATH_MAX], log[SM_PATH_MAX];
    struct stat st;
    sm_arguments flags = {0};
    add_flags(&flags, c, checked);
    sm_digest d;
    digest_flags(&d, c, &flags);
    sm_digest_text(&d, text);
    sm_digest_end(&d, hex);
    ml_status status = ML_OK;
    if (snprintf(object_path, SM_PATH_MAX, "%s/kernel-%s.so", c->folder, hex) >= SM_PATH_MAX)
        status = ml_fail(ML_ERR_DEVICE, "the path %s is too long", c->folder);
    else if (stat(object_path, &st) == 0)
        goto done; /* the folder is ours alone: what has this name is what we put there */
    sm_folder_tidy(c->folder, c->headers);
    if (status == ML_OK)
        status = precompile(c, &flags, header);
    if (status == ML_OK)
        status = sm_temporary_name(c->folder, ".cc", source);
    if (status == ML_OK)
        status = sm_temporary_name(c->folder, ".so", object);
    if (status == ML_OK)
        status = sm_temporary_name(c->folder, ".txt", log);
    if (status == ML_OK)
        status = sm_write_file(source, text, strlen(text));
    if (status != ML_OK)
        goto done;
    status = run_compiler(c, &flags, header, source, object, log);
    if (status == ML_ERR_COMPILE) {
        char *output = sm_read_file(log, NULL);
        *messages = output ? sm_clean_messages(output, fallback, true) : NULL;
        free(output);
        ml_fail(ML_ERR_COMPILE, "%s rejected a kernel without a message (%s)", c->command, fallback);
        unlink(object);
    } else if (status == ML_OK) {
        status = place(object, object_path);
    }
    unlink(source);
    unlink(log);
done:
    sm_arguments_free(&flags);
    return status;
}
