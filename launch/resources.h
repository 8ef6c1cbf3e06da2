/* What the sessions of a job have in common, settled by all of its ranks together: so the way in which they are grouped
 * changes no bit of an answer, and gives no core of a host away twice. */
#ifndef LUCID_LAUNCH_RESOURCES_H
#define LUCID_LAUNCH_RESOURCES_H

#include "kernels/kernels.h"
#include "launch/options.h"
#include "launch/vocabulary.h"
#include "runtime/blas/blas.h"
#include "runtime/model/weights.h"

typedef struct {
    int threads; /* of each rank */
    const lucid_kernels *kernels;
    const lucid_blas *blas;
    lucid_model *model;           /* of --model */
    launch_vocabulary vocabulary; /* on ranks that drive a session */
    double program_bytes;         /* that were resident before the model was opened */
} launch_resources;

/* drives: this rank is the first of a session's. Collective of the job; agreed. Close also after a failure. */
lucid_status launch_resources_open(launch_resources *resources, const launch_options *options, lucid_comm *comm,
                                   bool drives);
void launch_resources_close(launch_resources *resources); /* Local */

#endif
