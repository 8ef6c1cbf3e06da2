#include "comm/heart.h"

#include "comm/clock.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define POLL_SECONDS  0.02
#define BEAT_SECONDS  0.25
#define GRACE_SECONDS 0.4 /* for news of a lower rank's failure to come round */
#define END_SECONDS   3.0 /* for the launcher to end the ranks of a job that is over */
#define GAP_SECONDS   1.0 /* without a poll: this process did not run */
#define LINE_BYTES    504
#define PEERS_MAX     64

typedef enum { BEAT, FAILURE, FAREWELL } message_kind;

/* What travels. Only a FAILURE has an origin and a line. */
typedef struct {
    int32_t kind, origin;
    char line[LINE_BYTES];
} message;

typedef struct {
    int rank;
    lucid_request *send, *recv;
    message outgoing, incoming;
    double sent;
    _Atomic double heard;
    int told;             /* origin of the failure that was sent last, or world_size */
    bool left, left_from; /* it took leave of us; we of it */
} peer;

struct lucid_heart {
    lucid_comm *comm;
    int channel;
    _Atomic double deadline;
    int n_peers;
    peer peers[PEERS_MAX];
    pthread_t thread;
    pthread_mutex_t lock; /* of the orders */
    pthread_cond_t wake;
    bool stopping, failing;
    _Atomic bool resting; /* changed under the communicator's lock */
    bool suspects;        /* this rank's failure is that it cannot hear another */
    message verdict;      /* the lowest failing rank's; origin is world_size while there is none */
    double polled;
    int dumps_served;
};

static atomic_int dumps_asked;

static struct timespec at(double time) {
    const double whole = floor(time);
    return (struct timespec){.tv_sec = (time_t)whole, .tv_nsec = (long)((time - whole) * 1e9)};
}

static void nap(double seconds) {
    const struct timespec t = at(seconds);
    nanosleep(&t, NULL);
}

double lucid_heart_deadline(double timeout) {
    return fmin(fmax(timeout / 20, 10), 0.8 * timeout);
}

/* --- the verdict --- */

static void note_failure(lucid_heart *h, int origin, const char *line) {
    if (origin >= h->verdict.origin) return;
    h->verdict.kind = FAILURE;
    h->verdict.origin = origin;
    snprintf(h->verdict.line, sizeof h->verdict.line, "%s", line);
}

static bool failed(const lucid_heart *h) {
    return h->verdict.origin < h->comm->world_size;
}

/* What this rank is doing, as a clause or in lines. */
static void describe(lucid_comm *comm, FILE *stream, bool brief) {
    const char *phase = atomic_load(&comm->phase);
    pthread_mutex_lock(&comm->describer_lock);
    fprintf(stream, "%s", phase ? phase : "starting");
    if (!brief) fputc('\n', stream);
    if (comm->describer) {
        if (brief) fprintf(stream, ": ");
        comm->describer(comm->describer_context, stream, brief);
    }
    pthread_mutex_unlock(&comm->describer_lock);
}

/* This rank's own failure is to say that a peer is gone. */
static void suspect(lucid_heart *h, const peer *p, double silence) {
    char clause[LINE_BYTES] = "";
    FILE *stream = fmemopen(clause, sizeof clause - 1, "w");
    if (stream) {
        describe(h->comm, stream, true);
        fclose(stream);
    }
    lucid_fail(LUCID_ERR_TIMEOUT,
               "rank %d on %s is stopped or unreachable: not heard of for %.1f s, while this rank was %s", p->rank,
               lucid_comm_host(h->comm, p->rank), silence, clause);
    h->suspects = true;
    note_failure(h, h->comm->rank, lucid_failure());
}

/* --- messages, under the communicator's lock --- */

static void receive(lucid_heart *h, peer *p) {
    p->incoming.line[LINE_BYTES - 1] = '\0';
    p->heard = lucid_clock();
    if (p->incoming.kind == FAILURE && p->incoming.origin >= 0) note_failure(h, p->incoming.origin, p->incoming.line);
    if (p->incoming.kind == FAREWELL) p->left = true;
}

static lucid_status progress_receive(lucid_heart *h, peer *p) {
    bool done = false;
    lucid_comm *comm = h->comm;
    if (p->recv) {
        LUCID_TRY(comm->transport->test(comm, p->recv, &done));
        if (!done) return LUCID_OK;
        p->recv = NULL;
        receive(h, p);
    }
    if (p->left) return LUCID_OK;
    return comm->transport->post_recv(comm, h->channel, p->rank, &p->incoming, sizeof p->incoming, &p->recv);
}

/* The most urgent message for a peer; false when there is none now. */
static bool compose(lucid_heart *h, peer *p, bool stopping) {
    const double time = lucid_clock();
    if (p->left_from) return false;
    if (failed(h) && p->told != h->verdict.origin) {
        p->outgoing = h->verdict;
        p->told = h->verdict.origin;
    } else if (stopping && !failed(h)) {
        p->outgoing = (message){.kind = FAREWELL};
        p->left_from = true;
    } else if (time - p->sent >= BEAT_SECONDS) {
        p->outgoing = (message){.kind = BEAT};
    } else {
        return false;
    }
    p->sent = time;
    return true;
}

/* One message at a time: a peer that is stopped takes none, and nothing must pile up. */
static lucid_status progress_send(lucid_heart *h, peer *p, bool stopping) {
    bool done = false;
    lucid_comm *comm = h->comm;
    if (p->send) {
        LUCID_TRY(comm->transport->test(comm, p->send, &done));
        if (!done) return LUCID_OK;
        p->send = NULL;
    }
    if (!compose(h, p, stopping)) return LUCID_OK;
    return comm->transport->post_send(comm, h->channel, p->rank, &p->outgoing, sizeof p->outgoing, &p->send);
}

/* A call of the transport that keeps the lock for the deadline has hung. The second, short try is for a process that
 * was stopped during the first. */
static bool take_transport(lucid_comm *comm, double deadline) {
    const double tries[] = {deadline, fmin(deadline, GAP_SECONDS)};
    for (int attempt = 0; attempt < 2; attempt++) {
        const struct timespec until = at(lucid_clock() + tries[attempt]);
        if (pthread_mutex_clocklock(&comm->lock, CLOCK_MONOTONIC, &until) == 0) return true;
    }
    return false;
}

static void exchange(lucid_heart *h, bool stopping) {
    lucid_comm *comm = h->comm;
    if (!take_transport(comm, h->deadline)) {
        lucid_fail(LUCID_ERR_TIMEOUT, "a call of %s has not returned for %.1f s", comm->transport->name,
                   (double)h->deadline);
        note_failure(h, comm->rank, lucid_failure());
        comm->broken = true;
        return;
    }
    for (int i = 0; i < h->n_peers && !h->resting && !comm->broken; i++) {
        peer *p = &h->peers[i];
        lucid_status status = progress_receive(h, p);
        if (!status) status = progress_send(h, p, stopping);
        if (status) note_failure(h, comm->rank, lucid_failure());
    }
    pthread_mutex_unlock(&comm->lock);
}

/* --- judgement --- */

/* A process that was stopped has not heard of its peers, and that is none of their faults. */
static void forgive_gap(lucid_heart *h) {
    const double time = lucid_clock(), gap = time - h->polled;
    h->polled = time;
    if (gap < GAP_SECONDS) return;
    for (int i = 0; i < h->n_peers; i++) h->peers[i].heard = fmin(h->peers[i].heard + gap, time);
}

static void judge(lucid_heart *h) {
    const double time = lucid_clock();
    if (h->resting || h->comm->broken) return;
    for (int i = 0; i < h->n_peers && !failed(h); i++) {
        const peer *p = &h->peers[i];
        if (!p->left && time - p->heard > h->deadline) suspect(h, p, time - p->heard);
    }
}

/* Writes in one piece, so that no other rank's lines come between. */
static void print_failure(const lucid_comm *comm, const char *line) {
    char text[LINE_BYTES + 128];
    const int n =
        snprintf(text, sizeof text, "lucid: [rank %d/%d %s] %s\n", comm->rank, comm->world_size, comm->host, line);
    if (write(STDERR_FILENO, text, n < (int)sizeof text ? (size_t)n : sizeof text - 1) < 0) return;
}

/* Lets the news travel, then ends the process: with its line and the whole job if the verdict is its own.
 *
 * When a host cannot be reached the launcher finds out too, if it looks: it is left the time. Asked to end the job
 * before that, Open MPI's first sends a word to that host's daemon and then waits for TCP to give up, a quarter of an
 * hour. */
static void end_process(lucid_heart *h) {
    lucid_comm *comm = h->comm;
    const double patience = h->deadline + END_SECONDS;
    for (const double until = lucid_clock() + GRACE_SECONDS; lucid_clock() < until; nap(POLL_SECONDS / 4))
        if (!comm->broken) exchange(h, false);
    if (comm->options.before_end) comm->options.before_end();
    if (h->verdict.origin == comm->rank) {
        if (!comm->silent) print_failure(comm, h->verdict.line);
        if (h->suspects || comm->broken) nap(patience);
        take_transport(comm, POLL_SECONDS);
        comm->transport->abort(comm);
    } else {
        nap(patience + END_SECONDS);
    }
    _exit(1);
}

/* --- dumps --- */

static void write_dump(lucid_heart *h) {
    const lucid_comm *comm = h->comm;
    char *text = NULL;
    size_t n = 0;
    FILE *stream = open_memstream(&text, &n);
    if (!stream) return;
    fprintf(stream, "lucid: [rank %d/%d %s] ", comm->rank, comm->world_size, comm->host);
    describe(h->comm, stream, false);
    const double time = lucid_clock();
    for (int i = 0; i < h->n_peers; i++)
        fprintf(stream, "  peer rank %d on %s: heard of %.2f s ago%s\n", h->peers[i].rank,
                lucid_comm_host(comm, h->peers[i].rank), time - h->peers[i].heard,
                h->peers[i].left ? ", has finished" : "");
    fclose(stream);
    if (write(STDERR_FILENO, text, n) < 0) n = 0; /* nobody to tell */
    free(text);
}

static void serve_dump(lucid_heart *h) {
    const int asked = atomic_load(&dumps_asked);
    if (asked == h->dumps_served) return;
    h->dumps_served = asked;
    write_dump(h);
}

void lucid_heart_dump(void) {
    atomic_fetch_add(&dumps_asked, 1);
}

/* --- the thread --- */

typedef struct {
    bool stopping, failing;
} orders;

static orders await_orders(lucid_heart *h) {
    const struct timespec until = at(lucid_clock() + POLL_SECONDS);
    pthread_mutex_lock(&h->lock);
    if (!h->stopping && !h->failing) pthread_cond_clockwait(&h->wake, &h->lock, CLOCK_MONOTONIC, &until);
    const orders given = {h->stopping, h->failing};
    pthread_mutex_unlock(&h->lock);
    return given;
}

static bool parted(const lucid_heart *h) {
    for (int i = 0; i < h->n_peers && !h->resting && !h->comm->broken; i++)
        if (!h->peers[i].left || !h->peers[i].left_from || h->peers[i].send) return false;
    return true;
}

static void *run(void *argument) {
    lucid_heart *h = argument;
    double give_up = INFINITY;
    for (;;) {
        const orders given = await_orders(h);
        if (given.stopping && isinf(give_up)) give_up = lucid_clock() + h->comm->options.timeout;
        forgive_gap(h);
        serve_dump(h);
        if (given.failing) note_failure(h, h->comm->rank, lucid_failure());
        exchange(h, given.stopping);
        forgive_gap(h); /* it may have been stopped within exchange */
        judge(h);
        if (failed(h)) end_process(h);
        if (given.stopping && (parted(h) || lucid_clock() > give_up)) return NULL;
        if (given.stopping) nap(POLL_SECONDS / 20);
    }
}

/* --- outside the thread --- */

/* Ranks at distance 1, 2, 4, ... both ways round the ring, each once. */
static int list_peers(peer *peers, int rank, int world_size) {
    int n = 0;
    for (int64_t distance = 1; distance < world_size; distance *= 2)
        for (int way = -1; way <= 1; way += 2) {
            const int other = (int)((rank + way * distance + world_size) % world_size);
            int i = 0;
            while (i < n && peers[i].rank != other) i++;
            if (i == n) peers[n++] = (peer){.rank = other, .told = world_size};
        }
    return n;
}

/* The thread takes no signals: they are for those who asked for them. */
static int start_thread(lucid_heart *h) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    const int error = pthread_create(&h->thread, NULL, run, h);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

lucid_status lucid_heart_start(lucid_heart **heart, lucid_comm *comm) {
    lucid_heart *h = calloc(1, sizeof *h);
    if (!h) return lucid_fail(LUCID_ERR_MEMORY, "no memory for heartbeats");
    h->comm = comm;
    h->channel = comm->options.n_channels_max;
    h->deadline = lucid_heart_deadline(comm->options.timeout);
    h->n_peers = list_peers(h->peers, comm->rank, comm->world_size);
    h->resting = true;
    h->verdict.origin = comm->world_size;
    h->polled = lucid_clock();
    h->dumps_served = atomic_load(&dumps_asked);
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->wake, NULL);
    const int error = start_thread(h);
    if (error) {
        free(h);
        return lucid_fail(LUCID_ERR_MEMORY, "no thread for heartbeats: %s", strerror(error));
    }
    *heart = h;
    return LUCID_OK;
}

static void order(lucid_heart *h, bool *what) {
    pthread_mutex_lock(&h->lock);
    *what = true;
    pthread_cond_signal(&h->wake);
    pthread_mutex_unlock(&h->lock);
}

void lucid_heart_stop(lucid_heart *h) {
    if (!h) return;
    order(h, &h->stopping);
    pthread_join(h->thread, NULL);
    pthread_cond_destroy(&h->wake);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

void lucid_heart_fail(lucid_heart *h) {
    order(h, &h->failing);
    for (;;) pause();
}

void lucid_heart_rest(lucid_heart *h, bool rest) {
    pthread_mutex_lock(&h->comm->lock);
    for (int i = 0; i < h->n_peers; i++) h->peers[i].heard = lucid_clock(); /* before the thread may judge by it */
    h->resting = rest;
    pthread_mutex_unlock(&h->comm->lock);
}

void lucid_heart_set_deadline(lucid_heart *h, double seconds) {
    h->deadline = seconds;
}

double lucid_heart_silence(const lucid_heart *h, int rank) {
    for (int i = 0; i < h->n_peers; i++)
        if (h->peers[i].rank == rank) return lucid_clock() - h->peers[i].heard;
    return -1;
}
