/* Where a cache keeps what. Private to runtime/cache. */
#ifndef LUCID_RUNTIME_CACHE_RECORDS_H
#define LUCID_RUNTIME_CACHE_RECORDS_H

#include "runtime/cache/cache.h"

struct lucid_cache {
    lucid_comm *comm;
    lucid_cache_config config;
    lucid_shape shape;
    int granules_per_tile;
    int64_t n_tiles, n_rows; /* of max_tokens; this rank's */
    size_t record_bytes, tile_bytes, layer_bytes;
    char *records;  /* (n_layers, n_rows, n_kv_heads, granules_per_tile) cached records; layers are padded to pages */
    float *widened; /* a layer's records in fp32, when the cache is of 16 bits */
    float *pending; /* (n_layers, n_kv_heads, 64, value_ld), see lucid_attention_bind */
    float *tails;   /* (n_layers, n_rows, granules_per_tile, tail_floats); NULL: none */
    int64_t tokens;
};

static inline char *lucid_cache_record(const lucid_cache *c, int layer, int64_t row, int head, int granule) {
    const size_t index = ((size_t)row * c->config.n_kv_heads + head) * c->granules_per_tile + granule;
    return c->records + (size_t)layer * c->layer_bytes + index * c->record_bytes;
}

/* (granules_per_tile, tail_floats) of one of this rank's tiles. */
static inline float *lucid_cache_tails(const lucid_cache *c, int layer, int64_t tile) {
    const int64_t row = tile / c->comm->world_size;
    return c->tails +
           ((size_t)layer * (size_t)c->n_rows + (size_t)row) * (size_t)c->granules_per_tile * c->config.tail_floats;
}

static inline size_t lucid_cache_pending_floats(const lucid_cache *c) {
    return (size_t)c->config.n_kv_heads * LUCID_GRANULE * c->shape.value_ld;
}

/* Tiles with any of the first n tokens, and those among them that a rank has. */
static inline int64_t lucid_cache_tiles(const lucid_cache *c, int64_t n) {
    return (n + c->config.tile - 1) / c->config.tile;
}
static inline int64_t lucid_cache_rows(const lucid_cache *c, int64_t n_tiles, int rank) {
    return (n_tiles - rank + c->comm->world_size - 1) / c->comm->world_size;
}

/* How many of the first n tokens are in a tile. */
static inline int64_t lucid_cache_tile_tokens(const lucid_cache *c, int64_t tile, int64_t n) {
    const int64_t left = n - tile * c->config.tile;
    return left < 0 ? 0 : left < c->config.tile ? left : c->config.tile;
}

#endif
