/* A row tile's values or softmax states as plain bytes. Private to runtime/checkpoint.
 *
 * Bytes of a row of a channel, fp32, granules ascending:
 *   VALUES  (n_sequences, granules, 64, value_ld)
 *   STATES  (n_sequences, group, granules) states as kernels.h has them
 */
#ifndef LUCID_RUNTIME_CHECKPOINT_ROWS_H
#define LUCID_RUNTIME_CHECKPOINT_ROWS_H

#include "runtime/attention/attention.h"
#include "runtime/attention/snapshot.h"
#include "runtime/checkpoint/manifest.h"

size_t lucid_row_bytes(const lucid_attention *attention, lucid_block_kind kind, int channel, int tile);

/* The greatest of all rows and of both kinds. */
size_t lucid_row_bytes_max(const lucid_attention *attention);

/* Out of the attention's memory, and into it. Local. */
void lucid_row_copy(void *bytes, const lucid_row *row, lucid_block_kind kind);
void lucid_row_fill(const lucid_row *row, lucid_block_kind kind, const void *bytes);

/* The kind's cursor. */
static inline int lucid_row_cursor(lucid_cursor cursor, lucid_block_kind kind) {
    return kind == LUCID_BLOCK_VALUES ? cursor.update_next : cursor.attend_next;
}

/* A row's number in snapshots, and its tile. */
static inline int lucid_row_index(const lucid_attention *a, int channel, int tile) {
    return channel * a->n_rows + a->channels[channel].schedule->row_of[tile];
}
static inline int lucid_row_channel(const lucid_attention *a, int index) {
    return index / a->n_rows;
}
static inline int lucid_row_tile(const lucid_attention *a, int index) {
    return a->channels[index / a->n_rows].schedule->rows[index % a->n_rows];
}

#endif
