#include "runtime/model/fingerprint.h"

#include "runtime/files/checksum.h"
#include "runtime/model/tensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Shapes too, so that what is cut otherwise counts. */
static uint64_t hash_slot(uint64_t h, const lucid_model_slot *slot) {
    int64_t n = 1;
    for (int i = 0; i < slot->n_dims; i++) n *= slot->shape[i];
    h = lucid_checksum(h, slot->shape, sizeof slot->shape);
    return lucid_checksum(h, *slot->pointer, (size_t)n * sizeof **slot->pointer);
}

/* The numbers that weights do not show: they are written out, so that no byte between two fields counts. */
uint64_t lucid_model_config_hash(const lucid_model_config *c, int64_t max_context) {
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
        n += snprintf(text + n, sizeof text - (size_t)n, " %d %" PRId64, c->max_position_embeddings, max_context);
    return lucid_checksum(0, text, (size_t)n);
}

lucid_status lucid_model_fingerprint(char text[LUCID_FINGERPRINT_MAX], const lucid_model *model, int64_t max_context) {
    const lucid_model_config *c = &model->config;
    lucid_model copy = *model; /* whose pointers slots may name */
    lucid_model_slot *slots;
    int n_slots;
    LUCID_TRY(lucid_model_slots_make(&slots, &n_slots, &copy));
    uint64_t h = lucid_model_config_hash(c, max_context);
    for (int s = 0; s < n_slots; s++) h = hash_slot(h, &slots[s]);
    free(slots);
    snprintf(text, LUCID_FINGERPRINT_MAX, "%d layers of %d, %" PRId64 " parameters, %016" PRIx64, c->n_layers,
             c->hidden_size, model->n_parameters, h);
    return LUCID_OK;
}
