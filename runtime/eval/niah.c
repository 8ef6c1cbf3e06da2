#include "runtime/eval/niah.h"

#include "runtime/eval/plan.h"

#include <stdlib.h>
#include <string.h>

#define UNITS_MAX (INT64_C(1) << 31) /* words or lines of a haystack */

lucid_status lucid_niah_check(const lucid_niah_task *t) {
    const int64_t n = (int64_t)t->n_keys * t->n_values + t->n_distractors;
    if (n > LUCID_NIAH_MAX_NEEDLES)
        return lucid_fail(LUCID_ERR_USAGE, "%lld needles, values and distractors counted, are more than %d",
                          (long long)n, LUCID_NIAH_MAX_NEEDLES);
    const bool several = t->n_values > 1 || (t->asking == LUCID_NIAH_ASK_ALL && t->n_keys > 1);
    if (several && !t->wording->several.answer)
        return lucid_fail(LUCID_ERR_USAGE, "the wording '%s' asks for one value at a time", t->wording->name);
    if (t->haystack == LUCID_NIAH_TEXT && (!t->corpus || t->corpus->n_words == 0))
        return lucid_fail(LUCID_ERR_USAGE, "a haystack of text needs a text that has words");
    if (t->length >= UNITS_MAX)
        return lucid_fail(LUCID_ERR_USAGE, "a length of %lld tokens is beyond %lld", (long long)t->length,
                          (long long)UNITS_MAX);
    return LUCID_OK;
}

/* --- the haystack that fits --- */

/* A sample under way. */
typedef struct {
    lucid_niah_sample *sample;
    const lucid_niah_task *task;
    lucid_niah_plan plan;
    int widest; /* question of the most bytes, most likely of the most tokens */
} making;

static lucid_status count(making *m, int question, int64_t *n_tokens) {
    char *prompt;
    size_t n_bytes;
    LUCID_TRY(lucid_niah_prompt(&prompt, &n_bytes, m->sample, question));
    const lucid_status status = m->task->count(m->task->context, n_tokens, prompt, n_bytes);
    free(prompt);
    *n_tokens += m->task->n_new;
    return status;
}

static lucid_status render(making *m, int64_t n) {
    free(m->sample->context);
    m->sample->context = NULL;
    return lucid_niah_render_context(&m->sample->context, &m->sample->n_context, &m->plan, n);
}

/* Does a haystack of n words or lines fit, judged by the widest question? */
static lucid_status fits(making *m, int64_t n, bool *fit) {
    int64_t n_tokens;
    LUCID_TRY(render(m, n));
    LUCID_TRY(count(m, m->widest, &n_tokens));
    *fit = n_tokens <= m->task->length;
    return LUCID_OK;
}

/* The largest multiple of step that fits. */
static lucid_status find_largest(making *m, int64_t step, int64_t *n) {
    int64_t low = 0, high = 1;
    bool fit = true;
    while (fit && high < UNITS_MAX / step) {
        LUCID_TRY(fits(m, high * step, &fit));
        if (fit) low = high, high *= 2;
    }
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        LUCID_TRY(fits(m, middle * step, &fit));
        if (fit)
            low = middle;
        else
            high = middle;
    }
    *n = low * step;
    return LUCID_OK;
}

static lucid_status measure(making *m, int64_t n) {
    LUCID_TRY(render(m, n));
    m->sample->length = 0;
    for (int i = 0; i < m->sample->n_questions; i++) {
        int64_t n_tokens;
        LUCID_TRY(count(m, i, &n_tokens));
        if (n_tokens > m->sample->length) m->sample->length = n_tokens;
    }
    return LUCID_OK;
}

static int64_t step_of(const lucid_niah_task *t) {
    const lucid_niah_template *w = t->wording;
    if (t->step) return t->step;
    if (t->haystack == LUCID_NIAH_TEXT) return w->text_step;
    return t->length < 4096 ? w->short_step : w->line_step;
}

/* The harness leaves the haystack out where a single step is too much; here the step becomes one word or line. */
static lucid_status fill(making *m) {
    const lucid_niah_task *t = m->task;
    int64_t step = step_of(t), n;
    LUCID_TRY(find_largest(m, step, &n));
    if (n == 0 && step > 1) LUCID_TRY(find_largest(m, step = 1, &n));
    LUCID_TRY(measure(m, n));
    for (; m->sample->length > t->length && n > 0; n -= step) LUCID_TRY(measure(m, n - step));
    if (m->sample->length <= t->length) return LUCID_OK;
    return lucid_fail(LUCID_ERR_USAGE, "a length of %lld tokens is too short: without a haystack there are %lld",
                      (long long)t->length, (long long)m->sample->length);
}

/* --- questions --- */

static lucid_status make_questions(making *m) {
    const lucid_niah_plan *plan = &m->plan;
    lucid_niah_sample *sample = m->sample;
    const bool all = m->task->asking == LUCID_NIAH_ASK_ALL;
    const int n = all ? 1 : plan->n_asked;
    sample->questions = calloc((size_t)n, sizeof *sample->questions);
    if (!sample->questions) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d questions", n);
    size_t most = 0;
    for (int i = 0; i < n; i++) {
        lucid_niah_question *q = &sample->questions[sample->n_questions++];
        LUCID_TRY(lucid_niah_render_question(q, plan, plan->first_asked + i, all ? plan->n_asked : 1));
        const size_t n_bytes = strlen(q->text) + strlen(q->answer);
        if (n_bytes > most) most = n_bytes, m->widest = i;
    }
    return LUCID_OK;
}

/* Once all needles have their places. */
static void note_depths(making *m) {
    for (int i = 0; i < m->sample->n_questions; i++)
        m->sample->questions[i].depth = m->plan.needles[(m->plan.first_asked + i) * m->task->n_values].depth;
}

lucid_status lucid_niah_generate(lucid_niah_sample *sample, const lucid_niah_task *task, int64_t index) {
    making m = {.sample = sample, .task = task};
    *sample = (lucid_niah_sample){.index = index, .max_length = task->length};
    LUCID_TRY(lucid_niah_check(task));
    lucid_niah_plan_make(&m.plan, task, index);
    sample->n_needles = m.plan.n_needles;
    LUCID_TRY(make_questions(&m));
    LUCID_TRY(fill(&m));
    note_depths(&m);
    return LUCID_OK;
}

static void free_question(lucid_niah_question *question) {
    for (int i = 0; i < question->n_outputs; i++) free(question->outputs[i]);
    free(question->outputs);
    free(question->text);
    free(question->answer);
}

void lucid_niah_sample_free(lucid_niah_sample *sample) {
    for (int i = 0; i < sample->n_questions; i++) free_question(&sample->questions[i]);
    free(sample->questions);
    free(sample->context);
    *sample = (lucid_niah_sample){0};
}

lucid_status lucid_niah_prompt(char **prompt, size_t *n_bytes, const lucid_niah_sample *sample, int question) {
    const lucid_niah_question *q = &sample->questions[question];
    const size_t n_text = strlen(q->text), n_answer = strlen(q->answer);
    char *at = *prompt = malloc(sample->n_context + n_text + n_answer + 2);
    if (!at) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a prompt of %zu bytes", sample->n_context);
    at = mempcpy(at, sample->context, sample->n_context);
    at = stpcpy(at, q->text);
    if (n_answer) *at++ = ' ';
    at = stpcpy(at, q->answer);
    *n_bytes = (size_t)(at - *prompt);
    return LUCID_OK;
}
