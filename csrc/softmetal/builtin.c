#include "softmetal/builtin.h"

#include "core/cpuinfo.h"
#include "softmetal/digest.h"
#include "softmetal/folder.h"
#include "softmetal/process.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Absent where the build made none. Builds for other systems never make one, and not every linker lets a symbol be
 * missing. */
#if defined(__linux__)
extern const unsigned char sm_builtin_pack[] __attribute__((weak));
#else
static const unsigned char *const sm_builtin_pack = NULL;
#endif

static void make_key(char kind, sm_digest *d, char key[40]) {
    char hex[33];
    sm_digest_end(d, hex);
    memset(key, 0, 40);
    snprintf(key, 40, "%c%s", kind, hex);
}

void sm_pack_text_key(const char *source, size_t length, uint32_t language_version, char key[40]) {
    sm_digest d;
    sm_digest_begin(&d);
    sm_digest_add(&d, &language_version, sizeof language_version);
    sm_digest_add(&d, source, length);
    make_key('t', &d, key);
}

void sm_pack_module_key(const char *text, char key[40]) {
    sm_digest d;
    sm_digest_begin(&d);
    sm_digest_text(&d, text);
    make_key('m', &d, key);
}

/* Modules are compiled for AVX2, FMA and F16C, or the baseline of another architecture (compile.c, add_flags). */
static bool cpu_fits(void) {
#if defined(__x86_64__)
    return (ml_cpu_info_get()->isa & ML_ISA_AVX2) != 0;
#else
    return true;
#endif
}

static bool find(const char *key, sm_pack_entry *out) {
    sm_pack_header header;
    if (!sm_builtin_pack || !cpu_fits())
        return false;
    memcpy(&header, sm_builtin_pack, sizeof header);
    if (memcmp(header.magic, SM_PACK_MAGIC, sizeof header.magic) != 0)
        return false;
    for (uint64_t i = 0; i < header.entries; i++) {
        memcpy(out, sm_builtin_pack + sizeof header + i * sizeof *out, sizeof *out);
        if (memcmp(out->key, key, sizeof out->key) == 0)
            return true;
    }
    return false;
}

const char *sm_builtin_text(const sm_library_options *o) {
    char key[40];
    sm_pack_entry entry;
    if (o->checked || o->strict || o->n_macros > 0 || o->n_include_dirs > 0)
        return NULL;
    sm_pack_text_key(o->source, o->length ? o->length : strlen(o->source), o->language_version, key);
    return find(key, &entry) ? (const char *)sm_builtin_pack + entry.offset : NULL;
}

static ml_status put_into_folder(const sm_pack_entry *entry, char *path) {
    char folder[SM_PATH_MAX], temporary[SM_PATH_MAX];
    struct stat st;
    ML_TRY(sm_cache_folder(folder, sizeof folder));
    if (snprintf(path, SM_PATH_MAX, "%s/builtin-%.33s.so", folder, entry->digest) >= SM_PATH_MAX)
        return ml_fail(ML_ERR_DEVICE, "the path %s is too long", folder);
    if (stat(path, &st) == 0 && (uint64_t)st.st_size == entry->bytes)
        return ML_OK; /* the folder is ours alone: what has this name is what we put there */
    ML_TRY(sm_temporary_name(folder, ".so", temporary));
    ML_TRY(sm_write_file(temporary, (const char *)sm_builtin_pack + entry->offset, entry->bytes));
    if (rename(temporary, path) == 0)
        return ML_OK;
    unlink(temporary);
    return ml_fail(ML_ERR_DEVICE, "cannot put a compiled kernel into %s", folder);
}

/* A file in memory, for processes that may write nowhere. It stays open: the loader knows what it has loaded by path,
 * and the next file must not get the same one. */
static bool put_into_memory(const sm_pack_entry *entry, char *path) {
#if defined(__linux__) && defined(MFD_CLOEXEC)
    const unsigned char *data = sm_builtin_pack + entry->offset;
    uint64_t done = 0;
    const int fd = memfd_create("metallic-kernel", MFD_CLOEXEC);
    while (fd >= 0 && done < entry->bytes) {
        const ssize_t n = write(fd, data + done, entry->bytes - done);
        if (n <= 0)
            break;
        done += (uint64_t)n;
    }
    if (fd >= 0 && done == entry->bytes) {
        snprintf(path, SM_PATH_MAX, "/proc/self/fd/%d", fd);
        return true;
    }
    if (fd >= 0)
        close(fd);
#else
    (void)entry;
    (void)path;
#endif
    return false;
}

ml_status sm_builtin_module(const char *text, char *path) {
    char key[40];
    sm_pack_entry entry;
    path[0] = 0;
    sm_pack_module_key(text, key);
    if (!find(key, &entry))
        return ML_OK;
    const ml_status status = put_into_folder(&entry, path);
    return status == ML_OK || put_into_memory(&entry, path) ? ML_OK : status;
}
