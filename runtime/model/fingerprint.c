#include "runtime/model/fingerprint.h"

#include "runtime/files/checksum.h"

#include <inttypes.h>
#include <stdio.h>

#define STRIDE 257 /* every so many rows of a weight are looked at */

static uint64_t hash_weight(uint64_t h, const float *weight, int64_t rows, int64_t columns) {
    for (int64_t r = 0; weight && r < rows; r += STRIDE)
        h = lucid_checksum(h, weight + r * columns, (size_t)columns * sizeof *weight);
    return h;
}

static uint64_t hash_layer(uint64_t h, const lucid_model_layer *l, const lucid_model_config *c) {
    const int64_t hidden = c->hidden_size, inner = c->intermediate_size;
    const int64_t q = (int64_t)c->n_heads * c->head_dim, kv = (int64_t)c->n_kv_heads * c->head_dim;
    h = hash_weight(h, l->input_norm, 1, hidden);
    h = hash_weight(h, l->q_proj, q, hidden);
    h = hash_weight(h, l->k_proj, kv, hidden);
    h = hash_weight(h, l->v_proj, kv, hidden);
    h = hash_weight(h, l->o_proj, hidden, q);
    h = hash_weight(h, l->gate_proj, inner, hidden);
    h = hash_weight(h, l->up_proj, inner, hidden);
    return hash_weight(h, l->down_proj, hidden, inner);
}

/* The numbers that weights do not show: they are written out, so that no byte between two fields counts. */
static uint64_t hash_config(const lucid_model_config *c, int64_t max_context) {
    char text[512];
    const lucid_rope *r = &c->rope;
    int n = snprintf(text, sizeof text, "%d %d %d %d %d %a %d", c->attention, c->activation, c->qk_norm, c->n_heads,
                     c->n_kv_heads, c->rms_norm_eps, c->use_rope);
    if (c->use_rope)
        n += snprintf(text + n, sizeof text - (size_t)n, " %d %a %a %d %a %a %a %a %a %a %a %d", r->type, r->theta,
                      r->factor, r->original_max_position_embeddings, r->low_freq_factor, r->high_freq_factor,
                      r->attention_factor, r->beta_fast, r->beta_slow, r->mscale, r->mscale_all_dim, r->truncate);
    if (lucid_model_rotary_dim(c) < c->head_dim)
        n += snprintf(text + n, sizeof text - (size_t)n, " turns %d", lucid_model_rotary_dim(c));
    if (c->conv_size > 1 || c->query_log_scale)
        n += snprintf(text + n, sizeof text - (size_t)n, " convolves %d, scales %d", c->conv_size, c->query_log_scale);
    if (c->use_rope && r->type == LUCID_ROPE_DYNAMIC)
        n += snprintf(text + n, sizeof text - (size_t)n, " %" PRId64, max_context);
    return lucid_checksum(0, text, (size_t)n);
}

void lucid_model_fingerprint(char text[LUCID_FINGERPRINT_MAX], const lucid_model *model, int64_t max_context) {
    const lucid_model_config *c = &model->config;
    uint64_t h = hash_config(c, max_context);
    h = hash_weight(h, model->embed_tokens, c->vocab_size, c->hidden_size);
    for (int l = 0; l < c->n_layers; l++) h = hash_layer(h, &model->layers[l], c);
    snprintf(text, LUCID_FINGERPRINT_MAX, "%d layers of %d, %" PRId64 " parameters, %016" PRIx64, c->n_layers,
             c->hidden_size, model->n_parameters, h);
}
