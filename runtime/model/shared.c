#include "runtime/model/shared.h"

#include "runtime/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where a rank's memory is to be found; fd is -1 but for the first rank of a host. */
typedef struct {
    char host[64];
    uint64_t id; /* in the file's name: another container's process may have the same pid */
    int64_t pid;
    int32_t fd, local_rank, local_size, unused;
} address;

static lucid_status check_room(size_t bytes, int copies) {
    const lucid_memory memory = lucid_memory_read("");
    const size_t free_bytes = memory.available < memory.cgroup ? memory.available : memory.cgroup;
    if (bytes <= free_bytes / (size_t)copies) return LUCID_OK;
    return lucid_fail(LUCID_ERR_MEMORY, "the weights need %zu bytes in fp32, %d times; this host has %zu to give",
                      bytes, copies, free_bytes);
}

static void name_file(char name[64], uint64_t id) {
    snprintf(name, 64, "lucid-weights-%016" PRIx64, id);
}

/* -1 when it cannot be had. */
static int create_file(uint64_t id, size_t bytes) {
    char name[64];
    name_file(name, id);
    const int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

/* -1 when it cannot be had, or is another file than the one meant. */
static int open_file(const address *at, size_t bytes) {
    char path[64], name[64], want[96], got[96] = "";
    struct stat info;
    snprintf(path, sizeof path, "/proc/%" PRId64 "/fd/%d", at->pid, (int)at->fd);
    name_file(name, at->id);
    snprintf(want, sizeof want, "/memfd:%s (deleted)", name);
    if (readlink(path, got, sizeof got - 1) < 0 || strcmp(got, want) != 0) return -1;
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &info) == 0 && info.st_size == (off_t)bytes) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

/* all (world_size) = every rank's own. Collective. */
static lucid_status exchange(address *all, const address *own, lucid_comm *comm) {
    void *gathered = NULL;
    size_t *each = malloc((size_t)comm->world_size * sizeof *each);
    lucid_status status = each ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for %d sizes", comm->world_size);
    status = lucid_comm_agree(comm, status);
    if (!status) status = lucid_comm_gather(comm, own, sizeof *own, &gathered, each, 0);
    if (!status && comm->rank == 0) memcpy(all, gathered, (size_t)comm->world_size * sizeof *all);
    if (!status) status = lucid_comm_broadcast(comm, all, (size_t)comm->world_size * sizeof *all, 0);
    free(gathered);
    free(each);
    return status;
}

/* This host's first rank; NULL when hosts of one name cannot be told apart. */
static const address *find_leader(const address *all, const lucid_comm *comm) {
    const address *leader = NULL;
    int n = 0;
    for (int r = 0; r < comm->world_size; r++) {
        if (strcmp(all[r].host, comm->host) != 0) continue;
        n++;
        if (all[r].local_rank == 0) leader = &all[r];
    }
    return n == comm->local_size ? leader : NULL;
}

/* *fd = the host's file on every rank, or -1 on every rank. Collective. */
static lucid_status meet(int *fd, address *all, lucid_comm *comm, size_t bytes) {
    address own = {.fd = -1, .pid = getpid(), .local_rank = comm->local_rank, .local_size = comm->local_size};
    memcpy(own.host, comm->host, sizeof own.host);
    if (comm->local_rank == 0 && getrandom(&own.id, sizeof own.id, 0) == sizeof own.id)
        own.fd = create_file(own.id, bytes);
    int mine = own.fd;
    lucid_status status = exchange(all, &own, comm);
    const address *leader = status ? NULL : find_leader(all, comm);
    if (leader && comm->local_rank > 0) mine = open_file(leader, bytes);
    double met = leader && mine >= 0;
    if (!status) status = lucid_comm_allreduce(comm, &met, 1, LUCID_MIN);
    if ((status || met == 0) && mine >= 0) {
        close(mine);
        mine = -1;
    }
    *fd = mine;
    return status;
}

static lucid_status map(lucid_shared_memory *memory, int fd) {
    const int flags = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void *base = mmap(NULL, memory->bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (base == MAP_FAILED)
        return lucid_fail(LUCID_ERR_MEMORY, "cannot map %zu bytes for weights: %s", memory->bytes, strerror(errno));
    memory->base = base;
    return LUCID_OK;
}

lucid_status lucid_shared_memory_open(lucid_shared_memory *memory, lucid_comm *comm, size_t bytes) {
    int fd = -1;
    *memory = (lucid_shared_memory){.bytes = bytes, .n_writers = 1, .node_wide = true};
    if (bytes == 0) return LUCID_OK;
    address *all = malloc((size_t)comm->world_size * sizeof *all);
    lucid_status status = all ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for %d ranks", comm->world_size);
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), free_all);
    LUCID_TRY_GOTO(meet(&fd, all, comm, bytes), free_all);
    memory->node_wide = fd >= 0;
    if (memory->node_wide) {
        memory->writer = comm->local_rank;
        memory->n_writers = comm->local_size;
    }
    status = check_room(bytes, memory->node_wide ? 1 : comm->local_size);
    if (!status) status = map(memory, fd);
    if (fd >= 0) close(fd);
    status = lucid_comm_agree(comm, status);
    if (status) lucid_shared_memory_close(memory);
free_all:
    free(all);
    return status;
}

lucid_status lucid_shared_memory_seal(lucid_shared_memory *memory) {
    if (!memory->base || mprotect(memory->base, memory->bytes, PROT_READ) == 0) return LUCID_OK;
    return lucid_fail(LUCID_ERR_MEMORY, "cannot protect the weights: %s", strerror(errno));
}

void lucid_shared_memory_close(lucid_shared_memory *memory) {
    if (memory->base) munmap(memory->base, memory->bytes);
    memory->base = NULL;
}
