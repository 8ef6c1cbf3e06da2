/* The pieces of a saved cache: which bytes of memory they are and where a shard has them. Private to runtime/cache. */
#ifndef LUCID_RUNTIME_CACHE_PIECES_H
#define LUCID_RUNTIME_CACHE_PIECES_H

#include "runtime/cache/records.h"

#define LUCID_CACHE_MANIFEST "manifest"

/* One tile's bytes of one layer are n_blocks blocks: each key-value head's records, the granules' tails, and perhaps
 * the pending values. */
int lucid_piece_blocks(const lucid_cache *cache, int64_t tile);
char *lucid_piece_block(const lucid_cache *cache, int layer, int64_t tile, int block, size_t *n_bytes);

/* The tile's place in the shard of a cache that n_shards ranks wrote, and the shard's size. */
int64_t lucid_piece_offset(const lucid_cache *cache, int layer, int64_t tile, int n_shards);
int64_t lucid_shard_bytes(const lucid_cache *cache, int shard, int n_shards);

/* "FOLDER/shard-00000"; to be freed, NULL without memory. */
char *lucid_shard_path(const char *folder, int shard);

#endif
