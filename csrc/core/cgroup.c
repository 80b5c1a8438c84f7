/* The CPU quota that cgroups set for this process (cgroups(7); kernel documentation "Control Group v2", cpu.max, and
 * "CFS Bandwidth Control" for v1). A quota of an ancestor holds too, so the smallest one on the way up counts. */
#include "core/cpuinfo.h"
#include "core/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_SIZE = 4096, LINE_SIZE = 8192 };

typedef struct hierarchy {
    char mount[PATH_SIZE]; /* "" when not mounted */
    char root[PATH_SIZE];  /* the cgroup that is visible at the mount point */
    char group[PATH_SIZE]; /* this process's cgroup */
} hierarchy;

typedef struct hierarchies {
    hierarchy v1, v2;
} hierarchies;

static void copy_text(char *dst, const char *src, size_t size) {
    snprintf(dst, size, "%s", src);
}

/* Is word one of the comma-separated items of list? */
static bool list_has(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *p = list; p; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, word, length) == 0 && (p[length] == ',' || p[length] == '\n' || p[length] == '\0'))
            return true;
    }
    return false;
}

/* mountinfo escapes space, tab, newline and backslash as \ooo. */
static void unescape_octal(char *s) {
    char *out = s;
    for (; *s; s++, out++) {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' && s[3] <= '7') {
            *out = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 3;
        } else {
            *out = *s;
        }
    }
    *out = '\0';
}

/* One line: "36 35 98:0 /root /mount opts [optional...] - type source superopts" (proc_pid_mountinfo(5)). */
static void parse_mount(char *line, hierarchies *h) {
    char *tail = strstr(line, " - ");
    if (!tail)
        return;
    *tail = '\0';
    char root[PATH_SIZE], mount[PATH_SIZE], type[64], super[PATH_SIZE];
    if (sscanf(line, "%*s %*s %*s %4095s %4095s", root, mount) != 2)
        return;
    int fields = sscanf(tail + 3, "%63s %*s %4095s", type, super);
    if (fields < 1)
        return;
    hierarchy *which = NULL;
    if (strcmp(type, "cgroup2") == 0)
        which = &h->v2;
    else if (strcmp(type, "cgroup") == 0 && fields == 2 && list_has(super, "cpu"))
        which = &h->v1;
    if (!which || which->mount[0])
        return;
    unescape_octal(root);
    unescape_octal(mount);
    copy_text(which->root, root, sizeof which->root);
    copy_text(which->mount, mount, sizeof which->mount);
}

/* One line: "4:cpu,cpuacct:/group" (v1) or "0::/group" (v2). */
static void parse_group(char *line, hierarchies *h) {
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path)
        return;
    *path++ = '\0';
    controllers++;
    path[strcspn(path, "\n")] = '\0';
    if (controllers[0] == '\0')
        copy_text(h->v2.group, path, sizeof h->v2.group);
    else if (list_has(controllers, "cpu"))
        copy_text(h->v1.group, path, sizeof h->v1.group);
}

static bool each_line(const char *path, void (*parse)(char *, hierarchies *), hierarchies *h) {
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    char line[LINE_SIZE];
    while (fgets(line, sizeof line, f))
        parse(line, h);
    fclose(f);
    return true;
}

static bool read_text(const char *dir, const char *name, char *text, size_t size) {
    char path[2 * PATH_SIZE + 32];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return ml_read_line(path, text, size);
}

/* The quota of one cgroup directory in CPUs; 0: none. */
static double directory_quota(const char *dir, bool v2) {
    char text[128];
    double quota = 0, period = 0;
    if (v2) {
        if (!read_text(dir, "cpu.max", text, sizeof text) || sscanf(text, "%lf %lf", &quota, &period) != 2)
            return 0; /* "max 100000": no limit */
    } else {
        if (!read_text(dir, "cpu.cfs_quota_us", text, sizeof text))
            return 0;
        quota = strtod(text, NULL); /* -1: no limit */
        if (!read_text(dir, "cpu.cfs_period_us", text, sizeof text))
            return 0;
        period = strtod(text, NULL);
    }
    return quota > 0 && period > 0 ? quota / period : 0;
}

static double hierarchy_quota(const hierarchy *h, bool v2) {
    if (!h->mount[0])
        return 0;
    /* The group's path below the mount point. Inside a container the visible root may be the group itself; a group
     * outside the visible tree ("/../x") leaves the mount point as the best there is. */
    const char *below = h->group;
    size_t root_length = strlen(h->root);
    if (root_length > 1 && strncmp(below, h->root, root_length) == 0)
        below += root_length;
    else if (root_length > 1 || strstr(below, "..") != NULL)
        below = "";
    char dir[2 * PATH_SIZE];
    int mount_length = snprintf(dir, sizeof dir, "%s", h->mount);
    snprintf(dir + mount_length, sizeof dir - (size_t)mount_length, "%s", below);
    double smallest = 0;
    for (;;) {
        double quota = directory_quota(dir, v2);
        if (quota > 0 && (smallest == 0 || quota < smallest))
            smallest = quota;
        char *slash = strrchr(dir, '/');
        if (!slash || slash - dir < mount_length)
            return smallest;
        *slash = '\0';
    }
}

double ml_cgroup_cpu_quota(const char *mountinfo_path, const char *cgroup_path) {
    hierarchies *h = calloc(1, sizeof *h);
    if (!h)
        return 0;
    double quota = 0;
    if (each_line(mountinfo_path, parse_mount, h) && each_line(cgroup_path, parse_group, h)) {
        double v1 = hierarchy_quota(&h->v1, false), v2 = hierarchy_quota(&h->v2, true);
        quota = v1 > 0 && (v2 == 0 || v1 < v2) ? v1 : v2;
    }
    free(h);
    return quota;
}
