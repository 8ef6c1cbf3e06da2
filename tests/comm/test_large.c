/* Messages longer than MPI's int counts, 2 GiB and a bit, without the memory for them: both buffers are one small file
 * mapped over and over, but for their last part, which is what arrives last and is checked. */
#include "tests/comm/drive.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PIECE  ((size_t)64 << 20)
#define PIECES 33
#define TAIL   ((size_t)12345)
#define BYTES  (PIECE * PIECES + TAIL)

static char *map_buffer(void) {
    const int file = memfd_create("piece", 0);
    if (file < 0 || ftruncate(file, (off_t)PIECE)) return NULL;
    char *base = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return NULL;
    for (int p = 0; p < PIECES; p++) {
        void *at = base + (size_t)p * PIECE;
        if (mmap(at, PIECE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) != at) return NULL;
    }
    close(file);
    return base;
}

static void check_tail(const char *buffer, char want, const char *what) {
    size_t wrong = 0;
    for (size_t b = BYTES - TAIL; b < BYTES; b++) wrong += buffer[b] != want;
    CHECK(wrong == 0, "%s: %zu of the last %zu bytes are wrong", what, wrong, TAIL);
    wrong = 0;
    for (size_t b = 0; b < PIECE; b++) wrong += buffer[b] != want;
    CHECK(wrong == 0, "%s: %zu of the first %zu bytes are wrong", what, wrong, PIECE);
}

int main(void) {
    lucid_comm *comm;
    REQUIRE(lucid_comm_open(&comm, &(lucid_comm_options){.timeout = 60}));
    char *buffer = map_buffer();
    REQUIRE(lucid_comm_agree(comm, buffer ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "cannot map %zu bytes", BYTES)));
    memset(buffer, comm->rank ? 0 : 'x', PIECE);
    memset(buffer + BYTES - TAIL, comm->rank ? 0 : 'x', TAIL);

    lucid_request *request = NULL;
    if (comm->rank == 0) REQUIRE(lucid_comm_post_send(comm, 7, 1, buffer, BYTES, &request));
    if (comm->rank == 1) REQUIRE(lucid_comm_post_recv(comm, 7, 0, buffer, BYTES, &request));
    if (request) drive(comm, 1, &request);
    if (comm->rank == 1) check_tail(buffer, 'x', "message");

    memset(buffer, comm->rank ? 'y' : 0, PIECE);
    memset(buffer + BYTES - TAIL, comm->rank ? 'y' : 0, TAIL);
    REQUIRE(lucid_comm_broadcast(comm, buffer, BYTES, 1));
    check_tail(buffer, 'y', "broadcast");
    lucid_comm_close(comm);
    return check_result();
}
