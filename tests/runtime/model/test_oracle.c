/* Proves the oracle: its logits against PyTorch's in fp64 for every golden folder, logits that do not depend on later
 * tokens, and for each feature a folder whose logits change when the feature is taken away, so that agreement with the
 * golden logits says something about it. */
#include "tests/check.h"

#include "tests/runtime/model/oracle_folder.h"

#include <stdlib.h>
#include <string.h>

/* Both sides round in fp64; sums of 100 terms through 2 layers keep 12 digits or more. */
#define TOLERANCE 1e-10
/* A feature that matters changes the largest logit by more than this, relative. */
#define NOTICEABLE 1e-3

#define MAX_PATH 4096
static const char *golden_path;
static const float zeros[128 * 128];

static const char *folder_path(const char *name) {
    static char path[MAX_PATH];
    snprintf(path, sizeof path, "%s/%s", golden_path, name);
    return path;
}

static double *logits_of(const oracle_model *model, const int64_t *tokens, int n_tokens) {
    double *logits = calloc((size_t)n_tokens * model->config.vocab_size, sizeof *logits);
    oracle_logits(logits, model, tokens, n_tokens);
    return logits;
}

/* max |a - b| / max |b|; NaN when either has one */
static double difference(const double *a, const double *b, int n) {
    double largest = 0, apart = 0;
    for (int i = 0; i < n; i++) {
        if (isnan(a[i]) || isnan(b[i])) return NAN;
        largest = fmax(largest, fabs(b[i]));
        apart = fmax(apart, fabs(a[i] - b[i]));
    }
    return apart / largest;
}

static void test_golden(const char *name) {
    oracle_golden golden = oracle_golden_read(folder_path(name));
    oracle_folder folder = oracle_folder_read(folder_path(name), golden.n_tokens);
    const int n = golden.n_tokens * golden.vocab_size;
    CHECK(folder.model.config.vocab_size == golden.vocab_size, "%s: vocabulary", name);
    double *logits = logits_of(&folder.model, golden.tokens, golden.n_tokens);
    const double apart = difference(logits, golden.logits, n);
    CHECK_NEAR(apart, 0, TOLERANCE, "%s: relative difference from PyTorch's logits", name);
    printf("%-16s %d tokens, relative difference %.2g\n", name, golden.n_tokens, apart);
    free(logits);
    oracle_folder_free(&folder);
    oracle_golden_free(&golden);
}

/* The first tokens' logits are the same bits without the rest. */
static void test_causal(const char *name) {
    oracle_golden golden = oracle_golden_read(folder_path(name));
    oracle_folder folder = oracle_folder_read(folder_path(name), golden.n_tokens);
    const int n_first = golden.n_tokens / 2;
    double *all = logits_of(&folder.model, golden.tokens, golden.n_tokens);
    double *first = logits_of(&folder.model, golden.tokens, n_first);
    CHECK(memcmp(all, first, (size_t)n_first * golden.vocab_size * sizeof *all) == 0, "%s: sees the future", name);
    free(first);
    free(all);
    oracle_folder_free(&folder);
    oracle_golden_free(&golden);
}

static const char *const folders[] = {
    "softmax_default", "softmax_linear", "softmax_dynamic", "softmax_llama3", "softmax_yarn",
    "softmax_norope",  "softmax_qknorm", "softmax_qwen3",   "lucid_rope",     "lucid_68",
    "lucid_qknorm",    "deltanet_conv",  "deltanet_plain",
};

/* One removal of a feature: from the configuration, or from every layer. */
typedef struct {
    const char *folder, *feature;
    void (*config)(oracle_config *config);
    void (*layer)(oracle_layer *layer);
} removal;

static void no_rope(oracle_config *c) {
    c->rope.kind = ORACLE_ROPE_NONE;
}
static void no_scaling(oracle_config *c) {
    c->rope.kind = ORACLE_ROPE_DEFAULT;
}
static void other_theta(oracle_config *c) {
    c->rope.theta *= 2;
}
static void other_factor(oracle_config *c) {
    c->rope.factor *= 2;
}
static void short_context(oracle_config *c) {
    c->rope.max_context = 0;
}
static void other_original(oracle_config *c) {
    c->rope.original_max_position *= 2;
}
static void other_low(oracle_config *c) {
    c->rope.low_freq_factor *= 2;
}
static void other_high(oracle_config *c) {
    c->rope.high_freq_factor *= 2;
}
static void other_fast(oracle_config *c) {
    c->rope.beta_fast = 32;
}
static void other_slow(oracle_config *c) {
    c->rope.beta_slow = 0.5;
}
static void no_attention_factor(oracle_config *c) {
    c->rope.attention_factor = 1;
}
static void no_eps(oracle_config *c) {
    c->rms_norm_eps = 0;
}
static void other_activation(oracle_config *c) {
    c->activation = c->activation == ORACLE_GELU ? ORACLE_SILU : ORACLE_GELU;
}
static void no_qk_norm(oracle_config *c) {
    c->qk_norm = ORACLE_QK_NORM_NONE;
}
static void other_order(oracle_config *c) {
    c->qk_norm = c->qk_norm == ORACLE_QK_NORM_AFTER_ROPE ? ORACLE_QK_NORM_BEFORE_ROPE : ORACLE_QK_NORM_AFTER_ROPE;
}
static void plain_softmax(oracle_config *c) {
    c->attention = ORACLE_SOFTMAX;
}
static void lucid(oracle_config *c) {
    c->attention = ORACLE_LUCID;
}

static void no_q_bias(oracle_layer *l) {
    l->q_proj.bias = NULL;
}
static void no_k_bias(oracle_layer *l) {
    l->k_proj.bias = NULL;
}
static void no_v_bias(oracle_layer *l) {
    l->v_proj.bias = NULL;
}
static void no_o_bias(oracle_layer *l) {
    l->o_proj.bias = NULL;
}
static void no_gate_bias(oracle_layer *l) {
    l->gate_proj.bias = NULL;
}
static void no_up_bias(oracle_layer *l) {
    l->up_proj.bias = NULL;
}
static void no_down_bias(oracle_layer *l) {
    l->down_proj.bias = NULL;
}
static void no_attention(oracle_layer *l) {
    l->o_proj.weight = zeros;
}
static void no_mlp(oracle_layer *l) {
    l->down_proj.weight = zeros;
}
static void constant_beta(oracle_layer *l) {
    l->b_proj.weight = zeros;
}
static void no_q_conv(oracle_layer *l) {
    l->q_conv1d = NULL;
}
static void no_k_conv(oracle_layer *l) {
    l->k_conv1d = NULL;
}
static void no_v_conv(oracle_layer *l) {
    l->v_conv1d = NULL;
}
static void no_o_norm_gain(oracle_layer *l) {
    l->o_norm = NULL;
}
static void no_q_norm_gain(oracle_layer *l) {
    l->q_norm = NULL;
}
static void no_k_norm_gain(oracle_layer *l) {
    l->k_norm = NULL;
}

static const removal removals[] = {
    {"softmax_default", "RoPE", .config = no_rope},
    {"softmax_default", "theta", .config = other_theta},
    {"softmax_default", "LUCID instead", .config = lucid},
    {"softmax_default", "SiLU", .config = other_activation},
    {"softmax_default", "attention", .layer = no_attention},
    {"softmax_default", "MLP", .layer = no_mlp},
    {"softmax_linear", "linear scaling", .config = no_scaling},
    {"softmax_linear", "q bias", .layer = no_q_bias},
    {"softmax_linear", "k bias", .layer = no_k_bias},
    {"softmax_linear", "v bias", .layer = no_v_bias},
    {"softmax_linear", "o bias", .layer = no_o_bias},
    {"softmax_dynamic", "dynamic scaling", .config = no_scaling},
    {"softmax_dynamic", "factor", .config = other_factor},
    {"softmax_dynamic", "max_context", .config = short_context},
    {"softmax_llama3", "llama3 scaling", .config = no_scaling},
    {"softmax_llama3", "factor", .config = other_factor},
    {"softmax_llama3", "original length", .config = other_original},
    {"softmax_llama3", "low_freq_factor", .config = other_low},
    {"softmax_llama3", "high_freq_factor", .config = other_high},
    {"softmax_yarn", "yarn scaling", .config = no_scaling},
    {"softmax_yarn", "factor", .config = other_factor},
    {"softmax_yarn", "original length", .config = other_original},
    {"softmax_yarn", "beta_fast", .config = other_fast},
    {"softmax_yarn", "beta_slow", .config = other_slow},
    {"softmax_yarn", "attention_factor", .config = no_attention_factor},
    {"softmax_norope", "GELU", .config = other_activation},
    {"softmax_norope", "gate bias", .layer = no_gate_bias},
    {"softmax_norope", "up bias", .layer = no_up_bias},
    {"softmax_norope", "down bias", .layer = no_down_bias},
    {"softmax_qknorm", "q_norm and k_norm", .config = no_qk_norm},
    {"softmax_qknorm", "norm after RoPE", .config = other_order},
    {"softmax_qknorm", "q_norm's gain", .layer = no_q_norm_gain},
    {"softmax_qknorm", "k_norm's gain", .layer = no_k_norm_gain},
    {"softmax_qwen3", "q_norm and k_norm", .config = no_qk_norm},
    {"softmax_qwen3", "norm before RoPE", .config = other_order},
    {"lucid_rope", "preconditioning", .config = plain_softmax},
    {"lucid_rope", "RoPE", .config = no_rope},
    {"lucid_rope", "eps", .config = no_eps},
    {"lucid_68", "preconditioning", .config = plain_softmax},
    {"lucid_68", "k bias", .layer = no_k_bias},
    {"lucid_qknorm", "preconditioning", .config = plain_softmax},
    {"lucid_qknorm", "norm after RoPE", .config = other_order},
    {"deltanet_conv", "the delta rule", .config = plain_softmax},
    {"deltanet_conv", "beta", .layer = constant_beta},
    {"deltanet_conv", "q's convolution", .layer = no_q_conv},
    {"deltanet_conv", "k's convolution", .layer = no_k_conv},
    {"deltanet_conv", "v's convolution", .layer = no_v_conv},
    {"deltanet_conv", "o_norm's gain", .layer = no_o_norm_gain},
    {"deltanet_plain", "eps", .config = no_eps},
};

static void test_removal(const removal *without) {
    oracle_golden golden = oracle_golden_read(folder_path(without->folder));
    oracle_folder folder = oracle_folder_read(folder_path(without->folder), golden.n_tokens);
    if (without->config) without->config(&folder.model.config);
    for (int l = 0; without->layer && l < folder.model.config.n_layers; l++) without->layer(&folder.layers[l]);
    double *logits = logits_of(&folder.model, golden.tokens, golden.n_tokens);
    const double change = difference(logits, golden.logits, golden.n_tokens * golden.vocab_size);
    CHECK(change > NOTICEABLE, "%s: without %s logits change by %.2g, relative", without->folder, without->feature,
          change);
    free(logits);
    oracle_folder_free(&folder);
    oracle_golden_free(&golden);
}

/* An untied head is read: tying it changes the logits. */
static void test_untied(void) {
    oracle_golden golden = oracle_golden_read(folder_path("softmax_linear"));
    oracle_folder folder = oracle_folder_read(folder_path("softmax_linear"), golden.n_tokens);
    CHECK(folder.model.lm_head, "softmax_linear has a head");
    folder.model.lm_head = NULL;
    double *logits = logits_of(&folder.model, golden.tokens, golden.n_tokens);
    const double change = difference(logits, golden.logits, golden.n_tokens * golden.vocab_size);
    CHECK(change > NOTICEABLE, "tied: logits change by %.2g", change);
    free(logits);
    oracle_folder_free(&folder);
    oracle_golden_free(&golden);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: test_oracle GOLDEN_FOLDER\n");
        return 2;
    }
    golden_path = argv[1];
    for (int i = 0; i < COUNT(folders); i++) test_golden(folders[i]);
    for (int i = 0; i < COUNT(folders); i++) test_causal(folders[i]);
    for (int i = 0; i < COUNT(removals); i++) test_removal(&removals[i]);
    test_untied();
    return check_result();
}
