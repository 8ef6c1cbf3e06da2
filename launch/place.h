/* Where the ranks run: each is placed, and the whole is judged on rank 0. */
#ifndef LUCID_LAUNCH_PLACE_H
#define LUCID_LAUNCH_PLACE_H

#include "comm/comm.h"
#include "launch/topology.h"

/* Places this rank the first time it is called. gpu: the address of the one it works on, "" for none. threads: wanted
 * for each rank, 0: a rank's share of its host's cores. On return the same on every rank: the wanted ones, or the least
 * share. Rank 0 warns on stderr of placements that cost time. Collective. */
lucid_status launch_place_ranks(int *threads, lucid_comm *comm, const char *gpu);

/* The cores that are one rank's of local_size on its host: no more than it may run on, nor than an even share of the
 * host's, or of its quota. At least 1. */
int launch_place_share(const launch_place *place, int local_size);

/* The placement in one line, after launch_place_ranks on rank 0; "" elsewhere. */
const char *launch_place_line(void);

const launch_place *launch_place_here(void);

/* What rank 0 does with all ranks' places (n) on hosts (n names, 64 bytes each): one line, and a warning a line. */
void launch_place_summarise(FILE *line, FILE *warnings, const launch_place *places, const char *hosts, int n,
                            int threads);

#endif
