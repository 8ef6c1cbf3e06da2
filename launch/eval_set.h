/* What an evaluation is made of: cells, each a task at one length, from the command line or from a file of samples. */
#ifndef LUCID_LAUNCH_EVAL_SET_H
#define LUCID_LAUNCH_EVAL_SET_H

#include "launch/options.h"
#include "launch/vocabulary.h"
#include "runtime/eval/given.h"
#include "runtime/eval/niah.h"

#include <jansson.h>

#define LAUNCH_EVAL_MAX_LIST 64 /* numbers in --lengths, --needles or --depths */

typedef struct {
    char name[LUCID_NIAH_NAME_MAX];
    int64_t max_length, n_samples;
    lucid_niah_task task;           /* where samples are made */
    const lucid_niah_sample *given; /* (n_samples), else NULL */
    int64_t first;                  /* samples of the cells before it */
    double flops;                   /* of reading a sample, for whoever plans */
} launch_eval_cell;

typedef struct {
    const launch_vocabulary *vocabulary;
    launch_eval_cell *cells; /* (n_cells) */
    int n_cells;
    int64_t n_samples;  /* of all cells */
    int64_t n_new;      /* most tokens of an answer */
    const char *stop;   /* that ends one; NULL: nothing */
    int64_t max_tokens; /* of the longest prompt and its answer */
    json_t *tasks;      /* {name: configuration} */
    double depths[LAUNCH_EVAL_MAX_LIST];
    int n_depths;
    lucid_corpus corpus;
    uint64_t checksum; /* of the texts or samples that were read */
    lucid_niah_samples given;
    lucid_tokens scratch;
} launch_eval_set;

/* set and vocabulary must stay where they are until it is freed, also after a failure. Errors: USAGE, INPUT, IO,
 * MEMORY. */
lucid_status launch_eval_set_make(launch_eval_set *set, const launch_options *options,
                                  const launch_vocabulary *vocabulary);
void launch_eval_set_free(launch_eval_set *set); /* fine on zeros */

/* A cell's sample, given or made anew. Close it also after a failure. */
lucid_status launch_eval_sample_open(lucid_niah_sample *sample, const launch_eval_cell *cell, int64_t i);
void launch_eval_sample_close(lucid_niah_sample *sample, const launch_eval_cell *cell);

#endif
