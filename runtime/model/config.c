/* The checks that concern more than one key, and what follows from them. */
#include "runtime/model/config.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "runtime/model/config_keys.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

#define QWEN3_HEAD_DIM 128 /* of a Qwen3 that does not say */

static lucid_model_config defaults(void) {
    return (lucid_model_config){
        .max_position_embeddings = 2048,
        .rms_norm_eps = 1e-6,
        .use_rope = true,
        .conv_size = 1,
        .rope = {.type = LUCID_ROPE_DEFAULT, .truncate = true},
        .bos_token_id = -1,
    };
}

static lucid_status check_present(const lucid_model_config *c, const lucid_json_place *place) {
    const struct {
        const char *name;
        int value;
    } needed[] = {{"hidden_size", c->hidden_size},
                  {"intermediate_size", c->intermediate_size},
                  {"vocab_size", c->vocab_size},
                  {"num_hidden_layers", c->n_layers},
                  {"num_attention_heads", c->n_heads}};
    for (int i = 0; i < COUNT(needed); i++) {
        if (needed[i].value == 0) return lucid_json_refuse(place, needed[i].name, "is missing");
    }
    return LUCID_OK;
}

static lucid_status finish_heads(lucid_model_config *c, const lucid_json_place *place) {
    if (c->n_kv_heads == 0) c->n_kv_heads = c->n_heads;
    if (c->n_heads % c->n_kv_heads)
        return lucid_json_refuse(place, "num_key_value_heads", "%d does not divide num_attention_heads, %d",
                                 c->n_kv_heads, c->n_heads);
    if (c->head_dim) return LUCID_OK;
    if (c->hidden_size % c->n_heads)
        return lucid_json_refuse(place, "head_dim", "is missing, and hidden_size %d is no multiple of %d heads",
                                 c->hidden_size, c->n_heads);
    c->head_dim = c->hidden_size / c->n_heads;
    if (c->head_dim > LUCID_MAX_HEAD_DIM)
        return lucid_json_refuse(place, "hidden_size", "gives heads of dimension %d, more than %d", c->head_dim,
                                 LUCID_MAX_HEAD_DIM);
    return LUCID_OK;
}

static lucid_status finish_theta(config_source *source, const lucid_json_place *place) {
    lucid_rope *rope = &source->config.rope;
    if (rope->theta > 0 && source->rope_theta > 0 && rope->theta != source->rope_theta)
        return lucid_json_refuse(place, "rope_theta", "differs from the one in %s", source->rope_key);
    if (rope->theta == 0) rope->theta = source->rope_theta > 0 ? source->rope_theta : 10000;
    return rope->theta > 1 ? LUCID_OK : lucid_json_refuse(place, "rope_theta", "must be above 1");
}

static lucid_status check_llama3(const lucid_rope *rope, const lucid_json_place *place) {
    if (rope->low_freq_factor == 0) return lucid_json_refuse(place, "low_freq_factor", "is missing");
    if (rope->high_freq_factor == 0) return lucid_json_refuse(place, "high_freq_factor", "is missing");
    if (rope->high_freq_factor <= rope->low_freq_factor)
        return lucid_json_refuse(place, "high_freq_factor", "must be above low_freq_factor");
    return LUCID_OK;
}

static lucid_status finish_yarn(lucid_rope *rope, const lucid_json_place *place) {
    if (rope->beta_fast == 0) rope->beta_fast = 32;
    if (rope->beta_slow == 0) rope->beta_slow = 1;
    if (rope->beta_fast < rope->beta_slow) return lucid_json_refuse(place, "beta_fast", "must not be below beta_slow");
    return LUCID_OK;
}

/* As transformers has it: the first int(head_dim * share) dimensions turn. */
static lucid_status finish_rotary_dim(config_source *source, const lucid_json_place *place) {
    lucid_model_config *c = &source->config;
    const double inner = source->inner_share, outer = source->rotary_share;
    const double share = inner > 0 ? inner : outer > 0 ? outer : 1;
    if (c->head_dim % 2) return lucid_json_refuse(place, "head_dim", "%d is odd, and RoPE turns pairs", c->head_dim);
    if (outer > 0 && outer != share)
        return lucid_json_refuse(place, "partial_rotary_factor", "differs from the one in %s", source->rope_key);
    c->rotary_dim = (int)(c->head_dim * fmin(share, 2));
    if (share > 1 || c->rotary_dim < 2 || c->rotary_dim % 2)
        return lucid_json_refuse(place, "partial_rotary_factor", "%g of head_dim %d is no even number within it", share,
                                 c->head_dim);
    return LUCID_OK;
}

/* Keys that a type does not use are passed over, as transformers does. */
static lucid_status finish_rope(config_source *source, const lucid_json_place *place) {
    lucid_model_config *c = &source->config;
    lucid_rope *rope = &c->rope;
    char prefix[32];
    snprintf(prefix, sizeof prefix, "%s.", source->rope_key ? source->rope_key : "rope_scaling");
    const lucid_json_place inside = {place->path, prefix};
    LUCID_TRY(finish_theta(source, place));
    LUCID_TRY(finish_rotary_dim(source, place));
    if (rope->type == LUCID_ROPE_DEFAULT) return LUCID_OK;
    if (rope->factor == 0) return lucid_json_refuse(&inside, "factor", "is missing");
    if (rope->type == LUCID_ROPE_DYNAMIC && c->rotary_dim == 2)
        return lucid_json_refuse(&inside, "rope_type", "dynamic needs a head_dim above 2");
    if (rope->original_max_position_embeddings == 0)
        rope->original_max_position_embeddings = c->max_position_embeddings;
    if (rope->type == LUCID_ROPE_LLAMA3) return check_llama3(rope, &inside);
    return rope->type == LUCID_ROPE_YARN ? finish_yarn(rope, &inside) : LUCID_OK;
}

static lucid_status check_ids(const lucid_model_config *c, const lucid_json_place *place) {
    if (c->bos_token_id >= c->vocab_size)
        return lucid_json_refuse(place, "bos_token_id", "%d is not below vocab_size, %d", c->bos_token_id,
                                 c->vocab_size);
    for (int i = 0; i < c->n_eos; i++) {
        if (c->eos_token_ids[i] >= c->vocab_size)
            return lucid_json_refuse(place, "eos_token_id", "%d is not below vocab_size, %d", c->eos_token_ids[i],
                                     c->vocab_size);
    }
    return LUCID_OK;
}

static lucid_status finish_attention(config_source *source, const lucid_json_place *place) {
    lucid_model_config *c = &source->config;
    if (c->query_log_scale == 1) return lucid_json_refuse(place, "query_log_scale", "must be above 1");
    if (c->attention != LUCID_MODEL_DELTANET)
        return source->use_beta ? lucid_json_refuse(place, "use_beta", "is set, and that is not supported") : LUCID_OK;
    if (c->qk_norm == LUCID_QKNORM_ON) return lucid_json_refuse(place, "use_qknorm", "is set, and DeltaNet has none");
    if (c->n_kv_heads != c->n_heads)
        return lucid_json_refuse(place, "num_key_value_heads",
                                 "differs from num_attention_heads, and DeltaNet needs "
                                 "as many");
    if (c->conv_size > 1 || c->query_log_scale)
        return lucid_json_refuse(place, c->conv_size > 1 ? "qkv_conv_size" : "query_log_scale",
                                 "is set, and DeltaNet has none");
    c->conv_size = source->use_short_conv ? source->short_conv_size : 1;
    c->qk_norm = LUCID_QKNORM_OFF;
    c->use_rope = false;
    return LUCID_OK;
}

static lucid_status finish_family(config_source *source, const lucid_json_place *place) {
    lucid_model_config *c = &source->config;
    if (source->family != QWEN3) return LUCID_OK;
    if (c->qk_norm == LUCID_QKNORM_OFF) return lucid_json_refuse(place, "use_qknorm", "is false, and Qwen3 has it");
    if (c->attention == LUCID_MODEL_DELTANET)
        return lucid_json_refuse(place, "attention_type", "is deltanet, and that is not Qwen3's");
    c->qk_norm = LUCID_QKNORM_BEFORE_ROPE;
    if (c->head_dim == 0) c->head_dim = QWEN3_HEAD_DIM;
    return LUCID_OK;
}

static lucid_status finish(config_source *source, const lucid_json_place *place) {
    if (!source->family) return lucid_json_refuse(place, "model_type", "is missing");
    LUCID_TRY(check_present(&source->config, place));
    LUCID_TRY(finish_family(source, place));
    LUCID_TRY(finish_heads(&source->config, place));
    LUCID_TRY(finish_attention(source, place));
    if (source->config.use_rope) LUCID_TRY(finish_rope(source, place));
    return check_ids(&source->config, place);
}

/* text's keys through a table. */
static lucid_status take_text(void *target, const lucid_config_text *text, const lucid_config_table *table) {
    const lucid_json_place place = {text->path, ""};
    json_t *object;
    LUCID_TRY(lucid_json_parse(&object, text->text, text->n_bytes, text->path));
    const lucid_status status = lucid_json_take(target, object, table->keys, table->n_keys, &place);
    json_decref(object);
    return status;
}

lucid_status lucid_model_config_parse(lucid_model_config *config, const lucid_config_text *model,
                                      const lucid_config_text *generation) {
    config_source source = {.config = defaults(), .use_short_conv = true, .short_conv_size = 4};
    LUCID_TRY(take_text(&source, model, &lucid_config_keys));
    LUCID_TRY(finish(&source, &(lucid_json_place){model->path, ""}));
    if (generation) {
        LUCID_TRY(take_text(&source.config, generation, &lucid_generation_keys));
        LUCID_TRY(check_ids(&source.config, &(lucid_json_place){generation->path, ""}));
    }
    *config = source.config;
    return LUCID_OK;
}

/* folder/name; its text is NULL when there is none. */
static lucid_status read_text(lucid_config_text *text, char *path, size_t path_bytes, const char *folder,
                              const char *name) {
    char *bytes;
    if (snprintf(path, path_bytes, "%s/%s", folder, name) >= (int)path_bytes)
        return lucid_fail(LUCID_ERR_INPUT, "%.200s...: the folder's name is too long", folder);
    text->path = path;
    LUCID_TRY(lucid_json_read(&bytes, &text->n_bytes, path));
    text->text = bytes;
    return LUCID_OK;
}

lucid_status lucid_model_config_read(lucid_model_config *config, const char *folder) {
    char path[PATH_MAX], generation_path[PATH_MAX];
    lucid_config_text model = {0}, generation = {0};
    lucid_status status;
    LUCID_TRY_GOTO(read_text(&model, path, sizeof path, folder, "config.json"), free_texts);
    if (!model.text) {
        status = lucid_fail(LUCID_ERR_INPUT, "%s: there is no such file", path);
        goto free_texts;
    }
    LUCID_TRY_GOTO(read_text(&generation, generation_path, sizeof generation_path, folder, "generation_config.json"),
                   free_texts);
    status = lucid_model_config_parse(config, &model, generation.text ? &generation : NULL);
free_texts:
    free((char *)generation.text);
    free((char *)model.text);
    return status;
}

int lucid_model_rotary_dim(const lucid_model_config *c) {
    if (!c->use_rope) return 0;
    return c->rotary_dim ? c->rotary_dim : c->head_dim;
}

float lucid_model_query_scale(const lucid_model_config *c, int64_t position) {
    if (position < c->query_log_scale || !c->query_log_scale) return 1;
    return (float)(log((double)position + 1) / log((double)c->query_log_scale));
}

void lucid_rope_frequencies(double *inv_freq, double *attention_factor, const lucid_model_config *config,
                            int64_t max_context) {
    lucid_rope_compute(inv_freq, attention_factor, &config->rope, lucid_model_rotary_dim(config),
                       config->max_position_embeddings, max_context);
}
