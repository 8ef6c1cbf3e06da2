/* Tensors in and out: rows of files become records and query granules, and results become rows again.
 *
 * Threads share the tiles of all heads. Tokens that a cache holds already are neither read nor written; where new
 * tokens share a granule with them, they are packed aside and put beside them.
 */
#include "runtime/attention/backward.h"
#include "runtime/attention/plan.h"
#include "runtime/files/half.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

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
    bool keys =
        tensor == LUCID_Q || tensor == LUCID_K || tensor == LUCID_DQ || tensor == LUCID_DK || tensor == LUCID_DGAIN;
    return tensor == LUCID_LSE ? 1 : keys ? a->problem.head_dim : a->problem.value_dim;
}

static bool has_query_heads(lucid_tensor tensor) {
    return tensor == LUCID_Q || tensor == LUCID_OUT || tensor == LUCID_LSE || tensor == LUCID_DOUT ||
           tensor == LUCID_DQ;
}

/* The job's batch and head in the numbering of files. */
static void global_head(const tile_job *job, int *batch, int *head) {
    const lucid_attention *a = job->a;
    int sequence = job->channel->first_sequence + job->sequence;
    *batch = sequence / a->problem.n_kv_heads;
    *head = sequence % a->problem.n_kv_heads;
    if (has_query_heads(job->tensor)) *head = *head * a->group + job->head;
}

void lucid_round(float *x, lucid_dtype dtype, size_t n) {
    const float largest = dtype == LUCID_F16 ? 65504.0f : 0x1.fep127f;
    uint16_t narrow[LUCID_GRANULE];
    if (dtype == LUCID_F32) return;
    for (size_t block = 0; block < n; block += LUCID_GRANULE, x += LUCID_GRANULE) {
        for (int i = 0; i < LUCID_GRANULE; i++) x[i] = fminf(fmaxf(x[i], -largest), largest);
        lucid_narrow(narrow, dtype, x, LUCID_GRANULE);
        lucid_widen(x, narrow, dtype, LUCID_GRANULE);
    }
}

/* A thread's buffers. */
typedef struct {
    char *rows;   /* (tile, dim) as the reader gives them */
    float *aside; /* a record, for granules that are cached in part */
} staging;

static bool staging_create(staging *s, size_t rows_bytes, size_t record_floats) {
    s->rows = lucid_alloc(rows_bytes);
    s->aside = lucid_alloc(record_floats * sizeof(float));
    return s->rows && s->aside;
}

static void staging_destroy(staging *s) {
    free(s->rows);
    free(s->aside);
}

/* to (n_rows, 64): columns first..63 become the first of from's. */
static void put_columns(float *to, const float *from, int n_rows, int first) {
    for (int i = 0; i < n_rows; i++)
        memcpy(to + (size_t)i * LUCID_GRANULE + first, from + (size_t)i * LUCID_GRANULE,
               (size_t)(LUCID_GRANULE - first) * sizeof *to);
}

/* qt or kt of a granule whose first `cached` tokens stay as they are. */
static void pack_columns(const tile_job *job, float *to, const void *rows, lucid_dtype dtype, int cached, int n_rows,
                         float *aside) {
    const lucid_attention *a = job->a;
    a->kernels->pack_rows(cached ? aside : to, rows, dtype, n_rows, a->problem.head_dim);
    if (cached) put_columns(to, aside, a->problem.head_dim, cached);
}

static void pack_values(const tile_job *job, float *record, const void *rows, lucid_dtype dtype, int cached, int n_rows,
                        float *aside) {
    const lucid_attention *a = job->a;
    float *values = record + lucid_record_values(a->shape);
    size_t first = (size_t)cached * a->shape.value_ld, all = (size_t)LUCID_GRANULE * a->shape.value_ld;
    a->kernels->pack_values(cached ? aside : record, rows, dtype, n_rows, a->shape);
    if (cached) memcpy(values + first, aside + lucid_record_values(a->shape), (all - first) * sizeof *values);
    if (a->problem.attention == LUCID_ATTENTION_SOFTMAX) lucid_round(values, a->problem.cache_dtype, all);
}

static void pack_granule(const tile_job *job, const void *rows, lucid_dtype dtype, int granule, int cached, int n_rows,
                         float *aside) {
    lucid_attention *a = job->a;
    float *record =
        lucid_own_tile(job->channel, job->row) + lucid_record_index(a, job->sequence, granule) * a->record_floats;
    if (job->tensor == LUCID_Q) {
        float *qt = job->channel->queries +
                    lucid_query_index(a, job->channel, job->row, job->sequence, job->head, granule) * a->query_floats;
        if (cached) memset(qt, 0, a->query_floats * sizeof *qt);
        pack_columns(job, qt, rows, dtype, cached, n_rows, aside);
    } else if (job->tensor == LUCID_DOUT) {
        lucid_backward_pack(a, job->channel, job->row, job->sequence, job->head, granule, rows, dtype, n_rows);
    } else if (job->tensor == LUCID_K) {
        pack_columns(job, record, rows, dtype, cached, n_rows, aside);
        lucid_round(record, a->problem.cache_dtype, lucid_record_rnorm(a->shape));
        a->kernels->normalise(record, a->shape, (float)a->problem.eps);
    } else {
        pack_values(job, record, rows, dtype, cached, n_rows, aside);
    }
}

static lucid_status load_tile(const tile_job *job, lucid_dtype dtype, lucid_reader reader, void *context,
                              const staging *buffers, double *read_seconds) {
    static const char *const names[] = {[LUCID_Q] = "q", [LUCID_K] = "k", [LUCID_V] = "v", [LUCID_DOUT] = "dout"};
    lucid_attention *a = job->a;
    int tile = job->channel->schedule->rows[job->row], cached = lucid_tile_cached(a, tile);
    int batch, head, dim = tensor_dim(a, job->tensor), n_tokens = lucid_tile_tokens(a, tile) - cached;
    int64_t first = lucid_tile_first(a, tile) + cached;
    global_head(job, &batch, &head);
    double begin = lucid_clock();
    LUCID_TRY(reader(context, buffers->rows, job->tensor, batch, head, first, n_tokens));
    *read_seconds += lucid_clock() - begin;
    int64_t bad = first_not_finite(buffers->rows, dtype, (int64_t)n_tokens * dim);
    if (bad >= 0)
        return lucid_fail(LUCID_ERR_INPUT, "tensor '%s' is not finite at (batch %d, head %d, token %lld, column %lld)",
                          names[job->tensor], batch, head, (long long)(first + bad / dim), (long long)(bad % dim));
    const char *source = buffers->rows;
    for (int done = 0, n; done < n_tokens; done += n) {
        int beside = (cached + done) % LUCID_GRANULE, room = LUCID_GRANULE - beside, left = n_tokens - done;
        n = left < room ? left : room;
        pack_granule(job, source, dtype, (cached + done) / LUCID_GRANULE, beside, n, buffers->aside);
        source += (size_t)n * dim * lucid_dtype_bytes(dtype);
    }
    if (job->tensor == LUCID_V) lucid_samples_capture(a, job->channel, job->row, job->sequence);
    return LUCID_OK;
}

/* Job n of a tensor, counted over (sequence, head in group, row): ascending batch, head, token. */
static tile_job job_at(lucid_attention *a, lucid_tensor tensor, int64_t n) {
    int heads = has_query_heads(tensor) ? a->group : 1;
    int n_rows = a->n_rows - a->first_row;
    tile_job job = {.a = a, .tensor = tensor, .row = a->first_row + (int)(n % n_rows)};
    n /= n_rows;
    job.head = (int)(n % heads);
    int sequence = (int)(n / heads), i = 0;
    while (sequence >= a->channels[i].first_sequence + a->channels[i].n_sequences) i++;
    job.channel = &a->channels[i];
    job.sequence = sequence - job.channel->first_sequence;
    return job;
}

static int64_t n_jobs(const lucid_attention *a, lucid_tensor tensor) {
    return (int64_t)a->problem.batch * a->problem.n_kv_heads * (has_query_heads(tensor) ? a->group : 1) *
           (a->n_rows - a->first_row);
}

lucid_status lucid_attention_load(lucid_attention *a, lucid_tensor tensor, lucid_dtype dtype, lucid_reader reader,
                                  void *context) {
    lucid_status status = LUCID_OK;
    int64_t jobs = n_jobs(a, tensor);
    size_t bytes = (size_t)a->plan.tile * tensor_dim(a, tensor) * lucid_dtype_bytes(dtype);
    double begin = lucid_clock(), read_seconds = 0;
    if (a->problem.n_cached && !a->bound) return lucid_fail(LUCID_ERR_INTERNAL, "load on top of no cache: bind one");
    if (tensor == LUCID_DOUT && !(a->backward && a->ran))
        return lucid_fail(LUCID_ERR_INTERNAL, "dout is read after a run that backward was planned for");
    if (tensor <= LUCID_V) a->dtypes[tensor] = dtype;
    if (tensor == LUCID_V) lucid_samples_reset(a);
    lucid_cursors_reset(a);
#pragma omp parallel num_threads(a->threads) reduction(+ : read_seconds)
    {
        staging buffers;
        if (!staging_create(&buffers, bytes, a->record_floats)) {
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
            seen = load_tile(&job, dtype, reader, context, &buffers, &read_seconds);
            if (seen) {
#pragma omp atomic write
                status = seen;
            }
        }
        staging_destroy(&buffers);
    }
    if (status == LUCID_ERR_MEMORY) lucid_fail(status, "no memory for %zu bytes of rows", bytes);
    a->result.read += read_seconds / a->threads;
    a->result.pack += lucid_clock() - begin - read_seconds / a->threads;
    if (tensor != LUCID_DOUT)
        a->ran = false;
    else
        a->backward->loaded = !status;
    return status;
}

/* --- writing out --- */

static void unpack_granule(const tile_job *job, float *out, float *lse, int granule, int n_rows) {
    const lucid_attention *a = job->a;
    if (job->tensor >= LUCID_DQ) {
        lucid_backward_unpack(a, job->channel, job->tensor, job->row, job->sequence, job->head, granule, out, n_rows);
        return;
    }
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
    int batch, head, granules = lucid_tile_granules(a, tile), cached = lucid_tile_cached(a, tile);
    size_t dim = (size_t)tensor_dim(a, job->tensor);
    global_head(job, &batch, &head);
    for (int g = lucid_tile_first_granule(a, tile); g < granules; g++) {
        int first = g * LUCID_GRANULE, left = n_tokens - first;
        unpack_granule(job, out + (size_t)first * dim, lse + first, g, left < LUCID_GRANULE ? left : LUCID_GRANULE);
    }
    const float *rows = job->tensor == LUCID_LSE ? lse + cached : out + (size_t)cached * dim;
    double begin = lucid_clock();
    lucid_status status =
        writer(context, rows, job->tensor, batch, head, lucid_tile_first(a, tile) + cached, n_tokens - cached);
    *write_seconds += lucid_clock() - begin;
    return status;
}

lucid_status lucid_attention_store(lucid_attention *a, lucid_tensor tensor, lucid_writer writer, void *context) {
    lucid_status status = LUCID_OK;
    if (!a->ran) return lucid_fail(LUCID_ERR_INTERNAL, "store without a run");
    if (tensor >= LUCID_DQ && !(a->backward && a->backward->ran))
        return lucid_fail(LUCID_ERR_INTERNAL, "store of gradients without a backward run");
    if (tensor == LUCID_DGAIN && !a->key_gain)
        return lucid_fail(LUCID_ERR_INTERNAL, "store of a gain's gradient without a gain");
    int dim = tensor == LUCID_LSE ? a->problem.value_dim : tensor_dim(a, tensor);
    float *out = lucid_alloc((size_t)a->plan.tile * dim * sizeof(float));
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
