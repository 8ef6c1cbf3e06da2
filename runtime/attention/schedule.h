/* Schedules: which piece of work a rank does next, and which tile it sends and receives next, on one channel.
 *
 * A schedule is a function of cursors and knows no transport, kernel or clock, so that the tests can explore every
 * order in which messages arrive. Per local row tile i it keeps two cursors: key tiles below update_next are subtracted
 * (i + 1: the row is solved), key tiles below attend_next are in the softmax (i + 1: the row is finished). Row tiles
 * apply key tiles in ascending order only; that is what makes results independent of everything decided here.
 *
 * Tiles travel in one or two rounds. In the solve round each tile leaves its owner as soon as it is solved; with
 * `fused`, ranks do softmax work on it whenever the chain would let them wait. In the attend round tiles come (again)
 * for the softmax alone. Positions count the tiles of all rounds: position p is tile p % n_tiles in round p / n_tiles.
 * Every link carries its tiles in ascending order of position, and a rank gives window slots to its incoming tiles in
 * that order, oldest released first. So the ring cannot deadlock at any window: if rank r waits for a slot at its
 * successor, the tile at the successor's head is older than r's, and going round the ring would make a tile older than
 * itself.
 *
 * Memory: O(n_tiles) integers. All mutable state is one block of integers, so that a state can be copied and compared.
 */
#ifndef LUCID_RUNTIME_ATTENTION_SCHEDULE_H
#define LUCID_RUNTIME_ATTENTION_SCHEDULE_H

#include "runtime/attention/layout.h"

typedef struct {
    lucid_layout layout;
    int rank;
    bool solve;        /* values are preconditioned: a solve round comes first */
    bool fused;        /* softmax work may be done during the solve round */
    bool second_round; /* after the solve round, tiles come round again for the softmax */
    int window;        /* incoming tiles held at once, at least 1 */
    int range_max;     /* key tiles in one piece of work, at least 1 */
} lucid_schedule_config;

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

typedef struct {
    lucid_schedule_config config;
    int n_tiles, n_rows, n_positions;
    int *rows;              /* (n_rows) tile of each local row tile, ascending */
    int *row_of;            /* (n_tiles) its inverse, -1: not ours */
    int *hops, *reach;      /* (n_tiles) from the owner to here; to the last rank in need */
    signed char *direction; /* (n_tiles) */

    int *state; /* (n_state) everything below */
    int n_state;
    int *update_next, *attend_next;   /* (n_rows) cursors */
    int *update_until, *attend_until; /* (n_rows) end of the range being worked on, 0: none */
    int *slot_position;               /* (window) position held, -1: free */
    int *slot_flags;                  /* (window) */
    int *slot_of;                     /* (n_positions) slot where an arrived tile can be read, -1: not here */
    struct lucid_schedule_counters {
        int claimed, released; /* window slots given to incoming tiles so far, and taken back; oldest first */
        int next_incoming;     /* position of the next incoming tile without a slot */
        int next_send[2];      /* position of the next tile to send upwards, downwards */
        int sends_in_flight;
        int solved_rows; /* rows are solved in ascending order */
        int finished_rows;
    } * count;
} lucid_schedule;

/* Errors: MEMORY. */
lucid_status lucid_schedule_create(lucid_schedule **schedule, const lucid_schedule_config *config);
void lucid_schedule_destroy(lucid_schedule *schedule);
void lucid_schedule_reset(lucid_schedule *schedule); /* cursors to the start */

/* The next piece of the queue; the row is then busy until done is called. False when there is nothing to do now. */
bool lucid_schedule_next(lucid_schedule *schedule, lucid_queue queue, lucid_piece *piece);
void lucid_schedule_done(lucid_schedule *schedule, const lucid_piece *piece);

/* The next incoming tile, if a slot is free for it: the caller posts a receive into the slot. */
bool lucid_schedule_claim(lucid_schedule *schedule, lucid_transfer *transfer);
void lucid_schedule_received(lucid_schedule *schedule, const lucid_transfer *transfer);

/* The slot where a remote tile can be read, or -1. It stays there while a piece that reads it is not done. */
int lucid_schedule_slot(const lucid_schedule *schedule, int tile);

/* The next tile that can leave on the link: the caller posts its send. A caller that bounds its sends in flight bounds
 * them per link: one link's may be waiting for tiles that the other has yet to bring. */
bool lucid_schedule_send(lucid_schedule *schedule, int link, lucid_transfer *transfer);
void lucid_schedule_sent(lucid_schedule *schedule, const lucid_transfer *transfer);

/* All rows finished, all sends completed. */
bool lucid_schedule_finished(const lucid_schedule *schedule);

/* The tile that this rank waits for: the oldest claimed position that has not arrived, or -1. */
int lucid_schedule_awaited(const lucid_schedule *schedule);

#endif
