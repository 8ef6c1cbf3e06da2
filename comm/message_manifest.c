#include "comm/message_manifest.h"

#include "comm/envelope.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
#define BLOCK_NUMBERS(X) X(kind) X(channel) X(tile) X(cursor) X(file) X(offset) X(n_bytes) X(checksum)
#define MANIFEST_NUMBERS(X)                                                                                            \
    X(attention) X(seqlen) X(batch) X(n_heads) X(n_kv_heads) X(head_dim) X(value_dim) X(softmax_scale) X(eps) X(tile)  \
    X(channels) X(input) X(rank) X(world_size)
/* clang-format on */

#define COPY_NUMBER(member) to->member = from->member;

static const lucid_message_kind manifest_kind = {LUCID__ENVELOPE__BODY_MANIFEST, "manifest", LUCID_MANIFEST_MAX_BYTES};
static const lucid_origin own = {"manifest", LUCID_ERR_USAGE};

static lucid_status check_counts(int64_t n_files, int64_t n_blocks, lucid_origin origin) {
    if (n_files >= 0 && n_files <= LUCID_MANIFEST_MAX_FILES && n_blocks >= 0 && n_blocks <= LUCID_MANIFEST_MAX_BLOCKS)
        return LUCID_OK;
    return lucid_fail(origin.failure, "%s: %" PRId64 " blocks in %" PRId64 " files, more than %d in %d", origin.name,
                      n_blocks, n_files, LUCID_MANIFEST_MAX_BLOCKS, LUCID_MANIFEST_MAX_FILES);
}

static void put_block(Lucid__Block *to, const lucid_manifest_block *from) {
    lucid__block__init(to);
    BLOCK_NUMBERS(COPY_NUMBER)
}

static lucid_status put_manifest(Lucid__Manifest *to, Lucid__Block *blocks, const lucid_manifest *from) {
    MANIFEST_NUMBERS(COPY_NUMBER)
    LUCID_TRY(lucid_text_put(&to->isa, from->isa, sizeof from->isa, "isa"));
    to->n_files = (size_t)from->n_files;
    for (size_t i = 0; i < to->n_files; i++)
        LUCID_TRY(lucid_text_put(&to->files[i], from->files[i], sizeof from->files[i], "file"));
    to->n_blocks = (size_t)from->n_blocks;
    for (size_t i = 0; i < to->n_blocks; i++) {
        put_block(&blocks[i], &from->blocks[i]);
        to->blocks[i] = &blocks[i];
    }
    return lucid_message_check(&to->base, own);
}

lucid_status lucid_message_pack_manifest(uint8_t **bytes, size_t *n_bytes, const lucid_manifest *manifest) {
    Lucid__Manifest body = LUCID__MANIFEST__INIT;
    lucid_status status;
    LUCID_TRY(check_counts(manifest->n_files, manifest->n_blocks, own));
    const size_t n_blocks = (size_t)manifest->n_blocks;
    Lucid__Block *blocks = malloc((n_blocks + 1) * sizeof *blocks);
    body.blocks = malloc((n_blocks + 1) * sizeof *body.blocks);
    body.files = malloc(((size_t)manifest->n_files + 1) * sizeof *body.files);
    if (!blocks || !body.blocks || !body.files) {
        status = lucid_fail(LUCID_ERR_MEMORY, "no memory for a manifest of %zu blocks", n_blocks);
        goto free_blocks;
    }
    LUCID_TRY_GOTO(put_manifest(&body, blocks, manifest), free_blocks);
    status = lucid_envelope_pack(bytes, n_bytes, &manifest_kind, &body.base);
free_blocks:
    free(body.files);
    free(body.blocks);
    free(blocks);
    return status;
}

static void get_block(lucid_manifest_block *to, const Lucid__Block *from) {
    BLOCK_NUMBERS(COPY_NUMBER)
}

static lucid_status get_manifest(void *manifest, const ProtobufCMessage *body, lucid_origin origin) {
    lucid_manifest *to = manifest;
    const Lucid__Manifest *from = (const Lucid__Manifest *)body;
    MANIFEST_NUMBERS(COPY_NUMBER)
    LUCID_TRY(lucid_text_get(to->isa, sizeof to->isa, &from->isa, "isa", origin));
    to->n_files = (int64_t)from->n_files;
    to->n_blocks = (int64_t)from->n_blocks;
    LUCID_TRY(check_counts(to->n_files, to->n_blocks, origin));
    to->files = calloc(from->n_files + 1, sizeof *to->files);
    to->blocks = calloc(from->n_blocks + 1, sizeof *to->blocks);
    if (!to->files || !to->blocks)
        return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory for %zu blocks", origin.name, from->n_blocks);
    for (size_t i = 0; i < from->n_files; i++)
        LUCID_TRY(lucid_text_get(to->files[i], sizeof to->files[i], &from->files[i], "file", origin));
    for (size_t i = 0; i < from->n_blocks; i++) get_block(&to->blocks[i], from->blocks[i]);
    return LUCID_OK;
}

lucid_status lucid_message_unpack_manifest(lucid_manifest *manifest, const uint8_t *bytes, size_t n_bytes,
                                           const char *name) {
    const lucid_origin origin = {name, LUCID_ERR_INPUT};
    lucid_manifest copy = {0};
    const lucid_status status = lucid_envelope_unpack(&copy, get_manifest, bytes, n_bytes, &manifest_kind, origin);
    if (status)
        lucid_manifest_free(&copy);
    else
        *manifest = copy;
    return status;
}

void lucid_manifest_free(lucid_manifest *manifest) {
    free(manifest->files);
    free(manifest->blocks);
    *manifest = (lucid_manifest){0};
}
