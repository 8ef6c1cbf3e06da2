/* out, y and lse are the same bytes however the work is shared out.
 *
 * Each rank computes the whole problem alone over the `self` transport - one thread, pipelined, smallest tile - and
 * compares its part of every distributed run with that, over layouts, schedules, tiles, budgets, channels and threads.
 */
#include "tests/check.h"
#include "tests/runtime/attention/attention_fixture.h"

static lucid_comm *comm, *alone;
static int every = 1; /* `quick` runs each fifth combination only, for builds that are slow */

/* Every token of every head is stored by exactly one rank. */
static void check_coverage(const fixture *f, const char *what) {
    double stored = 0, all = (double)f->problem.batch * f->problem.n_heads * (double)f->problem.seqlen;
    for (int64_t i = 0; i < (int64_t)all; i++) stored += f->seen[i];
    if (lucid_comm_allreduce(comm, &stored, 1, LUCID_SUM)) exit(1);
    CHECK(stored == all, "%s: %g of %g rows stored", what, stored, all);
}

static void run_one(const fixture *want, const lucid_options *options) {
    char what[200];
    fixture got;
    lucid_plan plan;
    fixture_create(&got, &want->problem, want->keys, want->seed);
    snprintf(what, sizeof what, "N %lld layout %d schedule %d tile %lld budget %zu channels %d threads %d ranks %d",
             (long long)want->problem.seqlen, options->layout, options->schedule, (long long)options->tile,
             options->memory_budget, options->channels, options->threads, comm->world_size);
    if (fixture_run(&got, comm, options, &plan, NULL)) {
        CHECK(false, "%s: %s", what, lucid_failure());
        exit(1);
    }
    fixture_compare(&got, want, what);
    check_coverage(&got, what);
    fixture_destroy(&got);
}

/* Budgets of about one tile, about three, and plenty. */
static void run_all(const lucid_problem *problem, fixture_keys keys) {
    fixture want;
    fixture_create(&want, problem, keys, 7);
    lucid_options plain = {.schedule = LUCID_SCHEDULE_PIPELINED, .tile = 64, .channels = 1};
    if (fixture_run(&want, alone, &plain, NULL, NULL)) {
        fprintf(stderr, "alone: %s\n", lucid_failure());
        exit(1);
    }
    lucid_shape shape = lucid_shape_make(problem->head_dim, problem->value_dim);
    size_t granule = lucid_record_floats(shape) * sizeof(float) * problem->batch * problem->n_kv_heads;
    int n = 0;
    for (int layout = LUCID_LAYOUT_CONTIGUOUS; layout <= LUCID_LAYOUT_CYCLIC; layout++)
        for (int schedule = LUCID_SCHEDULE_PIPELINED; schedule <= LUCID_SCHEDULE_FUSED; schedule++)
            for (int tile = 64; tile <= 192; tile += 64)
                for (int budget = 0; budget < 3; budget++, n++) {
                    if (n % every) continue;
                    size_t tile_bytes = granule * (size_t)tile / 64;
                    lucid_options options = {.layout = (lucid_layout_kind)layout,
                                             .schedule = (lucid_schedule_kind)schedule,
                                             .tile = tile,
                                             .timeout = 60,
                                             .memory_budget =
                                                 budget == 0 ? 0 : tile_bytes * (size_t)(budget == 1 ? 1 : 3),
                                             .threads = 1 + n % 2,
                                             .channels = 1 + n % 3};
                    run_one(&want, &options);
                }
    fixture_destroy(&want);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "quick")) every = 5;
    lucid_comm_options automatic = {.timeout = 60}, self = {.transport = "self"};
    if (lucid_comm_open(&comm, &automatic) || lucid_comm_open(&alone, &self)) {
        fprintf(stderr, "%s\n", lucid_failure());
        return 1;
    }
    run_all(
        &(lucid_problem){.seqlen = 1500, .batch = 1, .n_heads = 2, .n_kv_heads = 1, .head_dim = 20, .value_dim = 36},
        KEYS_CLUSTERED);
    run_all(&(lucid_problem){.seqlen = 333, .batch = 2, .n_heads = 3, .n_kv_heads = 3, .head_dim = 68, .value_dim = 68},
            KEYS_CLUSTERED);
    run_all(&(lucid_problem){.seqlen = 700,
                             .batch = 1,
                             .n_heads = 2,
                             .n_kv_heads = 2,
                             .head_dim = 8,
                             .value_dim = 3,
                             .attention = LUCID_ATTENTION_SOFTMAX},
            KEYS_NORMAL);
    /* More tiles a rank than requests, so that sends wait for each other. */
    lucid_problem long_runs = {
        .seqlen = 4160, .batch = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = 8, .value_dim = 16};
    if (comm->world_size <= 3) run_all(&long_runs, KEYS_CLUSTERED);
    run_all(&(lucid_problem){.seqlen = 1, .batch = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = 1, .value_dim = 1},
            KEYS_NORMAL);
    run_all(&(lucid_problem){.seqlen = 3, .batch = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = 5, .value_dim = 4},
            KEYS_NORMAL);
    int result = check_result();
    lucid_comm_close(alone);
    lucid_comm_close(comm);
    return result;
}
