/* Snapshots: an attention run's rows taken one by one while it goes on, and put back into a later run.
 *
 * A snapshot of a row tile says: after the key tiles below update_next its values are these, after the key tiles below
 * attend_next its softmax states are those. Rows apply key tiles in ascending order and their bits depend on nothing
 * else, so this is a statement about the inputs alone. It stays true whatever happens later, and rows taken at
 * different moments, on different ranks, even in different runs of the same problem are true together. A resumed run
 * needs no more: a row that has applied a tile never asks for it again, and one that lacks it gets it from the tile's
 * owner, who has it solved or solves it again, to the same bits. Rows without a snapshot start at zero.
 *
 * What a later run must share is the problem, its inputs, the kernel set, plan.tile and plan.channels; world size,
 * layout, schedule, threads and transport are free. Rows of all channels are numbered together, 0..n - 1.
 *
 * To take them while a run goes on, use the options' hook, or a thread of one's own that the hook started: begin and
 * end may be called from any thread from the first call of the hook until the attention is loaded anew, run again or
 * destroyed; so also after a run that its hook stopped, when all rows are at rest.
 */
#ifndef LUCID_RUNTIME_ATTENTION_SNAPSHOT_H
#define LUCID_RUNTIME_ATTENTION_SNAPSHOT_H

#include "runtime/attention/schedule.h"

typedef struct {
    int channel, tile;
    lucid_cursor cursor;
    bool final;           /* the values will not change any more: update_next is tile + 1 */
    bool has_values;      /* else they are V as it was loaded */
    bool has_states;      /* else there are none yet */
    int n_sequences;      /* (batch, kv head) pairs of the channel */
    int group;            /* query heads of each */
    int n_granules;       /* that hold tokens */
    size_t values_floats; /* (64, value_ld) */
    size_t state_floats;  /* a softmax state as in kernels.h */

    /* Where they lie: see below. */
    float *records, *states;
    size_t record_floats;
    int granules_per_tile;
} lucid_row;

/* values_floats of a granule of a sequence; state_floats of a granule of a query head of a sequence. */
static inline float *lucid_row_values(const lucid_row *row, int sequence, int granule) {
    size_t record = (size_t)sequence * row->granules_per_tile + granule;
    return row->records + (record + 1) * row->record_floats - row->values_floats;
}
static inline float *lucid_row_state(const lucid_row *row, int sequence, int head, int granule) {
    size_t state = ((size_t)sequence * row->group + head) * row->granules_per_tile + granule;
    return row->states + state * row->state_floats;
}

/* Rows of this rank. Local. */
int lucid_snapshot_rows(const lucid_attention *attention);

/* Stops work on a row and describes it. False while a thread still works on it: nothing new is begun on it then, so try
 * again soon. Between true and end nobody writes to the row, and it may be read without a lock; the run goes on with
 * other rows, but peers may come to wait for this one, so do not hold it for long. Final values never change: they may
 * be read after end, too. Local; each row by one thread at a time. */
bool lucid_snapshot_begin(lucid_attention *attention, int index, lucid_row *row);
void lucid_snapshot_end(lucid_attention *attention, int index); /* also to give up after false */

/* Puts a row's values (where has_values) and states (where has_states) in place. */
typedef lucid_status (*lucid_row_reader)(void *context, const lucid_row *row);

/* The next run starts from these cursors (plan.channels, plan.n_tiles), the same on every rank. All of Q, K and V must
 * have been loaded before; then read is called for each of this rank's rows that has something. Loading again undoes
 * it. Errors: INPUT for cursors that are impossible or differ between ranks; UNSUPPORTED on top of a cache; what read
 * returns. Collective. */
lucid_status lucid_attention_resume(lucid_attention *attention, const lucid_cursor *cursors, lucid_row_reader read,
                                    void *context);

#endif
