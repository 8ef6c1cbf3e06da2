/* A rank's share of the tensors: set-up, reading in, writing out. */
#include "runtime/attention/attention.h"
#include "runtime/attention/plan.h"
#include "runtime/isa.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

double lucid_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void *lucid_alloc(size_t bytes) {
    const size_t huge = (size_t)2 << 20;
    bool large = bytes >= huge;
    void *memory;
    if (posix_memalign(&memory, large ? huge : 64, bytes ? bytes : 64)) return NULL;
    if (large) madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
}

/* --- set-up --- */

static lucid_status channel_create(lucid_attention *a, lucid_channel *c, int index) {
    int n_sequences = a->problem.batch * a->problem.n_kv_heads, n = a->plan.channels;
    c->first_sequence = (int)((int64_t)index * n_sequences / n);
    c->n_sequences = (int)((int64_t)(index + 1) * n_sequences / n) - c->first_sequence;
    c->tile_floats = (size_t)c->n_sequences * a->granules_per_tile * a->record_floats;
    size_t granules = (size_t)a->n_rows * c->n_sequences * a->group * a->granules_per_tile;
    int window = c->schedule->config.window;
    bool remote = a->comm->world_size > 1;
    c->kv = lucid_alloc((size_t)a->n_rows * c->tile_floats * sizeof(float));
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
    int tiles = (int)(LUCID_KEY_RANGE_BYTES / tile_bytes);
    return tiles > 1 ? tiles : 1;
}

static lucid_status schedules_create(lucid_attention *a) {
    lucid_schedule_config config = {
        .layout = {a->plan.layout, a->comm->world_size, (int)a->plan.n_tiles},
        .rank = a->comm->rank,
        .solve = a->problem.attention == LUCID_ATTENTION_LUCID,
        .fused = a->plan.schedule == LUCID_SCHEDULE_FUSED,
        .window = a->plan.window_tiles > 1 ? a->plan.window_tiles : 1,
        .range_max = range_max(a),
    };
    for (int i = 0; i < a->plan.channels; i++) LUCID_TRY(lucid_schedule_create(&a->channels[i].schedule, &config));
    a->n_rows = a->channels[0].schedule->n_rows;
    return LUCID_OK;
}

static lucid_status allocate(lucid_attention *a) {
    a->channels = calloc((size_t)a->plan.channels, sizeof *a->channels);
    if (!a->channels) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d channels", a->plan.channels);
    LUCID_TRY(schedules_create(a));
    for (int i = 0; i < a->plan.channels; i++) LUCID_TRY(channel_create(a, &a->channels[i], i));
    LUCID_TRY(lucid_samples_create(a));
    return lucid_workers_create(a);
}

lucid_status lucid_attention_create(lucid_attention **attention, lucid_comm *comm, const lucid_problem *problem,
                                    const lucid_options *options) {
    lucid_status status;
    lucid_attention *a = calloc(1, sizeof *a);
    if (!a) return lucid_fail(LUCID_ERR_MEMORY, "no memory");
    a->comm = comm;
    a->problem = *problem;
    a->options = *options;
    if (!(a->problem.eps > 0)) a->problem.eps = 1e-5;
    if (a->problem.softmax_scale == 0) a->problem.softmax_scale = 1 / sqrt(problem->head_dim);
    if (!(a->options.timeout > 0)) a->options.timeout = 600;
    a->threads = options->threads ? options->threads : 1;
    status = lucid_comm_agree(comm, lucid_plan_make(&a->plan, &a->problem, options, comm->world_size, 0));
    if (status) goto free_attention;
    a->shape = lucid_problem_shape(problem);
    a->group = problem->n_heads / problem->n_kv_heads;
    a->granules_per_tile = (int)(a->plan.tile / LUCID_GRANULE);
    a->record_floats = lucid_record_floats(a->shape);
    a->query_floats = lucid_query_floats(a->shape);
    a->state_floats = lucid_state_floats(a->shape);
    LUCID_TRY_GOTO(lucid_isa_agree(&a->kernels, comm, options->isa), free_attention);
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
    for (int i = 0; a->channels && i < a->plan.channels; i++) {
        lucid_channel *c = &a->channels[i];
        free(c->kv);
        free(c->window);
        free(c->queries);
        free(c->states);
        lucid_schedule_destroy(c->schedule);
    }
    free(a->channels);
    free(a->events);
    lucid_samples_destroy(&a->samples);
    free(a);
}

const lucid_plan *lucid_attention_plan(const lucid_attention *a) {
    return &a->plan;
}

const lucid_kernels *lucid_attention_kernels(const lucid_attention *a) {
    return a->kernels;
}

lucid_result lucid_attention_result(const lucid_attention *a) {
    return a->result;
}

const lucid_event *lucid_attention_trace(const lucid_attention *a, int64_t *count) {
    *count = a->n_events;
    return a->events;
}

/* --- reading in --- */

/* Index of the first NaN or Inf among n elements, or -1. A block's largest exponent tells whether to look closer. */
static int64_t first_not_finite(const void *rows, lucid_dtype dtype, int64_t n) {
    const uint32_t *words = rows;
    const uint16_t *halves = rows;
    uint16_t infinity = dtype == LUCID_BF16 ? 0x7f80 : 0x7c00;
    uint32_t largest = 0, largest_half = 0;
    if (dtype == LUCID_F32)
        for (int64_t i = 0; i < n; i++) {
            uint32_t magnitude = words[i] & 0x7fffffffu;
            largest = magnitude > largest ? magnitude : largest;
        }
    else
        for (int64_t i = 0; i < n; i++) {
            uint16_t magnitude = halves[i] & 0x7fff;
            largest_half = magnitude > largest_half ? magnitude : largest_half;
        }
    if (largest < 0x7f800000u && largest_half < infinity) return -1;
    for (int64_t i = 0; i < n; i++)
        if (dtype == LUCID_F32 ? (words[i] & 0x7fffffffu) >= 0x7f800000u : (halves[i] & 0x7fff) >= infinity) return i;
    return -1;
}

/* A job of load or store: one local tile of one head. */
typedef struct {
    lucid_attention *a;
    lucid_channel *channel;
    lucid_tensor tensor;
    int row, sequence, head; /* head: query head in the group, 0 for kv tensors */
} tile_job;

static int tensor_dim(const lucid_attention *a, lucid_tensor tensor) {
    return tensor == LUCID_LSE                      ? 1
           : tensor == LUCID_Q || tensor == LUCID_K ? a->problem.head_dim
                                                    : a->problem.value_dim;
}

static bool has_query_heads(lucid_tensor tensor) {
    return tensor == LUCID_Q || tensor == LUCID_OUT || tensor == LUCID_LSE;
}

/* The job's batch and head in the numbering of files. */
static void global_head(const tile_job *job, int *batch, int *head) {
    const lucid_attention *a = job->a;
    int sequence = job->channel->first_sequence + job->sequence;
    *batch = sequence / a->problem.n_kv_heads;
    *head = sequence % a->problem.n_kv_heads;
    if (has_query_heads(job->tensor)) *head = *head * a->group + job->head;
}

static void pack_granule(const tile_job *job, const void *rows, lucid_dtype dtype, int granule, int n_rows) {
    lucid_attention *a = job->a;
    const lucid_kernels *k = a->kernels;
    float *record =
        lucid_own_tile(job->channel, job->row) + lucid_record_index(a, job->sequence, granule) * a->record_floats;
    if (job->tensor == LUCID_Q) {
        float *qt = job->channel->queries +
                    lucid_query_index(a, job->channel, job->row, job->sequence, job->head, granule) * a->query_floats;
        k->pack_rows(qt, rows, dtype, n_rows, a->problem.head_dim);
    } else if (job->tensor == LUCID_K) {
        k->pack_rows(record, rows, dtype, n_rows, a->problem.head_dim);
        k->normalise(record, a->shape, (float)a->problem.eps);
    } else {
        k->pack_values(record, rows, dtype, n_rows, a->shape);
    }
}

static lucid_status load_tile(const tile_job *job, lucid_dtype dtype, lucid_reader reader, void *context, char *rows,
                              double *read_seconds) {
    static const char *const names[] = {"q", "k", "v"};
    lucid_attention *a = job->a;
    int tile = job->channel->schedule->rows[job->row], n_tokens = lucid_tile_tokens(a, tile);
    int batch, head, dim = tensor_dim(a, job->tensor), granules = lucid_tile_granules(a, tile);
    int64_t first = lucid_tile_first(a, tile);
    global_head(job, &batch, &head);
    double begin = lucid_clock();
    LUCID_TRY(reader(context, rows, job->tensor, batch, head, first, n_tokens));
    *read_seconds += lucid_clock() - begin;
    int64_t bad = first_not_finite(rows, dtype, (int64_t)n_tokens * dim);
    if (bad >= 0)
        return lucid_fail(LUCID_ERR_INPUT, "tensor '%s' is not finite at (batch %d, head %d, token %lld, column %lld)",
                          names[job->tensor], batch, head, (long long)(first + bad / dim), (long long)(bad % dim));
    for (int g = 0; g < granules; g++) {
        int left = n_tokens - g * LUCID_GRANULE;
        const void *source = rows + (size_t)g * LUCID_GRANULE * dim * lucid_dtype_bytes(dtype);
        pack_granule(job, source, dtype, g, left < LUCID_GRANULE ? left : LUCID_GRANULE);
    }
    if (job->tensor == LUCID_V) lucid_samples_capture(a, job->channel, job->row, job->sequence);
    return LUCID_OK;
}

/* Job n of a tensor, counted over (sequence, head in group, row): ascending batch, head, token. */
static tile_job job_at(lucid_attention *a, lucid_tensor tensor, int64_t n) {
    int heads = has_query_heads(tensor) ? a->group : 1;
    tile_job job = {.a = a, .tensor = tensor, .row = (int)(n % a->n_rows)};
    n /= a->n_rows;
    job.head = (int)(n % heads);
    int sequence = (int)(n / heads), i = 0;
    while (sequence >= a->channels[i].first_sequence + a->channels[i].n_sequences) i++;
    job.channel = &a->channels[i];
    job.sequence = sequence - job.channel->first_sequence;
    return job;
}

static int64_t n_jobs(const lucid_attention *a, lucid_tensor tensor) {
    return (int64_t)a->problem.batch * a->problem.n_kv_heads * (has_query_heads(tensor) ? a->group : 1) * a->n_rows;
}

lucid_status lucid_attention_load(lucid_attention *a, lucid_tensor tensor, lucid_dtype dtype, lucid_reader reader,
                                  void *context) {
    lucid_status status = LUCID_OK;
    int64_t jobs = n_jobs(a, tensor);
    size_t bytes = (size_t)a->plan.tile * tensor_dim(a, tensor) * lucid_dtype_bytes(dtype);
    double begin = lucid_clock(), read_seconds = 0;
#pragma omp parallel num_threads(a->threads) reduction(+ : read_seconds)
    {
        char *rows = lucid_alloc(bytes);
        if (!rows) {
#pragma omp atomic write
            status = LUCID_ERR_MEMORY;
        }
#pragma omp for schedule(static)
        for (int64_t n = 0; n < jobs; n++) {
            lucid_status seen;
#pragma omp atomic read
            seen = status;
            if (seen) continue;
            tile_job job = job_at(a, tensor, n);
            seen = load_tile(&job, dtype, reader, context, rows, &read_seconds);
            if (seen) {
#pragma omp atomic write
                status = seen;
            }
        }
        free(rows);
    }
    if (status == LUCID_ERR_MEMORY) lucid_fail(status, "no memory for %zu bytes of rows", bytes);
    a->result.read += read_seconds / a->threads;
    a->result.pack += lucid_clock() - begin - read_seconds / a->threads;
    a->ran = false;
    return status;
}

/* --- writing out --- */

static void unpack_granule(const tile_job *job, float *out, float *lse, int granule, int n_rows) {
    const lucid_attention *a = job->a;
    if (job->tensor == LUCID_Y) {
        const float *record =
            lucid_own_tile(job->channel, job->row) + lucid_record_index(a, job->sequence, granule) * a->record_floats;
        const float *y = record + lucid_record_values(a->shape);
        for (int i = 0; i < n_rows; i++)
            memcpy(out + (size_t)i * a->shape.value_dim, y + (size_t)i * a->shape.value_ld,
                   a->shape.value_dim * sizeof *out);
        return;
    }
    const float *state =
        job->channel->states +
        lucid_query_index(a, job->channel, job->row, job->sequence, job->head, granule) * a->state_floats;
    a->kernels->attend_finish(out, lse, state, n_rows, a->shape);
}

static lucid_status store_tile(const tile_job *job, lucid_writer writer, void *context, float *out, float *lse,
                               double *write_seconds) {
    const lucid_attention *a = job->a;
    int tile = job->channel->schedule->rows[job->row], n_tokens = lucid_tile_tokens(a, tile);
    int batch, head, granules = lucid_tile_granules(a, tile);
    global_head(job, &batch, &head);
    for (int g = 0; g < granules; g++) {
        int first = g * LUCID_GRANULE, left = n_tokens - first;
        unpack_granule(job, out + (size_t)first * a->problem.value_dim, lse + first, g,
                       left < LUCID_GRANULE ? left : LUCID_GRANULE);
    }
    double begin = lucid_clock();
    lucid_status status = writer(context, job->tensor == LUCID_LSE ? lse : out, job->tensor, batch, head,
                                 lucid_tile_first(a, tile), n_tokens);
    *write_seconds += lucid_clock() - begin;
    return status;
}

lucid_status lucid_attention_store(lucid_attention *a, lucid_tensor tensor, lucid_writer writer, void *context) {
    lucid_status status = LUCID_OK;
    if (!a->ran) return lucid_fail(LUCID_ERR_INTERNAL, "store without a run");
    float *out = lucid_alloc((size_t)a->plan.tile * a->problem.value_dim * sizeof(float));
    float *lse = lucid_alloc((size_t)a->plan.tile * sizeof(float));
    if (!out || !lse) status = lucid_fail(LUCID_ERR_MEMORY, "no memory for a tile of output");
    double begin = lucid_clock(), write_seconds = 0;
    int64_t jobs = n_jobs(a, tensor);
    for (int64_t n = 0; n < jobs && !status; n++) {
        tile_job job = job_at(a, tensor, n);
        status = store_tile(&job, writer, context, out, lse, &write_seconds);
    }
    a->result.write += write_seconds;
    a->result.pack += lucid_clock() - begin - write_seconds;
    free(out);
    free(lse);
    return status;
}
