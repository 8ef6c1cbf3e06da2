/* Rank 0's command line, on every rank. */
#ifndef LUCID_LAUNCH_SHARE_H
#define LUCID_LAUNCH_SHARE_H

#include "comm/messages.h"
#include "launch/options.h"

/* Broadcasts rank 0's command line, argc words at argv, as a Job message. Every rank's options become what it says, and
 * their texts point into job->words, which is to be freed after their last use, also after a failure. Collective;
 * agreed. Errors: USAGE when it is too long or no UTF-8; COMM when ranks run different builds of the program. */
lucid_status launch_options_share(launch_options *options, lucid_job *job, lucid_comm *comm, int argc, char **argv);

#endif
