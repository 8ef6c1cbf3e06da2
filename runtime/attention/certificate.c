/* The accuracy certificate: a few rows of the finished run recomputed in fp64.
 *
 * For each sampled row i every rank sums its own tokens' share of (P Y)_i and of the softmax over Y, in fp64 from the
 * fp32 inputs and Y; one reduction adds the shares. Y's correctness thus rests on the residual P Y - V alone, out's and
 * lse's on a recomputation given Y. Cost: samples * seqlen / world_size * (4 d) flops a rank and one reduction of
 * samples * (2 d_v + 1) numbers; V of the sampled rows and V's column norms are noted while V is read, before Y
 * replaces it.
 */
#include "runtime/attention/attention.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_SAMPLES = 32, DIM = LUCID_MAX_HEAD_DIM, BLOCK = 32 };

typedef double lanes __attribute__((vector_size(64), aligned(8), may_alias)); /* a quarter of a block */
typedef int64_t bits __attribute__((vector_size(64), aligned(8), may_alias));

/* The loops over a granule are worth the widest vectors that the machine has. */
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default")))

/* --- what is kept from before the solve --- */

/* Rows spread over the sequence, one in each stratum, the last row among them; heads in turn. */
static void choose_rows(lucid_attention *a) {
    lucid_samples *s = &a->samples;
    int n_sequences = a->problem.batch * a->problem.n_kv_heads;
    uint64_t state = 0x9e3779b97f4a7c15u;
    for (int n = 0; n < s->n_rows; n++) {
        int64_t low = (int64_t)n * a->problem.seqlen / s->n_rows,
                high = (int64_t)(n + 1) * a->problem.seqlen / s->n_rows;
        state = state * 6364136223846793005u + 1442695040888963407u;
        int64_t token = high > low ? low + (int64_t)((state >> 33) % (uint64_t)(high - low)) : low;
        if (n == s->n_rows - 1) token = a->problem.seqlen - 1;
        s->rows[n].token = token;
        s->rows[n].sequence = n % n_sequences;
        s->rows[n].head = (n / n_sequences + n) % a->group;
    }
}

lucid_status lucid_samples_create(lucid_attention *a) {
    lucid_samples *s = &a->samples;
    int n_sequences = a->problem.batch * a->problem.n_kv_heads;
    s->n_rows = N_SAMPLES > n_sequences ? N_SAMPLES : n_sequences;
    s->rows = calloc((size_t)s->n_rows, sizeof *s->rows);
    s->values = calloc((size_t)s->n_rows * a->problem.value_dim, sizeof *s->values);
    s->value_norms = calloc((size_t)n_sequences * a->problem.value_dim, sizeof *s->value_norms);
    if (!s->rows || !s->values || !s->value_norms) return lucid_fail(LUCID_ERR_MEMORY, "no memory for the certificate");
    choose_rows(a);
    return LUCID_OK;
}

void lucid_samples_destroy(lucid_samples *s) {
    free(s->rows);
    free(s->values);
    free(s->value_norms);
}

void lucid_samples_reset(lucid_attention *a) {
    size_t n = (size_t)a->problem.batch * a->problem.n_kv_heads * a->problem.value_dim;
    memset(a->samples.value_norms, 0, n * sizeof *a->samples.value_norms);
}

/* sums (value_dim) += the squares of y (64, value_ld), column by column. */
WIDE static void add_squares(double *sums, const float *y, int value_dim, int value_ld) {
    float partial[DIM] = {0};
    for (int i = 0; i < LUCID_GRANULE; i++)
        for (int c = 0; c < value_dim; c++) partial[c] += y[(size_t)i * value_ld + c] * y[(size_t)i * value_ld + c];
    for (int c = 0; c < value_dim; c++) sums[c] += partial[c];
}

static const float *record_at(const lucid_attention *a, const lucid_channel *channel, int row, int sequence,
                              int granule) {
    return lucid_own_tile(channel, row) + lucid_record_index(a, sequence, granule) * a->record_floats;
}

static void tile_squares(double *sums, const lucid_attention *a, const lucid_channel *channel, int row, int sequence) {
    int granules = lucid_tile_granules(a, channel->schedule->rows[row]);
    for (int g = 0; g < granules; g++)
        add_squares(sums, record_at(a, channel, row, sequence, g) + lucid_record_values(a->shape), a->shape.value_dim,
                    a->shape.value_ld);
}

void lucid_samples_capture(lucid_attention *a, const lucid_channel *channel, int row, int sequence) {
    double sums[DIM] = {0};
    int value_dim = a->problem.value_dim, global = channel->first_sequence + sequence;
    tile_squares(sums, a, channel, row, sequence);
#pragma omp critical(lucid_samples)
    for (int c = 0; c < value_dim; c++) a->samples.value_norms[(size_t)global * value_dim + c] += sums[c];
    int64_t first = lucid_tile_first(a, channel->schedule->rows[row]);
    int n_tokens = lucid_tile_tokens(a, channel->schedule->rows[row]);
    for (int n = 0; n < a->samples.n_rows; n++) {
        int64_t offset = a->samples.rows[n].token - first;
        if (a->samples.rows[n].sequence != global || offset < 0 || offset >= n_tokens) continue;
        const float *record = record_at(a, channel, row, sequence, (int)(offset / LUCID_GRANULE));
        memcpy(a->samples.values + (size_t)n * value_dim,
               record + lucid_record_values(a->shape) + (size_t)(offset % LUCID_GRANULE) * a->shape.value_ld,
               (size_t)value_dim * sizeof(float));
    }
}

/* --- the sampled rows, known to all ranks --- */

/* One row as its owner has it, and the sums that all ranks add to. All in fp64, so that one reduction shares them. */
typedef struct {
    double key[DIM];   /* kn_i log2(e) / sqrt(d) */
    double query[DIM]; /* q_i softmax_scale log2(e) */
    double value[DIM], out[DIM];
    double lse2; /* lse in base 2 */
} sampled_row;

typedef struct {
    double solved[DIM]; /* (P Y)_i */
    double out[DIM];    /* sum exp2(s - lse2) y */
    double sum;         /* sum exp2(s - lse2): 1 when lse is right */
} row_sums;

static double inverse_rms(const float *kt, int column, int d, double eps) {
    double squares = 0;
    for (int c = 0; c < d; c++) squares += (double)kt[c * LUCID_GRANULE + column] * kt[c * LUCID_GRANULE + column];
    return 1 / sqrt(squares / d + eps);
}

/* The channel and local row that hold a sample, or false when another rank does. */
static bool locate(const lucid_attention *a, const struct lucid_sample *sample, const lucid_channel **channel,
                   int *row) {
    int i = 0, tile = (int)(sample->token / a->plan.tile);
    while (sample->sequence >= a->channels[i].first_sequence + a->channels[i].n_sequences) i++;
    *channel = &a->channels[i];
    *row = (*channel)->schedule->row_of[tile];
    return *row >= 0;
}

static void read_row(const lucid_attention *a, int n, sampled_row *out) {
    const struct lucid_sample *sample = &a->samples.rows[n];
    const lucid_channel *channel;
    int row, d = a->problem.head_dim;
    if (!locate(a, sample, &channel, &row)) return;
    int offset = (int)(sample->token % a->plan.tile), column = offset % LUCID_GRANULE,
        sequence = sample->sequence - channel->first_sequence;
    const float *record = record_at(a, channel, row, sequence, offset / LUCID_GRANULE);
    size_t index = lucid_query_index(a, channel, row, sequence, sample->head, offset / LUCID_GRANULE);
    const float *qt = channel->queries + index * a->query_floats;
    double scale = inverse_rms(record, column, d, a->problem.eps) * M_LOG2E / sqrt(d);
    float outs[LUCID_GRANULE * DIM], lse[LUCID_GRANULE];
    a->kernels->attend_finish(outs, lse, channel->states + index * a->state_floats, column + 1, a->shape);
    for (int c = 0; c < d; c++) {
        out->key[c] = scale * record[c * LUCID_GRANULE + column];
        out->query[c] = a->problem.softmax_scale * M_LOG2E * qt[c * LUCID_GRANULE + column];
    }
    for (int c = 0; c < a->problem.value_dim; c++) {
        out->value[c] = a->samples.values[(size_t)n * a->problem.value_dim + c];
        out->out[c] = outs[column * a->problem.value_dim + c];
    }
    out->lse2 = lse[column] * M_LOG2E;
}

/* --- sums over this rank's tokens --- */

/* A granule of keys and values in fp64. */
typedef struct {
    double keys[DIM][LUCID_GRANULE];
    double rnorm[LUCID_GRANULE];
    int values_ld; /* value_dim in whole blocks */
    double values[LUCID_GRANULE * DIM];
} wide_granule;

WIDE static void key_norms(wide_granule *g, int d, double eps) {
    double squares[LUCID_GRANULE] = {0};
    for (int c = 0; c < d; c++)
        for (int j = 0; j < LUCID_GRANULE; j++) squares[j] += g->keys[c][j] * g->keys[c][j];
    for (int j = 0; j < LUCID_GRANULE; j++) g->rnorm[j] = 1 / sqrt(squares[j] / d + eps);
}

static void widen(wide_granule *g, const lucid_attention *a, const float *record) {
    const float *y = record + lucid_record_values(a->shape);
    for (int c = 0; c < a->problem.head_dim; c++)
        for (int j = 0; j < LUCID_GRANULE; j++) g->keys[c][j] = record[c * LUCID_GRANULE + j];
    key_norms(g, a->problem.head_dim, a->problem.eps);
    g->values_ld = (a->shape.value_dim + BLOCK - 1) / BLOCK * BLOCK;
    for (int j = 0; j < LUCID_GRANULE; j++)
        for (int c = 0; c < a->shape.value_dim; c++) g->values[j * g->values_ld + c] = y[j * a->shape.value_ld + c];
}

/* Both products in blocks that registers hold; left to itself, the compiler keeps the sums in memory. */
WIDE static void dot_keys(double *scores, const wide_granule *g, const double *row, int d) {
    lanes sums[8] = {0};
    for (int c = 0; c < d; c++) {
        const lanes *keys = (const lanes *)g->keys[c];
        for (int i = 0; i < 8; i++) sums[i] += row[c] * keys[i];
    }
    memcpy(scores, sums, sizeof sums);
}

/* x (64) = 2^x to 1e-15, x cut off at -1000 and 1000; NaN stays. Taylor's series about the nearest integer n, times
 * 2^n, whose exponent field is shifted out of x + 1.5 * 2^52 + 1023. */
WIDE static void exp2_all(double *x) {
    static const double terms[] = {0x1.c3bd650fc2983p-36,
                                   0x1.e8cac7351bb22p-32,
                                   0x1.e4cf5158b8ec7p-28,
                                   0x1.b5253d395e7c1p-24,
                                   0x1.62c0223a5c822p-20,
                                   0x1.ffcbfc588b0c5p-17,
                                   0x1.430912f86c786p-13,
                                   0x1.5d87fe78a673p-10,
                                   0x1.3b2ab6fba4e77p-7,
                                   0x1.c6b08d704a0bfp-5,
                                   0x1.ebfbdff82c58ep-3,
                                   0x1.62e42fefa39efp-1,
                                   1};
    const lanes magic = 0x1.8p52 + 1023 - (lanes){0};
    for (int j = 0; j < LUCID_GRANULE; j++) x[j] = x[j] < -1000 ? -1000 : x[j] > 1000 ? 1000 : x[j];
    for (int i = 0; i < 8; i++) {
        lanes a = ((lanes *)x)[i];
        lanes t = a + magic, r = a - (t - magic), p = terms[0] - (lanes){0};
        for (size_t k = 1; k < sizeof terms / sizeof *terms; k++) p = p * r + terms[k];
        ((lanes *)x)[i] = p * (lanes)((bits)t << 52);
    }
}

/* Columns past value_dim, up to a whole block, are zero. */
WIDE static void add_values(double *sum, const wide_granule *g, const double *weights, int n_keys, int value_dim) {
    for (int block = 0; block < value_dim; block += BLOCK) {
        lanes sums[4];
        memcpy(sums, sum + block, sizeof sums);
        for (int j = 0; j < n_keys; j++) {
            const lanes *values = (const lanes *)(g->values + j * g->values_ld + block);
            for (int i = 0; i < 4; i++) sums[i] += weights[j] * values[i];
        }
        memcpy(sum + block, sums, sizeof sums);
    }
}

/* Adds keys 0..n_keys-1 of the granule; the row's own token is the last of them when diagonal. */
static void add_granule(row_sums *sums, const lucid_attention *a, const sampled_row *row, const wide_granule *g,
                        int n_keys, bool diagonal) {
    double scores[LUCID_GRANULE], shift = sqrt(a->problem.head_dim) * M_LOG2E;
    int d = a->problem.head_dim, value_dim = a->problem.value_dim;
    dot_keys(scores, g, row->query, d);
    for (int j = 0; j < LUCID_GRANULE; j++) scores[j] -= row->lse2;
    exp2_all(scores);
    for (int j = 0; j < n_keys; j++) sums->sum += scores[j];
    add_values(sums->out, g, scores, n_keys, value_dim);
    if (a->problem.attention == LUCID_ATTENTION_SOFTMAX) return;
    dot_keys(scores, g, row->key, d);
    for (int j = 0; j < LUCID_GRANULE; j++) scores[j] = scores[j] * g->rnorm[j] - shift;
    exp2_all(scores);
    if (diagonal) scores[n_keys - 1] = 1;
    add_values(sums->solved, g, scores, n_keys, value_dim);
}

static void add_tile(row_sums *sums, const lucid_attention *a, const sampled_row *rows, const lucid_channel *channel,
                     int row, int sequence, wide_granule *wide) {
    int64_t first = lucid_tile_first(a, channel->schedule->rows[row]);
    int granules = lucid_tile_granules(a, channel->schedule->rows[row]);
    for (int g = 0; g < granules; g++, first += LUCID_GRANULE) {
        bool widened = false;
        for (int n = 0; n < a->samples.n_rows; n++) {
            int64_t last = a->samples.rows[n].token - first;
            if (a->samples.rows[n].sequence != channel->first_sequence + sequence || last < 0) continue;
            if (!widened) widen(wide, a, record_at(a, channel, row, sequence, g));
            widened = true;
            bool diagonal = last < LUCID_GRANULE;
            add_granule(&sums[n], a, &rows[n], wide, diagonal ? (int)last + 1 : LUCID_GRANULE, diagonal);
        }
    }
}

/* --- the verdict --- */

static double distance(const double *x, const double *ref, int n) {
    double squares = 0;
    for (int c = 0; c < n; c++) squares += (x[c] - ref[c]) * (x[c] - ref[c]);
    return sqrt(squares);
}

/* A NaN must not pass for the smaller one, nor be forgotten. */
static double larger(double a, double b) {
    return isnan(a) || a > b ? a : b;
}

static void judge_rows(const lucid_attention *a, const sampled_row *rows, const row_sums *sums, const double *value_rms,
                       lucid_certificate_result *result) {
    int value_dim = a->problem.value_dim, n_rows = a->samples.n_rows;
    double zero[DIM] = {0}, squares = 0, reference[DIM];
    for (int pass = 0; pass < 2; pass++)
        for (int n = 0; n < n_rows; n++) {
            for (int c = 0; c < value_dim; c++) reference[c] = sums[n].out[c] / sums[n].sum;
            if (pass == 0) {
                squares += pow(distance(reference, zero, value_dim), 2) / n_rows;
                continue;
            }
            double rms = squares > 0 ? sqrt(squares) : 1;
            result->out_error = larger(distance(rows[n].out, reference, value_dim) / rms, result->out_error);
            result->lse_error = larger(fabs(log(sums[n].sum)), result->lse_error);
            if (a->problem.attention == LUCID_ATTENTION_SOFTMAX) continue;
            double scale = value_rms[a->samples.rows[n].sequence];
            result->residual =
                larger(distance(sums[n].solved, rows[n].value, value_dim) / (scale > 0 ? scale : 1), result->residual);
        }
}

/* norms (sequences, value_dim): sums of V^2, then of Y^2, over all ranks. */
static void judge_growth(const lucid_attention *a, const double *values, const double *solved, double *value_rms,
                         lucid_certificate_result *result) {
    int n_sequences = a->problem.batch * a->problem.n_kv_heads, value_dim = a->problem.value_dim;
    for (int s = 0; s < n_sequences; s++) {
        double squares = 0;
        for (int c = 0; c < value_dim; c++) {
            double v = values[s * value_dim + c], y = solved[s * value_dim + c];
            squares += v;
            if (v > 0) result->growth = larger(sqrt(y / v), result->growth);
        }
        value_rms[s] = sqrt(squares / (double)a->problem.seqlen);
    }
}

/* Everything that the certificate computes with, in one allocation; doubles are reduced over ranks. */
typedef struct {
    sampled_row *rows;
    row_sums *sums;
    double *norms; /* (2, sequences, value_dim) V^2, Y^2 */
    double *value_rms;
    wide_granule *wide;
} workspace;

static void sum_local(lucid_attention *a, workspace *w) {
    for (int i = 0; i < a->plan.channels; i++)
        for (int s = 0; s < a->channels[i].n_sequences; s++)
            for (int row = 0; row < a->n_rows; row++) add_tile(w->sums, a, w->rows, &a->channels[i], row, s, w->wide);
}

static void local_norms(lucid_attention *a, double *norms) {
    size_t n = (size_t)a->problem.batch * a->problem.n_kv_heads * a->problem.value_dim;
    memcpy(norms, a->samples.value_norms, n * sizeof *norms);
    for (int i = 0; i < a->plan.channels; i++)
        for (int s = 0; s < a->channels[i].n_sequences; s++)
            for (int row = 0; row < a->n_rows; row++)
                tile_squares(norms + n + (size_t)(a->channels[i].first_sequence + s) * a->problem.value_dim, a,
                             &a->channels[i], row, s);
}

static lucid_status certify(lucid_attention *a, workspace *w, lucid_certificate_result *result) {
    int n_rows = a->samples.n_rows, n_sequences = a->problem.batch * a->problem.n_kv_heads;
    size_t n_norms = (size_t)n_sequences * a->problem.value_dim;
    for (int n = 0; n < n_rows; n++) read_row(a, n, &w->rows[n]);
    LUCID_TRY(
        lucid_comm_allreduce(a->comm, (double *)w->rows, (int)(n_rows * sizeof *w->rows / sizeof(double)), LUCID_SUM));
    sum_local(a, w);
    LUCID_TRY(
        lucid_comm_allreduce(a->comm, (double *)w->sums, (int)(n_rows * sizeof *w->sums / sizeof(double)), LUCID_SUM));
    local_norms(a, w->norms);
    LUCID_TRY(lucid_comm_allreduce(a->comm, w->norms, (int)(2 * n_norms), LUCID_SUM));
    *result = (lucid_certificate_result){.rows = n_rows};
    judge_growth(a, w->norms, w->norms + n_norms, w->value_rms, result);
    judge_rows(a, w->rows, w->sums, w->value_rms, result);
    return LUCID_OK;
}

lucid_status lucid_certificate(lucid_attention *a, lucid_certificate_result *result) {
    double begin = lucid_clock();
    int n_rows = a->samples.n_rows, n_sequences = a->problem.batch * a->problem.n_kv_heads;
    workspace w = {.rows = calloc((size_t)n_rows, sizeof *w.rows),
                   .sums = calloc((size_t)n_rows, sizeof *w.sums),
                   .norms = calloc(2 * (size_t)n_sequences * a->problem.value_dim, sizeof *w.norms),
                   .value_rms = calloc((size_t)n_sequences, sizeof *w.value_rms),
                   .wide = calloc(1, sizeof *w.wide)};
    bool fits = w.rows && w.sums && w.norms && w.value_rms && w.wide;
    lucid_status status = fits ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for the certificate");
    if (!status && !a->ran) status = lucid_fail(LUCID_ERR_INTERNAL, "certificate without a run");
    if (!status && a->problem.n_cached)
        status = lucid_fail(LUCID_ERR_UNSUPPORTED, "no certificate on top of a cache: its tokens' values are gone");
    status = lucid_comm_agree(a->comm, status);
    if (!status) status = certify(a, &w, result);
    free(w.rows);
    free(w.sums);
    free(w.norms);
    free(w.value_rms);
    free(w.wide);
    if (!status) result->seconds = lucid_clock() - begin;
    return status;
}
