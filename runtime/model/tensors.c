#include "runtime/model/tensors.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* Sizes that shapes are made of; NONE ends one. */
typedef enum { NONE, ONE, HIDDEN, INTERMEDIATE, VOCABULARY, QUERIES, KEYS, HEADS, HEAD_DIM, CONV, N_SIZES } size_kind;

/* What must be so for a tensor to be there. */
typedef enum { ALWAYS, UNTIED, ATTENTION_BIAS, MLP_BIAS, QK_NORM, DELTANET, SHORT_CONV, N_CONDITIONS } condition;

typedef struct {
    const char *name;
    size_t offset; /* of the pointer in its struct */
    size_kind shape[3];
    condition when;
} tensor_row;

#define MODEL(field) offsetof(lucid_model, field)
#define LAYER(field) offsetof(lucid_model_layer, field)

static const tensor_row model_rows[] = {
    {"model.embed_tokens.weight", MODEL(embed_tokens), {VOCABULARY, HIDDEN}, ALWAYS},
    {"model.norm.weight", MODEL(norm), {HIDDEN}, ALWAYS},
    {"lm_head.weight", MODEL(lm_head), {VOCABULARY, HIDDEN}, UNTIED},
};

/* After "model.layers.N.". */
static const tensor_row layer_rows[] = {
    {"input_layernorm.weight", LAYER(input_norm), {HIDDEN}, ALWAYS},
    {"self_attn.q_proj.weight", LAYER(q_proj), {QUERIES, HIDDEN}, ALWAYS},
    {"self_attn.q_proj.bias", LAYER(q_bias), {QUERIES}, ATTENTION_BIAS},
    {"self_attn.k_proj.weight", LAYER(k_proj), {KEYS, HIDDEN}, ALWAYS},
    {"self_attn.k_proj.bias", LAYER(k_bias), {KEYS}, ATTENTION_BIAS},
    {"self_attn.v_proj.weight", LAYER(v_proj), {KEYS, HIDDEN}, ALWAYS},
    {"self_attn.v_proj.bias", LAYER(v_bias), {KEYS}, ATTENTION_BIAS},
    {"self_attn.o_proj.weight", LAYER(o_proj), {HIDDEN, QUERIES}, ALWAYS},
    {"self_attn.o_proj.bias", LAYER(o_bias), {HIDDEN}, ATTENTION_BIAS},
    {"self_attn.q_norm.weight", LAYER(q_norm), {HEAD_DIM}, QK_NORM},
    {"self_attn.k_norm.weight", LAYER(k_norm), {HEAD_DIM}, QK_NORM},
    {"self_attn.b_proj.weight", LAYER(b_proj), {HEADS, HIDDEN}, DELTANET},
    {"self_attn.q_conv1d.weight", LAYER(q_conv), {QUERIES, ONE, CONV}, SHORT_CONV},
    {"self_attn.k_conv1d.weight", LAYER(k_conv), {KEYS, ONE, CONV}, SHORT_CONV},
    {"self_attn.v_conv1d.weight", LAYER(v_conv), {KEYS, ONE, CONV}, SHORT_CONV},
    {"self_attn.o_norm.weight", LAYER(o_norm), {HEAD_DIM}, DELTANET},
    {"post_attention_layernorm.weight", LAYER(post_attention_norm), {HIDDEN}, ALWAYS},
    {"mlp.gate_proj.weight", LAYER(gate_proj), {INTERMEDIATE, HIDDEN}, ALWAYS},
    {"mlp.gate_proj.bias", LAYER(gate_bias), {INTERMEDIATE}, MLP_BIAS},
    {"mlp.up_proj.weight", LAYER(up_proj), {INTERMEDIATE, HIDDEN}, ALWAYS},
    {"mlp.up_proj.bias", LAYER(up_bias), {INTERMEDIATE}, MLP_BIAS},
    {"mlp.down_proj.weight", LAYER(down_proj), {HIDDEN, INTERMEDIATE}, ALWAYS},
    {"mlp.down_proj.bias", LAYER(down_bias), {HIDDEN}, MLP_BIAS},
};

/* The configuration as the tables see it. */
typedef struct {
    int64_t sizes[N_SIZES];
    bool holds[N_CONDITIONS];
} model_facts;

static model_facts state_facts(const lucid_model_config *c) {
    const bool deltanet = c->attention == LUCID_MODEL_DELTANET;
    return (model_facts){
        .sizes = {[ONE] = 1,
                  [HIDDEN] = c->hidden_size,
                  [INTERMEDIATE] = c->intermediate_size,
                  [VOCABULARY] = c->vocab_size,
                  [QUERIES] = c->n_heads * c->head_dim,
                  [KEYS] = c->n_kv_heads * c->head_dim,
                  [HEADS] = c->n_heads,
                  [HEAD_DIM] = c->head_dim,
                  [CONV] = c->conv_size},
        .holds = {[ALWAYS] = true,
                  [UNTIED] = !c->tie_word_embeddings,
                  [ATTENTION_BIAS] = c->attention_bias,
                  [MLP_BIAS] = c->mlp_bias,
                  [QK_NORM] = c->qk_norm == LUCID_QKNORM_ON || c->qk_norm == LUCID_QKNORM_BEFORE_ROPE,
                  [DELTANET] = deltanet,
                  [SHORT_CONV] = c->conv_size > 1},
    };
}

/* Rows that hold, as slots from *n on; target is the struct that their pointers are in. */
static void add_slots(lucid_model_slot *slots, int *n, const tensor_row *rows, int n_rows, void *target,
                      const char *prefix, const model_facts *facts) {
    for (int r = 0; r < n_rows; r++) {
        if (!facts->holds[rows[r].when]) continue;
        lucid_model_slot *slot = &slots[(*n)++];
        *slot = (lucid_model_slot){.pointer = (const float **)(void *)((char *)target + rows[r].offset)};
        snprintf(slot->name, sizeof slot->name, "%s%s", prefix, rows[r].name);
        for (; slot->n_dims < 3 && rows[r].shape[slot->n_dims] != NONE; slot->n_dims++)
            slot->shape[slot->n_dims] = facts->sizes[rows[r].shape[slot->n_dims]];
    }
}

lucid_status lucid_model_slots_make(lucid_model_slot **slots, int *n_slots, lucid_model *model) {
    const model_facts facts = state_facts(&model->config);
    const size_t most = COUNT(model_rows) + (size_t)model->config.n_layers * COUNT(layer_rows);
    lucid_model_slot *s = malloc(most * sizeof *s);
    char prefix[32];
    int n = 0;
    if (!s) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a list of %zu tensors", most);
    add_slots(s, &n, model_rows, COUNT(model_rows), model, "", &facts);
    for (int l = 0; l < model->config.n_layers; l++) {
        snprintf(prefix, sizeof prefix, "model.layers.%d.", l);
        add_slots(s, &n, layer_rows, COUNT(layer_rows), &model->layers[l], prefix, &facts);
    }
    *slots = s;
    *n_slots = n;
    return LUCID_OK;
}

static void write_shape(char *text, size_t bytes, int n_dims, const int64_t *shape) {
    size_t n = (size_t)snprintf(text, bytes, "(");
    for (int i = 0; i < n_dims && n < bytes; i++)
        n += (size_t)snprintf(text + n, bytes - n, "%s%" PRId64, i ? ", " : "", shape[i]);
    if (n < bytes) snprintf(text + n, bytes - n, ")");
}

static lucid_status find_slot(lucid_model_slot *slot, const lucid_model_files *files, const char *folder) {
    char want[80], got[200];
    const lucid_safetensors_tensor *tensor = lucid_model_files_find(files, slot->name, &slot->shard);
    if (!tensor) return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s is missing", folder, slot->name);
    const lucid_safetensors *shard = files->shards[slot->shard];
    if (tensor->n_dims != slot->n_dims || memcmp(tensor->shape, slot->shape, (size_t)slot->n_dims * sizeof(int64_t))) {
        write_shape(want, sizeof want, slot->n_dims, slot->shape);
        write_shape(got, sizeof got, tensor->n_dims, tensor->shape);
        return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: has shape %s, config.json calls for %s",
                          lucid_safetensors_path(shard), slot->name, got, want);
    }
    slot->tensor = tensor;
    return lucid_safetensors_dtype(&slot->dtype, shard, tensor);
}

/* Some folders hold the embedding a second time as the head that is tied to it. */
static bool is_used(const char *name, const lucid_model_slot *slots, int n_slots, bool tied) {
    if (tied && !strcmp(name, "lm_head.weight")) return true;
    for (int s = 0; s < n_slots; s++) {
        if (strcmp(slots[s].name, name) == 0) return true;
    }
    return false;
}

static bool is_allowed(const char *name, const lucid_model_options *options) {
    for (int i = 0; options && i < options->n_allow_unused; i++) {
        if (fnmatch(options->allow_unused[i], name, 0) == 0) return true;
    }
    return false;
}

static lucid_status check_unused(const lucid_safetensors *shard, const lucid_model_slot *slots, int n_slots, bool tied,
                                 const lucid_model_options *options) {
    int count;
    const lucid_safetensors_tensor *tensors = lucid_safetensors_tensors(shard, &count);
    for (int t = 0; t < count; t++) {
        const char *name = tensors[t].name;
        if (!is_used(name, slots, n_slots, tied) && !is_allowed(name, options))
            return lucid_fail(LUCID_ERR_INPUT, "%s: tensor %s: nothing uses it; where that is meant, --allow-unused %s",
                              lucid_safetensors_path(shard), name, name);
    }
    return LUCID_OK;
}

lucid_status lucid_model_slots_find(lucid_model_slot *slots, int n_slots, const lucid_model_files *files,
                                    const char *folder, bool tied, const lucid_model_options *options) {
    for (int s = 0; s < n_slots; s++) LUCID_TRY(find_slot(&slots[s], files, folder));
    for (int s = 0; s < files->n_shards; s++) LUCID_TRY(check_unused(files->shards[s], slots, n_slots, tied, options));
    return LUCID_OK;
}
