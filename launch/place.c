#include "launch/place.h"

#include "runtime/cgroup.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HOST_BYTES = 64, LINE_BYTES = 256 };

static launch_place here;
static char placement_line[LINE_BYTES];

static int count_cores(const uint64_t *cores) {
    int n = 0;
    for (int word = 0; word < LAUNCH_CORES_MAX / 64; word++) n += __builtin_popcountll(cores[word]);
    return n;
}

/* What the ranks of one host have together. */
typedef struct {
    const char *name;
    int n_ranks, n_cores, n_gpus; /* cores and GPUs: each counted once */
    const launch_place *first;
} host_view;

/* Whether rank's GPU is no lower rank's of its host. */
static bool brings_gpu(const launch_place *places, const char *hosts, int rank) {
    if (!*places[rank].gpu) return false;
    for (int r = 0; r < rank; r++)
        if (!strcmp(hosts + (size_t)r * HOST_BYTES, hosts + (size_t)rank * HOST_BYTES) &&
            !strcmp(places[r].gpu, places[rank].gpu))
            return false;
    return true;
}

static host_view view_host(const launch_place *places, const char *hosts, int n, int rank) {
    uint64_t together[LAUNCH_CORES_MAX / 64] = {0};
    host_view view = {.name = hosts + (size_t)rank * HOST_BYTES, .first = &places[rank]};
    for (int r = rank; r < n; r++) {
        if (strcmp(hosts + (size_t)r * HOST_BYTES, view.name)) continue;
        view.n_ranks++;
        view.n_gpus += brings_gpu(places, hosts, r);
        for (int word = 0; word < LAUNCH_CORES_MAX / 64; word++) together[word] |= places[r].cores[word];
    }
    view.n_cores = count_cores(together);
    return view;
}

static bool seen_before(const char *hosts, int rank) {
    for (int r = 0; r < rank; r++)
        if (!strcmp(hosts + (size_t)r * HOST_BYTES, hosts + (size_t)rank * HOST_BYTES)) return true;
    return false;
}

static void warn_of_host(FILE *stream, const host_view *h, int threads) {
    const launch_place *place = h->first;
    bool by_launcher = place->placed == PLACED_BY_LAUNCHER;
    if (h->n_gpus && h->n_ranks > h->n_gpus)
        fprintf(stream, "lucid warning: %s: %d ranks share %d GPU%s\n", h->name, h->n_ranks, h->n_gpus,
                h->n_gpus == 1 ? "" : "s");
    if (!h->n_cores) return; /* nothing is known */
    if (h->n_ranks * threads > h->n_cores)
        fprintf(stream, "lucid warning: %s: %d rank%s of %d thread%s share %d core%s%s\n", h->name, h->n_ranks,
                h->n_ranks == 1 ? "" : "s", threads, threads == 1 ? "" : "s", h->n_cores, h->n_cores == 1 ? "" : "s",
                by_launcher ? ", to which the launcher bound them (mpirun --bind-to none)" : "");
    else if (by_launcher && 2 * h->n_cores <= place->host_cores)
        fprintf(stream, "lucid warning: %s: the launcher bound %d rank%s to %d of %d cores (mpirun --bind-to none)\n",
                h->name, h->n_ranks, h->n_ranks == 1 ? "" : "s", h->n_cores, place->host_cores);
    if (place->quota && h->n_ranks * threads > place->quota && place->quota < h->n_cores)
        fprintf(stream, "lucid warning: %s: %d rank%s of %d thread%s share a quota of %d processor%s\n", h->name,
                h->n_ranks, h->n_ranks == 1 ? "" : "s", threads, threads == 1 ? "" : "s", place->quota,
                place->quota == 1 ? "" : "s");
    if (place->placed == PLACED_FREELY && place->host_domains > 1)
        fprintf(stream, "lucid warning: %s: ranks wander over %d NUMA domains\n", h->name, place->host_domains);
}

static void write_line(FILE *line, const launch_place *places, int n, int n_hosts, int n_gpus, int threads) {
    static const char *const manners[] = {"unbound", "bound by the launcher", "bound to NUMA domains",
                                          "bound next to their GPUs"};
    int least = places[0].n_cores, most = least;
    for (int r = 1; r < n; r++) {
        if (places[r].n_cores < least) least = places[r].n_cores;
        if (places[r].n_cores > most) most = places[r].n_cores;
    }
    fprintf(line, "%d rank%s on %d host%s, %s, each with %d", n, n == 1 ? "" : "s", n_hosts, n_hosts == 1 ? "" : "s",
            manners[places[0].placed], least);
    if (most > least) fprintf(line, " to %d", most);
    fprintf(line, " of %d cores in %d NUMA domain%s, %d thread%s", places[0].host_cores, places[0].host_domains,
            places[0].host_domains == 1 ? "" : "s", threads, threads == 1 ? "" : "s");
    if (places[0].quota && places[0].quota < places[0].host_cores)
        fprintf(line, " (a quota of %d processor%s)", places[0].quota, places[0].quota == 1 ? "" : "s");
    if (n_gpus) fprintf(line, ", %d GPU%s in all", n_gpus, n_gpus == 1 ? "" : "s");
}

void launch_place_summarise(FILE *line, FILE *warnings, const launch_place *places, const char *hosts, int n,
                            int threads) {
    int n_hosts = 0, n_gpus = 0;
    for (int r = 0; r < n; r++) {
        if (seen_before(hosts, r)) continue;
        const host_view view = view_host(places, hosts, n, r);
        warn_of_host(warnings, &view, threads);
        n_hosts++;
        n_gpus += view.n_gpus;
    }
    write_line(line, places, n, n_hosts, n_gpus, threads);
}

static void summarise(const launch_place *places, const lucid_comm *comm, int threads) {
    FILE *line = fmemopen(placement_line, sizeof placement_line - 1, "w");
    if (!line) return;
    launch_place_summarise(line, stderr, places, comm->hosts, comm->world_size, threads);
    fclose(line);
}

int launch_place_share(const launch_place *place, int local_size) {
    int together = place->host_cores;
    if (place->quota && place->quota < together) together = place->quota;
    int even = together / local_size;
    int share = place->n_cores < even ? place->n_cores : even;
    return share > 1 ? share : 1;
}

/* In whole processors: part of one is better used than left. */
static int32_t read_quota(void) {
    const double cpus = ceil(lucid_cgroup_cpus(""));
    return cpus <= LAUNCH_CORES_MAX ? (int32_t)cpus : 0;
}

lucid_status launch_place_ranks(int *threads, lucid_comm *comm, const char *gpu) {
    static bool placed;
    const bool first_time = !placed;
    if (first_time) {
        launch_topology_place(&here, comm->local_rank, comm->local_size, gpu);
        here.quota = read_quota();
    }
    placed = true;
    double least = launch_place_share(&here, comm->local_size);
    LUCID_TRY(lucid_comm_allreduce(comm, &least, 1, LUCID_MIN));
    if (!*threads) *threads = (int)least;
    if (!first_time) return LUCID_OK;

    void *places = NULL;
    size_t *n_bytes = calloc((size_t)comm->world_size, sizeof *n_bytes);
    lucid_status status =
        n_bytes ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for %d ranks' places", comm->world_size);
    status = lucid_comm_agree(comm, status);
    if (!status) status = lucid_comm_gather(comm, &here, sizeof here, &places, n_bytes, 0);
    if (!status && comm->rank == 0) summarise(places, comm, *threads);
    free(places);
    free(n_bytes);
    return status;
}

const char *launch_place_line(void) {
    return placement_line;
}

const launch_place *launch_place_here(void) {
    return &here;
}
