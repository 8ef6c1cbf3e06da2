/* Reading a text: chunks of tokens through the layers, attention through the engine. */
#include "runtime/model/context.h"

#include "runtime/attention/attention.h"
#include "runtime/cache/folder.h"
#include "runtime/model/fingerprint.h"
#include "runtime/model/forward.h"
#include "runtime/model/rows.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK (INT64_C(16) << 10) /* tokens of a rank */

struct lucid_context {
    const lucid_model *model;
    lucid_comm *comm;
    lucid_context_options options;
    lucid_cache *cache; /* of n_tokens or, after a truncation, up to 63 fewer */
    lucid_decoder *decoder;
    lucid_forward forward;
    float *attended; /* (n_heads, head_dim) of a decoded token */
    float *last;     /* (hidden_size) the last token's row after all layers */
    float *logits;   /* (LUCID_PANEL, vocab_size), from the first sink on */
    int32_t *ids;    /* (max_tokens) */
    int64_t n_tokens;
    bool has_last, adrift;
    lucid_context_times times;
    struct {
        double done, now, total; /* flops: before the run under way, of it, of the whole append */
    } progress;
};

/* A chunk on its way through the layers. */
typedef struct {
    lucid_context *context;
    lucid_rows rows;
    lucid_attention *attention;
} step;

/* --- set-up --- */

static lucid_attention_kind attention_kind(const lucid_model_config *m) {
    return m->attention == LUCID_MODEL_LUCID ? LUCID_ATTENTION_LUCID : LUCID_ATTENTION_SOFTMAX;
}

static lucid_status check_options(const lucid_context_options *o) {
    if (o->max_tokens < 1 || o->max_tokens > INT64_C(1) << 36)
        return lucid_fail(LUCID_ERR_USAGE, "a context of %lld tokens is outside 1..2^36", (long long)o->max_tokens);
    if (o->threads < 0 || o->chunk < 0)
        return lucid_fail(LUCID_ERR_USAGE, "threads %d and chunk %lld must not be negative", o->threads,
                          (long long)o->chunk);
    return LUCID_OK;
}

static size_t attended_size(const lucid_context *c) {
    return (size_t)c->model->config.n_heads * (size_t)c->model->config.head_dim;
}

static lucid_status allocate(lucid_context *c) {
    LUCID_TRY(lucid_forward_create(&c->forward, c->model, c->options.max_tokens, c->options.threads));
    c->attended = calloc(attended_size(c), sizeof *c->attended);
    c->last = calloc((size_t)c->model->config.hidden_size, sizeof *c->last);
    c->ids = malloc((size_t)c->options.max_tokens * sizeof *c->ids);
    if (!c->attended || !c->last || !c->ids)
        return lucid_fail(LUCID_ERR_MEMORY, "no memory for a context of %lld tokens", (long long)c->options.max_tokens);
    return LUCID_OK;
}

static lucid_status prepare(lucid_context *c) {
    LUCID_TRY(check_options(&c->options));
    if (c->options.threads == 0) c->options.threads = 1;
    if (c->options.chunk == 0) c->options.chunk = CHUNK;
    return allocate(c);
}

/* Collective. */
static lucid_status load_cache(lucid_context *c, const lucid_cache_config *config) {
    char fingerprint[LUCID_FINGERPRINT_MAX];
    int32_t *ids;
    lucid_model_fingerprint(fingerprint, c->model, c->options.max_tokens);
    LUCID_TRY(lucid_cache_load(&c->cache, &ids, c->comm, c->options.saved, fingerprint, config));
    c->n_tokens = lucid_cache_tokens(c->cache);
    memcpy(c->ids, ids, (size_t)c->n_tokens * sizeof *ids);
    free(ids);
    return LUCID_OK;
}

/* Collective. */
static lucid_status create_cache(lucid_context *c) {
    const lucid_model_config *m = &c->model->config;
    const lucid_cache_config config = {
        .attention = attention_kind(m),
        .dtype = c->options.cache_dtype,
        .n_layers = m->n_layers,
        .n_kv_heads = m->n_kv_heads,
        .head_dim = m->head_dim,
        .value_dim = m->head_dim,
        .eps = m->rms_norm_eps,
        .max_tokens = c->options.max_tokens,
        .tile = c->options.tile,
        .threads = c->options.threads,
    };
    if (c->options.saved)
        LUCID_TRY(load_cache(c, &config));
    else
        LUCID_TRY(lucid_cache_create(&c->cache, c->comm, &config));
    c->options.tile = lucid_cache_configuration(c->cache)->tile;
    return lucid_decoder_create(&c->decoder, c->cache,
                                &(lucid_decode_options){.n_heads = m->n_heads, .isa = c->options.isa});
}

lucid_status lucid_context_create(lucid_context **context, const lucid_model *model, lucid_comm *comm,
                                  const lucid_context_options *options) {
    lucid_context *c = calloc(1, sizeof *c);
    lucid_status status = lucid_comm_agree(comm, c ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory"));
    if (status) goto destroy;
    c->model = model;
    c->comm = comm;
    c->options = *options;
    LUCID_TRY_GOTO(lucid_comm_agree(comm, prepare(c)), destroy);
    LUCID_TRY_GOTO(create_cache(c), destroy);
    *context = c;
    return LUCID_OK;
destroy:
    lucid_context_destroy(c);
    return status;
}

void lucid_context_destroy(lucid_context *c) {
    if (!c) return;
    lucid_decoder_destroy(c->decoder);
    lucid_cache_destroy(c->cache);
    lucid_forward_destroy(&c->forward);
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

lucid_context_times lucid_context_elapsed(const lucid_context *c) {
    return c->times;
}

/* --- work --- */

/* Of one layer, on tokens first..last-1 after all before them. */
static double attention_flops(const lucid_model_config *m, int64_t first, int64_t last) {
    const double pairs = 0.5 * ((double)last * ((double)last + 1) - (double)first * ((double)first + 1));
    const int heads = m->n_heads + (m->attention == LUCID_MODEL_LUCID ? m->n_kv_heads : 0);
    return 4.0 * m->head_dim * heads * pairs;
}

double lucid_context_flops(const lucid_context *c, int64_t n) {
    const lucid_model_config *m = &c->model->config;
    return attention_flops(m, c->n_tokens, c->n_tokens + n) * m->n_layers +
           2.0 * (double)c->model->n_parameters * (double)n;
}

static void report_progress(void *context, double share) {
    lucid_context *c = context;
    if (c->options.progress)
        c->options.progress(c->options.progress_context,
                            (c->progress.done + share * c->progress.now) / c->progress.total);
}

/* --- attention of a chunk --- */

/* (n_rows, heads, dim) behind a tensor's rows. */
static float *tensor_rows(const lucid_forward *f, lucid_tensor tensor, int *n_heads) {
    const lucid_model_config *m = &f->model->config;
    *n_heads = tensor == LUCID_Q || tensor == LUCID_OUT ? m->n_heads : m->n_kv_heads;
    return tensor == LUCID_K ? f->k : tensor == LUCID_V ? f->v : f->q;
}

/* A lucid_reader; tokens of one call lie in one tile, and so in consecutive rows. */
static lucid_status read_rows(void *context, void *rows, lucid_tensor tensor, int batch, int head, int64_t first,
                              int n_tokens) {
    const step *s = context;
    const int d = s->context->model->config.head_dim;
    int n_heads;
    const float *from = tensor_rows(&s->context->forward, tensor, &n_heads);
    const int64_t row = lucid_rows_index(&s->rows, first);
    (void)batch;
    for (int t = 0; t < n_tokens; t++)
        memcpy((float *)rows + (size_t)t * d, from + ((size_t)(row + t) * n_heads + head) * d,
               (size_t)d * sizeof *from);
    return LUCID_OK;
}

/* A lucid_writer. */
static lucid_status write_rows(void *context, const float *rows, lucid_tensor tensor, int batch, int head,
                               int64_t first, int n_tokens) {
    const step *s = context;
    const int d = s->context->model->config.head_dim;
    int n_heads;
    float *to = tensor_rows(&s->context->forward, tensor, &n_heads);
    const int64_t row = lucid_rows_index(&s->rows, first);
    (void)batch;
    for (int t = 0; t < n_tokens; t++)
        memcpy(to + ((size_t)(row + t) * n_heads + head) * d, rows + (size_t)t * d, (size_t)d * sizeof *rows);
    return LUCID_OK;
}

static lucid_status load_rows(step *s, int layer) {
    static const lucid_tensor tensors[] = {LUCID_Q, LUCID_K, LUCID_V};
    float *records, *pending;
    lucid_cache_open_layer(s->context->cache, layer, &records, &pending);
    LUCID_TRY(lucid_attention_bind(s->attention, records, pending));
    for (int i = 0; i < 3; i++) LUCID_TRY(lucid_attention_load(s->attention, tensors[i], LUCID_F32, read_rows, s));
    return LUCID_OK;
}

static void note_run(lucid_context *c, lucid_result result) {
    const double *phase = result.phase;
    c->times.kernels +=
        (phase[LUCID_PHASE_UPDATE] + phase[LUCID_PHASE_SOLVE] + phase[LUCID_PHASE_ATTEND]) / c->options.threads;
    c->times.flops += result.flops;
}

static lucid_status attend(step *s, int layer) {
    lucid_context *c = s->context;
    LUCID_TRY(lucid_comm_agree(c->comm, load_rows(s, layer)));
    c->progress.now = attention_flops(&c->model->config, s->rows.first, s->rows.last);
    const double begin = lucid_clock();
    const lucid_status status = lucid_attention_run(s->attention);
    c->adrift = status != LUCID_OK;
    LUCID_TRY(status);
    c->times.attention += lucid_clock() - begin;
    note_run(c, lucid_attention_result(s->attention));
    c->progress.done += c->progress.now;
    lucid_cache_close_layer(c->cache, layer, s->rows.last - s->rows.first);
    return lucid_attention_store(s->attention, LUCID_OUT, write_rows, s);
}

static lucid_status create_attention(step *s) {
    lucid_context *c = s->context;
    const lucid_model_config *m = &c->model->config;
    const lucid_problem problem = {
        .attention = attention_kind(m),
        .seqlen = s->rows.last,
        .n_cached = s->rows.first,
        .cache_dtype = c->options.cache_dtype,
        .batch = 1,
        .n_heads = m->n_heads,
        .n_kv_heads = m->n_kv_heads,
        .head_dim = m->head_dim,
        .value_dim = m->head_dim,
        .eps = m->rms_norm_eps,
    };
    const lucid_options options = {
        .isa = c->options.isa,
        .layout = LUCID_LAYOUT_CYCLIC,
        .schedule = c->options.schedule,
        .tile = s->rows.tile,
        .memory_budget = c->options.memory_budget,
        .threads = c->options.threads,
        .channels = 1,
        .timeout = c->options.timeout,
        .progress = report_progress,
        .progress_context = c,
    };
    return lucid_attention_create(&s->attention, c->comm, &problem, &options);
}

/* --- a chunk --- */

static void embed_rows(const step *s) {
    const lucid_context *c = s->context;
    lucid_forward *f = &s->context->forward;
#pragma omp parallel for schedule(static) num_threads(c->options.threads)
    for (int64_t r = 0; r < f->n_rows; r++) {
        const int64_t token = lucid_rows_token(&s->rows, r);
        const bool there = token >= s->rows.first && token < s->rows.last;
        lucid_forward_embed(f, r, there ? c->ids[token] : -1, token);
    }
}

static lucid_status run_layers(step *s) {
    lucid_context *c = s->context;
    const lucid_model *model = c->model;
    for (int l = 0; l < model->config.n_layers; l++) {
        lucid_forward_project(&c->forward, &model->layers[l]);
        LUCID_TRY(attend(s, l));
        lucid_forward_finish(&c->forward, &model->layers[l]);
    }
    c->progress.done += 2.0 * (double)model->n_parameters * (double)(s->rows.last - s->rows.first);
    LUCID_TRY(lucid_cache_append(c->cache, s->rows.last - s->rows.first));
    const lucid_result result = lucid_attention_result(s->attention);
    c->times.pack += result.pack + result.read + result.write;
    return LUCID_OK;
}

static lucid_status logits_room(lucid_context *c) {
    const size_t n = LUCID_PANEL * (size_t)c->model->config.vocab_size;
    if (!c->logits) c->logits = malloc(n * sizeof *c->logits);
    return c->logits ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for %zu logits", n);
}

/* Local. */
static lucid_status hand_out(step *s, const lucid_logits_sink *sink) {
    lucid_context *c = s->context;
    const size_t vocab = (size_t)c->model->config.vocab_size, hidden = (size_t)c->model->config.hidden_size;
    const int64_t from = sink->first > s->rows.first ? sink->first : s->rows.first;
    const int64_t to = sink->last < s->rows.last ? sink->last : s->rows.last;
    LUCID_TRY(logits_room(c));
    for (int64_t row = 0; row < s->rows.n_rows; row += LUCID_PANEL) {
        const int64_t panel = lucid_rows_token(&s->rows, row);
        const int64_t first = from > panel ? from : panel, end = panel + LUCID_PANEL, last = to < end ? to : end;
        if (first >= last) continue;
        lucid_forward_logits(c->logits, &c->forward, c->forward.x + (size_t)row * hidden, LUCID_PANEL);
        LUCID_TRY(sink->take(sink->context, first, (int)(last - first), c->logits + (size_t)(first - panel) * vocab));
    }
    return LUCID_OK;
}

/* The last token's row travels to all ranks. */
static lucid_status keep_last(step *s) {
    lucid_context *c = s->context;
    const size_t hidden = (size_t)c->model->config.hidden_size;
    const int64_t token = s->rows.last - 1;
    const int owner = lucid_rows_owner(&s->rows, token);
    if (c->comm->rank == owner)
        memcpy(c->last, c->forward.x + (size_t)lucid_rows_index(&s->rows, token) * hidden, hidden * sizeof *c->last);
    return lucid_comm_broadcast(c->comm, c->last, hidden * sizeof *c->last, owner);
}

/* Tokens first..last-1, behind what is cached. */
static lucid_status read_chunk(lucid_context *c, int64_t first, int64_t last, const lucid_logits_sink *sink) {
    step s = {.context = c, .rows = lucid_rows_make(first, last, c->options.tile, c->comm->world_size, c->comm->rank)};
    lucid_status status;
    LUCID_TRY(lucid_comm_agree(c->comm, lucid_forward_resize(&c->forward, s.rows.n_rows)));
    LUCID_TRY(create_attention(&s));
    embed_rows(&s);
    LUCID_TRY_GOTO(run_layers(&s), destroy);
    LUCID_TRY_GOTO(keep_last(&s), destroy);
    status = lucid_comm_agree(c->comm, sink ? hand_out(&s, sink) : LUCID_OK);
destroy:
    lucid_attention_destroy(s.attention);
    return status;
}

/* --- a single token: every rank computes all of it but the attention --- */

static lucid_status decode_layers(lucid_context *c) {
    lucid_forward *f = &c->forward;
    for (int l = 0; l < c->model->config.n_layers; l++) {
        lucid_forward_project(f, &c->model->layers[l]);
        const double begin = lucid_clock();
        const lucid_status status = lucid_decode(c->decoder, l, c->attended, f->q, f->k, f->v);
        c->adrift = status != LUCID_OK;
        LUCID_TRY(status);
        c->times.decode += lucid_clock() - begin;
        memcpy(f->q, c->attended, attended_size(c) * sizeof *f->q);
        lucid_forward_finish(f, &c->model->layers[l]);
    }
    return lucid_cache_append(c->cache, 1);
}

/* The token's owner hands its logits out. */
static lucid_status hand_out_one(lucid_context *c, int64_t position, const lucid_logits_sink *sink) {
    const lucid_rows rows =
        lucid_rows_make(position, position + 1, c->options.tile, c->comm->world_size, c->comm->rank);
    if (position < sink->first || position >= sink->last) return LUCID_OK;
    if (lucid_rows_owner(&rows, position) != c->comm->rank) return LUCID_OK;
    LUCID_TRY(logits_room(c));
    lucid_forward_logits(c->logits, &c->forward, c->last, 1);
    return sink->take(sink->context, position, 1, c->logits);
}

static lucid_status read_one(lucid_context *c, int64_t position, const lucid_logits_sink *sink) {
    LUCID_TRY(lucid_comm_agree(c->comm, lucid_forward_resize(&c->forward, 1)));
    lucid_forward_embed(&c->forward, 0, c->ids[position], position);
    LUCID_TRY(decode_layers(c));
    memcpy(c->last, c->forward.x, (size_t)c->model->config.hidden_size * sizeof *c->last);
    return sink ? lucid_comm_agree(c->comm, hand_out_one(c, position, sink)) : LUCID_OK;
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

/* Tokens from the end of the cache to last. A truncation may have taken a few more than it was asked to: they are read
 * again, and nobody wants their logits. */
static lucid_status read_tokens(lucid_context *c, int64_t last, const lucid_logits_sink *sink) {
    const int64_t chunk = c->options.chunk * c->comm->world_size;
    int64_t first = lucid_cache_tokens(c->cache);
    if (first && last - first == 1) return read_one(c, first, sink);
    while (first < last) {
        const int64_t end = last - first < chunk ? last : first + chunk;
        LUCID_TRY(read_chunk(c, first, end, sink));
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

lucid_status lucid_context_truncate(lucid_context *c, int64_t n) {
    if (n < 0 || n > c->n_tokens)
        return lucid_fail(LUCID_ERR_USAGE, "a text of %lld tokens cannot be cut to %lld", (long long)c->n_tokens,
                          (long long)n);
    if (n == c->n_tokens) return LUCID_OK;
    c->has_last = false;
    c->n_tokens = n;
    lucid_cache_truncate(c->cache, n);
    return LUCID_OK;
}

lucid_status lucid_context_save(const lucid_context *c, const char *path) {
    char fingerprint[LUCID_FINGERPRINT_MAX];
    lucid_model_fingerprint(fingerprint, c->model, c->options.max_tokens);
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
