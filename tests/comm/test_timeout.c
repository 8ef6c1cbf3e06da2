/* test_timeout COLLECTIVE: the last rank never comes to a collective. The others must be told so within the deadline,
 * by the rank's number. Prints "named the absent rank" and aborts, which ends the sleeper; the abort's line is part of
 * the test. */
#include "comm/heart.h"
#include "tests/comm/drive.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

static lucid_status run(lucid_comm *comm, const char *collective) {
    double x = 0;
    size_t sizes[64];
    void *gathered;
    double all[64];
    if (!strcmp(collective, "broadcast")) return lucid_comm_broadcast(comm, &x, sizeof x, 0);
    if (!strcmp(collective, "gather")) return lucid_comm_gather(comm, &x, sizeof x, &gathered, sizes, 0);
    for (int r = 0; r < comm->world_size; r++) sizes[r] = r == comm->world_size - 1 ? 0 : sizeof x;
    if (!strcmp(collective, "allgather"))
        return lucid_comm_allgather(comm, &x, all, sizes); /* the absent has nothing */
    return lucid_comm_barrier(comm);
}

int main(int argc, char **argv) {
    const char *collective = argc > 1 ? argv[1] : "barrier";
    lucid_comm *comm;
    REQUIRE(lucid_comm_open(&comm, &(lucid_comm_options){.timeout = 60}));
    REQUIRE(lucid_comm_barrier(comm));
    comm->options.timeout = 0.5; /* only now: a busy machine may take longer to start */
    lucid_heart_set_deadline(comm->heart, 1.5);
    const int absent = comm->world_size - 1;
    if (comm->rank == absent) sleep(60);

    usleep(100000 * (unsigned)comm->rank); /* deadlines differ, the verdict may not */
    const time_t before = time(NULL);
    const lucid_status status = run(comm, collective);
    char line[128];
    snprintf(line, sizeof line, "rank %d on %s did not come within 0.5 s", absent, lucid_comm_host(comm, absent));
    CHECK(status == LUCID_ERR_TIMEOUT, "%s: status %d", collective, (int)status);
    CHECK(strstr(lucid_failure(), line), "%s: \"%s\" does not say \"%s\"", collective, lucid_failure(), line);
    CHECK(time(NULL) - before < 10, "%s took %ld s", collective, (long)(time(NULL) - before));
    CHECK(lucid_comm_barrier(comm) == LUCID_ERR_COMM, "a collective ran after one that was given up");
    if (!check_failures) printf("named the absent rank\n");
    fflush(stdout);
    usleep(1500000); /* lets every rank reach its verdict */
    lucid_comm_abort(comm);
    return 1;
}
