/* All ranks of a schedule in one process, on a made-up clock: a discrete-event simulation with one thread a rank and
 * links that carry one tile at a time. With costs of nothing it is a sequential run in some fair order.
 *
 * It watches what it runs: pieces follow each other without a gap and read tiles that are there, links deliver what
 * their receivers claimed, claims ascend, and in the end every row is complete and every rank has had exactly the tiles
 * that it or a later hop needs in that round, once. */
#ifndef LUCID_TESTS_SCHEDULE_SIMULATION_H
#define LUCID_TESTS_SCHEDULE_SIMULATION_H

#include "runtime/attention/schedule.h"

typedef struct {
    lucid_schedule_config schedule; /* rank is filled in */
    const lucid_cursor *cursors;    /* (n_tiles) where rows start; NULL: at zero */
    double update, attend;          /* time of a key tile; the row's own tile takes half of it */
    double hop;                     /* time of a tile on a link */
    uint64_t jitter;                /* seed; not 0: pieces and hops take 0..2 times as long, at random */
} simulation;

typedef struct {
    double makespan, work; /* until all ranks have finished; summed over the ranks */
    char fault[200];       /* the first broken rule, "" when there was none */
} simulation_result;

simulation_result simulation_run(const simulation *simulation);

#endif
