/* Fuzzes config.json and generation_config.json: the input is one, or both with a NUL between. What is accepted must
 * keep the promises that the weights and RoPE rely on. */
#include "kernels/kernels.h"
#include "runtime/model/config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(bool condition) {
    if (!condition) abort();
}

static void check_rope(const lucid_model_config *c, int64_t max_context) {
    double inv_freq[LUCID_MAX_HEAD_DIM / 2], factor;
    require(c->head_dim % 2 == 0);
    lucid_rope_frequencies(inv_freq, &factor, c, max_context);
    for (int i = 0; i < c->head_dim / 2; i++) require(!isnan(inv_freq[i]));
    require(factor > 0);
}

static void check_config(const lucid_model_config *c) {
    require(c->hidden_size > 0 && c->intermediate_size > 0 && c->vocab_size > 0 && c->n_layers > 0);
    require(c->n_kv_heads > 0 && c->n_heads % c->n_kv_heads == 0);
    require(c->head_dim >= 1 && c->head_dim <= LUCID_MAX_HEAD_DIM && c->rms_norm_eps > 0);
    require(c->bos_token_id >= -1 && c->bos_token_id < c->vocab_size);
    require(c->n_eos >= 0 && c->n_eos <= LUCID_MODEL_MAX_EOS);
    for (int i = 0; i < c->n_eos; i++) require(c->eos_token_ids[i] >= 0 && c->eos_token_ids[i] < c->vocab_size);
    if (!c->use_rope) return;
    check_rope(c, 1);
    check_rope(c, INT64_C(1) << 40);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    const char *text = (const char *)bytes;
    const char *cut = n ? memchr(text, 0, n) : NULL;
    lucid_config_text model = {text, cut ? (size_t)(cut - text) : n, "config.json"};
    lucid_config_text generation = {0};
    lucid_model_config config;
    if (cut) generation = (lucid_config_text){cut + 1, n - model.n_bytes - 1, "generation_config.json"};
    if (lucid_model_config_parse(&config, &model, cut ? &generation : NULL) == LUCID_OK) check_config(&config);
    return 0;
}
