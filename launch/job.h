/* One run of attention on all ranks, step by step, and what each step took. The commands are made of these steps. */
#ifndef LUCID_LAUNCH_JOB_H
#define LUCID_LAUNCH_JOB_H

#include "comm/clock.h"
#include "comm/messages.h"
#include "launch/options.h"
#include "launch/progress.h"
#include "launch/source.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/lucid.h"

typedef struct {
    const launch_options *options;
    lucid_comm *comm;
    launch_source *source;
    lucid_options run;
    size_t free_bytes;    /* what the least favoured rank may take; 0: no limit known */
    size_t process_bytes; /* the most that a rank has taken before the plan's own: program, libraries, MPI */
    lucid_plan plan;
    lucid_attention *attention;
    lucid_checkpoint *checkpoint; /* NULL: none */
    bool announces;               /* prints the placement when the run starts */
    launch_progress progress;
    lucid_rank_report report; /* this rank's, filled as the steps pass */
} launch_job;

/* Fills job and plans the run; nothing large is allocated yet. Errors: USAGE; MEMORY when it cannot fit. Collective;
 * agreed. The job keeps pointers to all its arguments. */
lucid_status launch_job_plan(launch_job *job, const launch_options *options, lucid_comm *comm, launch_source *source);

/* Collective; agreed. */
lucid_status launch_job_create(launch_job *job);
lucid_status launch_job_load(launch_job *job);

/* The solve and the softmax pass, from a checkpoint on where there is one. A failure in here may have left other ranks
 * waiting: the job is ended. So it is, with exit code 75, where it was asked to save and stop. Collective. */
lucid_status launch_job_run(launch_job *job);

/* Ends all ranks after a failure of this one. */
_Noreturn void launch_job_abort(launch_job *job);

/* The backward pass after it, dout being loaded; a failure ends the job, too. Collective. */
lucid_status launch_job_backward(launch_job *job);

/* Measures the FMA peak with all threads of all ranks at once. Collective. */
lucid_status launch_job_measure_peak(launch_job *job);

/* Collective; agreed. */
lucid_status launch_job_certify(lucid_certificate_result *certificate, launch_job *job);

/* All ranks' reports in rank order, for launch_reports_free; NULL on ranks other than 0. Collective; agreed. */
lucid_status launch_job_gather(lucid_rank_report **reports, launch_job *job);
void launch_reports_free(lucid_rank_report *reports, int world_size);

/* What the fullest rank is expected to take at its peak: what it has taken already, and the plan. */
size_t launch_job_planned_bytes(const launch_job *job);

void launch_job_close(launch_job *job); /* Local; fine on a zeroed job */

/* How the command line says that a run shall be done; threads apart. */
lucid_options launch_job_options(const launch_options *options);

/* Places the ranks. --threads, or the least share of a host's cores that a rank has. Collective. */
lucid_status launch_job_threads(int *threads, const launch_options *options, lucid_comm *comm);

#endif
