/* Checkpoint and restart inside one attention pass: a thread of its own saves this rank's row tiles every few seconds
 * while the engine works; a later run, on other ranks, in another layout or schedule, takes them up and ends with the
 * same bits. manifest.h says what is in the folder and why ranks need not wait for each other.
 *
 *   lucid_checkpoint_open      the folder; with resume, what is in it        Collective
 *   lucid_checkpoint_resumed   what the run must keep: tile, channels, isa   Local
 *   lucid_checkpoint_digest    to be fed with the input while it is loaded   Local
 *   lucid_checkpoint_begin     after load: rows taken up, the thread started Collective
 *   lucid_checkpoint_hook      the run's hook                                Local
 *   lucid_checkpoint_end       after run: the thread ended, or a last save   Collective
 *   lucid_checkpoint_remove    when the results are safe                     Local
 *
 * A save that fails is told once a time on stderr and does not end the run: the generation before it stands.
 */
#ifndef LUCID_RUNTIME_CHECKPOINT_CHECKPOINT_H
#define LUCID_RUNTIME_CHECKPOINT_CHECKPOINT_H

#include "comm/message_manifest.h"
#include "runtime/checkpoint/digest.h"
#include "runtime/lucid.h"

typedef struct lucid_checkpoint lucid_checkpoint;

typedef struct {
    const char *folder; /* shared by all ranks; made if need be, but not for resume */
    const char *job;    /* in the names of files: the same on all ranks, unlike any other job's */
    double every;       /* seconds: what a run that dies may lose */
    bool resume;        /* go on from what is in the folder; else it must hold no checkpoint */
} lucid_checkpoint_options;

/* Errors: USAGE where the folder is another job's, or holds a checkpoint and resume was not asked for; INPUT where
 * there is none to resume from, or of another problem only; IO; MEMORY. Collective; agreed. */
lucid_status lucid_checkpoint_open(lucid_checkpoint **checkpoint, lucid_comm *comm, const lucid_problem *problem,
                                   const lucid_checkpoint_options *options);

/* A manifest of the checkpoint resumed from, NULL without resume. The run's isa, tile and channels have to be its. */
const lucid_manifest *lucid_checkpoint_resumed(const lucid_checkpoint *checkpoint);

lucid_digest *lucid_checkpoint_digest(lucid_checkpoint *checkpoint);

/* Takes up the rows, where there is something to resume from, and starts to save. A damaged block is named on stderr
 * and an older one taken, or none. Errors: INPUT where the input is another; COMM, IO, MEMORY. Collective; agreed. */
lucid_status lucid_checkpoint_begin(lucid_checkpoint *checkpoint, lucid_attention *attention);

/* Share of all ranks' work that was taken up, 0..1. */
double lucid_checkpoint_share(const lucid_checkpoint *checkpoint);

/* Asks the job to save and stop; this rank tells the others through the folder. Async-signal-safe. */
void lucid_checkpoint_request_stop(void);

/* As lucid_options.hook wants it; context is the checkpoint. INTERRUPTED, without a line, once any rank was asked. */
lucid_status lucid_checkpoint_hook(void *context);

/* *interrupted tells whether this rank's run was stopped, and then whether any rank's was: if so, all have written a
 * last generation. Ends the thread. Errors: IO, MEMORY, where that failed; COMM. Collective; agreed. */
lucid_status lucid_checkpoint_end(lucid_checkpoint *checkpoint, bool *interrupted);

/* Removes the checkpoint, rank 0 for all, once the results are where they should be. Local. */
void lucid_checkpoint_remove(lucid_checkpoint *checkpoint);

void lucid_checkpoint_close(lucid_checkpoint *checkpoint); /* Local; NULL is fine; before the attention goes */

#endif
