/* Decoding against the bandwidth at which the same threads read the same memory, turn by turn, since neighbours take
 * their share at any moment. A step is one layer's whole lucid_decode: packing, records, exchange, merging. Outside the
 * timers: filling the cache with random keys and values, and the check of one head's results in fp64.
 *
 *   read     bytes of all ranks' records / slowest rank's seconds to read its own
 *   decode   bytes of all ranks' records / slowest rank's seconds of a step
 *   share    decode / read of a turn; each figure is the median over the turns
 */
#include "launch/bench_decode.h"
#include "kernels/ref/dense.h"
#include "launch/job.h"
#include "launch/peak.h"
#include "launch/report.h"
#include "launch/version.h"
#include "runtime/cache/cache.h"
#include "runtime/files/half.h"
#include "runtime/isa.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TURNS = 7 }; /* of a repetition */

/* One cache that is measured, and the token that is decoded again and again. */
typedef struct {
    const launch_options *options;
    lucid_comm *comm;
    const lucid_kernels *kernels;
    launch_source source; /* of the cached tokens and the new one; its y are taken for preconditioned values */
    lucid_dtype dtype;
    int64_t n; /* cached tokens */
    int threads;
    lucid_cache *cache;
    lucid_decoder *decoder;
    float *q, *k, *v, *out; /* (heads, dim) */
} decode_bench;

typedef struct {
    double read, decode, share, error;
    double bytes;
} decode_row;

/* --- filling --- */

/* One record of up to 64 tokens. */
static void fill_record(const decode_bench *b, float *record, int head, int64_t first, int n_tokens) {
    const lucid_problem *p = &b->source.problem;
    const lucid_shape shape = lucid_shape_make(p->head_dim, p->value_dim);
    char rows[LUCID_GRANULE * LUCID_MAX_HEAD_DIM * sizeof(float)];
    lucid_random_rows(rows, b->dtype, &b->source.random, LUCID_K, 0, head, first, n_tokens, p->head_dim);
    b->kernels->pack_rows(record, rows, b->dtype, n_tokens, p->head_dim);
    b->kernels->normalise(record, shape, (float)lucid_cache_configuration(b->cache)->eps);
    lucid_random_rows(rows, b->dtype, &b->source.random, LUCID_V, 0, head, first, n_tokens, p->value_dim);
    b->kernels->pack_values(record, rows, b->dtype, n_tokens, shape);
}

static lucid_status fill_cache(decode_bench *b) {
    const lucid_problem *p = &b->source.problem;
    const int64_t tile = lucid_cache_configuration(b->cache)->tile, n_granules = tile / LUCID_GRANULE;
    const size_t record_floats = lucid_record_floats(lucid_shape_make(p->head_dim, p->value_dim));
    float *records, *pending;
    lucid_cache_open_layer(b->cache, 0, &records, &pending);
#pragma omp parallel for num_threads(b->threads) schedule(dynamic, 8)
    for (int64_t g = 0; g < (b->n + LUCID_GRANULE - 1) / LUCID_GRANULE; g++) {
        const int64_t t = g / n_granules, row = t / b->comm->world_size, left = b->n - g * LUCID_GRANULE;
        const int n_tokens = left < LUCID_GRANULE ? (int)left : LUCID_GRANULE;
        for (int head = 0; t % b->comm->world_size == b->comm->rank && head < p->n_kv_heads; head++) {
            const int64_t index = (row * p->n_kv_heads + head) * n_granules + g % n_granules;
            fill_record(b, records + (size_t)index * record_floats, head, g * LUCID_GRANULE, n_tokens);
        }
    }
    lucid_cache_close_layer(b->cache, 0, b->n);
    return lucid_cache_append(b->cache, b->n);
}

/* --- the check --- */

/* The new token's y and out in fp64, head 0, over 64 cached tokens at a time. */
typedef struct {
    double *k, *kn, *y; /* (65, dim): cached tokens and, of the keys, the new one last */
    double *row, *out, *block;
    double lse;
} check;

static void widen_rows(double *to, const decode_bench *b, lucid_tensor tensor, int64_t first, int n_tokens, int dim) {
    char rows[LUCID_GRANULE * LUCID_MAX_HEAD_DIM * sizeof(float)];
    float wide[LUCID_MAX_HEAD_DIM];
    lucid_random_rows(rows, b->dtype, &b->source.random, tensor, 0, 0, first, n_tokens, dim);
    for (int i = 0; i < n_tokens; i++) {
        lucid_widen(wide, rows + (size_t)i * dim * lucid_dtype_bytes(b->dtype), b->dtype, dim);
        for (int c = 0; c < dim; c++) to[i * dim + c] = wide[c];
    }
}

/* out (dv) and lse, joined with those of other keys. */
static void join(double *out, double *lse, const double *other, double other_lse, int dv) {
    const double largest = fmax(*lse, other_lse), a = exp(*lse - largest), b = exp(other_lse - largest);
    for (int c = 0; c < dv; c++) out[c] = (a * out[c] + b * other[c]) / (a + b);
    *lse = largest + log(a + b);
}

static void check_granule(check *r, const decode_bench *b, const double *q, double scale, int64_t first, int n) {
    const lucid_problem *p = &b->source.problem;
    const int d = p->head_dim, dv = p->value_dim;
    double lse;
    widen_rows(r->k, b, LUCID_K, first, n, d);
    memcpy(r->k + (size_t)n * d, r->k + (size_t)LUCID_GRANULE * d, (size_t)d * sizeof *r->k);
    widen_rows(r->y, b, LUCID_V, first, n, dv);
    lucid_dense_normalise(r->kn, r->k, n + 1, d, p->eps);
    if (p->attention == LUCID_ATTENTION_LUCID) lucid_dense_update_row(r->row, r->kn, r->y, n, 0, n, d, dv);
    lucid_dense_attend_row(r->block, &lse, q, r->k, r->y, n - 1, d, dv, scale);
    join(r->out, &r->lse, r->block, lse, dv);
}

static double distance(const double *a, const double *b, int n) {
    double sum = 0, square = 0;
    for (int c = 0; c < n; c++) sum += (a[c] - b[c]) * (a[c] - b[c]), square += b[c] * b[c];
    return sqrt(sum / square);
}

/* |out - reference| / |reference| of head 0, whose query and result are q and out. */
static double check_step(const decode_bench *b, check *r) {
    const lucid_problem *p = &b->source.problem;
    const int d = p->head_dim, dv = p->value_dim;
    double q[LUCID_MAX_HEAD_DIM], got[LUCID_MAX_HEAD_DIM], lse;
    const double scale = p->softmax_scale != 0 ? p->softmax_scale : 1 / sqrt(d);
    for (int c = 0; c < d; c++) q[c] = b->q[c];
    for (int c = 0; c < dv; c++) r->row[c] = b->v[c], r->out[c] = 0, got[c] = b->out[c];
    widen_rows(r->k + (size_t)LUCID_GRANULE * d, b, LUCID_K, b->n, 1, d);
    r->lse = -INFINITY;
    for (int64_t first = 0; first < b->n; first += LUCID_GRANULE)
        check_granule(r, b, q, scale, first, b->n - first < LUCID_GRANULE ? (int)(b->n - first) : LUCID_GRANULE);
    lucid_dense_attend_row(r->block, &lse, q, r->k + (size_t)LUCID_GRANULE * d, r->row, 0, d, dv, scale);
    join(r->out, &r->lse, r->block, lse, dv);
    return distance(got, r->out, dv);
}

static lucid_status decode_once(decode_bench *b) {
    return lucid_decode(b->decoder, 0, b->out, b->q, b->k, b->v);
}

/* Two steps: one with the token's own query, and one whose query is so much its key that out is its y. */
static lucid_status verify(double *error, decode_bench *b) {
    const int d = b->source.problem.head_dim, dv = b->source.problem.value_dim;
    double *memory = malloc(((LUCID_GRANULE + 1) * (2 * (size_t)d + dv) + 3 * (size_t)dv) * sizeof *memory);
    LUCID_TRY(lucid_comm_agree(b->comm, memory ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for the check")));
    check r = {.k = memory, .kn = memory + (LUCID_GRANULE + 1) * d, .y = memory + 2 * (LUCID_GRANULE + 1) * d};
    r.row = r.y + (LUCID_GRANULE + 1) * dv, r.out = r.row + dv, r.block = r.out + dv;
    lucid_status status = decode_once(b);
    *error = !status && b->comm->rank == 0 ? check_step(b, &r) : 0;
    for (int c = 0; c < d; c++) b->q[c] = 20 * b->k[c];
    if (!status) status = decode_once(b);
    if (!status && b->comm->rank == 0) {
        const double own = check_step(b, &r);
        if (!(own <= *error)) *error = own;
    }
    free(memory);
    const double bound = b->dtype == LUCID_F32 ? 1e-4 : 1e-2; /* y has 8 bits in a bf16 cache */
    if (!status && !(*error <= bound))
        status = lucid_fail(LUCID_ERR_INTERNAL, "decoding %" PRId64 " cached tokens is off by %.1e, more than %.0e",
                            b->n, *error, bound);
    return lucid_comm_agree(b->comm, status);
}

/* --- the measurement --- */

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, compare);
    return (x[n / 2] + x[(n - 1) / 2]) / 2;
}

/* Seconds of the slowest rank to read and to decode. */
static lucid_status take_turn(double *seconds, decode_bench *b) {
    size_t n_bytes;
    const void *records = lucid_cache_layer(b->cache, 0, &n_bytes);
    LUCID_TRY(lucid_comm_barrier(b->comm));
    seconds[0] = launch_read_seconds(b->kernels, records, n_bytes, b->threads);
    LUCID_TRY(lucid_comm_barrier(b->comm));
    double begin = lucid_clock();
    LUCID_TRY(decode_once(b));
    seconds[1] = lucid_clock() - begin;
    return lucid_comm_allreduce(b->comm, seconds, 2, LUCID_MAX);
}

/* Bytes of all ranks: whole tiles, as they are read, and the records that are decoded. */
static lucid_status count_bytes(double *read_bytes, double *decode_bytes, const decode_bench *b) {
    const lucid_problem *p = &b->source.problem;
    const size_t record = lucid_cached_bytes(lucid_shape_make(p->head_dim, p->value_dim), b->dtype);
    size_t n_bytes;
    lucid_cache_layer(b->cache, 0, &n_bytes);
    *read_bytes = (double)n_bytes;
    *decode_bytes = (double)record / LUCID_GRANULE * p->n_kv_heads * (double)b->n;
    return lucid_comm_allreduce(b->comm, read_bytes, 1, LUCID_SUM);
}

static lucid_status measure(decode_row *row, decode_bench *b) {
    const int n = (int)b->options->repeat * TURNS;
    double read_bytes, *x = malloc(3 * (size_t)n * sizeof *x), *decode = x + n, *share = x + 2 * n, seconds[2];
    lucid_status status = x ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for the measurements");
    LUCID_TRY_GOTO(lucid_comm_agree(b->comm, status), free_turns);
    LUCID_TRY_GOTO(count_bytes(&read_bytes, &row->bytes, b), free_turns);
    for (int i = -1; i < n; i++) { /* the first turn warms up */
        LUCID_TRY_GOTO(take_turn(seconds, b), free_turns);
        if (i < 0) continue;
        x[i] = read_bytes / seconds[0];
        decode[i] = row->bytes / seconds[1];
        share[i] = decode[i] / x[i];
    }
    row->read = median(x, n), row->decode = median(decode, n), row->share = median(share, n);
free_turns:
    free(x);
    return status;
}

/* --- set-up and output --- */

static lucid_status open_bench(decode_bench *b) {
    const lucid_problem *p = &b->source.problem;
    const lucid_cache_config config = {.attention = p->attention,
                                       .dtype = b->dtype,
                                       .n_layers = 1,
                                       .n_kv_heads = p->n_kv_heads,
                                       .head_dim = p->head_dim,
                                       .value_dim = p->value_dim,
                                       .eps = p->eps,
                                       .max_tokens = b->n + 1,
                                       .tile = b->options->tile,
                                       .threads = b->threads};
    LUCID_TRY(lucid_cache_create(&b->cache, b->comm, &config));
    const lucid_decode_options options = {
        .n_heads = p->n_heads, .softmax_scale = p->softmax_scale, .isa = b->kernels->isa};
    LUCID_TRY(lucid_decoder_create(&b->decoder, b->cache, &options));
    const size_t d = (size_t)p->head_dim, dv = (size_t)p->value_dim;
    b->q = malloc((size_t)p->n_heads * (d + dv) * sizeof *b->q);
    b->k = malloc((size_t)p->n_kv_heads * (d + dv) * sizeof *b->k);
    lucid_status status = b->q && b->k ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for a token");
    LUCID_TRY(lucid_comm_agree(b->comm, status));
    b->out = b->q + (size_t)p->n_heads * d, b->v = b->k + (size_t)p->n_kv_heads * d;
    for (int h = 0; h < p->n_heads; h++)
        lucid_random_rows(b->q + h * d, LUCID_F32, &b->source.random, LUCID_Q, 0, h, b->n, 1, p->head_dim);
    for (int h = 0; h < p->n_kv_heads; h++) {
        lucid_random_rows(b->k + h * d, LUCID_F32, &b->source.random, LUCID_K, 0, h, b->n, 1, p->head_dim);
        lucid_random_rows(b->v + h * dv, LUCID_F32, &b->source.random, LUCID_V, 0, h, b->n, 1, p->value_dim);
    }
    return lucid_comm_agree(b->comm, fill_cache(b));
}

static void close_bench(decode_bench *b) {
    lucid_decoder_destroy(b->decoder);
    lucid_cache_destroy(b->cache);
    free(b->q);
    free(b->k);
}

static void print_header(const launch_options *options, const lucid_comm *comm) {
    printf("# lucid bench --decode %s, commit %s, %s; medians of %" PRId64 " turns\n", LUCID_VERSION, LUCID_COMMIT,
           comm->description, options->repeat * TURNS);
    printf("# outside the timers: filling the cache, the check of one head against fp64\n");
    printf(
        "# share: bytes of keys and values a second of one layer's step, in %% of those that the same threads read\n");
    printf("%-8s %-9s %-6s %5s %7s %9s %5s %3s %4s %4s %5s %5s %9s %8s %8s %6s %9s %s\n", "variant", "transport", "isa",
           "ranks", "threads", "cached", "heads", "kv", "d", "d_v", "dtype", "tile", "MiB", "read", "decode", "share%",
           "error", "commit");
}

static void print_row(const decode_row *row, const decode_bench *b) {
    const lucid_problem *p = &b->source.problem;
    printf("%-8s %-9s %-6s %5d %7d %9" PRId64 " %5d %3d %4d %4d %5s %5" PRId64 " %9.1f %8.2f %8.2f %6.1f %9.1e %s\n",
           launch_attention_name(p->attention), b->comm->transport->name, b->kernels->isa, b->comm->world_size,
           b->threads, b->n, p->n_heads, p->n_kv_heads, p->head_dim, p->value_dim, launch_dtype_name(b->dtype),
           lucid_cache_configuration(b->cache)->tile, row->bytes / (1 << 20), 1e-9 * row->read, 1e-9 * row->decode,
           100 * row->share, row->error, LUCID_COMMIT);
    fflush(stdout);
}

static json_t *row_json(const decode_row *row, const decode_bench *b) {
    return json_pack("{s:o, s:I, s:s, s:s, s:i, s:I, s:f, s:f, s:f, s:f, s:f}", "problem",
                     launch_json_problem(&b->source), "cached", (json_int_t)b->n, "cache_dtype",
                     launch_dtype_name(b->dtype), "isa", b->kernels->isa, "threads", b->threads, "tile",
                     (json_int_t)lucid_cache_configuration(b->cache)->tile, "bytes", row->bytes, "read_bandwidth",
                     row->read, "decode_bandwidth", row->decode, "share", row->share, "error", row->error);
}

static lucid_status bench_cache(json_t *rows, decode_bench *b) {
    decode_row row = {0};
    lucid_status status = open_bench(b);
    if (!status) status = measure(&row, b);
    if (!status) status = verify(&row.error, b);
    if (!status && b->comm->rank == 0) {
        if (!b->options->quiet) print_row(&row, b);
        json_array_append_new(rows, row_json(&row, b));
    }
    close_bench(b);
    return status;
}

lucid_status launch_bench_decode(json_t *rows, const launch_options *options, lucid_comm *comm, const int64_t *cached,
                                 int count) {
    decode_bench base = {.options = options, .comm = comm};
    LUCID_TRY(launch_job_threads(&base.threads, options, comm));
    LUCID_TRY(lucid_isa_agree(&base.kernels, comm, options->isa));
    if (comm->rank == 0 && !options->quiet) print_header(options, comm);
    for (int i = 0; i < count; i++)
        for (int dtype = LUCID_F32; dtype <= LUCID_BF16; dtype++) {
            decode_bench b = base;
            b.n = cached[i];
            b.dtype = (lucid_dtype)dtype;
            launch_source_random(&b.source, options, b.n + 1);
            LUCID_TRY(bench_cache(rows, &b));
        }
    return LUCID_OK;
}
