#include "runtime/cgroup.h"

#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void walk_up(const char *mount, char *group, int version, lucid_cgroup_visit visit, void *context) {
    char folder[2 * PATH_MAX];
    for (;;) {
        snprintf(folder, sizeof folder, "%s%s", mount, group);
        visit(folder, version, context);
        char *slash = strrchr(group, '/');
        if (!slash) return;
        *slash = 0;
    }
}

/* Whether a list "cpu,cpuacct" of n characters has the name. */
static bool lists(const char *list, size_t n, const char *name) {
    const char *end = list + n;
    while (list < end) {
        const size_t word = strcspn(list, ",:");
        if (word == strlen(name) && !strncmp(list, name, word)) return true;
        list += word + 1;
    }
    return false;
}

/* A line: "4:cpu,cpuacct:/a/b", of version 2 "0::/a/b". A controller's folder of version 1 has its name, if need be as
 * a link. */
void lucid_cgroup_walk(const char *root, const char *controller, lucid_cgroup_visit visit, void *context) {
    char path[PATH_MAX], line[PATH_MAX], mount[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "r");
    if (!file) return;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        const char *list = strchr(line, ':');
        char *group = list ? strstr(list, ":/") : NULL;
        if (!group) continue;
        list++;
        group++;
        if (strncmp(line, "0::", 3) == 0) {
            snprintf(mount, sizeof mount, "%s/sys/fs/cgroup", root);
            walk_up(mount, group, 2, visit, context);
        } else if (lists(list, (size_t)(group - 1 - list), controller)) {
            snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/%s", root, controller);
            walk_up(mount, group, 1, visit, context);
        }
    }
    fclose(file);
}

/* The first numbers of a file; how many there are. "max" is none. */
static int read_numbers(const char *folder, const char *name, double *a, double *b) {
    char path[2 * PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    const int n = fscanf(file, "%lf %lf", a, b);
    fclose(file);
    return n;
}

/* Microseconds of processors' time in each period of so many. */
static void bound_cpus(const char *folder, int version, void *context) {
    double quota = 0, period = 0, none, *cpus = context;
    const bool known = version == 2 ? read_numbers(folder, "cpu.max", &quota, &period) == 2
                                    : read_numbers(folder, "cpu.cfs_quota_us", &quota, &none) == 1 &&
                                          read_numbers(folder, "cpu.cfs_period_us", &period, &none) == 1;
    if (known && quota > 0 && period > 0 && quota / period < *cpus) *cpus = quota / period;
}

double lucid_cgroup_cpus(const char *root) {
    double cpus = INFINITY;
    lucid_cgroup_walk(root, "cpu", bound_cpus, &cpus);
    return cpus;
}
