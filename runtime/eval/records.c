#include "runtime/eval/records.h"

#include "runtime/eval/score.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static void free_record(lucid_eval_record *record) {
    free(record->line);
    free(record->task);
}

static lucid_status reserve(lucid_eval_records *records) {
    if (records->n < records->capacity) return LUCID_OK;
    const int64_t capacity = records->capacity ? 2 * records->capacity : 256;
    lucid_eval_record *larger = realloc(records->items, (size_t)capacity * sizeof *larger);
    if (!larger) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %" PRId64 " answers", capacity);
    records->items = larger;
    records->capacity = capacity;
    return LUCID_OK;
}

/* Also on failure, which a record without line or task is. */
static lucid_status take_over(lucid_eval_records *records, lucid_eval_record *record) {
    lucid_status status =
        record->line && record->task ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for an answer");
    if (!status) status = reserve(records);
    if (status)
        free_record(record);
    else
        records->items[records->n++] = *record;
    return status;
}

/* --- a record as JSON --- */

static json_t *texts_json(char *const *texts, int n) {
    json_t *array = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(array, json_string(texts[i]));
    return array;
}

static json_t *doc_json(const lucid_niah_sample *sample, int question) {
    const lucid_niah_question *q = &sample->questions[question];
    return json_pack("{s:I, s:i, s:i, s:i, s:f, s:I, s:I, s:s, s:o}", "index", (json_int_t)sample->index, "question",
                     question, "questions", sample->n_questions, "needles", sample->n_needles, "depth", q->depth,
                     "length", (json_int_t)sample->length, "max_length", (json_int_t)sample->max_length, "gen_prefix",
                     q->answer, "outputs", texts_json(q->outputs, q->n_outputs));
}

static json_t *record_json(const char *task, const lucid_niah_sample *sample, int question, const char *answer,
                           size_t n_bytes, double score) {
    const lucid_niah_question *q = &sample->questions[question];
    char metric[24];
    snprintf(metric, sizeof metric, "%" PRId64, sample->max_length);
    return json_pack("{s:s, s:I, s:o, s:o, s:[[s%]], s:[s%], s:s, s:[s], s:f}", "task", task, "doc_id",
                     (json_int_t)(sample->index * sample->n_questions + question), "doc", doc_json(sample, question),
                     "target", texts_json(q->outputs, q->n_outputs), "resps", answer, n_bytes, "filtered_resps", answer,
                     n_bytes, "filter", "none", "metrics", metric, metric, score);
}

/* The whole number that a line has under doc.name; -1 where it has none in 0..max. */
static int64_t doc_integer(const json_t *line, const char *name, int64_t max) {
    const json_t *number = json_object_get(json_object_get(line, "doc"), name);
    const json_int_t value = json_integer_value(number);
    return json_is_integer(number) && value >= 0 && value <= max ? value : -1;
}

static bool is_within(const json_t *number, double max) {
    return json_is_number(number) && json_number_value(number) >= 0 && json_number_value(number) <= max;
}

/* Fills all but line and task. */
static bool take_numbers(lucid_eval_record *record, const json_t *line) {
    char metric[24];
    record->max_length = doc_integer(line, "max_length", INT64_MAX);
    record->index = doc_integer(line, "index", INT64_MAX);
    record->question = (int)doc_integer(line, "question", INT_MAX);
    record->n_questions = (int)doc_integer(line, "questions", INT_MAX);
    snprintf(metric, sizeof metric, "%" PRId64, record->max_length);
    const json_t *score = json_object_get(line, metric),
                 *depth = json_object_get(json_object_get(line, "doc"), "depth");
    record->score = json_number_value(score);
    record->depth = json_number_value(depth);
    return is_within(score, 1) && is_within(depth, 100) && record->max_length > 0 && record->index >= 0 &&
           record->question >= 0 && record->question < record->n_questions;
}

lucid_status lucid_eval_records_add(lucid_eval_records *records, const char *task, const lucid_niah_sample *sample,
                                    int question, const char *answer, size_t n_bytes) {
    const lucid_niah_question *q = &sample->questions[question];
    const double score = lucid_string_match_all(answer, n_bytes, q->outputs, q->n_outputs);
    json_t *line = record_json(task, sample, question, answer, n_bytes, score);
    lucid_eval_record record = {.line = line ? json_dumps(line, JSON_COMPACT) : NULL, .task = strdup(task)};
    if (line) take_numbers(&record, line);
    json_decref(line);
    return take_over(records, &record);
}

/* --- files --- */

/* text is a line's, without its newline, and is copied. */
static lucid_status read_line(lucid_eval_records *records, const char *text, size_t n_bytes) {
    json_t *line = json_loadb(text, n_bytes, JSON_ALLOW_NUL, NULL);
    const char *task = json_string_value(json_object_get(line, "task"));
    lucid_eval_record record = {0};
    lucid_status status = LUCID_ERR_INPUT;
    if (task && take_numbers(&record, line)) {
        record.line = strndup(text, n_bytes);
        record.task = strdup(task);
        status = take_over(records, &record);
    }
    json_decref(line);
    return status;
}

lucid_status lucid_eval_records_read(lucid_eval_records *records, const char *path) {
    FILE *file = fopen(path, "re");
    if (!file) return lucid_fail(LUCID_ERR_IO, "%s: %s", path, strerror(errno));
    char *line = NULL;
    size_t capacity = 0;
    lucid_status status = LUCID_OK;
    int64_t number = 1;
    for (ssize_t n; !status && (n = getline(&line, &capacity, file)) > 0 && line[n - 1] == '\n'; number++)
        status = read_line(records, line, (size_t)n - 1);
    if (status == LUCID_ERR_INPUT)
        status = lucid_fail(status, "%s, line %" PRId64 ": no answer with task, doc and score", path, number - 1);
    if (!status && ferror(file)) status = lucid_fail(LUCID_ERR_IO, "%s: %s", path, strerror(errno));
    free(line);
    fclose(file);
    return status;
}

void lucid_eval_records_write(FILE *stream, const lucid_eval_records *records, int64_t first) {
    for (int64_t i = first; i < records->n; i++) fprintf(stream, "%s\n", records->items[i].line);
}

lucid_status lucid_eval_records_append(lucid_eval_records *records, lucid_eval_records *other) {
    for (; other->n; other->n--) {
        LUCID_TRY(reserve(records));
        records->items[records->n++] = other->items[other->n - 1];
    }
    return LUCID_OK;
}

void lucid_eval_records_free(lucid_eval_records *records) {
    for (int64_t i = 0; i < records->n; i++) free_record(&records->items[i]);
    free(records->items);
    *records = (lucid_eval_records){0};
}

/* --- order --- */

/* k2 comes before k10. */
static int compare_samples(const void *a, const void *b) {
    const lucid_eval_record *x = a, *y = b;
    const int tasks = strverscmp(x->task, y->task);
    if (tasks) return tasks;
    if (x->max_length != y->max_length) return x->max_length < y->max_length ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static int compare(const void *a, const void *b) {
    const lucid_eval_record *x = a, *y = b;
    const int samples = compare_samples(a, b);
    return samples ? samples : (x->question > y->question) - (x->question < y->question);
}

/* In sorted records; the same line twice is a copy, as a run leaves that ends while it moves its answers. */
static lucid_status drop_copies(lucid_eval_records *records, const char *name) {
    lucid_eval_record *r = records->items;
    int64_t kept = 0;
    for (int64_t i = 0; i < records->n; i++) {
        const bool again = kept && compare(&r[kept - 1], &r[i]) == 0;
        if (again && strcmp(r[kept - 1].line, r[i].line)) {
            lucid_fail(LUCID_ERR_INPUT,
                       "%s: task %s, length %" PRId64 ", sample %" PRId64 " has two answers: remove the file of one",
                       name, r[i].task, r[i].max_length, r[i].index);
            memmove(r + kept, r + i, (size_t)(records->n - i) * sizeof *r);
            records->n -= i - kept;
            return LUCID_ERR_INPUT;
        }
        if (again)
            free_record(&r[i]);
        else
            r[kept++] = r[i];
    }
    records->n = kept;
    return LUCID_OK;
}

static void drop_parts(lucid_eval_records *records) {
    lucid_eval_record *r = records->items;
    int64_t kept = 0;
    for (int64_t i = 0, end; i < records->n; i = end) {
        for (end = i + 1; end < records->n && compare_samples(&r[i], &r[end]) == 0;) end++;
        const bool whole = end - i == r[i].n_questions;
        for (int64_t j = i; j < end; j++)
            if (whole)
                r[kept++] = r[j];
            else
                free_record(&r[j]);
    }
    records->n = kept;
}

lucid_status lucid_eval_records_sort(lucid_eval_records *records, const char *name) {
    if (records->n == 0) return LUCID_OK;
    qsort(records->items, (size_t)records->n, sizeof *records->items, compare);
    LUCID_TRY(drop_copies(records, name));
    drop_parts(records);
    return LUCID_OK;
}

bool lucid_eval_records_have(const lucid_eval_records *records, const char *task, int64_t max_length, int64_t index) {
    const lucid_eval_record wanted = {.task = (char *)task, .max_length = max_length, .index = index};
    return records->n && bsearch(&wanted, records->items, (size_t)records->n, sizeof *records->items, compare_samples);
}

lucid_eval_cell lucid_eval_cell_at(const lucid_eval_records *records, int64_t first) {
    const lucid_eval_record *r = records->items + first;
    lucid_eval_cell cell = {.records = r};
    for (; first + cell.n < records->n; cell.n++) {
        const lucid_eval_record *next = r + cell.n;
        if (strcmp(next->task, r->task) || next->max_length != r->max_length) break;
        cell.sum += next->score;
        cell.sum_of_squares += next->score * next->score;
        cell.n_samples += next->question == 0;
    }
    return cell;
}
