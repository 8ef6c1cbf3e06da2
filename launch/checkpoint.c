#include "launch/checkpoint.h"

#include "launch/sink.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static void on_signal(int number) {
    (void)number;
    lucid_checkpoint_request_stop();
}

void launch_checkpoint_watch(void) {
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_signal, .sa_flags = SA_RESTART}, NULL);
}

static lucid_status pin_number(int64_t *option, const char *name, int64_t resumed) {
    if (*option && *option != resumed)
        return lucid_fail(LUCID_ERR_USAGE, "--%s: the checkpoint has %lld; leave the option out", name,
                          (long long)resumed);
    *option = resumed;
    return LUCID_OK;
}

/* Rows are saved as tiles of channels, and another kernel set has other bits. */
static lucid_status pin(launch_options *options, const lucid_manifest *resumed) {
    if (!resumed) return LUCID_OK;
    if (strcmp(options->isa, "auto") && strcmp(options->isa, resumed->isa))
        return lucid_fail(LUCID_ERR_USAGE, "--isa: the checkpoint is of %s; leave the option out", resumed->isa);
    options->isa = resumed->isa;
    LUCID_TRY(pin_number(&options->tile, "tile", resumed->tile));
    return pin_number(&options->channels, "channels", resumed->channels);
}

lucid_status launch_checkpoint_open(lucid_checkpoint **checkpoint, launch_options *options, lucid_comm *comm,
                                    launch_source *source) {
    if (!options->checkpoint) return LUCID_OK;
    const lucid_checkpoint_options o = {.folder = options->checkpoint,
                                        .job = options->job_id,
                                        .every = options->checkpoint_every,
                                        .resume = options->resume};
    LUCID_TRY(lucid_checkpoint_open(checkpoint, comm, &source->problem, &o));
    source->digest = lucid_checkpoint_digest(*checkpoint);
    return lucid_comm_agree(comm, pin(options, lucid_checkpoint_resumed(*checkpoint)));
}

lucid_status launch_checkpoint_begin(launch_job *job) {
    LUCID_TRY(lucid_checkpoint_begin(job->checkpoint, job->attention));
    if (job->options->resume && !job->options->quiet && job->comm->rank == 0)
        printf("Resumed from %s: %.1f %% of the work was done.\n", job->options->checkpoint,
               100 * lucid_checkpoint_share(job->checkpoint));
    return LUCID_OK;
}

/* Tiles may still be on their way into this process: their memory stays until MPI has ended. */
static void leave(const launch_job *job) {
    launch_sink_discard();
    if (job->comm->rank == 0) fprintf(stderr, "lucid: saved in %s; go on with --resume\n", job->options->checkpoint);
    fflush(stdout);
    lucid_comm_close(job->comm);
    exit(LAUNCH_EXIT_SAVED);
}

lucid_status launch_checkpoint_end(launch_job *job, bool interrupted) {
    const lucid_status status = lucid_checkpoint_end(job->checkpoint, &interrupted);
    if (interrupted && status) launch_job_abort(job);
    if (interrupted) leave(job);
    return status;
}
