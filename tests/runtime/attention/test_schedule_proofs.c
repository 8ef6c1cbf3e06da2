/* Schedules of up to 64 ranks run to their end, in several orders, with every layout, scheme and window: the simulation
 * checks each. Interleavings of few ranks are explored in full by test_schedule_model. */
#include "tests/check.h"
#include "tests/runtime/attention/schedule_simulation.h"

static const struct {
    bool solve, fused, second_round;
} schemes[] = {{true, false, true}, {true, true, false}, {true, true, true}, {false, false, false}};

static void prove(lucid_layout_kind kind, int world_size, int n_tiles, int scheme, int window, uint64_t jitter) {
    simulation s = {.schedule = {.layout = {kind, world_size, n_tiles},
                                 .solve = schemes[scheme].solve,
                                 .fused = schemes[scheme].fused,
                                 .second_round = schemes[scheme].second_round,
                                 .window = window,
                                 .range_max = 1 + n_tiles % 3},
                    .update = jitter ? 1 : 0,
                    .attend = jitter ? 1 : 0,
                    .hop = jitter % 3,
                    .jitter = jitter};
    simulation_result result = simulation_run(&s);
    CHECK(!result.fault[0], "%s; %s, %d ranks, %d tiles, scheme %d, window %d, jitter %llu", result.fault,
          lucid_layout_name(kind), world_size, n_tiles, scheme, window, (unsigned long long)jitter);
}

/* One order of events a case, now without any durations, now with random ones; one window only, or all. */
static void prove_all(int world_size, int n_tiles, int only_window) {
    const int windows[] = {1, 2, 3, 2 * n_tiles};
    uint64_t turn = 0;
    for (int kind = LUCID_LAYOUT_CONTIGUOUS; kind <= LUCID_LAYOUT_CYCLIC; kind++)
        for (int scheme = 0; scheme < 4; scheme++)
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
