/* The fp64 oracle's view of a model's configuration and weights. */
#ifndef LUCID_TESTS_ORACLE_OF_H
#define LUCID_TESTS_ORACLE_OF_H

#include "runtime/model/weights.h"
#include "tests/runtime/model/oracle.h"

static inline oracle_config oracle_config_of(const lucid_model_config *c) {
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
    o.rope = (oracle_rope){
        .kind = c->use_rope ? ORACLE_ROPE_DEFAULT : ORACLE_ROPE_NONE, .dim = c->rotary_dim, .theta = c->rope.theta};
    o.query_log_scale = c->query_log_scale;
    return o;
}

static inline oracle_layer oracle_layer_of(const lucid_model_layer *l) {
    return (oracle_layer){.input_norm = l->input_norm,
                          .post_attention_norm = l->post_attention_norm,
                          .q_proj = {l->q_proj, l->q_bias},
                          .k_proj = {l->k_proj, l->k_bias},
                          .v_proj = {l->v_proj, l->v_bias},
                          .o_proj = {l->o_proj, l->o_bias},
                          .q_norm = l->q_norm,
                          .k_norm = l->k_norm,
                          .q_conv1d = l->q_conv,
                          .k_conv1d = l->k_conv,
                          .v_conv1d = l->v_conv,
                          .gate_proj = {l->gate_proj, l->gate_bias},
                          .up_proj = {l->up_proj, l->up_bias},
                          .down_proj = {l->down_proj, l->down_bias}};
}

/* layers (n_layers) is the oracle model's. */
static inline oracle_model oracle_model_of(oracle_layer *layers, const lucid_model *m) {
    for (int l = 0; l < m->config.n_layers; l++) layers[l] = oracle_layer_of(&m->layers[l]);
    return (oracle_model){.config = oracle_config_of(&m->config),
                          .embed_tokens = m->embed_tokens,
                          .layers = layers,
                          .norm = m->norm,
                          .lm_head = m->config.tie_word_embeddings ? NULL : m->lm_head};
}

#endif
