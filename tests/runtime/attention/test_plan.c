/* Plans: the choices made from sizes alone, at sizes small enough to count by hand what they cost, and what no plan may
 * break whatever it chooses. */
#include "runtime/lucid.h"
#include "tests/check.h"

enum { D = 64, GRANULE_BYTES = 64 * (D + 1 + D) * sizeof(float) }; /* of one key-value head's record */

static lucid_problem problem_of(int64_t seqlen) {
    return (lucid_problem){.seqlen = seqlen, .batch = 1, .n_heads = 2, .n_kv_heads = 1, .head_dim = D, .value_dim = D};
}

/* How many of a tile of all heads fit, for a budget. */
static size_t tiles_of(int64_t tile, int n) {
    return (size_t)(tile / 64) * GRANULE_BYTES * (size_t)n;
}

typedef struct {
    const char *what;
    int64_t seqlen;
    int ranks;
    lucid_options options;
    lucid_layout_kind layout; /* and these are wanted */
    int64_t tile;
    int window;
} plan_case;

/* Of 128 tiles that 4 ranks share zigzag, a rank receives at most 3 * 32 = 96: all but its own, for it has the last. */
static const plan_case cases[] = {
    {"a short sequence", 100, 1, {0}, LUCID_LAYOUT_CONTIGUOUS, 128, 0},
    {"one rank", 100000, 1, {0}, LUCID_LAYOUT_CONTIGUOUS, 512, 0},
    {"16 tiles for each of 8 threads", 16 * 8 * 128, 1, {.threads = 8}, LUCID_LAYOUT_CONTIGUOUS, 128, 0},
    {"a tile that was asked for", 100, 1, {.tile = 256}, LUCID_LAYOUT_CONTIGUOUS, 256, 0},
    {"room for all", 64 << 10, 4, {0}, LUCID_LAYOUT_ZIGZAG, 512, 96},
    {"a layout that was asked for", 64 << 10, 4, {.layout = LUCID_LAYOUT_CYCLIC}, LUCID_LAYOUT_CYCLIC, 512, 8},
    {"room for half", 64 << 10, 4, {.memory_budget = 48 * 8 * GRANULE_BYTES}, LUCID_LAYOUT_CYCLIC, 512, 8},
    {"room for five", 64 << 10, 4, {.memory_budget = 5 * 8 * GRANULE_BYTES}, LUCID_LAYOUT_CYCLIC, 512, 5},
    {"room for one: the tile is halved",
     64 << 10,
     4,
     {.memory_budget = 8 * GRANULE_BYTES},
     LUCID_LAYOUT_CYCLIC,
     256,
     2},
    {"room for one that was asked for",
     64 << 10,
     4,
     {.tile = 512, .memory_budget = 8 * GRANULE_BYTES},
     LUCID_LAYOUT_CYCLIC,
     512,
     1},
};

static void check_case(const plan_case *c) {
    const lucid_problem p = problem_of(c->seqlen);
    lucid_plan plan;
    const lucid_status status = lucid_plan_make(&plan, &p, &c->options, c->ranks, 0);
    CHECK(!status, "%s: %s", c->what, lucid_failure());
    if (status) return;
    CHECK(plan.layout == c->layout, "%s: layout %d, want %d", c->what, plan.layout, c->layout);
    CHECK(plan.tile == c->tile, "%s: tile %lld, want %lld", c->what, (long long)plan.tile, (long long)c->tile);
    CHECK(plan.window_tiles == c->window, "%s: window %d, want %d", c->what, plan.window_tiles, c->window);
    CHECK(plan.window_bytes == tiles_of(c->tile, c->window), "%s: window of %zu bytes", c->what, plan.window_bytes);
}

/* Contiguous on two ranks, the first sends each of its 8 tiles once, and twice in two rounds; the second has nothing to
 * send. It has 8 tiles with all pairs of the second half: 3/4 of the work, but for half a tile's worth. */
static void check_costs(void) {
    const lucid_problem p = problem_of(1024);
    lucid_options o = {.layout = LUCID_LAYOUT_CONTIGUOUS, .tile = 64, .channels = 1, .schedule = LUCID_SCHEDULE_FUSED};
    for (int rounds = 1; rounds <= 2; rounds++) {
        lucid_plan plan;
        CHECK(!lucid_plan_make(&plan, &p, &o, 2, 0), "%s", lucid_failure());
        CHECK(plan.messages_max == 8 * rounds, "%lld messages in %d rounds", (long long)plan.messages_max, rounds);
        CHECK_NEAR(plan.bytes_sent_max, 8 * rounds * (double)GRANULE_BYTES, 0, "bytes in %d rounds", rounds);
        CHECK_NEAR(plan.flops_total, 3 * 4.0 * D * 1024 * 1025 / 2, 0, "flops");
        CHECK_NEAR(plan.flops_max / plan.flops_total, 0.75, 1e-9, "share of the busiest");
        o.schedule = LUCID_SCHEDULE_PIPELINED;
    }
}

static void check_refused(lucid_options o, size_t free_bytes, lucid_status want, const char *what) {
    const lucid_problem p = problem_of(64 << 10);
    lucid_plan plan = {.tile = -1};
    const lucid_status status = lucid_plan_make(&plan, &p, &o, 4, free_bytes);
    CHECK(status == want && plan.tile == -1, "%s: status %d, want %d; tile %lld", what, status, want,
          (long long)plan.tile);
}

static void check_refusals(void) {
    check_refused((lucid_options){.tile = 512, .memory_budget = tiles_of(512, 1) - 1}, 0, LUCID_ERR_USAGE,
                  "a budget below the tile");
    check_refused((lucid_options){.memory_budget = GRANULE_BYTES - 1}, 0, LUCID_ERR_USAGE, "a budget below any tile");
    check_refused((lucid_options){.tile = 100}, 0, LUCID_ERR_USAGE, "a tile of 100");
    check_refused((lucid_options){0}, 1 << 20, LUCID_ERR_MEMORY, "1 MiB in all");
}

/* Whatever is chosen: whole granules that cover the sequence, no more window than allowed, or a refusal. */
static void check_sweep(void) {
    int n_made = 0;
    for (int64_t seqlen = 1; seqlen < 1 << 20; seqlen = seqlen * 7 + 3)
        for (int ranks = 1; ranks <= 64; ranks = ranks * 3 - ranks / 2)
            for (int threads = 1; threads <= 16; threads *= 4)
                for (int n = 1; n <= 1 << 12; n *= 4) {
                    const lucid_problem p = problem_of(seqlen);
                    const lucid_options o = {.threads = threads, .memory_budget = tiles_of(64, n)};
                    lucid_plan plan;
                    if (lucid_plan_make(&plan, &p, &o, ranks, 0)) continue;
                    n_made++;
                    CHECK(plan.tile > 0 && plan.tile % 64 == 0 && plan.n_tiles == (seqlen + plan.tile - 1) / plan.tile,
                          "seqlen %lld: %lld tiles of %lld", (long long)seqlen, (long long)plan.n_tiles,
                          (long long)plan.tile);
                    CHECK(plan.window_bytes <= o.memory_budget, "window of %zu bytes, %zu are allowed",
                          plan.window_bytes, o.memory_budget);
                    CHECK(plan.flops_max <= plan.flops_total && plan.flops_max * ranks >= plan.flops_total * (1 - 1e-9),
                          "the busiest of %d ranks has %g of %g flops", ranks, plan.flops_max, plan.flops_total);
                }
    CHECK(n_made > 100, "only %d plans were made", n_made);
}

int main(void) {
    for (int i = 0; i < COUNT(cases); i++) check_case(&cases[i]);
    check_costs();
    check_refusals();
    check_sweep();
    return check_result();
}
