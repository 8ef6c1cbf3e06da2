#include "launch/share.h"

#include "launch/version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A name that no other job has: rank 0's host, process and time. */
static void name_job(lucid_job *job, const lucid_comm *comm) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(job->job_id, sizeof job->job_id, "%.20s-%ld-%ld", comm->host, (long)getpid(),
             now.tv_sec * 1000 + now.tv_nsec / 1000000);
}

static lucid_status pack(uint8_t **bytes, size_t *n_bytes, const lucid_comm *comm, int argc, char **argv) {
    lucid_job job = {.build = LUCID_BUILD, .words = argv, .n_words = argc};
    name_job(&job, comm);
    return lucid_message_pack_job(bytes, n_bytes, &job);
}

/* The same words mean the same only to the same build. */
static lucid_status read_job(launch_options *options, const lucid_job *job, const lucid_comm *comm) {
    if (strcmp(job->build, LUCID_BUILD))
        return lucid_fail(LUCID_ERR_COMM, "%s runs lucid %s, rank 0 %s: start the same program everywhere", comm->host,
                          LUCID_BUILD, job->build);
    LUCID_TRY(launch_options_parse(options, job->n_words, job->words));
    options->job_id = job->job_id;
    return LUCID_OK;
}

lucid_status launch_options_share(launch_options *options, lucid_job *job, lucid_comm *comm, int argc, char **argv) {
    uint8_t *bytes = NULL;
    size_t n_bytes = 0;
    lucid_status status = comm->rank == 0 ? pack(&bytes, &n_bytes, comm, argc, argv) : LUCID_OK;
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), free_bytes);
    LUCID_TRY_GOTO(lucid_comm_broadcast(comm, &n_bytes, sizeof n_bytes, 0), free_bytes);
    if (comm->rank) {
        bytes = n_bytes <= LUCID_JOB_MAX_BYTES ? malloc(n_bytes) : NULL;
        if (!bytes) status = lucid_fail(LUCID_ERR_MEMORY, "no memory for a job message of %zu bytes", n_bytes);
    }
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), free_bytes);
    LUCID_TRY_GOTO(lucid_comm_broadcast(comm, bytes, n_bytes, 0), free_bytes);
    status = lucid_message_unpack_job(job, bytes, n_bytes);
    if (!status) status = read_job(options, job, comm);
    status = lucid_comm_agree(comm, status);
free_bytes:
    free(bytes);
    return status;
}
