/* The manifest of a saved cache to bytes and back. */
#include "comm/envelope.h"
#include "comm/messages.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
#define CACHE_NUMBERS(X)                                                                                               \
    X(attention) X(dtype) X(n_layers) X(n_kv_heads) X(head_dim) X(value_dim) X(eps) X(tile) X(tokens) X(n_shards)
/* clang-format on */

#define COPY_NUMBER(member) to->member = from->member;
#define CACHE_DIM_MAX       256
#define CACHE_TILE_MAX      (1 << 24)

static const lucid_message_kind cache_kind = {LUCID__ENVELOPE__BODY_CACHE_MANIFEST, "cache's manifest",
                                              LUCID_CACHE_MAX_BYTES};

/* Everything that sizes are computed from. */
static lucid_status check_numbers(const Lucid__CacheManifest *m, lucid_origin origin) {
    const bool possible = m->n_layers > 0 && m->n_kv_heads > 0 && m->head_dim > 0 && m->head_dim <= CACHE_DIM_MAX &&
                          m->value_dim > 0 && m->value_dim <= CACHE_DIM_MAX && m->eps > 0 && m->n_shards > 0 &&
                          m->tile > 0 && m->tile % 64 == 0 && m->tile <= CACHE_TILE_MAX && m->tokens >= 0;
    if (!possible) return lucid_fail(origin.failure, "%s: its numbers are those of no cache", origin.name);
    const uint64_t n_tiles = ((uint64_t)m->tokens + (uint64_t)m->tile - 1) / (uint64_t)m->tile;
    if (m->n_token_ids != (uint64_t)m->tokens)
        return lucid_fail(origin.failure, "%s: %zu token ids of %" PRId64 " tokens", origin.name, m->n_token_ids,
                          m->tokens);
    if (m->n_checksums / (size_t)m->n_layers != n_tiles || m->n_checksums % (size_t)m->n_layers)
        return lucid_fail(origin.failure, "%s: %zu checksums of %d layers and %" PRIu64 " tiles", origin.name,
                          m->n_checksums, m->n_layers, n_tiles);
    return LUCID_OK;
}

static lucid_status put_cache(Lucid__CacheManifest *to, const lucid_cache_manifest *from) {
    const lucid_origin own = {"message", LUCID_ERR_USAGE};
    CACHE_NUMBERS(COPY_NUMBER)
    LUCID_TRY(lucid_text_put(&to->fingerprint, from->fingerprint, sizeof from->fingerprint, "fingerprint"));
    to->n_token_ids = (size_t)from->tokens;
    to->token_ids = from->token_ids;
    to->n_checksums = (size_t)from->n_layers * (size_t)from->n_tiles;
    to->checksums = from->checksums;
    LUCID_TRY(lucid_message_check(&to->base, own));
    return check_numbers(to, own);
}

lucid_status lucid_message_pack_cache(uint8_t **bytes, size_t *n_bytes, const lucid_cache_manifest *manifest) {
    Lucid__CacheManifest body = LUCID__CACHE_MANIFEST__INIT;
    LUCID_TRY(put_cache(&body, manifest));
    return lucid_envelope_pack(bytes, n_bytes, &cache_kind, &body.base);
}

static lucid_status get_cache(void *manifest, const ProtobufCMessage *body, lucid_origin origin) {
    lucid_cache_manifest *to = manifest;
    const Lucid__CacheManifest *from = (const Lucid__CacheManifest *)body;
    CACHE_NUMBERS(COPY_NUMBER)
    LUCID_TRY(check_numbers(from, origin));
    LUCID_TRY(lucid_text_get(to->fingerprint, sizeof to->fingerprint, &from->fingerprint, "fingerprint", origin));
    to->n_tiles = (int64_t)(from->n_checksums / (size_t)from->n_layers);
    to->token_ids = malloc((from->n_token_ids + 1) * sizeof *to->token_ids);
    to->checksums = malloc((from->n_checksums + 1) * sizeof *to->checksums);
    if (!to->token_ids || !to->checksums)
        return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory for %" PRId64 " tokens", origin.name, from->tokens);
    if (from->n_token_ids) memcpy(to->token_ids, from->token_ids, from->n_token_ids * sizeof *to->token_ids);
    if (from->n_checksums) memcpy(to->checksums, from->checksums, from->n_checksums * sizeof *to->checksums);
    return LUCID_OK;
}

lucid_status lucid_message_unpack_cache(lucid_cache_manifest *manifest, const uint8_t *bytes, size_t n_bytes,
                                        const char *path) {
    const lucid_origin origin = {path, LUCID_ERR_INPUT};
    lucid_cache_manifest copy = {0};
    const lucid_status status = lucid_envelope_unpack(&copy, get_cache, bytes, n_bytes, &cache_kind, origin);
    if (status)
        lucid_cache_manifest_free(&copy);
    else
        *manifest = copy;
    return status;
}

void lucid_cache_manifest_free(lucid_cache_manifest *manifest) {
    free(manifest->token_ids);
    free(manifest->checksums);
    *manifest = (lucid_cache_manifest){0};
}
