/* Layouts by their definition, for world sizes 1..64 and numbers of tiles below, at and above the number of runs. The
 * definition is written out here by brute force: runs are laid end to end, the ring is walked hop by hop. */
#include "runtime/attention/layout.h"
#include "tests/check.h"

#include <stdlib.h>

enum { MAX_WORLD = 64, MAX_TILES = 600 };

/* Owner and run of each tile, from runs laid end to end: run r ends where (r + 1) n_tiles / n_runs tiles are full. */
typedef struct {
    int n_runs, owner[MAX_TILES], run[MAX_TILES];
} dealt;

static int owner_of_run(const lucid_layout *layout, int run) {
    int world_size = layout->world_size;
    if (layout->kind != LUCID_LAYOUT_ZIGZAG) return run % world_size;
    return run < world_size ? run : 2 * world_size - 1 - run;
}

static void deal(dealt *d, const lucid_layout *layout) {
    d->n_runs = layout->kind == LUCID_LAYOUT_CYCLIC       ? layout->n_tiles
                : layout->kind == LUCID_LAYOUT_CONTIGUOUS ? layout->world_size
                                                          : 2 * layout->world_size;
    int tile = 0;
    for (int run = 0; run < d->n_runs; run++)
        for (; (int64_t)(tile + 1) * d->n_runs <= (int64_t)(run + 1) * layout->n_tiles; tile++) {
            d->run[tile] = run;
            d->owner[tile] = owner_of_run(layout, run);
        }
    CHECK(tile == layout->n_tiles, "%s: %d of %d tiles dealt", lucid_layout_name(layout->kind), tile, layout->n_tiles);
}

static void check_owners(const lucid_layout *layout, const dealt *d) {
    int length = 0, shortest = layout->n_tiles / d->n_runs;
    for (int tile = 0; tile < layout->n_tiles; tile++) {
        int owner = lucid_layout_owner(layout, tile);
        CHECK(owner == d->owner[tile], "%s, %d ranks, tile %d of %d: owner %d, want %d",
              lucid_layout_name(layout->kind), layout->world_size, tile, layout->n_tiles, owner, d->owner[tile]);
        length++;
        if (tile + 1 < layout->n_tiles && d->run[tile + 1] == d->run[tile]) continue;
        CHECK(length >= shortest && length <= shortest + 1, "a run of %d tiles, want %d or one more", length, shortest);
        length = 0;
    }
}

static void check_counts(const lucid_layout *layout, const dealt *d) {
    for (int rank = 0; rank < layout->world_size; rank++) {
        int count = 0, last = -1;
        for (int tile = 0; tile < layout->n_tiles; tile++)
            if (d->owner[tile] == rank) count++, last = tile;
        CHECK(lucid_layout_count(layout, rank) == count, "rank %d has %d tiles, want %d", rank,
              lucid_layout_count(layout, rank), count);
        CHECK(lucid_layout_last(layout, rank) == last, "rank %d's last tile %d, want %d", rank,
              lucid_layout_last(layout, rank), last);
    }
}

/* Walks the ring from the owner: hops counts up by one a step, and reach is the last step at a rank in need. */
static void check_ring(const lucid_layout *layout, const dealt *d, const int *last, int first_row) {
    int world_size = layout->world_size;
    for (int tile = 0; tile < layout->n_tiles; tile++) {
        int direction = lucid_layout_direction(layout, tile), rank = d->owner[tile], reach = 0;
        int want = layout->kind == LUCID_LAYOUT_ZIGZAG && d->run[tile] >= world_size ? -1 : 1;
        CHECK(direction == want, "tile %d travels %d, want %d", tile, direction, want);
        for (int hops = 0; hops < world_size; hops++, rank = (rank + want + world_size) % world_size) {
            CHECK(lucid_layout_hops(layout, tile, rank) == hops, "%d hops to rank %d, want %d",
                  lucid_layout_hops(layout, tile, rank), rank, hops);
            if (last[rank] > tile && last[rank] >= first_row) reach = hops;
        }
        int got = lucid_layout_reach(layout, tile, first_row);
        CHECK(got == reach, "%s, %d ranks, tile %d of %d, rows from %d: reach %d, want %d",
              lucid_layout_name(layout->kind), world_size, tile, layout->n_tiles, first_row, got, reach);
    }
}

/* Whoever owns the next run is the next hop; at zigzag's turn it is the owner itself. */
static void check_next_hop(const lucid_layout *layout, const dealt *d) {
    for (int tile = 0; tile + 1 < layout->n_tiles; tile++) {
        if (d->run[tile + 1] != d->run[tile] + 1) continue;
        bool turn = layout->kind == LUCID_LAYOUT_ZIGZAG && d->run[tile + 1] == layout->world_size;
        int hops = lucid_layout_hops(layout, tile, d->owner[tile + 1]);
        int want = turn || layout->world_size == 1 ? 0 : 1;
        CHECK(hops == want, "%s, %d ranks: %d hops from tile %d to the next run, want %d",
              lucid_layout_name(layout->kind), layout->world_size, hops, tile, want);
    }
}

/* Work is counted in pairs of tiles, mean n_tiles^2 / (2 world_size) a rank. Rounding a run's ends moves each by less
 * than a tile; the sum of the four ends bounds zigzag. Cyclic ranks differ by at most one tile's work, plus a step
 * for each full turn. */
static void check_balance(const lucid_layout *layout, const dealt *d) {
    double work[MAX_WORLD] = {0}, n = layout->n_tiles, world = layout->world_size;
    for (int tile = 0; tile < layout->n_tiles; tile++) work[d->owner[tile]] += tile + 0.5;
    for (int rank = 0; rank < layout->world_size; rank++) {
        double excess = fabs(work[rank] - n * n / (2 * world));
        double bound = layout->kind == LUCID_LAYOUT_ZIGZAG ? n * (1 + 1 / (2 * world)) : n;
        if (layout->kind != LUCID_LAYOUT_CONTIGUOUS)
            CHECK(excess <= bound, "%s: rank %d of %g has %g, mean %g, tolerance %g", lucid_layout_name(layout->kind),
                  rank, world, work[rank], n * n / (2 * world), bound);
        else /* the last run's work is below twice the mean, to within a tile */
            CHECK(work[rank] <= n * n / world + n, "contiguous: rank %d has %g", rank, work[rank]);
    }
}

static void check_layout(lucid_layout_kind kind, int world_size, int n_tiles) {
    lucid_layout layout = {.kind = kind, .world_size = world_size, .n_tiles = n_tiles};
    static dealt d;
    int last[MAX_WORLD];
    for (int rank = 0; rank < world_size; rank++) last[rank] = -1;
    deal(&d, &layout);
    for (int tile = 0; tile < n_tiles; tile++) last[d.owner[tile]] = tile;
    check_owners(&layout, &d);
    check_counts(&layout, &d);
    check_ring(&layout, &d, last, 0);
    check_ring(&layout, &d, last, n_tiles * 2 / 3);
    check_next_hop(&layout, &d);
    check_balance(&layout, &d);
}

int main(void) {
    for (int kind = LUCID_LAYOUT_CONTIGUOUS; kind <= LUCID_LAYOUT_CYCLIC; kind++)
        for (int world_size = 1; world_size <= MAX_WORLD && !check_failures; world_size++) {
            int sizes[] = {1,
                           2,
                           world_size - 1,
                           world_size,
                           world_size + 1,
                           2 * world_size - 1,
                           2 * world_size,
                           2 * world_size + 1,
                           3 * world_size + 2,
                           128,
                           4 * world_size + 1,
                           8 * world_size - 3};
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
                if (sizes[i] > 0) check_layout((lucid_layout_kind)kind, world_size, sizes[i]);
        }
    return check_result();
}
