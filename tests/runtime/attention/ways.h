/* The ways in which work is shared out, none of which may change a bit: all ranks, and each rank alone over `self`;
 * layouts, schedules, tiles, budgets, channels and threads. */
#ifndef LUCID_TESTS_ATTENTION_WAYS_H
#define LUCID_TESTS_ATTENTION_WAYS_H

#include "runtime/lucid.h"
#include "tests/comm/worlds.h"

#include <string.h>

static lucid_comm *comm, *alone;

/* Stops the test where going on would only hang the other ranks. */
static inline void must(lucid_status status, const char *what) {
    if (!status) return;
    fprintf(stderr, "%s: %s\n", what, lucid_failure());
    exit(1);
}

/* seen (n_rows): each row is stored by exactly one rank. Collective. */
static inline void check_coverage(const unsigned char *seen, size_t n_rows, const char *what) {
    double stored = 0;
    for (size_t row = 0; row < n_rows; row++) stored += seen[row];
    must(lucid_comm_allreduce(comm, &stored, 1, LUCID_SUM), what);
    CHECK(stored == (double)n_rows, "%s: %g of %zu rows stored", what, stored, n_rows);
}

typedef void (*ways_run)(const void *want, const lucid_options *options, const char *what);

/* Runs each `every`th combination. granule_bytes: what 64 remote tokens take; budgets are of one tile, of three, and
 * plenty. */
static inline void ways_each(ways_run run, const void *want, size_t granule_bytes, int every) {
    int n = 0;
    for (int layout = LUCID_LAYOUT_CONTIGUOUS; layout <= LUCID_LAYOUT_CYCLIC; layout++)
        for (int schedule = LUCID_SCHEDULE_PIPELINED; schedule <= LUCID_SCHEDULE_FUSED; schedule++)
            for (int tile = 64; tile <= 192; tile += 64)
                for (int budget = 0; budget < 3; budget++, n++) {
                    static const size_t tiles[] = {0, 1, 3};
                    char what[200];
                    if (n % every) continue;
                    lucid_options o = {.layout = (lucid_layout_kind)layout,
                                       .schedule = (lucid_schedule_kind)schedule,
                                       .tile = tile,
                                       .timeout = 60,
                                       .memory_budget = tiles[budget] * granule_bytes * (size_t)tile / 64,
                                       .threads = 1 + n / 2 % 3,
                                       .channels = 1 + n / 6 % 3};
                    snprintf(what, sizeof what,
                             "layout %d schedule %d tile %d budget %zu channels %d threads %d ranks %d", layout,
                             schedule, tile, o.memory_budget, o.channels, o.threads, comm->world_size);
                    run(want, &o, what);
                }
}

#endif
