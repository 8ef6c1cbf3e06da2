/* Reports made of sorted records (records.h): a table, results in the layout of lm-evaluation-harness, and a heat map
 * of length and depth. Intervals are Wilson's at 95 %, over answers. Errors of streams are left to the caller. */
#ifndef LUCID_RUNTIME_EVAL_REPORT_H
#define LUCID_RUNTIME_EVAL_REPORT_H

#include "runtime/eval/records.h"

#include <jansson.h>

/* One line a task and length. */
void lucid_eval_table(FILE *stream, const lucid_eval_records *records);

/* results, group_subtasks, configs, versions, n-shot, higher_is_better and n-samples, and in "intervals" what that
 * layout has no place for. tasks: a configuration for each task by name. A new reference; NULL: no memory. */
json_t *lucid_eval_results(const lucid_eval_records *records, json_t *tasks);

/* An SVG image: a panel a task, a column a length, and a row each depth; where there are more than 20, ten bands. */
void lucid_eval_heatmap(FILE *stream, const lucid_eval_records *records);

#endif
