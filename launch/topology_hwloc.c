#include "launch/topology.h"

#include <hwloc.h>

static void print_count(FILE *stream, hwloc_topology_t topology, hwloc_obj_type_t type, const char *name) {
    int n = hwloc_get_nbobjs_by_type(topology, type);
    if (n > 0) fprintf(stream, ", %d %s%s", n, name, n == 1 ? "" : "s");
}

static void print_cache(FILE *stream, hwloc_topology_t topology, hwloc_obj_type_t type, const char *name) {
    hwloc_obj_t cache = hwloc_get_obj_by_type(topology, type, 0);
    if (!cache) return;
    int n = hwloc_get_nbobjs_by_type(topology, type);
    fprintf(stream, ", %s %d x %llu KiB", name, n, (unsigned long long)(cache->attr->cache.size / 1024));
}

void launch_topology_print(FILE *stream) {
    hwloc_topology_t topology;
    if (hwloc_topology_init(&topology)) return;
    if (hwloc_topology_load(topology) == 0) {
        fprintf(stream, "  topology    hwloc");
        print_count(stream, topology, HWLOC_OBJ_PACKAGE, "socket");
        print_count(stream, topology, HWLOC_OBJ_NUMANODE, "NUMA node");
        print_count(stream, topology, HWLOC_OBJ_CORE, "core");
        print_count(stream, topology, HWLOC_OBJ_PU, "hardware thread");
        print_cache(stream, topology, HWLOC_OBJ_L1CACHE, "L1");
        print_cache(stream, topology, HWLOC_OBJ_L2CACHE, "L2");
        print_cache(stream, topology, HWLOC_OBJ_L3CACHE, "L3");
        fputc('\n', stream);
    }
    hwloc_topology_destroy(topology);
}

/* The n-th NUMA domain that has cores, NULL past the last: memory of an accelerator shows as a domain without. */
static hwloc_obj_t find_domain(hwloc_topology_t topology, int n) {
    hwloc_obj_t domain = NULL;
    while ((domain = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, domain)))
        if (!hwloc_bitmap_iszero(domain->cpuset) && n-- == 0) return domain;
    return NULL;
}

static int count_domains(hwloc_topology_t topology) {
    int n = 0;
    while (find_domain(topology, n)) n++;
    return n;
}

/* Fills the cores that lie in the set; a core counts where one of its hardware threads does. */
static void list_cores(launch_place *place, hwloc_topology_t topology, hwloc_const_cpuset_t set) {
    hwloc_obj_t core = NULL;
    while ((core = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_CORE, core))) {
        place->host_cores++;
        if (!hwloc_bitmap_intersects(core->cpuset, set)) continue;
        int number = hwloc_bitmap_first(core->cpuset);
        if (number >= LAUNCH_CORES_MAX) continue;
        place->cores[number / 64] |= UINT64_C(1) << number % 64;
        place->n_cores++;
    }
}

/* The domains of a rank's share; at least one. */
static void share_domains(hwloc_cpuset_t set, hwloc_topology_t topology, int n_domains, int local_rank,
                          int local_size) {
    int first = (int)((int64_t)local_rank * n_domains / local_size);
    int last = (int)((int64_t)(local_rank + 1) * n_domains / local_size);
    hwloc_bitmap_zero(set);
    for (int n = first; n < last || n == first; n++) hwloc_bitmap_or(set, set, find_domain(topology, n)->cpuset);
}

/* The cores next to a GPU, false where that is unknown or says nothing: then they are all the host's. */
static bool find_neighbours(hwloc_cpuset_t set, hwloc_topology_t topology, const char *gpu) {
    hwloc_obj_t device = *gpu ? hwloc_get_pcidev_by_busidstring(topology, gpu) : NULL;
    hwloc_obj_t around = device ? hwloc_get_non_io_ancestor_obj(topology, device) : NULL;
    if (!around || hwloc_bitmap_iszero(around->cpuset)) return false;
    if (hwloc_bitmap_isincluded(hwloc_topology_get_allowed_cpuset(topology), around->cpuset)) return false;
    hwloc_bitmap_copy(set, around->cpuset);
    return true;
}

/* Where a rank belongs that nobody has bound. */
static launch_placed choose(hwloc_cpuset_t set, hwloc_topology_t topology, const launch_place *place, int local_rank,
                            int local_size) {
    if (find_neighbours(set, topology, place->gpu)) return PLACED_BY_GPU;
    if (place->host_domains < 2) return PLACED_FREELY;
    share_domains(set, topology, place->host_domains, local_rank, local_size);
    return PLACED_ON_DOMAINS;
}

static void place_rank(launch_place *place, hwloc_topology_t topology, hwloc_cpuset_t set, int local_rank,
                       int local_size) {
    hwloc_const_cpuset_t whole = hwloc_topology_get_allowed_cpuset(topology);
    bool known = hwloc_get_cpubind(topology, set, HWLOC_CPUBIND_PROCESS) == 0;
    place->host_domains = count_domains(topology);
    if (known && !hwloc_bitmap_isincluded(whole, set)) {
        place->placed = PLACED_BY_LAUNCHER;
    } else {
        place->placed = choose(set, topology, place, local_rank, local_size);
        if (place->placed != PLACED_FREELY && hwloc_set_cpubind(topology, set, HWLOC_CPUBIND_PROCESS))
            place->placed = PLACED_FREELY;
        if (place->placed == PLACED_FREELY) hwloc_bitmap_copy(set, whole);
    }
    list_cores(place, topology, set);
}

/* Devices are looked for only where one is to be found: it takes a while. */
void launch_topology_place(launch_place *place, int local_rank, int local_size, const char *gpu) {
    hwloc_topology_t topology;
    *place = (launch_place){.placed = PLACED_FREELY};
    snprintf(place->gpu, sizeof place->gpu, "%s", gpu);
    if (hwloc_topology_init(&topology)) return;
    hwloc_cpuset_t set = hwloc_bitmap_alloc();
    if (*gpu) hwloc_topology_set_type_filter(topology, HWLOC_OBJ_PCI_DEVICE, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    if (set && hwloc_topology_load(topology) == 0) place_rank(place, topology, set, local_rank, local_size);
    hwloc_bitmap_free(set);
    hwloc_topology_destroy(topology);
}
