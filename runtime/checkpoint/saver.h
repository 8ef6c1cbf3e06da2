/* Writes one rank's share of a checkpoint, generation after generation. Private to runtime/checkpoint.
 *
 * Memory: one row of each kind, and a table of blocks. Files: final blocks once; of the others the last two
 * generations, and a third while it is being written.
 */
#ifndef LUCID_RUNTIME_CHECKPOINT_SAVER_H
#define LUCID_RUNTIME_CHECKPOINT_SAVER_H

#include "runtime/checkpoint/catalogue.h"
#include "runtime/checkpoint/rows.h"

typedef struct {
    lucid_attention *attention;
    const lucid_folder *folder;
    char job[64];
    int rank;
    lucid_manifest manifest; /* of the generation: identity, names of files, blocks */
    int64_t blocks_capacity, files_capacity;
    lucid_manifest_block *finals; /* (kinds, rows) cursor 0: not written yet */
    int generation;               /* the last that is complete, 0: none */
    int tiles_fd;                 /* -1: not created yet */
    uint64_t tiles_bytes;         /* that complete generations hold */
    char *row[LUCID_N_BLOCK_KINDS];
    double bytes_written;
} lucid_saver;

/* identity: what manifests begin with. Errors: MEMORY. Local. */
lucid_status lucid_saver_open(lucid_saver *saver, lucid_attention *attention, const lucid_folder *folder,
                              const char *job, const lucid_manifest *identity);
void lucid_saver_close(lucid_saver *saver); /* leaves the files; fine on a zeroed one */

/* Takes over a final block of an earlier run from the file it is in. Errors: MEMORY. Local. */
lucid_status lucid_saver_adopt(lucid_saver *saver, const lucid_candidate *candidate);

/* Writes a generation. After an error the one before it stands, and the next call tries again. Errors: IO, MEMORY.
 * Local. */
lucid_status lucid_saver_save(lucid_saver *saver);

#endif
