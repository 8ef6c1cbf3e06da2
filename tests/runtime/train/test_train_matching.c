/* lucid_trainee_match: what a layer's first weights find. Scores are computed here, in fp64, from the weights and the
 * definition of the layer: a causal convolution of the projections of embeddings. */
#include "runtime/train/trainee.h"
#include "tests/check.h"
#include "tests/comm/drive.h"

#include <stdlib.h>
#include <string.h>

#define HIDDEN 128
#define DIM    64
#define HEADS  4 /* on 2 */
#define WIDTH  4
#define TOKENS 64

static const lucid_model_config config = {.hidden_size = HIDDEN,
                                          .intermediate_size = 16,
                                          .vocab_size = 97,
                                          .n_layers = 2,
                                          .n_heads = HEADS,
                                          .n_kv_heads = 2,
                                          .head_dim = DIM,
                                          .max_position_embeddings = TOKENS,
                                          .rms_norm_eps = 1e-5,
                                          .attention = LUCID_MODEL_LUCID,
                                          .conv_size = WIDTH};

/* out (DIM) = a head's projection of the token at `at`, convolved. */
static void project(double *out, const lucid_model *m, const int *ids, int at, int head, bool key) {
    const lucid_model_layer *layer = &m->layers[1];
    const float *proj = key ? layer->k_proj : layer->q_proj, *conv = key ? layer->k_conv : layer->q_conv;
    for (int64_t c = (int64_t)head * DIM; c < (head + 1) * DIM; c++) {
        double sum = 0;
        for (int w = 0; w < WIDTH; w++) {
            const int t = at - (WIDTH - 1) + w;
            for (int i = 0; i < HIDDEN && t >= 0; i++)
                sum += (double)conv[c * WIDTH + w] * proj[c * HIDDEN + i] * m->embed_tokens[ids[t] * HIDDEN + i];
        }
        out[c - (int64_t)head * DIM] = sum;
    }
}

static double score(const lucid_model *m, const int *ids, int query, int key, int head) {
    double q[DIM], k[DIM], sum = 0;
    project(q, m, ids, query, head, false);
    project(k, m, ids, key, head / 2, true);
    for (int i = 0; i < DIM; i++) sum += q[i] * k[i];
    return sum;
}

/* Three tokens stood at 20 to 22, in another order at 40 to 42, and stand at the end: what followed them is
 * found by each group's first head, and the token itself by the other. */
static void test_found(const lucid_trainee *t) {
    int ids[TOKENS];
    for (int i = 0; i < TOKENS; i++) ids[i] = 10 + i;
    for (int i = 0; i < 3; i++) ids[20 + i] = ids[TOKENS - 3 + i] = ids[42 - i] = 1 + i;
    for (int head = 0; head < HEADS; head++) {
        const int wanted = head % 2 ? TOKENS - 1 : 23;
        int best = 0;
        for (int i = 1; i < TOKENS; i++)
            if (score(&t->model, ids, TOKENS - 1, i, head) > score(&t->model, ids, TOKENS - 1, best, head)) best = i;
        CHECK(best == wanted, "head %d: %d is to be found, and %d scores highest", head, wanted, best);
    }
}

/* What a layer copies points where the copied token's own embedding does. */
static void test_copied(const lucid_trainee *t) {
    const lucid_model_layer *layer = &t->model.layers[1];
    const float *x = t->model.embed_tokens;
    for (int head = 0; head < HEADS; head++) {
        double out[HIDDEN] = {0}, along = 0, length = 0, of_x = 0;
        for (int64_t j = 0; j < DIM; j++) {
            double v = 0;
            for (int i = 0; i < HIDDEN; i++) v += (double)layer->v_proj[(head / 2 * DIM + j) * HIDDEN + i] * x[i];
            for (int i = 0; i < HIDDEN; i++) out[i] += v * layer->o_proj[i * HEADS * DIM + head * DIM + j];
        }
        for (int i = 0; i < HIDDEN; i++) along += out[i] * x[i], length += out[i] * out[i], of_x += (double)x[i] * x[i];
        CHECK(along / sqrt(length * of_x) > 0.4, "head %d copies %.2f of a token", head, along / sqrt(length * of_x));
    }
}

int main(void) {
    lucid_trainee t;
    REQUIRE(lucid_trainee_create(&t, &(lucid_trainee_config){.config = config}));
    lucid_trainee_initialise(&t, 5, 0.06);
    float *before = malloc((size_t)t.n_floats * sizeof *before);
    REQUIRE(before ? LUCID_OK : LUCID_ERR_MEMORY);
    memcpy(before, t.parameters, (size_t)t.n_floats * sizeof *before);
    lucid_trainee_match(&t, 5);
    const int64_t mlp = t.model.layers[1].gate_proj - t.parameters;
    CHECK(memcmp(before + mlp, t.parameters + mlp, HIDDEN * sizeof *before) == 0, "other weights change");
    test_found(&t);
    test_copied(&t);
    free(before);
    lucid_trainee_destroy(&t);
    return check_result();
}
