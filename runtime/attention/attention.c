/* A rank's share of the tensors: set-up, reading in, writing out. */
#include "runtime/attention/backward.h"
#include "runtime/attention/plan.h"
#include "runtime/device/device.h"
#include "runtime/isa.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

void *lucid_alloc(size_t bytes) {
    const size_t huge = (size_t)2 << 20;
    bool large = bytes >= huge;
    void *memory;
    if (posix_memalign(&memory, large ? huge : 64, bytes ? bytes : 64)) return NULL;
    if (large) madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
}

/* --- the transport itself, as a mover --- */

static lucid_status send_tile(void *comm, int channel, int peer, const void *tile, size_t bytes,
                              lucid_request **request) {
    return lucid_comm_post_send(comm, channel, peer, tile, bytes, request);
}
static lucid_status recv_tile(void *comm, int channel, int peer, void *tile, size_t bytes, lucid_request **request) {
    return lucid_comm_post_recv(comm, channel, peer, tile, bytes, request);
}
static lucid_status test_tile(void *comm, lucid_request *request, bool *done) {
    return lucid_comm_test(comm, request, done);
}

static lucid_mover mover_of(lucid_comm *comm) {
    return (lucid_mover){send_tile, recv_tile, test_tile, comm};
}

/* --- set-up --- */

static lucid_status channel_create(lucid_attention *a, lucid_channel *c, int index) {
    int n_sequences = a->problem.batch * a->problem.n_kv_heads, n = a->plan.channels;
    c->first_sequence = (int)((int64_t)index * n_sequences / n);
    c->n_sequences = (int)((int64_t)(index + 1) * n_sequences / n) - c->first_sequence;
    c->tile_floats = (size_t)c->n_sequences * a->granules_per_tile * a->record_floats;
    c->tile_step = (ptrdiff_t)c->tile_floats;
    size_t granules = (size_t)(a->n_rows - a->first_row) * c->n_sequences * a->group * a->granules_per_tile;
    int window = c->schedule->config.window;
    bool remote = a->comm->world_size > 1;
    /* On top of a cache, keys and values live there. */
    c->kv = lucid_alloc(a->problem.n_cached ? 0 : (size_t)a->n_rows * c->tile_floats * sizeof(float));
    c->window = lucid_alloc(remote ? (size_t)window * c->tile_floats * sizeof(float) : 0);
    c->queries = lucid_alloc(granules * a->query_floats * sizeof(float));
    c->states = lucid_alloc(granules * a->state_floats * sizeof(float));
    if (!c->kv || !c->window || !c->queries || !c->states)
        return lucid_fail(LUCID_ERR_MEMORY, "no memory for %.1f MiB of tensors and %.1f MiB of window",
                          (double)a->plan.tensor_bytes_max / (1 << 20), (double)a->plan.window_bytes / (1 << 20));
    return LUCID_OK;
}

static int range_max(const lucid_attention *a) {
    size_t tile_bytes = (size_t)a->granules_per_tile * a->record_floats * sizeof(float);
    int64_t tiles =
        a->options.cuda ? LUCID_KEY_RANGE_TOKENS / a->plan.tile : (int64_t)(LUCID_KEY_RANGE_BYTES / tile_bytes);
    return tiles < 1 ? 1 : tiles < LUCID_KEY_RANGE_TILES ? (int)tiles : LUCID_KEY_RANGE_TILES;
}

static lucid_status schedules_create(lucid_attention *a) {
    lucid_schedule_config config = {
        .layout = {.kind = a->plan.layout, .world_size = a->comm->world_size, .n_tiles = (int)a->plan.n_tiles},
        .rank = a->comm->rank,
        .solve = a->problem.attention == LUCID_ATTENTION_LUCID,
        .fused = a->plan.schedule == LUCID_SCHEDULE_FUSED,
        .window = a->plan.window_tiles > 1 ? a->plan.window_tiles : 1,
        .range_max = range_max(a),
    };
    for (int i = 0; i < a->plan.channels; i++) LUCID_TRY(lucid_schedule_create(&a->channels[i].schedule, &config));
    a->n_rows = a->channels[0].schedule->n_rows;
    int first = (int)(a->problem.n_cached / a->plan.tile);
    while (a->first_row < a->n_rows && a->channels[0].schedule->rows[a->first_row] < first) a->first_row++;
    return LUCID_OK;
}

void lucid_cursors_reset(lucid_attention *a) {
    int n_tiles = (int)a->plan.n_tiles, n_cached = (int)(a->problem.n_cached / a->plan.tile);
    for (int channel = 0; channel < a->plan.channels; channel++)
        for (int tile = 0; tile < n_tiles; tile++)
            *lucid_start_cursor(a, channel, tile) =
                tile < n_cached ? (lucid_cursor){tile + 1, tile + 1} : (lucid_cursor){0, 0};
}

static lucid_status cursors_create(lucid_attention *a) {
    a->cursors = calloc((size_t)a->plan.channels * (size_t)a->plan.n_tiles, sizeof *a->cursors);
    if (!a->cursors)
        return lucid_fail(LUCID_ERR_MEMORY, "no memory for the cursors of %lld tiles", (long long)a->plan.n_tiles);
    lucid_cursors_reset(a);
    return LUCID_OK;
}

static lucid_status allocate(lucid_attention *a) {
    a->channels = calloc((size_t)a->plan.channels, sizeof *a->channels);
    if (!a->channels) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d channels", a->plan.channels);
    LUCID_TRY(schedules_create(a));
    LUCID_TRY(cursors_create(a));
    for (int i = 0; i < a->plan.channels; i++) LUCID_TRY(channel_create(a, &a->channels[i], i));
    LUCID_TRY(lucid_samples_create(a));
    if (a->options.backward) LUCID_TRY(lucid_backward_create(a));
    return lucid_workers_create(a);
}

lucid_status lucid_attention_create(lucid_attention **attention, lucid_comm *comm, const lucid_problem *problem,
                                    const lucid_options *options) {
    lucid_status status;
    lucid_attention *a = calloc(1, sizeof *a);
    if (!a) return lucid_fail(LUCID_ERR_MEMORY, "no memory");
    omp_init_lock(&a->lock);
    a->comm = comm;
    a->problem = *problem;
    a->options = *options;
    if (!(a->problem.eps > 0)) a->problem.eps = 1e-5;
    if (a->problem.softmax_scale == 0) a->problem.softmax_scale = 1 / sqrt(problem->head_dim);
    if (!(a->options.timeout > 0)) a->options.timeout = 600;
    if (!(a->options.hook_interval > 0)) a->options.hook_interval = 0.2;
    a->threads = options->threads ? options->threads : 1;
    if (options->cuda && a->threads < LUCID_DEVICE_THREADS) a->threads = LUCID_DEVICE_THREADS;
    a->mover = mover_of(comm);
    status = lucid_comm_agree(comm, lucid_plan_make(&a->plan, &a->problem, options, comm->world_size, 0));
    if (status) goto free_attention;
    a->shape = lucid_problem_shape(problem);
    a->group = problem->n_heads / problem->n_kv_heads;
    a->granules_per_tile = (int)(a->plan.tile / LUCID_GRANULE);
    a->record_floats = lucid_record_floats(a->shape);
    a->query_floats = lucid_query_floats(a->shape);
    a->state_floats = lucid_state_floats(a->shape);
    LUCID_TRY_GOTO(lucid_isa_agree(&a->kernels, comm, options->isa), free_attention);
    if (options->cuda) LUCID_TRY_GOTO(lucid_device_create(&a->device, a), free_attention);
    LUCID_TRY_GOTO(lucid_comm_agree(comm, allocate(a)), free_attention);
    *attention = a;
    return LUCID_OK;
free_attention:
    lucid_attention_destroy(a);
    return status;
}

void lucid_attention_destroy(lucid_attention *a) {
    if (!a) return;
    lucid_workers_destroy(a);
    lucid_backward_destroy(a);
    lucid_device_destroy(a->device);
    for (int i = 0; a->channels && i < a->plan.channels; i++) {
        lucid_channel *c = &a->channels[i];
        if (!a->bound) free(c->kv);
        free(c->window);
        free(c->queries);
        free(c->states);
        lucid_schedule_destroy(c->schedule);
    }
    free(a->channels);
    free(a->cursors);
    free(a->events);
    lucid_samples_destroy(&a->samples);
    omp_destroy_lock(&a->lock);
    free(a);
}

lucid_status lucid_attention_bind(lucid_attention *a, float *records, float *pending) {
    bool cut = a->problem.seqlen % LUCID_GRANULE || a->problem.n_cached % LUCID_GRANULE;
    if (a->plan.layout != LUCID_LAYOUT_CYCLIC || a->plan.channels != 1)
        return lucid_fail(LUCID_ERR_USAGE, "a cache needs the cyclic layout and one channel, not %s and %d",
                          lucid_layout_name(a->plan.layout), a->plan.channels);
    if (cut && !pending && a->problem.attention == LUCID_ATTENTION_LUCID)
        return lucid_fail(LUCID_ERR_INTERNAL, "a cache that ends within a granule needs room for pending values");
    if (!a->bound) free(a->channels[0].kv);
    a->channels[0].kv = records;
    a->pending = a->problem.attention == LUCID_ATTENTION_LUCID ? pending : NULL;
    a->bound = true;
    return LUCID_OK;
}

const lucid_plan *lucid_attention_plan(const lucid_attention *a) {
    return &a->plan;
}

const lucid_kernels *lucid_attention_kernels(const lucid_attention *a) {
    return a->kernels;
}

const char *lucid_attention_isa(const lucid_attention *a) {
    return a->device ? lucid_device_isa(a->device) : a->kernels->isa;
}

lucid_result lucid_attention_result(const lucid_attention *a) {
    return a->result;
}

const lucid_event *lucid_attention_trace(const lucid_attention *a, int64_t *count) {
    *count = a->n_events;
    return a->events;
}
