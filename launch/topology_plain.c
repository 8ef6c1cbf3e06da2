#include "launch/topology.h"

#include <sched.h>
#include <unistd.h>

void launch_topology_print(FILE *stream) {
    fprintf(stream, "  topology    %ld hardware threads (this build has no hwloc)\n", sysconf(_SC_NPROCESSORS_ONLN));
}

/* Cores are hardware threads here, and domains are not known. */
void launch_topology_place(launch_place *place, int local_rank, int local_size, const char *gpu) {
    (void)local_rank, (void)local_size;
    cpu_set_t bound;
    int online = (int)sysconf(_SC_NPROCESSORS_ONLN);
    *place = (launch_place){.placed = PLACED_FREELY, .host_cores = online, .host_domains = 1};
    snprintf(place->gpu, sizeof place->gpu, "%s", gpu);
    bool known = sched_getaffinity(0, sizeof bound, &bound) == 0;
    if (known && CPU_COUNT(&bound) < online) place->placed = PLACED_BY_LAUNCHER;
    for (int cpu = 0; cpu < CPU_SETSIZE && cpu < LAUNCH_CORES_MAX; cpu++) {
        if (known ? !CPU_ISSET(cpu, &bound) : cpu >= online) continue;
        place->cores[cpu / 64] |= UINT64_C(1) << cpu % 64;
        place->n_cores++;
    }
}
