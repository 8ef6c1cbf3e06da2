/* Contexts made of hashes, decoded token by token into a cache. */
#ifndef LUCID_TESTS_CACHE_FIXTURE_H
#define LUCID_TESTS_CACHE_FIXTURE_H

#include "runtime/cache/cache.h"
#include "tests/comm/drive.h"
#include "tests/runtime/attention/attention_fixture.h"

typedef struct {
    const char *name;
    lucid_attention_kind attention;
    lucid_dtype dtype;
    int n_heads, n_kv_heads, head_dim, value_dim;
    int64_t n, max_tokens, tile;
} cache_case;

enum { CACHE_LAYERS = 2 };

static inline lucid_cache_config case_config(const cache_case *c, int threads) {
    return (lucid_cache_config){.attention = c->attention,
                                .dtype = c->dtype,
                                .n_layers = CACHE_LAYERS,
                                .n_kv_heads = c->n_kv_heads,
                                .head_dim = c->head_dim,
                                .value_dim = c->value_dim,
                                .max_tokens = c->max_tokens,
                                .tile = c->tile,
                                .threads = threads};
}

/* x (heads, dim): one token's q, k or v; layers differ. */
static inline void case_row(float *x, const cache_case *c, int layer, lucid_tensor tensor, int64_t token) {
    const fixture f = {.problem = {.head_dim = c->head_dim, .value_dim = c->value_dim},
                       .keys = KEYS_CLUSTERED,
                       .seed = 11 + (uint64_t)layer};
    const int heads = tensor == LUCID_Q ? c->n_heads : c->n_kv_heads, dim = fixture_dim(&f, tensor);
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < dim; i++) x[h * dim + i] = fixture_element(&f, tensor, 0, h, token, i);
}

static inline size_t case_out_floats(const cache_case *c) {
    return (size_t)c->n_heads * c->value_dim;
}

/* Appends tokens first..end-1; out (end, CACHE_LAYERS, n_heads, value_dim) gets theirs. */
static inline void case_decode(lucid_cache *cache, const cache_case *c, float *out, int64_t first, int64_t end) {
    lucid_decoder *decoder;
    REQUIRE(lucid_decoder_create(&decoder, cache, &(lucid_decode_options){.n_heads = c->n_heads}));
    float q[32 * LUCID_MAX_HEAD_DIM], k[8 * LUCID_MAX_HEAD_DIM], v[8 * LUCID_MAX_HEAD_DIM];
    for (int64_t t = first; t < end; t++) {
        for (int layer = 0; layer < CACHE_LAYERS; layer++) {
            case_row(q, c, layer, LUCID_Q, t);
            case_row(k, c, layer, LUCID_K, t);
            case_row(v, c, layer, LUCID_V, t);
            REQUIRE(
                lucid_decode(decoder, layer, out + ((size_t)t * CACHE_LAYERS + layer) * case_out_floats(c), q, k, v));
        }
        REQUIRE(lucid_cache_append(cache, 1));
    }
    lucid_decoder_destroy(decoder);
}

static inline float *case_outputs(const cache_case *c) {
    return calloc((size_t)c->n * CACHE_LAYERS * case_out_floats(c), sizeof(float));
}

/* Everything, on a cache of its own. */
static inline float *case_run(lucid_comm *comm, const cache_case *c, int threads) {
    lucid_cache *cache;
    const lucid_cache_config config = case_config(c, threads);
    float *out = case_outputs(c);
    REQUIRE(lucid_cache_create(&cache, comm, &config));
    case_decode(cache, c, out, 0, c->n);
    lucid_cache_destroy(cache);
    return out;
}

/* The first token whose outputs differ, or -1. */
static inline int64_t case_difference(const cache_case *c, const float *a, const float *b, int64_t first) {
    const size_t n = CACHE_LAYERS * case_out_floats(c);
    for (int64_t t = first; t < c->n; t++)
        if (memcmp(a + (size_t)t * n, b + (size_t)t * n, n * sizeof *a)) return t;
    return -1;
}

#endif
