#include "launch/eval_set.h"

#include "runtime/files/checksum.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_COUNT = 500 }; /* as lm-evaluation-harness */

/* A lucid_niah_counter; context is the set. */
static lucid_status count_tokens(void *context, int64_t *n_tokens, const char *prompt, size_t n_bytes) {
    launch_eval_set *set = context;
    set->scratch.n = 0;
    LUCID_TRY(launch_vocabulary_encode(&set->scratch, set->vocabulary, prompt, n_bytes, true, "a sample"));
    *n_tokens = set->scratch.n;
    return LUCID_OK;
}

/* NULL where there is no memory. */
static launch_eval_cell *new_cell(launch_eval_set *set) {
    launch_eval_cell *larger = realloc(set->cells, (size_t)(set->n_cells + 1) * sizeof *larger);
    if (!larger) {
        lucid_fail(LUCID_ERR_MEMORY, "no memory for %d cells", set->n_cells + 1);
        return NULL;
    }
    set->cells = larger;
    return &larger[set->n_cells++];
}

/* --- samples that are made --- */

static lucid_status read_depths(launch_eval_set *set, const char *list) {
    if (!list) return LUCID_OK;
    for (char *end;; list = end + 1) {
        if (set->n_depths == LAUNCH_EVAL_MAX_LIST)
            return lucid_fail(LUCID_ERR_USAGE, "--depths: more than %d numbers", LAUNCH_EVAL_MAX_LIST);
        const double depth = strtod(list, &end);
        if (end == list || (*end && *end != ',') || !(depth >= 0 && depth <= 100))
            return lucid_fail(LUCID_ERR_USAGE, "--depths: '%s' is not a percentage", list);
        set->depths[set->n_depths++] = depth;
        if (!*end) return LUCID_OK;
    }
}

static lucid_status read_texts(launch_eval_set *set, const launch_texts *paths) {
    for (int i = 0; i < paths->n; i++) {
        char *text;
        size_t n_bytes;
        LUCID_TRY(launch_text_read(&text, &n_bytes, paths->items[i]));
        set->checksum = lucid_checksum(set->checksum, text, n_bytes);
        const lucid_status status = lucid_corpus_add(&set->corpus, text, n_bytes);
        free(text);
        LUCID_TRY(status);
    }
    if (paths->n && set->corpus.n_words == 0) return lucid_fail(LUCID_ERR_INPUT, "%s: no words", paths->items[0]);
    return LUCID_OK;
}

static json_t *numbers_json(const double *numbers, int n) {
    json_t *array = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(array, json_real(numbers[i]));
    return array;
}

static json_t *task_json(const launch_eval_set *set, const launch_options *o, const lucid_niah_task *t) {
    static const char *const askings[] = {"each", "one", "all"}, *const controls[] = {"none", "removed", "wrong-key"};
    char checksum[24];
    snprintf(checksum, sizeof checksum, "%016" PRIx64, set->checksum);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:s, s:s, s:o, s:i, s:I, s:I}", "template",
                     t->wording->name, "haystack", lucid_niah_haystacks[t->haystack], "text_checksum", checksum, "keys",
                     lucid_niah_kinds[t->key_kind], "values", lucid_niah_kinds[t->value_kind], "needles", t->n_keys,
                     "values_a_key", t->n_values, "distractors", t->n_distractors, "ask", askings[t->asking], "control",
                     controls[t->control], "depths", numbers_json(t->depths, t->n_depths), "step", t->step, "seed",
                     (json_int_t)o->seed, "max_new", (json_int_t)t->n_new);
}

static lucid_niah_task task_of(launch_eval_set *set, const launch_options *o, int64_t length, int64_t n_keys) {
    return (lucid_niah_task){.wording = lucid_niah_template_find(o->wording),
                             .haystack = o->haystack,
                             .corpus = &set->corpus,
                             .key_kind = o->key_kind,
                             .value_kind = o->value_kind,
                             .n_keys = (int)n_keys,
                             .n_values = (int)o->values,
                             .n_distractors = (int)o->distractors,
                             .asking = o->asking,
                             .control = o->control,
                             .depths = set->depths,
                             .n_depths = set->n_depths,
                             .step = (int)o->step,
                             .seed = (uint64_t)o->seed,
                             .length = length,
                             .n_new = set->n_new,
                             .count = count_tokens,
                             .context = set};
}

/* One sample is made at once: a length that is too short is better found before the first answer. */
static lucid_status add_cell(launch_eval_set *set, const launch_options *o, int64_t length, int64_t n_keys) {
    launch_eval_cell *cell = new_cell(set);
    lucid_niah_sample sample;
    if (!cell) return LUCID_ERR_MEMORY;
    *cell = (launch_eval_cell){.task = task_of(set, o, length, n_keys),
                               .max_length = length,
                               .n_samples = o->count ? o->count : DEFAULT_COUNT};
    lucid_niah_name(cell->name, &cell->task);
    json_object_set_new(set->tasks, cell->name, task_json(set, o, &cell->task));
    const lucid_status status = lucid_niah_generate(&sample, &cell->task, 0);
    lucid_niah_sample_free(&sample);
    if (length > set->max_tokens) set->max_tokens = length;
    return status;
}

static bool is_repeated(const int64_t *numbers, int n) {
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            if (numbers[i] == numbers[j]) return true;
    return false;
}

static lucid_status read_list(int64_t *numbers, int *n, const char *name, const char *list, int64_t max) {
    LUCID_TRY(launch_parse_integers(numbers, n, LAUNCH_EVAL_MAX_LIST, name, list, 1, max));
    return is_repeated(numbers, *n) ? lucid_fail(LUCID_ERR_USAGE, "%s: a number is there twice", name) : LUCID_OK;
}

static lucid_status make_cells(launch_eval_set *set, const launch_options *o) {
    const lucid_niah_template *wording = lucid_niah_template_find(o->wording);
    int64_t lengths[LAUNCH_EVAL_MAX_LIST], needles[LAUNCH_EVAL_MAX_LIST];
    int n_lengths, n_needles;
    LUCID_TRY(read_list(lengths, &n_lengths, "--lengths", o->lengths, INT64_C(1) << 30));
    LUCID_TRY(read_list(needles, &n_needles, "--needles", o->needles, LUCID_NIAH_MAX_NEEDLES));
    LUCID_TRY(read_depths(set, o->depths));
    LUCID_TRY(read_texts(set, &o->haystack_texts));
    set->n_new = o->max_new ? o->max_new : wording->n_new[o->value_kind];
    set->stop = wording->stop;
    for (int i = 0; i < n_needles; i++)
        for (int j = 0; j < n_lengths; j++) LUCID_TRY(add_cell(set, o, lengths[j], needles[i]));
    return LUCID_OK;
}

/* --- samples that are given --- */

static int compare_samples(const void *a, const void *b) {
    const lucid_niah_sample *x = a, *y = b;
    if (x->max_length != y->max_length) return x->max_length < y->max_length ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static lucid_status read_given(launch_eval_set *set, const char *path) {
    char *text;
    size_t n_bytes;
    LUCID_TRY(launch_text_read(&text, &n_bytes, path));
    set->checksum = lucid_checksum(0, text, n_bytes);
    const lucid_status status = lucid_niah_samples_parse(&set->given, text, n_bytes, path);
    free(text);
    LUCID_TRY(status);
    lucid_niah_sample *items = set->given.items;
    qsort(items, (size_t)set->given.n, sizeof *items, compare_samples);
    for (int64_t i = 1; i < set->given.n; i++)
        if (compare_samples(&items[i - 1], &items[i]) == 0)
            return lucid_fail(LUCID_ERR_INPUT, "%s: two samples of max_length %" PRId64 " have index %" PRId64, path,
                              items[i].max_length, items[i].index);
    return LUCID_OK;
}

static lucid_status measure_given(launch_eval_set *set) {
    for (int64_t i = 0; i < set->given.n; i++) {
        lucid_niah_sample *sample = &set->given.items[i];
        char *prompt;
        size_t n_bytes;
        LUCID_TRY(lucid_niah_prompt(&prompt, &n_bytes, sample, 0));
        const lucid_status status = count_tokens(set, &sample->length, prompt, n_bytes);
        free(prompt);
        LUCID_TRY(status);
        sample->length += set->n_new;
        if (sample->length > set->max_tokens) set->max_tokens = sample->length;
    }
    return LUCID_OK;
}

/* The file's name without folder and ending. */
static void name_given(char *name, const char *path) {
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const size_t n = strcspn(base, ".");
    snprintf(name, LUCID_NIAH_NAME_MAX, "%.*s", (int)(n < 80 ? n : 80), n ? base : "samples");
}

static lucid_status make_given(launch_eval_set *set, const launch_options *o) {
    set->n_new = o->max_new ? o->max_new : lucid_niah_template_find("ruler")->n_new[LUCID_NIAH_NUMBERS];
    LUCID_TRY(read_given(set, o->samples));
    LUCID_TRY(measure_given(set));
    const lucid_niah_sample *items = set->given.items;
    for (int64_t i = 0, end; i < set->given.n; i = end) {
        launch_eval_cell *cell = new_cell(set);
        if (!cell) return LUCID_ERR_MEMORY;
        for (end = i; end < set->given.n && items[end].max_length == items[i].max_length;) end++;
        *cell = (launch_eval_cell){.max_length = items[i].max_length, .n_samples = end - i, .given = items + i};
        if (o->count && o->count < cell->n_samples) cell->n_samples = o->count;
        name_given(cell->name, o->samples);
    }
    char checksum[24];
    snprintf(checksum, sizeof checksum, "%016" PRIx64, set->checksum);
    json_object_set_new(
        set->tasks, set->cells[0].name,
        json_pack("{s:s, s:s, s:I}", "samples", o->samples, "checksum", checksum, "max_new", (json_int_t)set->n_new));
    return LUCID_OK;
}

lucid_status launch_eval_set_make(launch_eval_set *set, const launch_options *options,
                                  const launch_vocabulary *vocabulary) {
    *set = (launch_eval_set){.vocabulary = vocabulary, .tasks = json_object()};
    LUCID_TRY(options->samples ? make_given(set, options) : make_cells(set, options));
    for (int c = 0; c < set->n_cells; c++) {
        set->cells[c].first = set->n_samples;
        set->n_samples += set->cells[c].n_samples;
    }
    return LUCID_OK;
}

void launch_eval_set_free(launch_eval_set *set) {
    free(set->cells);
    json_decref(set->tasks);
    lucid_corpus_free(&set->corpus);
    lucid_niah_samples_free(&set->given);
    lucid_tokens_free(&set->scratch);
    *set = (launch_eval_set){0};
}

lucid_status launch_eval_sample_open(lucid_niah_sample *sample, const launch_eval_cell *cell, int64_t i) {
    if (!cell->given) return lucid_niah_generate(sample, &cell->task, i);
    *sample = cell->given[i];
    return LUCID_OK;
}

void launch_eval_sample_close(lucid_niah_sample *sample, const launch_eval_cell *cell) {
    if (!cell->given) lucid_niah_sample_free(sample);
}
