/* The decoder: embedding, layers of attention and gated MLP with residuals, final norm, logits. */
#include "tests/runtime/model/oracle_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double *oracle_zeros(size_t n) {
    double *x = calloc(n ? n : 1, sizeof *x);
    if (!x) {
        fprintf(stderr, "oracle: no memory for %zu numbers\n", n);
        abort();
    }
    return x;
}

double oracle_silu(double x) {
    return x / (1 + exp(-x));
}

static double gelu(double x) {
    return x * 0.5 * (1 + erf(x * M_SQRT1_2));
}

void oracle_rms_norm(double *x, const float *gain, int n, double eps) {
    const double scale = 1 / sqrt(oracle_dot(x, x, n) / n + eps);
    for (int i = 0; i < n; i++) x[i] *= scale * (gain ? gain[i] : 1);
}

static void norm_heads(oracle_heads *x, const float *gain, double eps) {
    for (int t = 0; t < x->n_tokens; t++) {
        for (int h = 0; h < x->n_heads; h++) oracle_rms_norm(oracle_head(x, t, h), gain, x->dim, eps);
    }
}

/* y (n_rows, n_out) = x (n_rows, n_in) weight^T + bias, freshly allocated */
static double *project(const double *x, oracle_linear linear, int n_rows, int n_in, int n_out) {
    double *y = oracle_zeros((size_t)n_rows * n_out);
    for (int r = 0; r < n_rows; r++) {
        for (int o = 0; o < n_out; o++) {
            double sum = linear.bias ? linear.bias[o] : 0;
            for (int i = 0; i < n_in; i++) sum += x[(size_t)r * n_in + i] * linear.weight[(size_t)o * n_in + i];
            y[(size_t)r * n_out + o] = sum;
        }
    }
    return y;
}

static oracle_heads project_heads(const double *x, oracle_linear linear, int n_tokens, const oracle_config *config,
                                  int n_heads) {
    const int dim = config->head_dim;
    return (oracle_heads){.x = project(x, linear, n_tokens, config->hidden_size, n_heads * dim),
                          .n_tokens = n_tokens,
                          .n_heads = n_heads,
                          .dim = dim};
}

static void scale_queries(oracle_heads *q, double length) {
    for (int t = 0; t < q->n_tokens && length > 0; t++) {
        const double scale = fmax(1, log(t + 1) / log(length));
        for (int i = 0; i < q->n_heads * q->dim; i++) oracle_head(q, t, 0)[i] *= scale;
    }
}

/* LUCID's P uses the same keys as its softmax: after both norm and RoPE. */
static void attend(oracle_heads *out, oracle_heads *q, oracle_heads *k, oracle_heads *v, const oracle_layer *layer,
                   const oracle_config *config) {
    oracle_heads *const convolved[3] = {q, k, v}, *const turned[2] = {q, k};
    const float *const weights[3] = {layer->q_conv1d, layer->k_conv1d, layer->v_conv1d};
    const float *const gain[2] = {layer->q_norm, layer->k_norm};
    for (int i = 0; i < 3; i++)
        if (weights[i]) oracle_short_convolution(convolved[i], weights[i]);
    for (int i = 0; i < 2; i++) {
        if (config->qk_norm == ORACLE_QK_NORM_BEFORE_ROPE) norm_heads(turned[i], gain[i], config->rms_norm_eps);
        oracle_rotate(turned[i], &config->rope);
        if (config->qk_norm == ORACLE_QK_NORM_AFTER_ROPE) norm_heads(turned[i], gain[i], config->rms_norm_eps);
    }
    scale_queries(q, config->query_log_scale);
    if (config->attention == ORACLE_LUCID) oracle_precondition(v, k, config->rms_norm_eps);
    oracle_softmax_attention(out, q, k, v);
}

static void convolve_and_activate(oracle_heads *x, const float *weight) {
    const size_t n = (size_t)x->n_tokens * x->n_heads * x->dim;
    if (weight) oracle_short_convolution(x, weight);
    for (size_t i = 0; i < n; i++) x->x[i] = oracle_silu(x->x[i]);
}

static void attend_deltanet(oracle_heads *out, oracle_heads *q, oracle_heads *k, oracle_heads *v, const double *normed,
                            const oracle_layer *layer, const oracle_config *config) {
    const size_t n_beta = (size_t)k->n_tokens * k->n_heads;
    double *beta = project(normed, layer->b_proj, k->n_tokens, config->hidden_size, k->n_heads);
    for (size_t i = 0; i < n_beta; i++) beta[i] = 1 / (1 + exp(-beta[i]));
    convolve_and_activate(q, layer->q_conv1d);
    convolve_and_activate(k, layer->k_conv1d);
    convolve_and_activate(v, layer->v_conv1d);
    oracle_delta_rule(out, q, k, v, beta);
    norm_heads(out, layer->o_norm, config->rms_norm_eps);
    free(beta);
}

/* (n_tokens, hidden_size) from the normed input of the same shape */
static double *attention_of(const double *normed, const oracle_layer *layer, const oracle_config *config,
                            int n_tokens) {
    oracle_heads q = project_heads(normed, layer->q_proj, n_tokens, config, config->n_heads);
    oracle_heads k = project_heads(normed, layer->k_proj, n_tokens, config, config->n_kv_heads);
    oracle_heads v = project_heads(normed, layer->v_proj, n_tokens, config, config->n_kv_heads);
    oracle_heads out = q;
    out.x = oracle_zeros((size_t)n_tokens * q.n_heads * q.dim);
    if (config->attention == ORACLE_DELTANET)
        attend_deltanet(&out, &q, &k, &v, normed, layer, config);
    else
        attend(&out, &q, &k, &v, layer, config);
    double *y = project(out.x, layer->o_proj, n_tokens, q.n_heads * q.dim, config->hidden_size);
    free(out.x);
    free(v.x);
    free(k.x);
    free(q.x);
    return y;
}

static double *mlp_of(const double *normed, const oracle_layer *layer, const oracle_config *config, int n_tokens) {
    const int hidden = config->hidden_size, inner = config->intermediate_size;
    double *gate = project(normed, layer->gate_proj, n_tokens, hidden, inner);
    double *up = project(normed, layer->up_proj, n_tokens, hidden, inner);
    for (size_t i = 0; i < (size_t)n_tokens * inner; i++)
        gate[i] = (config->activation == ORACLE_GELU ? gelu(gate[i]) : oracle_silu(gate[i])) * up[i];
    double *y = project(gate, layer->down_proj, n_tokens, inner, hidden);
    free(up);
    free(gate);
    return y;
}

/* x += part(norm(x)), the shape of both halves of a layer */
static void add_residual(double *x, const float *gain, const oracle_layer *layer, const oracle_config *config,
                         int n_tokens,
                         double *(*part)(const double *, const oracle_layer *, const oracle_config *, int)) {
    const int hidden = config->hidden_size;
    const size_t n = (size_t)n_tokens * hidden;
    double *normed = oracle_zeros(n);
    memcpy(normed, x, n * sizeof *x);
    for (int t = 0; t < n_tokens; t++) oracle_rms_norm(normed + (size_t)t * hidden, gain, hidden, config->rms_norm_eps);
    double *y = part(normed, layer, config, n_tokens);
    for (size_t i = 0; i < n; i++) x[i] += y[i];
    free(y);
    free(normed);
}

static double *embed(const oracle_model *model, const int64_t *tokens, int n_tokens) {
    const int hidden = model->config.hidden_size;
    double *x = oracle_zeros((size_t)n_tokens * hidden);
    for (int t = 0; t < n_tokens; t++) {
        if (tokens[t] < 0 || tokens[t] >= model->config.vocab_size) {
            fprintf(stderr, "oracle: token %d is outside of the vocabulary\n", t);
            abort();
        }
        for (int i = 0; i < hidden; i++) x[(size_t)t * hidden + i] = model->embed_tokens[tokens[t] * hidden + i];
    }
    return x;
}

void oracle_logits(double *logits, const oracle_model *model, const int64_t *tokens, int n_tokens) {
    const oracle_config *config = &model->config;
    const int hidden = config->hidden_size;
    double *x = embed(model, tokens, n_tokens);
    for (int l = 0; l < config->n_layers; l++) {
        const oracle_layer *layer = &model->layers[l];
        add_residual(x, layer->input_norm, layer, config, n_tokens, attention_of);
        add_residual(x, layer->post_attention_norm, layer, config, n_tokens, mlp_of);
    }
    for (int t = 0; t < n_tokens; t++)
        oracle_rms_norm(x + (size_t)t * hidden, model->norm, hidden, config->rms_norm_eps);
    const oracle_linear head = {.weight = model->lm_head ? model->lm_head : model->embed_tokens};
    double *y = project(x, head, n_tokens, hidden, config->vocab_size);
    memcpy(logits, y, (size_t)n_tokens * config->vocab_size * sizeof *y);
    free(y);
    free(x);
}
