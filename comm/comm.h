/* Moving bytes between ranks: one small transport interface, chosen by walking a table.
 *
 * Point to point follows the ordered-channel contract: between two ranks, the n-th send posted on a channel matches the
 * n-th receive posted on it, by order alone - no tags, no probing, no cancelling - so that NCCL streams fit behind it
 * as well as MPI. Collectives are for set-up and results; each but the rendezvous is bounded by the deadline.
 *
 * Ownership: the caller owns message buffers and keeps them unchanged until test() reports the request done. The
 * transport owns requests. Calls on one communicator must not run concurrently; the caller holds its own lock. The
 * communicator's heart (heart.h), a thread that runs from open to close, shares the transport under comm->lock: it
 * watches the other ranks, and ends this process when one of them failed, stopped or cannot be reached any more.
 *
 * This folder knows nothing of attention. It also defines the status that every folder above it returns.
 */
#ifndef LUCID_COMM_H
#define LUCID_COMM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum lucid_status {
    LUCID_OK = 0,
    LUCID_ERR_USAGE,       /* impossible options: exit code 2 */
    LUCID_ERR_INPUT,       /* unreadable, malformed or unsuitable data */
    LUCID_ERR_IO,          /* the operating system refused a read or write */
    LUCID_ERR_MEMORY,      /* does not fit */
    LUCID_ERR_COMM,        /* the transport failed, or a peer reported a failure */
    LUCID_ERR_TIMEOUT,     /* a wait passed its deadline */
    LUCID_ERR_UNSUPPORTED, /* this build or machine cannot do it */
    LUCID_ERR_INTERNAL,    /* a broken invariant of ours */
    LUCID_ERR_INTERRUPTED, /* stopped on request, to be gone on with later */
} lucid_status;

/* Records the process's first failure as one line and returns status; later calls keep the first line, since the first
 * detector knows most. Thread-safe. Local. */
lucid_status lucid_fail(lucid_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The recorded line, or "" when nothing failed. */
const char *lucid_failure(void);

/* For what may fail and be overcome: this thread's failures go to line (n_bytes) from now on, the first of them stays,
 * and the process's record is left alone. NULL ends this. Local to the thread. */
void lucid_failure_divert(char *line, size_t n_bytes);

#define LUCID_TRY(call)                                  \
    do {                                                 \
        lucid_status lucid_try_status_ = (call);         \
        if (lucid_try_status_) return lucid_try_status_; \
    } while (0)

/* For functions that hold resources: assigns `status` and jumps to the label that undoes what is held. */
#define LUCID_TRY_GOTO(call, label) \
    do {                            \
        status = (call);            \
        if (status) goto label;     \
    } while (0)

typedef struct lucid_comm lucid_comm;
typedef struct lucid_request lucid_request;

typedef enum { LUCID_SUM, LUCID_MIN, LUCID_MAX } lucid_reduction;

typedef struct lucid_comm_options {
    const char *transport; /* NULL or "auto": the first in the table that can run here; else "self", "mpi", ... */
    int n_channels_max;    /* channels the caller may name: 0..n_channels_max-1; 0 means 64 */
    double timeout;        /* seconds that a collective may wait; 0 means 600 */
    /* Called at most once, before the process is ended because a rank failed: removes unfinished files. Runs on the
     * heart's thread while others still work, so it may do what a signal handler may. May be NULL. */
    void (*before_end)(void);
} lucid_comm_options;

/* Says what this rank is doing, for the line about a fault (brief: a clause such as "waiting for tile 3") or for a dump
 * (lines, each indented by two blanks). Called from the heart's thread. */
typedef void (*lucid_describer)(void *context, FILE *stream, bool brief);

/* Messages between the memories of devices, one device a rank, by the ordered-channel contract: buffers lie in the
 * device's memory; what a send names is in it when it is posted, and what a receive brings is in it when test says so,
 * for work that is given to the device from then on. Calls on one object must not run concurrently. */
typedef struct lucid_device_links {
    /* device: CUDA's number of this rank's. Collective; agreed. */
    lucid_status (*open)(void **links, lucid_comm *comm, int device);
    /* NULL is fine. After a barrier behind the last message, or when the job is lost. Local. */
    void (*close)(void *links);
    lucid_status (*send)(void *links, int channel, int peer, const void *buffer, size_t bytes, lucid_request **request);
    lucid_status (*recv)(void *links, int channel, int peer, void *buffer, size_t bytes, lucid_request **request);
    lucid_status (*test)(void *links, lucid_request *request, bool *done);
} lucid_device_links;

/* A backend. Optional entries are NULL. All functions are called by lucid_comm_* below and by the heart, never
 * directly. Point to point is called with comm->lock held; collectives take it for each step, and let it go between
 * steps. A transport that cannot go on after a collective failed sets comm->broken, and is then asked for nothing but
 * abort. */
typedef struct lucid_transport {
    const char *name;
    bool (*available)(void);                /* can this process use it? */
    lucid_status (*open)(lucid_comm *comm); /* Collective. Sets rank, world_size, local_*, impl. */
    void (*close)(lucid_comm *comm);        /* Collective. */
    lucid_status (*post_send)(lucid_comm *comm, int channel, int peer, const void *buffer, size_t bytes,
                              lucid_request **request);
    lucid_status (*post_recv)(lucid_comm *comm, int channel, int peer, void *buffer, size_t bytes,
                              lucid_request **request);
    lucid_status (*test)(lucid_comm *comm, lucid_request *request, bool *done); /* done frees the request */
    void (*abort)(lucid_comm *comm); /* ends all ranks; does not return for mpi */
    lucid_status (*broadcast)(lucid_comm *comm, void *buffer, size_t bytes, int root);
    lucid_status (*gather)(lucid_comm *comm, const void *send, size_t bytes, void *recv, const size_t *recv_bytes,
                           int root);
    lucid_status (*allgather)(lucid_comm *comm, const void *send, void *recv, const size_t *recv_bytes);
    lucid_status (*allreduce)(lucid_comm *comm, double *x, int n, lucid_reduction op);
    lucid_status (*barrier)(lucid_comm *comm, double seconds); /* INFINITY: without a deadline */
    /* Collective of comm. Sets part's rank, world_size, local_*, impl; comm->job's lock is held. */
    lucid_status (*split)(lucid_comm *part, lucid_comm *comm, int colour);
    const lucid_device_links *devices; /* optional: without it, devices' messages go through the hosts */
} lucid_transport;

struct lucid_comm {
    const lucid_transport *transport;
    int rank, world_size;
    int local_rank, local_size; /* among the ranks of this host */
    char host[64];
    char description[128]; /* "mpi (Open MPI 4.1.4, MPI_THREAD_SERIALIZED)": what was really given */
    char *hosts;           /* (world_size, 64) names, filled by open */
    lucid_comm_options options;
    void *impl;

    /* The communicator of the whole job, itself for that one. Its lock, heart, describer and phase serve all that were
     * split off it, and what breaks one of them breaks it. */
    lucid_comm *job;
    int *job_ranks; /* (world_size) the ranks' numbers in the job */

    pthread_mutex_t lock; /* of the transport */
    atomic_bool broken;
    bool silent; /* another rank prints the failure */
    struct lucid_heart *heart;
    pthread_mutex_t describer_lock;
    lucid_describer describer;
    void *describer_context;
    _Atomic(const char *) phase; /* see lucid_comm_phase */
};

/* Opens the communicator of this process's whole job. Collective. Errors: UNSUPPORTED when the named transport is not
 * in this build or cannot run here. */
lucid_status lucid_comm_open(lucid_comm **comm, const lucid_comm_options *options);
void lucid_comm_close(lucid_comm *comm); /* Collective */

/* Splits off a communicator of those ranks that give the same colour (0 or more), in the order of their ranks. It has
 * channels of its own, as many as comm; failures are told to the whole job. Close it before comm. Collective of comm.
 */
lucid_status lucid_comm_split(lucid_comm **part, lucid_comm *comm, int colour);

/* Names of the transports in this build, comma separated. Local. */
const char *lucid_comm_transports(void);

/* Point to point on a channel. Local; never blocks. peer may be any rank, the own one included (self: memory copy). A
 * receive's size equals its send's. */
lucid_status lucid_comm_post_send(lucid_comm *comm, int channel, int peer, const void *buffer, size_t bytes,
                                  lucid_request **request);
lucid_status lucid_comm_post_recv(lucid_comm *comm, int channel, int peer, void *buffer, size_t bytes,
                                  lucid_request **request);
/* Advances the transport. When *done, the request is gone and must not be named again. Local. */
lucid_status lucid_comm_test(lucid_comm *comm, lucid_request *request, bool *done);

/* Collectives: all ranks call them in the same order. */
lucid_status lucid_comm_broadcast(lucid_comm *comm, void *buffer, size_t bytes, int root);
/* Each rank's bytes to root, end to end in rank order; recv_bytes (world_size) is filled on root. *recv is malloc'ed
 * there. */
lucid_status lucid_comm_gather(lucid_comm *comm, const void *send, size_t bytes, void **recv, size_t *recv_bytes,
                               int root);
/* Each rank's bytes to every rank, end to end in rank order. Every rank gives the same sizes recv_bytes (world_size),
 * its own among them; recv holds their sum, less than 2 GiB. send may be the rank's place in recv. */
lucid_status lucid_comm_allgather(lucid_comm *comm, const void *send, void *recv, const size_t *recv_bytes);
lucid_status lucid_comm_allreduce(lucid_comm *comm, double *x, int n, lucid_reduction op);
lucid_status lucid_comm_barrier(lucid_comm *comm);

/* A barrier without a deadline, for ranks that come from work of unequal length. A rank that failed, was stopped or
 * cannot be reached ends the job here as anywhere; one that only takes long is waited for. Collective. */
lucid_status lucid_comm_rendezvous(lucid_comm *comm);

/* Agrees on success: returns `status` where it is an error, COMM on the other ranks when any rank failed, with the
 * lowest failing rank's line as their recorded failure. Collective. */
lucid_status lucid_comm_agree(lucid_comm *comm, lucid_status status);

/* The same after a rendezvous: for what ranks came to in work that may take one of them longer than a deadline. */
lucid_status lucid_comm_conclude(lucid_comm *comm, lucid_status status);

/* Waits for *request, posted to or from peer, and sets it to NULL. Errors: COMM; TIMEOUT with a line that says "what
 * number" and the peer. Local. */
lucid_status lucid_comm_await(lucid_comm *comm, lucid_request **request, int peer, double timeout, const char *what,
                              int64_t number);

/* Tells every rank of the recorded failure, prints it once as "lucid: [rank r/n host] ...", and ends every rank. Where
 * several ranks fail at once the lowest one prints. Returns only where this is the only rank. */
void lucid_comm_abort(lucid_comm *comm);

/* The name of a rank's host. Local. */
const char *lucid_comm_host(const lucid_comm *comm, int rank);

/* Seconds since the rank was last heard of, or -1 for one that this rank does not listen to. Local; a rank listens to
 * those at distance 1, 2, 4, ... round the ring. */
double lucid_comm_silence(const lucid_comm *comm, int rank);

/* What this rank does from now on, for lines about faults: "reading the input". A literal. Local. */
void lucid_comm_phase(lucid_comm *comm, const char *phase);

/* From now on `describer` says it in more detail; NULL ends that, and waits until it is not being called. Local. */
void lucid_comm_describe(lucid_comm *comm, lucid_describer describer, void *context);

/* Makes every communicator of this process write what its rank is doing to stderr, soon. For signal handlers. */
void lucid_comm_dump(void);

/* Between the two, a library may use MPI on its own: no rank sends heartbeats or listens. Nothing guards against a rank
 * that stops meanwhile, so the caller has a watchdog. Collective of the whole job. */
lucid_status lucid_comm_lend(lucid_comm *comm);
lucid_status lucid_comm_reclaim(lucid_comm *comm);

#endif
