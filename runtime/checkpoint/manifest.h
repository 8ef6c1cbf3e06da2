/* What a checkpoint is. Each rank has its own files in the checkpoint's folder and its own manifest, which names, for
 * its row tiles, blocks of bytes in those files:
 *   VALUES  the row's values with the key tiles below the cursor subtracted; cursor = tile + 1: Y, which is final
 *   STATES  the row's softmax states with the key tiles below the cursor added; cursor = tile + 1: final
 * A block is the bytes that lucid_row_copy gives out, with a checksum. Final blocks are appended to one file and
 * written once; the others go to a new file in each generation. A manifest is renamed into place after all it names is
 * on disk, and the generation before it is kept until then.
 *
 * A row's bytes depend on its cursors and on earlier rows' final bytes alone, so any set of blocks is consistent,
 * whatever ranks and moments they come from: for each row tile whoever resumes takes the block with the largest
 * cursor that is sound, and none where there is none. So ranks write without waiting for each other, a resumed run may
 * have other ranks, and what is damaged costs time and not the result.
 *
 * A manifest's bytes are a message (comm/message_manifest.h) and its checksum.
 */
#ifndef LUCID_RUNTIME_CHECKPOINT_MANIFEST_H
#define LUCID_RUNTIME_CHECKPOINT_MANIFEST_H

#include "comm/message_manifest.h"
#include "runtime/lucid.h"

typedef enum { LUCID_BLOCK_VALUES, LUCID_BLOCK_STATES, LUCID_N_BLOCK_KINDS } lucid_block_kind;

/* What identifies a job: two manifests that agree in it are of one computation. Files and blocks are left empty. */
lucid_manifest lucid_manifest_make(const lucid_problem *problem, const char *isa, int64_t tile, int channels);

/* *bytes (*n_bytes) is to be freed. Errors: MEMORY; USAGE where it is too large. Pure. */
lucid_status lucid_manifest_encode(uint8_t **bytes, size_t *n_bytes, const lucid_manifest *manifest);

/* Trusts nothing: checksum, message, and every number's range. name is for the line. Errors: INPUT, MEMORY. Pure. */
lucid_status lucid_manifest_decode(lucid_manifest *manifest, const uint8_t *bytes, size_t n_bytes, const char *name);

/* Is the manifest one of the problem? The input's identity is not compared, it is known later. Errors: INPUT naming
 * what differs. Pure. */
lucid_status lucid_manifest_match(const lucid_manifest *manifest, const lucid_problem *problem, const char *name);

#endif
