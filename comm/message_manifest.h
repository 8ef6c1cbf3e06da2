/* What one rank's files of a checkpoint hold, as a plain structure and as bytes. messages.h says how messages are
 * trusted; runtime/checkpoint/manifest.h says what this one means. All functions are Local. */
#ifndef LUCID_MESSAGE_MANIFEST_H
#define LUCID_MESSAGE_MANIFEST_H

#include "comm/comm.h"

#define LUCID_MANIFEST_MAX_BYTES  ((size_t)96 << 20)
#define LUCID_MANIFEST_MAX_BLOCKS 1000000 /* always fit */
#define LUCID_MANIFEST_MAX_FILES  4096
#define LUCID_MANIFEST_MAX_NAME   128 /* of a file, its NUL included */

/* A run of bytes in a file of a checkpoint: a row tile's values or softmax states. */
typedef struct {
    int kind; /* lucid_block_kind */
    int channel, tile, cursor;
    int file; /* index into the manifest's files */
    uint64_t offset, n_bytes;
    uint64_t checksum; /* of the bytes */
} lucid_manifest_block;

/* What one rank's files of a checkpoint hold; runtime/checkpoint/manifest.h says what it means. */
typedef struct {
    int attention; /* lucid_attention_kind */
    int64_t seqlen;
    int batch, n_heads, n_kv_heads, head_dim, value_dim;
    double softmax_scale, eps;
    char isa[16];
    int64_t tile;
    int channels;
    uint64_t input; /* identifies q, k and v */
    int rank, world_size;
    char (*files)[LUCID_MANIFEST_MAX_NAME]; /* (n_files) names in the checkpoint's folder */
    int64_t n_files;
    lucid_manifest_block *blocks; /* (n_blocks) */
    int64_t n_blocks;
} lucid_manifest;

/* *bytes (*n_bytes) is to be freed. Errors: USAGE where a text is no UTF-8 or there is too much of something, MEMORY.
 */
lucid_status lucid_message_pack_manifest(uint8_t **bytes, size_t *n_bytes, const lucid_manifest *manifest);

/* *manifest is to be freed, and set on success only. name: the file that the bytes are from. Errors: INPUT, MEMORY. */
lucid_status lucid_message_unpack_manifest(lucid_manifest *manifest, const uint8_t *bytes, size_t n_bytes,
                                           const char *name);
void lucid_manifest_free(lucid_manifest *manifest); /* fine on a zeroed one */

#endif
