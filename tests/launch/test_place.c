/* Ranks on machines that are not here (hwloc's synthetic ones, one with GPUs from a file), and what is said of
 * placements. */
#include "launch/place.h"
#include "tests/check.h"

#include <stdlib.h>
#include <string.h>

static int first_core(const launch_place *place) {
    for (int core = 0; core < LAUNCH_CORES_MAX; core++)
        if (place->cores[core / 64] >> core % 64 & 1) return core;
    return -1;
}

/* Rank `rank` of `n` on the machine has n_cores cores from core `first` on, counted in hardware threads. */
static void expect_here(const char *machine, int rank, int n, const char *gpu, launch_placed placed, int first,
                        int n_cores) {
    launch_place place;
    launch_topology_place(&place, rank, n, gpu);
    CHECK(place.placed == (int)placed, "%s: rank %d of %d is placed in manner %d", machine, rank, n, place.placed);
    CHECK(place.n_cores == n_cores, "%s: rank %d of %d has %d cores, not %d", machine, rank, n, place.n_cores, n_cores);
    CHECK(first_core(&place) == first, "%s: rank %d of %d starts at %d, not %d", machine, rank, n, first_core(&place),
          first);
    CHECK(!strcmp(place.gpu, gpu), "%s: rank %d of %d has GPU '%s'", machine, rank, n, place.gpu);
}

static void expect_place(const char *machine, int rank, int n, launch_placed placed, int first, int n_cores) {
    setenv("HWLOC_SYNTHETIC", machine, 1);
    expect_here(machine, rank, n, "", placed, first, n_cores);
    unsetenv("HWLOC_SYNTHETIC");
}

/* Two packages of four cores, each a NUMA domain, with GPU 1b on the second's bus, c1 on the first's, and 05 on none's.
 */
static void on_gpus(const char *machine) {
    setenv("HWLOC_XMLFILE", machine, 1);
    expect_here(machine, 0, 2, "", PLACED_ON_DOMAINS, 0, 4);
    expect_here(machine, 0, 2, "0000:1B:00.0", PLACED_BY_GPU, 4, 4);
    expect_here(machine, 1, 2, "0000:c1:00.0", PLACED_BY_GPU, 0, 4);
    expect_here(machine, 1, 2, "0000:05:00.0", PLACED_ON_DOMAINS, 4, 4);
    expect_here(machine, 1, 2, "0000:77:00.0", PLACED_ON_DOMAINS, 4, 4);
    unsetenv("HWLOC_XMLFILE");
}

static void on_domains(void) {
    const char *two = "pack:2 [numa] core:8 pu:2", *eight = "pack:2 numa:4 core:12 pu:1",
               *one = "pack:1 [numa] core:6 pu:2";
    expect_place(one, 1, 2, PLACED_FREELY, 0, 6);
    expect_place(two, 0, 1, PLACED_ON_DOMAINS, 0, 16);
    expect_place(two, 0, 2, PLACED_ON_DOMAINS, 0, 8);
    expect_place(two, 1, 2, PLACED_ON_DOMAINS, 16, 8);
    expect_place(two, 2, 5, PLACED_ON_DOMAINS, 0, 8);
    expect_place(two, 3, 5, PLACED_ON_DOMAINS, 16, 8);
    expect_place(eight, 1, 3, PLACED_ON_DOMAINS, 24, 36);
    expect_place(eight, 7, 8, PLACED_ON_DOMAINS, 84, 12);
}

enum { N = 3 };

static launch_place some_place(launch_placed placed, int first, int n_cores) {
    launch_place place = {.placed = placed, .host_cores = 8, .host_domains = 1, .n_cores = n_cores};
    for (int core = first; core < first + n_cores; core++) place.cores[0] |= UINT64_C(1) << core;
    return place;
}

static void expect_summary(const launch_place *places, int threads, const char *line_part,
                           const char *warnings_wanted) {
    static const char hosts[N][64] = {"a", "a", "b"};
    char line[256] = "", warnings[512] = "";
    FILE *to_line = fmemopen(line, sizeof line, "w"), *to_warnings = fmemopen(warnings, sizeof warnings, "w");
    launch_place_summarise(to_line, to_warnings, places, hosts[0], N, threads);
    fclose(to_line);
    fclose(to_warnings);
    CHECK(strstr(line, line_part), "\"%s\" has no \"%s\"", line, line_part);
    CHECK(!strcmp(warnings, warnings_wanted), "warnings: \"%s\"", warnings);
}

static void summaries(void) {
    const launch_place apart[N] = {some_place(PLACED_BY_LAUNCHER, 0, 4), some_place(PLACED_BY_LAUNCHER, 4, 4),
                                   some_place(PLACED_FREELY, 0, 8)};
    expect_summary(apart, 4, "3 ranks on 2 hosts, bound by the launcher, each with 4 to 8 of 8 cores", "");
    const launch_place same_core[N] = {some_place(PLACED_BY_LAUNCHER, 2, 1), some_place(PLACED_BY_LAUNCHER, 2, 1),
                                       some_place(PLACED_BY_LAUNCHER, 0, 8)};
    expect_summary(same_core, 1, "each with 1 to 8 of 8 cores",
                   "lucid warning: a: 2 ranks of 1 thread share 1 core, to which the launcher bound them (mpirun "
                   "--bind-to none)\n");
    const launch_place idle[N] = {some_place(PLACED_BY_LAUNCHER, 0, 1), some_place(PLACED_BY_LAUNCHER, 1, 1),
                                  some_place(PLACED_FREELY, 0, 8)};
    expect_summary(idle, 1, "3 ranks",
                   "lucid warning: a: the launcher bound 2 ranks to 2 of 8 cores (mpirun --bind-to none)\n");
    launch_place wandering[N] = {some_place(PLACED_FREELY, 0, 8), some_place(PLACED_FREELY, 0, 8),
                                 some_place(PLACED_FREELY, 0, 8)};
    expect_summary(wandering, 5, "unbound, each with 8 of 8 cores in 1 NUMA domain, 5 threads",
                   "lucid warning: a: 2 ranks of 5 threads share 8 cores\n");
    wandering[2].host_domains = 4;
    expect_summary(wandering, 4, "unbound", "lucid warning: b: ranks wander over 4 NUMA domains\n");
}

/* Eight cores, of which control groups leave three processors' time. */
static void quotas(void) {
    launch_place place = some_place(PLACED_FREELY, 0, 8);
    CHECK(launch_place_share(&place, 2) == 4, "half of 8 cores: %d", launch_place_share(&place, 2));
    place.quota = 3;
    for (int n = 1; n <= 4; n++)
        CHECK(launch_place_share(&place, n) == (n == 1 ? 3 : 1), "%d ranks with a quota of 3: %d", n,
              launch_place_share(&place, n));
    place.quota = 9;
    CHECK(launch_place_share(&place, 1) == 8, "a quota above the cores: %d", launch_place_share(&place, 1));
    place.quota = 3;
    const launch_place places[N] = {place, place, place};
    expect_summary(places, 1, "1 thread (a quota of 3 processors)", "");
    expect_summary(places, 2, "2 threads (a quota of 3 processors)",
                   "lucid warning: a: 2 ranks of 2 threads share a quota of 3 processors\n");
}

static void summaries_with_gpus(void) {
    launch_place places[N] = {some_place(PLACED_BY_GPU, 0, 4), some_place(PLACED_BY_GPU, 4, 4),
                              some_place(PLACED_BY_GPU, 0, 8)};
    for (int r = 0; r < N; r++) snprintf(places[r].gpu, sizeof places[r].gpu, "0000:%d:00.0", r % 2);
    expect_summary(places, 4,
                   "bound next to their GPUs, each with 4 to 8 of 8 cores in 1 NUMA domain, 4 threads, 3 GPUs", "");
    snprintf(places[1].gpu, sizeof places[1].gpu, "%s", places[0].gpu);
    expect_summary(places, 4, ", 2 GPUs in all", "lucid warning: a: 2 ranks share 1 GPU\n");
}

int main(int argc, char **argv) {
    if (argc > 1) {
        on_domains();
        on_gpus(argv[1]);
    }
    summaries();
    quotas();
    summaries_with_gpus();
    return check_result();
}
