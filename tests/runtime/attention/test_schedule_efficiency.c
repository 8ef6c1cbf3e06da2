/* How well the schedules keep ranks busy: the table of efficiencies of one head, work / (ranks * makespan), by discrete
 * events with one thread a rank, key tile by key tile, one hop taking 0.2 tile updates. Prints the table and holds it
 * to floors, each a little below what a schedule of this kind is known to reach. */
#include "tests/check.h"
#include "tests/runtime/attention/schedule_simulation.h"

enum { ALL = 0, EIGHT = 8 };

/* window: slots; 0: as many as there are tiles; negative: n_tiles / -window. */
static double efficiency(lucid_layout_kind kind, bool fused, int world_size, int n_tiles, int window) {
    simulation s = {.schedule = {.layout = {.kind = kind, .world_size = world_size, .n_tiles = n_tiles},
                                 .solve = true,
                                 .fused = fused,
                                 .window = window > 0   ? window
                                           : window < 0 ? n_tiles / -window
                                                        : 2 * n_tiles,
                                 .range_max = 1},
                    .update = 1,
                    .attend = 1,
                    .hop = 0.2};
    simulation_result result = simulation_run(&s);
    CHECK(!result.fault[0], "%s (%s, %d ranks)", result.fault, lucid_layout_name(kind), world_size);
    CHECK_NEAR(result.work, (double)n_tiles * n_tiles, 1e-6 * n_tiles * n_tiles, "work of %d ranks", world_size);
    return result.work / (world_size * result.makespan);
}

static double hold(const char *what, int world_size, double got, double floor) {
    CHECK(got >= floor, "%s on %d ranks: efficiency %.3f, floor %.3f", what, world_size, got, floor);
    return got;
}

/* Floors are 0.01 below what was first measured. */
static void table(void) {
    static const struct {
        const char *name;
        lucid_layout_kind kind;
        bool fused;
        int window;
        double floors[4]; /* 2, 4, 8, 16 ranks */
    } columns[] = {
        {"pipelined contiguous", LUCID_LAYOUT_CONTIGUOUS, false, ALL, {0.66, 0.56, 0.52, 0.50}},
        {"pipelined zigzag", LUCID_LAYOUT_ZIGZAG, false, ALL, {0.92, 0.85, 0.81, 0.79}},
        {"fused contiguous", LUCID_LAYOUT_CONTIGUOUS, true, ALL, {0.66, 0.56, 0.52, 0.50}},
        {"fused cyclic, window 2", LUCID_LAYOUT_CYCLIC, true, 2, {0.98, 0.96, 0.93, 0.88}},
        {"fused cyclic, window 8", LUCID_LAYOUT_CYCLIC, true, EIGHT, {0.98, 0.96, 0.93, 0.88}},
        {"fused zigzag", LUCID_LAYOUT_ZIGZAG, true, ALL, {0.98, 0.98, 0.98, 0.98}},
        {"... window N/4", LUCID_LAYOUT_ZIGZAG, true, -4, {0.98, 0.83, 0.77, 0.74}},
    };
    printf("%-30s %7s %7s %7s %7s\n", "128 tiles", "2 ranks", "4", "8", "16");
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        printf("%-30s", columns[i].name);
        for (int n = 0; n < 4; n++)
            printf(" %7.3f", hold(columns[i].name, 2 << n,
                                  efficiency(columns[i].kind, columns[i].fused, 2 << n, 128, columns[i].window),
                                  columns[i].floors[n]));
        printf("\n");
    }
}

static void few_and_many(void) {
    printf("8 ranks, 256 tiles, window N/4: zigzag %.3f, ",
           hold("zigzag, N/4", 8, efficiency(LUCID_LAYOUT_ZIGZAG, true, 8, 256, -4), 0.77));
    printf("cyclic %.3f\n", hold("cyclic, N/4", 8, efficiency(LUCID_LAYOUT_CYCLIC, true, 8, 256, -4), 0.96));
    printf("64 ranks, 128 tiles: zigzag %.3f, ",
           hold("zigzag, two tiles a rank", 64, efficiency(LUCID_LAYOUT_ZIGZAG, true, 64, 128, ALL), 0.86));
    printf("cyclic %.3f\n",
           hold("cyclic, two tiles a rank", 64, efficiency(LUCID_LAYOUT_CYCLIC, true, 64, 128, EIGHT), 0.62));
}

int main(void) {
    table();
    few_and_many();
    return check_result();
}
