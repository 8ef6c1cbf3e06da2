#include "launch/job.h"

#include "launch/checkpoint.h"
#include "launch/peak.h"
#include "launch/place.h"
#include "launch/sink.h"
#include "runtime/memory.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

lucid_status launch_job_threads(int *threads, const launch_options *options, lucid_comm *comm) {
    char gpu[LAUNCH_ADDRESS_BYTES] = "";
    if (options->device == DEVICE_CUDA) lucid_device_address(gpu, sizeof gpu, comm->local_rank);
    *threads = (int)options->threads;
    return launch_place_ranks(threads, comm, gpu);
}

/* The least of all ranks, so that every rank plans the same run. */
static lucid_status agree_on_resources(launch_job *job) {
    lucid_memory memory = lucid_memory_read("");
    size_t share = lucid_memory_share(&memory, job->comm->local_size);
    job->report.memory_share = share == LUCID_MEMORY_UNLIMITED ? 0 : share > 0 ? share : 1;
    double least[] = {share == LUCID_MEMORY_UNLIMITED ? INFINITY : (double)job->report.memory_share,
                      -(double)lucid_memory_peak()};
    LUCID_TRY(lucid_comm_allreduce(job->comm, least, 2, LUCID_MIN));
    job->free_bytes = isinf(least[0]) ? 0 : (size_t)least[0];
    job->process_bytes = (size_t)-least[1];
    return launch_job_threads(&job->run.threads, job->options, job->comm);
}

lucid_options launch_job_options(const launch_options *o) {
    return (lucid_options){
        .isa = o->isa,
        .layout = o->layout,
        .schedule = o->schedule,
        .tile = o->tile,
        .memory_budget = (size_t)o->memory_budget,
        .channels = (int)o->channels,
        .cuda = o->device == DEVICE_CUDA,
        .timeout = o->timeout,
        .trace = o->trace != NULL,
        .backward = o->backward,
    };
}

/* The run is then told each choice, so that it does what was planned and found to fit. */
static void pin_plan(launch_job *job) {
    job->run.layout = job->plan.layout;
    job->run.schedule = job->plan.schedule;
    job->run.tile = job->plan.tile;
    job->run.channels = job->plan.channels;
    if (!job->run.memory_budget) job->run.memory_budget = job->plan.window_bytes;
}

lucid_status launch_job_plan(launch_job *job, const launch_options *options, lucid_comm *comm, launch_source *source) {
    *job = (launch_job){.options = options, .comm = comm, .source = source, .run = launch_job_options(options)};
    job->report.rank = comm->rank;
    snprintf(job->report.host, sizeof job->report.host, "%s", comm->host);
    LUCID_TRY(agree_on_resources(job));
    lucid_status status = lucid_plan_make(&job->plan, &source->problem, &job->run, comm->world_size, job->free_bytes);
    LUCID_TRY(lucid_comm_agree(comm, status));
    pin_plan(job);
    return LUCID_OK;
}

lucid_status launch_job_create(launch_job *job) {
    job->progress = launch_progress_make(job->options->progress, job->comm->rank, job->plan.flops_total);
    job->run.progress = launch_progress_update;
    job->run.progress_context = &job->progress;
    if (job->checkpoint) {
        job->run.hook = lucid_checkpoint_hook;
        job->run.hook_context = job->checkpoint;
    }
    lucid_status status = lucid_attention_create(&job->attention, job->comm, &job->source->problem, &job->run);
    return lucid_comm_agree(job->comm, status);
}

lucid_status launch_job_load(launch_job *job) {
    double begin = lucid_clock();
    lucid_comm_phase(job->comm, "reading the input");
    lucid_status status = launch_source_load(job->source, job->attention);
    job->report.load = lucid_clock() - begin;
    return lucid_comm_conclude(job->comm, status);
}

_Noreturn void launch_job_abort(launch_job *job) {
    launch_sink_discard();
    lucid_comm_abort(job->comm); /* comes back where there is no other rank to end */
    exit(1);
}

lucid_status launch_job_run(launch_job *job) {
    if (job->checkpoint) LUCID_TRY(launch_checkpoint_begin(job));
    if (job->announces) printf("%s\n", launch_place_line());
    fflush(stdout);
    launch_progress_begin(&job->progress);
    lucid_comm_phase(job->comm, "running attention");
    lucid_status status = lucid_attention_run(job->attention);
    launch_progress_end(&job->progress);
    const bool interrupted = status == LUCID_ERR_INTERRUPTED;
    if (status && !interrupted) launch_job_abort(job);
    if (job->checkpoint) return launch_checkpoint_end(job, interrupted);
    return lucid_comm_rendezvous(job->comm); /* a layout may give the ranks unequal work */
}

lucid_status launch_job_backward(launch_job *job) {
    lucid_comm_phase(job->comm, "running backward");
    if (lucid_attention_backward(job->attention)) launch_job_abort(job);
    return lucid_comm_rendezvous(job->comm);
}

lucid_status launch_job_measure_peak(launch_job *job) {
    lucid_comm_phase(job->comm, job->run.cuda ? "timing a matrix product" : "measuring the FMA peak");
    LUCID_TRY(lucid_comm_barrier(job->comm));
    lucid_status status = LUCID_OK;
    if (job->run.cuda)
        status = lucid_attention_device_peak(job->attention, &job->report.fma_peak);
    else
        job->report.fma_peak = launch_peak_measure(lucid_attention_kernels(job->attention), job->run.threads);
    return lucid_comm_agree(job->comm, status);
}

lucid_status launch_job_certify(lucid_certificate_result *certificate, launch_job *job) {
    lucid_comm_phase(job->comm, "certifying the result");
    return lucid_comm_agree(job->comm, lucid_certificate(job->attention, certificate));
}

/* The last run's numbers into the report. */
static void report_result(launch_job *job) {
    const lucid_result r = lucid_attention_result(job->attention);
    const lucid_plan *plan = lucid_attention_plan(job->attention);
    lucid_rank_report *report = &job->report;
    _Static_assert(LUCID_REPORT_PHASES == LUCID_N_PHASES, "the message has another number of phases");
    memcpy(report->phase, r.phase, sizeof report->phase);
    report->wall = r.wall;
    report->pack = r.pack;
    report->read = r.read;
    report->write = r.write;
    report->bytes_sent = r.bytes_sent;
    report->messages_sent = r.messages_sent;
    report->flops = r.flops;
    report->threads = r.threads;
    report->tensor_bytes = plan->tensor_bytes_max;
    report->window_bytes = plan->window_bytes;
    report->scratch_bytes = plan->scratch_bytes;
    report->memory_peak = lucid_memory_peak();
}

static lucid_status report_events(launch_job *job) {
    _Static_assert(LUCID_TRACE_MAX_EVENTS <= LUCID_REPORT_MAX_EVENTS, "a trace does not fit a message");
    int64_t n = 0;
    const lucid_event *events = job->run.trace ? lucid_attention_trace(job->attention, &n) : NULL;
    lucid_report_event *copies = calloc((size_t)n + 1, sizeof *copies);
    if (!copies) return lucid_fail(LUCID_ERR_MEMORY, "no memory for the trace's %" PRId64 " events", n);
    for (int64_t i = 0; i < n; i++) {
        const lucid_event *e = &events[i];
        copies[i] = (lucid_report_event){.begin = e->begin,
                                         .end = e->end,
                                         .phase = e->phase,
                                         .thread = e->thread,
                                         .channel = e->channel,
                                         .row = e->row,
                                         .first = e->first,
                                         .last = e->last};
    }
    job->report.events = copies;
    job->report.n_events = n;
    return LUCID_OK;
}

static lucid_status pack_report(uint8_t **bytes, size_t *n_bytes, launch_job *job) {
    report_result(job);
    LUCID_TRY(report_events(job));
    lucid_status status = lucid_message_pack_report(bytes, n_bytes, &job->report);
    free(job->report.events);
    job->report.events = NULL;
    job->report.n_events = 0;
    return status;
}

static lucid_status unpack_reports(lucid_rank_report **reports, const uint8_t *bytes, const size_t *n_bytes,
                                   int world_size) {
    lucid_rank_report *unpacked = calloc((size_t)world_size, sizeof *unpacked);
    if (!unpacked) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d reports", world_size);
    for (int r = 0; r < world_size; r++) {
        lucid_status status = lucid_message_unpack_report(&unpacked[r], bytes, n_bytes[r]);
        if (status) {
            launch_reports_free(unpacked, world_size);
            return status;
        }
        bytes += n_bytes[r];
    }
    *reports = unpacked;
    return LUCID_OK;
}

lucid_status launch_job_gather(lucid_rank_report **reports, launch_job *job) {
    lucid_comm *comm = job->comm;
    uint8_t *packed = NULL;
    void *gathered = NULL;
    lucid_comm_phase(comm, "gathering the summary");
    size_t packed_bytes = 0, *n_bytes = calloc((size_t)comm->world_size, sizeof *n_bytes);
    lucid_status status =
        n_bytes ? pack_report(&packed, &packed_bytes, job) : lucid_fail(LUCID_ERR_MEMORY, "no memory for the summary");
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), free_all);
    LUCID_TRY_GOTO(lucid_comm_gather(comm, packed, packed_bytes, &gathered, n_bytes, 0), free_all);
    if (comm->rank == 0) status = unpack_reports(reports, gathered, n_bytes, comm->world_size);
    status = lucid_comm_agree(comm, status);
free_all:
    free(gathered);
    free(packed);
    free(n_bytes);
    return status;
}

void launch_reports_free(lucid_rank_report *reports, int world_size) {
    for (int r = 0; reports && r < world_size; r++) free(reports[r].events);
    free(reports);
}

size_t launch_job_planned_bytes(const launch_job *job) {
    return job->process_bytes + job->plan.tensor_bytes_max + job->plan.window_bytes + job->plan.scratch_bytes;
}

void launch_job_close(launch_job *job) {
    lucid_attention_destroy(job->attention);
    job->attention = NULL;
}
