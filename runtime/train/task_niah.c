/* Bytes for models that are to find needles: facts "[key: value]" that come again, needles in text as `lucid eval niah`
 * asks for them in its short form, and plain text. Of facts and needles, only the values that come again are asked for:
 * what stands there first cannot be foreseen. Keys and values are those that no evaluation draws. */
#include "runtime/eval/niah.h"
#include "runtime/eval/plan.h"
#include "runtime/train/task_kinds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES        256
#define FACTS_MIN    16
#define FACTS_MAX    64
#define NEEDLE_BYTES 40  /* room for an answer, and for each further question with its own */
#define LENGTH_MIN   208 /* 182 bytes for 4 needles of 17-byte keys and a question, 26 for the other question */
#define NEEDLES_MAX  8   /* of a context; in short ones 2 */
#define NEEDLE_SPACE 256 /* of text, at least, for each where there may be more than two */
#define TEXT_STRIDE  4   /* of text, one byte in so many is asked for: else its gradients would drown the needles' */

/* The text's part as words. */
static lucid_status fill_corpus(lucid_task *t, lucid_task_use use) {
    int64_t first, last;
    lucid_task_part(t, use, &first, &last);
    char *text = malloc((size_t)(last - first) + 1);
    if (!text) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a text of %lld bytes", (long long)(last - first));
    for (int64_t i = first; i < last; i++) text[i - first] = (char)t->options.ids[i];
    const lucid_status status = lucid_corpus_add(&t->corpora[use], text, (size_t)(last - first));
    free(text);
    return status;
}

static lucid_status open_niah(lucid_task *t) {
    const lucid_task_options *o = &t->options;
    if (o->vocab_size != BYTES) return lucid_fail(LUCID_ERR_USAGE, "the task niah is about bytes: use no tokenizer");
    if (o->length < LENGTH_MIN)
        return lucid_fail(LUCID_ERR_USAGE, "the task niah needs sequences of %d bytes, not %lld", LENGTH_MIN,
                          (long long)o->length);
    if (o->facts_in_ten < 0 || o->needles_in_ten < 0 || o->facts_in_ten + o->needles_in_ten > 10)
        return lucid_fail(LUCID_ERR_USAGE, "%d and %d of ten sequences cannot be facts and needles", o->facts_in_ten,
                          o->needles_in_ten);
    LUCID_TRY(lucid_task_text.open(t));
    LUCID_TRY(fill_corpus(t, LUCID_TASK_TRAIN));
    return fill_corpus(t, LUCID_TASK_VALIDATE);
}

/* Bytes written to a sequence, and which of them are asked for. */
typedef struct {
    lucid_sequence *sequence;
    int64_t n, length;
} writing;

static void put(writing *w, const char *text, size_t n_bytes, bool asked) {
    for (size_t i = 0; i < n_bytes; i++, w->n++) {
        const int32_t byte = (unsigned char)text[i];
        if (w->n < w->length) w->sequence->ids[w->n] = byte;
        if (asked && w->n > 0 && w->n <= w->length) w->sequence->targets[w->n - 1] = byte;
    }
}

static lucid_niah_task needle_task(const lucid_task *t, const lucid_sequence *s) {
    return (lucid_niah_task){.wording = lucid_niah_template_find("short"),
                             .haystack = LUCID_NIAH_TEXT,
                             .corpus = &t->corpora[s->use],
                             .key_kind = LUCID_NIAH_WORDS,
                             .value_kind = LUCID_NIAH_NUMBERS,
                             .n_keys = 1,
                             .n_values = 1,
                             .training = true,
                             .seed = t->options.seed + ((uint64_t)s->seed << 32) + (uint64_t)s->use,
                             .length = t->options.length,
                             .n_new = NEEDLE_BYTES};
}

static void put_fact(writing *w, const lucid_niah_needle *fact, bool asked) {
    put(w, "[", 1, false);
    put(w, fact->key, strlen(fact->key), false);
    put(w, ":", 1, false);
    put(w, " ", 1, asked);
    put(w, fact->value, strlen(fact->value), asked);
    put(w, "]", 1, asked);
    put(w, "\n", 1, false);
}

/* As many facts as leave half of the sequence to queries. */
static void write_facts(writing *w, const lucid_task *t, lucid_draws *draws) {
    lucid_niah_task task = needle_task(t, w->sequence);
    lucid_niah_plan plan;
    task.n_keys = FACTS_MIN + (int)lucid_draws_below(draws, FACTS_MAX - FACTS_MIN + 1);
    lucid_niah_plan_make(&plan, &task, w->sequence->index);
    int n = 0;
    while (n < task.n_keys && w->n < w->length / 2) put_fact(w, &plan.needles[n++], false);
    while (w->n < w->length) put_fact(w, &plan.needles[lucid_draws_below(draws, (uint32_t)n)], true);
}

static lucid_status count_bytes(void *context, int64_t *n_tokens, const char *prompt, size_t n_bytes) {
    (void)context, (void)prompt;
    *n_tokens = (int64_t)n_bytes;
    return LUCID_OK;
}

/* One context with a question for each needle, one after the other. */
static lucid_status write_needles(writing *w, const lucid_task *t, lucid_draws *draws) {
    lucid_niah_task task = needle_task(t, w->sequence);
    lucid_niah_sample sample = {0};
    const int64_t room = task.length / NEEDLE_SPACE;
    task.n_keys = 1 + (int)lucid_draws_below(draws, room < 2 ? 2 : room > NEEDLES_MAX ? NEEDLES_MAX : (uint32_t)room);
    task.n_distractors = (int)lucid_draws_below(draws, 3);
    task.count = count_bytes;
    task.length -= (task.n_keys - 1) * (task.length / 8 < NEEDLE_BYTES ? task.length / 8 : NEEDLE_BYTES);
    const lucid_status status = lucid_niah_generate(&sample, &task, w->sequence->index);
    if (!status) put(w, sample.context, sample.n_context, false);
    for (int q = 0; !status && q < sample.n_questions; q++) {
        const lucid_niah_question *question = &sample.questions[q];
        put(w, question->text, strlen(question->text), false);
        put(w, " ", 1, false);
        put(w, question->answer, strlen(question->answer), false);
        put(w, " ", 1, true);
        put(w, question->outputs[0], strlen(question->outputs[0]), true);
        put(w, "]", 1, true);
    }
    lucid_niah_sample_free(&sample);
    return status;
}

static lucid_status write_text(lucid_sequence *s, const lucid_task *t, lucid_draws *draws) {
    LUCID_TRY(lucid_task_text.fill(s, t, draws));
    const uint32_t asked = lucid_draws_below(draws, TEXT_STRIDE);
    for (int64_t i = 0; i < t->shape.length; i++)
        if (i % TEXT_STRIDE != asked) s->targets[i] = -1;
    return LUCID_OK;
}

static lucid_status fill_niah(lucid_sequence *s, const lucid_task *t, lucid_draws *draws) {
    writing w = {.sequence = s, .length = t->shape.length};
    const int kind = (int)lucid_draws_below(draws, 10), n_facts = t->options.facts_in_ten;
    if (kind >= n_facts + t->options.needles_in_ten) return write_text(s, t, draws);
    if (kind >= n_facts) return write_needles(&w, t, draws);
    write_facts(&w, t, draws);
    return LUCID_OK;
}

const lucid_task_source lucid_task_niah = {.open = open_niah, .fill = fill_niah};
