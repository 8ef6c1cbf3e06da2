#include "runtime/eval/plan.h"

#include <stdlib.h>
#include <string.h>

static const char noise[] = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

/* What the names in a wording stand for. */
typedef struct {
    const char *type, *key, *value, *query;
} words;

static const char *find_word(const words *w, const char *name, size_t n) {
    const struct {
        const char *name, *text;
    } names[] = {{"type", w->type}, {"key", w->key}, {"value", w->value}, {"query", w->query}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i].name) == n && !memcmp(names[i].name, name, n)) return names[i].text;
    return "";
}

static void expand(FILE *stream, const char *wording, const words *w) {
    while (*wording) {
        const size_t n = strcspn(wording, "{");
        fwrite(wording, 1, n, stream);
        wording += n;
        if (!*wording) break;
        const size_t name = strcspn(++wording, "}");
        fputs(find_word(w, wording, name), stream);
        wording += name + 1;
    }
}

static const char *type_name(lucid_niah_kind kind, bool singular) {
    static const char *const one[] = {"word", "number", "uuid"}, *const several[] = {"words", "numbers", "uuids"};
    return singular ? one[kind] : several[kind];
}

/* Keys that one question asks for. */
static int keys_a_question(const lucid_niah_plan *plan) {
    return plan->task->asking == LUCID_NIAH_ASK_ALL ? plan->n_asked : 1;
}

static bool asks_one(const lucid_niah_plan *plan) {
    return keys_a_question(plan) * plan->task->n_values == 1;
}

static const lucid_niah_wording *wording_of(const lucid_niah_plan *plan) {
    return asks_one(plan) ? &plan->task->wording->one : &plan->task->wording->several;
}

/* --- the context --- */

/* Parts of the haystack and needles as they follow each other. */
typedef struct {
    FILE *stream;
    const char *separator;
    bool begun;
    const lucid_niah_plan *plan;
    int next; /* in plan->order */
} body;

static void separate(body *b) {
    if (b->begun) fputs(b->separator, b->stream);
    b->begun = true;
}

static void put_needle(body *b, const char *key, const char *value) {
    const lucid_niah_task *t = b->plan->task;
    separate(b);
    expand(b->stream, t->wording->needle,
           &(words){.type = type_name(t->value_kind, false), .key = key, .value = value});
}

static void put_needles_before(body *b, int64_t unit) {
    for (; b->next < b->plan->n_needles; b->next++) {
        const lucid_niah_needle *needle = &b->plan->needles[b->plan->order[b->next]];
        if (needle->position > unit) return;
        if (*needle->shown) put_needle(b, needle->shown, needle->value);
    }
}

static void put_lines(body *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        put_needles_before(b, i);
        if (b->plan->task->haystack == LUCID_NIAH_NOISE) {
            separate(b);
            fputs(noise, b->stream);
        } else {
            char key[LUCID_DRAWN_MAX], value[LUCID_DRAWN_MAX];
            lucid_draws draws = lucid_niah_plan_line(b->plan, i);
            lucid_niah_draw_key(key, &draws, b->plan);
            lucid_niah_draw_value(value, &draws, b->plan);
            put_needle(b, key, value);
        }
    }
}

/* Word i of the text: does it begin a sentence? The first one does. */
static bool begins(const lucid_niah_plan *plan, int64_t i) {
    return i == 0 || lucid_corpus_begins(plan->task->corpus, plan->start + i);
}

static int64_t count_sentences(const lucid_niah_plan *plan, int64_t n_words) {
    int64_t n = 0;
    for (int64_t i = 0; i < n_words; i++) n += begins(plan, i);
    return n;
}

static void put_words(body *b, int64_t n) {
    int64_t sentence = 0;
    for (int64_t i = 0; i < n; i++) {
        if (begins(b->plan, i)) put_needles_before(b, sentence++);
        separate(b);
        fputs(lucid_corpus_word(b->plan->task->corpus, b->plan->start + i), b->stream);
    }
}

static lucid_status close_text(FILE *stream) {
    const bool failed = ferror(stream);
    return fclose(stream) || failed ? lucid_fail(LUCID_ERR_MEMORY, "no memory for a sample's text") : LUCID_OK;
}

static lucid_status open_text(FILE **stream, char **text, size_t *n_bytes) {
    *stream = open_memstream(text, n_bytes);
    return *stream ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for a sample's text");
}

lucid_status lucid_niah_render_context(char **text, size_t *n_bytes, lucid_niah_plan *plan, int64_t n) {
    const lucid_niah_task *t = plan->task;
    const bool running = t->haystack == LUCID_NIAH_TEXT;
    const int64_t n_units = running ? count_sentences(plan, n) : n;
    FILE *stream;
    LUCID_TRY(open_text(&stream, text, n_bytes));
    lucid_niah_plan_place(plan, n_units);
    body b = {.stream = stream, .separator = running ? " " : "\n", .plan = plan};
    expand(stream, wording_of(plan)->before, &(words){.type = type_name(t->value_kind, asks_one(plan))});
    if (running)
        put_words(&b, n);
    else
        put_lines(&b, n);
    put_needles_before(&b, n_units);
    return close_text(stream);
}

/* --- a question --- */

/* "a", "a, and b", "a, b, and c" */
static void put_query(FILE *stream, const lucid_niah_plan *plan, int first_key, int n_keys) {
    for (int i = 0; i < n_keys; i++) {
        if (i) fputs(i == n_keys - 1 ? ", and " : ", ", stream);
        fputs(plan->needles[(first_key + i) * plan->task->n_values].key, stream);
    }
}

static lucid_status render(char **text, const char *wording, const words *w) {
    FILE *stream;
    size_t n_bytes;
    LUCID_TRY(open_text(&stream, text, &n_bytes));
    expand(stream, wording, w);
    return close_text(stream);
}

static lucid_status copy_outputs(lucid_niah_question *question, const lucid_niah_needle *needles, int n) {
    question->outputs = calloc((size_t)n, sizeof *question->outputs);
    if (!question->outputs) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a question");
    for (; question->n_outputs < n; question->n_outputs++) {
        question->outputs[question->n_outputs] = strdup(needles[question->n_outputs].value);
        if (!question->outputs[question->n_outputs]) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a question");
    }
    return LUCID_OK;
}

lucid_status lucid_niah_render_question(lucid_niah_question *question, const lucid_niah_plan *plan, int first_key,
                                        int n_keys) {
    const lucid_niah_task *t = plan->task;
    const lucid_niah_wording *wording = wording_of(plan);
    char query[LUCID_NIAH_MAX_NEEDLES * (LUCID_DRAWN_MAX + 6)];
    FILE *stream = fmemopen(query, sizeof query, "w");
    if (!stream) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a question");
    put_query(stream, plan, first_key, n_keys);
    fclose(stream);
    const words w = {.type = type_name(t->value_kind, asks_one(plan)), .query = query};
    LUCID_TRY(render(&question->text, wording->question, &w));
    LUCID_TRY(render(&question->answer, wording->answer, &w));
    return copy_outputs(question, plan->needles + first_key * t->n_values, n_keys * t->n_values);
}
