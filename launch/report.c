#include "launch/report.h"

#include "launch/file.h"
#include "launch/version.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define SLOW 1.1 /* times the median: worth naming the rank */

const char *launch_phase_name(int phase) {
    static const char *const phases[LUCID_N_PHASES] = {
        [LUCID_PHASE_UPDATE] = "update", [LUCID_PHASE_SOLVE] = "solve", [LUCID_PHASE_ATTEND] = "attend",
        [LUCID_PHASE_COMM] = "comm",     [LUCID_PHASE_WAIT] = "wait",
    };
    return phase >= 0 && phase < LUCID_N_PHASES ? phases[phase] : "unknown";
}

const char *launch_layout_name(lucid_layout_kind layout) {
    static const char *const layouts[] = {"auto", "contiguous", "zigzag", "cyclic"};
    return layouts[layout];
}

const char *launch_schedule_name(lucid_schedule_kind schedule) {
    static const char *const schedules[] = {"auto", "pipelined", "fused"};
    return schedules[schedule];
}

const char *launch_attention_name(lucid_attention_kind attention) {
    return attention == LUCID_ATTENTION_LUCID ? "lucid" : "softmax";
}

const char *launch_bytes_text(char *text, double bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int unit = 0;
    for (; bytes >= 1024 && unit < 5; unit++) bytes /= 1024;
    snprintf(text, 32, unit ? "%.2f %s" : "%.0f %s", bytes, units[unit]);
    return text;
}

/* ---- Figures ---- */

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, compare_doubles);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

launch_spread launch_spread_of(const lucid_rank_report *ranks, int n, size_t offset) {
    launch_spread s = {.max = -INFINITY, .median = NAN};
    double *sorted = malloc((size_t)n * sizeof *sorted);
    for (int r = 0; r < n; r++) {
        double x = *(const double *)((const char *)&ranks[r] + offset);
        s.sum += x;
        if (x > s.max) s.max = x, s.rank_max = r;
        if (sorted) sorted[r] = x;
    }
    if (sorted) s.median = median_of(sorted, n);
    free(sorted);
    return s;
}

static size_t phase_offset(int phase) {
    return offsetof(lucid_rank_report, phase) + (size_t)phase * sizeof(double);
}

launch_figures launch_figures_of(const lucid_rank_report *ranks, int n) {
    launch_figures f = {0};
    double busy = 0, threads = 0, wall = launch_spread_of(ranks, n, offsetof(lucid_rank_report, wall)).max;
    for (int r = 0; r < n; r++) {
        const lucid_rank_report *result = &ranks[r];
        f.flops += result->flops;
        f.peak += ranks[r].fma_peak;
        threads += result->threads;
        busy +=
            result->phase[LUCID_PHASE_UPDATE] + result->phase[LUCID_PHASE_SOLVE] + result->phase[LUCID_PHASE_ATTEND];
    }
    f.rate = f.flops / wall;
    f.efficiency = busy / (threads * wall);
    return f;
}

/* ---- Text ---- */

static int count_hosts(const lucid_rank_report *ranks, int n) {
    int count = 0;
    for (int r = 0; r < n; r++) {
        int earlier = 0;
        while (earlier < r && strcmp(ranks[earlier].host, ranks[r].host)) earlier++;
        count += earlier == r;
    }
    return count;
}

static const char *plural(int64_t n) {
    return n == 1 ? "" : "s";
}

static void print_problem(FILE *f, const launch_job *job) {
    const lucid_problem *p = &job->source->problem;
    fprintf(f, "%s attention over %" PRId64 " tokens: %d sequence%s, %d head%s, %d key-value head%s, head_dim %d",
            p->attention == LUCID_ATTENTION_LUCID ? "LUCID" : "softmax", p->seqlen, p->batch, plural(p->batch),
            p->n_heads, plural(p->n_heads), p->n_kv_heads, plural(p->n_kv_heads), p->head_dim);
    if (p->value_dim != p->head_dim) fprintf(f, " (v: %d)", p->value_dim);
    fprintf(f, ", %s\n", launch_dtype_name(job->source->dtypes[LUCID_Q]));
}

static void print_choices(FILE *f, const launch_report *report) {
    const launch_job *job = report->job;
    const lucid_plan *plan = lucid_attention_plan(job->attention);
    int n = job->comm->world_size, hosts = count_hosts(report->ranks, n);
    fprintf(f, "  ranks       %d on %d host%s, %d thread%s each, %s, %s\n", n, hosts, plural(hosts), job->run.threads,
            plural(job->run.threads), lucid_attention_isa(job->attention), job->comm->description);
    fprintf(f, "  algorithm   %s, %s, %" PRId64 " tile%s of %" PRId64 " tokens, %d channel%s\n",
            launch_schedule_name(plan->schedule), launch_layout_name(plan->layout), plan->n_tiles,
            plural(plan->n_tiles), plan->tile, plan->channels, plural(plan->channels));
}

static void print_time(FILE *f, const launch_report *report, const char *name, size_t offset, double divisor) {
    int n = report->job->comm->world_size;
    launch_spread s = launch_spread_of(report->ranks, n, offset);
    fprintf(f, "    %-9s %9.3f s", name, s.max / divisor);
    if (s.max > SLOW * s.median && s.max / divisor > 1e-3)
        fprintf(f, "   rank %d on %s, median %.3f s", s.rank_max, report->ranks[s.rank_max].host, s.median / divisor);
    fputc('\n', f);
}

static void print_times(FILE *f, const launch_report *report) {
    fprintf(f, "  time, the slowest rank's\n");
    print_time(f, report, "load", offsetof(lucid_rank_report, load), 1);
    print_time(f, report, "  pack", offsetof(lucid_rank_report, pack), 1);
    print_time(f, report, "run", offsetof(lucid_rank_report, wall), 1);
    for (int phase = 0; phase < LUCID_N_PHASES; phase++) {
        char name[32];
        snprintf(name, sizeof name, "  %s", launch_phase_name(phase));
        print_time(f, report, name, phase_offset(phase), report->job->run.threads);
    }
    if (report->job->options->output) print_time(f, report, "store", offsetof(lucid_rank_report, store), 1);
}

static void print_figures(FILE *f, const launch_report *report) {
    int n = report->job->comm->world_size;
    launch_figures g = launch_figures_of(report->ranks, n);
    launch_spread sent = launch_spread_of(report->ranks, n, offsetof(lucid_rank_report, bytes_sent));
    int64_t messages = 0;
    int largest = 0;
    for (int r = 0; r < n; r++) {
        messages += report->ranks[r].messages_sent;
        if (report->ranks[r].memory_peak > report->ranks[largest].memory_peak) largest = r;
    }
    char text[32];
    fprintf(f, "  rate        %.1f Gflop/s, %.1f %% of the measured %s of %.1f Gflop/s\n", 1e-9 * g.rate,
            100 * g.rate / g.peak, report->job->run.cuda ? "bf16 matrix product" : "FMA peak", 1e-9 * g.peak);
    fprintf(f, "  efficiency  %.3f (busy thread time / all thread time of run)\n", g.efficiency);
    fprintf(f, "  sent        %s in %" PRId64 " message%s, all ranks\n", launch_bytes_text(text, sent.sum), messages,
            plural(messages));
    char planned[32];
    fprintf(f, "  memory      %s at most, rank %d; planned %s\n",
            launch_bytes_text(text, (double)report->ranks[largest].memory_peak), largest,
            launch_bytes_text(planned, (double)launch_job_planned_bytes(report->job)));
}

static void print_certificate(FILE *f, const launch_report *report) {
    const lucid_certificate_result *c = report->certificate;
    fprintf(f, "  certificate %d rows in fp64, %.3f s: ", c->rows, c->seconds);
    if (report->job->source->problem.attention == LUCID_ATTENTION_LUCID)
        fprintf(f, "|PY-V|/|V| %.1e, |Y|/|V| %.2f (at most 2), ", c->residual, c->growth);
    fprintf(f, "out %.1e, lse %.1e\n", c->out_error, c->lse_error);
}

void launch_report_print(FILE *stream, const launch_report *report) {
    print_problem(stream, report->job);
    print_choices(stream, report);
    print_times(stream, report);
    print_figures(stream, report);
    print_certificate(stream, report);
    if (report->job->options->output) fprintf(stream, "  output      %s\n", report->job->options->output);
}

/* ---- JSON ---- */

json_t *launch_json_number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

static void add_option(void *context, const char *name, const char *value) {
    json_object_set_new(context, name, value ? json_string(value) : json_null());
}

json_t *launch_json_header(const launch_options *options, const lucid_comm *comm) {
    json_t *values = json_object();
    launch_options_visit(options, add_option, values);
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:o}", "command", launch_command_name(options->command), "version",
                     LUCID_VERSION, "commit", LUCID_COMMIT, "transport", comm->description, "world_size",
                     comm->world_size, "options", values);
}

json_t *launch_json_problem(const launch_source *source) {
    const lucid_problem *p = &source->problem;
    return json_pack("{s:s, s:I, s:i, s:i, s:i, s:i, s:i, s:s}", "attention", launch_attention_name(p->attention),
                     "seqlen", (json_int_t)p->seqlen, "batch", p->batch, "n_heads", p->n_heads, "n_kv_heads",
                     p->n_kv_heads, "head_dim", p->head_dim, "value_dim", p->value_dim, "dtype",
                     launch_dtype_name(source->dtypes[LUCID_Q]));
}

json_t *launch_json_certificate(const lucid_certificate_result *c) {
    return json_pack("{s:i, s:o, s:o, s:o, s:o, s:f}", "rows", c->rows, "residual", launch_json_number(c->residual),
                     "out_error", launch_json_number(c->out_error), "lse_error", launch_json_number(c->lse_error),
                     "growth", launch_json_number(c->growth), "seconds", c->seconds);
}

static json_t *plan_json(const lucid_plan *p, const char *isa, int threads) {
    return json_pack("{s:s, s:s, s:s, s:i, s:I, s:I, s:i, s:i, s:b, s:I, s:I, s:I}", "isa", isa, "layout",
                     launch_layout_name(p->layout), "schedule", launch_schedule_name(p->schedule), "threads", threads,
                     "tile", (json_int_t)p->tile, "n_tiles", (json_int_t)p->n_tiles, "channels", p->channels,
                     "window_tiles", p->window_tiles, "second_round", p->second_round, "tensor_bytes_max",
                     (json_int_t)p->tensor_bytes_max, "window_bytes", (json_int_t)p->window_bytes, "scratch_bytes",
                     (json_int_t)p->scratch_bytes);
}

static json_t *rank_json(const lucid_rank_report *m) {
    json_t *phases = json_object();
    for (int phase = 0; phase < LUCID_N_PHASES; phase++)
        json_object_set_new(phases, launch_phase_name(phase), json_real(m->phase[phase]));
    json_t *json =
        json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:o, s:f, s:I, s:f, s:i, s:f, s:f}", "host", m->host, "read", m->read,
                  "pack", m->pack, "load", m->load, "run", m->wall, "store", m->store, "thread_seconds", phases,
                  "bytes_sent", m->bytes_sent, "messages_sent", (json_int_t)m->messages_sent, "flops", m->flops,
                  "threads", m->threads, "fma_peak", m->fma_peak, "memory_peak", (double)m->memory_peak);
    json_object_set_new(json, "memory_share",
                        m->memory_share ? json_integer((json_int_t)m->memory_share) : json_null());
    return json;
}

json_t *launch_report_json(const launch_report *report) {
    const launch_job *job = report->job;
    int n = job->comm->world_size;
    launch_figures g = launch_figures_of(report->ranks, n);
    json_t *ranks = json_array();
    for (int r = 0; r < n; r++) json_array_append_new(ranks, rank_json(&report->ranks[r]));
    json_t *json = launch_json_header(job->options, job->comm);
    json_object_set_new(json, "problem", launch_json_problem(job->source));
    json_object_set_new(
        json, "plan",
        plan_json(lucid_attention_plan(job->attention), lucid_attention_isa(job->attention), job->run.threads));
    json_object_set_new(json, "figures",
                        json_pack("{s:f, s:f, s:f, s:f}", "flops", g.flops, "flops_per_second", g.rate, "fma_peak",
                                  g.peak, "efficiency", g.efficiency));
    json_object_set_new(json, "certificate", launch_json_certificate(report->certificate));
    json_object_set_new(json, "ranks", ranks);
    return json;
}

json_t *launch_json_measures(const launch_measures *m) {
    const lucid_context_times *t = &m->slow.times;
    const lucid_context_bytes *b = &m->large.share;
    json_t *time =
        json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "rank", m->slow_rank, "seconds", t->total,
                  "chunks", t->chunks, "attention", t->attention, "kernels", t->kernels, "wait", t->wait, "products",
                  t->products, "pack", t->pack, "decode", t->decode, "flops", t->flops, "fma_peak", m->slow.fma_peak);
    json_t *memory =
        json_pack("{s:i, s:f, s:f, s:f, s:I, s:I, s:I, s:I}", "rank", m->large_rank, "peak", m->large.memory, "planned",
                  launch_planned_bytes(&m->large), "program", m->large.program, "weights", (json_int_t)b->weights,
                  "cache", (json_int_t)b->cache, "rows", (json_int_t)b->rows, "engine", (json_int_t)b->engine);
    return json_pack("{s:o, s:o}", "time", time, "memory", memory);
}

/* Of the rank with the smallest share of time in kernels. */
static void print_reading(FILE *stream, const launch_measures *m) {
    const lucid_context_times *t = &m->slow.times;
    const double percent = 100 / t->chunks, rate = t->flops / t->kernels;
    fprintf(stream, "reading     %.3f s, rank %d: %.1f %% attention and solve kernels", t->chunks, m->slow_rank,
            percent * t->kernels);
    if (t->kernels > 0)
        fprintf(stream, " (%.1f Gflop/s, %.1f %% of its FMA peak)", 1e-9 * rate, 100 * rate / m->slow.fma_peak);
    fprintf(stream, ", %.1f %% products with weights, %.1f %% waiting for tiles, %.1f %% the rest\n",
            percent * t->products, percent * t->wait, percent * (t->chunks - t->kernels - t->products - t->wait));
}

/* Of the rank that is furthest above its share. */
static void print_memory(FILE *stream, const launch_measures *m) {
    const lucid_context_bytes *share = &m->large.share;
    const struct {
        const char *name;
        double bytes;
    } parts[] = {{"weights", (double)share->weights},
                 {"cache", (double)share->cache},
                 {"rows", (double)share->rows},
                 {"engine", (double)share->engine},
                 {"program", m->large.program}};
    char peak[32], text[32];
    const double planned = launch_planned_bytes(&m->large);
    fprintf(stream, "memory      %s at most, rank %d: %.2f of its share of", launch_bytes_text(peak, m->large.memory),
            m->large_rank, m->large.memory / planned);
    fprintf(stream, " %s (", launch_bytes_text(text, planned));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        fprintf(stream, "%s%s %s", i ? ", " : "", parts[i].name, launch_bytes_text(text, parts[i].bytes));
    fprintf(stream, ")\n");
}

void launch_measures_print(FILE *stream, const launch_measures *m) {
    if (m->slow.times.chunks > 0) print_reading(stream, m);
    print_memory(stream, m);
}

lucid_status launch_json_write(json_t *json, const char *path) {
    launch_file file = {0};
    if (!json) return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory for the report", path);
    lucid_status status = launch_file_open(&file, path);
    if (!status && (json_dumpf(json, file.stream, JSON_INDENT(2)) || fputc('\n', file.stream) == EOF))
        status = lucid_fail(LUCID_ERR_IO, "%s: cannot be written", path);
    if (!status) status = launch_file_commit(&file);
    launch_file_discard(&file);
    json_decref(json);
    return status;
}
