/* This machine's processors. topology_hwloc.c asks hwloc; topology_plain.c is for builds without it. */
#ifndef LUCID_LAUNCH_TOPOLOGY_H
#define LUCID_LAUNCH_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define LAUNCH_CORES_MAX 4096

enum { LAUNCH_ADDRESS_BYTES = 16 }; /* of a GPU's PCI address, "0000:3b:00.0" */

typedef enum {
    PLACED_FREELY,      /* on any core of the host */
    PLACED_BY_LAUNCHER, /* mpirun or srun bound it */
    PLACED_ON_DOMAINS,  /* bound here, to NUMA domains */
    PLACED_BY_GPU,      /* bound here, to the cores that are next to its GPU */
} launch_placed;

/* Where a rank may run. */
typedef struct {
    int32_t placed;                        /* launch_placed */
    int32_t host_cores, host_domains;      /* what the host offers; domains that have cores */
    int32_t n_cores;                       /* of them this rank's */
    int32_t quota;                         /* processors' time that control groups leave the host's ranks, 0: all */
    uint64_t cores[LAUNCH_CORES_MAX / 64]; /* their set, by the number of their first hardware thread */
    char gpu[LAUNCH_ADDRESS_BYTES];        /* the one it works on, "" for none */
} launch_place;

/* In one line. */
void launch_topology_print(FILE *stream);

/* Binds this process, unless its launcher did or the host is one domain, to NUMA domains: to an even share of them, or
 * to one that it shares with other ranks; a rank that works on a GPU (its PCI address, "" for none) to what is next to
 * that. Before threads are made and memory is touched. Local. */
void launch_topology_place(launch_place *place, int local_rank, int local_size, const char *gpu);

#endif
