/* A context's inside, which its files share. Internal to lucid_model. */
#ifndef LUCID_RUNTIME_MODEL_CONTEXT_PARTS_H
#define LUCID_RUNTIME_MODEL_CONTEXT_PARTS_H

#include "runtime/cache/cache.h"
#include "runtime/model/context.h"
#include "runtime/model/convolution.h"
#include "runtime/model/deltanet.h"
#include "runtime/model/forward.h"

struct lucid_context {
    const lucid_model *model;
    lucid_comm *comm;
    lucid_context_options options;
    lucid_cache *cache; /* NULL with DeltaNet */
    lucid_decoder *decoder;
    lucid_deltanet *deltanet;      /* NULL but with DeltaNet */
    int64_t n_read;                /* tokens in the cache or state: n_tokens or, after a truncation, fewer */
    lucid_convolution convolution; /* width 1: none; DeltaNet has its own */
    float *tails;                  /* (n_layers, tail) of the token behind the n_tails-th, on every rank */
    int64_t n_tails;               /* -1: not known */
    lucid_forward forward;
    float *attended; /* (n_heads, head_dim) of a decoded token */
    float *last;     /* (hidden_size) the last token's row after all layers */
    float *logits;   /* (LUCID_PANEL, vocab_size), from the first sink on */
    int32_t *ids;    /* (max_tokens) */
    int64_t n_tokens;
    bool has_last, adrift;
    bool has_room; /* for a single token, on all ranks */
    lucid_context_times times;
    size_t engine_bytes; /* of lucid_context_bytes, the largest chunk's */
    struct lucid_context_progress {
        double done, now, total; /* flops: before the run under way, of it, of the whole append */
    } progress;
};

/* Of one layer, on tokens first..last-1 after all before them. Pure. */
double lucid_context_attention_flops(const lucid_model_config *config, int64_t first, int64_t last);

/* context_convolution.c: q, k and v of a chunk, or of the one token at position, through a layer's convolutions. A text
 * can be cut at whole granules and gone on with: the cache keeps each granule's tail, (conv_size - 1) (q + 2 kv) floats
 * a layer. lucid_context_find_tails comes before what is read. Errors, not agreed on: COMM, TIMEOUT. Collective. */
lucid_status lucid_context_find_tails(lucid_context *context);
lucid_status lucid_context_convolve(lucid_context *context, int layer, lucid_tiles *tiles);
void lucid_context_convolve_one(lucid_context *context, int layer, int64_t position);

/* Reads tokens first..last-1 of the ids behind what was read: a chunk through all layers. Errors: as append.
 * Collective. */
lucid_status lucid_context_read_chunk(lucid_context *context, int64_t first, int64_t last,
                                      const lucid_logits_sink *sink);
/* The same of the one token at position. */
lucid_status lucid_context_read_one(lucid_context *context, int64_t position, const lucid_logits_sink *sink);

#endif
