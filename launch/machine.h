/* A machine described in cluster/machines/NAME.json: what --plan expects of it and what placements are compared with.
 */
#ifndef LUCID_LAUNCH_MACHINE_H
#define LUCID_LAUNCH_MACHINE_H

#include "launch/topology.h"
#include "runtime/lucid.h"

#define LAUNCH_EXPECTED_SHARE 0.85 /* of the FMA peak, by work. Runs report theirs, so this can be checked. */

/* Each number is of one node, but for the last three. */
typedef struct {
    char name[64], description[256];
    int nodes, sockets, numa_domains, gpus;
    double cores;      /* below 1 where hosts share a core */
    double memory_gib; /* that runs may use */
    double core_flops; /* fp32 FMA flop/s of a core */
    double link_bytes; /* byte/s of a node's link, each way */
    double latency;    /* seconds of a message between nodes */
} launch_machine;

/* name: of a description that came with the program, or the path of a JSON file (a name with a slash or a dot). Errors:
 * INPUT naming file and member; USAGE with the names there are. Local. */
lucid_status launch_machine_read(launch_machine *machine, const char *name);

/* Expected seconds of the busiest rank's work and transfers, for ranks of this machine, one for each NUMA domain. */
typedef struct {
    int ranks_per_node, n_nodes;
    double cores;           /* of a rank */
    double work, transfers; /* seconds; they overlap */
} launch_expectation;
launch_expectation launch_machine_expect(const launch_machine *machine, const lucid_plan *plan, int world_size);

/* Says on the stream where a host that ranks run on is not as described. */
void launch_machine_compare(FILE *stream, const launch_machine *machine, const launch_place *place);

#endif
