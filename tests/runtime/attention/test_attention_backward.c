/* dq, dk and dv: against the dense fp64 backward, and the same bytes however the work is shared out.
 *
 * Each rank computes a problem alone over the `self` transport, one thread, smallest tile, which the oracle judges;
 * then it compares its part of every distributed run with that, over layouts, tiles, budgets, channels and threads. */
#include "tests/runtime/attention/gradients.h"

static int every = 2; /* `quick` runs each tenth combination, of fewer tokens, for builds that are slow */

static void run_one(const void *context, const lucid_options *options, const char *what) {
    gradients_run_as(context, comm, options, what);
}

static void run_all(const lucid_problem *p, fixture_keys keys, const float *gain, double tolerance) {
    gradients want;
    gradients_create(&want, p, keys);
    want.gain = gain;
    must(compute(&want, alone, (lucid_options){.tile = 64, .channels = 1}), "alone");
    if (comm->rank == 0) judge(&want, tolerance);
    int w = lucid_shape_make(p->head_dim, p->value_dim).value_ld, group = p->n_heads / p->n_kv_heads;
    size_t slot =
        (size_t)64 * p->batch * p->n_kv_heads * sizeof(float) * (size_t)((2 + group) * (p->head_dim + 1 + w) + group);
    ways_each(run_one, &want, slot, every);
    gradients_destroy(&want);
}

int main(int argc, char **argv) {
    bool quick = argc > 1 && !strcmp(argv[1], "quick");
    if (quick) every = 10;
    worlds_open(&comm, &alone);
    lucid_problem gqa = {.seqlen = 1000, .batch = 1, .n_heads = 4, .n_kv_heads = 2, .head_dim = 24, .value_dim = 36};
    lucid_problem odd = {.seqlen = 333, .batch = 2, .n_heads = 3, .n_kv_heads = 1, .head_dim = 68, .value_dim = 40};
    odd.eps = 0.1, odd.softmax_scale = 0.2;
    lucid_problem softmax = {.seqlen = 400, .batch = 1, .n_heads = 2, .n_kv_heads = 2, .head_dim = 8, .value_dim = 3};
    softmax.attention = LUCID_ATTENTION_SOFTMAX;
    if (quick) gqa.seqlen = 400, odd.seqlen = 200;
    float gain[LUCID_MAX_HEAD_DIM];
    for (int c = 0; c < LUCID_MAX_HEAD_DIM; c++) gain[c] = 1 + 0.05f * (float)(c * 5 % 7 - 4);
    run_all(&gqa, KEYS_CLUSTERED, NULL, 1e-4);
    run_all(&gqa, KEYS_COINCIDENT, NULL, 1e-3);
    run_all(&odd, KEYS_CLUSTERED, NULL, 1e-4);
    run_all(&odd, KEYS_CLUSTERED, gain, 1e-4);
    run_all(&softmax, KEYS_NORMAL, NULL, 1e-5);
    run_all(&(lucid_problem){.seqlen = 3, .batch = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = 5, .value_dim = 4},
            KEYS_NORMAL, NULL, 1e-5);
    return worlds_close(comm, alone);
}
