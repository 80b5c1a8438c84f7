/* The project's kernels load without a compiler, from the pack that is linked in: both libraries of each source. */
#include "device/gpu/registry.h"
#include "softmetal/builtin.h"
#include "softmetal/executor.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern const unsigned char sm_builtin_pack[] __attribute__((weak));

static int check_library(const ml_gpu_source *from, bool bfloat, int *loaded) {
    static const char bfloat_line[] = "#define ML_BFLOAT 1\n";
    char *source = malloc(strlen(from->text) + sizeof bfloat_line);
    if (!source)
        return 1;
    sprintf(source, "%s%s", bfloat ? bfloat_line : "", from->text);
    const sm_library_options options = {.source = source, .language_version = bfloat ? 0x30001 : 0x30000};
    int failures = 0;
    sm_library *library = NULL;
    /* What has no kernels in this library is not packed; nobody makes it. */
    if (sm_builtin_text(&options)) {
        if (sm_library_create(&options, &library, NULL) != ML_OK) {
            fprintf(stderr, "FAILED: %s: %s\n", from->name, ml_last_error());
            failures++;
        }
        for (int i = 0; library && i < sm_library_function_count(library); i++) {
            sm_kernel *kernel = NULL;
            const char *name = sm_library_function(library, i)->name;
            if (sm_library_load(library, name, sm_executor_host(), &kernel, NULL) != ML_OK) {
                fprintf(stderr, "FAILED: %s: %s\n", name, ml_last_error());
                failures++;
            }
            sm_kernel_release(kernel);
            ++*loaded;
        }
        sm_library_release(library);
    }
    free(source);
    return failures;
}

/* It holds modules only: nothing was compiled. */
static int remove_folder(const char *path) {
    DIR *folder = opendir(path);
    char name[512];
    for (struct dirent *e; folder && (e = readdir(folder)) != NULL;)
        if (snprintf(name, sizeof name, "%s/%s", path, e->d_name) < (int)sizeof name)
            unlink(name); /* fails for . and .. */
    if (folder)
        closedir(folder);
    return rmdir(path) != 0;
}

int main(void) {
    char folder[] = "/tmp/metallic-builtin-XXXXXX";
    sm_pack_header header;
    if (!sm_builtin_pack) {
        fputs("skipped: built without a pack of kernels\n", stderr);
        return 77;
    }
    memcpy(&header, sm_builtin_pack, sizeof header);
    if (header.entries == 0 || !mkdtemp(folder)) {
        fputs("skipped: the build had no C++ compiler\n", stderr);
        return 77;
    }
    setenv("METALLIC_CACHE_DIR", folder, 1);
    setenv("METALLIC_CXX", "/nonexistent", 1); /* whoever looks for a compiler fails */
    int failures = 0, loaded = 0;
    for (int i = 0; i < ml_gpu_n_sources; i++)
        failures +=
            check_library(&ml_gpu_sources[i], false, &loaded) + check_library(&ml_gpu_sources[i], true, &loaded);

    /* Checked kernels are compiled: not from the pack. */
    const sm_library_options checked = {.source = ml_gpu_sources[0].text, .language_version = 0x30000, .checked = true};
    if (sm_builtin_text(&checked)) {
        fputs("FAILED: a checked library was taken from the pack\n", stderr);
        failures++;
    }
    failures += remove_folder(folder);

    /* A machine that nothing can be written to. */
    setenv("METALLIC_CACHE_DIR", "/proc/nowhere", 1);
    const int before = loaded;
    for (int i = 0; i < 2; i++)
        failures += check_library(&ml_gpu_sources[0], false, &loaded);
    if (before > 0 && loaded == before) {
        fputs("FAILED: nothing was loaded without a folder\n", stderr);
        failures++;
    }
    if (loaded == 0) {
        fputs("skipped: this CPU is not the one packs are made for\n", stderr);
        return 77;
    }
    return failures ? 1 : 0;
}
