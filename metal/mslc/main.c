/* mslc FILE.metal [-I DIR] [-D NAME=VALUE] [--list] [--strict] [--checked] [--emit KERNEL] [--compile KERNEL]
 *
 * --list prints the kernels; --emit prints the C++ of one; --compile compiles one, or all where KERNEL is "all";
 * --strict refuses what Apple's compiler refuses. Without --list, --emit and --compile every kernel is compiled. Exit
 * code 1: rejected, 2: misused. */
#include "mslc/mslc.h"
#include "softmetal/compile.h"
#include "softmetal/strict.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_OPTIONS 256

typedef struct options {
    const char *file, *emit, *compile;
    bool list;
    sm_library_options library;
    sm_macro macros[MAX_OPTIONS];
    const char *include_dirs[MAX_OPTIONS];
} options;

static int usage(void) {
    fputs("usage: mslc FILE.metal [-I DIR] [-D NAME=VALUE] [--list] [--strict] [--checked] [--emit KERNEL] "
          "[--compile KERNEL|all]\n",
          stderr);
    return 2;
}

static bool add_macro(options *o, char *text) {
    if (o->library.n_macros == MAX_OPTIONS)
        return false;
    char *equals = strchr(text, '=');
    if (equals)
        *equals = 0;
    o->macros[o->library.n_macros++] = (sm_macro){text, equals ? equals + 1 : NULL};
    return true;
}

static bool read_options(int argc, char **argv, options *o) {
    for (int i = 1; i < argc; i++) {
        char *a = argv[i];
        if (strncmp(a, "-I", 2) == 0 || strncmp(a, "-D", 2) == 0) {
            char *value = a[2] ? a + 2 : ++i < argc ? argv[i] : NULL;
            if (!value || o->library.n_include_dirs == MAX_OPTIONS)
                return false;
            if (a[1] == 'I')
                o->include_dirs[o->library.n_include_dirs++] = value;
            else if (!add_macro(o, value))
                return false;
        } else if (strcmp(a, "--list") == 0) {
            o->list = true;
        } else if (strcmp(a, "--strict") == 0) {
            o->library.strict = true;
        } else if (strcmp(a, "--checked") == 0) {
            o->library.checked = true;
        } else if ((strcmp(a, "--emit") == 0 || strcmp(a, "--compile") == 0) && i + 1 < argc) {
            *(a[2] == 'e' ? &o->emit : &o->compile) = argv[++i];
        } else if (a[0] == '-' || o->file) {
            return false;
        } else {
            o->file = a;
        }
    }
    return o->file != NULL;
}

static void print_kernel(const sm_function_info *f) {
    printf("%s  (%s:%u)", f->name, f->file, f->line);
    if (f->max_total_threads)
        printf("  at most %u threads", f->max_total_threads);
    putchar('\n');
    static const char *const kinds[] = {"buffer", "threadgroup", "", "texture", "sampler"};
    for (int i = 0; i < f->n_arguments; i++) {
        const sm_argument_info *a = &f->arguments[i];
        if (a->kind == SM_ARGUMENT_BUILTIN)
            continue;
        printf("    %s(%d)  %s%s%s%s%s", kinds[a->kind], a->index, a->access == SM_MODE_READ ? "const " : "", a->type,
               a->is_pointer ? " *" : "", a->is_reference ? " &" : "", a->name);
        if (a->condition)
            printf("  if %s", a->condition);
        putchar('\n');
    }
    for (int i = 0; i < f->n_constants; i++)
        printf("    function_constant(%d)  %s %s%s\n", f->constants[i].index, f->constants[i].type,
               f->constants[i].name, f->constants[i].optional ? "  optional" : "");
}

static int fail(ml_status status, char *messages) {
    fputs(status == ML_ERR_COMPILE && messages ? messages : ml_last_error(), stderr);
    if (!(status == ML_ERR_COMPILE && messages))
        fputc('\n', stderr);
    free(messages);
    return 1;
}

static int compile(const sm_compiler *compiler, const mslc_unit *unit, int i, bool checked) {
    char *text = NULL, *messages = NULL, path[SM_PATH_MAX], fallback[1024];
    const sm_function_info *f = mslc_function(unit, i);
    snprintf(fallback, sizeof fallback, "%s:%u:1", f->file, f->line);
    ml_status status = mslc_emit(unit, i, &text, &messages);
    if (status == ML_OK)
        status = sm_compile_module(compiler, text, checked, fallback, path, &messages);
    free(text);
    return status == ML_OK ? 0 : fail(status, messages);
}

static int run(const options *o, const sm_compiler *compiler, const mslc_unit *unit) {
    int code = 0, chosen = 0;
    const char *wanted = o->emit ? o->emit : o->compile;
    for (int i = 0; i < mslc_function_count(unit); i++) {
        const sm_function_info *f = mslc_function(unit, i);
        if (o->list)
            print_kernel(f);
        if (wanted ? strcmp(wanted, "all") != 0 && strcmp(wanted, f->name) != 0 : o->list)
            continue;
        chosen++;
        if (o->emit) {
            char *text = NULL, *messages = NULL;
            const ml_status status = mslc_emit(unit, i, &text, &messages);
            if (status != ML_OK)
                return fail(status, messages);
            fputs(text, stdout);
            free(text);
        } else if (compile(compiler, unit, i, o->library.checked) != 0) {
            code = 1;
        }
    }
    if (wanted && !chosen && strcmp(wanted, "all") != 0) {
        fprintf(stderr, "mslc: no kernel called '%s' in %s\n", wanted, o->file);
        return 1;
    }
    return code;
}

int main(int argc, char **argv) {
    static options o;
    if (!read_options(argc, argv, &o))
        return usage();
    char *source = sm_read_file(o.file, &o.library.length), *text = NULL, *messages = NULL;
    if (!source) {
        fprintf(stderr, "mslc: cannot read %s\n", o.file);
        return 2;
    }
    o.library.source = source;
    o.library.name = o.file;
    o.library.macros = o.macros;
    o.library.include_dirs = o.include_dirs;
    static sm_compiler compiler;
    mslc_unit *unit = NULL;
    ml_status status = sm_compiler_find(&compiler);
    if (status == ML_OK && o.library.length)
        status = sm_preprocess(&compiler, &o.library, &text, &messages);
    if (status == ML_OK)
        status = mslc_parse(text ? text : "", text ? strlen(text) : 0, &unit, &messages);
    if (status == ML_OK && o.library.strict)
        status = sm_strict_check(&compiler, unit, &messages);
    const int code = status == ML_OK ? run(&o, &compiler, unit) : fail(status, messages);
    mslc_free(unit);
    free(text);
    free(source);
    return code;
}
