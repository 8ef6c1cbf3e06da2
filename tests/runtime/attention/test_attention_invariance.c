/* out, y and lse are the same bytes however the work is shared out.
 *
 * Each rank computes the whole problem alone over the `self` transport - one thread, pipelined, smallest tile - and
 * compares its part of every distributed run with that, over layouts, schedules, tiles, budgets, channels and threads.
 */
#include "tests/runtime/attention/attention_fixture.h"
#include "tests/runtime/attention/ways.h"

static int every = 1; /* `quick` runs each fifth combination only, for builds that are slow */

static void run_one(const void *context, const lucid_options *options, const char *what) {
    const fixture *want = context;
    const lucid_problem *p = &want->problem;
    fixture got;
    fixture_create(&got, p, want->keys, want->seed);
    must(fixture_run(&got, comm, options, NULL, NULL), what);
    fixture_compare(&got, want, what);
    check_coverage(got.seen, (size_t)p->batch * p->n_heads * (size_t)p->seqlen, what);
    fixture_destroy(&got);
}

static void run_all(const lucid_problem *problem, fixture_keys keys) {
    const lucid_shape shape = lucid_shape_make(problem->head_dim, problem->value_dim);
    fixture want;
    fixture_create(&want, problem, keys, 7);
    lucid_options plain = {.schedule = LUCID_SCHEDULE_PIPELINED, .tile = 64, .channels = 1};
    must(fixture_run(&want, alone, &plain, NULL, NULL), "alone");
    ways_each(run_one, &want, lucid_record_floats(shape) * sizeof(float) * problem->batch * problem->n_kv_heads, every);
    fixture_destroy(&want);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "quick")) every = 5;
    worlds_open(&comm, &alone);
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
    return worlds_close(comm, alone);
}
