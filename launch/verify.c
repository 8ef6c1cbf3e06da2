/* lucid verify: a run, judged head by head by the dense fp64 oracle and, where it can be had, by ScaLAPACK's triangular
 * solver on a P that is written out. Exit code 1 above tolerance.
 *
 * Tolerances, u = 2^-24: an entry of P has a relative error of about the absolute error of its exponent, which is a sum
 * of d products and at most sqrt(d) large: 2 u sqrt(d). A row adds up N of them with signs at random, sqrt(N); the
 * inverse of P is at most 2 in norm, and the worst row is about 4 times the root mean square. So 16 u sqrt(d N) for y,
 * as much for out, a weighted mean of y. An lse errs by its scores' rounding, sqrt(d) u, relative to their size: 16 u
 * sqrt(d) max(1, |lse|). A run that leaves out the solve is off by 0.04 and more. */
#include "runtime/verify/verify.h"

#include "launch/collect.h"
#include "launch/commands.h"
#include "launch/report.h"

#include <math.h>
#include <stdlib.h>

typedef struct {
    lucid_verify_errors dense;
    double scalapack; /* of y; NAN when it did not run */
} verdict;

typedef struct {
    double y, out, lse;
    const char *reason; /* of y and out */
} tolerances;

static tolerances tolerances_of(const launch_job *job, const launch_collection *c) {
    const lucid_problem *p = &job->source->problem;
    double u = ldexp(1, -24), sqrt_d = sqrt(p->head_dim), largest = 1;
    int64_t n = (int64_t)p->batch * p->n_heads * p->seqlen;
    for (int64_t i = 0; c->tensors[LUCID_LSE] && i < n; i++)
        if (isfinite(c->tensors[LUCID_LSE][i])) largest = fmax(largest, fabsf(c->tensors[LUCID_LSE][i]));
    double y = 16 * u * sqrt_d * sqrt((double)p->seqlen);
    tolerances t = {y, y, 16 * u * sqrt_d * largest, "16 u sqrt(d N), u = 2^-24"};
    if (job->run.cuda && job->source->dtypes[LUCID_K] != LUCID_F32 && y < 1e-2) {
        t.y = t.out = 1e-2;
        t.reason = "weights and y of 16 bits in matrix products";
    }
    return t;
}

static const float *part(const launch_collection *c, const lucid_problem *p, lucid_tensor tensor, int batch, int head) {
    if (!c->tensors[tensor]) return NULL;
    return c->tensors[tensor] + launch_tensor_row(p, tensor, batch, head, 0) * launch_tensor_dim(p, tensor);
}

static lucid_verify_head head_of(const launch_collection *c, const lucid_problem *p, int batch, int kv_head) {
    int group = p->n_heads / p->n_kv_heads;
    return (lucid_verify_head){
        .attention = p->attention,
        .seqlen = p->seqlen,
        .head_dim = p->head_dim,
        .value_dim = p->value_dim,
        .n_queries = group,
        .softmax_scale = p->softmax_scale,
        .eps = p->eps,
        .q = part(c, p, LUCID_Q, batch, kv_head * group),
        .k = part(c, p, LUCID_K, batch, kv_head),
        .v = part(c, p, LUCID_V, batch, kv_head),
        .y = part(c, p, LUCID_Y, batch, kv_head),
        .out = part(c, p, LUCID_OUT, batch, kv_head * group),
        .lse = part(c, p, LUCID_LSE, batch, kv_head * group),
    };
}

/* NaN is the worst of all. */
static double worse(double a, double b) {
    return isnan(a) || a > b ? a : b;
}

/* Only where every rank has it. */
static lucid_status find_scalapack(bool *runs, const launch_job *job) {
    double found = job->source->problem.attention == LUCID_ATTENTION_LUCID && !lucid_scalapack_missing(job->comm);
    LUCID_TRY(lucid_comm_allreduce(job->comm, &found, 1, LUCID_MIN));
    *runs = found != 0;
    return LUCID_OK;
}

static lucid_status judge_head(verdict *v, launch_job *job, const lucid_verify_head *head) {
    lucid_verify_errors errors;
    LUCID_TRY(lucid_comm_agree(job->comm, lucid_verify_dense(&errors, job->comm, head)));
    v->dense.y = worse(errors.y, v->dense.y);
    v->dense.out = worse(errors.out, v->dense.out);
    v->dense.lse = worse(errors.lse, v->dense.lse);
    if (isnan(v->scalapack)) return LUCID_OK;
    double y_error;
    LUCID_TRY(lucid_comm_agree(job->comm, lucid_verify_scalapack(&y_error, job->comm, head, job->free_bytes)));
    v->scalapack = worse(y_error, v->scalapack);
    return LUCID_OK;
}

static lucid_status judge(verdict *v, launch_job *job, const launch_collection *c) {
    const lucid_problem *p = &job->source->problem;
    bool scalapack;
    LUCID_TRY(find_scalapack(&scalapack, job));
    *v = (verdict){.scalapack = scalapack ? 0 : NAN};
    for (int batch = 0; batch < p->batch; batch++)
        for (int kv_head = 0; kv_head < p->n_kv_heads; kv_head++) {
            lucid_verify_head head = head_of(c, p, batch, kv_head);
            LUCID_TRY(judge_head(v, job, &head));
        }
    return LUCID_OK;
}

static int print_error(const char *name, const char *reference, double error, double tolerance, const char *reason) {
    bool passed = error <= tolerance; /* NaN fails */
    printf("  %-4s %-10s %.2e  tolerance %.1e (%s)%s\n", name, reference, error, tolerance, reason,
           passed ? "" : "  FAILED");
    return !passed;
}

/* The number of failed comparisons. */
static int print_verdict(const verdict *v, const tolerances *t, const launch_job *job) {
    bool lucid = job->source->problem.attention == LUCID_ATTENTION_LUCID;
    int failed = 0;
    printf("row-wise errors against fp64 references\n");
    if (lucid) failed += print_error("y", "dense", v->dense.y, t->y, t->reason);
    if (!isnan(v->scalapack)) failed += print_error("y", "ScaLAPACK", v->scalapack, t->y, t->reason);
    failed += print_error("out", "dense", v->dense.out, t->out, t->reason);
    failed += print_error("lse", "dense", v->dense.lse, t->lse, "16 u sqrt(d) max |lse|");
    const char *missing = lucid && isnan(v->scalapack) ? lucid_scalapack_missing(job->comm) : "";
    if (lucid && isnan(v->scalapack))
        printf("  ScaLAPACK was not asked: %s\n", missing ? missing : "another rank does not have it");
    return failed;
}

static json_t *verdict_json(const verdict *v, const tolerances *t) {
    return json_pack("{s:o, s:o, s:o, s:o, s:f, s:f, s:f}", "y_error", launch_json_number(v->dense.y), "out_error",
                     launch_json_number(v->dense.out), "lse_error", launch_json_number(v->dense.lse),
                     "y_error_scalapack", launch_json_number(v->scalapack), "y_tolerance", t->y, "out_tolerance",
                     t->out, "lse_tolerance", t->lse);
}

static lucid_status report(launch_job *job, const lucid_rank_report *ranks, const lucid_certificate_result *certificate,
                           const verdict *v, const tolerances *t) {
    launch_report summary = {.job = job, .ranks = ranks, .certificate = certificate};
    if (!job->options->quiet) launch_report_print(stdout, &summary);
    int failed = print_verdict(v, t, job);
    if (job->options->report) {
        json_t *json = launch_report_json(&summary);
        json_object_set_new(json, "verification", verdict_json(v, t));
        LUCID_TRY(launch_json_write(json, job->options->report));
    }
    if (!failed) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INTERNAL, "verification failed: %d error%s above tolerance", failed,
                      failed == 1 ? "" : "s");
}

static lucid_status conclude(launch_job *job, const lucid_certificate_result *certificate, const verdict *v,
                             const tolerances *t) {
    lucid_rank_report *ranks = NULL;
    LUCID_TRY(launch_job_gather(&ranks, job));
    lucid_status status = job->comm->rank == 0 ? report(job, ranks, certificate, v, t) : LUCID_OK;
    launch_reports_free(ranks, job->comm->world_size);
    return lucid_comm_agree(job->comm, status);
}

static lucid_status verify(launch_job *job, launch_collection *collection) {
    lucid_certificate_result certificate;
    verdict v;
    LUCID_TRY(launch_job_create(job));
    LUCID_TRY(launch_job_load(job));
    LUCID_TRY(launch_job_run(job));
    LUCID_TRY(launch_job_measure_peak(job));
    LUCID_TRY(launch_job_certify(&certificate, job));
    LUCID_TRY(launch_collect(collection, job));
    LUCID_TRY(judge(&v, job, collection));
    tolerances t = tolerances_of(job, collection);
    return conclude(job, &certificate, &v, &t);
}

lucid_status launch_verify(const launch_options *options, lucid_comm *comm) {
    launch_source source = {0};
    launch_collection collection = {0};
    launch_job job = {0};
    lucid_status status = launch_source_open(&source, options);
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), close);
    LUCID_TRY_GOTO(launch_job_plan(&job, options, comm, &source), close);
    status = verify(&job, &collection);
close:
    launch_collection_free(&collection);
    launch_job_close(&job);
    launch_source_close(&source);
    return status;
}
