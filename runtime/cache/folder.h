/* A cache kept in a folder, to be read by any number of ranks:
 *
 *   manifest      a checksum of what follows (8 bytes), then a CacheManifest message: shapes, token ids, checksums
 *   shard-00000   ... one of each rank that wrote it, which has its tiles: layer by layer, ascending
 *
 * A tile's piece is, for each key-value head, the cached records that have tokens; then those granules' tails, if any;
 * in the last tile, where tokens % 64 is not zero, the layer's pending values follow. Each piece has a checksum of its
 * own, so that whoever reads a tile reads and checks nothing else. Numbers are as x86-64 has them.
 *
 * The folder is written beside and renamed when all of it has reached the disk. The file system is one that all ranks
 * share.
 */
#ifndef LUCID_RUNTIME_CACHE_FOLDER_H
#define LUCID_RUNTIME_CACHE_FOLDER_H

#include "runtime/cache/cache.h"

/* Saves the cache and the ids (tokens) that made it, which only rank 0 needs. fingerprint: a text of at most 127 bytes
 * that tells models apart. A saved cache that is at path already is replaced. Errors, agreed, leave what was there:
 * USAGE, INPUT when something else is at path, IO, MEMORY. Collective. */
lucid_status lucid_cache_save(const lucid_cache *cache, const char *path, const char *fingerprint, const int32_t *ids);

/* Whether a cache could be saved at path, before hours of reading make one. Errors: as those of saving. Local. */
lucid_status lucid_cache_check_place(const char *path);

/* Makes a cache of what is at path. config is what the caller's model needs: everything but tile, which is the
 * folder's, must be as saved, and max_tokens no less than the saved tokens. *ids (tokens, to be freed) is on every
 * rank. Errors, agreed: INPUT when it is no saved cache, damaged, or another model's; USAGE when max_tokens is too
 * small; IO, MEMORY. Collective. */
lucid_status lucid_cache_load(lucid_cache **cache, int32_t **ids, lucid_comm *comm, const char *path,
                              const char *fingerprint, const lucid_cache_config *config);

/* What is at path, before a cache is made of it: how many tokens, and *ids (n_tokens), to be freed. Errors: INPUT when
 * it is no saved cache or its manifest is damaged; IO, MEMORY. Local. */
lucid_status lucid_cache_peek(int64_t *n_tokens, int32_t **ids, const char *path);

#endif
