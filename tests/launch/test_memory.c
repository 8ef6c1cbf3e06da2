/* Free memory and processors as read from made-up /proc and /sys trees: control groups of both versions, nested, and
 * their page cache. */
#include "runtime/cgroup.h"
#include "runtime/memory.h"
#include "tests/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static char root[] = "/tmp/lucid-memory-XXXXXX";

/* Writes text to root/path, folders included. */
static void put(const char *path, const char *text) {
    char command[1024], full[512];
    snprintf(full, sizeof full, "%s/%s", root, path);
    snprintf(command, sizeof command, "mkdir -p \"$(dirname '%s')\"", full);
    CHECK(system(command) == 0, "%s", command);
    FILE *file = fopen(full, "w");
    CHECK(file, "cannot write %s", full);
    if (!file) return;
    fputs(text, file);
    fclose(file);
}

static void check_share(const char *what, int n_local, size_t want) {
    lucid_memory memory = lucid_memory_read(root);
    memory.rlimit = LUCID_MEMORY_UNLIMITED; /* this process's own, tested apart */
    size_t got = lucid_memory_share(&memory, n_local);
    CHECK(got == want, "%s: %zu, want %zu", what, got, want);
}

static void test_trees(void) {
    check_share("nothing readable", 3, LUCID_MEMORY_UNLIMITED);
    put("proc/meminfo", "MemTotal:       9000000 kB\nMemAvailable:    1048576 kB\n");
    check_share("MemAvailable among two ranks", 2, 512 * MIB);

    put("proc/self/cgroup", "0::/user/job\n");
    put("sys/fs/cgroup/user/job/memory.max", "max\n");
    check_share("a group without limit", 1, 1024 * MIB);
    put("sys/fs/cgroup/user/job/memory.max", "629145600\n"); /* 600 MiB */
    put("sys/fs/cgroup/user/job/memory.current", "209715200\n");
    check_share("version 2: 600 - 200 MiB", 1, 400 * MIB);
    put("sys/fs/cgroup/user/job/memory.stat", "anon 1\ninactive_file 104857600\n");
    check_share("100 MiB of the usage are droppable cache", 1, 500 * MIB);
    put("sys/fs/cgroup/user/memory.max", "314572800\n"); /* 300 MiB */
    put("sys/fs/cgroup/user/memory.current", "262144000\n");
    check_share("the parent leaves less: 50 MiB", 1, 50 * MIB);
    put("sys/fs/cgroup/user/memory.current", "524288000\n");
    check_share("a group above its limit leaves nothing", 1, 0);

    put("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/batch/step\n0::/\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    check_share("version 1 without limit", 1, 1024 * MIB);
    put("sys/fs/cgroup/memory/batch/step/memory.limit_in_bytes", "104857600\n");
    put("sys/fs/cgroup/memory/batch/step/memory.usage_in_bytes", "31457280\n");
    put("sys/fs/cgroup/memory/batch/step/memory.stat", "inactive_file 1\ntotal_inactive_file 10485760\n");
    check_share("version 1: 100 - 30 + 10 MiB, two ranks", 2, 40 * MIB);
}

static void check_cpus(const char *what, double want) {
    const double got = lucid_cgroup_cpus(root);
    CHECK(got == want, "%s: %g processors, want %g", what, got, want);
}

static void test_cpus(void) {
    put("proc/self/cgroup", "0::/pod/job\n");
    check_cpus("nothing readable", INFINITY);
    put("sys/fs/cgroup/pod/job/cpu.max", "max 100000\n");
    check_cpus("version 2 without limit", INFINITY);
    put("sys/fs/cgroup/pod/cpu.max", "250000 100000\n");
    check_cpus("the parent's quota", 2.5);
    put("sys/fs/cgroup/pod/job/cpu.max", "50000 25000\n");
    check_cpus("a smaller one of its own", 2);

    put("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    put("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "300000\n");
    put("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
    put("proc/self/cgroup", "6:cpuset:/a\n5:cpuacct,cpux:/a\n");
    check_cpus("other controllers", INFINITY);
    put("proc/self/cgroup", "6:cpuset:/b\n5:cpuacct,cpu:/a\n");
    check_cpus("version 1", 3);
}

static void test_rlimit(void) {
    struct rlimit old, limit;
    getrlimit(RLIMIT_AS, &old);
    limit = (struct rlimit){.rlim_cur = (rlim_t)1 << 46, .rlim_max = old.rlim_max}; /* sanitizers map terabytes */
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0, "cannot set a limit");
    lucid_memory memory = lucid_memory_read("");
    setrlimit(RLIMIT_AS, &old);
    CHECK(memory.rlimit < (size_t)1 << 46 && memory.rlimit > 0, "2^46 less what is mapped: %zu", memory.rlimit);
    memory = (lucid_memory){.available = 100, .cgroup = 90, .rlimit = 25};
    CHECK(lucid_memory_share(&memory, 2) == 25, "a resource limit is a process's own: %zu",
          lucid_memory_share(&memory, 2));
}

int main(void) {
    if (!mkdtemp(root)) return LUCID_TEST_SKIP;
    test_trees();
    test_cpus();
    test_rlimit();
    CHECK(lucid_memory_peak() > 100 << 10, "a process of %zu bytes", lucid_memory_peak());
    char command[64];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    CHECK(system(command) == 0, "%s", command);
    return check_result();
}
