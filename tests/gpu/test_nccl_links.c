/* Links between devices by NCCL, with a fake for NCCL and the host's memory for a device's: whatever the order of posts
 * on many channels, each message arrives once, whole, in its channel's order; groups form; NCCL's errors are told. */
#include "comm/nccl_links.h"
#include "tests/comm/drive.h"
#include "tests/gpu/fake_nccl.h"

#include <nccl.h>
#include <string.h>

enum { N_CHANNELS = 6, N_MESSAGES = 40, AHEAD = 4, MAX_BYTES = 3000 };

/* One channel's messages one way. */
typedef struct {
    int peer, n_posted, n_done;
    lucid_request *requests[AHEAD];
    unsigned char buffers[AHEAD][MAX_BYTES];
} flow;

static const lucid_device_links *const ops = &lucid_nccl_links;
static lucid_comm *comm;

static size_t length_of(int sender, int channel, int n) {
    return 1 + (size_t)(sender * 7919 + channel * 104729 + n * 1299709) % MAX_BYTES;
}

static unsigned char byte_of(int sender, int channel, int n, size_t i) {
    return (unsigned char)(sender * 31 + channel * 17 + n * 7 + (int)i * 3);
}

static void post(void *links, flow *f, int channel, bool sends) {
    const int slot = f->n_posted % AHEAD, sender = sends ? comm->rank : f->peer;
    const size_t n = length_of(sender, channel, f->n_posted);
    for (size_t i = 0; i < n; i++) f->buffers[slot][i] = sends ? byte_of(sender, channel, f->n_posted, i) : 0xee;
    f->n_posted++;
    if (sends)
        REQUIRE(ops->send(links, channel, f->peer, f->buffers[slot], n, &f->requests[slot]));
    else
        REQUIRE(ops->recv(links, channel, f->peer, f->buffers[slot], n, &f->requests[slot]));
}

static void check(const flow *f, int channel) {
    const int slot = f->n_done % AHEAD;
    const size_t n = length_of(f->peer, channel, f->n_done);
    size_t i = 0;
    while (i < n && f->buffers[slot][i] == byte_of(f->peer, channel, f->n_done, i)) i++;
    CHECK(i == n, "rank %d from %d, channel %d, message %d: byte %zu of %zu is %d", comm->rank, f->peer, channel,
          f->n_done, i, n, f->buffers[slot][i]);
}

/* A channel's requests may be done in any order; they are taken in theirs. */
static void test_oldest(void *links, flow *f, int channel, bool sends) {
    bool done = false;
    if (f->n_done == f->n_posted) return;
    REQUIRE(ops->test(links, f->requests[f->n_done % AHEAD], &done));
    if (!done) return;
    if (!sends) check(f, channel);
    f->n_done++;
}

/* Even channels go up the ring, odd ones down; each rank takes its steps in an order of its own. */
static void exchange(void *links) {
    static flow sends[N_CHANNELS], recvs[N_CHANNELS];
    memset(sends, 0, sizeof sends);
    memset(recvs, 0, sizeof recvs);
    const int n = comm->world_size;
    uint32_t state = 12345 + (uint32_t)comm->rank;
    for (int c = 0; c < N_CHANNELS; c++) {
        sends[c].peer = (comm->rank + (c % 2 ? n - 1 : 1)) % n;
        recvs[c].peer = (comm->rank + (c % 2 ? 1 : n - 1)) % n;
    }
    for (int left = 2 * N_CHANNELS * N_MESSAGES; left > 0; sched_yield()) {
        state = state * 1664525 + 1013904223;
        const int channel = (int)(state >> 16) % N_CHANNELS;
        const bool sending = state >> 30 & 1;
        flow *f = sending ? &sends[channel] : &recvs[channel];
        if (f->n_posted < N_MESSAGES && f->n_posted - f->n_done < AHEAD) post(links, f, channel, sending);
        const int before = f->n_done;
        test_oldest(links, f, channel, sending);
        left -= f->n_done - before;
    }
}

/* Messages that connect a rank's links: of one byte, each way to each neighbour. */
static int n_first(void) {
    return 2 * (comm->world_size < 3 ? comm->world_size - 1 : 2);
}

static void check_connected(int n_exchanges) {
    const int want = n_exchanges * 2 * N_CHANNELS * N_MESSAGES + (n_exchanges + 1) * n_first();
    CHECK(fake_nccl_messages == want, "%d messages, want %d: a link connects in a run", fake_nccl_messages, want);
}

static void check_groups(int n_exchanges) {
    const int messages = n_exchanges * (2 * N_CHANNELS * N_MESSAGES + n_first());
    CHECK(fake_nccl_messages == messages, "%d messages, want %d", fake_nccl_messages, messages);
    CHECK(fake_nccl_groups < messages, "%d messages in %d groups: none has two", messages, fake_nccl_groups);
}

static void check_refusals(void *links) {
    lucid_request *request;
    char byte = 0;
    fake_nccl_fails = true;
    CHECK(ops->send(links, 0, (comm->rank + 1) % comm->world_size, &byte, 1, &request) == LUCID_ERR_COMM,
          "an error of NCCL is not told");
    CHECK(strstr(lucid_failure(), "NCCL failed to rank"), "'%s'", lucid_failure());
}

/* Opening fails, and says so. */
static void check_open(lucid_status want, const char *said) {
    void *links = NULL;
    char line[512];
    lucid_failure_divert(line, sizeof line);
    const lucid_status status = ops->open(&links, comm, 0);
    lucid_failure_divert(NULL, 0);
    CHECK(status == want && !links, "status %d, want %d", status, want);
    CHECK(strstr(line, said), "'%s' for '%s'", line, said);
}

/* A first message that never arrives, a link that never comes about; with a deadline that collectives, too, keep on a
 * busy machine. */
static void check_deadlines(void) {
    fake_nccl_fails = false;
    comm->options.timeout = 3;
    fake_nccl_mute = true;
    check_open(LUCID_ERR_TIMEOUT, "NCCL has not connected to rank");
    fake_nccl_stalls = true;
    check_open(LUCID_ERR_TIMEOUT, "NCCL has not connected to rank");
}

static void check_version(void) {
    const int sound = fake_nccl_version;
    fake_nccl_version = NCCL_VERSION(2, 27, 7);
    check_open(LUCID_ERR_UNSUPPORTED, "has NCCL 2.27.7, in which links wait for each other; install NCCL 2.28");
    fake_nccl_version = sound;
}

int main(void) {
    void *links = NULL;
    REQUIRE(lucid_comm_open(&comm, &(lucid_comm_options){.n_channels_max = N_CHANNELS, .timeout = 60}));
    fake_nccl_lock = &comm->lock;
    check_version();
    for (int round = 1; round <= 3; round++) { /* closed and opened again */
        REQUIRE(ops->open(&links, comm, 0));
        if (comm->world_size > 1) {
            check_connected(round - 1);
            exchange(links);
            check_groups(round);
        }
        REQUIRE(lucid_comm_barrier(comm));
        if (comm->world_size > 1 && round == 3) check_refusals(links);
        ops->close(links);
    }
    if (comm->world_size > 1) check_deadlines();
    lucid_comm_close(comm);
    return check_result();
}
