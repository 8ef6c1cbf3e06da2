/* Schedules of up to 64 ranks run to their end, in several orders, with every layout, scheme and window, from zero and
 * from other cursors: the simulation checks each. Interleavings of few ranks are explored in full by
 * test_schedule_model. */
#include "tests/check.h"
#include "tests/runtime/attention/schedule_simulation.h"

/* The forward's three; then the backward pass's keys, with and without a solve, and rows. */
static const struct {
    bool solve, fused, backward, onward;
} schemes[] = {{true, false, false, false}, {true, true, false, false}, {false, false, false, false},
               {true, true, true, false},   {false, true, true, false}, {false, true, true, true}};
enum { N_SCHEMES = sizeof schemes / sizeof *schemes };

/* Where rows may start, from a seed: at zero; some of the first tiles cached; or each row anywhere. */
static const lucid_cursor *random_cursors(lucid_cursor *cursors, int n_tiles, uint64_t seed) {
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    for (int tile = 0; tile < n_tiles; tile++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        int update = (int)(x >> 8 & 0xffffff) % (tile + 2), attend = (int)(x >> 32 & 0xffffff) % (tile + 2);
        if (seed % 3 == 1) update = attend = tile < (int)(seed / 3 % (uint64_t)n_tiles) ? tile + 1 : 0;
        cursors[tile] = (lucid_cursor){attend > tile ? tile + 1 : update, attend};
        if (!lucid_cursor_legal(cursors[tile], tile)) CHECK(false, "cursors of tile %d", tile);
    }
    return seed % 3 ? cursors : NULL;
}

static void prove(lucid_layout_kind kind, int world_size, int n_tiles, int scheme, int window, uint64_t jitter) {
    lucid_cursor cursors[4 * 64 + 3];
    uint64_t seed = jitter + (uint64_t)(world_size * 7 + window + kind);
    bool backward = schemes[scheme].backward, onward = schemes[scheme].onward;
    simulation s = {.cursors = backward ? NULL : random_cursors(cursors, n_tiles, seed),
                    .schedule = {.layout = {kind, world_size, n_tiles, .reversed = backward},
                                 .solve = schemes[scheme].solve,
                                 .fused = schemes[scheme].fused,
                                 .no_attend = backward && schemes[scheme].solve,
                                 .onward = onward,
                                 .in_step = backward && !onward && world_size == 1,
                                 .window = window,
                                 .range_max = 1 + n_tiles % 3},
                    .update = jitter ? 1 : 0,
                    .attend = jitter ? 1 : 0,
                    .hop = jitter % 3,
                    .jitter = jitter};
    simulation_result result = simulation_run(&s);
    CHECK(!result.fault[0], "%s; %s, %d ranks, %d tiles, scheme %d, window %d, jitter %llu, cursors %llu", result.fault,
          lucid_layout_name(kind), world_size, n_tiles, scheme, window, (unsigned long long)jitter,
          (unsigned long long)seed);
}

/* One order of events a case, now without any durations, now with random ones; one window only, or all. */
static void prove_all(int world_size, int n_tiles, int only_window) {
    const int windows[] = {1, 2, 3, 2 * n_tiles};
    uint64_t turn = 0;
    for (int kind = LUCID_LAYOUT_CONTIGUOUS; kind <= LUCID_LAYOUT_CYCLIC; kind++)
        for (int scheme = 0; scheme < N_SCHEMES; scheme++)
            for (int i = 0; i < 4; i++, turn++)
                if (only_window < 0 || i == only_window)
                    prove((lucid_layout_kind)kind, world_size, n_tiles, scheme, windows[i],
                          (turn + (uint64_t)world_size) % 3 * (turn + 7));
}

int main(void) {
    for (int world_size = 1; world_size <= 64; world_size++) {
        bool some = world_size <= 10 || (world_size <= 33 && world_size % 16 <= 1);
        const int sizes[] = {world_size / 2 + 1, 2 * world_size + 1, world_size + 1, 1, 4 * world_size + 3};
        int n_sizes = !some ? 1 : world_size > 17 ? 2 : 5;
        for (int i = 0; i < n_sizes; i++) prove_all(world_size, sizes[i], some ? -1 : world_size % 4);
    }
    prove_all(64, 129, 1);
    return check_result();
}
