/* A micro-batch forward and backward through a model, across the ranks that share its sequences.
 *
 * Each rank keeps the activations of its own tokens (micro.h); attention goes through the engine, one attention object
 * a layer, so that nothing of it is computed twice. Memory, in floats a token and layer: 2 hidden + q (and q + kv with
 * q and k norms, q + 2 kv with convolutions) + 2 intermediate, and what lucid_attention keeps for its backward pass.
 *
 * Gradients are added to the trainee's, exactly: their bits do not depend on how sequences are dealt to micro-batches,
 * passes and ranks. */
#ifndef LUCID_RUNTIME_TRAIN_PASS_H
#define LUCID_RUNTIME_TRAIN_PASS_H

#include "runtime/blas/blas.h"
#include "runtime/lucid.h"
#include "runtime/train/trainee.h"

#define LUCID_TOKEN_IDS 3 /* a token's embedding is the sum of so many rows of embed_tokens, at most */

/* Sequences as a task makes them. Targets are ids or, for outputs of one number, values. */
typedef struct {
    int64_t length;   /* of each sequence */
    int n_sequences;  /* any number up to the pass's */
    int n_ids;        /* 1..LUCID_TOKEN_IDS */
    int32_t *ids;     /* (n_sequences, length, n_ids); -1: none */
    int32_t *targets; /* (n_sequences, length); -1: not asked. NULL: values count */
    float *values;    /* (n_sequences, length); NaN: not asked. NULL: targets count */
} lucid_examples;

/* Sums over tokens that were asked, of this rank; exact, so that they may be added in any order. */
typedef struct {
    double loss, correct, asked;
} lucid_pass_sums;

typedef struct lucid_pass lucid_pass;

/* Zero means default. The same on every rank. */
typedef struct {
    int64_t length;  /* tokens of a sequence; no default */
    int n_sequences; /* that a micro-batch holds; 0: 1; rounded up to whole packs */
    int64_t tile;    /* tokens, a multiple of 64; 0: lucid_micro_tile. Part of the bits of weight gradients. */
    const char *isa;
    lucid_blas_kind blas;
    int threads;
    double timeout;
    bool backward; /* false: only lucid_pass_score */
} lucid_pass_options;

/* comm: the ranks that share each sequence. Errors: USAGE, UNSUPPORTED without OpenBLAS, MEMORY; agreed. Collective. */
lucid_status lucid_pass_create(lucid_pass **pass, lucid_trainee *trainee, lucid_comm *comm,
                               const lucid_pass_options *options);
void lucid_pass_destroy(lucid_pass *pass); /* Local; NULL is fine */

int lucid_pass_sequences(const lucid_pass *pass); /* that a micro-batch may hold */

/* Adds losses to sums, and scale times their gradients to the trainee's. Errors, agreed unless
 * lucid_pass_adrift: INPUT when a number is not finite. Collective. */
lucid_status lucid_pass_learn(lucid_pass_sums *sums, lucid_pass *pass, const lucid_examples *examples, double scale);

/* Forward alone. */
lucid_status lucid_pass_score(lucid_pass_sums *sums, lucid_pass *pass, const lucid_examples *examples);

/* After a failure: ranks may be waiting for each other, and nothing can be agreed on any more. Local. */
bool lucid_pass_adrift(const lucid_pass *pass);

/* Seconds of this rank since the pass was created. */
typedef struct {
    double attention, pack, losses, total; /* pack: loading and storing */
} lucid_pass_times;
lucid_pass_times lucid_pass_elapsed(const lucid_pass *pass);

#endif
