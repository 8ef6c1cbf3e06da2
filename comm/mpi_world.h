/* What the files of the MPI transport share. Nothing outside them sees MPI. */
#ifndef LUCID_COMM_MPI_WORLD_H
#define LUCID_COMM_MPI_WORLD_H

#include "comm/comm.h"

#include <mpi.h>

/* How MPI is told of a number of bytes: its counts are ints, so long messages get a datatype of their own. */
typedef struct {
    MPI_Datatype type;
    int count;
} mpi_extent;

typedef struct mpi_request {
    MPI_Request mpi;
    mpi_extent extent;
    bool receives;
    int channel, peer;
    struct mpi_request *next; /* while it is spare */
} mpi_request;

typedef struct {
    MPI_Comm channels;    /* point to point; the channel is the tag */
    MPI_Comm collectives; /* apart, so that no roll call ever meets a channel's message */
    mpi_request *spare;   /* kept, so that a steady flow of messages allocates nothing */
    bool owns_mpi;        /* we initialised MPI, so we finalise it */
} mpi_world;

/* Turns an MPI error into a status. Calls of MPI are made under comm->lock from open to close. */
#define LUCID_TRY_MPI(call)                                                      \
    do {                                                                         \
        const int mpi_error_ = (call);                                           \
        if (mpi_error_ != MPI_SUCCESS) return lucid_mpi_fail(mpi_error_, #call); \
    } while (0)

lucid_status lucid_mpi_fail(int error, const char *call);

/* Once a collective has been given up (comm->broken) its buffers are the caller's again while MPI still knows them, so
 * MPI gets no further chance to progress: every later call but abort fails here. */
lucid_status lucid_mpi_usable(const lucid_comm *comm);

lucid_status lucid_mpi_extent(mpi_extent *extent, size_t bytes);
void lucid_mpi_extent_free(mpi_extent *extent);

/* The transport's entries, of which others can make theirs. */
lucid_status lucid_mpi_open(lucid_comm *comm);
void lucid_mpi_close(lucid_comm *comm);
lucid_status lucid_mpi_split(lucid_comm *part, lucid_comm *comm, int colour);
lucid_status lucid_mpi_post_send(lucid_comm *comm, int channel, int peer, const void *buffer, size_t bytes,
                                 lucid_request **request);
lucid_status lucid_mpi_post_recv(lucid_comm *comm, int channel, int peer, void *buffer, size_t bytes,
                                 lucid_request **request);
lucid_status lucid_mpi_test(lucid_comm *comm, lucid_request *request, bool *done);
void lucid_mpi_abort(lucid_comm *comm);

lucid_status lucid_mpi_broadcast(lucid_comm *comm, void *buffer, size_t bytes, int root);
lucid_status lucid_mpi_gather(lucid_comm *comm, const void *send, size_t bytes, void *recv, const size_t *recv_bytes,
                              int root);
lucid_status lucid_mpi_allgather(lucid_comm *comm, const void *send, void *recv, const size_t *recv_bytes);
lucid_status lucid_mpi_allreduce(lucid_comm *comm, double *x, int n, lucid_reduction op);
lucid_status lucid_mpi_barrier(lucid_comm *comm, double seconds);

#endif
