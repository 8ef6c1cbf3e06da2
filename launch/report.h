/* The summary of a run: as text on stdout and as JSON, both from one structure, on rank 0 alone. */
#ifndef LUCID_LAUNCH_REPORT_H
#define LUCID_LAUNCH_REPORT_H

#include "launch/job.h"
#include "launch/session.h"

#include <jansson.h>

typedef struct {
    const launch_job *job;
    const lucid_rank_report *ranks; /* world_size */
    const lucid_certificate_result *certificate;
} launch_report;

/* A quantity over ranks. */
typedef struct {
    double max, median, sum;
    int rank_max;
} launch_spread;

/* Of the doubles at `offset` bytes into each of n reports. */
launch_spread launch_spread_of(const lucid_rank_report *ranks, int n, size_t offset);

/* What the summary derives; formulas are in README.md. */
typedef struct {
    double flops;      /* of all ranks */
    double rate;       /* flops / slowest rank's wall */
    double peak;       /* sum of the ranks' measured FMA peaks */
    double efficiency; /* busy thread seconds / (threads * slowest rank's wall) */
} launch_figures;
launch_figures launch_figures_of(const lucid_rank_report *ranks, int n);

void launch_report_print(FILE *stream, const launch_report *report);
/* A line each of what reading took and of memory. */
void launch_measures_print(FILE *stream, const launch_measures *measures);
/* A new reference. */
json_t *launch_report_json(const launch_report *report);

/* Version, commit, host, time and the options of this run. A new reference. */
json_t *launch_json_header(const launch_options *options, const lucid_comm *comm);
json_t *launch_json_problem(const launch_source *source);
json_t *launch_json_certificate(const lucid_certificate_result *certificate);

json_t *launch_json_measures(const launch_measures *measures);

/* null where x is no finite number, which JSON cannot say. A new reference. */
json_t *launch_json_number(double x);

/* Writes json to path, complete or not at all, and drops the reference. Errors: IO, MEMORY. */
lucid_status launch_json_write(json_t *json, const char *path);

const char *launch_layout_name(lucid_layout_kind layout);
const char *launch_schedule_name(lucid_schedule_kind schedule);
const char *launch_phase_name(int phase); /* a lucid_phase */
const char *launch_attention_name(lucid_attention_kind attention);

/* "1.50 GiB" in text, which holds 32 characters. */
const char *launch_bytes_text(char *text, double bytes);

#endif
