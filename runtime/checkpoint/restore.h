/* Rows out of a checkpoint and into an attention. Private to runtime/checkpoint. */
#ifndef LUCID_RUNTIME_CHECKPOINT_RESTORE_H
#define LUCID_RUNTIME_CHECKPOINT_RESTORE_H

#include "runtime/checkpoint/catalogue.h"
#include "runtime/checkpoint/saver.h"

/* Has the next run start from the best sound blocks of the catalogue, and sets cursors (channels, n_tiles) to where all
 * ranks' rows are then. Final blocks are handed to the saver, which need not write them again. A block that is damaged
 * is named on stderr. After load. Errors: COMM, IO, MEMORY. Collective; agreed. */
lucid_status lucid_checkpoint_restore(lucid_cursor *cursors, lucid_saver *saver, const lucid_catalogue *catalogue);

#endif
