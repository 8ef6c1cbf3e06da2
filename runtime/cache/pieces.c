#include "runtime/cache/pieces.h"

#include <stdio.h>

static int64_t n_granules(const lucid_cache *c, int64_t tile) {
    return (lucid_cache_tile_tokens(c, tile, c->tokens) + LUCID_GRANULE - 1) / LUCID_GRANULE;
}

/* The last tile has the pending values where its last granule is not full. */
static bool has_pending(const lucid_cache *c, int64_t tile) {
    return c->tokens % LUCID_GRANULE && tile == lucid_cache_tiles(c, c->tokens) - 1;
}

static size_t pending_bytes(const lucid_cache *c) {
    return lucid_cache_pending_floats(c) * sizeof(float);
}

static size_t tails_bytes(const lucid_cache *c, int64_t tile) {
    return (size_t)n_granules(c, tile) * c->config.tail_floats * sizeof(float);
}

int lucid_piece_blocks(const lucid_cache *c, int64_t tile) {
    return c->config.n_kv_heads + (c->config.tail_floats > 0) + has_pending(c, tile);
}

char *lucid_piece_block(const lucid_cache *c, int layer, int64_t tile, int block, size_t *n_bytes) {
    if (block < c->config.n_kv_heads) {
        *n_bytes = (size_t)n_granules(c, tile) * c->record_bytes;
        return lucid_cache_record(c, layer, tile / c->comm->world_size, block, 0);
    }
    if (block == c->config.n_kv_heads && c->config.tail_floats) {
        *n_bytes = tails_bytes(c, tile);
        return (char *)lucid_cache_tails(c, layer, tile);
    }
    *n_bytes = pending_bytes(c);
    return (char *)(c->pending + (size_t)layer * lucid_cache_pending_floats(c));
}

static int64_t piece_bytes(const lucid_cache *c, int64_t tile) {
    const int64_t records = c->config.n_kv_heads * n_granules(c, tile) * (int64_t)c->record_bytes;
    return records + (int64_t)tails_bytes(c, tile) + (has_pending(c, tile) ? (int64_t)pending_bytes(c) : 0);
}

/* All tiles but the sequence's last one are full. */
static int64_t full_piece_bytes(const lucid_cache *c) {
    return (int64_t)(c->tile_bytes + (size_t)c->granules_per_tile * c->config.tail_floats * sizeof(float));
}

/* Tiles shard, shard + n_shards, ... */
static int64_t layer_bytes(const lucid_cache *c, int shard, int n_shards) {
    const int64_t n_tiles = lucid_cache_tiles(c, c->tokens), rows = (n_tiles - shard + n_shards - 1) / n_shards;
    return rows <= 0 ? 0 : (rows - 1) * full_piece_bytes(c) + piece_bytes(c, shard + (rows - 1) * n_shards);
}

int64_t lucid_piece_offset(const lucid_cache *c, int layer, int64_t tile, int n_shards) {
    return layer * layer_bytes(c, (int)(tile % n_shards), n_shards) + tile / n_shards * full_piece_bytes(c);
}

int64_t lucid_shard_bytes(const lucid_cache *c, int shard, int n_shards) {
    return c->config.n_layers * layer_bytes(c, shard, n_shards);
}

char *lucid_shard_path(const char *folder, int shard) {
    char *path;
    return asprintf(&path, "%s/shard-%05d", folder, shard) < 0 ? NULL : path;
}
