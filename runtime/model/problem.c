#include "runtime/model/problem.h"

#include <string.h>

lucid_attention_kind lucid_model_attention_kind(const lucid_model_config *config) {
    return config->attention == LUCID_MODEL_LUCID ? LUCID_ATTENTION_LUCID : LUCID_ATTENTION_SOFTMAX;
}

lucid_problem lucid_model_problem(const lucid_model_config *config, int64_t seqlen, int batch) {
    return (lucid_problem){
        .attention = lucid_model_attention_kind(config),
        .seqlen = seqlen,
        .batch = batch,
        .n_heads = config->n_heads,
        .n_kv_heads = config->n_kv_heads,
        .head_dim = config->head_dim,
        .value_dim = config->head_dim,
        .eps = config->rms_norm_eps,
    };
}

void lucid_head_gather(float *head, const float *rows, int64_t n_rows, int n_heads, int index, int head_dim) {
    const size_t d = (size_t)head_dim, step = (size_t)n_heads * d;
    const float *from = rows + (size_t)index * d;
    for (size_t i = 0; i < (size_t)n_rows; i++) memcpy(head + i * d, from + i * step, d * sizeof *from);
}

void lucid_head_scatter(float *rows, const float *head, int64_t n_rows, int n_heads, int index, int head_dim) {
    const size_t d = (size_t)head_dim, step = (size_t)n_heads * d;
    float *to = rows + (size_t)index * d;
    for (size_t i = 0; i < (size_t)n_rows; i++) memcpy(to + i * step, head + i * d, d * sizeof *to);
}
