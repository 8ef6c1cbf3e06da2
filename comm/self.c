/* The transport of a process on its own: world size 1, messages are memory copies. It is the simplest complete reading
 * of the contract: on each channel the n-th send meets the n-th receive, whichever of the two is posted first, and both
 * are done when they meet. */
#include "comm/comm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct message {
    struct message *next;
    const void *source; /* of a send */
    void *target;       /* of a receive */
    size_t bytes;
    bool done;
} message;

typedef struct {
    message *first, **end; /* end: where the next message's address goes */
} queue;

/* At most one of the two holds anything: a message that finds its partner never waits. */
typedef struct {
    queue sends, recvs;
} channel_queues;

static void queue_push(queue *q, message *m) {
    *q->end = m;
    q->end = &m->next;
}

static message *queue_pop(queue *q) {
    message *m = q->first;
    if (!m) return NULL;
    q->first = m->next;
    if (!q->first) q->end = &q->first;
    return m;
}

static void queue_free(queue *q) {
    for (message *m; (m = queue_pop(q));) free(m);
}

static bool self_available(void) {
    return true;
}

static lucid_status self_open(lucid_comm *comm) {
    const int n_channels = comm->options.n_channels_max;
    channel_queues *channels = malloc((size_t)n_channels * sizeof *channels);
    if (!channels) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d channels", n_channels);
    for (int c = 0; c < n_channels; c++) {
        channels[c].sends = (queue){NULL, &channels[c].sends.first};
        channels[c].recvs = (queue){NULL, &channels[c].recvs.first};
    }
    comm->rank = comm->local_rank = 0;
    comm->world_size = comm->local_size = 1;
    snprintf(comm->description, sizeof comm->description, "self (memory copies)");
    comm->impl = channels;
    return LUCID_OK;
}

static void self_close(lucid_comm *comm) {
    channel_queues *channels = comm->impl;
    for (int c = 0; c < comm->options.n_channels_max; c++) {
        queue_free(&channels[c].sends);
        queue_free(&channels[c].recvs);
    }
    free(channels);
}

static lucid_status deliver(message *send, message *recv, int channel) {
    if (send->bytes != recv->bytes)
        return lucid_fail(LUCID_ERR_COMM, "channel %d: a send of %zu bytes meets a receive of %zu", channel,
                          send->bytes, recv->bytes);
    if (send->bytes) memcpy(recv->target, send->source, send->bytes);
    send->done = recv->done = true;
    return LUCID_OK;
}

static message *message_new(message content) {
    message *m = malloc(sizeof *m);
    if (m)
        *m = content;
    else
        lucid_fail(LUCID_ERR_MEMORY, "no memory for a request");
    return m;
}

static lucid_status self_post_send(lucid_comm *comm, int channel, int peer, const void *buffer, size_t bytes,
                                   lucid_request **request) {
    (void)peer;
    channel_queues *queues = (channel_queues *)comm->impl + channel;
    message *send = message_new((message){.source = buffer, .bytes = bytes});
    if (!send) return LUCID_ERR_MEMORY;
    *request = (lucid_request *)send;
    message *recv = queue_pop(&queues->recvs);
    if (recv) return deliver(send, recv, channel);
    queue_push(&queues->sends, send);
    return LUCID_OK;
}

static lucid_status self_post_recv(lucid_comm *comm, int channel, int peer, void *buffer, size_t bytes,
                                   lucid_request **request) {
    (void)peer;
    channel_queues *queues = (channel_queues *)comm->impl + channel;
    message *recv = message_new((message){.target = buffer, .bytes = bytes});
    if (!recv) return LUCID_ERR_MEMORY;
    *request = (lucid_request *)recv;
    message *send = queue_pop(&queues->sends);
    if (send) return deliver(send, recv, channel);
    queue_push(&queues->recvs, recv);
    return LUCID_OK;
}

static lucid_status self_test(lucid_comm *comm, lucid_request *request, bool *done) {
    (void)comm;
    message *m = (message *)request;
    *done = m->done;
    if (m->done) free(m);
    return LUCID_OK;
}

/* The only rank there is may end itself as its caller sees fit, so nothing is done here. */
static void self_abort(lucid_comm *comm) {
    (void)comm;
}

static lucid_status self_broadcast(lucid_comm *comm, void *buffer, size_t bytes, int root) {
    (void)comm, (void)buffer, (void)bytes, (void)root;
    return LUCID_OK;
}

static lucid_status self_gather(lucid_comm *comm, const void *send, size_t bytes, void *recv, const size_t *recv_bytes,
                                int root) {
    (void)comm, (void)recv_bytes, (void)root;
    if (bytes) memcpy(recv, send, bytes);
    return LUCID_OK;
}

static lucid_status self_allgather(lucid_comm *comm, const void *send, void *recv, const size_t *recv_bytes) {
    if (send == recv) return LUCID_OK;
    return self_gather(comm, send, recv_bytes[0], recv, recv_bytes, 0);
}

static lucid_status self_allreduce(lucid_comm *comm, double *x, int n, lucid_reduction op) {
    (void)comm, (void)x, (void)n, (void)op;
    return LUCID_OK;
}

static lucid_status self_barrier(lucid_comm *comm, double seconds) {
    (void)comm, (void)seconds;
    return LUCID_OK;
}

static lucid_status self_split(lucid_comm *part, lucid_comm *comm, int colour) {
    (void)comm, (void)colour;
    return self_open(part);
}

extern const lucid_transport lucid_transport_self;
const lucid_transport lucid_transport_self = {
    .name = "self",
    .available = self_available,
    .open = self_open,
    .close = self_close,
    .post_send = self_post_send,
    .post_recv = self_post_recv,
    .test = self_test,
    .abort = self_abort,
    .broadcast = self_broadcast,
    .gather = self_gather,
    .allgather = self_allgather,
    .allreduce = self_allreduce,
    .barrier = self_barrier,
    .split = self_split,
};
