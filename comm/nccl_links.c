/* Messages between the devices of neighbouring ranks.
 *
 * NCCL works off what one communicator is given one after the other, and a send or receive holds multiprocessors until
 * its peer has come. With one communicator for all, a receive posted ahead of time would keep everything behind it
 * waiting, in a circle at worst. So each direction between two neighbours has a communicator and a stream of its own,
 * and NCCL is called only when both sides are there: a receiver tells of the receives it has posted (credits), a sender
 * tells which of them it is about to serve (an offer) and starts; the receiver starts what was offered, as the same
 * group. Both are small messages through the host, on two channels above the caller's. Credits are sent long before
 * they are needed, so a message costs one of the host's latencies more than NCCL's own.
 *
 * Nothing here blocks but opening, which has a deadline: communicators are nonblocking, their asynchronous state is
 * polled, and a CUDA event tells when a group is done. A notice is awaited only while something is posted that needs
 * it, so when all messages are done, none is under way.
 *
 * A pair of ranks connects at its first message, which takes NCCL kernels and copies of its own: opening exchanges one
 * byte on each link, so that none of this happens in a run, beside kernels that fill the device.
 *
 * Cost: 4 communicators a rank and their buffers, 2 with two ranks. */
#include "comm/nccl_links.h"

#include "comm/clock.h"

#include <cuda_runtime_api.h>
#include <nccl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GROUP = 8, MAX_NEIGHBOURS = 2, MAX_ENDS = 2 * MAX_NEIGHBOURS };
enum { OLDEST = NCCL_VERSION(2, 28, 0) };
enum { MAX_CTAS = 8 };                        /* of an end: all four leave three quarters of a GPU to the kernels */
enum { CHANNEL_CREDITS = 1, CHANNEL_OFFERS }; /* above the caller's; the heart's is 0 */

/* What travels through the host: channels, each for one message in its order. */
typedef struct {
    int32_t n, channels[GROUP];
} notice;

/* What callers know as a request. */
typedef struct message {
    struct end *end;
    struct message *next; /* in the end's list, or while it is spare */
    void *buffer;
    size_t bytes;
    int channel;
    bool told; /* a receive's credit has been sent */
    bool done;
} message;

/* One direction's end on this rank. */
typedef struct end {
    struct links *links;
    int peer;
    bool sends;
    ncclComm_t nccl; /* two ranks: the sender is 0, the receiver 1 */
    cudaStream_t stream;
    cudaEvent_t finished;
    message *posted; /* not in a group yet, oldest first */
    message *group[GROUP];
    int n_group;
    enum { IDLE, STARTING, RUNNING } phase; /* of the group; STARTING: NCCL has not given it to the stream yet */
    message first;                          /* of one byte, when the link is opened */
    notice outgoing, incoming;              /* of credits one way, of offers the other */
    lucid_request *sending, *receiving;     /* those notices; NULL: not under way */
    bool offered;                           /* incoming is an offer that is not started yet */
    int *credits;                           /* (channels) a sender's */
} end;

typedef struct links {
    lucid_comm *comm;
    int device;
    int n_neighbours, neighbours[MAX_NEIGHBOURS]; /* the next rank, then the one before */
    end ends[MAX_ENDS];                           /* (2 n_neighbours) by neighbour, the sender first */
    message *spare;
    int *credits;         /* (n_neighbours, channels) */
    unsigned char *bytes; /* (MAX_ENDS) on the device: the ends' first messages */
} links;

/* --- errors --- */

static lucid_status cuda_status(cudaError_t error, const char *call) {
    return error ? lucid_fail(LUCID_ERR_COMM, "the GPU failed: %s (%s)", cudaGetErrorString(error), call) : LUCID_OK;
}
#define CUDA_CHECK(call) cuda_status(call, #call)

static lucid_status nccl_status(const end *e, ncclResult_t result, const char *call) {
    if (result == ncclSuccess || result == ncclInProgress) return LUCID_OK;
    const int name = (int)strcspn(call, "(");
    return lucid_fail(LUCID_ERR_COMM, "NCCL failed %s rank %d on %s: %s (%.*s: %s)", e->sends ? "to" : "from", e->peer,
                      lucid_comm_host(e->links->comm, e->peer), ncclGetErrorString(result), name, call,
                      ncclGetLastError(e->nccl));
}
#define NCCL_CHECK(e, call) nccl_status(e, call, #call)

/* --- notices, through the host --- */

static int notice_channel(const end *e, int kind) {
    return e->links->comm->options.n_channels_max + kind;
}

static lucid_status notice_send(end *e) {
    lucid_comm *comm = e->links->comm;
    const int channel = notice_channel(e, e->sends ? CHANNEL_OFFERS : CHANNEL_CREDITS);
    pthread_mutex_lock(&comm->job->lock);
    const lucid_status status =
        comm->transport->post_send(comm, channel, e->peer, &e->outgoing, sizeof e->outgoing, &e->sending);
    pthread_mutex_unlock(&comm->job->lock);
    return status;
}

static lucid_status notice_await(end *e) {
    lucid_comm *comm = e->links->comm;
    const int channel = notice_channel(e, e->sends ? CHANNEL_CREDITS : CHANNEL_OFFERS);
    pthread_mutex_lock(&comm->job->lock);
    const lucid_status status =
        comm->transport->post_recv(comm, channel, e->peer, &e->incoming, sizeof e->incoming, &e->receiving);
    pthread_mutex_unlock(&comm->job->lock);
    return status;
}

/* *request becomes NULL, and *done true, once it is done. */
static lucid_status notice_test(const end *e, lucid_request **request, bool *done) {
    *done = false;
    if (!*request) return LUCID_OK;
    LUCID_TRY(lucid_comm_test(e->links->comm, *request, done));
    if (*done) *request = NULL;
    return LUCID_OK;
}

/* Each end checks what it is told: these channels come from another process. */
static lucid_status notice_check(const end *e) {
    bool sound = e->incoming.n >= 1 && e->incoming.n <= GROUP;
    for (int i = 0; sound && i < e->incoming.n; i++)
        sound = e->incoming.channels[i] >= 0 && e->incoming.channels[i] < e->links->comm->options.n_channels_max;
    return sound
               ? LUCID_OK
               : lucid_fail(LUCID_ERR_COMM, "rank %d sent a notice about device messages that makes no sense", e->peer);
}

/* --- groups --- */

static lucid_status enqueue(end *e) {
    const int other = e->sends ? 1 : 0;
    for (int i = 0; i < e->n_group; i++) {
        const message *m = e->group[i];
        if (e->sends)
            LUCID_TRY(NCCL_CHECK(e, ncclSend(m->buffer, m->bytes, ncclUint8, other, e->nccl, e->stream)));
        else
            LUCID_TRY(NCCL_CHECK(e, ncclRecv(m->buffer, m->bytes, ncclUint8, other, e->nccl, e->stream)));
    }
    return LUCID_OK;
}

static lucid_status group_start(end *e) {
    LUCID_TRY(NCCL_CHECK(e, ncclGroupStart()));
    LUCID_TRY(enqueue(e));
    LUCID_TRY(NCCL_CHECK(e, ncclGroupEnd()));
    e->phase = STARTING;
    return LUCID_OK;
}

/* *busy: NCCL still works on the last call; only then may the next be made, or an event recorded behind it. */
static lucid_status nccl_poll(const end *e, bool *busy) {
    ncclResult_t state = ncclSuccess;
    LUCID_TRY(NCCL_CHECK(e, ncclCommGetAsyncError(e->nccl, &state)));
    *busy = state == ncclInProgress;
    return nccl_status(e, state, "asynchronously");
}

static void group_finish(end *e) {
    for (int i = 0; i < e->n_group; i++) e->group[i]->done = true;
    e->n_group = 0;
    e->phase = IDLE;
}

/* Errors show at rest too: a peer that is lost has no more notices for us. */
static lucid_status group_progress(end *e) {
    bool busy;
    LUCID_TRY(nccl_poll(e, &busy));
    if (busy || e->phase == IDLE) return LUCID_OK;
    if (e->phase == STARTING) LUCID_TRY(CUDA_CHECK(cudaEventRecord(e->finished, e->stream)));
    e->phase = RUNNING;
    const cudaError_t error = cudaEventQuery(e->finished);
    if (error == cudaErrorNotReady) return LUCID_OK;
    LUCID_TRY(CUDA_CHECK(error));
    group_finish(e);
    return LUCID_OK;
}

/* Moves a posted message to the group. */
static void group_add(end *e, message **place) {
    message *m = *place;
    *place = m->next;
    e->group[e->n_group++] = m;
}

/* --- an end that sends --- */

static bool lacks_credit(const end *e) {
    for (const message *m = e->posted; m; m = m->next)
        if (e->credits[m->channel] == 0) return true;
    return false;
}

static lucid_status take_credits(end *e) {
    bool done;
    LUCID_TRY(notice_test(e, &e->receiving, &done));
    if (!done) return LUCID_OK;
    LUCID_TRY(notice_check(e));
    for (int i = 0; i < e->incoming.n; i++) e->credits[e->incoming.channels[i]]++;
    return LUCID_OK;
}

/* Messages of a channel keep their order: the first of them takes the first credit. */
static void choose_sends(end *e) {
    for (message **place = &e->posted; *place && e->n_group < GROUP;) {
        int *credits = &e->credits[(*place)->channel];
        if (*credits == 0) {
            place = &(*place)->next;
            continue;
        }
        --*credits;
        e->outgoing.channels[e->n_group] = (*place)->channel;
        group_add(e, place);
    }
    e->outgoing.n = e->n_group;
}

static lucid_status sender_progress(end *e) {
    LUCID_TRY(take_credits(e));
    if (e->phase == IDLE && !e->sending) {
        choose_sends(e);
        if (e->n_group) {
            LUCID_TRY(notice_send(e));
            LUCID_TRY(group_start(e));
        }
    }
    return !e->receiving && lacks_credit(e) ? notice_await(e) : LUCID_OK;
}

/* --- an end that receives --- */

static lucid_status give_credits(end *e) {
    notice *n = &e->outgoing;
    if (e->sending) return LUCID_OK;
    n->n = 0;
    for (message *m = e->posted; m && n->n < GROUP; m = m->next) {
        if (m->told) continue;
        m->told = true;
        n->channels[n->n++] = m->channel;
    }
    return n->n ? notice_send(e) : LUCID_OK;
}

/* The first receive on a channel that has had its credit, or the list's end. */
static message **find_receive(end *e, int channel) {
    message **place = &e->posted;
    while (*place && ((*place)->channel != channel || !(*place)->told)) place = &(*place)->next;
    return place;
}

static lucid_status start_offered(end *e) {
    e->offered = false;
    for (int i = 0; i < e->incoming.n; i++) {
        message **place = find_receive(e, e->incoming.channels[i]);
        if (!*place)
            return lucid_fail(LUCID_ERR_COMM, "rank %d offers a message on channel %d that nobody awaits", e->peer,
                              e->incoming.channels[i]);
        group_add(e, place);
    }
    return group_start(e);
}

static lucid_status receiver_progress(end *e) {
    bool done;
    LUCID_TRY(notice_test(e, &e->receiving, &done));
    if (done) LUCID_TRY(notice_check(e));
    e->offered = e->offered || done;
    if (e->offered && e->phase == IDLE) LUCID_TRY(start_offered(e));
    LUCID_TRY(give_credits(e));
    return e->posted && !e->offered && !e->receiving ? notice_await(e) : LUCID_OK;
}

/* --- messages --- */

static lucid_status progress(end *e) {
    bool done;
    LUCID_TRY(CUDA_CHECK(cudaSetDevice(e->links->device))); /* the calling thread's */
    LUCID_TRY(group_progress(e));
    LUCID_TRY(notice_test(e, &e->sending, &done));
    return e->sends ? sender_progress(e) : receiver_progress(e);
}

static lucid_status find_end(end **found, links *l, int peer, bool sends) {
    for (int i = 0; i < 2 * l->n_neighbours; i++) {
        *found = &l->ends[i];
        if ((*found)->peer == peer && (*found)->sends == sends) return LUCID_OK;
    }
    return lucid_fail(LUCID_ERR_INTERNAL, "rank %d is no neighbour of rank %d: NCCL does not link them", peer,
                      l->comm->rank);
}

static lucid_status message_take(message **taken, links *l) {
    message *m = l->spare;
    if (m)
        l->spare = m->next;
    else
        m = malloc(sizeof *m);
    if (!m) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a message");
    *taken = m;
    return LUCID_OK;
}

static lucid_status post(links *l, bool sends, int channel, int peer, void *buffer, size_t bytes,
                         lucid_request **request) {
    end *e = NULL;
    message *m = NULL, **last;
    LUCID_TRY(find_end(&e, l, peer, sends));
    LUCID_TRY(message_take(&m, l));
    *m = (message){.end = e, .buffer = buffer, .bytes = bytes, .channel = channel};
    for (last = &e->posted; *last;) last = &(*last)->next;
    *last = m;
    *request = (lucid_request *)m;
    return progress(e);
}

static lucid_status links_send(void *context, int channel, int peer, const void *buffer, size_t bytes,
                               lucid_request **request) {
    return post(context, true, channel, peer, (void *)buffer, bytes, request);
}

static lucid_status links_recv(void *context, int channel, int peer, void *buffer, size_t bytes,
                               lucid_request **request) {
    return post(context, false, channel, peer, buffer, bytes, request);
}

static lucid_status links_test(void *context, lucid_request *request, bool *done) {
    links *l = context;
    message *m = (message *)request;
    if (!m->done) LUCID_TRY(progress(m->end));
    *done = m->done;
    if (!m->done) return LUCID_OK;
    m->next = l->spare;
    l->spare = m;
    return LUCID_OK;
}

/* --- opening and closing --- */

static void choose_ends(links *l) {
    const int rank = l->comm->rank, n = l->comm->world_size;
    l->n_neighbours = n < 3 ? n - 1 : 2;
    l->neighbours[0] = (rank + 1) % n;
    l->neighbours[1] = (rank + n - 1) % n;
    for (int i = 0; i < 2 * l->n_neighbours; i++)
        l->ends[i] = (end){.links = l,
                           .peer = l->neighbours[i / 2],
                           .sends = i % 2 == 0,
                           .credits = l->credits + (size_t)(i / 2) * (size_t)l->comm->options.n_channels_max};
}

static lucid_status make_ids(ncclUniqueId ids[MAX_NEIGHBOURS], const links *l) {
    memset(ids, 0, MAX_NEIGHBOURS * sizeof *ids);
    for (int i = 0; i < l->n_neighbours; i++) LUCID_TRY(NCCL_CHECK(&l->ends[2 * i], ncclGetUniqueId(&ids[i])));
    return LUCID_OK;
}

/* ids (world_size, MAX_NEIGHBOURS): of the communicators that each rank sends by. Collective. */
static lucid_status share_ids(ncclUniqueId *ids, const links *l) {
    lucid_comm *comm = l->comm;
    ncclUniqueId own[MAX_NEIGHBOURS];
    size_t *n_bytes = malloc((size_t)comm->world_size * sizeof *n_bytes);
    lucid_status status = n_bytes ? make_ids(own, l) : lucid_fail(LUCID_ERR_MEMORY, "no memory for NCCL's ids");
    status = lucid_comm_agree(comm, status);
    for (int r = 0; !status && r < comm->world_size; r++) n_bytes[r] = sizeof own;
    if (!status) status = lucid_comm_allgather(comm, own, ids, n_bytes);
    free(n_bytes);
    return status;
}

/* The sender's number of the link: which of its neighbours the receiver is. */
static int link_of(const end *e) {
    const int sender = e->sends ? e->links->comm->rank : e->peer, receiver = e->sends ? e->peer : e->links->comm->rank;
    return receiver == (sender + 1) % e->links->comm->world_size ? 0 : 1;
}

static lucid_status end_open(end *e, const ncclUniqueId *ids) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    int least, greatest;
    config.blocking = 0;
    config.maxCTAs = MAX_CTAS;
    LUCID_TRY(CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest)));
    LUCID_TRY(CUDA_CHECK(cudaStreamCreateWithPriority(&e->stream, cudaStreamNonBlocking, greatest)));
    LUCID_TRY(CUDA_CHECK(cudaEventCreateWithFlags(&e->finished, cudaEventDisableTiming)));
    const int sender = e->sends ? e->links->comm->rank : e->peer;
    e->phase = STARTING;
    return NCCL_CHECK(
        e, ncclCommInitRankConfig(&e->nccl, 2, ids[sender * MAX_NEIGHBOURS + link_of(e)], e->sends ? 0 : 1, &config));
}

static lucid_status first_start(end *e, unsigned char *byte) {
    e->first = (message){.end = e, .buffer = byte, .bytes = 1};
    e->group[e->n_group++] = &e->first;
    return group_start(e);
}

/* Until NCCL has done what it was last given. */
static lucid_status end_await(end *e, double deadline) {
    for (;;) {
        LUCID_TRY(group_progress(e));
        if (e->phase == IDLE) return LUCID_OK;
        if (lucid_clock() > deadline)
            return lucid_fail(LUCID_ERR_TIMEOUT, "NCCL has not connected to rank %d on %s for %.0f s", e->peer,
                              lucid_comm_host(e->links->comm, e->peer), e->links->comm->options.timeout);
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
}

/* All ends begin before any is waited for, so ranks connect in no order. */
static lucid_status connect(links *l, const ncclUniqueId *ids) {
    const double deadline = lucid_clock() + l->comm->options.timeout;
    const int n = 2 * l->n_neighbours;
    LUCID_TRY(CUDA_CHECK(cudaSetDevice(l->device)));
    LUCID_TRY(CUDA_CHECK(cudaMalloc((void **)&l->bytes, MAX_ENDS)));
    for (int i = 0; i < n; i++) LUCID_TRY(end_open(&l->ends[i], ids));
    for (int i = 0; i < n; i++) LUCID_TRY(end_await(&l->ends[i], deadline));
    for (int i = 0; i < n; i++) LUCID_TRY(first_start(&l->ends[i], l->bytes + i));
    for (int i = 0; i < n; i++) LUCID_TRY(end_await(&l->ends[i], deadline));
    return LUCID_OK;
}

static void end_close(end *e) {
    if (e->nccl) ncclCommAbort(e->nccl);
    if (e->finished) cudaEventDestroy(e->finished);
    if (e->stream) cudaStreamDestroy(e->stream);
}

/* Has every notice left? Where a peer is lost one may not, and its memory stays the transport's. */
static bool notices_left(links *l) {
    const double deadline = lucid_clock() + 1;
    for (int i = 0; i < 2 * l->n_neighbours;) {
        bool done;
        if (notice_test(&l->ends[i], &l->ends[i].sending, &done) || l->ends[i].receiving || lucid_clock() > deadline)
            return false;
        if (l->ends[i].sending)
            sched_yield();
        else
            i++;
    }
    return true;
}

static void messages_free(message *first) {
    for (message *next; first; first = next) {
        next = first->next;
        free(first);
    }
}

static void links_close(void *context) {
    links *l = context;
    if (!l) return;
    for (int i = 0; i < 2 * l->n_neighbours; i++) end_close(&l->ends[i]);
    cudaFree(l->bytes);
    if (!notices_left(l)) return;
    for (int i = 0; i < 2 * l->n_neighbours; i++) messages_free(l->ends[i].posted);
    messages_free(l->spare);
    free(l->credits);
    free(l);
}

/* Older ones keep what a thread has begun in one place for each thread: the next communicator or group that it begins
 * waits for the last, and that for other ranks. */
static lucid_status check_version(const lucid_comm *comm) {
    int version = 0;
    ncclGetVersion(&version);
    if (version >= OLDEST) return LUCID_OK;
    return lucid_fail(
        LUCID_ERR_UNSUPPORTED,
        "--comm nccl: host %s has NCCL %d.%d.%d, in which links wait for each other; install NCCL 2.28 or "
        "later, or take --comm mpi",
        comm->host, version / 10000, version / 100 % 100, version % 100);
}

static links *allocate(lucid_comm *comm, int device) {
    links *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    l->comm = comm;
    l->device = device;
    l->credits = calloc((size_t)MAX_NEIGHBOURS * (size_t)comm->options.n_channels_max, sizeof *l->credits);
    if (l->credits) return l;
    free(l);
    return NULL;
}

static lucid_status links_open(void **opened, lucid_comm *comm, int device) {
    links *l = allocate(comm, device);
    ncclUniqueId *ids = calloc((size_t)comm->world_size * MAX_NEIGHBOURS, sizeof *ids);
    lucid_status status =
        l && ids ? check_version(comm) : lucid_fail(LUCID_ERR_MEMORY, "no memory for links between devices");
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), close);
    choose_ends(l);
    LUCID_TRY_GOTO(share_ids(ids, l), close);
    LUCID_TRY_GOTO(lucid_comm_agree(comm, connect(l, ids)), close);
    *opened = l;
    free(ids);
    return LUCID_OK;
close:
    links_close(l);
    free(ids);
    return status;
}

const lucid_device_links lucid_nccl_links = {
    .open = links_open, .close = links_close, .send = links_send, .recv = links_recv, .test = links_test};
