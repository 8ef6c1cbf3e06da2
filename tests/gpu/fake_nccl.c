/* NCCL's functions that comm/nccl_links.c uses, by MPI on the host's memory: communicators of two ranks, nonblocking,
 * under way until MPI is done. Like NCCL, a communicator takes its groups one after the other, and a call made while
 * the last one is under way is an error. MPI's calls share a lock with everybody else's. */
#include "tests/gpu/fake_nccl.h"

#include <mpi.h>
#include <nccl.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_GROUP = 64, MAX_IDS = 8 };

struct ncclComm {
    int tag, peer, own; /* peer, own: numbers in MPI_COMM_WORLD */
    MPI_Request requests[MAX_GROUP];
    int n_requests, n_messages;
};

pthread_mutex_t *fake_nccl_lock;
bool fake_nccl_fails, fake_nccl_stalls, fake_nccl_mute;
int fake_nccl_version = NCCL_VERSION(2, 28, 0), fake_nccl_groups, fake_nccl_messages;
size_t fake_nccl_bytes;

static bool in_group;
static ncclComm_t grouped;

static bool under_way(ncclComm_t comm) {
    int done;
    pthread_mutex_lock(fake_nccl_lock);
    MPI_Testall(comm->n_requests, comm->requests, &done, MPI_STATUSES_IGNORE);
    pthread_mutex_unlock(fake_nccl_lock);
    if (done) comm->n_requests = 0;
    return !done;
}

ncclResult_t ncclGetVersion(int *version) {
    *version = fake_nccl_version;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result) {
    return result == ncclInvalidUsage ? "invalid usage" : "an error";
}
const char *ncclGetLastError(ncclComm_t comm) {
    (void)comm;
    return "the fake's";
}

/* A number that no other communicator has: its owner and the owner's count. */
ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    static int n_made;
    int owner;
    MPI_Comm_rank(MPI_COMM_WORLD, &owner);
    const int parts[2] = {owner, 100 + (n_made++ % MAX_IDS) * 100 + owner};
    memset(id, 0, sizeof *id);
    memcpy(id, parts, sizeof parts);
    return ncclSuccess;
}

/* Who made the id is rank 0, and learns who the other one is. */
ncclResult_t ncclCommInitRankConfig(ncclComm_t *made, int n, ncclUniqueId id, int rank, ncclConfig_t *config) {
    int parts[2];
    ncclComm_t comm = calloc(1, sizeof *comm);
    memcpy(parts, &id, sizeof parts);
    if (!comm || n != 2 || config->blocking != 0) return ncclInvalidArgument;
    pthread_mutex_lock(fake_nccl_lock);
    MPI_Comm_rank(MPI_COMM_WORLD, &comm->own);
    comm->tag = parts[1];
    comm->peer = parts[0];
    if (rank == 0)
        MPI_Irecv(&comm->peer, 1, MPI_INT, MPI_ANY_SOURCE, comm->tag, MPI_COMM_WORLD, comm->requests);
    else
        MPI_Isend(&comm->own, 1, MPI_INT, comm->peer, comm->tag, MPI_COMM_WORLD, comm->requests);
    pthread_mutex_unlock(fake_nccl_lock);
    comm->n_requests = 1;
    *made = comm;
    return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state) {
    const bool stalls = fake_nccl_stalls || (fake_nccl_mute && comm->n_messages > 0);
    *state = under_way(comm) || stalls ? ncclInProgress : fake_nccl_fails ? ncclRemoteError : ncclSuccess;
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
    while (under_way(comm)) continue; /* MPI knows the memory until then */
    free(comm);
    return ncclSuccess;
}

/* nccl.h declares them without parameters, which in C is no prototype. */
ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);

ncclResult_t ncclGroupStart(void) {
    in_group = true;
    grouped = NULL;
    return ncclSuccess;
}
ncclResult_t ncclGroupEnd(void) {
    in_group = false;
    fake_nccl_groups++;
    return ncclInProgress;
}

/* The first call of a group finds the communicator at rest. */
static ncclResult_t join_group(ncclComm_t comm, size_t n, ncclDataType_t type) {
    if (!in_group || type != ncclUint8 || comm->n_requests == MAX_GROUP) return ncclInvalidUsage;
    if (grouped && grouped != comm) return ncclInvalidUsage;
    if (!grouped && under_way(comm)) return ncclInvalidUsage;
    grouped = comm;
    comm->n_messages++;
    fake_nccl_messages++;
    fake_nccl_bytes += n;
    return ncclSuccess;
}

ncclResult_t ncclSend(const void *buffer, size_t n, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    (void)stream;
    if (peer != 1 || join_group(comm, n, type)) return ncclInvalidUsage;
    pthread_mutex_lock(fake_nccl_lock);
    MPI_Issend(buffer, (int)n, MPI_BYTE, comm->peer, comm->tag, MPI_COMM_WORLD, &comm->requests[comm->n_requests++]);
    pthread_mutex_unlock(fake_nccl_lock);
    return ncclSuccess;
}

ncclResult_t ncclRecv(void *buffer, size_t n, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
    (void)stream;
    if (peer != 0 || join_group(comm, n, type)) return ncclInvalidUsage;
    pthread_mutex_lock(fake_nccl_lock);
    MPI_Irecv(buffer, (int)n, MPI_BYTE, comm->peer, comm->tag, MPI_COMM_WORLD, &comm->requests[comm->n_requests++]);
    pthread_mutex_unlock(fake_nccl_lock);
    return ncclSuccess;
}
