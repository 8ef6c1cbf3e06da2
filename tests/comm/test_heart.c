/* test_heart SCENARIO: what the heart does about a rank in trouble. Each scenario is one job; heart.sh runs them and
 * looks at what the job prints and how it ends. The deadline of silence is 0.8 s. */
#include "comm/heart.h"
#include "tests/comm/drive.h"

#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A kernel that lasts: nothing here calls the transport. */
static void compute(double seconds) {
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do clock_gettime(CLOCK_MONOTONIC, &now);
    while ((double)(now.tv_sec - begin.tv_sec) + 1e-9 * (double)(now.tv_nsec - begin.tv_nsec) < seconds);
}

static void describe(void *context, FILE *stream, bool brief) {
    fprintf(stream, brief ? "waiting for tile %d" : "  tile %d\n", *(int *)context);
}

static void remove_file(void) {
    printf("tidied up\n");
    fflush(stdout);
}

/* The last rank stops while all compute. */
static void stopped(lucid_comm *comm) {
    lucid_comm_phase(comm, "computing");
    if (comm->rank == comm->world_size - 1) raise(SIGSTOP);
    compute(10);
}

/* Slower than the deadline, but alive: no fault, and the collective waits. */
static void slow(lucid_comm *comm) {
    if (comm->rank == comm->world_size - 1) compute(1.8);
    REQUIRE(lucid_comm_barrier(comm));
    printf("came through\n");
}

/* All ranks stop for longer than the deadline and go on, as a suspended job does. */
static void suspended(lucid_comm *comm) {
    const pid_t child = fork();
    if (child == 0) {
        usleep(1600000);
        kill(getppid(), SIGCONT);
        _exit(0);
    }
    raise(SIGSTOP);
    compute(0.5);
    REQUIRE(lucid_comm_barrier(comm));
    printf("came through\n");
}

/* Ranks 1 and above fail at once: the lowest one speaks. */
static void failing(lucid_comm *comm) {
    if (comm->rank == 0) compute(10);
    lucid_fail(LUCID_ERR_IO, "no space left for rank %d", comm->rank);
    lucid_comm_abort(comm);
}

/* One rank fails while the others are deep in work or wait in a collective. */
static void failing_alone(lucid_comm *comm) {
    if (comm->rank == comm->world_size - 1) {
        lucid_fail(LUCID_ERR_MEMORY, "out of memory");
        lucid_comm_abort(comm);
    }
    if (comm->rank == 0)
        compute(10);
    else
        lucid_comm_barrier(comm);
}

/* While the transport is lent nobody listens: a rank may be silent. */
static void lent(lucid_comm *comm) {
    REQUIRE(lucid_comm_lend(comm));
    compute(comm->rank == 0 ? 0.1 : 1.8);
    REQUIRE(lucid_comm_reclaim(comm));
    compute(0.3);
    printf("came through\n");
}

static void dumped(lucid_comm *comm) {
    int tile = 7 + comm->rank;
    lucid_comm_describe(comm, describe, &tile);
    lucid_comm_dump();
    compute(0.3);
    lucid_comm_describe(comm, NULL, NULL);
    REQUIRE(lucid_comm_barrier(comm));
}

static void deadlines(void) {
    CHECK_NEAR(lucid_heart_deadline(600), 30, 1e-12, "a part of a long timeout");
    CHECK_NEAR(lucid_heart_deadline(60), 10, 1e-12, "but not hasty");
    CHECK_NEAR(lucid_heart_deadline(5), 4, 1e-12, "and before the timeout");
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(lucid_comm *comm);
    } scenarios[] = {{"stopped", stopped},     {"slow", slow}, {"suspended", suspended}, {"failing", failing},
                     {"alone", failing_alone}, {"lent", lent}, {"dumped", dumped}};
    lucid_comm *comm;
    deadlines();
    REQUIRE(lucid_comm_open(&comm, &(lucid_comm_options){.timeout = 60, .before_end = remove_file}));
    REQUIRE(lucid_comm_barrier(comm));
    lucid_heart_set_deadline(comm->heart, 0.8); /* only now: a busy machine may take longer to start */
    for (size_t s = 0; argc > 1 && s < sizeof scenarios / sizeof *scenarios; s++)
        if (!strcmp(argv[1], scenarios[s].name)) scenarios[s].run(comm);
    CHECK(lucid_comm_silence(comm, comm->rank) < 0, "a rank listens to itself");
    if (comm->world_size > 1)
        CHECK(lucid_comm_silence(comm, (comm->rank + 1) % comm->world_size) >= 0, "no ear for the neighbour");
    lucid_comm_close(comm);
    return check_result();
}
