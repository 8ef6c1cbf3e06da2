/* Memory that the ranks of one host share while they fill it, each its share, and then only read.
 *
 * The host's first rank makes an anonymous file (memfd); where it is travels to all ranks, and the others of the host
 * open it through /proc. It has no name in any file system, so nothing is left behind however a rank ends, and /dev/shm
 * with its limits plays no part. Where a rank cannot open it (ranks in containers of their own), all ranks of the job
 * take private memory instead. Costs one gather and one broadcast of 96 bytes a rank. Internal to lucid_model. */
#ifndef LUCID_RUNTIME_MODEL_SHARED_H
#define LUCID_RUNTIME_MODEL_SHARED_H

#include "comm/comm.h"

typedef struct {
    void *base; /* page-aligned, zeroed; NULL for no bytes */
    size_t bytes;
    int writer, n_writers; /* this rank fills part `writer` of n_writers */
    bool node_wide;
} lucid_shared_memory;

/* bytes is the same on all ranks. Errors: MEMORY when the host has not as much to give; the same outcome on all ranks.
 * Collective. */
lucid_status lucid_shared_memory_open(lucid_shared_memory *memory, lucid_comm *comm, size_t bytes);
/* Read-only from here on. Local. */
lucid_status lucid_shared_memory_seal(lucid_shared_memory *memory);
void lucid_shared_memory_close(lucid_shared_memory *memory); /* Local */

#endif
