#include "runtime/train/task_kinds.h"

#include <stdlib.h>
#include <string.h>

#define VALIDATION_SHARE 20 /* of a text, the last of so many parts */

static const lucid_task_source *const sources[] = {[LUCID_TASK_TEXT] = &lucid_task_text,
                                                   [LUCID_TASK_TWO_PHASE] = &lucid_task_two_phase,
                                                   [LUCID_TASK_OVERWRITE] = &lucid_task_facts,
                                                   [LUCID_TASK_RECALL] = &lucid_task_facts,
                                                   [LUCID_TASK_NIAH] = &lucid_task_niah};

lucid_status lucid_task_open(lucid_task **task, const lucid_task_options *options) {
    lucid_task *t = calloc(1, sizeof *t);
    if (!t) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a task");
    *t = (lucid_task){.source = sources[options->kind], .options = *options};
    const lucid_status status = t->source->open(t);
    if (status) {
        lucid_task_close(t);
        return status;
    }
    *task = t;
    return LUCID_OK;
}

void lucid_task_close(lucid_task *t) {
    if (!t) return;
    for (int i = 0; i < 2; i++) lucid_corpus_free(&t->corpora[i]);
    free(t);
}

lucid_task_shape lucid_task_shape_of(const lucid_task *t) {
    return t->shape;
}

lucid_status lucid_examples_create(lucid_examples *e, const lucid_task *t, int n_sequences) {
    const size_t n = (size_t)n_sequences * (size_t)t->shape.length;
    *e = (lucid_examples){.length = t->shape.length, .n_sequences = n_sequences, .n_ids = t->shape.n_ids};
    e->ids = malloc(n * (size_t)e->n_ids * sizeof *e->ids);
    if (t->shape.values)
        e->values = malloc(n * sizeof *e->values);
    else
        e->targets = malloc(n * sizeof *e->targets);
    if (e->ids && (e->targets || e->values)) return LUCID_OK;
    lucid_examples_destroy(e);
    return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d sequences of %lld tokens", n_sequences, (long long)e->length);
}

void lucid_examples_destroy(lucid_examples *e) {
    free(e->ids);
    free(e->targets);
    free(e->values);
    *e = (lucid_examples){0};
}

static void clear(lucid_sequence *s, const lucid_task_shape *shape) {
    for (int64_t i = 0; i < shape->length * shape->n_ids; i++) s->ids[i] = -1;
    for (int64_t i = 0; i < shape->length; i++) {
        if (s->targets) s->targets[i] = -1;
        if (s->values) s->values[i] = NAN;
    }
}

lucid_status lucid_task_fill(lucid_examples *e, int at, const lucid_task *t, lucid_task_use use, int64_t step,
                             int first, int n) {
    for (int i = 0; i < n; i++) {
        const size_t place = (size_t)(at + i) * (size_t)e->length;
        lucid_draws draws = lucid_draws_begin(t->options.seed, (uint32_t)use + UINT32_C(0x5441534b), (uint32_t)step,
                                              (uint32_t)(first + i));
        lucid_sequence s = {.ids = e->ids + place * (size_t)e->n_ids,
                            .targets = e->targets ? e->targets + place : NULL,
                            .values = e->values ? e->values + place : NULL,
                            .use = use,
                            .seed = (uint32_t)step,
                            .index = (uint32_t)(first + i)};
        clear(&s, &t->shape);
        LUCID_TRY(t->source->fill(&s, t, &draws));
    }
    return LUCID_OK;
}

void lucid_task_part(const lucid_task *t, lucid_task_use use, int64_t *first, int64_t *last) {
    const int64_t n = t->options.n_ids, border = n - n / VALIDATION_SHARE;
    *first = use == LUCID_TASK_TRAIN ? 0 : border;
    *last = use == LUCID_TASK_TRAIN ? border : n;
}

const int32_t *lucid_task_window(const lucid_task *t, lucid_task_use use, int64_t n, lucid_draws *draws) {
    int64_t first, last;
    lucid_task_part(t, use, &first, &last);
    return t->options.ids + first + lucid_draws_below(draws, (uint32_t)(last - first - n + 1));
}
