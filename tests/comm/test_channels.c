/* The ordered-channel contract between all pairs of ranks, the own rank included. Run under any world size. */
#include "tests/comm/drive.h"

#include <stdint.h>
#include <string.h>

#define N_CHANNELS 5
#define N_MESSAGES 40

/* What message n of a channel from one rank to another carries: nothing else has the same value. */
static int64_t payload(int from, int to, int channel, int n) {
    return ((int64_t)(from * 64 + to) * N_CHANNELS + channel) * N_MESSAGES + n;
}

/* Every pair has N_MESSAGES in flight on each channel. Senders go through the channels upwards, receivers downwards,
 * and every other message is posted before its counterpart can be, so order within a channel alone can match them. */
static void order_holds_per_channel(lucid_comm *comm) {
    const int n = comm->world_size * N_CHANNELS * N_MESSAGES;
    int64_t *sent = calloc((size_t)n, sizeof *sent), *got = calloc((size_t)n, sizeof *got);
    lucid_request **requests = calloc(2 * (size_t)n, sizeof(lucid_request *));
    int posted = 0;
    for (int peer = 0, i = 0; peer < comm->world_size; peer++)
        for (int c = N_CHANNELS - 1; c >= 0; c--)
            for (int m = 0; m < N_MESSAGES; m++, i++)
                REQUIRE(lucid_comm_post_recv(comm, c, peer, &got[i], sizeof *got, &requests[posted++]));
    for (int m = 0, i = 0; m < N_MESSAGES; m++)
        for (int c = 0; c < N_CHANNELS; c++)
            for (int peer = 0; peer < comm->world_size; peer++, i++) {
                sent[i] = payload(comm->rank, peer, c, m);
                REQUIRE(lucid_comm_post_send(comm, c, peer, &sent[i], sizeof *sent, &requests[posted++]));
            }
    drive(comm, posted, requests);
    for (int peer = 0, i = 0; peer < comm->world_size; peer++)
        for (int c = N_CHANNELS - 1; c >= 0; c--)
            for (int m = 0; m < N_MESSAGES; m++, i++)
                CHECK(got[i] == payload(peer, comm->rank, c, m), "from %d channel %d message %d: got %lld, want %lld",
                      peer, c, m, (long long)got[i], (long long)payload(peer, comm->rank, c, m));
    free(sent), free(got), free(requests);
}

/* A message that nobody receives yet must not hold up another channel, even when both are long. */
static void channels_do_not_block_each_other(lucid_comm *comm) {
    const size_t bytes = 3 << 20;
    const int next = (comm->rank + 1) % comm->world_size;
    const int before = (comm->rank + comm->world_size - 1) % comm->world_size;
    char *send = malloc(2 * bytes), *recv = malloc(2 * bytes);
    memset(send, 'a' + comm->rank, bytes);
    memset(send + bytes, 'A' + comm->rank, bytes);
    lucid_request *first[2], *second[2];
    REQUIRE(lucid_comm_post_send(comm, 0, next, send, bytes, &first[0]));
    REQUIRE(lucid_comm_post_send(comm, 1, next, send + bytes, bytes, &second[0]));
    REQUIRE(lucid_comm_post_recv(comm, 1, before, recv + bytes, bytes, &second[1]));
    drive(comm, 2, second);
    REQUIRE(lucid_comm_post_recv(comm, 0, before, recv, bytes, &first[1]));
    drive(comm, 2, first);
    for (size_t b = 0; b < 2 * bytes; b++) {
        const char want = (char)((b < bytes ? 'a' : 'A') + before);
        CHECK(recv[b] == want, "byte %zu: got %c, want %c", b, recv[b], want);
        if (recv[b] != want) break;
    }
    free(send), free(recv);
}

/* A ring of messages of many sizes, nothing among them, as the runtime's tiles travel. */
static void a_ring_carries_any_size(lucid_comm *comm) {
    static const size_t sizes[] = {0, 1, 63, 4096, 65537, (5 << 20) + 7, 0, 2 << 20};
    const int n = sizeof sizes / sizeof sizes[0];
    const int next = (comm->rank + 1) % comm->world_size;
    const int before = (comm->rank + comm->world_size - 1) % comm->world_size;
    lucid_request *requests[2 * 8];
    char *send[8], *recv[8];
    for (int m = 0; m < n; m++) {
        send[m] = malloc(sizes[m] + 1), recv[m] = malloc(sizes[m] + 1);
        memset(send[m], 1 + comm->rank + 16 * m, sizes[m]);
        recv[m][sizes[m]] = 'e'; /* must stay */
        REQUIRE(lucid_comm_post_send(comm, 3, next, send[m], sizes[m], &requests[2 * m]));
        REQUIRE(lucid_comm_post_recv(comm, 3, before, recv[m], sizes[m], &requests[2 * m + 1]));
    }
    drive(comm, 2 * n, requests);
    for (int m = 0; m < n; m++) {
        size_t wrong = 0;
        for (size_t b = 0; b < sizes[m]; b++) wrong += recv[m][b] != (char)(1 + before + 16 * m);
        CHECK(wrong == 0, "message %d: %zu of %zu bytes are wrong", m, wrong, sizes[m]);
        CHECK(recv[m][sizes[m]] == 'e', "message %d wrote past its end", m);
        free(send[m]), free(recv[m]);
    }
}

static void sizes_must_agree(lucid_comm *comm) {
    char eight[8] = "1234567", got[9];
    lucid_request *send, *recv;
    REQUIRE(lucid_comm_post_send(comm, 0, comm->rank, eight, 8, &send));
    lucid_status status = lucid_comm_post_recv(comm, 0, comm->rank, got, 9, &recv);
    for (bool done = false; !status && !done;) status = lucid_comm_test(comm, recv, &done);
    CHECK(status == LUCID_ERR_COMM, "a receive of 9 bytes took a send of 8: status %d", (int)status);
    if (comm->world_size > 1) drive(comm, 1, &send);
}

int main(int argc, char **argv) {
    lucid_comm *comm;
    const lucid_comm_options options = {
        .transport = argc > 1 ? argv[1] : NULL, .n_channels_max = N_CHANNELS, .timeout = 60};
    REQUIRE(lucid_comm_open(&comm, &options));
    if (comm->rank == 0) printf("%d ranks, %s\n", comm->world_size, comm->description);
    order_holds_per_channel(comm);
    channels_do_not_block_each_other(comm);
    a_ring_carries_any_size(comm);
    REQUIRE(lucid_comm_barrier(comm));
    sizes_must_agree(comm);
    lucid_comm_close(comm);
    return check_result();
}
