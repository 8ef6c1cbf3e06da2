#include "runtime/eval/report.h"

#include "runtime/eval/score.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* --- the table --- */

static int widest_task(const lucid_eval_records *records) {
    int widest = 4;
    for (int64_t i = 0; i < records->n; i++) {
        const int n = (int)strlen(records->items[i].task);
        if (n > widest) widest = n;
    }
    return widest;
}

void lucid_eval_table(FILE *stream, const lucid_eval_records *records) {
    const int widest = widest_task(records);
    fprintf(stream, "%-*s  %8s  %7s  %7s  %7s  %s\n", widest, "task", "length", "samples", "answers", "score",
            "95 % interval");
    for (int64_t i = 0; i < records->n;) {
        const lucid_eval_cell cell = lucid_eval_cell_at(records, i);
        double low, high;
        lucid_wilson(&low, &high, cell.sum, cell.n);
        fprintf(stream, "%-*s  %8" PRId64 "  %7" PRId64 "  %7" PRId64 "  %5.1f %%  %5.1f to %.1f %%\n", widest,
                cell.records->task, cell.records->max_length, cell.n_samples, cell.n, 100 * cell.sum / (double)cell.n,
                100 * low, 100 * high);
        i += cell.n;
    }
}

/* --- results --- */

/* The member of parent, made where it is not there. A borrowed reference. */
static json_t *member(json_t *parent, const char *name) {
    json_t *found = json_object_get(parent, name);
    if (found) return found;
    json_object_set_new(parent, name, json_object());
    return json_object_get(parent, name);
}

/* The sample deviation over the root of n, as that harness has it. */
static json_t *standard_error(const lucid_eval_cell *cell) {
    const double n = (double)cell->n;
    if (cell->n < 2) return json_string("N/A");
    const double variance = (cell->sum_of_squares - cell->sum * cell->sum / n) / (n - 1);
    return json_real(sqrt(variance > 0 ? variance / n : 0));
}

static json_t *interval_json(const lucid_eval_cell *cell) {
    double low, high;
    lucid_wilson(&low, &high, cell->sum, cell->n);
    return json_pack("{s:I, s:I, s:f, s:f, s:f}", "samples", (json_int_t)cell->n_samples, "answers",
                     (json_int_t)cell->n, "score", cell->sum / (double)cell->n, "low", low, "high", high);
}

static void add_samples(json_t *results, const char *task, int64_t n) {
    json_t *counts = member(member(results, "n-samples"), task);
    const json_int_t before = json_integer_value(json_object_get(counts, "original"));
    json_object_set_new(counts, "original", json_integer(before + n));
    json_object_set_new(counts, "effective", json_integer(before + n));
}

static void add_task(json_t *results, const char *task, json_t *tasks) {
    json_object_set_new(member(member(results, "results"), task), "alias", json_string(task));
    json_object_set_new(member(results, "group_subtasks"), task, json_array());
    json_object_set(member(results, "configs"), task, json_object_get(tasks, task));
    json_object_set_new(member(results, "versions"), task, json_real(1));
    json_object_set_new(member(results, "n-shot"), task, json_integer(0));
}

static void add_cell(json_t *results, const lucid_eval_cell *cell, json_t *tasks) {
    const char *task = cell->records->task;
    char metric[24], key[48];
    snprintf(metric, sizeof metric, "%" PRId64, cell->records->max_length);
    if (!json_object_get(json_object_get(results, "results"), task)) add_task(results, task, tasks);
    json_t *numbers = member(member(results, "results"), task);
    snprintf(key, sizeof key, "%s,none", metric);
    json_object_set_new(numbers, key, json_real(cell->sum / (double)cell->n));
    snprintf(key, sizeof key, "%s_stderr,none", metric);
    json_object_set_new(numbers, key, standard_error(cell));
    json_object_set_new(member(member(results, "higher_is_better"), task), metric, json_true());
    json_object_set_new(member(member(results, "intervals"), task), metric, interval_json(cell));
    add_samples(results, task, cell->n);
}

json_t *lucid_eval_results(const lucid_eval_records *records, json_t *tasks) {
    json_t *results = json_object();
    for (int64_t i = 0; results && i < records->n;) {
        const lucid_eval_cell cell = lucid_eval_cell_at(records, i);
        add_cell(results, &cell, tasks);
        i += cell.n;
    }
    return results;
}
