/* lucid bench: the run against the machine's own FMA peak, which is measured before and after each repetition because
 * clocks move with temperature and neighbours. Each repetition is certified. Outside the timers: making or reading the
 * input, allocation, the certificate, writing. Shares, each a median over the repetitions:
 *
 *   solve    flops of the solve / (thread time in it * peak of a thread)            its kernels alone
 *   attend   flops of the softmax pass / (thread time in it * peak of a thread)     its kernels alone
 *   both     flops / (slowest rank's run * peak)                                    with waits and messages
 *   packed   flops / (slowest rank's run and packing * peak)
 *
 * With --device cuda the peak is the rate of a bf16 matrix product by cuBLAS, and a GPU counts as one thread.
 *
 *   softmax  the same as `both` for a run with --attention softmax, without the solve
 */
#include "launch/bench_backward.h"
#include "launch/bench_decode.h"
#include "launch/commands.h"
#include "launch/job.h"
#include "launch/report.h"
#include "launch/version.h"
#include "runtime/blas/blas.h"
#include "runtime/files/half.h"
#include "runtime/verify/openblas.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { REPEAT_MAX = 1000, LENGTHS_MAX = 64 }; /* REPEAT_MAX as in the option table */

typedef enum {
    SOLVE,
    ATTEND,
    BOTH,
    PACKED,
    SOFTMAX,
    RUN_SECONDS,
    SOLVE_SECONDS,
    PEAK,
    BASELINE_SECONDS,
    N_COLUMNS
} column;

static const char *const column_names[N_COLUMNS] = {
    [SOLVE] = "solve",
    [ATTEND] = "attend",
    [BOTH] = "both",
    [PACKED] = "packed",
    [SOFTMAX] = "softmax",
    [RUN_SECONDS] = "seconds",
    [SOLVE_SECONDS] = "solve_core_seconds",
    [PEAK] = "peak",
    [BASELINE_SECONDS] = "openblas_solve_seconds",
};

/* One length's measurements; only rank 0's copy is filled. */
typedef struct {
    double (*repetitions)[N_COLUMNS]; /* (repeat) */
    double median[N_COLUMNS];
    lucid_certificate_result certificate; /* the worst of each figure */
    lucid_plan plan;
    const char *isa;
    int threads;
} row;

typedef struct {
    double run, packed;   /* slowest rank's seconds */
    double solve, attend; /* thread seconds of all ranks */
    double flops, peak;
    double threads; /* that do the work: a GPU is one */
} totals;

static totals totals_of(const lucid_rank_report *ranks, int n, bool cuda) {
    launch_figures g = launch_figures_of(ranks, n);
    totals t = {.flops = g.flops, .peak = g.peak};
    t.run = launch_spread_of(ranks, n, offsetof(lucid_rank_report, wall)).max;
    t.packed = t.run + launch_spread_of(ranks, n, offsetof(lucid_rank_report, pack)).max;
    for (int r = 0; r < n; r++) {
        const double *phase = ranks[r].phase;
        t.solve += phase[LUCID_PHASE_UPDATE] + phase[LUCID_PHASE_SOLVE];
        t.attend += phase[LUCID_PHASE_ATTEND];
        t.threads += cuda ? 1 : ranks[r].threads;
    }
    return t;
}

/* 2 (d + d_v) flops a pair: of one sequence and head. */
static double flops_of_head(const lucid_problem *p) {
    double n = (double)p->seqlen;
    return n * (n + 1) * (p->head_dim + p->value_dim);
}

static double peak_now(launch_job *job, lucid_status *status) {
    *status = launch_job_measure_peak(job);
    return job->report.fma_peak;
}

/* A run with its certificate, its peak the mean of one before and one after. */
static lucid_status measure(totals *t, lucid_certificate_result *certificate, launch_job *job) {
    lucid_status status;
    lucid_rank_report *ranks = NULL;
    double before = peak_now(job, &status);
    LUCID_TRY(status);
    LUCID_TRY(launch_job_run(job));
    double after = peak_now(job, &status);
    LUCID_TRY(status);
    job->report.fma_peak = (before + after) / 2;
    LUCID_TRY(launch_job_certify(certificate, job));
    LUCID_TRY(launch_job_gather(&ranks, job));
    if (ranks) *t = totals_of(ranks, job->comm->world_size, job->run.cuda);
    launch_reports_free(ranks, job->comm->world_size);
    return LUCID_OK;
}

/* Everything from an empty job to a measured one. */
static lucid_status run_job(totals *t, lucid_certificate_result *certificate, launch_job *job,
                            const launch_options *options, lucid_comm *comm, launch_source *source) {
    LUCID_TRY(launch_job_plan(job, options, comm, source));
    LUCID_TRY(launch_job_create(job));
    LUCID_TRY(launch_job_load(job));
    return measure(t, certificate, job);
}

/* A NaN must not pass for the smaller one. */
static double worse(double a, double b) {
    return isnan(a) || a > b ? a : b;
}

static void keep_worst(lucid_certificate_result *worst, const lucid_certificate_result *c) {
    worst->rows += c->rows;
    worst->seconds += c->seconds;
    worst->residual = worse(c->residual, worst->residual);
    worst->out_error = worse(c->out_error, worst->out_error);
    worst->lse_error = worse(c->lse_error, worst->lse_error);
    worst->growth = worse(c->growth, worst->growth);
}

static void fill_shares(double *x, const totals *t, const lucid_problem *p) {
    double head = flops_of_head(p) * p->batch, thread_peak = t->peak / t->threads;
    x[SOLVE] = t->solve > 0 ? head * p->n_kv_heads / (t->solve * thread_peak) : NAN;
    x[ATTEND] = head * p->n_heads / (t->attend * thread_peak);
    x[BOTH] = t->flops / (t->run * t->peak);
    x[PACKED] = t->flops / (t->packed * t->peak);
    x[RUN_SECONDS] = t->run;
    x[SOLVE_SECONDS] = t->solve;
    x[PEAK] = t->peak;
}

static lucid_status repeat_once(row *r, double *x, const launch_options *options, lucid_comm *comm,
                                launch_source *source) {
    totals t = {0};
    lucid_certificate_result certificate;
    launch_job job = {0};
    lucid_status status = run_job(&t, &certificate, &job, options, comm, source);
    if (!status) {
        r->plan = *lucid_attention_plan(job.attention);
        r->isa = lucid_attention_isa(job.attention);
        r->threads = job.run.threads;
        keep_worst(&r->certificate, &certificate);
        fill_shares(x, &t, &source->problem);
    }
    launch_job_close(&job);
    return status;
}

/* The same input without the preconditioner. */
static lucid_status repeat_softmax(double *x, const launch_options *options, lucid_comm *comm, launch_source *source) {
    totals t = {0};
    lucid_certificate_result certificate;
    launch_job job = {0};
    launch_source softmax = *source;
    softmax.problem.attention = LUCID_ATTENTION_SOFTMAX;
    lucid_status status = run_job(&t, &certificate, &job, options, comm, &softmax);
    if (!status) x[SOFTMAX] = t.flops / (t.run * t.peak);
    launch_job_close(&job);
    return status;
}

static lucid_status read_rows(float *rows, launch_source *source, lucid_tensor tensor, int batch, int head, int dim) {
    int64_t n = source->problem.seqlen;
    char narrow[LUCID_GRANULE * LUCID_MAX_HEAD_DIM * sizeof(float)];
    for (int64_t first = 0; first < n; first += LUCID_GRANULE) {
        int n_tokens = (int)(n - first < LUCID_GRANULE ? n - first : LUCID_GRANULE);
        LUCID_TRY(launch_source_read(source, narrow, tensor, batch, head, first, n_tokens));
        lucid_widen(rows + first * dim, narrow, source->dtypes[tensor], (int64_t)n_tokens * dim);
    }
    return LUCID_OK;
}

/* Adds the seconds of OpenBLAS's solve of one head. */
static lucid_status time_baseline(double *seconds, launch_source *source, float *y, float *k, float *v, int batch,
                                  int head) {
    const lucid_problem *p = &source->problem;
    LUCID_TRY(read_rows(k, source, LUCID_K, batch, head, p->head_dim));
    LUCID_TRY(read_rows(v, source, LUCID_V, batch, head, p->value_dim));
    double begin = lucid_clock();
    LUCID_TRY(lucid_openblas_solve(y, k, v, p->seqlen, p->head_dim, p->value_dim, p->eps));
    *seconds += lucid_clock() - begin;
    return LUCID_OK;
}

static lucid_status baseline(double *seconds, launch_source *source) {
    const lucid_problem *p = &source->problem;
    size_t n = (size_t)p->seqlen, d = (size_t)p->head_dim, dv = (size_t)p->value_dim;
    float *y = malloc(n * (d + 2 * dv) * sizeof *y);
    if (!y) return lucid_fail(LUCID_ERR_MEMORY, "no memory for the baseline");
    float *v = y + n * dv, *k = v + n * dv;
    lucid_status status = LUCID_OK;
    *seconds = 0;
    for (int batch = 0; batch < p->batch; batch++)
        for (int head = 0; !status && head < p->n_kv_heads; head++)
            status = time_baseline(seconds, source, y, k, v, batch, head);
    free(y);
    return status;
}

/* On rank 0, one core, while the others wait. */
static lucid_status repeat_baseline(double *x, const launch_options *options, lucid_comm *comm, launch_source *source) {
    if (options->baseline == BASELINE_NONE) return LUCID_OK;
    lucid_status status = comm->rank == 0 ? baseline(&x[BASELINE_SECONDS], source) : LUCID_OK;
    return lucid_comm_agree(comm, status);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fill_medians(row *r, int repeat) {
    double sorted[REPEAT_MAX];
    for (int c = 0; c < N_COLUMNS; c++) {
        for (int i = 0; i < repeat; i++) sorted[i] = r->repetitions[i][c];
        qsort(sorted, (size_t)repeat, sizeof *sorted, compare);
        r->median[c] = (sorted[repeat / 2] + sorted[(repeat - 1) / 2]) / 2;
    }
}

static lucid_status measure_row(row *r, const launch_options *options, lucid_comm *comm, launch_source *source) {
    bool lucid = source->problem.attention == LUCID_ATTENTION_LUCID;
    for (int i = 0; i < options->repeat; i++) {
        double *x = r->repetitions[i];
        for (int c = 0; c < N_COLUMNS; c++) x[c] = NAN;
        LUCID_TRY(repeat_once(r, x, options, comm, source));
        if (lucid) LUCID_TRY(repeat_softmax(x, options, comm, source));
        if (lucid) LUCID_TRY(repeat_baseline(x, options, comm, source));
    }
    return LUCID_OK;
}

/* ---- Output ---- */

static void print_header(const launch_options *options, const lucid_comm *comm) {
    if (options->backward) {
        launch_bench_backward_header(options, comm);
        return;
    }
    printf("# lucid bench %s, commit %s, %s; medians of %" PRId64 " repetitions\n", LUCID_VERSION, LUCID_COMMIT,
           comm->description, options->repeat);
    printf("# outside the timers: making or reading the input, allocation, the certificate\n");
    printf("# shares in %% of the %s, before and after each repetition\n",
           options->device == DEVICE_CUDA ? "rate of a bf16 matrix product of 8192^3 by cuBLAS on all GPUs at once"
                                          : "FMA peak that all threads reach at once");
    const lucid_blas *blas;
    if (options->baseline == BASELINE_OPENBLAS)
        printf("# baseline: OpenBLAS's blocked solve on one core, core type %s\n",
               lucid_blas_open(&blas, LUCID_BLAS_OPENBLAS) ? "none: no OpenBLAS here" : blas->core);
    printf("%-8s %-10s %-9s %-9s %-6s %5s %7s %9s %5s %3s %4s %4s %5s %7s %6s %6s %6s %7s %9s %8s %8s %9s %s\n",
           "variant", "layout", "schedule", "transport", "isa", "ranks", "threads", "N", "heads", "kv", "d", "d_v",
           "dtype", "solve%", "attend%", "both%", "packed%", "softmax%", "run_s", "Gflop/s", "peak", "residual",
           "commit");
}

static void print_share(int width, double share) {
    if (isnan(share))
        printf(" %*s", width, "-");
    else
        printf(" %*.1f", width, 100 * share);
}

static void print_row(const row *r, const launch_source *source, const lucid_comm *comm) {
    const lucid_problem *p = &source->problem;
    const double *m = r->median;
    printf("%-8s %-10s %-9s %-9s %-6s %5d %7d %9" PRId64 " %5d %3d %4d %4d %5s", launch_attention_name(p->attention),
           launch_layout_name(r->plan.layout), launch_schedule_name(r->plan.schedule), comm->transport->name, r->isa,
           comm->world_size, r->threads, p->seqlen, p->n_heads, p->n_kv_heads, p->head_dim, p->value_dim,
           launch_dtype_name(source->dtypes[LUCID_Q]));
    print_share(7, m[SOLVE]);
    print_share(7, m[ATTEND]);
    print_share(6, m[BOTH]);
    print_share(7, m[PACKED]);
    print_share(8, m[SOFTMAX]);
    printf(" %9.4f %8.1f %8.1f %9.1e %s\n", m[RUN_SECONDS], 1e-9 * m[BOTH] * m[PEAK], 1e-9 * m[PEAK],
           worse(r->certificate.residual, r->certificate.out_error), LUCID_COMMIT);
    if (!isnan(m[BASELINE_SECONDS]))
        printf("#   OpenBLAS solve %.4f s on one core, %.2f times this solve's %.4f core seconds\n",
               m[BASELINE_SECONDS], m[BASELINE_SECONDS] / m[SOLVE_SECONDS], m[SOLVE_SECONDS]);
    fflush(stdout);
}

static json_t *columns_json(const double *x) {
    json_t *json = json_object();
    for (int c = 0; c < N_COLUMNS; c++)
        if (!isnan(x[c])) json_object_set_new(json, column_names[c], json_real(x[c]));
    return json;
}

static json_t *row_json(const row *r, const launch_source *source, int64_t repeat) {
    json_t *repetitions = json_array();
    for (int64_t i = 0; i < repeat; i++) json_array_append_new(repetitions, columns_json(r->repetitions[i]));
    return json_pack("{s:o, s:s, s:s, s:s, s:i, s:I, s:o, s:o, s:o}", "problem", launch_json_problem(source), "layout",
                     launch_layout_name(r->plan.layout), "schedule", launch_schedule_name(r->plan.schedule), "isa",
                     r->isa, "threads", r->threads, "tile", (json_int_t)r->plan.tile, "certificate",
                     launch_json_certificate(&r->certificate), "median", columns_json(r->median), "repetitions",
                     repetitions);
}

static lucid_status bench_source(json_t *rows, const launch_options *options, lucid_comm *comm, launch_source *source) {
    if (options->backward) return launch_bench_backward(rows, options, comm, source);
    row r = {0};
    r.repetitions = calloc((size_t)options->repeat, sizeof *r.repetitions);
    lucid_status status = r.repetitions ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for the measurements");
    status = lucid_comm_agree(comm, status);
    if (!status) status = measure_row(&r, options, comm, source);
    if (!status && comm->rank == 0) {
        fill_medians(&r, (int)options->repeat);
        if (!options->quiet) print_row(&r, source, comm);
        json_array_append_new(rows, row_json(&r, source, options->repeat));
    }
    free(r.repetitions);
    return status;
}

static lucid_status bench_file(json_t *rows, const launch_options *options, lucid_comm *comm) {
    launch_source source = {0};
    lucid_status status = lucid_comm_agree(comm, launch_source_open(&source, options));
    if (!status) status = bench_source(rows, options, comm, &source);
    launch_source_close(&source);
    return status;
}

static lucid_status bench_lengths(json_t *rows, const launch_options *options, lucid_comm *comm, const int64_t *lengths,
                                  int count) {
    for (int i = 0; i < count; i++) {
        launch_source source;
        launch_source_random(&source, options, lengths[i]);
        LUCID_TRY(bench_source(rows, options, comm, &source));
    }
    return LUCID_OK;
}

static lucid_status check_lengths(int64_t *lengths, int *count, const launch_options *options, lucid_comm *comm) {
    const char *name = options->decode ? "--cached" : "--lengths";
    const char *list = options->decode ? options->cached : options->lengths;
    return lucid_comm_agree(comm, launch_parse_integers(lengths, count, LENGTHS_MAX, name, list, 1, INT64_C(1) << 36));
}

lucid_status launch_bench(const launch_options *options, lucid_comm *comm) {
    int64_t lengths[LENGTHS_MAX];
    int count;
    LUCID_TRY(check_lengths(lengths, &count, options, comm));
    json_t *rows = json_array();
    lucid_status status;
    if (comm->rank == 0 && !options->quiet && !options->decode) print_header(options, comm);
    if (options->decode)
        status = launch_bench_decode(rows, options, comm, lengths, count);
    else if (options->input)
        status = bench_file(rows, options, comm);
    else
        status = bench_lengths(rows, options, comm, lengths, count);
    if (!status && options->report && comm->rank == 0) {
        json_t *json = launch_json_header(options, comm);
        json_object_set(json, "rows", rows);
        status = launch_json_write(json, options->report);
    }
    json_decref(rows);
    return lucid_comm_agree(comm, status);
}
