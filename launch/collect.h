/* A run's inputs and results as whole tensors on rank 0, for references that want them so. */
#ifndef LUCID_LAUNCH_COLLECT_H
#define LUCID_LAUNCH_COLLECT_H

#include "launch/job.h"

/* (batch, heads, seqlen, dim) fp32 by lucid_tensor; on rank 0, NULL elsewhere. */
typedef struct {
    float *tensors[LUCID_LSE + 1];
} launch_collection;

/* Reads q, k, v again on rank 0 and gathers out, y, lse there. Collective; agreed. Errors: MEMORY, those of reading. */
lucid_status launch_collect(launch_collection *collection, launch_job *job);
void launch_collection_free(launch_collection *collection); /* fine on a zeroed one */

#endif
