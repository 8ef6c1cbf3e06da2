#include "runtime/train/trainee.h"

#include "runtime/attention/attention.h"
#include "runtime/files/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 16  /* floats */
#define DRAWN     256 /* random numbers at once, as many as lucid_random_rows makes in a row */

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* A bare model's tensors. */
static bool bare_has(const char *name) {
    static const char *const names[] = {"embed_tokens.weight", "q_proj.weight", "k_proj.weight", "v_proj.weight",
                                        "lm_head.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (ends_with(name, names[i])) return true;
    return false;
}

static lucid_status check(const lucid_trainee_config *c) {
    const lucid_model_config *m = &c->config;
    if (m->attention == LUCID_MODEL_DELTANET)
        return lucid_fail(LUCID_ERR_UNSUPPORTED, "attention_type deltanet cannot be trained");
    if (m->qk_norm == LUCID_QKNORM_BEFORE_ROPE)
        return lucid_fail(LUCID_ERR_UNSUPPORTED, "model_type qwen3 cannot be trained");
    if (c->n_outputs && m->tie_word_embeddings)
        return lucid_fail(LUCID_ERR_USAGE, "outputs that are no tokens cannot share the tokens' embeddings");
    if (c->bare && (m->n_heads * m->head_dim != m->hidden_size || m->n_layers != 1 || m->qk_norm == LUCID_QKNORM_ON ||
                    m->conv_size > 1))
        return lucid_fail(
            LUCID_ERR_USAGE,
            "a bare layer is one layer without q and k norms or convolutions whose heads make up the hidden size");
    if (c->key_gain && !(c->bare && m->attention == LUCID_MODEL_LUCID))
        return lucid_fail(LUCID_ERR_USAGE, "a gain in the keys' norm is for a bare layer with attention_type lucid");
    return LUCID_OK;
}

static void keep_bare_slots(lucid_trainee *t) {
    int n = 0;
    for (int s = 0; s < t->n_slots; s++)
        if (bare_has(t->slots[s].name)) t->slots[n++] = t->slots[s];
    t->n_slots = n;
}

static lucid_status add_key_gain(lucid_trainee *t) {
    lucid_model_slot *slots = realloc(t->slots, ((size_t)t->n_slots + 1) * sizeof *slots);
    if (!slots) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a list of %d tensors", t->n_slots + 1);
    t->slots = slots;
    slots[t->n_slots++] = (lucid_model_slot){.name = "model.layers.0.self_attn.key_gain.weight",
                                             .n_dims = 1,
                                             .shape = {t->model.config.head_dim},
                                             .pointer = &t->key_gain};
    return LUCID_OK;
}

int64_t lucid_trainee_elements(const lucid_trainee *t, int slot) {
    int64_t n = 1;
    for (int i = 0; i < t->slots[slot].n_dims; i++) n *= t->slots[slot].shape[i];
    return n;
}

/* Gives every tensor its place, and the model its pointers. */
static lucid_status lay_out(lucid_trainee *t) {
    t->first = calloc((size_t)t->n_slots + 1, sizeof *t->first);
    if (!t->first) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a list of %d tensors", t->n_slots);
    for (int s = 0; s < t->n_slots; s++) {
        if (ends_with(t->slots[s].name, "lm_head.weight")) t->slots[s].shape[0] = t->n_outputs;
        const int64_t n = lucid_trainee_elements(t, s);
        t->model.n_parameters += n;
        t->first[s + 1] = t->first[s] + (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    t->n_floats = t->first[t->n_slots];
    t->parameters = lucid_alloc((size_t)t->n_floats * sizeof *t->parameters);
    t->gradients = lucid_alloc((size_t)t->n_floats * sizeof *t->gradients);
    if (!t->parameters || !t->gradients)
        return lucid_fail(LUCID_ERR_MEMORY, "no memory for %lld parameters and their gradients",
                          (long long)t->model.n_parameters);
    memset(t->parameters, 0, (size_t)t->n_floats * sizeof *t->parameters);
    memset(t->gradients, 0, (size_t)t->n_floats * sizeof *t->gradients);
    for (int s = 0; s < t->n_slots; s++) *t->slots[s].pointer = t->parameters + t->first[s];
    if (t->model.config.tie_word_embeddings) t->model.lm_head = t->model.embed_tokens;
    return LUCID_OK;
}

lucid_status lucid_trainee_create(lucid_trainee *t, const lucid_trainee_config *config) {
    lucid_model *m = &t->model;
    *t = (lucid_trainee){.n_outputs = config->n_outputs ? config->n_outputs : config->config.vocab_size,
                         .bare = config->bare};
    LUCID_TRY(check(config));
    m->config = config->config;
    if (m->config.qk_norm == LUCID_QKNORM_AS_WEIGHTS) m->config.qk_norm = LUCID_QKNORM_OFF;
    m->layers = calloc((size_t)m->config.n_layers, sizeof *m->layers);
    if (!m->layers) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d layers", m->config.n_layers);
    LUCID_TRY(lucid_model_slots_make(&t->slots, &t->n_slots, m));
    if (t->bare) keep_bare_slots(t);
    if (config->key_gain) LUCID_TRY(add_key_gain(t));
    return lay_out(t);
}

void lucid_trainee_destroy(lucid_trainee *t) {
    free(t->model.layers);
    free(t->slots);
    free(t->first);
    free(t->parameters);
    free(t->gradients);
    *t = (lucid_trainee){0};
}

double *lucid_trainee_gradient(const lucid_trainee *t, const float *weight) {
    return weight ? t->gradients + (weight - t->parameters) : NULL;
}

/* --- the beginning --- */

static void fill_normal(float *w, int64_t n, uint64_t seed, int tensor, double deviation) {
    const lucid_random random = {.seed = seed};
    float drawn[DRAWN];
    for (int64_t first = 0; first < n; first += DRAWN) {
        lucid_random_rows(drawn, LUCID_F32, &random, LUCID_V, tensor, 0, first / DRAWN, 1, DRAWN);
        for (int64_t i = first; i < n && i < first + DRAWN; i++) w[i] = (float)(deviation * drawn[i - first]);
    }
}

static void fill_uniform(float *w, int64_t n, uint64_t seed, int tensor, double limit) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int64_t i = 0; i < n; i++) {
        const uint32_t counter[4] = {(uint32_t)i, (uint32_t)(i >> 32), (uint32_t)tensor, UINT32_C(0x494e4954)};
        uint32_t words[4];
        lucid_philox(words, counter, key);
        w[i] = (float)(limit * (2 * ((double)words[0] + 0.5) * 0x1p-32 - 1));
    }
}

/* A token's own projection passes whole; those before it come in by as much as flash-linear-attention draws. */
static void fill_convolution(float *w, int64_t n, int64_t width, uint64_t seed, int tensor) {
    fill_uniform(w, n, seed, tensor, 1 / sqrt((double)width));
    for (int64_t i = width - 1; i < n; i += width) w[i] = 1;
}

/* Taps of channel c, oldest first: a random sign for each of the n newest tokens but `later`, so that what two runs of
 * tokens have in common counts only where it stands in the same order. */
static void fill_taps(float *w, int64_t c, int width, int later, uint64_t seed, int tensor) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)c, 0, (uint32_t)tensor, UINT32_C(0x54415053)};
    const float size = 1 / sqrtf((float)(width - 1));
    uint32_t words[4];
    lucid_philox(words, counter, key);
    for (int i = 0; i < width; i++) {
        const int back = width - 1 - i - later; /* tokens */
        w[i] = back < 0 || back == width - 1 ? 0 : words[0] >> (back % 32) & 1 ? size : -size;
    }
}

static float *writable(const lucid_trainee *t, const float *weight) {
    return t->parameters + (weight - t->parameters);
}

/* Keys and all queries of a group are projected as those of its first head, and values are given back by the projection
 * that read them. Convolutions of keys, and of the other heads' queries, are the first head's one token later. */
static void match_layer(const lucid_trainee *t, const lucid_model_layer *layer, double scale, uint64_t seed,
                        int tensor) {
    const lucid_model_config *c = &t->model.config;
    const int64_t dim = c->head_dim, hidden = c->hidden_size, group = c->n_heads / c->n_kv_heads;
    const int64_t q = c->n_heads * dim;
    float *q_proj = writable(t, layer->q_proj), *k_proj = writable(t, layer->k_proj);
    float *o_proj = writable(t, layer->o_proj);
    const size_t bytes = (size_t)(dim * hidden) * sizeof *q_proj; /* a head's */
    for (int h = 0; h < c->n_heads; h++)
        if (h % group) memcpy(q_proj + h * dim * hidden, q_proj + h / group * group * dim * hidden, bytes);
    for (int h = 0; h < c->n_kv_heads; h++) memcpy(k_proj + h * dim * hidden, q_proj + h * group * dim * hidden, bytes);
    for (int64_t i = 0; i < hidden; i++)
        for (int64_t j = 0; j < q; j++)
            o_proj[i * q + j] = (float)scale * layer->v_proj[(j / dim / group * dim + j % dim) * hidden + i];
    if (c->conv_size < 2) return;
    float *q_conv = writable(t, layer->q_conv), *k_conv = writable(t, layer->k_conv);
    for (int64_t j = 0; j < q; j++)
        fill_taps(q_conv + j * c->conv_size, j / dim / group * dim + j % dim, c->conv_size, j / dim % group != 0, seed,
                  tensor);
    for (int64_t j = 0; j < c->n_kv_heads * dim; j++)
        fill_taps(k_conv + j * c->conv_size, j, c->conv_size, 1, seed, tensor);
}

void lucid_trainee_match(lucid_trainee *t, uint64_t seed) {
    const int n_layers = t->model.config.n_layers;
    for (int l = 0; l < n_layers; l++) match_layer(t, &t->model.layers[l], 1 / sqrt(2.0 * n_layers), seed, l);
}

void lucid_trainee_initialise(lucid_trainee *t, uint64_t seed, double deviation) {
    const double residual = 1 / sqrt(2.0 * t->model.config.n_layers);
    for (int s = 0; s < t->n_slots; s++) {
        const lucid_model_slot *slot = &t->slots[s];
        const int64_t n = lucid_trainee_elements(t, s);
        float *w = t->parameters + t->first[s];
        const bool last = ends_with(slot->name, "o_proj.weight") || ends_with(slot->name, "down_proj.weight");
        if (slot->n_dims == 3)
            fill_convolution(w, n, slot->shape[2], seed, s);
        else if (slot->n_dims == 1)
            for (int64_t i = 0; i < n; i++) w[i] = ends_with(slot->name, ".bias") ? 0 : 1;
        else if (t->bare && !ends_with(slot->name, "embed_tokens.weight"))
            fill_uniform(w, n, seed, s, sqrt(6.0 / (double)(slot->shape[0] + slot->shape[1])));
        else
            fill_normal(w, n, seed, s, last ? deviation * residual : deviation);
    }
}
