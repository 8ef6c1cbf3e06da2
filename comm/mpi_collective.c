/* The MPI transport's collectives, each bounded by the deadline and each able to say which rank never came.
 *
 * A nonblocking collective is tested in a loop. No rank leaves one before all have come (a barrier follows those that
 * do not imply it), so until then whoever has come is still in the loop. When one rank's deadline passes it calls the
 * roll: it sends an empty message to everybody, and whoever gets one in the loop gives up too and does the same. Who is
 * silent is absent. The roll costs world_size^2 empty messages, only when the run is lost anyway. */
#include "comm/mpi_world.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROLL_TAG     0
#define GATHER_TAG   1
#define ROLL_SECONDS 1.0

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

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
    const double deadline = now() + ROLL_SECONDS;
    for (int r = 0; r < comm->world_size; r++) {
        MPI_Request request;
        present[r] = r == comm->rank;
        if (present[r]) continue;
        if (MPI_Isend(NULL, 0, MPI_BYTE, r, ROLL_TAG, world->collectives, &request) == MPI_SUCCESS)
            MPI_Request_free(&request);
    }
    for (int n_pauses = 0; now() < deadline;) {
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

static lucid_status give_up(lucid_comm *comm, const char *what) {
    ((mpi_world *)comm->impl)->broken = true;
    const double seconds = comm->options.timeout;
    bool *present = malloc((size_t)comm->world_size * sizeof *present);
    if (!present) return lucid_fail(LUCID_ERR_TIMEOUT, "%s: not done within %g s", what, seconds);
    call_roll(comm, present);
    int absent = -1, n_absent = 0;
    for (int r = comm->world_size - 1; r >= 0; r--) {
        if (present[r]) continue;
        absent = r;
        n_absent++;
    }
    free(present);
    if (n_absent == 0)
        return lucid_fail(LUCID_ERR_TIMEOUT, "%s: all ranks came, but it was not done within %g s", what, seconds);
    if (n_absent == 1)
        return lucid_fail(LUCID_ERR_TIMEOUT, "%s: rank %d did not come within %g s", what, absent, seconds);
    return lucid_fail(LUCID_ERR_TIMEOUT, "%s: rank %d and %d more did not come within %g s", what, absent, n_absent - 1,
                      seconds);
}

static lucid_status wait_all(lucid_comm *comm, int n, MPI_Request *requests, const char *what) {
    const mpi_world *world = comm->impl;
    const double deadline = now() + comm->options.timeout;
    for (int n_pauses = 0;; n_pauses += n_pauses < 2000) {
        int done, roll_called;
        LUCID_TRY_MPI(MPI_Testall(n, requests, &done, MPI_STATUSES_IGNORE));
        if (done) return LUCID_OK;
        LUCID_TRY_MPI(MPI_Iprobe(MPI_ANY_SOURCE, ROLL_TAG, world->collectives, &roll_called, MPI_STATUS_IGNORE));
        if (roll_called || now() > deadline) return give_up(comm, what);
        pause_politely(n_pauses);
    }
}

/* Keeps those who are done until all have come. */
static lucid_status wait_for_stragglers(lucid_comm *comm, const char *what) {
    const mpi_world *world = comm->impl;
    MPI_Request request;
    LUCID_TRY_MPI(MPI_Ibarrier(world->collectives, &request));
    return wait_all(comm, 1, &request, what);
}

lucid_status lucid_mpi_broadcast(lucid_comm *comm, void *buffer, size_t bytes, int root) {
    const mpi_world *world = comm->impl;
    LUCID_TRY(lucid_mpi_check(world));
    mpi_extent extent;
    MPI_Request request;
    LUCID_TRY(lucid_mpi_extent(&extent, bytes));
    LUCID_TRY_MPI(MPI_Ibcast(buffer, extent.count, extent.type, root, world->collectives, &request));
    LUCID_TRY(wait_all(comm, 1, &request, "broadcast"));
    lucid_mpi_extent_free(&extent);
    return wait_for_stragglers(comm, "broadcast");
}

static lucid_status post_gather_recvs(lucid_comm *comm, char *recv, const size_t *recv_bytes, MPI_Request *requests) {
    const mpi_world *world = comm->impl;
    for (int r = 0; r < comm->world_size; recv += recv_bytes[r], r++) {
        mpi_extent extent;
        requests[r] = MPI_REQUEST_NULL;
        if (r == comm->rank) continue;
        LUCID_TRY(lucid_mpi_extent(&extent, recv_bytes[r]));
        LUCID_TRY_MPI(MPI_Irecv(recv, extent.count, extent.type, r, GATHER_TAG, world->collectives, &requests[r]));
        lucid_mpi_extent_free(&extent); /* MPI keeps it until the receive is done */
    }
    return LUCID_OK;
}

static lucid_status gather_at_root(lucid_comm *comm, const void *send, char *recv, const size_t *recv_bytes) {
    size_t own = 0;
    for (int r = 0; r < comm->rank; r++) own += recv_bytes[r];
    if (recv_bytes[comm->rank]) memcpy(recv + own, send, recv_bytes[comm->rank]);
    MPI_Request *requests = malloc((size_t)comm->world_size * sizeof *requests);
    if (!requests) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d requests", comm->world_size);
    lucid_status status = post_gather_recvs(comm, recv, recv_bytes, requests);
    if (!status) status = wait_all(comm, comm->world_size, requests, "gather");
    free(requests);
    return status;
}

static lucid_status gather_elsewhere(lucid_comm *comm, const void *send, size_t bytes, int root) {
    const mpi_world *world = comm->impl;
    mpi_extent extent;
    MPI_Request request;
    LUCID_TRY(lucid_mpi_extent(&extent, bytes));
    LUCID_TRY_MPI(MPI_Isend(send, extent.count, extent.type, root, GATHER_TAG, world->collectives, &request));
    lucid_mpi_extent_free(&extent);
    return wait_all(comm, 1, &request, "gather");
}

/* Messages to root instead of MPI_Igatherv, whose int displacements end at 2 GiB. */
lucid_status lucid_mpi_gather(lucid_comm *comm, const void *send, size_t bytes, void *recv, const size_t *recv_bytes,
                              int root) {
    LUCID_TRY(lucid_mpi_check(comm->impl));
    if (comm->rank == root)
        LUCID_TRY(gather_at_root(comm, send, recv, recv_bytes));
    else
        LUCID_TRY(gather_elsewhere(comm, send, bytes, root));
    return wait_for_stragglers(comm, "gather");
}

static lucid_status allgather_counts(lucid_comm *comm, const void *send, void *recv, const size_t *recv_bytes,
                                     int *counts, int *places) {
    const mpi_world *world = comm->impl;
    bool all_bring = true;
    for (int r = 0, place = 0; r < comm->world_size; place += counts[r], r++) {
        counts[r] = (int)recv_bytes[r]; /* the caller checked their sum */
        places[r] = place;
        all_bring = all_bring && counts[r] > 0;
    }
    MPI_Request request;
    LUCID_TRY_MPI(MPI_Iallgatherv(send, counts[comm->rank], MPI_BYTE, recv, counts, places, MPI_BYTE,
                                  world->collectives, &request));
    LUCID_TRY(wait_all(comm, 1, &request, "allgather"));
    return all_bring ? LUCID_OK : wait_for_stragglers(comm, "allgather");
}

/* Nobody has everything before all have come, so only a rank that brings nothing must be waited for. */
lucid_status lucid_mpi_allgather(lucid_comm *comm, const void *send, void *recv, const size_t *recv_bytes) {
    LUCID_TRY(lucid_mpi_check(comm->impl));
    int *counts = malloc(2 * (size_t)comm->world_size * sizeof *counts);
    if (!counts) return lucid_fail(LUCID_ERR_MEMORY, "no memory for the sizes of %d ranks", comm->world_size);
    const lucid_status status = allgather_counts(comm, send, recv, recv_bytes, counts, counts + comm->world_size);
    free(counts);
    return status;
}

lucid_status lucid_mpi_allreduce(lucid_comm *comm, double *x, int n, lucid_reduction op) {
    const mpi_world *world = comm->impl;
    LUCID_TRY(lucid_mpi_check(world));
    const MPI_Op mpi_op = op == LUCID_SUM ? MPI_SUM : op == LUCID_MIN ? MPI_MIN : MPI_MAX;
    MPI_Request request;
    LUCID_TRY_MPI(MPI_Iallreduce(MPI_IN_PLACE, x, n, MPI_DOUBLE, mpi_op, world->collectives, &request));
    return wait_all(comm, 1, &request, "allreduce");
}
