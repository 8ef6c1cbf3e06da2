/* What a model is trained on: sources of sequences, by name.
 *
 *   text       windows of a text; every next token is asked for
 *   two-phase  permutations of 0..9; asked for is the token itself (phase 1) or the mean so far (phase 2), a number
 *   overwrite  facts, key and value in one token, keys repeated; then queries: a key's last value counts
 *   recall     the same with every key once
 *   niah       bytes: [key: value] facts with many queries, needles in text, and text, each in so many of ten sequences
 *
 * A sequence is a pure function of the task, its seed and two numbers, step and place in the step: any rank makes any
 * of them, and the order is the same for any number of ranks. Sequences to validate with are drawn apart, those of
 * texts from their last twentieth. Local. */
#ifndef LUCID_RUNTIME_TRAIN_TASK_H
#define LUCID_RUNTIME_TRAIN_TASK_H

#include "runtime/eval/draws.h"
#include "runtime/train/pass.h"

typedef enum {
    LUCID_TASK_TEXT,
    LUCID_TASK_TWO_PHASE,
    LUCID_TASK_OVERWRITE,
    LUCID_TASK_RECALL,
    LUCID_TASK_NIAH
} lucid_task_kind;

typedef struct {
    lucid_task_kind kind;
    uint64_t seed;
    int64_t length;     /* tokens of a sequence; overwrite, recall and two-phase: 0, it follows */
    int phase;          /* two-phase: 1 or 2 */
    int n_facts;        /* overwrite and recall */
    int n_slots;        /* overwrite: different keys of a sequence */
    int n_queries;      /* overwrite and recall */
    int n_keys;         /* overwrite and recall: that there are */
    int n_values;       /* the same */
    int n_positions;    /* overwrite and recall: learned positions; sequences begin anywhere in them; 0: none */
    const int32_t *ids; /* (n_ids) text and niah: the text's tokens, the caller's */
    int64_t n_ids;
    int vocab_size;     /* text and niah: of the text's tokens */
    int facts_in_ten;   /* niah: sequences of facts, of each ten; the rest is text */
    int needles_in_ten; /* the same of needles */
} lucid_task_options;

typedef struct lucid_task lucid_task;

/* What the task asks of a model. */
typedef struct {
    int64_t length;
    int vocab_size; /* ids are below it */
    int n_outputs;  /* 0: one a token of the vocabulary */
    int n_ids;      /* of a token */
    bool values;    /* targets are numbers */
} lucid_task_shape;

/* Errors: USAGE for options that contradict each other, INPUT for too short a text, MEMORY. */
lucid_status lucid_task_open(lucid_task **task, const lucid_task_options *options);
void lucid_task_close(lucid_task *task); /* NULL is fine */
lucid_task_shape lucid_task_shape_of(const lucid_task *task);

/* examples of that shape, n_sequences of them. Errors: MEMORY. */
lucid_status lucid_examples_create(lucid_examples *examples, const lucid_task *task, int n_sequences);
void lucid_examples_destroy(lucid_examples *examples); /* fine on zeros */

typedef enum { LUCID_TASK_TRAIN, LUCID_TASK_VALIDATE } lucid_task_use;

/* Sequences first..first+n-1 of a step into places at..at+n-1 of examples. Errors: MEMORY. */
lucid_status lucid_task_fill(lucid_examples *examples, int at, const lucid_task *task, lucid_task_use use, int64_t step,
                             int first, int n);

#endif
