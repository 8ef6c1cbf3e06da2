/* A kind of task as the table in task.c has it. */
#ifndef LUCID_RUNTIME_TRAIN_TASK_KINDS_H
#define LUCID_RUNTIME_TRAIN_TASK_KINDS_H

#include "runtime/eval/corpus.h"
#include "runtime/train/task.h"

#include <math.h>

struct lucid_task {
    const struct lucid_task_source *source;
    lucid_task_options options;
    lucid_task_shape shape;
    lucid_corpus corpora[2]; /* niah: text to train on and to validate with, as words */
};

/* One sequence to be filled; nothing is asked yet, and all ids are none. */
typedef struct {
    int32_t *ids;     /* (length, n_ids) */
    int32_t *targets; /* (length), or NULL */
    float *values;    /* (length), or NULL */
    lucid_task_use use;
    uint32_t seed, index; /* of draws that begin anew */
} lucid_sequence;

typedef struct lucid_task_source {
    lucid_status (*open)(lucid_task *task); /* checks the options, sets the shape */
    lucid_status (*fill)(lucid_sequence *sequence, const lucid_task *task, lucid_draws *draws);
} lucid_task_source;

extern const lucid_task_source lucid_task_text, lucid_task_two_phase, lucid_task_facts, lucid_task_niah;

/* A window of the text, of n ids; ids are not asked. */
const int32_t *lucid_task_window(const lucid_task *task, lucid_task_use use, int64_t n, lucid_draws *draws);

/* The part of the text that is for `use`. */
void lucid_task_part(const lucid_task *task, lucid_task_use use, int64_t *first, int64_t *last);

#endif
