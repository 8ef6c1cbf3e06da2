/* Reading a cache's folder. Rank 0 reads the manifest for all; then each rank reads the pieces of its own tiles, from
 * whichever shards have them. */
#include "comm/messages.h"
#include "runtime/cache/folder.h"
#include "runtime/cache/pieces.h"
#include "runtime/files/checksum.h"
#include "runtime/files/read.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static lucid_status fail_io(const char *path) {
    return lucid_fail(LUCID_ERR_IO, "%s: %s", path, strerror(errno));
}

static lucid_status read_all(int fd, void *data, size_t n_bytes, int64_t offset, const char *path) {
    const int64_t n = lucid_read_fully(fd, data, (int64_t)n_bytes, offset);
    if (n < 0) return fail_io(path);
    return n == (int64_t)n_bytes ? LUCID_OK : lucid_fail(LUCID_ERR_INPUT, "%s: ends early", path);
}

static lucid_status file_bytes(int64_t *n_bytes, int fd, const char *path) {
    struct stat status;
    if (fstat(fd, &status)) return fail_io(path);
    if (!S_ISREG(status.st_mode)) return lucid_fail(LUCID_ERR_INPUT, "%s: is no file", path);
    *n_bytes = status.st_size;
    return LUCID_OK;
}

/* --- the manifest --- */

/* The checksum and the message behind it, for free. */
static lucid_status read_manifest(uint8_t **bytes, size_t *n_bytes, const char *path) {
    int64_t size = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return lucid_fail(LUCID_ERR_INPUT, "%s: %s: no saved cache", path, strerror(errno));
    lucid_status status = file_bytes(&size, fd, path);
    if (!status && (size < (int64_t)sizeof(uint64_t) || size > (int64_t)LUCID_CACHE_MAX_BYTES))
        status = lucid_fail(LUCID_ERR_INPUT, "%s: %" PRId64 " bytes are no manifest", path, size);
    *n_bytes = (size_t)size;
    *bytes = status ? NULL : malloc(*n_bytes);
    if (!status && !*bytes) status = lucid_fail(LUCID_ERR_MEMORY, "%s: no memory for %zu bytes", path, *n_bytes);
    if (!status) status = read_all(fd, *bytes, *n_bytes, 0, path);
    close(fd);
    return status;
}

static lucid_status unpack_manifest(lucid_cache_manifest *manifest, const uint8_t *bytes, size_t n_bytes,
                                    const char *path) {
    uint64_t checksum;
    memcpy(&checksum, bytes, sizeof checksum);
    bytes += sizeof checksum, n_bytes -= sizeof checksum;
    if (lucid_checksum(0, bytes, n_bytes) != checksum)
        return lucid_fail(LUCID_ERR_INPUT, "%s: does not match its checksum: damaged", path);
    return lucid_message_unpack_cache(manifest, bytes, n_bytes, path);
}

static lucid_status share_manifest(lucid_cache_manifest *manifest, lucid_comm *comm, const char *path) {
    uint8_t *bytes = NULL;
    size_t n_bytes = 0;
    lucid_status status = comm->rank == 0 ? read_manifest(&bytes, &n_bytes, path) : LUCID_OK;
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), free_bytes);
    LUCID_TRY_GOTO(lucid_comm_broadcast(comm, &n_bytes, sizeof n_bytes, 0), free_bytes);
    if (comm->rank && !(bytes = malloc(n_bytes)))
        status = lucid_fail(LUCID_ERR_MEMORY, "%s: no memory for %zu bytes", path, n_bytes);
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), free_bytes);
    LUCID_TRY_GOTO(lucid_comm_broadcast(comm, bytes, n_bytes, 0), free_bytes);
    status = lucid_comm_agree(comm, unpack_manifest(manifest, bytes, n_bytes, path));
free_bytes:
    free(bytes);
    return status;
}

/* --- whether it fits --- */

static lucid_status check_number(const char *path, const char *what, int64_t saved, int64_t wanted) {
    if (saved == wanted) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s: another model's cache: %s %" PRId64 ", not %" PRId64, path, what, saved,
                      wanted);
}

static lucid_status check_fit(const lucid_cache_manifest *m, const char *path, const char *fingerprint,
                              const lucid_cache_config *config) {
    static const char *const kinds[] = {[LUCID_ATTENTION_LUCID] = "lucid", [LUCID_ATTENTION_SOFTMAX] = "softmax"};
    static const char *const dtypes[] = {[LUCID_F32] = "fp32", [LUCID_BF16] = "bf16", [LUCID_F16] = "fp16"};
    LUCID_TRY(check_number(path, "layers", m->n_layers, config->n_layers));
    LUCID_TRY(check_number(path, "key-value heads", m->n_kv_heads, config->n_kv_heads));
    LUCID_TRY(check_number(path, "head_dim", m->head_dim, config->head_dim));
    LUCID_TRY(check_number(path, "value_dim", m->value_dim, config->value_dim));
    if (m->attention != (int)config->attention)
        return lucid_fail(LUCID_ERR_INPUT, "%s: another model's cache: its attention is %s, not %s", path,
                          kinds[m->attention], kinds[config->attention]);
    if (m->eps != (config->eps > 0 ? config->eps : 1e-5) || strcmp(m->fingerprint, fingerprint))
        return lucid_fail(LUCID_ERR_INPUT, "%s: another model's cache: made by '%s', this is '%s'", path,
                          m->fingerprint, fingerprint);
    if (m->dtype != (int)config->dtype)
        return lucid_fail(LUCID_ERR_INPUT, "%s: the cache is of %s, not %s", path, dtypes[m->dtype],
                          dtypes[config->dtype]);
    if (m->tokens > config->max_tokens)
        return lucid_fail(LUCID_ERR_USAGE, "%s: holds %" PRId64 " tokens, more than the %" PRId64 " to make room for",
                          path, m->tokens, config->max_tokens);
    return LUCID_OK;
}

/* --- shards --- */

static lucid_status read_piece(const lucid_cache *c, const lucid_cache_manifest *m, int layer, int64_t tile, int fd,
                               const char *path) {
    int64_t offset = lucid_piece_offset(c, layer, tile, m->n_shards);
    uint64_t checksum = 0;
    for (int b = 0; b < lucid_piece_blocks(c, tile); b++) {
        size_t n_bytes;
        char *block = lucid_piece_block(c, layer, tile, b, &n_bytes);
        LUCID_TRY(read_all(fd, block, n_bytes, offset, path));
        checksum = lucid_checksum(checksum, block, n_bytes);
        offset += (int64_t)n_bytes;
    }
    if (checksum == m->checksums[layer * m->n_tiles + tile]) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s: layer %d, tile %" PRId64 ": does not match its checksum: damaged", path,
                      layer, tile);
}

static lucid_status read_pieces(const lucid_cache *c, const lucid_cache_manifest *m, int shard, int fd,
                                const char *path) {
    int64_t n_bytes = 0;
    LUCID_TRY(file_bytes(&n_bytes, fd, path));
    if (n_bytes != lucid_shard_bytes(c, shard, m->n_shards))
        return lucid_fail(LUCID_ERR_INPUT, "%s: has %" PRId64 " bytes, not %" PRId64, path, n_bytes,
                          lucid_shard_bytes(c, shard, m->n_shards));
    for (int layer = 0; layer < c->config.n_layers; layer++)
        for (int64_t tile = shard; tile < m->n_tiles; tile += m->n_shards)
            if (tile % c->comm->world_size == c->comm->rank) LUCID_TRY(read_piece(c, m, layer, tile, fd, path));
    return LUCID_OK;
}

static lucid_status read_shard(const lucid_cache *c, const lucid_cache_manifest *m, int shard, const char *folder) {
    char *path = lucid_shard_path(folder, shard);
    if (!path) return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory to read it", folder);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    lucid_status status = fd < 0 ? fail_io(path) : read_pieces(c, m, shard, fd, path);
    if (fd >= 0) close(fd);
    free(path);
    return status;
}

/* Shards that have a tile of this rank. */
static lucid_status read_shards(const lucid_cache *c, const lucid_cache_manifest *m, const char *folder) {
    for (int shard = 0; shard < m->n_shards && shard < m->n_tiles; shard++) {
        bool needed = false;
        for (int64_t tile = shard; tile < m->n_tiles && !needed; tile += m->n_shards)
            needed = tile % c->comm->world_size == c->comm->rank;
        if (needed) LUCID_TRY(read_shard(c, m, shard, folder));
    }
    return LUCID_OK;
}

lucid_status lucid_cache_load(lucid_cache **cache, int32_t **ids, lucid_comm *comm, const char *path,
                              const char *fingerprint, const lucid_cache_config *config) {
    lucid_cache_manifest manifest = {0};
    lucid_cache_config wanted = *config;
    lucid_cache *c = NULL;
    char *name;
    lucid_status status = LUCID_OK;
    if (asprintf(&name, "%s/" LUCID_CACHE_MANIFEST, path) < 0) {
        name = NULL;
        status = lucid_fail(LUCID_ERR_MEMORY, "%s: no memory to read it", path);
    }
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), free_manifest);
    LUCID_TRY_GOTO(share_manifest(&manifest, comm, name), free_manifest);
    LUCID_TRY_GOTO(lucid_comm_agree(comm, check_fit(&manifest, path, fingerprint, config)), free_manifest);
    wanted.tile = manifest.tile;
    LUCID_TRY_GOTO(lucid_cache_create(&c, comm, &wanted), free_manifest);
    status = lucid_cache_append(c, manifest.tokens);
    if (!status) status = read_shards(c, &manifest, path);
    LUCID_TRY_GOTO(lucid_comm_conclude(comm, status), destroy_cache);
    *cache = c;
    *ids = manifest.token_ids;
    manifest.token_ids = NULL;
    goto free_manifest;
destroy_cache:
    lucid_cache_destroy(c);
free_manifest:
    lucid_cache_manifest_free(&manifest);
    free(name);
    return status;
}

lucid_status lucid_cache_peek(int64_t *n_tokens, int32_t **ids, const char *path) {
    lucid_cache_manifest manifest = {0};
    uint8_t *bytes = NULL;
    size_t n_bytes;
    char *name;
    if (asprintf(&name, "%s/" LUCID_CACHE_MANIFEST, path) < 0)
        return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory to read it", path);
    lucid_status status = read_manifest(&bytes, &n_bytes, name);
    if (!status) status = unpack_manifest(&manifest, bytes, n_bytes, name);
    if (!status) {
        *n_tokens = manifest.tokens;
        *ids = manifest.token_ids;
        manifest.token_ids = NULL;
    }
    lucid_cache_manifest_free(&manifest);
    free(bytes);
    free(name);
    return status;
}
