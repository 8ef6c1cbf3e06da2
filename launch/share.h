/* Rank 0's command line, on every rank. */
#ifndef LUCID_LAUNCH_SHARE_H
#define LUCID_LAUNCH_SHARE_H

#include "comm/messages.h"
#include "launch/options.h"

/* Broadcasts rank 0's options as a Job message; the other ranks' become what it says, and their texts point into job.
 * Some options are rank 0's alone, see options.h. Collective; agreed. Errors: USAGE when a text is too long or no
 * UTF-8. */
lucid_status launch_options_share(launch_options *options, lucid_job *job, lucid_comm *comm);

/* After that: rank 0's options with those that are its alone, on every rank. Their texts point into *words, which is to
 * be freed after their last use, also after a failure. Collective; agreed. */
lucid_status launch_options_share_all(launch_options *options, char **words, lucid_comm *comm);

#endif
