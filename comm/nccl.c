/* The NCCL transport: MPI between the hosts, for starting, collectives and the heart, and NCCL between the devices. */
#include "comm/mpi_world.h"
#include "comm/nccl_links.h"

#include <cuda_runtime_api.h>
#include <nccl.h>
#include <stdlib.h>
#include <string.h>

/* By name only: what runs on CPUs has no use for it. */
static bool nccl_available(void) {
    return false;
}

/* Where a rank's device is: NCCL does not link two ranks that share one. */
typedef struct {
    char host[64], address[32]; /* on the PCI bus */
} place;

/* The device that runtime/device takes too. */
static lucid_status find_device(place *own, const lucid_comm *comm) {
    int count = 0;
    memset(own, 0, sizeof *own);
    memcpy(own->host, comm->host, sizeof own->host);
    cudaError_t error = cudaGetDeviceCount(&count);
    if (!error && count) error = cudaDeviceGetPCIBusId(own->address, sizeof own->address, comm->local_rank % count);
    if (!error && count) return LUCID_OK;
    return lucid_fail(LUCID_ERR_USAGE, "--comm nccl: host %s has no GPU that can be used: %s", comm->host,
                      error ? cudaGetErrorString(error) : "none is visible");
}

static lucid_status check_shared(const place *places, const lucid_comm *comm) {
    for (int r = 0; r < comm->rank; r++)
        if (!memcmp(&places[r], &places[comm->rank], sizeof *places))
            return lucid_fail(LUCID_ERR_USAGE,
                              "--comm nccl: ranks %d and %d share the GPU %s of host %s; give each "
                              "one of its own, or take --comm mpi",
                              r, comm->rank, places[r].address, comm->host);
    return LUCID_OK;
}

/* Collective; agreed. */
static lucid_status check_devices(lucid_comm *comm) {
    const size_t n = (size_t)comm->world_size;
    place own, *places = calloc(n, sizeof *places);
    size_t *n_bytes = calloc(n, sizeof *n_bytes);
    lucid_status status =
        places && n_bytes ? find_device(&own, comm) : lucid_fail(LUCID_ERR_MEMORY, "no memory for %zu devices", n);
    status = lucid_comm_agree(comm, status);
    for (size_t r = 0; !status && r < n; r++) n_bytes[r] = sizeof own;
    if (!status) status = lucid_comm_allgather(comm, &own, places, n_bytes);
    if (!status) status = lucid_comm_agree(comm, check_shared(places, comm));
    free(places);
    free(n_bytes);
    return status;
}

/* "nccl (2.28.9, mpi (Open MPI 4.1.4, MPI_THREAD_SERIALIZED))" */
static void describe(lucid_comm *comm) {
    char hosts[sizeof comm->description];
    int version = 0;
    memcpy(hosts, comm->description, sizeof hosts);
    ncclGetVersion(&version);
    snprintf(comm->description, sizeof comm->description, "nccl (%d.%d.%d, %.100s)", version / 10000,
             version / 100 % 100, version % 100, hosts);
}

static lucid_status nccl_open(lucid_comm *comm) {
    LUCID_TRY(lucid_mpi_open(comm));
    const lucid_status status = check_devices(comm);
    if (status)
        lucid_mpi_close(comm);
    else
        describe(comm);
    return status;
}

extern const lucid_transport lucid_transport_nccl;
const lucid_transport lucid_transport_nccl = {
    .name = "nccl",
    .available = nccl_available,
    .open = nccl_open,
    .close = lucid_mpi_close,
    .post_send = lucid_mpi_post_send,
    .post_recv = lucid_mpi_post_recv,
    .test = lucid_mpi_test,
    .abort = lucid_mpi_abort,
    .broadcast = lucid_mpi_broadcast,
    .gather = lucid_mpi_gather,
    .allgather = lucid_mpi_allgather,
    .allreduce = lucid_mpi_allreduce,
    .barrier = lucid_mpi_barrier,
    .split = lucid_mpi_split,
    .devices = &lucid_nccl_links,
};
