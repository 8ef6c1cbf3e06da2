/* A KV cache for inference: unnormalised keys and preconditioned values of every layer, spread over ranks, grown in
 * place, and the decoding of single tokens from it.
 *
 *   lucid_cache_create        reserves room for max_tokens                                Collective
 *   lucid_cache_open_layer    a layer's records for lucid_attention_bind                  Local
 *   lucid_cache_close_layer   keeps what a run of a chunk left in them                    Local
 *   lucid_cache_append        counts new tokens, once all layers have them                Local
 *   lucid_cache_truncate      forgets the last tokens                                     Local
 *   lucid_decode              one layer's step of one new token                           Collective
 *
 * Tokens are dealt out in tiles, tile t to rank t mod world_size; the tile's size depends on max_tokens alone. A rank
 * holds, per layer, its tiles ascending, each (n_kv_heads, tile / 64) cached records of kernels.h at full length. A
 * record's address never changes; memory is taken as tokens come. All ranks make the same calls with the same counts,
 * so each knows what the others hold. One sequence; calls on one cache must not run concurrently.
 */
#ifndef LUCID_RUNTIME_CACHE_CACHE_H
#define LUCID_RUNTIME_CACHE_CACHE_H

#include "runtime/lucid.h"

typedef struct lucid_cache lucid_cache;

/* The same on every rank. */
typedef struct {
    lucid_attention_kind attention; /* softmax: values are kept as they are */
    lucid_dtype dtype;              /* of keys and values: LUCID_F32 or LUCID_BF16 */
    int n_layers, n_kv_heads;
    int head_dim, value_dim; /* 1..256 */
    double eps;              /* of the keys' RMSNorm; 0: 1e-5 */
    int64_t max_tokens;      /* at least 1 */
    int64_t tile;            /* tokens, a multiple of 64; 0: lucid_cache_tile of max_tokens */
    int threads;             /* 0: 1 */
    size_t tail_floats;      /* see lucid_cache_tail; 0: none */
} lucid_cache_config;

/* max_tokens / 128, up to a multiple of 64, within 64..1024: enough tiles for any world size, few enough partial sums
 * for each token to exchange. */
int64_t lucid_cache_tile(int64_t max_tokens);

/* Bytes that the fullest rank takes when max_tokens are there, SIZE_MAX when they cannot be counted. Pure. */
size_t lucid_cache_bytes(const lucid_cache_config *config, int world_size);

/* The communicator must outlive the cache. Errors, agreed: USAGE for an impossible configuration, MEMORY when
 * max_tokens do not fit what any rank has left. Collective. */
lucid_status lucid_cache_create(lucid_cache **cache, lucid_comm *comm, const lucid_cache_config *config);
void lucid_cache_destroy(lucid_cache *cache); /* Local; NULL is fine */

/* With the defaults filled in. */
const lucid_cache_config *lucid_cache_configuration(const lucid_cache *cache);
int64_t lucid_cache_tokens(const lucid_cache *cache);

/* Bytes of this rank's memory that the tokens there take, in all layers. */
size_t lucid_cache_held_bytes(const lucid_cache *cache);

/* What a layer's decoding reads on this rank, for measurements: whole tiles with any token. */
const void *lucid_cache_layer(const lucid_cache *cache, int layer, size_t *n_bytes);

/* The layer's fp32 records and pending values, as lucid_attention_bind wants them, valid until the next open. A 16-bit
 * cache widens what it holds into one region that all layers share. */
void lucid_cache_open_layer(lucid_cache *cache, int layer, float **records, float **pending);
/* Takes in the n_new tokens behind the cached ones: a 16-bit cache narrows them, exactly, as the run has rounded them.
 */
void lucid_cache_close_layer(lucid_cache *cache, int layer, int64_t n_new);

/* tail_floats floats of each layer and granule that go with the cache: into its folder and out of it. The cache neither
 * reads nor writes them; models keep there what a text needs to be gone on with behind the granule's last token. NULL
 * where another rank has the granule. */
float *lucid_cache_tail(const lucid_cache *cache, int layer, int64_t granule);

/* Errors: MEMORY beyond max_tokens. */
lucid_status lucid_cache_append(lucid_cache *cache, int64_t n_new);

/* Keeps the first n_tokens, or fewer: back to within an earlier granule only whole granules can be kept, as the values
 * that a chunk would solve anew are no longer there. Returns how many are kept, at least n_tokens - 63; append the rest
 * again. */
int64_t lucid_cache_truncate(lucid_cache *cache, int64_t n_tokens);

/* Decoding. */

typedef struct lucid_decoder lucid_decoder;

/* The same on every rank. Zero means default. None of it but isa changes a bit of the result. */
typedef struct {
    int n_heads;          /* a multiple of n_kv_heads; no default */
    double softmax_scale; /* 0: 1 / sqrt(head_dim) */
    const char *isa;      /* NULL or "auto": the best that all ranks have */
} lucid_decode_options;

/* The cache must outlive the decoder. Errors, agreed: USAGE, UNSUPPORTED, MEMORY. Collective. */
lucid_status lucid_decoder_create(lucid_decoder **decoder, lucid_cache *cache, const lucid_decode_options *options);
void lucid_decoder_destroy(lucid_decoder *decoder); /* Local; NULL is fine */

/* One layer's step of the token behind the cached ones: its key and preconditioned value join the layer's records on
 * the rank that owns them, and out (n_heads, value_dim) is its attention. q (n_heads, head_dim), k (n_kv_heads,
 * head_dim) and v (n_kv_heads, value_dim) are the same on every rank, keys after RoPE; so is out, the same bits for any
 * world size. The cost is one read of the layer's records and one exchange. After all layers, lucid_cache_append(1).
 * Errors: MEMORY when the cache is full; COMM, TIMEOUT. Collective. */
lucid_status lucid_decode(lucid_decoder *decoder, int layer, float *out, const float *q, const float *k,
                          const float *v);

#endif
