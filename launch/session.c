#include "launch/session.h"

#include "launch/job.h"
#include "launch/peak.h"
#include "launch/sink.h"
#include "runtime/cache/folder.h"
#include "runtime/memory.h"
#include "runtime/model/matmul.h"
#include "runtime/model/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REDUCE_MAX (1 << 16) /* scores that are summed at once */

struct launch_session {
    const launch_options *options;
    lucid_comm *comm;
    const launch_resources *resources;
    lucid_context *context;
    lucid_tokens saved; /* rank 0 */
    launch_needs needs;
    launch_progress progress;
    launch_watch watch; /* rank 0; NULL: progress is shown */
    void *watch_context;
    lucid_safetensors_writer *logits_file;
    int64_t n_chunked; /* tokens at the text's front that were read in chunks, not decoded; rank 0 */
    float *next;       /* (vocab_size) rank 0 */
    launch_measures measures;
    bool drawing; /* the last order was a drawn token's: the next one comes soon */
    bool over;    /* the others have left */
};

typedef enum { ORDER_READ, ORDER_TOKEN, ORDER_TRUNCATE, ORDER_SAVE, ORDER_MEASURE, ORDER_END } order_kind;

/* What rank 0 sends before each step. */
typedef struct {
    int64_t kind;
    int64_t n;                       /* ids that follow; tokens to keep; the one id itself */
    int64_t first_target, n_targets; /* targets that follow the ids */
} order;

/* One step's scores on their way: each position's on the rank that holds it, zeros elsewhere. */
typedef struct {
    const launch_session *session;
    int64_t first, n;
    const int32_t *targets; /* (n) */
    double *found;          /* (n, 2) loss, is_greedy */
} scoring;

/* --- a step, on every rank --- */

/* False: a logit is not finite. */
static bool score_row(const scoring *s, int64_t position, const float *logits) {
    const int vocab = s->session->resources->model->config.vocab_size;
    const int64_t i = position - s->first;
    bool is_greedy = false;
    for (int t = 0; t < vocab; t++)
        if (!isfinite(logits[t])) return false;
    if (i < 0 || i >= s->n) return true;
    s->found[2 * i] = lucid_token_loss(logits, vocab, s->targets[i], &is_greedy);
    s->found[2 * i + 1] = is_greedy;
    return true;
}

/* A lucid_logits_taker. */
static lucid_status take_logits(void *context, int64_t position, int n_rows, const float *logits) {
    const scoring *s = context;
    const launch_session *session = s->session;
    const launch_needs *needs = &session->needs;
    const int64_t vocab = session->resources->model->config.vocab_size;
    int n_finite = n_rows; /* rows before the first one that is not */
#pragma omp parallel for schedule(static) num_threads(session->resources->threads) reduction(min : n_finite)
    for (int r = 0; r < n_rows; r++)
        if (!score_row(s, position + r, logits + (int64_t)r * vocab) && r < n_finite) n_finite = r;
    if (n_finite < n_rows)
        return lucid_fail(LUCID_ERR_INPUT, "the model's logits at token %lld are not finite",
                          (long long)(position + n_finite));
    if (!session->logits_file) return LUCID_OK;
    const int64_t first = position > needs->first_logit ? position : needs->first_logit;
    const int64_t end = position + n_rows < needs->end_logit ? position + n_rows : needs->end_logit;
    if (first >= end) return LUCID_OK;
    return lucid_safetensors_write(session->logits_file, "logits", (first - needs->first_logit) * vocab,
                                   (end - first) * vocab, logits + (first - position) * vocab);
}

/* Positions whose logits this step needs: of targets, and for the file. */
static lucid_logits_sink sink_of(scoring *s) {
    const launch_needs *needs = &s->session->needs;
    lucid_logits_sink sink = {.first = s->first, .last = s->first + s->n, .take = take_logits, .context = s};
    if (needs->first_logit == needs->end_logit) return sink;
    if (s->n == 0 || needs->first_logit < sink.first) sink.first = needs->first_logit;
    if (s->n == 0 || needs->end_logit > sink.last) sink.last = needs->end_logit;
    return sink;
}

/* Each number stands on one rank, so the sum is exact in any order. */
static lucid_status gather_scores(launch_session *session, double *found, int64_t n) {
    if (n == 0) return LUCID_OK;
    LUCID_TRY(lucid_comm_rendezvous(session->comm)); /* a layout may give the ranks unequal work */
    for (int64_t first = 0; first < n; first += REDUCE_MAX) {
        const int64_t left = n - first;
        const int count = (int)(left < REDUCE_MAX ? left : REDUCE_MAX);
        LUCID_TRY(lucid_comm_allreduce(session->comm, found + first, count, LUCID_SUM));
    }
    return LUCID_OK;
}

/* A failure that the ranks could not agree on has left some of them waiting. */
static lucid_status settle(launch_session *session, lucid_status status) {
    if (!status || !lucid_context_adrift(session->context)) return status;
    launch_sink_discard();
    lucid_comm_abort(session->comm); /* comes back where there is no other rank to end */
    exit(1);
}

static lucid_status read_step(launch_session *session, const order *o, const int32_t *ids, const int32_t *targets,
                              double *found) {
    scoring s = {.session = session, .first = o->first_target, .n = o->n_targets, .targets = targets, .found = found};
    const lucid_logits_sink sink = sink_of(&s);
    session->progress.flops = lucid_context_flops(session->context, o->n);
    launch_progress_begin(&session->progress);
    const lucid_status status =
        lucid_context_append(session->context, ids, o->n, sink.first < sink.last ? &sink : NULL);
    launch_progress_end(&session->progress);
    LUCID_TRY(settle(session, status));
    return gather_scores(session, found, 2 * o->n_targets);
}

double launch_planned_bytes(const launch_rank_measures *m) {
    return m->program + (double)m->share.weights + (double)m->share.cache + (double)m->share.rows +
           (double)m->share.engine;
}

static double kernel_share(const launch_rank_measures *m) {
    return m->times.chunks > 0 ? m->times.kernels / m->times.chunks : 0;
}

static launch_measures summarise(const launch_rank_measures *ranks, int n) {
    launch_measures m = {.token_bytes = (double)ranks->share.weights};
    for (int r = 0; r < n; r++) {
        const launch_rank_measures *slow = &ranks[m.slow_rank], *large = &ranks[m.large_rank];
        if (kernel_share(&ranks[r]) < kernel_share(slow)) m.slow_rank = r;
        if (ranks[r].memory / launch_planned_bytes(&ranks[r]) > large->memory / launch_planned_bytes(large))
            m.large_rank = r;
        m.token_bytes += ranks[r].cache;
        if (ranks[r].cache > 0) m.read_bandwidth += ranks[r].cache / ranks[r].read_seconds;
    }
    m.slow = ranks[m.slow_rank];
    m.large = ranks[m.large_rank];
    return m;
}

/* m is rank 0's. */
static lucid_status gather_measures(launch_measures *m, const launch_rank_measures *own, lucid_comm *comm) {
    void *ranks = NULL;
    size_t *n_bytes = calloc((size_t)comm->world_size, sizeof *n_bytes);
    lucid_status status = n_bytes ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for the ranks' measures");
    status = lucid_comm_agree(comm, status);
    if (!status) status = lucid_comm_gather(comm, own, sizeof *own, &ranks, n_bytes, 0);
    if (!status && comm->rank == 0) *m = summarise(ranks, comm->world_size);
    free(n_bytes);
    free(ranks);
    return status;
}

static void read_cache(launch_rank_measures *own, const launch_session *session, const lucid_kernels *kernels) {
    for (int l = 0; l < session->resources->model->config.n_layers; l++) {
        size_t n_bytes;
        const void *layer = lucid_context_layer(session->context, l, &n_bytes);
        if (n_bytes) own->read_seconds += launch_read_seconds(kernels, layer, n_bytes, session->resources->threads);
        own->cache += (double)n_bytes;
    }
}

static lucid_status measure(launch_measures *m, launch_session *session) {
    const lucid_kernels *kernels = session->resources->kernels;
    launch_rank_measures own = {
        .times = lucid_context_elapsed(session->context),
        .fma_peak = launch_peak_measure(kernels, session->resources->threads),
        .share = lucid_context_share(session->context),
        .program = session->resources->program_bytes,
        .memory = (double)lucid_memory_peak(),
    };
    read_cache(&own, session, kernels);
    return gather_measures(m, &own, session->comm);
}

/* --- orders --- */

/* From rank 0, which may have had much to do since the last one; only tokens that are drawn one after the other pass no
 * barrier. */
static lucid_status share_order(launch_session *session, order *o) {
    if (!session->drawing) LUCID_TRY(lucid_comm_rendezvous(session->comm));
    LUCID_TRY(lucid_comm_broadcast(session->comm, o, sizeof *o, 0));
    session->drawing = o->kind == ORDER_TOKEN;
    return LUCID_OK;
}

/* Both lists in one message. */
static lucid_status share_ids(launch_session *session, const order *o, int32_t *ids) {
    return lucid_comm_broadcast(session->comm, ids, (size_t)(o->n + o->n_targets) * sizeof *ids, 0);
}

/* Room for a step's ids and targets, and for what is found. */
static lucid_status step_room(launch_session *session, const order *o, int32_t **ids, double **found) {
    *ids = malloc((size_t)(o->n + o->n_targets) * sizeof **ids);
    *found = calloc((size_t)(2 * o->n_targets) + 1, sizeof **found);
    lucid_status status = LUCID_OK;
    if (!*ids || !*found) status = lucid_fail(LUCID_ERR_MEMORY, "no memory for %lld tokens", (long long)o->n);
    return lucid_comm_agree(session->comm, status);
}

static lucid_status follow_read(launch_session *session, const order *o) {
    int32_t *ids;
    double *found;
    lucid_status status = step_room(session, o, &ids, &found);
    if (!status) status = share_ids(session, o, ids);
    if (!status) status = read_step(session, o, ids, ids + o->n, found);
    free(ids);
    free(found);
    return status;
}

/* A drawn token needs no message but its order. */
static lucid_status read_token(launch_session *session, const order *o) {
    const int32_t id = (int32_t)o->n;
    return read_step(session, &(order){.n = 1}, &id, NULL, NULL);
}

static lucid_status obey(launch_session *session, const order *o) {
    switch ((order_kind)o->kind) {
    case ORDER_READ:
        return follow_read(session, o);
    case ORDER_TOKEN:
        return read_token(session, o);
    case ORDER_TRUNCATE:
        return lucid_context_truncate(session->context, o->n);
    case ORDER_SAVE:
        return lucid_context_save(session->context, session->options->save_context);
    case ORDER_MEASURE:
        return measure(&session->measures, session);
    case ORDER_END:
        break;
    }
    return LUCID_OK;
}

static lucid_status follow(launch_session *session) {
    order o;
    do {
        LUCID_TRY(share_order(session, &o));
        LUCID_TRY(obey(session, &o));
    } while (o.kind != ORDER_END);
    return LUCID_OK;
}

/* A failure from the order on ends the others too. */
static lucid_status tell(launch_session *session, order o) {
    lucid_status status = share_order(session, &o);
    if (!status) status = obey(session, &o);
    session->over = status != LUCID_OK;
    return status;
}

/* The order, and what belongs to a read. */
static lucid_status tell_read(launch_session *session, order *o, const int32_t *ids, const launch_targets *targets) {
    int32_t *both;
    double *found;
    LUCID_TRY(share_order(session, o));
    lucid_status status = step_room(session, o, &both, &found);
    if (status) goto free_room;
    memcpy(both, ids, (size_t)o->n * sizeof *ids);
    if (o->n_targets) memcpy(both + o->n, targets->targets, (size_t)o->n_targets * sizeof *both);
    LUCID_TRY_GOTO(share_ids(session, o, both), free_room);
    LUCID_TRY_GOTO(read_step(session, o, both, both + o->n, found), free_room);
    for (int64_t i = 0; i < o->n_targets; i++)
        targets->scores[i] = (launch_token_score){.loss = found[2 * i], .is_greedy = found[2 * i + 1] != 0};
free_room:
    free(both);
    free(found);
    return status;
}

static lucid_status read_chunks(launch_session *session, const int32_t *ids, int64_t n, const launch_targets *targets) {
    int64_t n_text;
    lucid_context_tokens(session->context, &n_text);
    order o = {.kind = ORDER_READ,
               .n = n,
               .first_target = targets ? targets->first : 0,
               .n_targets = targets ? targets->n : 0};
    const lucid_status status = tell_read(session, &o, ids, targets);
    session->over = status != LUCID_OK;
    if (session->n_chunked == n_text) session->n_chunked += n;
    return status;
}

/* A single token behind others would be decoded: the one before it is read again. */
lucid_status launch_session_read(launch_session *session, const int32_t *ids, int64_t n,
                                 const launch_targets *targets) {
    int64_t n_text;
    const int32_t *text = lucid_context_tokens(session->context, &n_text);
    if (n != 1 || n_text == 0) return read_chunks(session, ids, n, targets);
    const int32_t both[] = {text[n_text - 1], ids[0]};
    LUCID_TRY(launch_session_truncate(session, n_text - 1));
    return read_chunks(session, both, 2, targets);
}

lucid_status launch_session_decode(launch_session *session, int32_t id) {
    return tell(session, (order){.kind = ORDER_TOKEN, .n = id});
}

lucid_status launch_session_truncate(launch_session *session, int64_t n) {
    if (n < session->n_chunked) session->n_chunked = n;
    return tell(session, (order){.kind = ORDER_TRUNCATE, .n = n});
}

/* Tokens at the front that the text has already, at most n_most, and as reading ids would leave them. A state cannot go
 * back, and behind half a panel it has other bits than in the middle of a chunk. */
static int64_t common(const launch_session *session, const int32_t *ids, int64_t n_most) {
    int64_t n_text, n = 0;
    const int32_t *text = lucid_context_tokens(session->context, &n_text);
    const bool is_state = session->resources->model->config.attention == LUCID_MODEL_DELTANET;
    if (n_most > session->n_chunked) n_most = session->n_chunked;
    while (n < n_most && text[n] == ids[n]) n++;
    return is_state && (n < n_text || n % LUCID_PANEL) ? 0 : n;
}

lucid_status launch_session_become(launch_session *session, const int32_t *ids, int64_t n, int64_t needed,
                                   const launch_targets *targets, int64_t *shared) {
    *shared = common(session, ids, needed < n - 2 ? needed : n - 2);
    LUCID_TRY(launch_session_truncate(session, *shared));
    return read_chunks(session, ids + *shared, n - *shared, targets);
}

lucid_status launch_session_save(launch_session *session) {
    return tell(session, (order){.kind = ORDER_SAVE});
}

const lucid_tokens *launch_session_saved(const launch_session *session) {
    return &session->saved;
}

lucid_status launch_session_measure(launch_measures *measures, launch_session *session) {
    LUCID_TRY(tell(session, (order){.kind = ORDER_MEASURE}));
    *measures = session->measures;
    return LUCID_OK;
}

lucid_status launch_session_next(const float **logits, launch_session *session) {
    *logits = session->next;
    return lucid_context_next(session->next, session->context);
}

/* --- opening --- */

void launch_session_watch(launch_session *session, launch_watch watch, void *context) {
    session->watch = watch;
    session->watch_context = context;
}

static void on_progress(void *context, double share) {
    launch_session *session = context;
    if (session->watch)
        session->watch(session->watch_context, share);
    else
        launch_progress_update(&session->progress, share);
}

static lucid_status open_context(launch_session *session) {
    const launch_options *o = session->options;
    const lucid_context_options options = {
        .max_tokens = o->max_context ? o->max_context : session->needs.max_tokens,
        .chunk = o->prefill_chunk,
        .tile = o->tile,
        .cache_dtype = (lucid_dtype)o->cache_dtype,
        .saved = o->context,
        .isa = session->resources->kernels->isa,
        .blas = session->resources->blas->kind,
        .schedule = o->schedule,
        .memory_budget = (size_t)o->memory_budget,
        .threads = session->resources->threads,
        .timeout = o->timeout,
        .progress = on_progress,
        .progress_context = session,
    };
    session->progress = launch_progress_make(o->progress, session->comm->rank, 1);
    LUCID_TRY(lucid_context_create(&session->context, session->resources->model, session->comm, &options));
    lucid_context_tokens(session->context, &session->n_chunked);
    return LUCID_OK;
}

static lucid_status plan_logits(launch_session *session) {
    const launch_needs *needs = &session->needs;
    const lucid_safetensors_tensor tensor = {
        .name = "logits",
        .dtype = "F32",
        .n_dims = 2,
        .shape = {needs->end_logit - needs->first_logit, session->resources->model->config.vocab_size}};
    return lucid_safetensors_plan(&session->logits_file, &(lucid_safetensors_spec){.path = session->options->logits,
                                                                                   .job = session->options->job_id,
                                                                                   .tensors = &tensor,
                                                                                   .n_tensors = 1});
}

static lucid_status open_logits(launch_session *session) {
    if (!session->options->logits) return LUCID_OK;
    lucid_status status = plan_logits(session);
    if (!status) status = launch_sink_watch(session->options->logits, session->options->job_id);
    if (!status && session->comm->rank == 0) status = lucid_safetensors_create(session->logits_file, NULL);
    LUCID_TRY(lucid_comm_agree(session->comm, status));
    if (session->comm->rank) status = lucid_safetensors_join(session->logits_file);
    return lucid_comm_agree(session->comm, status);
}

static lucid_status commit_logits(launch_session *session) {
    if (!session->logits_file) return LUCID_OK;
    LUCID_TRY(lucid_comm_conclude(session->comm, lucid_safetensors_finish(session->logits_file)));
    const lucid_status status = session->comm->rank ? LUCID_OK : lucid_safetensors_commit(session->logits_file);
    if (!status) launch_sink_unwatch();
    return lucid_comm_conclude(session->comm, status);
}

/* --- rank 0's command --- */

static lucid_status peek_saved(launch_session *session) {
    lucid_tokens *saved = &session->saved;
    LUCID_TRY(lucid_cache_peek(&saved->n, &saved->ids, session->options->context));
    saved->capacity = saved->n;
    return launch_vocabulary_check(&session->resources->vocabulary, saved->ids, saved->n, session->options->context);
}

static lucid_status prepare(launch_session *session, const launch_work *steps, void *work) {
    const lucid_model_config *config = &session->resources->model->config;
    session->next = calloc((size_t)config->vocab_size, sizeof *session->next);
    if (!session->next) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d logits", config->vocab_size);
    if (session->options->save_context && config->attention == LUCID_MODEL_DELTANET)
        return lucid_fail(LUCID_ERR_UNSUPPORTED, "--save-context: a DeltaNet model keeps no cache that could be saved");
    if (session->options->context) LUCID_TRY(peek_saved(session));
    LUCID_TRY(steps->prepare(work, session, &session->needs));
    const int64_t max = session->options->max_context;
    if (max && session->needs.max_tokens > max)
        return lucid_fail(LUCID_ERR_INPUT, "--max-context: %lld tokens are fewer than the %lld that are asked for",
                          (long long)max, (long long)session->needs.max_tokens);
    return LUCID_OK;
}

static lucid_status drive(launch_session *session, const launch_work *steps, void *work) {
    const lucid_status status = steps->run(work, session);
    if (session->over) return status; /* all ranks know */
    LUCID_TRY(share_order(session, &(order){.kind = ORDER_END}));
    return status;
}

static lucid_status run(launch_session *session, const launch_work *steps, void *work) {
    lucid_comm *comm = session->comm;
    LUCID_TRY(lucid_comm_conclude(comm, comm->rank ? LUCID_OK : prepare(session, steps, work)));
    LUCID_TRY(lucid_comm_broadcast(comm, &session->needs, sizeof session->needs, 0));
    LUCID_TRY(open_context(session));
    LUCID_TRY(open_logits(session));
    LUCID_TRY(lucid_comm_agree(comm, comm->rank ? follow(session) : drive(session, steps, work)));
    return commit_logits(session);
}

lucid_status launch_session_run_on(const launch_resources *resources, const launch_options *options, lucid_comm *comm,
                                   const launch_work *steps, void *work) {
    launch_session session = {.options = options, .comm = comm, .resources = resources};
    const lucid_status status = run(&session, steps, work);
    lucid_safetensors_destroy(session.logits_file);
    launch_sink_unwatch();
    lucid_context_destroy(session.context);
    lucid_tokens_free(&session.saved);
    free(session.next);
    return status;
}

lucid_status launch_session_run(const launch_options *options, lucid_comm *comm, const launch_work *steps, void *work) {
    launch_resources resources;
    lucid_status status = launch_resources_open(&resources, options, comm, comm->rank == 0);
    if (!status) status = launch_session_run_on(&resources, options, comm, steps, work);
    launch_resources_close(&resources);
    return status;
}

lucid_comm *launch_session_comm(const launch_session *session) {
    return session->comm;
}

const launch_resources *launch_session_resources(const launch_session *session) {
    return session->resources;
}

const lucid_model *launch_session_model(const launch_session *session) {
    return session->resources->model;
}

const lucid_context *launch_session_context(const launch_session *session) {
    return session->context;
}

const launch_vocabulary *launch_session_vocabulary(const launch_session *session) {
    return &session->resources->vocabulary;
}
