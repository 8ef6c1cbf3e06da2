/* Layouts: which rank owns which tile, as pure functions.
 *
 * A layout cuts the tiles 0..n_tiles-1 into runs of equal length (to within one tile) and deals the runs to ranks. A
 * finished tile travels round the ring of ranks from its owner towards the owner of the next run, so that whoever needs
 * it first has it after one hop: upwards in contiguous and cyclic layouts, upwards and then downwards in zigzag, whose
 * second half is dealt in reverse. It stops at the last rank that has a row after it.
 *
 * Reversed, tiles are numbered from the sequence's end: tile t is what tile n_tiles - 1 - t was, with its owner, and
 * travels the other way. Back substitution, in which a tile needs those behind it, is forward substitution there.
 */
#ifndef LUCID_RUNTIME_ATTENTION_LAYOUT_H
#define LUCID_RUNTIME_ATTENTION_LAYOUT_H

#include "runtime/lucid.h"

typedef struct {
    lucid_layout_kind kind; /* not AUTO */
    int world_size;
    int n_tiles;
    bool reversed;
} lucid_layout;

int lucid_layout_owner(const lucid_layout *layout, int tile);

/* +1 or -1: the tile's next hop is rank + direction, modulo world_size. */
int lucid_layout_direction(const lucid_layout *layout, int tile);

/* Hops from the tile's owner to rank along the tile's direction, 0..world_size-1. */
int lucid_layout_hops(const lucid_layout *layout, int tile, int rank);

/* Hops after which no rank needs the tile any more, where rows before first_row are done; 0 when none but the owner has
 * a row after it that is not. */
int lucid_layout_reach(const lucid_layout *layout, int tile, int first_row);

/* Number of the rank's tiles, and the last of them (-1 when it has none). */
int lucid_layout_count(const lucid_layout *layout, int rank);
int lucid_layout_last(const lucid_layout *layout, int rank);

const char *lucid_layout_name(lucid_layout_kind kind);
const char *lucid_schedule_name(lucid_schedule_kind kind);

#endif
