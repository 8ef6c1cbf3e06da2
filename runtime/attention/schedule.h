/* Schedules: which piece of work a rank does next, and which tile it sends and receives next, on one channel.
 *
 * A schedule is a function of cursors and knows no transport, kernel or clock, so that the tests can explore every
 * order in which messages arrive. Per row tile i there are two cursors: key tiles below update_next are subtracted
 * (i + 1: the row is solved), key tiles below attend_next are in the softmax (i + 1: the row is finished). Row tiles
 * apply key tiles in ascending order only; that is what makes results independent of everything decided here. A fresh
 * start, a chunk of new tokens on top of cached ones and a resumed run differ in their first cursors alone.
 *
 * Tiles travel in one round or two. With `fused` there is one: a tile leaves its owner as soon as it is solved, and
 * ranks do softmax work on it whenever the chain would let them wait. Otherwise the first round serves the solve alone,
 * and all tiles come round again for the softmax. Positions count the tiles of all rounds: position p is tile
 * p % n_tiles in round p / n_tiles. In each round a tile travels as far as the last rank with a row whose cursors at
 * the start still lay before it, which all ranks know, since all are given the same cursors.
 *
 * It cannot deadlock, at any window and from any cursors: every link carries its tiles in ascending order of position,
 * and a rank gives window slots to its incoming tiles in that order, oldest released first, so whatever stands still
 * waits for something at a smaller position, and that cannot go on for ever. Of position p,
 *   - a receive waits for the sender, who waits for the tile (next line) or for a smaller position on the same link;
 *   - a tile not yet at its sender is on its way there, waits there for a slot, all of which hold smaller positions, or
 *     is unsolved;
 *   - an unsolved row, the rank's first, lacks a tile before it: a smaller position; nothing is lacking of the rank's
 *     own tiles, which are solved, nor of what it had applied when it started;
 *   - a send waits for its receive: the receiver's slots all hold smaller positions;
 *   - an arrived tile waits for its rows to apply it: they lack a tile before it, as above. In the last of two rounds
 *     they also wait for the rank's solve, which lacks tiles of the first.
 * Nor do the schedules of the backward pass: `onward`, what a row lacks is still a smaller position than the one that
 * waits for it; `in_step`, the first row that lacks something waits for nobody; and `after`, one schedule waits for
 * another that does not wait for it.
 *
 * Memory: O(n_tiles) integers. All mutable state is one block of integers, so that a state can be copied and compared.
 */
#ifndef LUCID_RUNTIME_ATTENTION_SCHEDULE_H
#define LUCID_RUNTIME_ATTENTION_SCHEDULE_H

#include "runtime/attention/layout.h"

typedef struct {
    lucid_layout layout;
    int rank;
    bool solve;    /* values are preconditioned */
    bool fused;    /* one round serves the solve and the softmax; else each has its own */
    int window;    /* incoming tiles held at once, at least 1 */
    int range_max; /* key tiles in one piece of work, at least 1 */

    /* Of the backward pass. */
    bool no_attend; /* the solve is all; fused, for one round */
    bool onward;    /* without `solve`: rows take their own tile and those after it, not those before it */
    bool in_step;   /* one rank: a row takes no tile that the row before it has not taken, so that a tile too is at work
                       with one row at a time, in ascending order */
    const struct lucid_schedule
        *after; /* of the same layout: softmax work waits until the row is solved there; or NULL */
} lucid_schedule_config;

/* How far a row tile is. Legal: both in 0..tile + 1, and a finished row is solved. Without `solve`, update_next counts
 * for nothing: values are what they shall be. */
typedef struct {
    int update_next, attend_next;
} lucid_cursor;

typedef enum { LUCID_PIECE_UPDATE, LUCID_PIECE_SOLVE, LUCID_PIECE_ATTEND } lucid_piece_kind;

/* Work on one local row tile: key tiles first..last-1. SOLVE: the row's own tile. */
typedef struct {
    lucid_piece_kind kind;
    int row; /* local index */
    int first, last;
} lucid_piece;

/* CHAIN: what other ranks wait for. BULK: everything else. */
typedef enum { LUCID_QUEUE_CHAIN, LUCID_QUEUE_BULK } lucid_queue;

/* A tile on its way between this rank and a neighbour. */
typedef struct {
    int position, tile, peer;
    int link; /* 0: upwards round the ring, 1: downwards; between two ranks these are two different links */
    int slot; /* window slot it is read from or written to, -1: the rank's own tile */
} lucid_transfer;

typedef struct lucid_schedule {
    lucid_schedule_config config;
    int n_tiles, n_rows, n_positions;
    int *rows;              /* (n_rows) tile of each local row tile, ascending */
    int *row_of;            /* (n_tiles) its inverse, -1: not ours */
    int *hops;              /* (n_tiles) from the owner to here */
    int *reach;             /* (n_positions) from the owner to the last rank in need, in this round */
    int *least;             /* (world_size) scratch */
    signed char *direction; /* (n_tiles) */

    int *state; /* (n_state) everything below */
    int n_state;
    int *update_next, *attend_next;   /* (n_rows) cursors */
    int *update_until, *attend_until; /* (n_rows) end of the range being worked on, 0: none */
    int *paused;                      /* (n_rows) not to be worked on */
    int *slot_position;               /* (window) position held, -1: free */
    int *slot_flags;                  /* (window) */
    int *slot_of;                     /* (n_positions) slot where an arrived tile can be read, -1: not here */
    struct lucid_schedule_counters {
        int claimed, released; /* window slots given to incoming tiles so far, and taken back; oldest first */
        int next_incoming;     /* position of the next incoming tile without a slot */
        int next_send[2];      /* position of the next tile to send upwards, downwards */
        int sends_in_flight;
        int solved_rows, finished_rows; /* all local rows before it are */
    } * count;
} lucid_schedule;

/* Errors: MEMORY. */
lucid_status lucid_schedule_create(lucid_schedule **schedule, const lucid_schedule_config *config);
void lucid_schedule_destroy(lucid_schedule *schedule);

/* Back to the start: at these cursors (n_tiles, of all ranks' rows, legal, the same on every rank), or with NULL at
 * zero as create does. */
void lucid_schedule_start(lucid_schedule *schedule, const lucid_cursor *cursors);

/* May a row of this tile start there? */
bool lucid_cursor_legal(lucid_cursor cursor, int tile);

/* The next piece of the queue; the row is then busy until done is called. False when there is nothing to do now. */
bool lucid_schedule_next(lucid_schedule *schedule, lucid_queue queue, lucid_piece *piece);
void lucid_schedule_done(lucid_schedule *schedule, const lucid_piece *piece);

/* From now on no piece of the row is given out. True when none is under way: then the cursor tells where it stands. */
bool lucid_schedule_pause(lucid_schedule *schedule, int row, lucid_cursor *cursor);
void lucid_schedule_unpause(lucid_schedule *schedule, int row);

/* The next incoming tile, if a slot is free for it: the caller posts a receive into the slot. */
bool lucid_schedule_claim(lucid_schedule *schedule, lucid_transfer *transfer);
void lucid_schedule_received(lucid_schedule *schedule, const lucid_transfer *transfer);

/* The slot where a piece of this kind can read a remote tile, or -1. It stays there until the piece is done. */
int lucid_schedule_slot(const lucid_schedule *schedule, lucid_piece_kind kind, int tile);

/* The next tile that can leave on the link: the caller posts its send. A caller that bounds its sends in flight bounds
 * them per link: one link's may be waiting for tiles that the other has yet to bring. */
bool lucid_schedule_send(lucid_schedule *schedule, int link, lucid_transfer *transfer);
void lucid_schedule_sent(lucid_schedule *schedule, const lucid_transfer *transfer);

/* All rows finished, all sends completed. */
bool lucid_schedule_finished(const lucid_schedule *schedule);

/* The tile that this rank waits for: the oldest claimed position that has not arrived, or -1. */
int lucid_schedule_awaited(const lucid_schedule *schedule);

#endif
