/* Gradients of whole models against central differences of the fp64 oracle's loss, on tiny models of every option; and
 * the same bits however the sequences are spread over ranks, passes and threads. */
#include "runtime/train/exact.h"
#include "runtime/train/pass.h"
#include "tests/check.h"
#include "tests/comm/worlds.h"
#include "tests/runtime/train/oracle_of.h"

#include <stdlib.h>
#include <string.h>

/* fp32 against differences in fp64, relative to the tensor's largest gradient: 3e-4 is the largest seen. */
#define TOLERANCE 1e-3
#define VOCAB     11
#define N_CASES   12

static int samples = 2; /* elements of a tensor; `quick`, for slow builds, takes one */

typedef struct {
    const char *name;
    lucid_trainee_config config;
    int64_t length;
    int n_sequences;
} gradient_case;

static lucid_model_config tiny(int attention) {
    return (lucid_model_config){.hidden_size = 20,
                                .intermediate_size = 28,
                                .vocab_size = VOCAB,
                                .n_layers = 2,
                                .n_heads = 4,
                                .n_kv_heads = 2,
                                .head_dim = 6,
                                .max_position_embeddings = 512,
                                .rms_norm_eps = 1e-5,
                                .attention = attention,
                                .rope = {.type = LUCID_ROPE_DEFAULT, .theta = 100}};
}

static lucid_examples make_examples(int64_t length, int n_sequences) {
    const size_t n = (size_t)length * (size_t)n_sequences;
    lucid_examples e = {.length = length, .n_sequences = n_sequences, .n_ids = 1};
    e.ids = malloc(n * sizeof *e.ids);
    e.targets = malloc(n * sizeof *e.targets);
    uint32_t state = 12345;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525 + 1013904223;
        e.ids[i] = (int32_t)(state >> 16) % VOCAB;
        e.targets[i] = i % 3 == 1 ? -1 : (int32_t)(state >> 8) % VOCAB;
    }
    return e;
}

static void free_examples(lucid_examples *e) {
    free(e->ids), free(e->targets);
}

/* --- the oracle's loss --- */

static double row_loss(const double *logits, int target) {
    double highest = logits[0], sum = 0;
    for (int i = 1; i < VOCAB; i++) highest = fmax(highest, logits[i]);
    for (int i = 0; i < VOCAB; i++) sum += exp(logits[i] - highest);
    return log(sum) + highest - logits[target];
}

/* The loss's sum over what is asked. */
static double oracle_loss(const lucid_trainee *t, const lucid_examples *e) {
    const lucid_model *m = &t->model;
    oracle_layer layers[2];
    const oracle_model model = oracle_model_of(layers, m);
    double loss = 0, *logits = malloc((size_t)e->length * VOCAB * sizeof *logits);
    int64_t *ids = malloc((size_t)e->length * sizeof *ids);
    for (int s = 0; s < e->n_sequences; s++) {
        for (int64_t i = 0; i < e->length; i++) ids[i] = e->ids[s * e->length + i];
        oracle_logits(logits, &model, ids, (int)e->length);
        for (int64_t i = 0; i < e->length; i++) {
            const int32_t target = e->targets[s * e->length + i];
            if (target >= 0) loss += row_loss(logits + i * VOCAB, target);
        }
    }
    free(ids), free(logits);
    return loss;
}

/* --- runs --- */

static void fill(lucid_trainee *t) {
    lucid_trainee_initialise(t, 7, 0.3);
    for (int s = 0; s < t->n_slots; s++) /* gains and biases that are none */
        for (int64_t i = 0; t->slots[s].n_dims == 1 && i < lucid_trainee_elements(t, s); i++)
            t->parameters[t->first[s] + i] += 0.1f * (float)((i * 7 + s) % 5 - 2);
}

/* Gradients of the loss's sum over all sequences, in passes of at_once; each comm computes all of them. */
static lucid_pass_sums learn(lucid_trainee *t, lucid_comm *comm, const lucid_examples *e, int at_once, int threads) {
    lucid_pass *pass;
    lucid_pass_sums sums = {0};
    const lucid_pass_options options = {
        .length = e->length, .n_sequences = at_once, .tile = 64, .threads = threads, .timeout = 60, .backward = true};
    memset(t->gradients, 0, (size_t)t->n_floats * sizeof *t->gradients);
    REQUIRE(lucid_pass_create(&pass, t, comm, &options));
    const int step = lucid_pass_sequences(pass);
    for (int first = 0; first < e->n_sequences; first += step) {
        lucid_examples some = *e;
        some.ids += first * e->length;
        some.targets += first * e->length;
        some.n_sequences = e->n_sequences - first < step ? e->n_sequences - first : step;
        REQUIRE(lucid_pass_learn(&sums, pass, &some, 1));
    }
    lucid_pass_destroy(pass);
    double all[3] = {sums.loss, sums.correct, sums.asked};
    REQUIRE(lucid_comm_allreduce(comm, t->gradients, (int)t->n_floats, LUCID_SUM));
    REQUIRE(lucid_comm_allreduce(comm, all, 3, LUCID_SUM));
    return (lucid_pass_sums){all[0], all[1], all[2]};
}

/* (loss(w + h) - loss(w - h)) / 2h with what fp32 makes of w + h. */
static double difference(lucid_trainee *t, float *w, const lucid_examples *e) {
    const float kept = *w, up = kept + 2e-3f, down = kept - 2e-3f;
    *w = up;
    const double high = oracle_loss(t, e);
    *w = down;
    const double low = oracle_loss(t, e);
    *w = kept;
    return (high - low) / ((double)up - (double)down);
}

static void compare_slot(lucid_trainee *t, int slot, const lucid_examples *e, const char *name) {
    const int64_t n = lucid_trainee_elements(t, slot);
    const double *gradient = t->gradients + t->first[slot];
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs(gradient[i]));
    for (int64_t i = 0; i < samples; i++) {
        const int64_t at = (i * 7919 + slot * 31 + 3) % n;
        const double want = difference(t, t->parameters + t->first[slot] + at, e);
        CHECK_NEAR(gradient[at] / largest, want / largest, TOLERANCE, "%s: %s [%lld], largest %g", name,
                   t->slots[slot].name, (long long)at, largest);
    }
}

/* Another way over the same sequences; its bits are `want`'s, and those of the losses' sum. */
static void run_again(const gradient_case *c, lucid_comm *comm, const lucid_trainee *want, double want_loss,
                      const lucid_examples *e, int at_once, int threads) {
    lucid_trainee t;
    REQUIRE(lucid_trainee_create(&t, &c->config));
    fill(&t);
    const lucid_pass_sums sums = learn(&t, comm, e, at_once, threads);
    CHECK(sums.loss == want_loss, "%s: loss %.17g, alone %.17g (%d at once, %d threads, %d ranks)", c->name, sums.loss,
          want_loss, at_once, threads, comm->world_size);
    for (int64_t i = 0; i < t.n_floats; i++) {
        if (t.gradients[i] == want->gradients[i]) continue;
        CHECK(false, "%s: gradient %lld is %.17g, alone %.17g (%d at once, %d threads, %d ranks)", c->name,
              (long long)i, t.gradients[i], want->gradients[i], at_once, threads, comm->world_size);
        break;
    }
    lucid_trainee_destroy(&t);
}

static void run_case(const gradient_case *c, lucid_comm *comm, lucid_comm *alone) {
    lucid_trainee t;
    lucid_examples e = make_examples(c->length, c->n_sequences);
    REQUIRE(lucid_trainee_create(&t, &c->config));
    fill(&t);
    const lucid_pass_sums sums = learn(&t, alone, &e, 1, 1);
    if (comm->rank == 0) {
        const double want = oracle_loss(&t, &e);
        CHECK_NEAR(sums.loss / want, 1, 1e-5, "%s: loss", c->name);
        for (int s = 0; s < t.n_slots && comm->world_size == 1; s++) compare_slot(&t, s, &e, c->name);
    }
    run_again(c, comm, &t, sums.loss, &e, 1, 1);
    run_again(c, comm, &t, sums.loss, &e, 2, 3);
    lucid_trainee_destroy(&t);
    free_examples(&e);
}

static void exact_sums(void) {
    const double terms[] = {1e-9, 100, -3.3, 1e-17, 0.1, -99.9999, 7e-12};
    double up = 0, down = 0;
    for (int i = 0; i < 7; i++) up += lucid_exact(terms[i]), down += lucid_exact(terms[6 - i]);
    CHECK(up == down, "%.17g upwards, %.17g downwards", up, down);
    CHECK_NEAR(lucid_exact(1e-9), 1e-9, 0x1p-45, "rounded to a unit");
}

/* A million losses of the size that a first step has. */
static void exact_losses(void) {
    const int n = 1000000;
    double up = 0, down = 0;
    for (int i = 0; i < n; i++) up += lucid_exact_loss(5.5 + sin(i)), down += lucid_exact_loss(5.5 + sin(n - 1 - i));
    CHECK(up == down, "%.17g upwards, %.17g downwards", up, down);
    CHECK_NEAR(up / n, 5.5, 1e-6, "their mean");
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "quick")) samples = 1;
    gradient_case cases[N_CASES];
    for (int i = 0; i < N_CASES; i++) cases[i] = (gradient_case){.name = "softmax", .length = 131, .n_sequences = 2};
    for (int i = 0; i < N_CASES; i++) cases[i].config.config = tiny(i ? LUCID_MODEL_LUCID : LUCID_MODEL_SOFTMAX);
    cases[1].name = "lucid";
    cases[2].name = "lucid, rope";
    cases[2].config.config.use_rope = true;
    cases[3].name = "lucid, rope, q and k norms";
    cases[3].config.config.use_rope = true, cases[3].config.config.qk_norm = LUCID_QKNORM_ON;
    cases[4].name = "lucid, tied, gelu";
    cases[4].config.config.tie_word_embeddings = true, cases[4].config.config.activation = LUCID_ACTIVATION_GELU;
    cases[5].name = "lucid, biases, one head";
    cases[5].config.config.attention_bias = cases[5].config.config.mlp_bias = true;
    cases[5].config.config.n_heads = cases[5].config.config.n_kv_heads = 1;
    cases[6].name = "lucid, packed";
    cases[6].length = 10, cases[6].n_sequences = 60;
    cases[7].name = "lucid, packed, rope";
    cases[7].config.config.use_rope = true, cases[7].length = 100, cases[7].n_sequences = 3;
    for (int i = 8; i < N_CASES; i++) cases[i].name = "lucid, convolutions", cases[i].config.config.conv_size = 4;
    cases[9].name = "lucid, convolutions, scaled queries, RoPE on 4 of 6";
    cases[9].config.config.use_rope = true, cases[9].config.config.rotary_dim = 4;
    cases[9].config.config.query_log_scale = 20;
    cases[10].name = "lucid, packed, convolutions", cases[10].length = 10, cases[10].n_sequences = 60;
    cases[11].name = "softmax, convolutions, a tile of two tokens";
    cases[11].config.config.attention = LUCID_MODEL_SOFTMAX, cases[11].length = 130;
    cases[11].config.config.qk_norm = LUCID_QKNORM_ON, cases[11].config.config.query_log_scale = 50;
    lucid_comm *comm, *alone;
    worlds_open(&comm, &alone);
    exact_sums();
    exact_losses();
    for (int i = 0; i < N_CASES; i++) run_case(&cases[i], comm, alone);
    return worlds_close(comm, alone);
}
