/* What tests tell the fake NCCL, and learn from it. */
#ifndef LUCID_TESTS_FAKE_NCCL_H
#define LUCID_TESTS_FAKE_NCCL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

extern pthread_mutex_t *fake_nccl_lock; /* of MPI */
extern bool fake_nccl_fails;            /* from now on, asynchronously */
extern bool fake_nccl_stalls;           /* from now on nothing is ever done */
extern bool fake_nccl_mute;             /* from now on no message ever arrives */
extern int fake_nccl_version;           /* as ncclGetVersion has it */
extern int fake_nccl_groups, fake_nccl_messages;
extern size_t fake_nccl_bytes; /* of messages */

#endif
