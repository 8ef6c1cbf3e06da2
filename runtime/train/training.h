/* Training: steps of AdamW on a grid of ranks.
 *
 * Ranks form data_parallel groups of equal size. A group's ranks share each sequence (pass.h), groups share the
 * sequences of a step, and gradients are summed over all ranks. Their bits, and so those of every parameter at every
 * step, are the same for any grid, number of threads and micro-batch: what decides them is the recipe alone, which
 * recipe.h spells out and checkpoints record. */
#ifndef LUCID_RUNTIME_TRAIN_TRAINING_H
#define LUCID_RUNTIME_TRAIN_TRAINING_H

#include "runtime/blas/blas.h"
#include "runtime/train/optimizer.h"
#include "runtime/train/task.h"

/* Zero means default where one is named. The same on every rank. */
typedef struct {
    /* The recipe. */
    lucid_trainee_config model;
    lucid_task_options task;
    uint64_t seed;     /* of the weights; the task has its own */
    double deviation;  /* of the first weights; 0: 0.02 */
    bool matching;     /* lucid_trainee_match */
    int n_sequences;   /* of a step */
    int64_t tile;      /* see lucid_pass_options */
    lucid_adamw adamw; /* eps 0: 1e-8 */
    lucid_rate_course course;
    double clip; /* the largest norm of a step's gradients; 0: none */

    /* How it is computed: changes no bit but isa and blas. */
    int data_parallel; /* groups; 0: 1. Divides world_size. */
    int micro_batch;   /* sequences that a group computes at once; 0: 1 */
    int threads;
    const char *isa;
    lucid_blas_kind blas;
    double timeout;
} lucid_training_options;

typedef struct lucid_training lucid_training;

/* Errors: USAGE for options that contradict each other, UNSUPPORTED, INPUT, MEMORY; agreed. Collective. */
lucid_status lucid_training_create(lucid_training **training, lucid_comm *comm, const lucid_training_options *options);
void lucid_training_destroy(lucid_training *training); /* Collective, for its communicators; NULL is fine */

/* What a step, or a validation, came to; the same on all ranks. */
typedef struct {
    double loss;       /* mean over what was asked */
    double accuracy;   /* share of it that was right */
    double asked;      /* tokens */
    double rate, norm; /* of a step: the learning rate, and the gradients' norm before it is clipped */
} lucid_step_result;

/* Errors, agreed unless lucid_training_adrift says that ranks were left waiting: INPUT when gradients are not finite.
 * Collective. */
lucid_status lucid_training_step(lucid_step_result *result, lucid_training *training);

/* The loss on n_sequences sequences that are not trained on, of the training's own task or another of its shape (NULL:
 * the own). Nothing changes. Collective. */
lucid_status lucid_training_validate(lucid_step_result *result, lucid_training *training,
                                     const lucid_task_options *task, int n_sequences);

bool lucid_training_adrift(const lucid_training *training);

/* The parts, for checkpoints. */
int64_t lucid_training_steps(const lucid_training *training); /* done */
lucid_trainee *lucid_training_trainee(lucid_training *training);
lucid_moments *lucid_training_moments(lucid_training *training);
void lucid_training_set_steps(lucid_training *training, int64_t n);

char *lucid_training_recipe(const lucid_training *training); /* recipe.h; malloc'ed, NULL: no memory */

/* Flops of a step: 6 a parameter and token but the embedding's, and attention with its backward pass as 3.5 times the
 * forward. Of all ranks. */
double lucid_training_flops(const lucid_training *training);
int64_t lucid_training_tokens(const lucid_training *training);           /* of a step */
lucid_pass_times lucid_training_elapsed(const lucid_training *training); /* in steps, not in validation */

#endif
