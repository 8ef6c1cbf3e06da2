/* The collectives under any world size, against what arithmetic says they give. */
#include "tests/comm/drive.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

static void reductions(lucid_comm *comm) {
    const int n = comm->world_size;
    double sum[2] = {comm->rank + 1, 0.5}, low = comm->rank, high = comm->rank;
    REQUIRE(lucid_comm_allreduce(comm, sum, 2, LUCID_SUM));
    REQUIRE(lucid_comm_allreduce(comm, &low, 1, LUCID_MIN));
    REQUIRE(lucid_comm_allreduce(comm, &high, 1, LUCID_MAX));
    CHECK(sum[0] == n * (n + 1) / 2 && sum[1] == 0.5 * n, "sums %g, %g among %d", sum[0], sum[1], n);
    CHECK(low == 0 && high == n - 1, "min %g, max %g among %d", low, high, n);
}

static void broadcasts_from_every_root(lucid_comm *comm) {
    const int n = (3 << 20) + 1;
    char *bytes = malloc((size_t)n);
    for (int root = 0; root < comm->world_size; root++) {
        memset(bytes, comm->rank == root ? 'r' + root : 0, (size_t)n);
        REQUIRE(lucid_comm_broadcast(comm, bytes, (size_t)n, root));
        int wrong = 0;
        for (int b = 0; b < n; b++) wrong += bytes[b] != 'r' + root;
        CHECK(wrong == 0, "from root %d: %d of %d bytes are wrong", root, wrong, n);
    }
    REQUIRE(lucid_comm_broadcast(comm, NULL, 0, 0));
    free(bytes);
}

/* Rank r brings r * step bytes of 'a' + r, so rank 0 brings nothing. */
static void gathers_of_uneven_sizes(lucid_comm *comm, size_t step, int root) {
    const size_t own = (size_t)comm->rank * step;
    char *send = malloc(own + 1);
    memset(send, 'a' + comm->rank, own);
    void *gathered = NULL;
    size_t *sizes = calloc((size_t)comm->world_size, sizeof *sizes);
    REQUIRE(lucid_comm_gather(comm, send, own, &gathered, sizes, root));
    CHECK((gathered != NULL) == (comm->rank == root), "root %d: the result is at the wrong rank", root);
    const char *at = gathered;
    for (int r = 0; gathered && r < comm->world_size; r++) {
        CHECK(sizes[r] == (size_t)r * step, "root %d: rank %d brought %zu bytes", root, r, sizes[r]);
        size_t wrong = 0;
        for (size_t b = 0; b < sizes[r]; b++) wrong += *at++ != 'a' + r;
        CHECK(wrong == 0, "root %d: %zu bytes of rank %d are wrong", root, wrong, r);
    }
    free(gathered), free(sizes), free(send);
}

/* Rank r brings r * step bytes of 'a' + r to everybody. */
static void allgathers_of_uneven_sizes(lucid_comm *comm, size_t step, bool in_place) {
    const int n = comm->world_size;
    size_t *sizes = calloc((size_t)n, sizeof *sizes), total = 0;
    for (int r = 0; r < n; r++) total += sizes[r] = (size_t)r * step;
    char *send = malloc(sizes[comm->rank] + 1), *recv = malloc(total + 1);
    memset(send, 'a' + comm->rank, sizes[comm->rank]);
    recv[total] = '!';
    if (in_place) {
        char *own = recv;
        for (int r = 0; r < comm->rank; r++) own += sizes[r];
        memcpy(own, send, sizes[comm->rank]);
        REQUIRE(lucid_comm_allgather(comm, own, recv, sizes));
    } else {
        REQUIRE(lucid_comm_allgather(comm, send, recv, sizes));
    }
    const char *at = recv;
    for (int r = 0; r < n; r++) {
        size_t wrong = 0;
        for (size_t b = 0; b < sizes[r]; b++) wrong += *at++ != 'a' + r;
        CHECK(wrong == 0, "step %zu: %zu bytes of rank %d are wrong", step, wrong, r);
    }
    CHECK(*at == '!', "step %zu: written past the end", step);
    free(recv), free(send), free(sizes);
}

/* Sums beyond MPI's counts are refused before anything is sent. */
static void too_large_allgathers_are_refused(lucid_comm *comm) {
    size_t *sizes = calloc((size_t)comm->world_size, sizeof *sizes);
    sizes[0] = (size_t)1 << 31;
    CHECK(lucid_comm_allgather(comm, NULL, NULL, sizes) == LUCID_ERR_COMM, "2 GiB are accepted");
    free(sizes);
}

/* A rank that runs ahead must wait: the barrier is seen by all ranks' clocks, which one host shares. */
static void barriers_hold(lucid_comm *comm) {
    const int last = comm->world_size - 1;
    struct timespec t;
    if (comm->rank == last) usleep(100000);
    clock_gettime(CLOCK_MONOTONIC, &t);
    double came = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    REQUIRE(lucid_comm_barrier(comm));
    clock_gettime(CLOCK_MONOTONIC, &t);
    const double left = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    REQUIRE(lucid_comm_allreduce(comm, &came, 1, LUCID_MAX));
    CHECK(left >= came, "rank %d left %g s before the last one came", comm->rank, came - left);
}

/* The last rank comes after several times the deadline of a collective. */
static void a_rendezvous_waits(lucid_comm *comm) {
    const double timeout = comm->options.timeout;
    REQUIRE(lucid_comm_barrier(comm));
    comm->options.timeout = 0.2;
    if (comm->rank == comm->world_size - 1) usleep(700000);
    CHECK(lucid_comm_rendezvous(comm) == LUCID_OK, "rank %d did not wait: %s", comm->rank, lucid_failure());
    comm->options.timeout = timeout;
}

/* Ranks of equal remainder by `colours`; every part does its collectives at its own pace, and has channels of its own.
 */
static void parts_work_on_their_own(lucid_comm *comm, int colours) {
    lucid_comm *part;
    REQUIRE(lucid_comm_split(&part, comm, comm->rank % colours));
    const int want = (comm->world_size - comm->rank % colours + colours - 1) / colours;
    CHECK(part->world_size == want && part->rank == comm->rank / colours, "rank %d of %d became %d of %d", comm->rank,
          comm->world_size, part->rank, part->world_size);
    for (int r = 0; r < part->world_size; r++)
        CHECK(part->job_ranks[r] == r * colours + comm->rank % colours, "rank %d of the part is %d of the job", r,
              part->job_ranks[r]);
    for (int i = 0; i <= comm->rank % colours; i++) reductions(part);
    int sent[2] = {comm->rank, 100 + comm->rank}, came[2] = {-1, -1};
    lucid_request *requests[4];
    const int from = (part->rank + part->world_size - 1) % part->world_size, to = (part->rank + 1) % part->world_size;
    REQUIRE(lucid_comm_post_recv(part, 3, from, &came[0], sizeof came[0], &requests[0]));
    REQUIRE(lucid_comm_post_recv(comm, 3, part->job_ranks[from], &came[1], sizeof came[1], &requests[1]));
    REQUIRE(lucid_comm_post_send(comm, 3, part->job_ranks[to], &sent[1], sizeof sent[1], &requests[2]));
    REQUIRE(lucid_comm_post_send(part, 3, to, &sent[0], sizeof sent[0], &requests[3]));
    for (int i = 0; i < 4; i++) drive(i == 1 || i == 2 ? comm : part, 1, &requests[i]);
    CHECK(came[0] == part->job_ranks[from] && came[1] == 100 + came[0], "rank %d got %d and %d", comm->rank, came[0],
          came[1]);
    lucid_comm_close(part);
}

/* Last, since the recorded failure stays. Two ranks fail where there are two; the lowest one's line is what all know.
 */
static void failures_are_agreed_on(lucid_comm *comm) {
    CHECK(lucid_comm_agree(comm, LUCID_OK) == LUCID_OK, "success was not agreed on: %s", lucid_failure());
    const int failing = comm->world_size / 2;
    lucid_status own = LUCID_OK;
    if (comm->rank >= failing) own = lucid_fail(LUCID_ERR_INPUT, "bad tensor at rank %d", comm->rank);
    const lucid_status agreed = lucid_comm_agree(comm, own);
    const lucid_status want = own ? LUCID_ERR_INPUT : LUCID_ERR_COMM;
    CHECK(agreed == want, "rank %d: status %d, want %d", comm->rank, (int)agreed, (int)want);
    char line[64];
    snprintf(line, sizeof line, "bad tensor at rank %d", own ? comm->rank : failing);
    CHECK(strstr(lucid_failure(), line), "rank %d knows \"%s\", not \"%s\"", comm->rank, lucid_failure(), line);
}

int main(int argc, char **argv) {
    lucid_comm *comm;
    REQUIRE(lucid_comm_open(&comm, &(lucid_comm_options){.transport = argc > 1 ? argv[1] : NULL, .timeout = 60}));
    CHECK(comm->local_size == comm->world_size && comm->local_rank == comm->rank, "local rank %d of %d, rank %d of %d",
          comm->local_rank, comm->local_size, comm->rank, comm->world_size);
    reductions(comm);
    broadcasts_from_every_root(comm);
    for (int root = 0; root < comm->world_size; root++) {
        gathers_of_uneven_sizes(comm, 0, root);
        gathers_of_uneven_sizes(comm, 17, root);
        gathers_of_uneven_sizes(comm, 1 << 20, root);
    }
    for (size_t step = 0; step <= (size_t)1 << 20; step = step * 64 + 1) {
        allgathers_of_uneven_sizes(comm, step, false);
        allgathers_of_uneven_sizes(comm, step, true);
    }
    barriers_hold(comm);
    a_rendezvous_waits(comm);
    for (int colours = 1; colours <= comm->world_size; colours++) parts_work_on_their_own(comm, colours);
    failures_are_agreed_on(comm);
    too_large_allgathers_are_refused(comm);
    lucid_comm_close(comm);
    return check_result();
}
