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
