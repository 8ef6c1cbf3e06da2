/* The communicator: chooses a transport by walking the table, checks arguments once for all transports, and builds on
 * their collectives what needs no transport of its own (barrier, agreement, gathering of unknown sizes). */
#include "comm/clock.h"
#include "comm/heart.h"

#include "transports.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_CHANNELS 64
#define DEFAULT_TIMEOUT  600.0
#define LINE_BYTES       512 /* of a failure that travels */
#define HOST_BYTES       sizeof((lucid_comm *)0)->host

#define DECLARE(name) extern const lucid_transport lucid_transport_##name;
LUCID_TRANSPORTS(DECLARE)

#define ADDRESS(name) &lucid_transport_##name,
static const lucid_transport *const transports[] = {LUCID_TRANSPORTS(ADDRESS)};
static const int n_transports = sizeof transports / sizeof transports[0];

const char *lucid_comm_transports(void) {
#define COMMA_NAME(name) "," #name
    return LUCID_TRANSPORTS(COMMA_NAME) + 1;
}

static const lucid_transport *find_transport(const char *name) {
    const bool any = !name || !strcmp(name, "auto");
    for (int t = 0; t < n_transports; t++)
        if (any ? transports[t]->available() : !strcmp(name, transports[t]->name)) return transports[t];
    return NULL;
}

static void release(lucid_comm *comm) {
    pthread_mutex_destroy(&comm->lock);
    pthread_mutex_destroy(&comm->describer_lock);
    free(comm->hosts);
    free(comm->job_ranks);
    free(comm);
}

static lucid_status learn_hosts(lucid_comm *comm) {
    const size_t bytes = (size_t)comm->world_size * HOST_BYTES;
    void *gathered = NULL;
    size_t *each = calloc((size_t)comm->world_size, sizeof *each);
    comm->hosts = calloc(1, bytes);
    lucid_status status =
        each && comm->hosts ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for %d hosts", comm->world_size);
    status = lucid_comm_agree(comm, status);
    if (!status) status = lucid_comm_gather(comm, comm->host, HOST_BYTES, &gathered, each, 0);
    if (!status && comm->rank == 0) memcpy(comm->hosts, gathered, bytes);
    if (!status) status = lucid_comm_broadcast(comm, comm->hosts, bytes, 0);
    free(gathered);
    free(each);
    return status;
}

lucid_status lucid_comm_open(lucid_comm **opened, const lucid_comm_options *options) {
    const char *name = options ? options->transport : NULL;
    const lucid_transport *transport = find_transport(name);
    if (!transport)
        return lucid_fail(LUCID_ERR_UNSUPPORTED, "transport %s is not in this build (%s)", name ? name : "auto",
                          lucid_comm_transports());

    lucid_comm *comm = calloc(1, sizeof *comm);
    if (!comm) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a communicator");
    if (options) comm->options = *options;
    if (comm->options.n_channels_max == 0) comm->options.n_channels_max = DEFAULT_CHANNELS;
    if (comm->options.timeout == 0) comm->options.timeout = DEFAULT_TIMEOUT;
    gethostname(comm->host, sizeof comm->host - 1);
    comm->transport = transport;
    comm->job = comm;
    pthread_mutex_init(&comm->lock, NULL);
    pthread_mutex_init(&comm->describer_lock, NULL);

    lucid_status status = transport->open(comm);
    if (status) {
        release(comm);
        return status;
    }
    LUCID_TRY_GOTO(lucid_comm_agree(comm, learn_hosts(comm)), close);
    LUCID_TRY_GOTO(lucid_comm_agree(comm, lucid_heart_start(&comm->heart, comm)), close);
    lucid_heart_rest(comm->heart, false);
    *opened = comm;
    return LUCID_OK;
close:
    lucid_comm_close(comm);
    return status;
}

void lucid_comm_close(lucid_comm *comm) {
    if (!comm) return;
    lucid_heart_stop(comm->heart);
    pthread_mutex_lock(&comm->job->lock); /* a part is closed while the job's heart beats */
    comm->transport->close(comm);
    pthread_mutex_unlock(&comm->job->lock);
    release(comm);
}

/* Every rank's number in the job, gathered like the hosts. */
static lucid_status learn_job_ranks(lucid_comm *part) {
    const size_t n = (size_t)part->world_size;
    size_t *each = calloc(n, sizeof *each);
    part->job_ranks = calloc(n, sizeof *part->job_ranks);
    for (size_t r = 0; each && r < n; r++) each[r] = sizeof *part->job_ranks;
    lucid_status status =
        each && part->job_ranks ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for %d ranks", part->world_size);
    status = lucid_comm_agree(part, status);
    if (!status) status = lucid_comm_allgather(part, &part->job->rank, part->job_ranks, each);
    free(each);
    return status;
}

static lucid_status split_transport(lucid_comm *part, lucid_comm *comm, int colour) {
    pthread_mutex_lock(&comm->job->lock);
    const lucid_status status = comm->transport->split(part, comm, colour);
    pthread_mutex_unlock(&comm->job->lock);
    return status;
}

lucid_status lucid_comm_split(lucid_comm **opened, lucid_comm *comm, int colour) {
    lucid_comm *part = calloc(1, sizeof *part);
    lucid_status status = part ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for a communicator");
    if (!status && colour < 0) status = lucid_fail(LUCID_ERR_INTERNAL, "a communicator of colour %d", colour);
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), free_part);
    part->transport = comm->transport;
    part->options = comm->options;
    part->job = comm->job;
    memcpy(part->host, comm->host, sizeof part->host);
    memcpy(part->description, comm->description, sizeof part->description);
    pthread_mutex_init(&part->lock, NULL);
    pthread_mutex_init(&part->describer_lock, NULL);
    LUCID_TRY_GOTO(split_transport(part, comm, colour), release_part);
    LUCID_TRY_GOTO(learn_hosts(part), close_part);
    LUCID_TRY_GOTO(learn_job_ranks(part), close_part);
    *opened = part;
    return LUCID_OK;
close_part:
    lucid_comm_close(part);
    return status;
release_part:
    release(part);
    return status;
free_part:
    free(part);
    return status;
}

/* The number that failures name a rank by. */
static int job_rank(const lucid_comm *comm, int rank) {
    return comm->job_ranks ? comm->job_ranks[rank] : rank;
}

static lucid_status check_rank(const lucid_comm *comm, int rank) {
    if (rank >= 0 && rank < comm->world_size) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INTERNAL, "there is no rank %d among %d", rank, comm->world_size);
}

static lucid_status check_channel(const lucid_comm *comm, int channel, int peer) {
    if (channel < 0 || channel >= comm->options.n_channels_max)
        return lucid_fail(LUCID_ERR_INTERNAL, "there is no channel %d among %d", channel, comm->options.n_channels_max);
    return check_rank(comm, peer);
}

lucid_status lucid_comm_post_send(lucid_comm *comm, int channel, int peer, const void *buffer, size_t bytes,
                                  lucid_request **request) {
    LUCID_TRY(check_channel(comm, channel, peer));
    pthread_mutex_lock(&comm->job->lock);
    const lucid_status status = comm->transport->post_send(comm, channel, peer, buffer, bytes, request);
    pthread_mutex_unlock(&comm->job->lock);
    return status;
}

lucid_status lucid_comm_post_recv(lucid_comm *comm, int channel, int peer, void *buffer, size_t bytes,
                                  lucid_request **request) {
    LUCID_TRY(check_channel(comm, channel, peer));
    pthread_mutex_lock(&comm->job->lock);
    const lucid_status status = comm->transport->post_recv(comm, channel, peer, buffer, bytes, request);
    pthread_mutex_unlock(&comm->job->lock);
    return status;
}

lucid_status lucid_comm_test(lucid_comm *comm, lucid_request *request, bool *done) {
    pthread_mutex_lock(&comm->job->lock);
    const lucid_status status = comm->transport->test(comm, request, done);
    pthread_mutex_unlock(&comm->job->lock);
    return status;
}

lucid_status lucid_comm_broadcast(lucid_comm *comm, void *buffer, size_t bytes, int root) {
    LUCID_TRY(check_rank(comm, root));
    return comm->transport->broadcast(comm, buffer, bytes, root);
}

lucid_status lucid_comm_allgather(lucid_comm *comm, const void *send, void *recv, const size_t *recv_bytes) {
    size_t total = 0;
    for (int r = 0; r < comm->world_size; r++)
        if (__builtin_add_overflow(total, recv_bytes[r], &total) || total > INT_MAX)
            return lucid_fail(LUCID_ERR_COMM, "an all-gather of more than %d bytes", INT_MAX);
    return comm->transport->allgather(comm, send, recv, recv_bytes);
}

lucid_status lucid_comm_allreduce(lucid_comm *comm, double *x, int n, lucid_reduction op) {
    return comm->transport->allreduce(comm, x, n, op);
}

lucid_status lucid_comm_barrier(lucid_comm *comm) {
    return comm->transport->barrier(comm, comm->options.timeout);
}

lucid_status lucid_comm_rendezvous(lucid_comm *comm) {
    return comm->transport->barrier(comm, INFINITY);
}

lucid_status lucid_comm_conclude(lucid_comm *comm, lucid_status status) {
    LUCID_TRY(lucid_comm_rendezvous(comm));
    return lucid_comm_agree(comm, status);
}

lucid_status lucid_comm_await(lucid_comm *comm, lucid_request **request, int peer, double timeout, const char *what,
                              int64_t number) {
    const double begin = lucid_clock();
    const int named = comm->job_ranks ? comm->job_ranks[peer] : peer;
    for (bool done = false; *request; sched_yield()) {
        LUCID_TRY(lucid_comm_test(comm, *request, &done));
        if (done) *request = NULL;
        if (*request && lucid_clock() - begin > timeout)
            return lucid_fail(LUCID_ERR_TIMEOUT,
                              "%s %" PRId64 " neither came from nor reached rank %d on %s within %g s, heard of %.1f s "
                              "ago. A longer --timeout waits longer",
                              what, number, named, lucid_comm_host(comm, peer), timeout,
                              lucid_comm_silence(comm, peer));
    }
    return LUCID_OK;
}

/* Every rank's size, on root only. */
static lucid_status gather_sizes(lucid_comm *comm, size_t bytes, size_t *recv_bytes, int root) {
    size_t *each = NULL;
    lucid_status status = LUCID_OK;
    if (comm->rank == root) {
        each = malloc((size_t)comm->world_size * sizeof *each);
        if (!each) status = lucid_fail(LUCID_ERR_MEMORY, "no memory to gather from %d ranks", comm->world_size);
        for (int r = 0; !status && r < comm->world_size; r++) each[r] = sizeof bytes;
    }
    status = lucid_comm_agree(comm, status);
    if (!status) status = comm->transport->gather(comm, &bytes, sizeof bytes, recv_bytes, each, root);
    free(each);
    return status;
}

static lucid_status allocate_total(void **recv, const size_t *recv_bytes, int world_size) {
    size_t total = 0;
    for (int r = 0; r < world_size; r++)
        if (__builtin_add_overflow(total, recv_bytes[r], &total))
            return lucid_fail(LUCID_ERR_MEMORY, "gathered sizes overflow at rank %d", r);
    *recv = malloc(total ? total : 1);
    return *recv ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory to gather %zu bytes", total);
}

lucid_status lucid_comm_gather(lucid_comm *comm, const void *send, size_t bytes, void **recv, size_t *recv_bytes,
                               int root) {
    LUCID_TRY(check_rank(comm, root));
    LUCID_TRY(gather_sizes(comm, bytes, recv_bytes, root));
    void *gathered = NULL;
    lucid_status status = LUCID_OK;
    if (comm->rank == root) status = allocate_total(&gathered, recv_bytes, comm->world_size);
    status = lucid_comm_agree(comm, status);
    if (!status) status = comm->transport->gather(comm, send, bytes, gathered, recv_bytes, root);
    if (status) {
        free(gathered);
        return status;
    }
    if (comm->rank == root) *recv = gathered;
    return LUCID_OK;
}

lucid_status lucid_comm_agree(lucid_comm *comm, lucid_status status) {
    double lowest = status ? comm->rank : comm->world_size;
    const lucid_status agreed = lucid_comm_allreduce(comm, &lowest, 1, LUCID_MIN);
    if (agreed) return status ? status : agreed;
    const int failed = (int)lowest;
    if (failed == comm->world_size) return LUCID_OK;

    char line[LINE_BYTES] = "";
    if (comm->rank == failed) snprintf(line, sizeof line, "rank %d: %s", job_rank(comm, failed), lucid_failure());
    const lucid_status told = lucid_comm_broadcast(comm, line, sizeof line, failed);
    if (status) return status;
    return told ? told : lucid_fail(LUCID_ERR_COMM, "%s", line);
}

void lucid_comm_abort(lucid_comm *comm) {
    comm = comm->job;
    if (comm->world_size > 1) lucid_heart_fail(comm->heart);
    static atomic_flag printed = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&printed))
        fprintf(stderr, "lucid: [rank %d/%d %s] %s\n", comm->rank, comm->world_size, comm->host, lucid_failure());
    comm->transport->abort(comm);
}

const char *lucid_comm_host(const lucid_comm *comm, int rank) {
    const char *host = comm->hosts ? comm->hosts + (size_t)rank * HOST_BYTES : "";
    return *host ? host : "an unknown host"; /* while the communicator opens */
}

double lucid_comm_silence(const lucid_comm *comm, int rank) {
    return lucid_heart_silence(comm->job->heart, job_rank(comm, rank));
}

void lucid_comm_phase(lucid_comm *comm, const char *phase) {
    atomic_store(&comm->job->phase, phase);
}

void lucid_comm_describe(lucid_comm *comm, lucid_describer describer, void *context) {
    pthread_mutex_lock(&comm->job->describer_lock);
    comm->job->describer = describer;
    comm->job->describer_context = context;
    pthread_mutex_unlock(&comm->job->describer_lock);
}

void lucid_comm_dump(void) {
    lucid_heart_dump();
}

lucid_status lucid_comm_lend(lucid_comm *comm) {
    LUCID_TRY(lucid_comm_barrier(comm));
    lucid_heart_rest(comm->heart, true);
    return LUCID_OK;
}

lucid_status lucid_comm_reclaim(lucid_comm *comm) {
    LUCID_TRY(lucid_comm_barrier(comm));
    lucid_heart_rest(comm->heart, false);
    return LUCID_OK;
}
