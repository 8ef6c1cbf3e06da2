/* The commands' side of checkpoints: options, SIGUSR1, the exit code. */
#ifndef LUCID_LAUNCH_CHECKPOINT_H
#define LUCID_LAUNCH_CHECKPOINT_H

#include "launch/job.h"

/* "Try again later", as sysexits.h has it: the job was saved, and a batch script may requeue it. */
#define LAUNCH_EXIT_SAVED 75

/* From now on SIGUSR1 asks to save and stop. Early, so that no moment is too early for the signal. Local. */
void launch_checkpoint_watch(void);

/* Opens the checkpoint that options name, *checkpoint stays as it is where they name none, and sets options to what a
 * run that resumes must keep: kernel set, tile and channels. Errors: as lucid_checkpoint_open; USAGE where options ask
 * for something else. Collective; agreed. */
lucid_status launch_checkpoint_open(lucid_checkpoint **checkpoint, launch_options *options, lucid_comm *comm,
                                    launch_source *source);

/* Before the run, after load. Collective; agreed. */
lucid_status launch_checkpoint_begin(launch_job *job);

/* After the run, stopped or not. Does not return where any rank was stopped and all have saved. Collective; agreed. */
lucid_status launch_checkpoint_end(launch_job *job, bool interrupted);

#endif
