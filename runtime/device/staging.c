#include "runtime/device/staging.h"

#include "runtime/device/check.h"

#include <stdlib.h>

/* A message under way, or, in the pool, its buffer. */
typedef struct slot {
    struct slot *next;
    void *host; /* (capacity) pinned; NULL: none yet */
    size_t capacity;
    void *device; /* where it goes once received; NULL: a send */
    size_t bytes;
    lucid_request *request; /* the transport's */
} slot;

typedef struct {
    lucid_comm *comm;
    int ordinal;
    slot *pool;
    cudaStream_t stream;
} staging;

static void staging_close(void *links) {
    staging *s = links;
    if (!s) return;
    for (slot *next; s->pool; s->pool = next) {
        next = s->pool->next;
        cudaFreeHost(s->pool->host);
        free(s->pool);
    }
    if (s->stream) cudaStreamDestroy(s->stream);
    free(s);
}

static lucid_status staging_open(void **links, lucid_comm *comm, int device) {
    staging *s = calloc(1, sizeof *s);
    lucid_status status = s ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory");
    if (!status) status = LUCID_CUDA_CHECK(cudaSetDevice(device));
    if (!status) status = LUCID_CUDA_CHECK(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
    status = lucid_comm_agree(comm, status);
    if (status) {
        staging_close(s);
        return status;
    }
    s->comm = comm;
    s->ordinal = device;
    *links = s;
    return LUCID_OK;
}

/* A slot for a message of so many bytes, received into device unless that is NULL. */
static lucid_status slot_reserve(slot *taken, void *device, size_t bytes) {
    taken->device = device;
    taken->bytes = bytes;
    if (bytes <= taken->capacity) return LUCID_OK;
    cudaFreeHost(taken->host);
    taken->host = NULL;
    taken->capacity = 0;
    LUCID_TRY(LUCID_CUDA_CHECK(cudaMallocHost(&taken->host, bytes)));
    taken->capacity = bytes;
    return LUCID_OK;
}

static lucid_status slot_take(slot **taken, staging *s, void *device, size_t bytes) {
    LUCID_TRY(LUCID_CUDA_CHECK(cudaSetDevice(s->ordinal))); /* the calling thread's */
    if (!s->pool) s->pool = calloc(1, sizeof *s->pool);
    if (!s->pool) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a message");
    LUCID_TRY(slot_reserve(s->pool, device, bytes));
    *taken = s->pool;
    s->pool = s->pool->next;
    return LUCID_OK;
}

static void slot_return(staging *s, slot *taken) {
    taken->next = s->pool;
    s->pool = taken;
}

static lucid_status copy(staging *s, void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    LUCID_TRY(LUCID_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, kind, s->stream)));
    return LUCID_CUDA_CHECK(cudaStreamSynchronize(s->stream));
}

/* What a post has come to. */
static lucid_status posted(staging *s, slot *taken, lucid_status status, lucid_request **request) {
    if (status)
        slot_return(s, taken);
    else
        *request = (lucid_request *)taken;
    return status;
}

static lucid_status staging_send(void *links, int channel, int peer, const void *tile, size_t bytes,
                                 lucid_request **request) {
    staging *s = links;
    slot *taken = NULL;
    LUCID_TRY(slot_take(&taken, s, NULL, bytes));
    lucid_status status = copy(s, taken->host, tile, bytes, cudaMemcpyDeviceToHost);
    if (!status) status = lucid_comm_post_send(s->comm, channel, peer, taken->host, bytes, &taken->request);
    return posted(s, taken, status, request);
}

static lucid_status staging_recv(void *links, int channel, int peer, void *tile, size_t bytes,
                                 lucid_request **request) {
    staging *s = links;
    slot *taken = NULL;
    LUCID_TRY(slot_take(&taken, s, tile, bytes));
    return posted(s, taken, lucid_comm_post_recv(s->comm, channel, peer, taken->host, bytes, &taken->request), request);
}

static lucid_status staging_test(void *links, lucid_request *request, bool *done) {
    staging *s = links;
    slot *taken = (slot *)request;
    LUCID_TRY(lucid_comm_test(s->comm, taken->request, done));
    if (!*done) return LUCID_OK;
    LUCID_TRY(LUCID_CUDA_CHECK(cudaSetDevice(s->ordinal)));
    if (taken->device) LUCID_TRY(copy(s, taken->device, taken->host, taken->bytes, cudaMemcpyHostToDevice));
    slot_return(s, taken);
    return LUCID_OK;
}

const lucid_device_links lucid_staging_links = {
    .open = staging_open, .close = staging_close, .send = staging_send, .recv = staging_recv, .test = staging_test};
