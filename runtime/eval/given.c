#include "runtime/eval/given.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Where a line stands, for messages. */
typedef struct {
    const char *path;
    int64_t line;
} place;

static lucid_status refuse(const place *p, const char *message) {
    return lucid_fail(LUCID_ERR_INPUT, "%s, line %lld: %s", p->path, (long long)p->line, message);
}

static lucid_status copy_text(char **copy, const json_t *text) {
    *copy = strdup(json_is_string(text) ? json_string_value(text) : "");
    return *copy ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for a sample");
}

static lucid_status take_outputs(lucid_niah_question *question, const json_t *outputs, const place *p) {
    const size_t n = json_array_size(outputs);
    if (n == 0) return refuse(p, "outputs must be an array of texts");
    question->outputs = calloc(n, sizeof *question->outputs);
    if (!question->outputs) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a sample");
    for (size_t i = 0; i < n; i++) {
        const json_t *output = json_array_get(outputs, i);
        if (json_string_length(output) == 0) return refuse(p, "outputs must hold texts that are not empty");
        LUCID_TRY(copy_text(&question->outputs[question->n_outputs++], output));
    }
    return LUCID_OK;
}

/* Percent of the input before what is to be found; 0 where it is not there. */
static double depth_of(const lucid_niah_sample *sample) {
    const char *at = strstr(sample->context, sample->questions[0].outputs[0]);
    return at ? 100 * (double)(at - sample->context) / (double)sample->n_context : 0;
}

static lucid_status take_sample(lucid_niah_sample *sample, const json_t *line, const place *p) {
    const json_t *doc = json_object_get(line, "doc") ? json_object_get(line, "doc") : line;
    const json_t *input = json_object_get(doc, "input"), *max_length = json_object_get(doc, "max_length");
    const json_t *prefix = json_object_get(doc, "gen_prefix"), *index = json_object_get(doc, "index");
    if (!json_is_object(doc)) return refuse(p, "not an object");
    if (json_string_length(input) == 0) return refuse(p, "input must be a text");
    if (json_integer_value(max_length) <= 0) return refuse(p, "max_length must be a positive number");
    if (prefix && !json_is_string(prefix) && !json_is_null(prefix)) return refuse(p, "gen_prefix must be a text");
    if (index && (!json_is_integer(index) || json_integer_value(index) < 0))
        return refuse(p, "index must be a whole number, 0 or more");
    sample->index = index ? json_integer_value(index) : p->line - 1;
    sample->max_length = json_integer_value(max_length);
    sample->questions = calloc(1, sizeof *sample->questions);
    if (!sample->questions) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a sample");
    sample->n_questions = 1;
    LUCID_TRY(copy_text(&sample->context, input));
    sample->n_context = strlen(sample->context);
    LUCID_TRY(copy_text(&sample->questions[0].text, NULL));
    LUCID_TRY(copy_text(&sample->questions[0].answer, prefix));
    LUCID_TRY(take_outputs(&sample->questions[0], json_object_get(doc, "outputs"), p));
    sample->n_needles = sample->questions[0].n_outputs;
    sample->questions[0].depth = depth_of(sample);
    return LUCID_OK;
}

static lucid_status take_line(lucid_niah_samples *samples, const char *text, size_t n_bytes, const place *p) {
    lucid_niah_sample *larger = realloc(samples->items, (size_t)(samples->n + 1) * sizeof *larger);
    if (!larger) return lucid_fail(LUCID_ERR_MEMORY, "%s: no memory for its samples", p->path);
    samples->items = larger;
    samples->items[samples->n] = (lucid_niah_sample){0};
    json_error_t error;
    json_t *line = json_loadb(text, n_bytes, 0, &error);
    if (!line) return refuse(p, error.text);
    const lucid_status status = take_sample(&samples->items[samples->n++], line, p);
    json_decref(line);
    return status;
}

static bool is_blank(const char *text, size_t n) {
    return n == 0 || strspn(text, " \t\r") >= n;
}

lucid_status lucid_niah_samples_parse(lucid_niah_samples *samples, const char *text, size_t n_bytes, const char *path) {
    const char *end = text + n_bytes;
    for (place p = {.path = path, .line = 1}; text < end; p.line++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const size_t n = (size_t)((newline ? newline : end) - text);
        if (!is_blank(text, n)) LUCID_TRY(take_line(samples, text, n, &p));
        text += n + 1;
    }
    return samples->n ? LUCID_OK : lucid_fail(LUCID_ERR_INPUT, "%s: no samples", path);
}

void lucid_niah_samples_free(lucid_niah_samples *samples) {
    for (int64_t i = 0; i < samples->n; i++) lucid_niah_sample_free(&samples->items[i]);
    free(samples->items);
    *samples = (lucid_niah_samples){0};
}

/* --- writing --- */

static json_t *question_json(const lucid_niah_sample *sample, int i) {
    const lucid_niah_question *q = &sample->questions[i];
    json_t *outputs = json_array();
    for (int j = 0; j < q->n_outputs; j++) json_array_append_new(outputs, json_string(q->outputs[j]));
    return json_pack("{s:I, s:s++, s:o, s:I, s:I, s:s}", "index", (json_int_t)(sample->index * sample->n_questions + i),
                     "input", sample->context, q->text, "", "outputs", outputs, "length", (json_int_t)sample->length,
                     "max_length", (json_int_t)sample->max_length, "gen_prefix", q->answer);
}

lucid_status lucid_niah_sample_write(FILE *stream, const lucid_niah_sample *sample) {
    for (int i = 0; i < sample->n_questions; i++) {
        json_t *line = question_json(sample, i);
        if (!line) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a sample, or its text is no UTF-8");
        json_dumpf(line, stream, JSON_COMPACT);
        fputc('\n', stream);
        json_decref(line);
    }
    return LUCID_OK;
}
