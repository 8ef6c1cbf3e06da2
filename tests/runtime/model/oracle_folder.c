/* config.json into oracle_config, tensors by their transformers names into fp32. */
#include "tests/runtime/model/oracle_folder.h"

#include "runtime/files/safetensors.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void die(const char *path, const char *format, ...) {
    va_list arguments;
    fprintf(stderr, "%s: ", path);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static void *allocate(size_t n, size_t bytes) {
    void *p = calloc(n ? n : 1, bytes);
    if (!p) die("oracle", "no memory");
    return p;
}

/* config.json */

static double number_or(const json_t *object, const char *key, double otherwise) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : otherwise;
}

static double number(const char *path, const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value)) die(path, "config.json: %s is no number", key);
    return json_number_value(value);
}

static int flag_or(const json_t *object, const char *key, int otherwise) {
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

/* The index in names of the string at key; 0 when there is no such key. */
static int choice(const char *path, const json_t *object, const char *key, const char *const *names) {
    const char *value = json_string_value(json_object_get(object, key));
    if (!value) return 0;
    for (int i = 0; names[i]; i++) {
        if (strcmp(value, names[i]) == 0) return i;
    }
    die(path, "config.json: %s \"%s\" is not known", key, value);
}

static oracle_rope read_rope(const char *path, const json_t *config, int64_t max_context) {
    static const char *const names[] = {"none", "default", "linear", "dynamic", "llama3", "yarn", NULL};
    const json_t *scaling = json_object_get(config, "rope_scaling");
    const char *key = json_object_get(scaling, "rope_type") ? "rope_type" : "type";
    const double max_position = number(path, config, "max_position_embeddings");
    oracle_rope rope = {.kind = (oracle_rope_kind)choice(path, scaling, key, names),
                        .theta = number(path, config, "rope_theta"),
                        .factor = number_or(scaling, "factor", 1),
                        .max_context = max_context,
                        .low_freq_factor = number_or(scaling, "low_freq_factor", 0),
                        .high_freq_factor = number_or(scaling, "high_freq_factor", 0),
                        .beta_fast = number_or(scaling, "beta_fast", 32),
                        .beta_slow = number_or(scaling, "beta_slow", 1),
                        .attention_factor = number_or(scaling, "attention_factor", 0)};
    rope.original_max_position = (int64_t)(rope.kind == ORACLE_ROPE_DYNAMIC
                                               ? max_position
                                               : number_or(scaling, "original_max_position_embeddings", max_position));
    if (!json_is_object(scaling)) rope.kind = ORACLE_ROPE_DEFAULT;
    if (!flag_or(config, "use_rope", 1)) rope.kind = ORACLE_ROPE_NONE;
    return rope;
}

static oracle_config read_config(const char *path, const json_t *json, int64_t max_context) {
    static const char *const families[] = {"llama", "qwen3", NULL};
    static const char *const attentions[] = {"llama", "lucid", "deltanet", NULL};
    static const char *const activations[] = {"silu", "gelu", NULL};
    oracle_config config = {.vocab_size = (int)number(path, json, "vocab_size"),
                            .hidden_size = (int)number(path, json, "hidden_size"),
                            .intermediate_size = (int)number(path, json, "intermediate_size"),
                            .n_layers = (int)number(path, json, "num_hidden_layers"),
                            .n_heads = (int)number(path, json, "num_attention_heads"),
                            .rms_norm_eps = number(path, json, "rms_norm_eps"),
                            .attention = (oracle_attention)choice(path, json, "attention_type", attentions),
                            .activation = (oracle_activation)choice(path, json, "hidden_act", activations),
                            .rope = read_rope(path, json, max_context)};
    config.n_kv_heads = (int)number_or(json, "num_key_value_heads", config.n_heads);
    config.head_dim = (int)number_or(json, "head_dim", (double)config.hidden_size / config.n_heads);
    if (flag_or(json, "use_qknorm", 0)) config.qk_norm = ORACLE_QK_NORM_AFTER_ROPE;
    if (choice(path, json, "model_type", families) == 1) config.qk_norm = ORACLE_QK_NORM_BEFORE_ROPE;
    return config;
}

/* model.safetensors */

typedef struct {
    const char *path;
    lucid_safetensors *file;
    oracle_folder *folder;
    int layer; /* of the names being read; -1: not of a layer */
} source;

static float widened(const void *data, int64_t i, lucid_dtype dtype) {
    if (dtype == LUCID_F32) return ((const float *)data)[i];
    if (dtype == LUCID_F16) return (float)((const _Float16 *)data)[i];
    const uint32_t bits = (uint32_t)((const uint16_t *)data)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* n fp32 values of a tensor, or NULL when the file has none of this name. */
static const float *optional(source *from, const char *name, int64_t n) {
    char full[256];
    lucid_dtype dtype;
    if (from->layer < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "model.layers.%d.%s", from->layer, name);
    const lucid_safetensors_tensor *tensor = lucid_safetensors_find(from->file, full);
    if (!tensor) return NULL;
    if (tensor->n_elements != n)
        die(from->path, "%s has %lld elements, not %lld", full, (long long)tensor->n_elements, (long long)n);
    void *data = allocate((size_t)tensor->n_bytes, 1);
    if (lucid_safetensors_dtype(&dtype, from->file, tensor) || lucid_safetensors_read(from->file, tensor, 0, n, data))
        die(from->path, "%s", lucid_failure());
    float *values = allocate((size_t)n, sizeof *values);
    for (int64_t i = 0; i < n; i++) values[i] = widened(data, i, dtype);
    free(data);
    from->folder->tensors[from->folder->n_tensors++] = values;
    return values;
}

static const float *required(source *from, const char *name, int64_t n) {
    const float *values = optional(from, name, n);
    if (!values) die(from->path, "no tensor %s (layer %d)", name, from->layer);
    return values;
}

static oracle_linear linear(source *from, const char *name, int n_out, int n_in) {
    char weight[128], bias[128];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    return (oracle_linear){.weight = required(from, weight, (int64_t)n_out * n_in),
                           .bias = optional(from, bias, n_out)};
}

static void read_attention(source *from, oracle_layer *layer, const oracle_config *config) {
    const int hidden = config->hidden_size, d = config->head_dim;
    const int q_width = config->n_heads * d, kv_width = config->n_kv_heads * d;
    layer->q_proj = linear(from, "self_attn.q_proj", q_width, hidden);
    layer->k_proj = linear(from, "self_attn.k_proj", kv_width, hidden);
    layer->v_proj = linear(from, "self_attn.v_proj", kv_width, hidden);
    layer->o_proj = linear(from, "self_attn.o_proj", hidden, q_width);
    if (config->qk_norm != ORACLE_QK_NORM_NONE) {
        layer->q_norm = required(from, "self_attn.q_norm.weight", d);
        layer->k_norm = required(from, "self_attn.k_norm.weight", d);
    }
    if (config->attention == ORACLE_DELTANET) {
        layer->b_proj = linear(from, "self_attn.b_proj", config->n_kv_heads, hidden);
        layer->q_conv1d = optional(from, "self_attn.q_conv1d.weight", (int64_t)q_width * ORACLE_CONV_WIDTH);
        layer->k_conv1d = optional(from, "self_attn.k_conv1d.weight", (int64_t)kv_width * ORACLE_CONV_WIDTH);
        layer->v_conv1d = optional(from, "self_attn.v_conv1d.weight", (int64_t)kv_width * ORACLE_CONV_WIDTH);
        layer->o_norm = required(from, "self_attn.o_norm.weight", d);
    }
}

static void read_layer(source *from, oracle_layer *layer, const oracle_config *config) {
    const int hidden = config->hidden_size, inner = config->intermediate_size;
    layer->input_norm = required(from, "input_layernorm.weight", hidden);
    layer->post_attention_norm = required(from, "post_attention_layernorm.weight", hidden);
    read_attention(from, layer, config);
    layer->gate_proj = linear(from, "mlp.gate_proj", inner, hidden);
    layer->up_proj = linear(from, "mlp.up_proj", inner, hidden);
    layer->down_proj = linear(from, "mlp.down_proj", hidden, inner);
}

static void read_weights(source *from, int tied) {
    oracle_model *model = &from->folder->model;
    const oracle_config *config = &model->config;
    const int64_t n_table = (int64_t)config->vocab_size * config->hidden_size;
    int n_stored;
    lucid_safetensors_tensors(from->file, &n_stored);
    from->folder->tensors = allocate((size_t)n_stored, sizeof *from->folder->tensors);
    from->folder->layers = allocate((size_t)config->n_layers, sizeof *from->folder->layers);
    for (from->layer = 0; from->layer < config->n_layers; from->layer++)
        read_layer(from, &from->folder->layers[from->layer], config);
    from->layer = -1;
    model->layers = from->folder->layers;
    model->embed_tokens = required(from, "model.embed_tokens.weight", n_table);
    model->norm = required(from, "model.norm.weight", config->hidden_size);
    if (!tied) model->lm_head = required(from, "lm_head.weight", n_table);
    if (from->folder->n_tensors != n_stored)
        die(from->path, "%d of %d tensors used", from->folder->n_tensors, n_stored);
}

static lucid_safetensors *open_tensors(const char *path, const char *name) {
    char full[4096];
    lucid_safetensors *file;
    snprintf(full, sizeof full, "%s/%s", path, name);
    if (lucid_safetensors_open(&file, full)) die(path, "%s", lucid_failure());
    return file;
}

oracle_folder oracle_folder_read(const char *path, int64_t max_context) {
    char config_path[4096];
    json_error_t error;
    oracle_folder folder = {0};
    snprintf(config_path, sizeof config_path, "%s/config.json", path);
    json_t *json = json_load_file(config_path, JSON_REJECT_DUPLICATES, &error);
    if (!json) die(config_path, "line %d: %s", error.line, error.text);
    folder.model.config = read_config(path, json, max_context);
    source from = {.path = path, .file = open_tensors(path, "model.safetensors"), .folder = &folder};
    read_weights(&from, flag_or(json, "tie_word_embeddings", 0));
    lucid_safetensors_close(from.file);
    json_decref(json);
    return folder;
}

void oracle_folder_free(oracle_folder *folder) {
    for (int i = 0; i < folder->n_tensors; i++) free(folder->tensors[i]);
    free(folder->tensors);
    free(folder->layers);
}

/* golden.safetensors */

static void *read_whole(const char *path, const lucid_safetensors *file, const char *name, const char *dtype,
                        const lucid_safetensors_tensor **found) {
    const lucid_safetensors_tensor *tensor = *found = lucid_safetensors_find(file, name);
    if (!tensor || strcmp(tensor->dtype, dtype) != 0) die(path, "golden.safetensors: no %s %s", dtype, name);
    void *data = allocate((size_t)tensor->n_bytes, 1);
    if (lucid_safetensors_read(file, tensor, 0, tensor->n_elements, data)) die(path, "%s", lucid_failure());
    return data;
}

oracle_golden oracle_golden_read(const char *path) {
    oracle_golden golden;
    const lucid_safetensors_tensor *tokens, *logits;
    lucid_safetensors *file = open_tensors(path, "golden.safetensors");
    golden.tokens = read_whole(path, file, "tokens", "I64", &tokens);
    golden.logits = read_whole(path, file, "logits", "F64", &logits);
    if (logits->n_dims != 2 || logits->shape[0] != tokens->n_elements) die(path, "golden.safetensors: shapes differ");
    golden.n_tokens = (int)tokens->n_elements;
    golden.vocab_size = (int)logits->shape[1];
    lucid_safetensors_close(file);
    return golden;
}

void oracle_golden_free(oracle_golden *golden) {
    free(golden->tokens);
    free(golden->logits);
}
