/* Everything that decides the bits of a training, as one line of text that checkpoints keep and a training that goes on
 * is compared with. It is a list of clauses, "rate 0.001 to 0.1, warm-up 100 of 1000; ...", always the same ones in the
 * same order, so that two recipes differ by whole clauses. Local. */
#ifndef LUCID_RUNTIME_TRAIN_RECIPE_H
#define LUCID_RUNTIME_TRAIN_RECIPE_H

#include "runtime/train/training.h"

typedef struct {
    const lucid_training_options *options; /* with all defaults and the agreed isa filled in */
    const lucid_blas *blas;
    uint64_t text; /* checksum of the task's ids */
} lucid_recipe;

/* malloc'ed; NULL: no memory. */
char *lucid_recipe_text(const lucid_recipe *recipe);

/* The first clause in which two recipes differ, in each of them. */
typedef struct {
    const char *a, *b;
    int n_a, n_b; /* bytes */
} lucid_recipe_difference;

/* False where there is none. Pure. */
bool lucid_recipe_compare(lucid_recipe_difference *found, const char *a, const char *b);

#endif
