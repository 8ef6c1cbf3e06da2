/* Reads /proc and /sys/fs/cgroup, versions 1 and 2. A control group's page cache that the kernel would drop at once
 * (inactive_file) counts as free, or a run that had just read a large file would be refused for nothing. */
#include "runtime/memory.h"

#include "runtime/cgroup.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

static size_t less(size_t limit, size_t used) {
    return limit == LUCID_MEMORY_UNLIMITED ? limit : limit > used ? limit - used : 0;
}

/* The number after `key` at the start of a line of `path`, times unit; `missing` when there is none. */
static size_t read_keyed(const char *path, const char *key, size_t unit, size_t missing) {
    FILE *file = fopen(path, "r");
    if (!file) return missing;
    char line[512];
    size_t value = missing;
    while (value == missing && fgets(line, sizeof line, file)) {
        size_t n = strlen(key);
        uint64_t number;
        if (strncmp(line, key, n) == 0 && sscanf(line + n, "%" SCNu64, &number) == 1)
            value = number > SIZE_MAX / unit ? SIZE_MAX : (size_t)number * unit;
    }
    fclose(file);
    return value;
}

/* Limit less usage of one group's folder. "max" is no number and so counts as unlimited; so does version 1's huge one.
 */
static size_t group_free(const char *folder, const char *limit, const char *usage, const char *cache) {
    char path[2 * PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", folder, limit);
    size_t limit_bytes = read_keyed(path, "", 1, LUCID_MEMORY_UNLIMITED);
    if (limit_bytes >= (size_t)INT64_MAX / 2) return LUCID_MEMORY_UNLIMITED;
    snprintf(path, sizeof path, "%s/%s", folder, usage);
    size_t used = read_keyed(path, "", 1, 0);
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    return less(limit_bytes, less(used, read_keyed(path, cache, 1, 0)));
}

static void bound_memory(const char *folder, int version, void *context) {
    size_t *bytes = context;
    *bytes = least(*bytes, version == 2 ? group_free(folder, "memory.max", "memory.current", "inactive_file ")
                                        : group_free(folder, "memory.limit_in_bytes", "memory.usage_in_bytes",
                                                     "total_inactive_file "));
}

static size_t cgroup_free(const char *root) {
    size_t bytes = LUCID_MEMORY_UNLIMITED;
    lucid_cgroup_walk(root, "memory", bound_memory, &bytes);
    return bytes;
}

static size_t rlimit_free(int resource, const char *status_path, const char *used_key) {
    struct rlimit limit;
    if (getrlimit(resource, &limit) || limit.rlim_cur == RLIM_INFINITY) return LUCID_MEMORY_UNLIMITED;
    return less((size_t)limit.rlim_cur, read_keyed(status_path, used_key, 1024, 0));
}

lucid_memory lucid_memory_read(const char *root) {
    char meminfo[PATH_MAX], status[PATH_MAX];
    snprintf(meminfo, sizeof meminfo, "%s/proc/meminfo", root);
    snprintf(status, sizeof status, "%s/proc/self/status", root);
    return (lucid_memory){
        .available = read_keyed(meminfo, "MemAvailable:", 1024, LUCID_MEMORY_UNLIMITED),
        .cgroup = cgroup_free(root),
        .rlimit = least(rlimit_free(RLIMIT_AS, status, "VmSize:"), rlimit_free(RLIMIT_DATA, status, "VmData:")),
    };
}

size_t lucid_memory_share(const lucid_memory *memory, int n_local) {
    size_t shared = least(memory->available, memory->cgroup);
    if (shared != LUCID_MEMORY_UNLIMITED) shared /= n_local > 0 ? (size_t)n_local : 1;
    return least(shared, memory->rlimit);
}

size_t lucid_memory_peak(void) {
    return read_keyed("/proc/self/status", "VmHWM:", 1024, 0);
}
