/* The MPI transport: start and end, and the ordered channels. A channel is the tag of nonblocking sends and receives
 * between two ranks; MPI keeps messages of one tag in order, which is all the contract asks. */
#include "comm/mpi_world.h"
#include "comm/watchdog.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES   ((size_t)1 << 30) /* of messages too long to be counted in bytes */
#define ABORT_SECONDS 5.0               /* MPI_Abort asks a daemon that may be out of reach */

lucid_status lucid_mpi_fail(int error, const char *call) {
    char reason[MPI_MAX_ERROR_STRING] = "";
    int length;
    MPI_Error_string(error, reason, &length);
    const int name = (int)strcspn(call, "(");
    return lucid_fail(LUCID_ERR_COMM, "%.*s: %s", name, call, reason);
}

lucid_status lucid_mpi_usable(const lucid_comm *comm) {
    return comm->job->broken ? lucid_fail(LUCID_ERR_COMM, "MPI was called after a collective was given up") : LUCID_OK;
}

static lucid_status long_extent(mpi_extent *extent, size_t bytes) {
    const size_t n_blocks = bytes / BLOCK_BYTES;
    if (n_blocks > INT_MAX) return lucid_fail(LUCID_ERR_COMM, "a message of %zu bytes is too long for MPI", bytes);
    const int counts[2] = {(int)n_blocks, (int)(bytes % BLOCK_BYTES)};
    const MPI_Aint places[2] = {0, (MPI_Aint)(n_blocks * BLOCK_BYTES)};
    MPI_Datatype block;
    LUCID_TRY_MPI(MPI_Type_contiguous((int)BLOCK_BYTES, MPI_BYTE, &block));
    const MPI_Datatype types[2] = {block, MPI_BYTE};
    LUCID_TRY_MPI(MPI_Type_create_struct(2, counts, places, types, &extent->type));
    LUCID_TRY_MPI(MPI_Type_free(&block));
    LUCID_TRY_MPI(MPI_Type_commit(&extent->type));
    extent->count = 1;
    return LUCID_OK;
}

lucid_status lucid_mpi_extent(mpi_extent *extent, size_t bytes) {
    if (bytes > INT_MAX) return long_extent(extent, bytes);
    *extent = (mpi_extent){.type = MPI_BYTE, .count = (int)bytes};
    return LUCID_OK;
}

void lucid_mpi_extent_free(mpi_extent *extent) {
    if (extent->type != MPI_BYTE) MPI_Type_free(&extent->type);
}

static bool launched(void) {
    static const char *const variables[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"};
    for (size_t v = 0; v < sizeof variables / sizeof variables[0]; v++)
        if (getenv(variables[v])) return true;
    return false;
}

/* srun without an MPI plugin starts tasks that cannot find each other and would each do the whole job. */
static bool stranded(void) {
    const char *n_tasks = getenv("SLURM_STEP_NUM_TASKS");
    return !launched() && n_tasks && strtol(n_tasks, NULL, 10) > 1;
}

/* Whether MPI is what "auto" should take: a plain run never starts MPI. By name it can be had without a launcher too.
 */
static bool mpi_available(void) {
    return launched() || stranded();
}

static const char *level_name(int level) {
    switch (level) {
    case MPI_THREAD_SINGLE:
        return "MPI_THREAD_SINGLE";
    case MPI_THREAD_FUNNELED:
        return "MPI_THREAD_FUNNELED";
    case MPI_THREAD_SERIALIZED:
        return "MPI_THREAD_SERIALIZED";
    default:
        return "MPI_THREAD_MULTIPLE";
    }
}

static lucid_status start_mpi(mpi_world *world, int *level) {
    int initialised, finalised;
    LUCID_TRY_MPI(MPI_Finalized(&finalised));
    if (finalised) return lucid_fail(LUCID_ERR_UNSUPPORTED, "MPI has been finalised and cannot start again");
    LUCID_TRY_MPI(MPI_Initialized(&initialised));
    world->owns_mpi = !initialised;
    if (initialised)
        LUCID_TRY_MPI(MPI_Query_thread(level));
    else
        LUCID_TRY_MPI(MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, level));
    LUCID_TRY_MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
    if (*level >= MPI_THREAD_SERIALIZED) return LUCID_OK;
    return lucid_fail(LUCID_ERR_UNSUPPORTED,
                      "MPI gives %s only: start it with MPI_THREAD_SERIALIZED or more, since "
                      "heartbeats have a thread of their own",
                      level_name(*level));
}

static lucid_status describe(lucid_comm *comm, int level) {
    char version[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length;
    LUCID_TRY_MPI(MPI_Get_library_version(version, &length));
    version[strcspn(version, ",\n")] = '\0';
    snprintf(comm->description, sizeof comm->description, "mpi (%.80s, %s)", version, level_name(level));
    return LUCID_OK;
}

static lucid_status find_place(lucid_comm *comm, MPI_Comm ranks) {
    MPI_Comm local;
    LUCID_TRY_MPI(MPI_Comm_rank(ranks, &comm->rank));
    LUCID_TRY_MPI(MPI_Comm_size(ranks, &comm->world_size));
    LUCID_TRY_MPI(MPI_Comm_split_type(ranks, MPI_COMM_TYPE_SHARED, comm->rank, MPI_INFO_NULL, &local));
    LUCID_TRY_MPI(MPI_Comm_rank(local, &comm->local_rank));
    LUCID_TRY_MPI(MPI_Comm_size(local, &comm->local_size));
    LUCID_TRY_MPI(MPI_Comm_free(&local));
    return LUCID_OK;
}

static lucid_status check_tags(const lucid_comm *comm) {
    int *tag_max, found;
    LUCID_TRY_MPI(MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &tag_max, &found));
    if (!found || comm->options.n_channels_max <= *tag_max) return LUCID_OK;
    return lucid_fail(LUCID_ERR_UNSUPPORTED, "%d channels are more than MPI's %d tags", comm->options.n_channels_max,
                      *tag_max);
}

/* Everything here may block until all ranks have come, so the caller watches it. */
static lucid_status join(lucid_comm *comm, mpi_world *world) {
    int level;
    LUCID_TRY(start_mpi(world, &level));
    LUCID_TRY(describe(comm, level));
    LUCID_TRY(find_place(comm, MPI_COMM_WORLD));
    LUCID_TRY(check_tags(comm));
    LUCID_TRY_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &world->channels));
    LUCID_TRY_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &world->collectives));
    return LUCID_OK;
}

lucid_status lucid_mpi_open(lucid_comm *comm) {
    if (stranded())
        return lucid_fail(LUCID_ERR_USAGE, "srun started %s tasks without an MPI plugin: use srun --mpi=pmix",
                          getenv("SLURM_STEP_NUM_TASKS"));
    mpi_world *world = calloc(1, sizeof *world);
    if (!world) return lucid_fail(LUCID_ERR_MEMORY, "no memory for the MPI transport");
    lucid_watchdog watchdog;
    lucid_watchdog_start(&watchdog, "the start of MPI", comm->options.timeout);
    const lucid_status status = join(comm, world);
    lucid_watchdog_stop(&watchdog);
    if (status) {
        free(world);
        return status;
    }
    comm->impl = world;
    return LUCID_OK;
}

/* All ranks have just agreed to do this, so the calls do not block for long; the caller watches them all the same. */
static lucid_status divide(lucid_comm *part, mpi_world *world, const lucid_comm *comm, int colour) {
    const mpi_world *whole = comm->impl;
    LUCID_TRY_MPI(MPI_Comm_split(whole->collectives, colour, comm->rank, &world->collectives));
    LUCID_TRY_MPI(MPI_Comm_dup(world->collectives, &world->channels));
    return find_place(part, world->collectives);
}

lucid_status lucid_mpi_split(lucid_comm *part, lucid_comm *comm, int colour) {
    mpi_world *world = calloc(1, sizeof *world);
    if (!world) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a communicator");
    lucid_watchdog watchdog;
    lucid_watchdog_start(&watchdog, "a division of the ranks", comm->options.timeout);
    const lucid_status status = divide(part, world, comm, colour);
    lucid_watchdog_stop(&watchdog);
    if (status) {
        free(world);
        return status;
    }
    part->impl = world;
    return LUCID_OK;
}

/* After a collective was given up a peer may be dead, and whatever blocks would wait for it: then the process's own
 * end, which its launcher notices, is the only goodbye. */
void lucid_mpi_close(lucid_comm *comm) {
    mpi_world *world = comm->impl;
    if (!comm->job->broken) {
        lucid_watchdog watchdog;
        lucid_watchdog_start(&watchdog, "the end of MPI", comm->options.timeout);
        MPI_Comm_free(&world->channels);
        MPI_Comm_free(&world->collectives);
        if (world->owns_mpi) MPI_Finalize();
        lucid_watchdog_stop(&watchdog);
    }
    while (world->spare) {
        mpi_request *request = world->spare;
        world->spare = request->next;
        free(request);
    }
    free(world);
}

static mpi_request *request_take(mpi_world *world) {
    mpi_request *request = world->spare;
    if (request)
        world->spare = request->next;
    else
        request = malloc(sizeof *request);
    if (!request) lucid_fail(LUCID_ERR_MEMORY, "no memory for a request");
    return request;
}

static void request_return(mpi_world *world, mpi_request *request) {
    lucid_mpi_extent_free(&request->extent);
    request->next = world->spare;
    world->spare = request;
}

/* form: its channel, peer and direction. */
static lucid_status post(lucid_comm *comm, mpi_request form, void *buffer, size_t bytes, lucid_request **posted) {
    mpi_world *world = comm->impl;
    LUCID_TRY(lucid_mpi_usable(comm));
    LUCID_TRY(lucid_mpi_extent(&form.extent, bytes));
    mpi_request *request = request_take(world);
    if (!request) return LUCID_ERR_MEMORY;
    *request = form;
    const int count = form.extent.count;
    if (form.receives)
        LUCID_TRY_MPI(
            MPI_Irecv(buffer, count, form.extent.type, form.peer, form.channel, world->channels, &request->mpi));
    else
        LUCID_TRY_MPI(
            MPI_Isend(buffer, count, form.extent.type, form.peer, form.channel, world->channels, &request->mpi));
    *posted = (lucid_request *)request;
    return LUCID_OK;
}

lucid_status lucid_mpi_post_send(lucid_comm *comm, int channel, int peer, const void *buffer, size_t bytes,
                                 lucid_request **posted) {
    return post(comm, (mpi_request){.channel = channel, .peer = peer}, (void *)buffer, bytes, posted);
}

lucid_status lucid_mpi_post_recv(lucid_comm *comm, int channel, int peer, void *buffer, size_t bytes,
                                 lucid_request **posted) {
    return post(comm, (mpi_request){.channel = channel, .peer = peer, .receives = true}, buffer, bytes, posted);
}

/* MPI accepts a message shorter than its receive; the contract does not. */
static lucid_status check_received(const mpi_request *request, const MPI_Status *mpi_status) {
    int count;
    LUCID_TRY_MPI(MPI_Get_count(mpi_status, request->extent.type, &count));
    if (count == request->extent.count) return LUCID_OK;
    return lucid_fail(LUCID_ERR_COMM, "rank %d sent a shorter message on channel %d than was awaited", request->peer,
                      request->channel);
}

lucid_status lucid_mpi_test(lucid_comm *comm, lucid_request *posted, bool *done) {
    mpi_request *request = (mpi_request *)posted;
    MPI_Status mpi_status;
    int completed;
    LUCID_TRY(lucid_mpi_usable(comm));
    LUCID_TRY_MPI(MPI_Test(&request->mpi, &completed, &mpi_status));
    *done = completed;
    if (!completed) return LUCID_OK;
    const lucid_status status = request->receives ? check_received(request, &mpi_status) : LUCID_OK;
    request_return(comm->impl, request);
    return status;
}

void lucid_mpi_abort(lucid_comm *comm) {
    (void)comm;
    lucid_watchdog watchdog;
    lucid_watchdog_start(&watchdog, NULL, ABORT_SECONDS); /* without a word: the failure has had its line */
    MPI_Abort(MPI_COMM_WORLD, 1);
}

extern const lucid_transport lucid_transport_mpi;
const lucid_transport lucid_transport_mpi = {
    .name = "mpi",
    .available = mpi_available,
    .open = lucid_mpi_open,
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
};
