/* The MPI transport's collectives, each bounded by the deadline and each able to say which rank never came.
 *
 * A nonblocking collective is tested in a loop. No rank leaves one before all have come (a barrier follows those that
 * do not imply it), so until then whoever has come is still in the loop. When one rank's deadline passes it calls the
 * roll: it sends an empty message to everybody, and whoever gets one in the loop gives up too and does the same. Who is
 * silent is absent. The roll costs world_size^2 empty messages, only when the run is lost anyway. Only a rendezvous has
 * no deadline.
 *
 * The communicator's lock is taken for each step, so that heartbeats go on between them. */
#include "comm/clock.h"
#include "comm/mpi_world.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROLL_TAG     0
#define GATHER_TAG   1
#define ROLL_SECONDS 1.0

/* Cores may be shared with the ranks that are waited for: first offers the core, then sleeps ever longer. */
static void pause_politely(int n_pauses) {
    if (n_pauses < 1000) {
        sched_yield();
        return;
    }
    const long microseconds = n_pauses < 2000 ? 20 : 100;
    nanosleep(&(struct timespec){.tv_nsec = microseconds * 1000}, NULL);
}

/* Marks who answers within ROLL_SECONDS. MPI's errors say nothing new here and are passed over. */
static void call_roll(lucid_comm *comm, bool *present) {
    const mpi_world *world = comm->impl;
    const double deadline = lucid_clock() + ROLL_SECONDS;
    for (int r = 0; r < comm->world_size; r++) {
        MPI_Request request;
        present[r] = r == comm->rank;
        if (present[r]) continue;
        if (MPI_Isend(NULL, 0, MPI_BYTE, r, ROLL_TAG, world->collectives, &request) == MPI_SUCCESS)
            MPI_Request_free(&request);
    }
    for (int n_pauses = 0; lucid_clock() < deadline;) {
        int arrived;
        MPI_Status from;
        if (MPI_Iprobe(MPI_ANY_SOURCE, ROLL_TAG, world->collectives, &arrived, &from) != MPI_SUCCESS) return;
        if (!arrived) {
            pause_politely(n_pauses++);
            continue;
        }
        MPI_Recv(NULL, 0, MPI_BYTE, from.MPI_SOURCE, ROLL_TAG, world->collectives, MPI_STATUS_IGNORE);
        present[from.MPI_SOURCE] = true;
    }
}

/* The lowest rank that answered prints. */
static lucid_status name_absent(lucid_comm *comm, const char *what, const bool *present) {
    const double seconds = comm->options.timeout;
    int absent = -1, n_absent = 0, lowest = 0;
    while (!present[lowest]) lowest++;
    comm->job->silent = lowest != comm->rank;
    for (int r = comm->world_size - 1; r >= 0; r--) {
        if (present[r]) continue;
        absent = comm->job_ranks ? comm->job_ranks[r] : r;
        n_absent++;
    }
    if (n_absent == 0)
        return lucid_fail(LUCID_ERR_TIMEOUT, "%s: all ranks came, but it was not done within %g s", what, seconds);
    const char *phase = comm->job->phase ? comm->job->phase : "starting", *host = lucid_comm_host(comm->job, absent);
    if (n_absent == 1)
        return lucid_fail(LUCID_ERR_TIMEOUT, "%s: rank %d on %s did not come within %g s, while this rank was %s", what,
                          absent, host, seconds, phase);
    return lucid_fail(LUCID_ERR_TIMEOUT,
                      "%s: rank %d on %s and %d more did not come within %g s, while this rank was %s", what, absent,
                      host, n_absent - 1, seconds, phase);
}

/* From here on MPI is the roll call's alone: the heart stays away from a broken transport. */
static lucid_status give_up(lucid_comm *comm, const char *what) {
    pthread_mutex_lock(&comm->job->lock);
    comm->job->broken = true;
    pthread_mutex_unlock(&comm->job->lock);
    const double seconds = comm->options.timeout;
    bool *present = malloc((size_t)comm->world_size * sizeof *present);
    if (!present) return lucid_fail(LUCID_ERR_TIMEOUT, "%s: not done within %g s", what, seconds);
    call_roll(comm, present);
    const lucid_status status = name_absent(comm, what, present);
    free(present);
    return status;
}

/* Tests once. */
static lucid_status poll(lucid_comm *comm, int n, MPI_Request *requests, int *done, int *roll_called) {
    const mpi_world *world = comm->impl;
    *roll_called = 0;
    LUCID_TRY_MPI(MPI_Testall(n, requests, done, MPI_STATUSES_IGNORE));
    if (*done) return LUCID_OK;
    LUCID_TRY_MPI(MPI_Iprobe(MPI_ANY_SOURCE, ROLL_TAG, world->collectives, roll_called, MPI_STATUS_IGNORE));
    return LUCID_OK;
}

static lucid_status wait_for(lucid_comm *comm, int n, MPI_Request *requests, const char *what, double seconds) {
    const double deadline = lucid_clock() + seconds;
    for (int n_pauses = 0;; n_pauses += n_pauses < 2000) {
        int done, roll_called;
        pthread_mutex_lock(&comm->job->lock);
        const lucid_status status = poll(comm, n, requests, &done, &roll_called);
        pthread_mutex_unlock(&comm->job->lock);
        if (status || done) return status;
        if (roll_called || lucid_clock() > deadline) return give_up(comm, what);
        pause_politely(n_pauses);
    }
}

static lucid_status wait_all(lucid_comm *comm, int n, MPI_Request *requests, const char *what) {
    return wait_for(comm, n, requests, what, comm->options.timeout);
}

/* Starting a collective and waiting for it are two steps. */
#define LUCID_TRY_LOCKED(comm, call)              \
    do {                                          \
        pthread_mutex_lock(&(comm)->job->lock);   \
        const lucid_status try_locked_ = (call);  \
        pthread_mutex_unlock(&(comm)->job->lock); \
        if (try_locked_) return try_locked_;      \
    } while (0)

static lucid_status post_barrier(const mpi_world *world, MPI_Request *request) {
    LUCID_TRY_MPI(MPI_Ibarrier(world->collectives, request));
    return LUCID_OK;
}

/* Keeps those who are done until all have come. */
static lucid_status wait_for_stragglers(lucid_comm *comm, const char *what) {
    MPI_Request request;
    LUCID_TRY_LOCKED(comm, post_barrier(comm->impl, &request));
    return wait_all(comm, 1, &request, what);
}

static lucid_status post_broadcast(const mpi_world *world, void *buffer, size_t bytes, int root, MPI_Request *request) {
    mpi_extent extent;
    LUCID_TRY(lucid_mpi_extent(&extent, bytes));
    LUCID_TRY_MPI(MPI_Ibcast(buffer, extent.count, extent.type, root, world->collectives, request));
    lucid_mpi_extent_free(&extent); /* MPI keeps it until the broadcast is done */
    return LUCID_OK;
}

lucid_status lucid_mpi_broadcast(lucid_comm *comm, void *buffer, size_t bytes, int root) {
    MPI_Request request;
    LUCID_TRY(lucid_mpi_usable(comm));
    LUCID_TRY_LOCKED(comm, post_broadcast(comm->impl, buffer, bytes, root, &request));
    LUCID_TRY(wait_all(comm, 1, &request, "broadcast"));
    return wait_for_stragglers(comm, "broadcast");
}

static lucid_status post_gather_recvs(const lucid_comm *comm, char *recv, const size_t *recv_bytes,
                                      MPI_Request *requests) {
    const mpi_world *world = comm->impl;
    for (int r = 0; r < comm->world_size; recv += recv_bytes[r], r++) {
        mpi_extent extent;
        requests[r] = MPI_REQUEST_NULL;
        if (r == comm->rank) continue;
        LUCID_TRY(lucid_mpi_extent(&extent, recv_bytes[r]));
        LUCID_TRY_MPI(MPI_Irecv(recv, extent.count, extent.type, r, GATHER_TAG, world->collectives, &requests[r]));
        lucid_mpi_extent_free(&extent);
    }
    return LUCID_OK;
}

static lucid_status gather_into(lucid_comm *comm, char *recv, const size_t *recv_bytes, MPI_Request *requests) {
    LUCID_TRY_LOCKED(comm, post_gather_recvs(comm, recv, recv_bytes, requests));
    return wait_all(comm, comm->world_size, requests, "gather");
}

static lucid_status gather_at_root(lucid_comm *comm, const void *send, char *recv, const size_t *recv_bytes) {
    size_t own = 0;
    for (int r = 0; r < comm->rank; r++) own += recv_bytes[r];
    if (recv_bytes[comm->rank]) memcpy(recv + own, send, recv_bytes[comm->rank]);
    MPI_Request *requests = malloc((size_t)comm->world_size * sizeof *requests);
    if (!requests) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d requests", comm->world_size);
    const lucid_status status = gather_into(comm, recv, recv_bytes, requests);
    free(requests);
    return status;
}

static lucid_status post_gather_send(const mpi_world *world, const void *send, size_t bytes, int root,
                                     MPI_Request *request) {
    mpi_extent extent;
    LUCID_TRY(lucid_mpi_extent(&extent, bytes));
    LUCID_TRY_MPI(MPI_Isend(send, extent.count, extent.type, root, GATHER_TAG, world->collectives, request));
    lucid_mpi_extent_free(&extent);
    return LUCID_OK;
}

static lucid_status gather_elsewhere(lucid_comm *comm, const void *send, size_t bytes, int root) {
    MPI_Request request;
    LUCID_TRY_LOCKED(comm, post_gather_send(comm->impl, send, bytes, root, &request));
    return wait_all(comm, 1, &request, "gather");
}

/* Messages to root instead of MPI_Igatherv, whose int displacements end at 2 GiB. */
lucid_status lucid_mpi_gather(lucid_comm *comm, const void *send, size_t bytes, void *recv, const size_t *recv_bytes,
                              int root) {
    LUCID_TRY(lucid_mpi_usable(comm));
    if (comm->rank == root)
        LUCID_TRY(gather_at_root(comm, send, recv, recv_bytes));
    else
        LUCID_TRY(gather_elsewhere(comm, send, bytes, root));
    return wait_for_stragglers(comm, "gather");
}

static lucid_status post_allgather(const lucid_comm *comm, const void *send, void *recv, const int *counts,
                                   const int *places, MPI_Request *request) {
    const mpi_world *world = comm->impl;
    LUCID_TRY_MPI(MPI_Iallgatherv(send, counts[comm->rank], MPI_BYTE, recv, counts, places, MPI_BYTE,
                                  world->collectives, request));
    return LUCID_OK;
}

static lucid_status allgather_counts(lucid_comm *comm, const void *send, void *recv, const size_t *recv_bytes,
                                     int *counts, int *places) {
    bool all_bring = true;
    for (int r = 0, place = 0; r < comm->world_size; place += counts[r], r++) {
        counts[r] = (int)recv_bytes[r]; /* the caller checked their sum */
        places[r] = place;
        all_bring = all_bring && counts[r] > 0;
    }
    MPI_Request request;
    LUCID_TRY_LOCKED(comm, post_allgather(comm, send, recv, counts, places, &request));
    LUCID_TRY(wait_all(comm, 1, &request, "allgather"));
    return all_bring ? LUCID_OK : wait_for_stragglers(comm, "allgather");
}

/* Nobody has everything before all have come, so only a rank that brings nothing must be waited for. */
lucid_status lucid_mpi_allgather(lucid_comm *comm, const void *send, void *recv, const size_t *recv_bytes) {
    LUCID_TRY(lucid_mpi_usable(comm));
    int *counts = malloc(2 * (size_t)comm->world_size * sizeof *counts);
    if (!counts) return lucid_fail(LUCID_ERR_MEMORY, "no memory for the sizes of %d ranks", comm->world_size);
    const lucid_status status = allgather_counts(comm, send, recv, recv_bytes, counts, counts + comm->world_size);
    free(counts);
    return status;
}

static lucid_status post_allreduce(const mpi_world *world, double *x, int n, lucid_reduction op, MPI_Request *request) {
    const MPI_Op mpi_op = op == LUCID_SUM ? MPI_SUM : op == LUCID_MIN ? MPI_MIN : MPI_MAX;
    LUCID_TRY_MPI(MPI_Iallreduce(MPI_IN_PLACE, x, n, MPI_DOUBLE, mpi_op, world->collectives, request));
    return LUCID_OK;
}

lucid_status lucid_mpi_allreduce(lucid_comm *comm, double *x, int n, lucid_reduction op) {
    MPI_Request request;
    LUCID_TRY(lucid_mpi_usable(comm));
    LUCID_TRY_LOCKED(comm, post_allreduce(comm->impl, x, n, op, &request));
    return wait_all(comm, 1, &request, "allreduce");
}

lucid_status lucid_mpi_barrier(lucid_comm *comm, double seconds) {
    MPI_Request request;
    LUCID_TRY(lucid_mpi_usable(comm));
    LUCID_TRY_LOCKED(comm, post_barrier(comm->impl, &request));
    return wait_for(comm, 1, &request, "barrier", seconds);
}
