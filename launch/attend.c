/* lucid attend: read or make q, k, v; run; certify; write; sum up. Whatever can be refused is refused before the long
 * run: the input's shapes, a plan that does not fit, an output that cannot be created. */
#include "launch/checkpoint.h"
#include "launch/commands.h"
#include "launch/job.h"
#include "launch/planning.h"
#include "launch/report.h"
#include "launch/sink.h"
#include "launch/trace.h"
#include "launch/version.h"

#include <inttypes.h>
#include <stdlib.h>

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
        {"producer", "lucid " LUCID_BUILD},
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
    double begin = lucid_clock();
    lucid_comm_phase(job->comm, "writing the output");
    lucid_status status = launch_sink_store(sink, job->attention);
    LUCID_TRY(lucid_comm_conclude(job->comm, status));
    LUCID_TRY(launch_sink_commit(sink, job->comm));
    job->report.store = lucid_clock() - begin;
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
    LUCID_TRY(lucid_comm_agree(job->comm, job->comm->rank ? LUCID_OK : launch_planning_check_host(job->options)));
    job->announces = job->comm->rank == 0 && !job->options->quiet;
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
    status = options.plan ? launch_planning(&job) : attend(&job, &sink);
close:
    lucid_checkpoint_close(checkpoint); /* its thread reads the attention */
    launch_job_close(&job);
    launch_sink_close(&sink);
    launch_source_close(&source);
    return status;
}
