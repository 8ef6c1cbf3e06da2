/* lucid attend: read or make q, k, v; run; certify; write; sum up. Whatever can be refused is refused before the long
 * run: the input's shapes, a plan that does not fit, an output that cannot be created. */
#include "launch/checkpoint.h"
#include "launch/commands.h"
#include "launch/job.h"
#include "launch/peak.h"
#include "launch/place.h"
#include "launch/report.h"
#include "launch/sink.h"
#include "launch/trace.h"
#include "launch/version.h"

#include <inttypes.h>
#include <stdlib.h>

/* Share of the FMA peak that --plan expects of a run. Runs report theirs, so this can be checked. */
#define EXPECTED_SHARE 0.85

static void print_plan(const launch_job *job, double peak) {
    const lucid_plan *p = &job->plan;
    char a[32], b[32], c[32];
    printf("  algorithm   %s, %s, %" PRId64 " tiles of %" PRId64 " tokens, %d channels, window of %d tiles%s\n",
           launch_schedule_name(p->schedule), launch_layout_name(p->layout), p->n_tiles, p->tile, p->channels,
           p->window_tiles, p->second_round ? ", tiles come round twice" : "");
    printf("  memory      %s: tensors %s, remote tiles %s", launch_bytes_text(a, (double)launch_job_planned_bytes(job)),
           launch_bytes_text(b, (double)p->tensor_bytes_max), launch_bytes_text(c, (double)p->window_bytes));
    printf(", scratch %s, process %s;", launch_bytes_text(a, (double)p->scratch_bytes),
           launch_bytes_text(b, (double)job->process_bytes));
    printf(" free %s\n", job->free_bytes ? launch_bytes_text(b, (double)job->free_bytes) : "unlimited");
    printf("  sends       %s in %" PRId64 " messages\n", launch_bytes_text(a, p->bytes_sent_max), p->messages_max);
    printf("  work        %.4g Gflop of %.4g in all\n", 1e-9 * p->flops_max, 1e-9 * p->flops_total);
    printf("  time        about %.3g s, at %.0f %% of a measured FMA peak of %.1f Gflop/s\n",
           p->flops_max / (EXPECTED_SHARE * peak), 100 * EXPECTED_SHARE, 1e-9 * peak);
}

/* The slowest rank's peak, since that rank would hold up the others. */
static lucid_status plan_only(launch_job *job) {
    const lucid_kernels *kernels = lucid_kernels_find(job->run.isa);
    lucid_status status =
        kernels ? LUCID_OK : lucid_fail(LUCID_ERR_USAGE, "--isa: this machine has no %s", job->run.isa);
    LUCID_TRY(lucid_comm_agree(job->comm, status));
    double peak = launch_peak_measure(kernels, job->run.threads);
    LUCID_TRY(lucid_comm_allreduce(job->comm, &peak, 1, LUCID_MIN));
    if (job->comm->rank) return LUCID_OK;
    printf("Plan for %d rank%s of %d thread%s; each line is for the busiest rank.\n", job->comm->world_size,
           job->comm->world_size == 1 ? "" : "s", job->run.threads, job->run.threads == 1 ? "" : "s");
    print_plan(job, peak);
    return LUCID_OK;
}

static lucid_dtype out_dtype(const launch_options *options, const launch_source *source) {
    switch (options->out_dtype) {
    case OUT_DTYPE_F32:
        return LUCID_F32;
    case OUT_DTYPE_BF16:
        return LUCID_BF16;
    case OUT_DTYPE_F16:
        return LUCID_F16;
    default:
        return source->dtypes[LUCID_Q];
    }
}

static lucid_status open_sink(launch_sink *sink, const launch_job *job) {
    const launch_options *options = job->options;
    if (!options->output) return LUCID_OK;
    const lucid_safetensors_pair metadata[] = {
        {"producer", "lucid " LUCID_VERSION " (" LUCID_COMMIT ")"},
        {"attention", launch_attention_name(job->source->problem.attention)},
    };
    launch_sink_options sink_options = {
        .path = options->output,
        .job_id = options->job_id,
        .problem = &job->source->problem,
        .holds = {[LUCID_OUT] = options->save & SAVE_OUT,
                  [LUCID_Y] = options->save & SAVE_Y,
                  [LUCID_LSE] = options->save & SAVE_LSE},
        .dtype = out_dtype(options, job->source),
        .batched = job->source->batched,
        .metadata = metadata,
        .n_metadata = sizeof metadata / sizeof *metadata,
        .input = job->source->file,
    };
    return launch_sink_open(sink, job->comm, &sink_options);
}

static lucid_status store(launch_sink *sink, launch_job *job) {
    if (!sink->writer) return LUCID_OK;
    double begin = launch_clock();
    lucid_comm_phase(job->comm, "writing the output");
    lucid_status status = launch_sink_store(sink, job->attention);
    LUCID_TRY(lucid_comm_agree(job->comm, status));
    LUCID_TRY(launch_sink_commit(sink, job->comm));
    job->report.store = launch_clock() - begin;
    return LUCID_OK;
}

static lucid_status sum_up(launch_job *job, const lucid_certificate_result *certificate) {
    const launch_options *options = job->options;
    lucid_rank_report *ranks = NULL;
    LUCID_TRY(launch_job_gather(&ranks, job));
    launch_report report = {.job = job, .ranks = ranks, .certificate = certificate};
    lucid_status status = LUCID_OK;
    if (job->comm->rank == 0) {
        if (!options->quiet) launch_report_print(stdout, &report);
        if (options->report) status = launch_json_write(launch_report_json(&report), options->report);
        if (!status && options->trace) status = launch_trace_write(options->trace, ranks, job->comm->world_size);
    }
    launch_reports_free(ranks, job->comm->world_size);
    return lucid_comm_agree(job->comm, status);
}

static lucid_status attend(launch_job *job, launch_sink *sink) {
    lucid_certificate_result certificate;
    if (job->comm->rank == 0 && !job->options->quiet) printf("%s\n", launch_place_line());
    LUCID_TRY(open_sink(sink, job));
    LUCID_TRY(launch_job_create(job));
    LUCID_TRY(launch_job_load(job));
    LUCID_TRY(launch_job_run(job));
    LUCID_TRY(launch_job_measure_peak(job));
    LUCID_TRY(launch_job_certify(&certificate, job));
    LUCID_TRY(store(sink, job));
    if (job->checkpoint) lucid_checkpoint_remove(job->checkpoint);
    return sum_up(job, &certificate);
}

lucid_status launch_attend(const launch_options *asked, lucid_comm *comm) {
    launch_options options = *asked;
    launch_source source = {0};
    launch_sink sink = {0};
    launch_job job = {0};
    lucid_checkpoint *checkpoint = NULL;
    lucid_status status = launch_source_open(&source, &options);
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), close);
    if (!options.plan) LUCID_TRY_GOTO(launch_checkpoint_open(&checkpoint, &options, comm, &source), close);
    LUCID_TRY_GOTO(launch_job_plan(&job, &options, comm, &source), close);
    job.checkpoint = checkpoint;
    status = options.plan ? plan_only(&job) : attend(&job, &sink);
close:
    lucid_checkpoint_close(checkpoint); /* its thread reads the attention */
    launch_job_close(&job);
    launch_sink_close(&sink);
    launch_source_close(&source);
    return status;
}
