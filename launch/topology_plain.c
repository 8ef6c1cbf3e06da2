#include "launch/topology.h"

#include <unistd.h>

void launch_topology_print(FILE *stream) {
    fprintf(stream, "  topology    %ld hardware threads (this build has no hwloc)\n", sysconf(_SC_NPROCESSORS_ONLN));
}
