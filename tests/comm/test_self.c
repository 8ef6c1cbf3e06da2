/* The loopback transport, and what comm.c checks for every transport. */
#include "tests/comm/drive.h"

#include <string.h>

static void sends_may_come_first(lucid_comm *comm) {
    const int sent[3] = {11, 22, 33};
    int got[3] = {0};
    lucid_request *requests[6];
    for (int i = 0; i < 3; i++) REQUIRE(lucid_comm_post_send(comm, 2, 0, &sent[i], sizeof(int), &requests[i]));
    bool done = true;
    REQUIRE(lucid_comm_test(comm, requests[0], &done));
    CHECK(!done, "a send was done before its receive was posted");
    for (int i = 0; i < 3; i++) REQUIRE(lucid_comm_post_recv(comm, 2, 0, &got[i], sizeof(int), &requests[3 + i]));
    drive(comm, 6, requests);
    for (int i = 0; i < 3; i++) CHECK(got[i] == sent[i], "message %d: got %d, want %d", i, got[i], sent[i]);
}

static void receives_may_come_first(lucid_comm *comm) {
    const int sent[3] = {11, 22, 33};
    int got[3] = {0};
    lucid_request *requests[6];
    for (int i = 0; i < 3; i++) REQUIRE(lucid_comm_post_recv(comm, 0, 0, &got[i], sizeof(int), &requests[i]));
    for (int i = 0; i < 3; i++) REQUIRE(lucid_comm_post_send(comm, 0, 0, &sent[i], sizeof(int), &requests[3 + i]));
    drive(comm, 6, requests);
    for (int i = 0; i < 3; i++) CHECK(got[i] == sent[i], "message %d: got %d, want %d", i, got[i], sent[i]);
}

static void channels_do_not_mix(lucid_comm *comm) {
    const char a = 'a', b = 'b';
    char got_a = 0, got_b = 0;
    lucid_request *requests[4];
    REQUIRE(lucid_comm_post_send(comm, 0, 0, &a, 1, &requests[0]));
    REQUIRE(lucid_comm_post_send(comm, 1, 0, &b, 1, &requests[1]));
    REQUIRE(lucid_comm_post_recv(comm, 1, 0, &got_b, 1, &requests[2]));
    REQUIRE(lucid_comm_post_recv(comm, 0, 0, &got_a, 1, &requests[3]));
    drive(comm, 4, requests);
    CHECK(got_a == 'a' && got_b == 'b', "channel 0 gave %c, channel 1 gave %c", got_a, got_b);
}

static void collectives_are_identities(lucid_comm *comm) {
    double x[2] = {3, -4};
    REQUIRE(lucid_comm_allreduce(comm, x, 2, LUCID_SUM));
    CHECK(x[0] == 3 && x[1] == -4, "allreduce gave %g, %g", x[0], x[1]);
    void *gathered = NULL;
    size_t bytes = 0;
    REQUIRE(lucid_comm_gather(comm, "token", 6, &gathered, &bytes, 0));
    CHECK(bytes == 6 && !strcmp(gathered, "token"), "gather gave %zu bytes: %s", bytes, (char *)gathered);
    free(gathered);
    REQUIRE(lucid_comm_barrier(comm));
    CHECK(lucid_comm_agree(comm, LUCID_OK) == LUCID_OK, "agreement on success failed");
    CHECK(lucid_comm_agree(comm, LUCID_ERR_IO) == LUCID_ERR_IO, "a failure was not returned");
}

/* The first of these failures is the one that stays recorded. */
static void misuse_is_an_error(lucid_comm *comm) {
    int x = 0;
    lucid_request *request, *other;
    CHECK(*lucid_failure() == '\0', "recorded before anything failed: %s", lucid_failure());
    CHECK(lucid_comm_post_send(comm, 4, 0, &x, sizeof x, &request) == LUCID_ERR_INTERNAL, "channel 4 of 4 was taken");
    const char *first = "there is no channel 4 among 4";
    CHECK(!strcmp(lucid_failure(), first), "got \"%s\", want \"%s\"", lucid_failure(), first);
    CHECK(lucid_comm_post_recv(comm, -1, 0, &x, sizeof x, &request) == LUCID_ERR_INTERNAL, "channel -1 was taken");
    CHECK(lucid_comm_post_recv(comm, 0, 1, &x, sizeof x, &request) == LUCID_ERR_INTERNAL, "rank 1 of 1 was taken");
    CHECK(lucid_comm_broadcast(comm, &x, sizeof x, -1) == LUCID_ERR_INTERNAL, "root -1 was taken");
    REQUIRE(lucid_comm_post_send(comm, 3, 0, &x, sizeof x, &request));
    CHECK(lucid_comm_post_recv(comm, 3, 0, &x, 2, &other) == LUCID_ERR_COMM, "sizes differ, yet they matched");
    CHECK(!strcmp(lucid_failure(), first), "a later failure took the first one's place: %s", lucid_failure());
    lucid_comm *none = NULL;
    CHECK(lucid_comm_open(&none, &(lucid_comm_options){.transport = "pigeon"}) == LUCID_ERR_UNSUPPORTED, "pigeons");
    CHECK(none == NULL, "an output was set on failure");
}

int main(void) {
    lucid_comm *comm;
    REQUIRE(lucid_comm_open(&comm, &(lucid_comm_options){.n_channels_max = 4}));
    CHECK(!strcmp(comm->transport->name, "self"), "without a launcher auto took %s", comm->transport->name);
    CHECK(strstr(lucid_comm_transports(), "self"), "transports: %s", lucid_comm_transports());
    sends_may_come_first(comm);
    receives_may_come_first(comm);
    channels_do_not_mix(comm);
    collectives_are_identities(comm);
    misuse_is_an_error(comm);
    lucid_comm_close(comm);
    return check_result();
}
