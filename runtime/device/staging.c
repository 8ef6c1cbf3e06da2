#include "runtime/device/staging.h"

#include "runtime/device/check.h"

#include <stdlib.h>

/* A message under way, or, in the pool, its buffer. */
typedef struct slot {
    struct slot *next;
    void *host;   /* (tile_bytes) pinned */
    void *device; /* where it goes once received; NULL: a send */
    size_t bytes;
    lucid_request *request; /* the transport's */
} slot;

struct lucid_staging {
    lucid_comm *comm;
    int ordinal;
    size_t tile_bytes;
    slot *pool;
    cudaStream_t stream;
};

lucid_status lucid_staging_create(lucid_staging **staging, lucid_comm *comm, int ordinal, size_t tile_bytes) {
    lucid_staging *s = calloc(1, sizeof *s);
    if (!s) return lucid_fail(LUCID_ERR_MEMORY, "no memory");
    *s = (lucid_staging){.comm = comm, .ordinal = ordinal, .tile_bytes = tile_bytes};
    lucid_status status = LUCID_CUDA_CHECK(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
    if (status) {
        free(s);
        return status;
    }
    *staging = s;
    return LUCID_OK;
}

void lucid_staging_destroy(lucid_staging *s) {
    if (!s) return;
    for (slot *next; s->pool; s->pool = next) {
        next = s->pool->next;
        cudaFreeHost(s->pool->host);
        free(s->pool);
    }
    cudaStreamDestroy(s->stream);
    free(s);
}

static lucid_status slot_create(slot **created, size_t bytes) {
    slot *s = calloc(1, sizeof *s);
    if (!s) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a message");
    lucid_status status = LUCID_CUDA_CHECK(cudaMallocHost(&s->host, bytes));
    if (status)
        free(s);
    else
        *created = s;
    return status;
}

/* For a message of so many bytes, received into device unless that is NULL. */
static lucid_status slot_take(slot **taken, lucid_staging *s, void *device, size_t bytes) {
    LUCID_TRY(LUCID_CUDA_CHECK(cudaSetDevice(s->ordinal))); /* the calling thread's */
    if (!s->pool) LUCID_TRY(slot_create(&s->pool, s->tile_bytes));
    *taken = s->pool;
    s->pool = s->pool->next;
    (*taken)->device = device;
    (*taken)->bytes = bytes;
    return LUCID_OK;
}

static void slot_return(lucid_staging *s, slot *taken) {
    taken->next = s->pool;
    s->pool = taken;
}

static lucid_status copy(lucid_staging *s, void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    LUCID_TRY(LUCID_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, kind, s->stream)));
    return LUCID_CUDA_CHECK(cudaStreamSynchronize(s->stream));
}

/* What a post has come to. */
static lucid_status posted(lucid_staging *s, slot *taken, lucid_status status, lucid_request **request) {
    if (status)
        slot_return(s, taken);
    else
        *request = (lucid_request *)taken;
    return status;
}

lucid_status lucid_staging_send(void *staging, int channel, int peer, const void *tile, size_t bytes,
                                lucid_request **request) {
    lucid_staging *s = staging;
    slot *taken = NULL;
    LUCID_TRY(slot_take(&taken, s, NULL, bytes));
    lucid_status status = copy(s, taken->host, tile, bytes, cudaMemcpyDeviceToHost);
    if (!status) status = lucid_comm_post_send(s->comm, channel, peer, taken->host, bytes, &taken->request);
    return posted(s, taken, status, request);
}

lucid_status lucid_staging_recv(void *staging, int channel, int peer, void *tile, size_t bytes,
                                lucid_request **request) {
    lucid_staging *s = staging;
    slot *taken = NULL;
    LUCID_TRY(slot_take(&taken, s, tile, bytes));
    return posted(s, taken, lucid_comm_post_recv(s->comm, channel, peer, taken->host, bytes, &taken->request), request);
}

lucid_status lucid_staging_test(void *staging, lucid_request *request, bool *done) {
    lucid_staging *s = staging;
    slot *taken = (slot *)request;
    LUCID_TRY(lucid_comm_test(s->comm, taken->request, done));
    if (!*done) return LUCID_OK;
    LUCID_TRY(LUCID_CUDA_CHECK(cudaSetDevice(s->ordinal)));
    if (taken->device) LUCID_TRY(copy(s, taken->device, taken->host, taken->bytes, cudaMemcpyHostToDevice));
    slot_return(s, taken);
    return LUCID_OK;
}
