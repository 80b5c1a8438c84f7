/* mslc_pack OUT.bin OUT.h: compiles the project's own kernels into a pack (csrc/softmetal/builtin.h) and writes the
 * header that tells where it is. Without a C++ compiler the pack is empty. Compiled modules are kept beside
 * OUT.bin, so that a second run only compiles what has changed. */
#include "device/gpu/registry.h"
#include "mslc/mslc.h"
#include "softmetal/builtin.h"
#include "softmetal/compile.h"
#include "softmetal/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct pack {
    sm_pack_entry *entries;
    uint64_t n;
    char *content; /* of all entries, one after the other */
    size_t bytes;
} pack;

/* One source as one of its libraries. */
typedef struct unit {
    char *source, *text;
    size_t length;
    uint32_t version;
    mslc_unit *parsed;
} unit;

static int fail(const char *what, const char *more) {
    fprintf(stderr, "mslc_pack: %s\n%s\n", what, more ? more : "");
    return 1;
}

static bool add(pack *p, const char key[40], const void *data, size_t bytes) {
    sm_pack_entry *entries = realloc(p->entries, (p->n + 1) * sizeof *entries);
    if (entries)
        p->entries = entries;
    char *content = entries ? realloc(p->content, p->bytes + bytes) : NULL;
    if (!content)
        return false;
    p->content = content;
    sm_pack_entry *e = &p->entries[p->n++];
    memset(e, 0, sizeof *e);
    memcpy(e->key, key, sizeof e->key);
    sm_digest d;
    sm_digest_begin(&d);
    sm_digest_add(&d, data, bytes);
    sm_digest_end(&d, e->digest);
    e->offset = p->bytes;
    e->bytes = bytes;
    memcpy(p->content + p->bytes, data, bytes);
    p->bytes += bytes;
    return true;
}

/* As the Metal driver gives it to the device: MSL 3.0, or 3.1 with bfloat. */
static int parse(const sm_compiler *c, const ml_gpu_source *from, bool bfloat, unit *out) {
    static const char bfloat_line[] = "#define ML_BFLOAT 1\n";
    char *messages = NULL;
    out->version = bfloat ? 0x30001 : 0x30000;
    out->source = malloc(strlen(from->text) + sizeof bfloat_line);
    if (!out->source)
        return fail("out of memory", NULL);
    sprintf(out->source, "%s%s", bfloat ? bfloat_line : "", from->text);
    out->length = strlen(out->source);
    const sm_library_options options = {.source = out->source, .length = out->length, .language_version = out->version};
    if (sm_preprocess(c, &options, &out->text, &messages) != ML_OK ||
        mslc_parse(out->text, strlen(out->text), &out->parsed, &messages) != ML_OK)
        return fail(from->name, messages ? messages : ml_last_error());
    free(messages);
    return 0;
}

/* Function i: compiled, or found; into p unless it is NULL. */
static int compile(const sm_compiler *c, const unit *u, int i, pack *p) {
    char *text = NULL, *messages = NULL, path[SM_PATH_MAX], key[40];
    const sm_function_info *f = mslc_function(u->parsed, i);
    if (mslc_emit(u->parsed, i, &text, &messages) != ML_OK ||
        sm_compile_module(c, text, false, f->file, path, &messages) != ML_OK) {
        free(text);
        return fail(f->name, messages ? messages : ml_last_error());
    }
    free(messages);
    size_t bytes = 0;
    char *object = p ? sm_read_file(path, &bytes) : NULL;
    sm_pack_module_key(text, key);
    const bool good = !p || (object && add(p, key, object, bytes));
    free(object);
    free(text);
    return good ? 0 : fail("out of memory", NULL);
}

/* Every CPU compiles its share; then all modules are in the folder. */
static int compile_all(const sm_compiler *c, const unit *units, int n_units) {
    const int workers = (int)sysconf(_SC_NPROCESSORS_ONLN) > 1 ? (int)sysconf(_SC_NPROCESSORS_ONLN) : 1;
    int code = 0;
    for (int w = 0; w < workers; w++) {
        const pid_t child = fork();
        if (child < 0)
            return 0; /* the caller compiles what is missing */
        if (child > 0)
            continue;
        int turn = 0, failed = 0;
        for (int u = 0; u < n_units && !failed; u++)
            for (int i = 0; i < mslc_function_count(units[u].parsed) && !failed; i++)
                failed = turn++ % workers == w ? compile(c, &units[u], i, NULL) : 0;
        _exit(failed);
    }
    for (int status; wait(&status) > 0;)
        code |= !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    return code;
}

static int fill(const sm_compiler *c, pack *p) {
    const int n_units = 2 * ml_gpu_n_sources;
    unit *units = calloc((size_t)n_units, sizeof *units);
    int code = units ? 0 : fail("out of memory", NULL);
    for (int i = 0; i < n_units && !code; i++)
        code = parse(c, &ml_gpu_sources[i / 2], i % 2, &units[i]);
    if (!code)
        code = compile_all(c, units, n_units);
    for (int u = 0; u < n_units && !code; u++) {
        char key[40];
        if (mslc_function_count(units[u].parsed) == 0)
            continue;
        sm_pack_text_key(units[u].source, units[u].length, units[u].version, key);
        code = add(p, key, units[u].text, strlen(units[u].text) + 1) ? 0 : fail("out of memory", NULL);
        for (int i = 0; i < mslc_function_count(units[u].parsed) && !code; i++)
            code = compile(c, &units[u], i, p);
    }
    for (int u = 0; units && u < n_units; u++) {
        mslc_free(units[u].parsed);
        free(units[u].source);
        free(units[u].text);
    }
    free(units);
    return code;
}

static int write_pack(const pack *p, const char *binary, const char *header_file) {
    sm_pack_header header = {.entries = p->n};
    memcpy(header.magic, SM_PACK_MAGIC, sizeof header.magic);
    const uint64_t start = sizeof header + p->n * sizeof *p->entries;
    for (uint64_t i = 0; i < p->n; i++)
        p->entries[i].offset += start;
    FILE *out = fopen(binary, "wb");
    if (!out)
        return fail("cannot write", binary);
    fwrite(&header, sizeof header, 1, out);
    if (p->n > 0) {
        fwrite(p->entries, sizeof *p->entries, p->n, out);
        fwrite(p->content, 1, p->bytes, out);
    }
    if (fclose(out) != 0)
        return fail("cannot write", binary);
    out = fopen(header_file, "w");
    if (!out)
        return fail("cannot write", header_file);
    char hex[33];
    sm_digest d;
    sm_digest_begin(&d);
    sm_digest_add(&d, p->entries, p->n * sizeof *p->entries);
    sm_digest_end(&d, hex);
    fprintf(out, "/* %s */\n#define SM_PACK_FILE \"%s\"\n", hex, binary); /* who includes it follows the contents */
    return fclose(out) == 0 ? 0 : fail("cannot write", header_file);
}

int main(int argc, char **argv) {
    static sm_compiler compiler;
    pack p = {0};
    char folder[SM_PATH_MAX];
    if (argc != 3)
        return fail("usage: mslc_pack OUT.bin OUT.h", NULL);
    char *binary = realpath(argv[1], NULL);
    if (!binary) { /* it is not there yet */
        FILE *file = fopen(argv[1], "wb");
        if (file)
            fclose(file);
        binary = realpath(argv[1], NULL);
    }
    if (!binary || snprintf(folder, sizeof folder, "%s.cache", binary) >= (int)sizeof folder)
        return fail("cannot write", argv[1]);
    setenv("METALLIC_CACHE_DIR", folder, 1);
    int code = 0;
    if (sm_compiler_find(&compiler) == ML_OK) {
        sm_compiler_set_portable(&compiler);
        code = fill(&compiler, &p);
    } else {
        fprintf(stderr, "mslc_pack: kernels will be compiled where they run: %s\n", ml_last_error());
    }
    if (!code)
        code = write_pack(&p, binary, argv[2]);
    free(p.entries);
    free(p.content);
    free(binary);
    return code;
}
