/* The cache's memory. Address space for max_tokens is reserved at once, so that records never move; the kernel gives
 * pages as they are touched. */
#include "runtime/cache/records.h"

#include "runtime/files/half.h"
#include "runtime/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Layers follow each other closely: memory comes in huge pages, and what one layer leaves of its last is the next's. */
#define PAGE_BYTES ((size_t)4 << 10)
#define TILE_MAX   ((int64_t)1 << 24)

int64_t lucid_cache_tile(int64_t max_tokens) {
    const int64_t tile = (max_tokens / 128 + LUCID_GRANULE - 1) / LUCID_GRANULE * LUCID_GRANULE;
    return tile < 64 ? 64 : tile > 1024 ? 1024 : tile;
}

/* --- set-up --- */

static lucid_status check_config(const lucid_cache_config *c) {
    if (c->dtype != LUCID_F32 && c->dtype != LUCID_BF16)
        return lucid_fail(LUCID_ERR_USAGE, "a cache keeps fp32 or bf16, nothing else");
    if (c->n_layers < 1 || c->n_kv_heads < 1)
        return lucid_fail(LUCID_ERR_USAGE, "a cache of %d layers and %d key-value heads", c->n_layers, c->n_kv_heads);
    if (c->head_dim < 1 || c->head_dim > LUCID_MAX_HEAD_DIM || c->value_dim < 1 || c->value_dim > LUCID_MAX_HEAD_DIM)
        return lucid_fail(LUCID_ERR_USAGE, "a cache's head_dim %d and value_dim %d must be 1..%d", c->head_dim,
                          c->value_dim, LUCID_MAX_HEAD_DIM);
    if (c->max_tokens < 1 || c->max_tokens > INT64_C(1) << 40)
        return lucid_fail(LUCID_ERR_USAGE, "a cache of at most %" PRId64 " tokens", c->max_tokens);
    if (c->tile < 1 || c->tile % LUCID_GRANULE || c->tile > TILE_MAX)
        return lucid_fail(LUCID_ERR_USAGE, "a cache's tile of %" PRId64 " tokens is no multiple of %d up to %" PRId64,
                          c->tile, LUCID_GRANULE, TILE_MAX);
    return LUCID_OK;
}

static lucid_cache_config with_defaults(const lucid_cache_config *config) {
    lucid_cache_config c = *config;
    if (c.tile == 0) c.tile = lucid_cache_tile(c.max_tokens);
    if (!(c.eps > 0)) c.eps = 1e-5;
    if (c.threads < 1) c.threads = 1;
    return c;
}

/* Sizes of a cache whose configuration was checked; false where they do not fit a size_t. */
static bool measure(lucid_cache *c, int world_size) {
    const lucid_cache_config *config = &c->config;
    c->shape = lucid_shape_make(config->head_dim, config->value_dim);
    c->granules_per_tile = (int)(config->tile / LUCID_GRANULE);
    c->n_tiles = (config->max_tokens + config->tile - 1) / config->tile;
    c->record_bytes = lucid_cached_bytes(c->shape, config->dtype);
    const size_t rows = (size_t)((c->n_tiles + world_size - 1) / world_size), page = PAGE_BYTES;
    bool fits =
        !__builtin_mul_overflow((size_t)config->n_kv_heads * c->granules_per_tile, c->record_bytes, &c->tile_bytes);
    fits = fits && !__builtin_mul_overflow(rows, c->tile_bytes, &c->layer_bytes);
    fits = fits && c->layer_bytes < SIZE_MAX / 8; /* so that padding and widening fit too */
    c->layer_bytes = (c->layer_bytes + page - 1) / page * page;
    return fits;
}

/* Room for a layer of layer_bytes in fp32. */
static size_t widened_bytes(const lucid_cache *c, size_t layer_bytes) {
    if (c->config.dtype == LUCID_F32) return 0;
    return layer_bytes / c->record_bytes * lucid_record_floats(c->shape) * sizeof(float);
}

static size_t pending_bytes(const lucid_cache *c) {
    return (size_t)c->config.n_layers * lucid_cache_pending_floats(c) * sizeof(float);
}

/* Of the fullest rank. measure has seen to it that as many records fit. */
static bool tails_bytes(size_t *bytes, const lucid_cache *c, int world_size) {
    const size_t rows = (size_t)((c->n_tiles + world_size - 1) / world_size);
    const size_t n = (size_t)c->config.n_layers * rows * (size_t)c->granules_per_tile;
    return !__builtin_mul_overflow(n, c->config.tail_floats * sizeof(float), bytes);
}

size_t lucid_cache_bytes(const lucid_cache_config *config, int world_size) {
    lucid_cache c = {.config = with_defaults(config)};
    size_t bytes, tails;
    if (check_config(&c.config) || !measure(&c, world_size) || !tails_bytes(&tails, &c, world_size)) return SIZE_MAX;
    if (__builtin_mul_overflow((size_t)c.config.n_layers, c.layer_bytes, &bytes)) return SIZE_MAX;
    if (__builtin_add_overflow(bytes, widened_bytes(&c, c.layer_bytes) + pending_bytes(&c), &bytes)) return SIZE_MAX;
    if (__builtin_add_overflow(bytes, tails, &bytes)) return SIZE_MAX;
    return bytes;
}

/* The other ranks of this host may hold caches of other texts: all ranks of the job share its memory. */
static lucid_status check_memory(const lucid_cache *c) {
    const lucid_memory memory = lucid_memory_read("");
    const size_t left = lucid_memory_share(&memory, c->comm->job->local_size);
    const size_t bytes = lucid_cache_bytes(&c->config, c->comm->world_size);
    if (bytes <= left) return LUCID_OK;
    return lucid_fail(LUCID_ERR_MEMORY,
                      "a cache of %" PRId64 " tokens takes %.1f MiB a rank, and %.1f MiB are left: use fewer tokens, "
                      "more hosts, or a bf16 cache",
                      c->config.max_tokens, (double)bytes / (1 << 20), (double)left / (1 << 20));
}

/* Zero pages that nothing is charged for before they are touched. */
static lucid_status reserve(void *memory, size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return lucid_fail(LUCID_ERR_MEMORY, "no address space for %.1f MiB of cache: %s", (double)bytes / (1 << 20),
                          strerror(errno));
    madvise(at, bytes, MADV_HUGEPAGE);
    *(void **)memory = at;
    return LUCID_OK;
}

static size_t reserved_tails(const lucid_cache *c) {
    size_t bytes = 0;
    tails_bytes(&bytes, c, c->comm->world_size); /* counted before */
    return bytes;
}

static lucid_status allocate(lucid_cache *c) {
    LUCID_TRY(check_memory(c));
    LUCID_TRY(reserve(&c->records, (size_t)c->config.n_layers * c->layer_bytes));
    const size_t widened = widened_bytes(c, c->layer_bytes);
    if (widened) LUCID_TRY(reserve(&c->widened, widened));
    if (reserved_tails(c)) LUCID_TRY(reserve(&c->tails, reserved_tails(c)));
    return reserve(&c->pending, pending_bytes(c));
}

lucid_status lucid_cache_create(lucid_cache **cache, lucid_comm *comm, const lucid_cache_config *config) {
    lucid_cache *c = calloc(1, sizeof *c);
    lucid_status status = c ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for a cache");
    if (c) {
        c->comm = comm;
        c->config = with_defaults(config);
        status = check_config(&c->config);
    }
    if (!status && !measure(c, comm->world_size))
        status = lucid_fail(LUCID_ERR_MEMORY, "a cache of %" PRId64 " tokens fits no machine", config->max_tokens);
    if (!status) c->n_rows = lucid_cache_rows(c, c->n_tiles, comm->rank);
    if (!status) status = allocate(c);
    status = lucid_comm_agree(comm, status);
    if (status) {
        lucid_cache_destroy(c);
        return status;
    }
    *cache = c;
    return LUCID_OK;
}

void lucid_cache_destroy(lucid_cache *c) {
    if (!c) return;
    if (c->records) munmap(c->records, (size_t)c->config.n_layers * c->layer_bytes);
    if (c->widened) munmap(c->widened, widened_bytes(c, c->layer_bytes));
    if (c->tails) munmap(c->tails, reserved_tails(c));
    if (c->pending) munmap(c->pending, pending_bytes(c));
    free(c);
}

const lucid_cache_config *lucid_cache_configuration(const lucid_cache *c) {
    return &c->config;
}

int64_t lucid_cache_tokens(const lucid_cache *c) {
    return c->tokens;
}

const void *lucid_cache_layer(const lucid_cache *c, int layer, size_t *n_bytes) {
    *n_bytes = (size_t)lucid_cache_rows(c, lucid_cache_tiles(c, c->tokens), c->comm->rank) * c->tile_bytes;
    return lucid_cache_record(c, layer, 0, 0, 0);
}

size_t lucid_cache_held_bytes(const lucid_cache *c) {
    size_t layer_bytes;
    lucid_cache_layer(c, 0, &layer_bytes);
    const size_t granules = layer_bytes / c->tile_bytes * (size_t)c->granules_per_tile;
    const size_t tails = granules * c->config.tail_floats * sizeof(float);
    return (size_t)c->config.n_layers * (layer_bytes + tails) + widened_bytes(c, layer_bytes) + pending_bytes(c);
}

float *lucid_cache_tail(const lucid_cache *c, int layer, int64_t granule) {
    const int64_t tile = granule / c->granules_per_tile;
    if (tile % c->comm->world_size != c->comm->rank) return NULL;
    return lucid_cache_tails(c, layer, tile) + (size_t)(granule % c->granules_per_tile) * c->config.tail_floats;
}

/* --- chunks --- */

/* Between a cached record of 16 bits and its fp32 form. */
static void widen_record(float *to, const char *from, const lucid_cache *c) {
    const lucid_shape s = c->shape;
    lucid_widen(to, from, c->config.dtype, (int64_t)LUCID_GRANULE * s.head_dim);
    memcpy(to + lucid_record_rnorm(s), from + lucid_cached_rnorm(s, c->config.dtype), sizeof(float) * LUCID_GRANULE);
    lucid_widen(to + lucid_record_values(s), from + lucid_cached_values(s, c->config.dtype), c->config.dtype,
                (int64_t)LUCID_GRANULE * s.value_ld);
}

static void narrow_record(char *to, const float *from, const lucid_cache *c) {
    const lucid_shape s = c->shape;
    lucid_narrow(to, c->config.dtype, from, (int64_t)LUCID_GRANULE * s.head_dim);
    memcpy(to + lucid_cached_rnorm(s, c->config.dtype), from + lucid_record_rnorm(s), sizeof(float) * LUCID_GRANULE);
    lucid_narrow(to + lucid_cached_values(s, c->config.dtype), c->config.dtype, from + lucid_record_values(s),
                 (int64_t)LUCID_GRANULE * s.value_ld);
}

/* Converts this rank's records of tokens first..end-1; first is a granule's first. */
static void convert(lucid_cache *c, int layer, int64_t first, int64_t end, bool widen) {
    const int n_heads = c->config.n_kv_heads, n_granules = c->granules_per_tile;
    const int64_t n_records = lucid_cache_rows(c, lucid_cache_tiles(c, end), c->comm->rank) * n_heads * n_granules;
#pragma omp parallel for num_threads(c->config.threads)
    for (int64_t i = 0; i < n_records; i++) {
        const int64_t row = i / n_granules / n_heads, tile = row * c->comm->world_size + c->comm->rank;
        const int64_t token = tile * c->config.tile + i % n_granules * LUCID_GRANULE;
        char *cached = lucid_cache_record(c, layer, 0, 0, 0) + (size_t)i * c->record_bytes;
        float *record = c->widened + (size_t)i * lucid_record_floats(c->shape);
        if (token < first || token >= end) continue;
        if (widen)
            widen_record(record, cached, c);
        else
            narrow_record(cached, record, c);
    }
}

void lucid_cache_open_layer(lucid_cache *c, int layer, float **records, float **pending) {
    *pending = c->pending + (size_t)layer * lucid_cache_pending_floats(c);
    *records = (float *)(void *)lucid_cache_record(c, layer, 0, 0, 0);
    if (!c->widened) return;
    convert(c, layer, 0, c->tokens, true);
    *records = c->widened;
}

void lucid_cache_close_layer(lucid_cache *c, int layer, int64_t n_new) {
    if (c->widened) convert(c, layer, c->tokens / LUCID_GRANULE * LUCID_GRANULE, c->tokens + n_new, false);
}

lucid_status lucid_cache_append(lucid_cache *c, int64_t n_new) {
    if (n_new > c->config.max_tokens - c->tokens)
        return lucid_fail(LUCID_ERR_MEMORY, "the cache holds at most %" PRId64 " tokens", c->config.max_tokens);
    c->tokens += n_new;
    return LUCID_OK;
}

int64_t lucid_cache_truncate(lucid_cache *c, int64_t n_tokens) {
    const int64_t last_granule = c->tokens / LUCID_GRANULE * LUCID_GRANULE;
    if (n_tokens < c->tokens) c->tokens = n_tokens < last_granule ? n_tokens / LUCID_GRANULE * LUCID_GRANULE : n_tokens;
    return c->tokens;
}
