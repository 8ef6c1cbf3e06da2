/* lucid info: what this build holds and what this machine offers. The processor and memory lines are rank 0's. */
#include "launch/commands.h"
#include "launch/peak.h"
#include "launch/report.h"
#include "launch/topology.h"
#include "launch/version.h"
#include "runtime/memory.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

static void print_processor(void) {
    char line[512], *name;
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, "model name", 10) || !(name = strchr(line, ':'))) continue;
        printf("  processor   %s", name + 2);
        break;
    }
    if (file) fclose(file);
    launch_topology_print(stdout);
}

static void print_kernels(void) {
    int n;
    const lucid_kernels *const *table = lucid_kernels_table(&n), *best = lucid_kernels_find("auto");
    printf("  kernels    ");
    for (int i = 0; i < n; i++)
        printf(" %s%s", table[i]->isa, table[i] == best ? " (chosen)" : table[i]->supported() ? "" : " (not here)");
    printf("\n  FMA peak    %.1f Gflop/s on one core\n", 1e-9 * launch_peak_measure(best, 1));
}

static void print_limit(const char *name, size_t bytes) {
    char text[32];
    printf("%s %s", name, bytes == LUCID_MEMORY_UNLIMITED ? "unlimited" : launch_bytes_text(text, (double)bytes));
}

static void print_memory(int n_local) {
    lucid_memory memory = lucid_memory_read("");
    printf("  memory      ");
    print_limit("available", memory.available);
    print_limit(", control group", memory.cgroup);
    print_limit(", resource limit", memory.rlimit);
    print_limit("; for each rank", lucid_memory_share(&memory, n_local));
    printf("\n");
}

lucid_status launch_info(const launch_options *options, lucid_comm *comm) {
    (void)options;
    if (comm->rank) return LUCID_OK;
    struct utsname system;
    uname(&system);
    printf("lucid %s, %s %s %s\n", LUCID_BUILD, system.sysname, system.release, system.machine);
    print_processor();
    print_kernels();
    printf("  transports  %s\n  in use      %s, %d rank%s, %d on %s\n", lucid_comm_transports(), comm->description,
           comm->world_size, comm->world_size == 1 ? "" : "s", comm->local_size, comm->host);
    print_memory(comm->local_size);
    return LUCID_OK;
}
