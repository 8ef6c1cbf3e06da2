/* A context's life: set-up, what is appended and cut, saving. */
#include "runtime/attention/attention.h"
#include "runtime/cache/folder.h"
#include "runtime/model/context_parts.h"
#include "runtime/model/fingerprint.h"
#include "runtime/model/problem.h"

#include <stdlib.h>
#include <string.h>

/* Tokens of a rank: their activations take a fraction of what 64K cached tokens do. */
#define CHUNK (INT64_C(8) << 10)

/* --- set-up --- */

static lucid_status check_options(const lucid_context_options *o) {
    if (o->max_tokens < 1 || o->max_tokens > INT64_C(1) << 36)
        return lucid_fail(LUCID_ERR_USAGE, "a context of %lld tokens is outside 1..2^36", (long long)o->max_tokens);
    if (o->threads < 0 || o->chunk < 0)
        return lucid_fail(LUCID_ERR_USAGE, "threads %d and chunk %lld must not be negative", o->threads,
                          (long long)o->chunk);
    return LUCID_OK;
}

static lucid_status allocate(lucid_context *c, const lucid_blas *blas) {
    LUCID_TRY(lucid_forward_create(&c->forward, c->model, blas, c->options.max_tokens, c->options.threads));
    c->convolution = c->model->config.attention == LUCID_MODEL_DELTANET ? (lucid_convolution){.width = 1}
                                                                        : lucid_convolution_of(&c->model->config);
    c->tails =
        calloc((size_t)(c->model->config.n_layers + 1) * lucid_tail_floats(&c->convolution) + 1, sizeof *c->tails);
    c->n_tails = -1;
    c->attended = calloc((size_t)c->model->config.n_heads * (size_t)c->model->config.head_dim, sizeof *c->attended);
    c->last = calloc((size_t)c->model->config.hidden_size, sizeof *c->last);
    c->ids = malloc((size_t)c->options.max_tokens * sizeof *c->ids);
    if (!c->tails || !c->attended || !c->last || !c->ids)
        return lucid_fail(LUCID_ERR_MEMORY, "no memory for a context of %lld tokens", (long long)c->options.max_tokens);
    return LUCID_OK;
}

static lucid_status prepare(lucid_context *c, const lucid_blas *blas) {
    LUCID_TRY(check_options(&c->options));
    if (c->options.threads == 0) c->options.threads = 1;
    if (c->options.chunk == 0) c->options.chunk = CHUNK;
    return allocate(c, blas);
}

static lucid_status fail_to_keep(void) {
    return lucid_fail(LUCID_ERR_UNSUPPORTED, "a text read by a DeltaNet model cannot be saved: its state is soon read");
}

/* Collective. */
static lucid_status agree_on_fingerprint(char fingerprint[LUCID_FINGERPRINT_MAX], const lucid_context *c) {
    return lucid_comm_agree(c->comm, lucid_model_fingerprint(fingerprint, c->model, c->options.max_tokens));
}

/* Collective. */
static lucid_status load_cache(lucid_context *c, const lucid_cache_config *config) {
    char fingerprint[LUCID_FINGERPRINT_MAX];
    int32_t *ids;
    LUCID_TRY(agree_on_fingerprint(fingerprint, c));
    LUCID_TRY(lucid_cache_load(&c->cache, &ids, c->comm, c->options.saved, fingerprint, config));
    c->n_tokens = c->n_read = lucid_cache_tokens(c->cache);
    memcpy(c->ids, ids, (size_t)c->n_tokens * sizeof *ids);
    free(ids);
    return LUCID_OK;
}

/* Collective. */
static lucid_status create_cache(lucid_context *c) {
    const lucid_model_config *m = &c->model->config;
    const lucid_cache_config config = {
        .attention = lucid_model_attention_kind(m),
        .dtype = c->options.cache_dtype,
        .n_layers = m->n_layers,
        .n_kv_heads = m->n_kv_heads,
        .head_dim = m->head_dim,
        .value_dim = m->head_dim,
        .eps = m->rms_norm_eps,
        .max_tokens = c->options.max_tokens,
        .tile = c->options.tile,
        .threads = c->options.threads,
        .tail_floats = lucid_tail_floats(&c->convolution),
    };
    if (c->options.saved)
        LUCID_TRY(load_cache(c, &config));
    else
        LUCID_TRY(lucid_cache_create(&c->cache, c->comm, &config));
    c->options.tile = lucid_cache_configuration(c->cache)->tile;
    return lucid_decoder_create(&c->decoder, c->cache,
                                &(lucid_decode_options){.n_heads = m->n_heads, .isa = c->options.isa});
}

/* DeltaNet's instead. Collective. */
static lucid_status create_state(lucid_context *c) {
    lucid_status status = LUCID_OK;
    if (c->options.tile % LUCID_GRANULE || c->options.tile < 0)
        status = lucid_fail(LUCID_ERR_USAGE, "tile %lld is not a multiple of %d tokens", (long long)c->options.tile,
                            LUCID_GRANULE);
    if (!status && c->options.saved) status = fail_to_keep();
    if (!c->options.tile) c->options.tile = lucid_cache_tile(c->options.max_tokens);
    if (!status)
        status = lucid_deltanet_create(&c->deltanet, c->model, c->comm, c->forward.blas, c->options.threads,
                                       c->options.timeout);
    return lucid_comm_agree(c->comm, status);
}

lucid_status lucid_context_create(lucid_context **context, const lucid_model *model, lucid_comm *comm,
                                  const lucid_context_options *options) {
    const lucid_blas *blas;
    lucid_context *c = calloc(1, sizeof *c);
    lucid_status status = lucid_comm_agree(comm, c ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory"));
    if (status) goto destroy;
    c->model = model;
    c->comm = comm;
    c->options = *options;
    LUCID_TRY_GOTO(lucid_blas_agree(&blas, comm, options->blas), destroy);
    LUCID_TRY_GOTO(lucid_comm_agree(comm, prepare(c, blas)), destroy);
    LUCID_TRY_GOTO(model->config.attention == LUCID_MODEL_DELTANET ? create_state(c) : create_cache(c), destroy);
    *context = c;
    return LUCID_OK;
destroy:
    lucid_context_destroy(c);
    return status;
}

void lucid_context_destroy(lucid_context *c) {
    if (!c) return;
    lucid_deltanet_destroy(c->deltanet);
    lucid_decoder_destroy(c->decoder);
    lucid_cache_destroy(c->cache);
    lucid_forward_destroy(&c->forward);
    free(c->tails);
    free(c->attended);
    free(c->last);
    free(c->logits);
    free(c->ids);
    free(c);
}

const int32_t *lucid_context_tokens(const lucid_context *c, int64_t *n) {
    *n = c->n_tokens;
    return c->ids;
}

int64_t lucid_context_tile(const lucid_context *c) {
    return c->options.tile;
}

lucid_context_times lucid_context_elapsed(const lucid_context *c) {
    return c->times;
}

lucid_context_bytes lucid_context_share(const lucid_context *c) {
    const lucid_model_config *m = &c->model->config;
    const size_t state = (size_t)m->n_layers * (size_t)m->n_heads * (size_t)m->head_dim * (size_t)m->head_dim;
    const size_t logits = c->logits ? LUCID_PANEL * (size_t)m->vocab_size : 0;
    return (lucid_context_bytes){
        .weights = c->model->mapped_bytes + c->model->shared_bytes,
        .cache = c->cache ? lucid_cache_held_bytes(c->cache) : state * sizeof(float),
        .rows = lucid_forward_bytes(&c->forward) + logits * sizeof(float),
        .engine = c->engine_bytes,
    };
}

double lucid_context_flops(const lucid_context *c, int64_t n) {
    const lucid_model_config *m = &c->model->config;
    return lucid_context_attention_flops(m, c->n_tokens, c->n_tokens + n) * m->n_layers +
           2.0 * (double)c->model->n_parameters * (double)n;
}

const void *lucid_context_layer(const lucid_context *c, int layer, size_t *n_bytes) {
    *n_bytes = 0;
    return c->cache ? lucid_cache_layer(c->cache, layer, n_bytes) : NULL;
}

/* --- appending --- */

/* The same outcome on all ranks, for the same is asked of them. */
static lucid_status check_ids(const lucid_context *c, const int32_t *ids, int64_t n) {
    const int vocab = c->model->config.vocab_size;
    if (n < 1) return lucid_fail(LUCID_ERR_USAGE, "no tokens to read");
    if (n > c->options.max_tokens - c->n_tokens)
        return lucid_fail(LUCID_ERR_USAGE, "%lld tokens after %lld are more than the context of %lld holds",
                          (long long)n, (long long)c->n_tokens, (long long)c->options.max_tokens);
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocab)
            return lucid_fail(LUCID_ERR_INPUT, "token %lld: id %d is not in the model's vocabulary of %d",
                              (long long)(c->n_tokens + i), ids[i], vocab);
    return LUCID_OK;
}

/* At the end of a panel where there is one: DeltaNet's bits depend on how panels are cut, and chunks on the ranks. */
static int64_t chunk_end(int64_t first, int64_t last, int64_t chunk) {
    const int64_t whole = (first + chunk) / LUCID_PANEL * LUCID_PANEL;
    if (last - first <= chunk) return last;
    return whole > first ? whole : first + chunk;
}

/* Tokens from the end of the cache to last. A truncation may have taken a few more than it was asked to: they are read
 * again, and nobody wants their logits. */
static lucid_status read_tokens(lucid_context *c, int64_t last, const lucid_logits_sink *sink) {
    const int64_t chunk = c->options.chunk * c->comm->world_size;
    int64_t first = c->n_read;
    LUCID_TRY(lucid_context_find_tails(c));
    if (first && last - first == 1) return lucid_context_read_one(c, first, sink);
    while (first < last) {
        const int64_t end = chunk_end(first, last, chunk);
        LUCID_TRY(lucid_context_read_chunk(c, first, end, sink));
        first = end;
    }
    return LUCID_OK;
}

lucid_status lucid_context_append(lucid_context *c, const int32_t *ids, int64_t n, const lucid_logits_sink *sink) {
    LUCID_TRY(check_ids(c, ids, n));
    const double begin = lucid_clock();
    lucid_logits_sink wanted = sink ? *sink : (lucid_logits_sink){0};
    if (wanted.first < c->n_tokens) wanted.first = c->n_tokens;
    memcpy(c->ids + c->n_tokens, ids, (size_t)n * sizeof *ids);
    c->progress.done = 0;
    c->progress.total = lucid_context_flops(c, n);
    c->has_last = false;
    LUCID_TRY(read_tokens(c, c->n_tokens + n, wanted.first < wanted.last ? &wanted : NULL));
    c->n_tokens += n;
    c->has_last = true;
    c->times.total += lucid_clock() - begin;
    return LUCID_OK;
}

/* A state cannot go back: the text is read anew. */
static void forget_state(lucid_context *c) {
    lucid_deltanet_reset(c->deltanet);
    c->n_read = 0;
}

/* With convolutions to a whole granule, whose tail is there; its tokens are read again. */
static void cut_cache(lucid_context *c, int64_t n) {
    if (c->convolution.width > 1) n = n / LUCID_GRANULE * LUCID_GRANULE;
    c->n_read = lucid_cache_truncate(c->cache, n);
    c->n_tails = -1;
}

lucid_status lucid_context_truncate(lucid_context *c, int64_t n) {
    if (n < 0 || n > c->n_tokens)
        return lucid_fail(LUCID_ERR_USAGE, "a text of %lld tokens cannot be cut to %lld", (long long)c->n_tokens,
                          (long long)n);
    if (n == c->n_tokens) return LUCID_OK;
    c->has_last = false;
    c->n_tokens = n;
    if (c->deltanet)
        forget_state(c);
    else if (n < c->n_read)
        cut_cache(c, n);
    return LUCID_OK;
}

lucid_status lucid_context_save(const lucid_context *c, const char *path) {
    char fingerprint[LUCID_FINGERPRINT_MAX];
    if (c->deltanet) return fail_to_keep();
    LUCID_TRY(agree_on_fingerprint(fingerprint, c));
    return lucid_cache_save(c->cache, path, fingerprint, c->ids);
}

bool lucid_context_adrift(const lucid_context *c) {
    return c->adrift;
}

lucid_status lucid_context_next(float *logits, lucid_context *c) {
    if (!c->has_last) return lucid_fail(LUCID_ERR_USAGE, "no token was read yet: nothing to go on from");
    lucid_forward_logits(logits, &c->forward, c->last, 1);
    return LUCID_OK;
}
