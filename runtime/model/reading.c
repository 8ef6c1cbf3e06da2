/* Reading tokens: chunks and single ones through the layers. A chunk's attention is the engine's, on top of the cache;
 * a single token's is the decoder's, and every rank computes all the rest of it.
 *
 * Rows are computed where they are kept, so a chunk within one tile is one rank's work, for which all cached keys and
 * values of a layer but its own travel to it, 4 (2 head_dim + 1) bytes a token and key-value head. Sending the rows'
 * states from tile to tile instead would be as many bytes from a quarter of a tile on, and leave all ranks but one idle
 * just the same. */
#include "runtime/attention/attention.h"
#include "runtime/model/context_parts.h"
#include "runtime/model/problem.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* A chunk on its way through the layers. */
typedef struct {
    lucid_context *context;
    lucid_rows rows;
    lucid_tiles tiles;
    lucid_attention *attention; /* NULL with DeltaNet */
} step;

/* --- work --- */

double lucid_context_attention_flops(const lucid_model_config *m, int64_t first, int64_t last) {
    const double d = m->head_dim, n = (double)(last - first);
    if (m->attention == LUCID_MODEL_DELTANET) return n * m->n_heads * d * (8 * d + 7 * LUCID_PANEL);
    const double pairs = 0.5 * ((double)last * ((double)last + 1) - (double)first * ((double)first + 1));
    const int heads = m->n_heads + (m->attention == LUCID_MODEL_LUCID ? m->n_kv_heads : 0);
    return 4.0 * d * heads * pairs;
}

static void report_progress(void *context, double share) {
    lucid_context *c = context;
    if (c->options.progress)
        c->options.progress(c->options.progress_context,
                            (c->progress.done + share * c->progress.now) / c->progress.total);
}

/* --- attention of a chunk --- */

/* What lies behind a tensor: (n_rows, *n_heads, head_dim) from token's row on. */
static float *tensor_rows(const step *s, lucid_tensor tensor, int64_t token, int *n_heads) {
    const lucid_forward *f = &s->context->forward;
    const lucid_model_config *m = &f->model->config;
    *n_heads = tensor == LUCID_Q || tensor == LUCID_OUT ? m->n_heads : m->n_kv_heads;
    float *rows = tensor == LUCID_K ? f->k : tensor == LUCID_V ? f->v : f->q;
    return rows + lucid_rows_index(&s->rows, token) * *n_heads * m->head_dim;
}

/* A lucid_reader; tokens of one call lie in one tile, and so in consecutive rows. */
static lucid_status read_rows(void *context, void *rows, lucid_tensor tensor, int batch, int head, int64_t first,
                              int n_tokens) {
    const step *s = context;
    int n_heads;
    const float *from = tensor_rows(s, tensor, first, &n_heads);
    (void)batch;
    lucid_head_gather(rows, from, n_tokens, n_heads, head, s->context->model->config.head_dim);
    return LUCID_OK;
}

/* A lucid_writer. */
static lucid_status write_rows(void *context, const float *rows, lucid_tensor tensor, int batch, int head,
                               int64_t first, int n_tokens) {
    const step *s = context;
    int n_heads;
    float *to = tensor_rows(s, tensor, first, &n_heads);
    (void)batch;
    lucid_head_scatter(to, rows, n_tokens, n_heads, head, s->context->model->config.head_dim);
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
    c->times.wait += (phase[LUCID_PHASE_COMM] + phase[LUCID_PHASE_WAIT]) / c->options.threads;
    c->times.flops += result.flops;
}

static lucid_status attend(step *s, int layer) {
    lucid_context *c = s->context;
    LUCID_TRY(lucid_comm_agree(c->comm, load_rows(s, layer)));
    c->progress.now = lucid_context_attention_flops(&c->model->config, s->rows.first, s->rows.last);
    const double begin = lucid_clock();
    const lucid_status status = lucid_attention_run(s->attention);
    c->adrift = status != LUCID_OK;
    LUCID_TRY(status);
    c->times.attention += lucid_clock() - begin;
    note_run(c, lucid_attention_result(s->attention));
    c->progress.done += c->progress.now;
    lucid_cache_close_layer(c->cache, layer, s->rows.last - s->rows.first);
    /* A short chunk of a long text is the work of few ranks, and the others are done long before. */
    return lucid_comm_conclude(c->comm, lucid_attention_store(s->attention, LUCID_OUT, write_rows, s));
}

/* DeltaNet's instead. */
static lucid_status run_state(step *s, int layer) {
    lucid_context *c = s->context;
    const double begin = lucid_clock();
    const lucid_status status = lucid_deltanet_chunk(c->deltanet, layer, &c->forward, &s->rows);
    c->adrift = status != LUCID_OK;
    LUCID_TRY(status);
    c->times.attention += lucid_clock() - begin;
    return lucid_comm_rendezvous(c->comm);
}

/* What the engine takes beside the cache. */
static void note_engine(step *s) {
    lucid_context *c = s->context;
    const lucid_model_config *m = &c->model->config;
    const lucid_plan *plan = lucid_attention_plan(s->attention);
    const lucid_shape shape = lucid_shape_make(m->head_dim, m->head_dim);
    const size_t granules = (size_t)(s->rows.n_rows / LUCID_PANEL) * (size_t)m->n_heads;
    const size_t queries = granules * (lucid_query_floats(shape) + lucid_state_floats(shape)) * sizeof(float);
    const size_t bytes = queries + plan->window_bytes + plan->scratch_bytes;
    if (bytes > c->engine_bytes) c->engine_bytes = bytes;
}

static lucid_status create_attention(step *s) {
    lucid_context *c = s->context;
    if (c->deltanet) return LUCID_OK;
    lucid_problem problem = lucid_model_problem(&c->model->config, s->rows.last, 1);
    problem.n_cached = s->rows.first;
    problem.cache_dtype = c->options.cache_dtype;
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
    LUCID_TRY(lucid_attention_create(&s->attention, c->comm, &problem, &options));
    note_engine(s);
    return LUCID_OK;
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
        LUCID_TRY(lucid_context_convolve(c, l, &s->tiles));
        lucid_forward_place(&c->forward, &model->layers[l]);
        LUCID_TRY(c->deltanet ? run_state(s, l) : attend(s, l));
        lucid_forward_finish(&c->forward, &model->layers[l]);
    }
    c->progress.done += 2.0 * (double)model->n_parameters * (double)(s->rows.last - s->rows.first);
    c->n_read = c->n_tails = s->rows.last;
    if (c->deltanet) return LUCID_OK;
    const lucid_result result = lucid_attention_result(s->attention);
    c->times.pack += result.pack + result.read + result.write;
    return lucid_cache_append(c->cache, s->rows.last - s->rows.first);
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

static lucid_status read_chunk(lucid_context *c, int64_t first, int64_t last, const lucid_logits_sink *sink) {
    step s = {.context = c, .rows = lucid_rows_make(first, last, c->options.tile, c->comm->world_size, c->comm->rank)};
    lucid_status status;
    LUCID_TRY(lucid_comm_agree(c->comm, lucid_forward_resize(&c->forward, s.rows.n_rows)));
    LUCID_TRY_GOTO(lucid_comm_agree(c->comm, lucid_tiles_make(&s.tiles, &s.rows, &c->convolution)), destroy);
    LUCID_TRY_GOTO(create_attention(&s), destroy);
    embed_rows(&s);
    LUCID_TRY_GOTO(run_layers(&s), destroy);
    LUCID_TRY_GOTO(keep_last(&s), destroy);
    status = lucid_comm_agree(c->comm, sink ? hand_out(&s, sink) : LUCID_OK);
destroy:
    lucid_tiles_free(&s.tiles);
    lucid_attention_destroy(s.attention);
    return status;
}

lucid_status lucid_context_read_chunk(lucid_context *c, int64_t first, int64_t last, const lucid_logits_sink *sink) {
    const double begin = lucid_clock(), products = c->forward.products;
    LUCID_TRY(read_chunk(c, first, last, sink));
    c->times.chunks += lucid_clock() - begin;
    c->times.products += c->forward.products - products;
    return LUCID_OK;
}

/* --- a single token --- */

static lucid_status decode(lucid_context *c, int layer) {
    lucid_forward *f = &c->forward;
    const size_t n = (size_t)c->model->config.n_heads * (size_t)c->model->config.head_dim;
    const double begin = lucid_clock();
    if (c->deltanet) {
        lucid_deltanet_token(c->deltanet, layer, f);
    } else {
        const lucid_status status = lucid_decode(c->decoder, layer, c->attended, f->q, f->k, f->v);
        c->adrift = status != LUCID_OK;
        LUCID_TRY(status);
        memcpy(f->q, c->attended, n * sizeof *f->q);
    }
    c->times.decode += lucid_clock() - begin;
    return LUCID_OK;
}

static lucid_status decode_layers(lucid_context *c) {
    for (int l = 0; l < c->model->config.n_layers; l++) {
        lucid_forward_project(&c->forward, &c->model->layers[l]);
        lucid_context_convolve_one(c, l, c->n_read);
        lucid_forward_place(&c->forward, &c->model->layers[l]);
        LUCID_TRY(decode(c, l));
        lucid_forward_finish(&c->forward, &c->model->layers[l]);
    }
    c->n_tails = ++c->n_read;
    return c->deltanet ? LUCID_OK : lucid_cache_append(c->cache, 1);
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

/* Rows once taken stay, so the ranks need to agree only once. */
static lucid_status room_for_one(lucid_context *c) {
    const lucid_status status = lucid_forward_resize(&c->forward, 1);
    if (c->has_room) return status;
    LUCID_TRY(lucid_comm_agree(c->comm, status));
    c->has_room = true;
    return LUCID_OK;
}

lucid_status lucid_context_read_one(lucid_context *c, int64_t position, const lucid_logits_sink *sink) {
    LUCID_TRY(room_for_one(c));
    lucid_forward_embed(&c->forward, 0, c->ids[position], position);
    LUCID_TRY(decode_layers(c));
    memcpy(c->last, c->forward.x, (size_t)c->model->config.hidden_size * sizeof *c->last);
    return sink ? lucid_comm_agree(c->comm, hand_out_one(c, position, sink)) : LUCID_OK;
}
