/* The backward pass against the forward of the same repetition, since neighbours slow both. Inside the timers: solve
 * and softmax pass; all of the backward pass once dout is loaded. Outside: making or reading the input, packing,
 * allocation, the check, peaks.
 *
 *   ratio   slowest rank's backward seconds / slowest rank's forward seconds
 *   share   2.5 forward flops / (backward * peak): five products against two, however many were made; the peak is as in
 *           bench.c the FMA peak, on a GPU the rate of a bf16 matrix product
 *   check   out is linear in v, hence <dv, v> = <dout, out>; and out changes with q and k through q . k alone, but for
 *           eps, hence <dk, k> = <dq, q>. The larger difference, over what independent vectors of these lengths would
 *           give; the latter not for eps above 1e-4.
 *
 * Each figure is its median over the repetitions, the check the worst. */
#include "launch/bench_backward.h"

#include "launch/job.h"
#include "launch/report.h"
#include "launch/version.h"
#include "runtime/files/half.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#define CHECK_TOLERANCE 1e-2 /* fp32 gives 1e-5; keys that are equal up to 1 % lose two digits */

typedef enum { FORWARD, BACKWARD, RATIO, SHARE, KEYS_SECONDS, ROWS_SECONDS, ERROR, N_FIGURES } figure;

static const char *const names[N_FIGURES] = {
    [FORWARD] = "forward_seconds",        [BACKWARD] = "backward_seconds",      [RATIO] = "ratio", [SHARE] = "share",
    [KEYS_SECONDS] = "keys_core_seconds", [ROWS_SECONDS] = "rows_core_seconds", [ERROR] = "check",
};

/* <x, y>, |x|^2, |y|^2 and the number of elements. */
typedef struct {
    double product, x2, y2, n;
} inner;

typedef struct {
    launch_source *source;
    lucid_tensor with; /* the tensor that rows are multiplied with: Q, K, V or DOUT */
    inner sum;
} pairing;

/* A lucid_reader of inputs as fp32; dout is standard normal, made like q of another seed. */
static lucid_status read_wide(void *context, void *rows, lucid_tensor tensor, int batch, int head, int64_t first,
                              int n_tokens) {
    launch_source *source = context;
    int dim = launch_tensor_dim(&source->problem, tensor);
    if (tensor == LUCID_DOUT) {
        lucid_random random = {.seed = source->random.seed + 1};
        lucid_random_rows(rows, LUCID_F32, &random, LUCID_Q, batch, head, first, n_tokens, dim);
        return LUCID_OK;
    }
    float narrow[LUCID_MAX_HEAD_DIM];
    for (int i = 0; i < n_tokens; i++) {
        LUCID_TRY(launch_source_read(source, narrow, tensor, batch, head, first + i, 1));
        lucid_widen((float *)rows + (size_t)i * dim, narrow, source->dtypes[tensor], dim);
    }
    return LUCID_OK;
}

/* A lucid_writer: multiplies what it gets with the same rows of another tensor. */
static lucid_status multiply(void *context, const float *rows, lucid_tensor tensor, int batch, int head, int64_t first,
                             int n_tokens) {
    pairing *p = context;
    int dim = launch_tensor_dim(&p->source->problem, tensor);
    float other[LUCID_MAX_HEAD_DIM];
    for (int i = 0; i < n_tokens; i++) {
        LUCID_TRY(read_wide(p->source, other, p->with, batch, head, first + i, 1));
        for (int c = 0; c < dim; c++) {
            double x = rows[(size_t)i * dim + c], y = other[c];
            p->sum.product += x * y;
            p->sum.x2 += x * x;
            p->sum.y2 += y * y;
        }
        p->sum.n += dim;
    }
    return LUCID_OK;
}

/* Over all ranks. */
static lucid_status pair_tensors(inner *sum, launch_job *job, lucid_tensor tensor, lucid_tensor with) {
    pairing p = {.source = job->source, .with = with};
    LUCID_TRY(lucid_comm_agree(job->comm, lucid_attention_store(job->attention, tensor, multiply, &p)));
    double x[] = {p.sum.product, p.sum.x2, p.sum.y2, p.sum.n};
    LUCID_TRY(lucid_comm_allreduce(job->comm, x, 4, LUCID_SUM));
    *sum = (inner){x[0], x[1], x[2], x[3]};
    return LUCID_OK;
}

static double difference(const inner *a, const inner *b) {
    return fabs(a->product - b->product) / sqrt(a->x2 * a->y2 / a->n);
}

static lucid_status check_gradients(double *error, launch_job *job) {
    inner values, out, keys, queries;
    LUCID_TRY(pair_tensors(&values, job, LUCID_DV, LUCID_V));
    LUCID_TRY(pair_tensors(&out, job, LUCID_OUT, LUCID_DOUT));
    LUCID_TRY(pair_tensors(&keys, job, LUCID_DK, LUCID_K));
    LUCID_TRY(pair_tensors(&queries, job, LUCID_DQ, LUCID_Q));
    *error = difference(&values, &out);
    double of_keys = difference(&keys, &queries);
    if (job->source->problem.eps <= 1e-4 && !(of_keys <= *error)) *error = of_keys; /* NaN stays */
    if (*error <= CHECK_TOLERANCE) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INTERNAL,
                      "wrong gradients: <dv, v> - <dout, out> or <dk, k> - <dq, q> is off by %.2g, relatively", *error);
}

/* The last pass's slowest rank, and thread seconds of its phases over all ranks. */
static lucid_status pass_seconds(double *seconds, double phases[2], launch_job *job) {
    lucid_result r = lucid_attention_result(job->attention);
    phases[0] = r.phase[LUCID_PHASE_UPDATE] + r.phase[LUCID_PHASE_SOLVE];
    phases[1] = r.phase[LUCID_PHASE_ATTEND];
    *seconds = r.wall;
    LUCID_TRY(lucid_comm_allreduce(job->comm, seconds, 1, LUCID_MAX));
    return lucid_comm_allreduce(job->comm, phases, 2, LUCID_SUM);
}

static lucid_status measure(double *x, launch_job *job) {
    double phases[2];
    LUCID_TRY(launch_job_measure_peak(job));
    double peak = job->report.fma_peak;
    LUCID_TRY(launch_job_run(job));
    LUCID_TRY(pass_seconds(&x[FORWARD], phases, job));
    lucid_status status = lucid_attention_load(job->attention, LUCID_DOUT, LUCID_F32, read_wide, job->source);
    LUCID_TRY(lucid_comm_agree(job->comm, status));
    LUCID_TRY(launch_job_backward(job));
    LUCID_TRY(pass_seconds(&x[BACKWARD], phases, job));
    LUCID_TRY(launch_job_measure_peak(job));
    peak = (peak + job->report.fma_peak) / 2; /* this rank's */
    LUCID_TRY(lucid_comm_allreduce(job->comm, &peak, 1, LUCID_SUM));
    x[KEYS_SECONDS] = phases[0];
    x[ROWS_SECONDS] = phases[1];
    x[RATIO] = x[BACKWARD] / x[FORWARD];
    x[SHARE] = 2.5 * lucid_attention_plan(job->attention)->flops_total / (x[BACKWARD] * peak);
    return lucid_comm_agree(job->comm, check_gradients(&x[ERROR], job));
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void summarise(double *summary, double (*x)[N_FIGURES], double *sorted, int repeat) {
    for (int f = 0; f < N_FIGURES; f++) {
        for (int i = 0; i < repeat; i++) sorted[i] = x[i][f];
        qsort(sorted, (size_t)repeat, sizeof *sorted, compare);
        summary[f] = f == ERROR ? sorted[repeat - 1] : (sorted[repeat / 2] + sorted[(repeat - 1) / 2]) / 2;
    }
}

void launch_bench_backward_header(const launch_options *options, const lucid_comm *comm) {
    printf("# lucid bench --backward %s, commit %s, %s; medians of %" PRId64 " repetitions\n", LUCID_VERSION,
           LUCID_COMMIT, comm->description, options->repeat);
    printf("# outside the timers: making or reading the input, packing, allocation, the check\n");
    printf("# ratio: backward / forward seconds; share: 2.5 forward flops / (backward * %s) in %%\n",
           options->device == DEVICE_CUDA ? "rate of a bf16 matrix product by cuBLAS" : "FMA peak");
    printf("%-8s %-10s %-9s %-6s %5s %7s %9s %5s %3s %4s %4s %5s %9s %10s %6s %6s %9s %s\n", "variant", "layout",
           "transport", "isa", "ranks", "threads", "N", "heads", "kv", "d", "d_v", "tile", "forward_s", "backward_s",
           "ratio", "share%", "check", "commit");
}

static void print_row(const double *x, const launch_job *job) {
    const lucid_problem *p = &job->source->problem;
    const lucid_plan *plan = lucid_attention_plan(job->attention);
    printf("%-8s %-10s %-9s %-6s %5d %7d %9" PRId64 " %5d %3d %4d %4d %5" PRId64 " %9.4f %10.4f %6.2f %6.1f %9.1e %s\n",
           launch_attention_name(p->attention), launch_layout_name(plan->layout), job->comm->transport->name,
           lucid_attention_isa(job->attention), job->comm->world_size, job->run.threads, p->seqlen, p->n_heads,
           p->n_kv_heads, p->head_dim, p->value_dim, plan->tile, x[FORWARD], x[BACKWARD], x[RATIO], 100 * x[SHARE],
           x[ERROR], LUCID_COMMIT);
    fflush(stdout);
}

static json_t *row_json(const double *x, const launch_job *job) {
    const lucid_plan *plan = lucid_attention_plan(job->attention);
    json_t *figures = json_object();
    for (int f = 0; f < N_FIGURES; f++) json_object_set_new(figures, names[f], json_real(x[f]));
    return json_pack("{s:o, s:s, s:s, s:i, s:I, s:o}", "problem", launch_json_problem(job->source), "layout",
                     launch_layout_name(plan->layout), "isa", lucid_attention_isa(job->attention), "threads",
                     job->run.threads, "tile", (json_int_t)plan->tile, "median", figures);
}

static lucid_status measure_all(json_t *rows, double (*x)[N_FIGURES], double *sorted, launch_job *job) {
    double summary[N_FIGURES];
    int repeat = (int)job->options->repeat;
    for (int i = 0; i < repeat; i++) {
        LUCID_TRY(launch_job_load(job));
        LUCID_TRY(measure(x[i], job));
    }
    if (job->comm->rank != 0) return LUCID_OK;
    summarise(summary, x, sorted, repeat);
    if (!job->options->quiet) print_row(summary, job);
    json_array_append_new(rows, row_json(summary, job));
    return LUCID_OK;
}

lucid_status launch_bench_backward(json_t *rows, const launch_options *options, lucid_comm *comm,
                                   launch_source *source) {
    launch_job job = {0};
    double(*x)[N_FIGURES] = calloc((size_t)options->repeat, sizeof *x);
    double *sorted = calloc((size_t)options->repeat, sizeof *sorted);
    lucid_status status = x && sorted ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for the measurements");
    status = lucid_comm_agree(comm, status);
    if (!status) status = launch_job_plan(&job, options, comm, source);
    if (!status) status = launch_job_create(&job);
    if (!status) status = measure_all(rows, x, sorted, &job);
    launch_job_close(&job);
    free(x);
    free(sorted);
    return status;
}
