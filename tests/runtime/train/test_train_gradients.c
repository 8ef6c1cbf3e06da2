/* Gradients of whole models against central differences of the fp64 oracle's loss, on tiny models of every option; and
 * the same bits however the sequences are spread over ranks, passes and threads. */
#include "runtime/train/exact.h"
#include "runtime/train/pass.h"
#include "tests/check.h"
#include "tests/comm/worlds.h"
#include "tests/runtime/model/oracle.h"

#include <stdlib.h>
#include <string.h>

/* fp32 against differences in fp64, relative to the tensor's largest gradient: 3e-4 is the largest seen. */
#define TOLERANCE 1e-3
#define SAMPLES   2 /* elements of a tensor */
#define VOCAB     11

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

static oracle_config oracle_config_of(const lucid_model_config *c) {
    oracle_config o = {.vocab_size = c->vocab_size,
                       .hidden_size = c->hidden_size,
                       .intermediate_size = c->intermediate_size,
                       .n_layers = c->n_layers,
                       .n_heads = c->n_heads,
                       .n_kv_heads = c->n_kv_heads,
                       .head_dim = c->head_dim,
                       .rms_norm_eps = c->rms_norm_eps};
    o.attention = c->attention == LUCID_MODEL_LUCID ? ORACLE_LUCID : ORACLE_SOFTMAX;
    o.activation = c->activation == LUCID_ACTIVATION_GELU ? ORACLE_GELU : ORACLE_SILU;
    o.qk_norm = c->qk_norm == LUCID_QKNORM_ON ? ORACLE_QK_NORM_AFTER_ROPE : ORACLE_QK_NORM_NONE;
    o.rope = (oracle_rope){.kind = c->use_rope ? ORACLE_ROPE_DEFAULT : ORACLE_ROPE_NONE, .theta = c->rope.theta};
    return o;
}

static oracle_layer oracle_layer_of(const lucid_model_layer *l) {
    return (oracle_layer){.input_norm = l->input_norm,
                          .post_attention_norm = l->post_attention_norm,
                          .q_proj = {l->q_proj, l->q_bias},
                          .k_proj = {l->k_proj, l->k_bias},
                          .v_proj = {l->v_proj, l->v_bias},
                          .o_proj = {l->o_proj, l->o_bias},
                          .q_norm = l->q_norm,
                          .k_norm = l->k_norm,
                          .gate_proj = {l->gate_proj, l->gate_bias},
                          .up_proj = {l->up_proj, l->up_bias},
                          .down_proj = {l->down_proj, l->down_bias}};
}

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
    const oracle_model model = {.config = oracle_config_of(&m->config),
                                .embed_tokens = m->embed_tokens,
                                .layers = layers,
                                .norm = m->norm,
                                .lm_head = m->config.tie_word_embeddings ? NULL : m->lm_head};
    double loss = 0, *logits = malloc((size_t)e->length * VOCAB * sizeof *logits);
    int64_t *ids = malloc((size_t)e->length * sizeof *ids);
    for (int l = 0; l < m->config.n_layers; l++) layers[l] = oracle_layer_of(&m->layers[l]);
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
    for (int64_t i = 0; i < SAMPLES; i++) {
        const int64_t at = (i * 7919 + slot * 31 + 3) % n;
        const double want = difference(t, t->parameters + t->first[slot] + at, e);
        CHECK_NEAR(gradient[at] / largest, want / largest, TOLERANCE, "%s: %s [%lld], largest %g", name,
                   t->slots[slot].name, (long long)at, largest);
    }
}

/* Another way over the same sequences; its bits are `want`'s. */
static void run_again(const gradient_case *c, lucid_comm *comm, const lucid_trainee *want, const lucid_examples *e,
                      int at_once, int threads) {
    lucid_trainee t;
    REQUIRE(lucid_trainee_create(&t, &c->config));
    fill(&t);
    learn(&t, comm, e, at_once, threads);
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
    run_again(c, comm, &t, &e, 1, 1);
    run_again(c, comm, &t, &e, 2, 3);
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

int main(void) {
    gradient_case cases[8];
    for (int i = 0; i < 8; i++) cases[i] = (gradient_case){.name = "softmax", .length = 150, .n_sequences = 2};
    for (int i = 0; i < 8; i++) cases[i].config.config = tiny(i ? LUCID_MODEL_LUCID : LUCID_MODEL_SOFTMAX);
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
    lucid_comm *comm, *alone;
    worlds_open(&comm, &alone);
    exact_sums();
    for (int i = 0; i < 8; i++) run_case(&cases[i], comm, alone);
    return worlds_close(comm, alone);
}
