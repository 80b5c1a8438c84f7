#include "softmetal/folder.h"

#include "softmetal/digest.h"
#include "softmetal/module.h"
#include "softmetal/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct host_file {
    const char *name, *text;
} host_file;
static const host_file host_files[] = {
#include "softmetal_host_files.inc"
};
enum { N_HOST_FILES = sizeof host_files / sizeof host_files[0] };

#define TEMPORARY "tmp-"
enum { DAY = 24 * 60 * 60, TEMPORARY_DAYS = 1, UNUSED_DAYS = 90 };

/* Makes one folder of mode 0700; fine if it is there, a real folder, ours, and nobody else may write to it. */
static ml_status make_private(const char *path) {
    struct stat st;
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return ml_fail(ML_ERR_DEVICE,
                       "cannot create the folder for compiled kernels, %s: %s (METALLIC_CACHE_DIR chooses another)",
                       path, strerror(errno));
    if (lstat(path, &st) != 0)
        return ml_fail(ML_ERR_DEVICE, "cannot look at %s: %s", path, strerror(errno));
    /* A link that is ours leads where we chose; one that somebody else made may lead anywhere. */
    if (S_ISLNK(st.st_mode) && (st.st_uid != geteuid() || stat(path, &st) != 0))
        return ml_fail(ML_ERR_DEVICE, "%s is a link that somebody else made: not used for compiled kernels", path);
    if (!S_ISDIR(st.st_mode))
        return ml_fail(ML_ERR_DEVICE, "%s is no folder (METALLIC_CACHE_DIR chooses another)", path);
    if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)))
        return ml_fail(ML_ERR_DEVICE,
                       "%s belongs to another user or others may write to it: not used for compiled kernels "
                       "(METALLIC_CACHE_DIR chooses another)",
                       path);
    return ML_OK;
}

/* Folders above ours are made if they are absent, and are the user's business otherwise. */
static void make_parents(const char *path) {
    char part[SM_PATH_MAX];
    for (size_t i = 1; path[i] && i < sizeof part; i++)
        if (path[i] == '/') {
            memcpy(part, path, i);
            part[i] = 0;
            mkdir(part, 0700);
        }
}

/* A process may go elsewhere; the folder does not. */
static ml_status make_absolute(char *path, size_t size) {
    char *real = realpath(path, NULL);
    ml_status status = ML_OK;
    if (!real)
        status = ml_fail(ML_ERR_DEVICE, "cannot look at %s: %s", path, strerror(errno));
    else if (strlen(real) >= size || strlen(real) >= SM_PATH_MAX - 128)
        status = ml_fail(ML_ERR_DEVICE, "the path of the folder for compiled kernels is too long");
    else
        memcpy(path, real, strlen(real) + 1);
    free(real);
    return status;
}

ml_status sm_cache_folder(char *path, size_t size) {
    const char *dir = getenv("METALLIC_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n;
    if (dir && *dir)
        n = snprintf(path, size, "%s", dir);
    else if (xdg && *xdg == '/')
        n = snprintf(path, size, "%s/metallic", xdg);
    else if (home && *home == '/')
        n = snprintf(path, size, "%s/.cache/metallic", home);
    else
        return ml_fail(ML_ERR_DEVICE, "no folder for compiled kernels: neither METALLIC_CACHE_DIR nor HOME is set");
    if (n < 0 || (size_t)n >= size || n >= SM_PATH_MAX - 128)
        return ml_fail(ML_ERR_DEVICE, "the path of the folder for compiled kernels is too long");
    make_parents(path);
    ML_TRY(make_private(path));
    return path[0] == '/' ? ML_OK : make_absolute(path, size);
}

/* Process numbers tell nothing: containers and machines that share a folder have their own. */
ml_status sm_temporary_name(const char *folder, const char *suffix, char *path) {
    static atomic_uint count;
    uint64_t random = 0;
    if (getentropy(&random, sizeof random) != 0)
        return ml_fail(ML_ERR_DEVICE, "the system gives no random numbers: %s", strerror(errno));
    const unsigned n = atomic_fetch_add(&count, 1);
    if (snprintf(path, SM_PATH_MAX, "%s/" TEMPORARY "%016llx-%u%s", folder, (unsigned long long)random, n, suffix) >=
        SM_PATH_MAX)
        return ml_fail(ML_ERR_DEVICE, "the path %s is too long", folder);
    return ML_OK;
}

void sm_host_digest(char hex[33]) {
    sm_digest d;
    sm_digest_begin(&d);
    for (int i = 0; i < N_HOST_FILES; i++) {
        sm_digest_text(&d, host_files[i].name);
        sm_digest_text(&d, host_files[i].text);
    }
    sm_digest_end(&d, hex);
}

static void remove_tree(const char *path) {
    DIR *dir = opendir(path);
    if (dir) {
        for (struct dirent *e; (e = readdir(dir));) {
            char inner[SM_PATH_MAX];
            if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
                snprintf(inner, sizeof inner, "%s/%s", path, e->d_name) >= (int)sizeof inner)
                continue;
            if (unlink(inner) != 0)
                remove_tree(inner);
        }
        closedir(dir);
    }
    rmdir(path);
}

/* When a file was last read or written; of a folder, any file in it. */
static time_t last_use(const char *path) {
    struct stat st;
    if (lstat(path, &st) != 0)
        return 0;
    if (!S_ISDIR(st.st_mode))
        return st.st_atime > st.st_mtime ? st.st_atime : st.st_mtime;
    time_t last = st.st_mtime;
    DIR *dir = opendir(path);
    if (!dir)
        return last;
    for (struct dirent *e; (e = readdir(dir));) {
        char inner[SM_PATH_MAX];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            snprintf(inner, sizeof inner, "%s/%s", path, e->d_name) >= (int)sizeof inner)
            continue;
        const time_t used = last_use(inner);
        last = used > last ? used : last;
    }
    closedir(dir);
    return last;
}

void sm_folder_tidy(const char *folder, const char *keep) {
    static atomic_flag done = ATOMIC_FLAG_INIT;
    static const struct {
        const char *prefix;
        int days;
    } rules[] = {{TEMPORARY, TEMPORARY_DAYS},
                 {"kernel-", UNUSED_DAYS},
                 {"builtin-", UNUSED_DAYS},
                 {"pch-", UNUSED_DAYS},
                 {"host-", UNUSED_DAYS}};
    DIR *dir = atomic_flag_test_and_set(&done) ? NULL : opendir(folder);
    const time_t now = time(NULL);
    if (!dir)
        return;
    for (struct dirent *e; (e = readdir(dir));)
        for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
            char path[SM_PATH_MAX];
            if (strncmp(e->d_name, rules[i].prefix, strlen(rules[i].prefix)) != 0 ||
                snprintf(path, sizeof path, "%s/%s", folder, e->d_name) >= (int)sizeof path ||
                strcmp(path, keep) == 0 || now - last_use(path) < (time_t)rules[i].days * DAY)
                continue;
            if (unlink(path) != 0)
                remove_tree(path);
        }
    closedir(dir);
}

ml_status sm_host_headers(const char *folder, char *path) {
    char hex[33], temporary[SM_PATH_MAX], file[SM_PATH_MAX];
    struct stat st;
    sm_host_digest(hex);
    if (snprintf(path, SM_PATH_MAX, "%s/host-%s", folder, hex) >= SM_PATH_MAX)
        return ml_fail(ML_ERR_DEVICE, "the path %s is too long", folder);
    if (stat(path, &st) == 0)
        return ML_OK;
    ML_TRY(sm_temporary_name(folder, "-host", temporary));
    ml_status status = make_private(temporary);
    for (int i = 0; i < N_HOST_FILES && status == ML_OK; i++) {
        if (snprintf(file, sizeof file, "%s/%s", temporary, host_files[i].name) >= (int)sizeof file) {
            status = ml_fail(ML_ERR_DEVICE, "the path %s is too long", temporary);
            break;
        }
        make_parents(file);
        status = sm_write_file(file, host_files[i].text, strlen(host_files[i].text));
    }
    if (status == ML_OK && rename(temporary, path) != 0 && stat(path, &st) != 0)
        status = ml_fail(ML_ERR_DEVICE, "cannot rename %s to %s: %s", temporary, path, strerror(errno));
    remove_tree(temporary); /* still there when it failed, or when another process was first */
    return status;
}
