/* The tables of keys. */
#include "runtime/model/config_keys.h"

#include <string.h>

#include "kernels/kernels.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* Such that every product of two sizes is far below 2^63, and n_heads * head_dim below 2^31. */
#define MAX_WIDTH  (1 << 24)
#define MAX_LAYERS (1 << 14)
#define MAX_HEADS  (1 << 16)
#define MAX_TOKENS (1 << 30)
#define MAX_CONV   16

static const lucid_json_word model_types[] = {{"llama", LLAMA}, {"qwen3", QWEN3}, {NULL, 0}};
static const lucid_json_word architectures[] = {{"LlamaForCausalLM", LLAMA}, {"Qwen3ForCausalLM", QWEN3}, {NULL, 0}};
static const lucid_json_word layer_types[] = {{"full_attention", 0}, {NULL, 0}};
static const lucid_json_word attention_types[] = {{"lucid", LUCID_MODEL_LUCID},
                                                  {"oglucid", LUCID_MODEL_LUCID},
                                                  {"llama", LUCID_MODEL_SOFTMAX},
                                                  {"deltanet", LUCID_MODEL_DELTANET},
                                                  {NULL, 0}};
static const lucid_json_word activations[] = {
    {"silu", LUCID_ACTIVATION_SILU},          {"swish", LUCID_ACTIVATION_SILU},
    {"gelu", LUCID_ACTIVATION_GELU},          {"gelu_pytorch_tanh", LUCID_ACTIVATION_GELU_TANH},
    {"gelu_new", LUCID_ACTIVATION_GELU_TANH}, {NULL, 0}};
static const lucid_json_word key_norms[] = {{"exp_k_norm", 0}, {NULL, 0}};
static const lucid_json_word rope_types[] = {{"default", LUCID_ROPE_DEFAULT}, {"linear", LUCID_ROPE_LINEAR},
                                             {"dynamic", LUCID_ROPE_DYNAMIC}, {"yarn", LUCID_ROPE_YARN},
                                             {"llama3", LUCID_ROPE_LLAMA3},   {NULL, 0}};

/* Both spellings of a RoPE type; -1: not there. */
typedef struct {
    lucid_rope rope;
    double rotary_share; /* 0: not there */
    int type, old_type;
} rope_source;

#define ROPE(name, take) \
    { #name, lucid_json_take_##take, offsetof(rope_source, rope.name), MAX_TOKENS, NULL }
static const lucid_json_key rope_keys[] = {
    {"rope_type", lucid_json_take_word, offsetof(rope_source, type), 0, rope_types},
    {"type", lucid_json_take_word, offsetof(rope_source, old_type), 0, rope_types},
    {"rope_theta", lucid_json_take_positive, offsetof(rope_source, rope.theta), 0, NULL},
    ROPE(factor, scale),
    ROPE(original_max_position_embeddings, count),
    ROPE(low_freq_factor, positive),
    ROPE(high_freq_factor, positive),
    ROPE(attention_factor, positive),
    ROPE(beta_fast, share),
    ROPE(beta_slow, share),
    ROPE(mscale, share),
    ROPE(mscale_all_dim, share),
    ROPE(truncate, bool),
    {"partial_rotary_factor", lucid_json_take_positive, offsetof(rope_source, rotary_share), 0, NULL},
    {"finetuned", lucid_json_ignore, 0, 0, NULL},
};
#undef ROPE

static lucid_status take_rope(void *field, const lucid_json_key *key, const json_t *value,
                              const lucid_json_place *place) {
    config_source *source = field;
    rope_source found = {.rope = {.truncate = true}, .type = -1, .old_type = -1};
    char prefix[32];
    snprintf(prefix, sizeof prefix, "%s.", key->name);
    const lucid_json_place inside = {place->path, prefix};
    if (!json_is_object(value)) return lucid_json_refuse(place, key->name, "must be an object or null");
    if (source->rope_key) return lucid_json_refuse(place, key->name, "stands beside %s", source->rope_key);
    LUCID_TRY(lucid_json_take(&found, value, rope_keys, COUNT(rope_keys), &inside));
    if (found.type >= 0 && found.old_type >= 0 && found.type != found.old_type)
        return lucid_json_refuse(&inside, "type", "contradicts rope_type");
    found.rope.type = found.type >= 0 ? found.type : found.old_type >= 0 ? found.old_type : LUCID_ROPE_DEFAULT;
    source->inner_share = found.rotary_share;
    source->config.rope = found.rope;
    source->rope_key = key->name;
    return LUCID_OK;
}

static lucid_status take_family(void *field, const lucid_json_key *key, const json_t *value,
                                const lucid_json_place *place) {
    int word, *family = field;
    LUCID_TRY(lucid_json_take_word(&word, key, value, place));
    if (*family && *family != word)
        return lucid_json_refuse(place, key->name, "contradicts %s",
                                 key->words == model_types ? "architectures" : "model_type");
    *family = word;
    return LUCID_OK;
}

static lucid_status take_architectures(void *field, const lucid_json_key *key, const json_t *value,
                                       const lucid_json_place *place) {
    if (json_array_size(value) != 1)
        return lucid_json_refuse(place, key->name, "must be a list of one, %s", key->words->word);
    return take_family(field, key, json_array_get(value, 0), place);
}

/* A word for each layer: all attend to everything. */
static lucid_status take_layer_types(void *field, const lucid_json_key *key, const json_t *value,
                                     const lucid_json_place *place) {
    int word;
    (void)field;
    if (!json_is_array(value)) return lucid_json_refuse(place, key->name, "must be a list");
    for (size_t i = 0; i < json_array_size(value); i++)
        LUCID_TRY(lucid_json_take_word(&word, key, json_array_get(value, i), place));
    return LUCID_OK;
}

static lucid_status take_qknorm(void *field, const lucid_json_key *key, const json_t *value,
                                const lucid_json_place *place) {
    bool on;
    LUCID_TRY(lucid_json_take_bool(&on, key, value, place));
    *(int *)field = on ? LUCID_QKNORM_ON : LUCID_QKNORM_OFF;
    return LUCID_OK;
}

static lucid_status take_id(int *id, const char *name, const json_t *value, const lucid_json_place *place) {
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) >= MAX_TOKENS)
        return lucid_json_refuse(place, name, "must be a token id");
    *id = (int)json_integer_value(value);
    return LUCID_OK;
}

static lucid_status take_bos(void *field, const lucid_json_key *key, const json_t *value,
                             const lucid_json_place *place) {
    return take_id(field, key->name, value, place);
}

/* A number or a list of numbers. */
static lucid_status take_eos(void *field, const lucid_json_key *key, const json_t *value,
                             const lucid_json_place *place) {
    lucid_model_config *config = field;
    const bool list = json_is_array(value);
    const size_t n = list ? json_array_size(value) : 1;
    if (n > LUCID_MODEL_MAX_EOS)
        return lucid_json_refuse(place, key->name, "lists %zu ids, more than %d", n, LUCID_MODEL_MAX_EOS);
    for (size_t i = 0; i < n; i++)
        LUCID_TRY(take_id(&config->eos_token_ids[i], key->name, list ? json_array_get(value, i) : value, place));
    config->n_eos = (int)n;
    return LUCID_OK;
}

/* 0 turns it off. */
static lucid_status take_top_k(void *field, const lucid_json_key *key, const json_t *value,
                               const lucid_json_place *place) {
    if (json_is_integer(value) && json_integer_value(value) == 0) return LUCID_OK;
    return lucid_json_take_count(field, key, value, place);
}

#define KEY(key, take, field, max, words) \
    { key, take, offsetof(config_source, field), max, words }
#define SIZE(key, name, max) KEY(key, lucid_json_take_count, config.name, max, NULL)
#define FLAG(name)           KEY(#name, lucid_json_take_bool, config.name, 0, NULL)
#define HARMLESS(name) \
    { #name, lucid_json_ignore, 0, 0, NULL }
#define OFF(name) \
    { #name, lucid_json_must_be_off, 0, 0, NULL }
#define ONE(name) \
    { #name, lucid_json_must_be_one, 0, 0, NULL }

static const lucid_json_key config_keys[] = {
    /* Effective. */
    KEY("model_type", take_family, family, 0, model_types),
    KEY("architectures", take_architectures, family, 0, architectures),
    {"layer_types", take_layer_types, 0, 0, layer_types},
    SIZE("hidden_size", hidden_size, MAX_WIDTH),
    SIZE("intermediate_size", intermediate_size, MAX_WIDTH),
    SIZE("vocab_size", vocab_size, MAX_TOKENS),
    SIZE("num_hidden_layers", n_layers, MAX_LAYERS),
    SIZE("num_attention_heads", n_heads, MAX_HEADS),
    SIZE("num_key_value_heads", n_kv_heads, MAX_HEADS),
    SIZE("head_dim", head_dim, LUCID_MAX_HEAD_DIM),
    SIZE("max_position_embeddings", max_position_embeddings, MAX_TOKENS),
    KEY("rms_norm_eps", lucid_json_take_positive, config.rms_norm_eps, 0, NULL),
    KEY("hidden_act", lucid_json_take_word, config.activation, 0, activations),
    FLAG(tie_word_embeddings),
    FLAG(attention_bias),
    FLAG(mlp_bias),
    KEY("rope_theta", lucid_json_take_positive, rope_theta, 0, NULL),
    {"rope_scaling", take_rope, 0, 0, NULL},
    {"rope_parameters", take_rope, 0, 0, NULL},
    KEY("bos_token_id", take_bos, config.bos_token_id, 0, NULL),
    KEY("eos_token_id", take_eos, config, 0, NULL),
    KEY("attention_type", lucid_json_take_word, config.attention, 0, attention_types),
    FLAG(use_rope),
    KEY("use_qknorm", take_qknorm, config.qk_norm, 0, NULL),
    KEY("use_short_conv", lucid_json_take_bool, use_short_conv, 0, NULL),
    KEY("conv_size", lucid_json_take_count, short_conv_size, MAX_CONV, NULL),
    SIZE("qkv_conv_size", conv_size, MAX_CONV),
    SIZE("query_log_scale", query_log_scale, MAX_TOKENS),
    KEY("partial_rotary_factor", lucid_json_take_positive, rotary_share, 0, NULL),
    KEY("use_beta", lucid_json_take_bool, use_beta, 0, NULL),
    KEY("which_rmsnorm", lucid_json_take_word, key_norm, 0, key_norms),
    /* Refused unless they are off. */
    OFF(add_cross_attention),
    OFF(auto_map),
    OFF(cross_attention_hidden_size),
    OFF(is_decoder),
    OFF(is_encoder_decoder),
    OFF(pruned_heads),
    OFF(quantization_config),
    OFF(rope_interleaved),
    OFF(sliding_window),
    OFF(use_forget_gate),
    OFF(use_sliding_window),
    ONE(pretraining_tp),
    /* Harmless: of training, of other programs, or of where the file comes from. */
    HARMLESS(_attn_implementation),
    HARMLESS(_attn_implementation_autoset),
    HARMLESS(_commit_hash),
    HARMLESS(_flash_attn_2_enabled),
    HARMLESS(_from_model_config),
    HARMLESS(_name_or_path),
    HARMLESS(attention_dropout),
    HARMLESS(attn_implementation),
    HARMLESS(chunk_size_feed_forward),
    HARMLESS(dtype),
    HARMLESS(finetuning_task),
    HARMLESS(gradient_checkpointing),
    HARMLESS(id2label),
    HARMLESS(initializer_range),
    HARMLESS(keys_to_ignore_at_inference),
    HARMLESS(label2id),
    HARMLESS(max_sequence_length),
    HARMLESS(max_window_layers), /* counts with use_sliding_window */
    HARMLESS(name_or_path),
    HARMLESS(num_labels),
    HARMLESS(output_attentions),
    HARMLESS(output_hidden_states),
    HARMLESS(pad_token_id),
    HARMLESS(problem_type),
    HARMLESS(return_dict),
    HARMLESS(sep_token_id),
    HARMLESS(task_specific_params),
    HARMLESS(tf_legacy_loss),
    HARMLESS(tie_encoder_decoder),
    HARMLESS(tokenizer_class),
    HARMLESS(torch_dtype),
    HARMLESS(torchscript),
    HARMLESS(transformers_version),
    HARMLESS(use_bfloat16),
    HARMLESS(use_cache),
    HARMLESS(use_token_grad_clip),
    /* Harmless here: generation_config.json is where these count. */
    HARMLESS(bad_words_ids),
    HARMLESS(begin_suppress_tokens),
    HARMLESS(decoder_start_token_id),
    HARMLESS(diversity_penalty),
    HARMLESS(do_sample),
    HARMLESS(early_stopping),
    HARMLESS(encoder_no_repeat_ngram_size),
    HARMLESS(exponential_decay_length_penalty),
    HARMLESS(forced_bos_token_id),
    HARMLESS(forced_eos_token_id),
    HARMLESS(length_penalty),
    HARMLESS(max_length),
    HARMLESS(min_length),
    HARMLESS(no_repeat_ngram_size),
    HARMLESS(num_beam_groups),
    HARMLESS(num_beams),
    HARMLESS(num_return_sequences),
    HARMLESS(output_scores),
    HARMLESS(prefix),
    HARMLESS(remove_invalid_values),
    HARMLESS(repetition_penalty),
    HARMLESS(return_dict_in_generate),
    HARMLESS(suppress_tokens),
    HARMLESS(temperature),
    HARMLESS(top_k),
    HARMLESS(top_p),
    HARMLESS(typical_p),
};

#define PROPOSED(name, take) \
    { #name, take, offsetof(lucid_model_config, name), MAX_TOKENS, NULL }

static const lucid_json_key generation_keys[] = {
    /* Effective. */
    PROPOSED(bos_token_id, take_bos),
    {"eos_token_id", take_eos, 0, 0, NULL},
    PROPOSED(do_sample, lucid_json_take_bool),
    PROPOSED(temperature, lucid_json_take_share),
    PROPOSED(top_p, lucid_json_take_positive),
    PROPOSED(top_k, take_top_k),
    /* Refused unless they are off: they would choose other tokens. */
    OFF(bad_words_ids),
    OFF(begin_suppress_tokens),
    OFF(constraints),
    OFF(dola_layers),
    OFF(epsilon_cutoff),
    OFF(eta_cutoff),
    OFF(exponential_decay_length_penalty),
    OFF(force_words_ids),
    OFF(forced_bos_token_id),
    OFF(forced_eos_token_id),
    OFF(min_length),
    OFF(min_new_tokens),
    OFF(min_p),
    OFF(no_repeat_ngram_size),
    OFF(penalty_alpha),
    OFF(sequence_bias),
    OFF(stop_strings),
    OFF(suppress_tokens),
    OFF(token_healing),
    OFF(watermarking_config),
    ONE(encoder_repetition_penalty),
    ONE(guidance_scale),
    ONE(num_beams),
    ONE(repetition_penalty),
    ONE(typical_p),
    /* Harmless: lengths, which options give; speed; the form of the output. */
    HARMLESS(_commit_hash),
    HARMLESS(_from_model_config),
    HARMLESS(assistant_confidence_threshold),
    HARMLESS(assistant_early_exit),
    HARMLESS(assistant_lookbehind),
    HARMLESS(cache_config),
    HARMLESS(cache_implementation),
    HARMLESS(compile_config),
    HARMLESS(decoder_start_token_id),
    HARMLESS(disable_compile),
    HARMLESS(diversity_penalty),
    HARMLESS(early_stopping),
    HARMLESS(encoder_no_repeat_ngram_size),
    HARMLESS(is_assistant),
    HARMLESS(length_penalty),
    HARMLESS(low_memory),
    HARMLESS(max_length),
    HARMLESS(max_matching_ngram_size),
    HARMLESS(max_new_tokens),
    HARMLESS(max_time),
    HARMLESS(num_assistant_tokens),
    HARMLESS(num_assistant_tokens_schedule),
    HARMLESS(num_beam_groups),
    HARMLESS(num_return_sequences),
    HARMLESS(output_attentions),
    HARMLESS(output_hidden_states),
    HARMLESS(output_logits),
    HARMLESS(output_scores),
    HARMLESS(pad_token_id),
    HARMLESS(prefill_chunk_size),
    HARMLESS(prompt_lookup_num_tokens),
    HARMLESS(remove_invalid_values),
    HARMLESS(renormalize_logits),
    HARMLESS(return_dict_in_generate),
    HARMLESS(return_legacy_cache),
    HARMLESS(target_lookbehind),
    HARMLESS(transformers_version),
    HARMLESS(use_cache),
};

const lucid_config_table lucid_config_keys = {config_keys, COUNT(config_keys)};
const lucid_config_table lucid_generation_keys = {generation_keys, COUNT(generation_keys)};
