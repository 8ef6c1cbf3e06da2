/* Answers with their scores, one a record and a line of JSON in the layout of lm-evaluation-harness's sample logs. A
 * line holds nothing that differs between two runs of the same model and task. Local. */
#ifndef LUCID_RUNTIME_EVAL_RECORDS_H
#define LUCID_RUNTIME_EVAL_RECORDS_H

#include "runtime/eval/niah.h"

#include <stdio.h>

typedef struct {
    char *line; /* without its newline */
    char *task;
    int64_t max_length, index; /* tokens; of the sample */
    int question, n_questions; /* of the sample */
    double depth, score;       /* percent; 0..1 */
} lucid_eval_record;

typedef struct {
    lucid_eval_record *items; /* (n) */
    int64_t n, capacity;
} lucid_eval_records;

/* Adds the answer (n_bytes of UTF-8) to a question. Errors: MEMORY. */
lucid_status lucid_eval_records_add(lucid_eval_records *records, const char *task, const lucid_niah_sample *sample,
                                    int question, const char *answer, size_t n_bytes);

/* Adds the lines of a file. What follows the last whole line was cut off and is passed over. Errors: IO; INPUT naming
 * line and key; MEMORY. */
lucid_status lucid_eval_records_read(lucid_eval_records *records, const char *path);

/* Sorts by task, length, sample and question, and drops samples that have not all their questions, and copies. Errors:
 * INPUT, in the name of `name`, where a question has two answers. */
lucid_status lucid_eval_records_sort(lucid_eval_records *records, const char *name);

/* Moves all of other's to records, in any order. Errors: MEMORY. */
lucid_status lucid_eval_records_append(lucid_eval_records *records, lucid_eval_records *other);

/* In sorted records. */
bool lucid_eval_records_have(const lucid_eval_records *records, const char *task, int64_t max_length, int64_t index);

/* Lines of records first..n-1; the stream's errors are left to the caller. */
void lucid_eval_records_write(FILE *stream, const lucid_eval_records *records, int64_t first);
void lucid_eval_records_free(lucid_eval_records *records); /* fine on zeros */

/* All answers of one task at one length. */
typedef struct {
    const lucid_eval_record *records; /* (n) */
    int64_t n, n_samples;
    double sum, sum_of_squares; /* of scores */
} lucid_eval_cell;

/* The cell that begins with sorted record `first`; first < n. */
lucid_eval_cell lucid_eval_cell_at(const lucid_eval_records *records, int64_t first);

#endif
