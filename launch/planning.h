/* --plan: what a run would need and take, on these ranks or on a described machine's. */
#ifndef LUCID_LAUNCH_PLANNING_H
#define LUCID_LAUNCH_PLANNING_H

#include "launch/job.h"

/* Prints the plan on rank 0, after launch_job_plan. Collective; agreed. Errors: as launch_machine_read's and
 * lucid_plan_make's. */
lucid_status launch_planning(launch_job *job);

/* Warns where this host is not a node of --machine. On rank 0; nothing without --machine. */
lucid_status launch_planning_check_host(const launch_options *options);

#endif
