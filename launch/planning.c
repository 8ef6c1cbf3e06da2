#include "launch/planning.h"

#include "launch/machine.h"
#include "launch/peak.h"
#include "launch/place.h"
#include "launch/report.h"

#include <inttypes.h>

static void print_plan(const lucid_plan *p, const launch_job *job, size_t free_bytes) {
    char a[32], b[32], c[32];
    size_t planned = job->process_bytes + p->tensor_bytes_max + p->window_bytes + p->scratch_bytes;
    printf("  algorithm   %s, %s, %" PRId64 " tiles of %" PRId64 " tokens, %d channels, window of %d tiles%s\n",
           launch_schedule_name(p->schedule), launch_layout_name(p->layout), p->n_tiles, p->tile, p->channels,
           p->window_tiles, p->second_round ? ", tiles come round twice" : "");
    printf("  memory      %s: tensors %s, remote tiles %s", launch_bytes_text(a, (double)planned),
           launch_bytes_text(b, (double)p->tensor_bytes_max), launch_bytes_text(c, (double)p->window_bytes));
    printf(", scratch %s, process %s;", launch_bytes_text(a, (double)p->scratch_bytes),
           launch_bytes_text(b, (double)job->process_bytes));
    printf(" free %s\n", free_bytes ? launch_bytes_text(b, (double)free_bytes) : "unlimited");
    printf("  sends       %s in %" PRId64 " messages\n", launch_bytes_text(a, p->bytes_sent_max), p->messages_max);
    printf("  work        %.4g Gflop of %.4g in all\n", 1e-9 * p->flops_max, 1e-9 * p->flops_total);
}

static void print_title(int n_ranks, int threads) {
    printf("Plan for %d rank%s of %d thread%s; each line is for the busiest rank.\n", n_ranks, n_ranks == 1 ? "" : "s",
           threads, threads == 1 ? "" : "s");
}

/* On the ranks that are here, by the slowest one's peak, since that rank would hold up the others. */
static lucid_status plan_here(launch_job *job) {
    const lucid_kernels *kernels = lucid_kernels_find(job->run.isa);
    lucid_status status =
        kernels ? LUCID_OK : lucid_fail(LUCID_ERR_USAGE, "--isa: this machine has no %s", job->run.isa);
    LUCID_TRY(lucid_comm_agree(job->comm, status));
    double peak = launch_peak_measure(kernels, job->run.threads);
    LUCID_TRY(lucid_comm_allreduce(job->comm, &peak, 1, LUCID_MIN));
    if (job->comm->rank) return LUCID_OK;
    print_title(job->comm->world_size, job->run.threads);
    print_plan(&job->plan, job, job->free_bytes);
    printf("  time        about %.3g s, at %.0f %% of a measured FMA peak of %.1f Gflop/s\n",
           job->plan.flops_max / (LAUNCH_EXPECTED_SHARE * peak), 100 * LAUNCH_EXPECTED_SHARE, 1e-9 * peak);
    return LUCID_OK;
}

static void print_expectation(const launch_expectation *e, const launch_machine *m) {
    printf("  machine     %s: %s\n", m->name, m->description);
    printf("  placement   %d node%s, %d rank%s each of %.3g cores\n", e->n_nodes, e->n_nodes == 1 ? "" : "s",
           e->ranks_per_node, e->ranks_per_node == 1 ? "" : "s", e->cores);
    printf("  time        about %.3g s: work %.3g s at %.0f %% of %.4g Gflop/s, at once with transfers of %.3g s\n",
           e->work > e->transfers ? e->work : e->transfers, e->work, 100 * LAUNCH_EXPECTED_SHARE,
           1e-9 * e->cores * m->core_flops, e->transfers);
    if (m->gpus)
        printf("              on its processors; its %d GPUs a node (--device cuda) are not planned for\n", m->gpus);
}

/* On rank 0 alone. The plan is made anew: another number of ranks, of threads, and of bytes. */
static lucid_status plan_elsewhere(const launch_job *job) {
    const launch_options *options = job->options;
    launch_machine machine;
    LUCID_TRY(launch_machine_read(&machine, options->machine));
    int n_ranks = options->ranks ? (int)options->ranks : job->comm->world_size;
    launch_expectation expected = launch_machine_expect(&machine, &job->plan, n_ranks);
    size_t free_bytes = (size_t)(machine.memory_gib * 0x1p30 / expected.ranks_per_node);
    lucid_options run = launch_job_options(options);
    run.threads = options->threads ? (int)options->threads : expected.cores > 1 ? (int)expected.cores : 1;
    lucid_plan plan;
    LUCID_TRY(lucid_plan_make(&plan, &job->source->problem, &run, n_ranks, free_bytes));
    expected = launch_machine_expect(&machine, &plan, n_ranks);
    print_title(n_ranks, run.threads);
    print_plan(&plan, job, free_bytes);
    print_expectation(&expected, &machine);
    return LUCID_OK;
}

lucid_status launch_planning(launch_job *job) {
    if (!job->options->machine) return plan_here(job);
    return lucid_comm_agree(job->comm, job->comm->rank ? LUCID_OK : plan_elsewhere(job));
}

lucid_status launch_planning_check_host(const launch_options *options) {
    launch_machine machine;
    if (!options->machine) return LUCID_OK;
    LUCID_TRY(launch_machine_read(&machine, options->machine));
    launch_machine_compare(stderr, &machine, launch_place_here());
    return LUCID_OK;
}
