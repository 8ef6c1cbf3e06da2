/* The run: threads take pieces of work from the channels' schedules, and whoever passes by moves the tiles.
 *
 * One lock guards schedules, requests and transport. A thread holds it to report a piece done, to let transfers
 * progress and to take the next piece; kernels run outside it. Chain pieces of all channels come before bulk pieces of
 * any. A thread that finds nothing to do yields, and past the deadline without any progress on this rank the run fails,
 * naming the tile it waits for. Nothing is allocated inside the loop unless a trace is kept.
 */
#include "runtime/attention/backward.h"
#include "runtime/attention/gain.h"
#include "runtime/attention/plan.h"
#include "runtime/device/device.h"

#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What is in flight on a channel, counted apart: sends must not use up each other's requests, see schedule.h. */
enum { RECEIVES, SENDS_UP, SENDS_DOWN, N_FLIGHTS };
enum { REQUESTS_PER_FLIGHT = 8, REQUESTS_PER_CHANNEL = N_FLIGHTS * REQUESTS_PER_FLIGHT };

typedef struct {
    lucid_request *request; /* NULL: free */
    lucid_transfer transfer;
    int flight;
} pending;

typedef struct {
    lucid_attention *a;
    lucid_channel *channels;
    int n_channels;
    pending *pending;            /* (channels, REQUESTS_PER_CHANNEL) */
    int (*n_pending)[N_FLIGHTS]; /* (channels) requests in flight */
    lucid_status status;
    bool finished;
    int n_busy; /* threads at work on a piece */
    double start, last_progress, last_report, last_hook;
    double work_done, work_total; /* in pairs of tiles */
} engine;

/* --- scratch --- */

static int keys_max(const lucid_plan *plan, const lucid_problem *problem) {
    size_t record = lucid_record_floats(lucid_problem_shape(problem)) * sizeof(float);
    int granules = (int)(plan->tile / LUCID_GRANULE);
    return granules + (int)(LUCID_KEY_RANGE_BYTES / record);
}

size_t lucid_attention_scratch_bytes(const lucid_problem *problem, const lucid_plan *plan, int threads) {
    size_t thread = lucid_kernels_scratch_floats(lucid_problem_shape(problem)) * sizeof(float) +
                    (size_t)keys_max(plan, problem) * (2 * sizeof(float *) + sizeof(lucid_key_sums));
    size_t staging = (size_t)plan->tile * LUCID_MAX_HEAD_DIM * sizeof(float);
    size_t tables = (size_t)plan->n_tiles * 8 * sizeof(int) * plan->channels;
    return (size_t)threads * (thread + staging) + tables;
}

lucid_status lucid_workers_create(lucid_attention *a) {
    int keys = keys_max(&a->plan, &a->problem);
    a->workers = lucid_alloc((size_t)a->threads * sizeof *a->workers);
    if (!a->workers) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d threads", a->threads);
    memset(a->workers, 0, (size_t)a->threads * sizeof *a->workers);
    for (int t = 0; t < a->threads; t++) {
        lucid_worker *w = &a->workers[t];
        w->scratch = lucid_alloc(lucid_kernels_scratch_floats(a->shape) * sizeof(float));
        w->keys = malloc((size_t)keys * sizeof *w->keys);
        w->tiles = malloc((size_t)(keys + LUCID_KEY_RANGE_TILES) * sizeof *w->tiles);
        w->sums = malloc((size_t)keys * sizeof *w->sums);
        if (!w->scratch || !w->keys || !w->tiles || !w->sums)
            return lucid_fail(LUCID_ERR_MEMORY, "no memory for thread %d's scratch", t);
    }
    return LUCID_OK;
}

void lucid_workers_destroy(lucid_attention *a) {
    for (int t = 0; a->workers && t < a->threads; t++) {
        free(a->workers[t].scratch);
        free(a->workers[t].gained);
        free(a->workers[t].keys);
        free(a->workers[t].tiles);
        free(a->workers[t].sums);
        free(a->workers[t].events);
    }
    free(a->workers);
    a->workers = NULL;
}

/* --- trace --- */

static void record_event(engine *e, int thread, lucid_event event) {
    lucid_worker *w = &e->a->workers[thread];
    w->phase[event.phase] += event.end - event.begin;
    if (!e->a->options.trace || w->n_events >= LUCID_TRACE_MAX_EVENTS / e->a->threads) return;
    if (w->n_events == w->events_capacity) {
        int64_t capacity = w->events_capacity ? 2 * w->events_capacity : 4096;
        lucid_event *grown = realloc(w->events, (size_t)capacity * sizeof *grown);
        if (!grown) return; /* a shorter trace is better than no run */
        w->events = grown;
        w->events_capacity = capacity;
    }
    event.begin -= e->start;
    event.end -= e->start;
    event.thread = thread;
    w->events[w->n_events++] = event;
}

static lucid_status collect_events(lucid_attention *a) {
    int64_t total = 0;
    for (int t = 0; t < a->threads; t++) total += a->workers[t].n_events;
    free(a->events);
    a->n_events = 0;
    a->events = malloc((size_t)(total ? total : 1) * sizeof *a->events);
    if (!a->events) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %lld trace events", (long long)total);
    for (int t = 0; t < a->threads; t++) {
        lucid_worker *w = &a->workers[t];
        if (w->n_events) memcpy(a->events + a->n_events, w->events, (size_t)w->n_events * sizeof *w->events);
        a->n_events += w->n_events;
        w->n_events = 0;
    }
    return LUCID_OK;
}

/* --- transfers, under the lock --- */

static float *tile_address(const lucid_channel *c, int tile, int slot) {
    return slot >= 0 ? c->window + (size_t)slot * c->tile_floats : lucid_own_tile(c, c->schedule->row_of[tile]);
}

static pending *free_pending(engine *e, int channel) {
    pending *p = e->pending + (size_t)channel * REQUESTS_PER_CHANNEL;
    while (p->request) p++;
    return p;
}

static lucid_status post(engine *e, int channel, const lucid_transfer *transfer, int flight) {
    lucid_attention *a = e->a;
    lucid_channel *c = &e->channels[channel];
    pending *p = free_pending(e, channel);
    float *tile = tile_address(c, transfer->tile, transfer->slot);
    size_t bytes = c->tile_floats * sizeof(float);
    *p = (pending){.transfer = *transfer, .flight = flight};
    e->n_pending[channel][flight]++;
    int link = 2 * channel + transfer->link; /* the transport's channel */
    const lucid_mover *m = &a->mover;
    if (flight == RECEIVES) return m->recv(m->context, link, transfer->peer, tile, bytes, &p->request);
    a->result.bytes_sent += (double)bytes;
    a->result.messages_sent++;
    return m->send(m->context, link, transfer->peer, tile, bytes, &p->request);
}

static lucid_status post_all(engine *e, int channel) {
    lucid_schedule *s = e->channels[channel].schedule;
    const int *n_pending = e->n_pending[channel];
    lucid_transfer transfer;
    while (n_pending[RECEIVES] < REQUESTS_PER_FLIGHT && lucid_schedule_claim(s, &transfer))
        LUCID_TRY(post(e, channel, &transfer, RECEIVES));
    for (int link = 0; link < 2; link++)
        while (n_pending[SENDS_UP + link] < REQUESTS_PER_FLIGHT && lucid_schedule_send(s, link, &transfer))
            LUCID_TRY(post(e, channel, &transfer, SENDS_UP + link));
    return LUCID_OK;
}

static lucid_status test_all(engine *e, int channel) {
    lucid_schedule *s = e->channels[channel].schedule;
    pending *p = e->pending + (size_t)channel * REQUESTS_PER_CHANNEL;
    int *n_pending = e->n_pending[channel];
    int left = n_pending[RECEIVES] + n_pending[SENDS_UP] + n_pending[SENDS_DOWN];
    for (; left; p++) {
        if (!p->request) continue;
        left--;
        bool done = false;
        LUCID_TRY(e->a->mover.test(e->a->mover.context, p->request, &done));
        if (!done) continue;
        p->request = NULL;
        n_pending[p->flight]--;
        (p->flight == RECEIVES ? lucid_schedule_received : lucid_schedule_sent)(s, &p->transfer);
        e->last_progress = lucid_clock();
    }
    return LUCID_OK;
}

static lucid_status progress(engine *e, int thread) {
    if (e->a->comm->world_size == 1) return LUCID_OK;
    double begin = lucid_clock();
    for (int c = 0; c < e->n_channels; c++) {
        LUCID_TRY(test_all(e, c));
        LUCID_TRY(post_all(e, c));
    }
    e->a->workers[thread].phase[LUCID_PHASE_COMM] += lucid_clock() - begin;
    return LUCID_OK;
}

/* --- work, outside the lock --- */

/* Lists the records of one sequence in the piece's key tiles, ascending. */
static int64_t list_keys(const lucid_attention *a, lucid_worker *w, const lucid_piece *piece, int sequence) {
    int64_t n = 0;
    for (int tile = piece->first; tile < piece->last; tile++) {
        int granules = lucid_tile_granules(a, tile);
        const float *records = w->tiles[tile - piece->first] + lucid_record_index(a, sequence, 0) * a->record_floats;
        for (int g = 0; g < granules; g++) w->keys[n++] = records + (size_t)g * a->record_floats;
    }
    return n;
}

static void run_update(const lucid_attention *a, lucid_worker *w, const lucid_assignment *job) {
    const lucid_channel *c = job->channel;
    int own = c->schedule->rows[job->piece.row], granules = lucid_tile_granules(a, own);
    for (int s = 0; s < c->n_sequences; s++) {
        int64_t n = list_keys(a, w, &job->piece, s);
        float *row = lucid_own_tile(c, job->piece.row) + lucid_record_index(a, s, 0) * a->record_floats;
        for (int g = lucid_tile_first_granule(a, own); g < granules; g++)
            lucid_gain_update(a, w, row + (size_t)g * a->record_floats, n);
    }
}

/* Before a granule is solved: rows that are cached return to what they were before they were solved with fewer others,
 * and the sequence's last granule, where it is not full, is kept for the next chunk to do the same. */
static void exchange_pending(const lucid_attention *a, float *values, int sequence, int64_t granule) {
    size_t ld = (size_t)a->shape.value_ld;
    float *kept = a->pending + (size_t)sequence * LUCID_GRANULE * ld;
    if (granule == a->problem.n_cached / LUCID_GRANULE)
        memcpy(values, kept, (size_t)(a->problem.n_cached % LUCID_GRANULE) * ld * sizeof *values);
    if (granule == a->problem.seqlen / LUCID_GRANULE) memcpy(kept, values, LUCID_GRANULE * ld * sizeof *values);
}

static void solve_granule(const lucid_attention *a, lucid_worker *w, float *record, int sequence, int64_t granule) {
    float *values = record + lucid_record_values(a->shape);
    if (a->pending) exchange_pending(a, values, sequence, granule);
    lucid_gain_solve(a, w, record);
    lucid_round(values, a->problem.cache_dtype, (size_t)LUCID_GRANULE * a->shape.value_ld);
}

/* The diagonal tile: granule by granule, first the tile's earlier ones, then its own. */
static void run_solve(const lucid_attention *a, lucid_worker *w, const lucid_assignment *job) {
    const lucid_channel *c = job->channel;
    int own = c->schedule->rows[job->piece.row], granules = lucid_tile_granules(a, own);
    int64_t first = lucid_tile_first(a, own) / LUCID_GRANULE;
    for (int s = 0; s < c->n_sequences; s++) {
        list_keys(a, w, &job->piece, s);
        float *row = lucid_own_tile(c, job->piece.row) + lucid_record_index(a, s, 0) * a->record_floats;
        for (int g = lucid_tile_first_granule(a, own); g < granules; g++) {
            float *record = row + (size_t)g * a->record_floats;
            lucid_gain_update(a, w, record, g);
            solve_granule(a, w, record, s, first + g);
        }
    }
}

static void attend_head(const lucid_attention *a, lucid_worker *w, const lucid_assignment *job, int sequence, int head,
                        int64_t n_keys) {
    const lucid_channel *c = job->channel;
    const lucid_kernels *k = a->kernels;
    double scale = a->problem.softmax_scale * M_LOG2E;
    int own = c->schedule->rows[job->piece.row], granules = lucid_tile_granules(a, own);
    bool diagonal = job->piece.last == own + 1;
    const float *row = lucid_own_tile(c, job->piece.row) + lucid_record_index(a, sequence, 0) * a->record_floats;
    for (int g = lucid_tile_first_granule(a, own); g < granules; g++) {
        size_t index = lucid_query_index(a, c, job->piece.row, sequence, head, g);
        const float *qt = c->queries + index * a->query_floats;
        float *state = c->states + index * a->state_floats;
        const float *record = row + (size_t)g * a->record_floats;
        int64_t n = diagonal ? n_keys - granules + g : n_keys;
        lucid_precision precision = lucid_row_precision((int64_t)own * a->granules_per_tile + g);
        if (job->piece.first == 0) k->attend_begin(state, qt, record, scale, a->shape);
        k->attend(state, qt, w->keys, n, false, precision, scale, a->shape, w->scratch);
        if (diagonal) k->attend(state, qt, &record, 1, true, precision, scale, a->shape, w->scratch);
    }
}

static void run_attend(const lucid_attention *a, lucid_worker *w, const lucid_assignment *job) {
    for (int s = 0; s < job->channel->n_sequences; s++) {
        int64_t n = list_keys(a, w, &job->piece, s);
        for (int head = 0; head < a->group; head++) attend_head(a, w, job, s, head, n);
    }
}

static void run_forward(const lucid_attention *a, lucid_worker *w, const lucid_assignment *job) {
    switch (job->piece.kind) {
    case LUCID_PIECE_UPDATE:
        run_update(a, w, job);
        break;
    case LUCID_PIECE_SOLVE:
        run_solve(a, w, job);
        break;
    case LUCID_PIECE_ATTEND:
        run_attend(a, w, job);
        break;
    }
}

static void run_piece(engine *e, int thread, const lucid_assignment *job) {
    static const lucid_phase phases[] = {LUCID_PHASE_UPDATE, LUCID_PHASE_SOLVE, LUCID_PHASE_ATTEND};
    lucid_worker *w = &e->a->workers[thread];
    double begin = lucid_clock();
    job->channel->run(e->a, w, job);
    record_event(e, thread,
                 (lucid_event){.begin = begin,
                               .end = lucid_clock(),
                               .phase = phases[job->piece.kind],
                               .channel = job->channel_index,
                               .row = job->channel->schedule->rows[job->piece.row],
                               .first = job->piece.first,
                               .last = job->piece.last});
}

/* --- the loop --- */

/* Takes a piece and notes where its key tiles lie, while the schedule cannot change. */
static bool take(engine *e, int thread, lucid_assignment *job) {
    lucid_worker *w = &e->a->workers[thread];
    for (int queue = LUCID_QUEUE_CHAIN; queue <= LUCID_QUEUE_BULK; queue++)
        for (int i = 0; i < e->n_channels; i++) {
            lucid_channel *c = &e->channels[i];
            if (!lucid_schedule_next(c->schedule, (lucid_queue)queue, &job->piece)) continue;
            job->channel = c;
            job->channel_index = i;
            e->n_busy++;
            for (int tile = job->piece.first; tile < job->piece.last; tile++)
                w->tiles[tile - job->piece.first] =
                    tile_address(c, tile, lucid_schedule_slot(c->schedule, job->piece.kind, tile));
            return true;
        }
    return false;
}

static void finish_piece(engine *e, int thread, const lucid_assignment *job) {
    if (!e->status) e->status = e->a->workers[thread].status;
    const lucid_piece *p = &job->piece;
    lucid_schedule_done(job->channel->schedule, p);
    e->n_busy--;
    const lucid_channel *c = job->channel;
    int own = c->schedule->rows[p->row];
    double share = (p->last - p->first) - (p->first <= own && own < p->last ? 0.5 : 0);
    e->work_done += share * c->n_sequences * (p->kind == LUCID_PIECE_ATTEND ? c->attend_cost : c->update_cost);
    e->last_progress = lucid_clock();
}

static bool all_finished(const engine *e) {
    for (int i = 0; i < e->n_channels; i++)
        if (!lucid_schedule_finished(e->channels[i].schedule)) return false;
    return true;
}

/* Work has no deadline, only waiting has. */
static lucid_status check_deadline(engine *e) {
    if (e->n_busy || lucid_clock() - e->last_progress < e->a->options.timeout) return LUCID_OK;
    char clause[256] = "";
    FILE *stream = fmemopen(clause, sizeof clause - 1, "w");
    if (stream) {
        lucid_attention_describe(e->a, stream, true);
        fclose(stream);
    }
    return lucid_fail(LUCID_ERR_TIMEOUT, "no progress for %.0f s, %s. A longer --timeout waits longer",
                      e->a->options.timeout, clause);
}

/* Without the lock: the callback may block, as a terminal does that was stopped, and others go on. */
static void report_progress(engine *e, int thread, double share) {
    const lucid_options *o = &e->a->options;
    double now = lucid_clock();
    if (!o->progress || thread != 0 || now - e->last_report < 0.2) return;
    e->last_report = now;
    o->progress(o->progress_context, share);
}

static bool hook_due(const engine *e, int thread) {
    const lucid_options *o = &e->a->options;
    return o->hook && thread == 0 && lucid_clock() - e->last_hook >= o->hook_interval;
}

/* Between two pieces, so that the thread's own row is at rest, too. Other threads go on meanwhile. */
static void call_hook(engine *e) {
    omp_unset_lock(&e->a->lock);
    lucid_status status = e->a->options.hook(e->a->options.hook_context);
    omp_set_lock(&e->a->lock);
    if (!e->status) e->status = status;
    e->last_hook = lucid_clock();
}

/* Soon after work ran out a thread spins; later it leaves the core to others. */
static void wait_a_little(int idle_rounds) {
    if (idle_rounds < 200)
        sched_yield();
    else
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

static void work(engine *e, int thread) {
    lucid_assignment job;
    bool have = false;
    int idle_rounds = 0;
    double idle_since = 0;
    for (;;) {
        omp_set_lock(&e->a->lock);
        if (have) finish_piece(e, thread, &job);
        if (!e->status) e->status = progress(e, thread);
        if (!e->status && hook_due(e, thread)) call_hook(e);
        have = !e->status && !e->finished && take(e, thread, &job);
        if (!have && !e->status) {
            e->finished = e->finished || all_finished(e);
            if (!e->finished) e->status = check_deadline(e);
        }
        const bool stop = e->status || e->finished;
        const double share = e->work_total > 0 ? e->work_done / e->work_total : 1;
        omp_unset_lock(&e->a->lock);
        report_progress(e, thread, share);
        if (idle_rounds && (have || stop))
            record_event(e, thread,
                         (lucid_event){.begin = idle_since, .end = lucid_clock(), .phase = LUCID_PHASE_WAIT});
        if (have) {
            idle_rounds = 0;
            run_piece(e, thread, &job);
        } else if (stop) {
            return;
        } else {
            if (!idle_rounds++) idle_since = lucid_clock();
            wait_a_little(idle_rounds);
        }
    }
}

/* On the heart's thread. Whoever holds the lock may be waiting for a fault's end. */
static void describe(void *context, FILE *stream, bool brief) {
    engine *e = context;
    for (int tries = 0; !omp_test_lock(&e->a->lock); tries++) {
        if (tries == 300) {
            fprintf(stream, brief ? "moving tiles" : "  the engine's lock is not to be had\n");
            return;
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    lucid_attention_describe(e->a, stream, brief);
    omp_unset_lock(&e->a->lock);
}

/* Pairs of tiles that a row has yet to go through, its own counting half. */
static double work_left(int tile, int next) {
    return next > tile ? 0 : tile + 0.5 - next;
}

/* Pairs of tiles that a row of a sequence goes through in this run. */
static double row_work(const lucid_attention *a, int tile, lucid_cursor start) {
    double solve = a->problem.attention == LUCID_ATTENTION_LUCID ? work_left(tile, start.update_next) : 0;
    return solve + a->group * work_left(tile, start.attend_next);
}

/* The run's work in pairs of tiles of one head, and the flops that they stand for. */
static double count_work(lucid_attention *a) {
    double pairs = 0, total = 0, n_sequences = (double)a->problem.batch * a->problem.n_kv_heads;
    for (int i = 0; i < a->plan.channels; i++)
        for (int row = a->first_row; row < a->n_rows; row++) {
            int tile = a->channels[i].schedule->rows[row];
            int64_t first = lucid_tile_first(a, tile);
            double work = row_work(a, tile, *lucid_start_cursor(a, i, tile)) * a->channels[i].n_sequences;
            double share = work / (row_work(a, tile, (lucid_cursor){0, 0}) * n_sequences);
            total += work;
            pairs += share * lucid_pairs(first + lucid_tile_cached(a, tile), first + lucid_tile_tokens(a, tile));
        }
    a->result.flops = a->plan.flops_total * pairs / lucid_pairs(a->problem.n_cached, a->problem.seqlen);
    return total;
}

static void collect_result(engine *e) {
    lucid_result *r = &e->a->result;
    r->threads = e->a->threads;
    for (int phase = 0; phase < LUCID_N_PHASES; phase++) {
        r->phase[phase] = 0;
        for (int t = 0; t < e->a->threads; t++) r->phase[phase] += e->a->workers[t].phase[phase];
    }
}

static lucid_status run_threads(engine *e) {
    lucid_attention *a = e->a;
    for (int t = 0; t < a->threads; t++) memset(a->workers[t].phase, 0, sizeof a->workers[t].phase);
    a->result.bytes_sent = 0;
    a->result.messages_sent = 0;
    a->running = e->channels;
    a->n_running = e->n_channels;
    e->start = e->last_progress = e->last_report = e->last_hook = lucid_clock();
    lucid_comm_describe(a->comm, describe, e);
#pragma omp parallel num_threads(a->threads)
    work(e, omp_get_thread_num());
    lucid_comm_describe(a->comm, NULL, NULL);
    a->result.wall = lucid_clock() - e->start;
    collect_result(e);
    return e->status;
}

lucid_status lucid_engine_run(lucid_attention *a, lucid_channel *channels, int n_channels, double work_total) {
    engine e = {.a = a, .channels = channels, .n_channels = n_channels, .work_total = work_total};
    e.pending = calloc((size_t)n_channels * REQUESTS_PER_CHANNEL, sizeof *e.pending);
    e.n_pending = calloc((size_t)n_channels, sizeof *e.n_pending);
    lucid_status status =
        !e.pending || !e.n_pending ? lucid_fail(LUCID_ERR_MEMORY, "no memory for requests") : LUCID_OK;
    status = lucid_comm_agree(a->comm, status);
    if (!status) status = run_threads(&e);
    if (!status) status = collect_events(a);
    free(e.pending);
    free(e.n_pending);
    return status;
}

lucid_status lucid_attention_run(lucid_attention *a) {
    if (a->backward) a->backward->loaded = a->backward->ran = false;
    for (int i = 0; i < a->plan.channels; i++) {
        lucid_channel *c = &a->channels[i];
        c->run = run_forward;
        c->update_cost = 1;
        c->attend_cost = a->group;
        lucid_schedule_start(c->schedule, lucid_start_cursor(a, i, 0));
    }
    double total = count_work(a);
    lucid_status status =
        a->device ? lucid_device_run(a, total) : lucid_engine_run(a, a->channels, a->plan.channels, total);
    a->ran = !status;
    return status;
}
