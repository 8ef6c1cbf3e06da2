/* A text that a model reads and goes on with, spread over the ranks of a communicator.
 *
 *   lucid_context_create    nothing read yet                                              Collective
 *   lucid_context_append    read tokens; their logits go to a sink as they come           Collective
 *   lucid_context_next      logits of what follows the last token, on every rank          Local
 *
 * Each rank keeps activations, keys and values of its own cyclic tiles; the ids of the whole text are on every rank.
 * One appended token is decoded, several are read in chunks of a bounded number of tokens. Logits never exist for more
 * than 64 positions at once. For one kind of processor they are the same bits for any number of ranks and threads; and
 * read in chunks, wherever the text is cut.
 */
#ifndef LUCID_RUNTIME_MODEL_CONTEXT_H
#define LUCID_RUNTIME_MODEL_CONTEXT_H

#include "runtime/blas/blas.h"
#include "runtime/lucid.h"
#include "runtime/model/weights.h"

typedef struct lucid_context lucid_context;

/* Zero means default. The same on every rank. */
typedef struct {
    int64_t max_tokens;      /* the longest that the text may become; no default */
    int64_t chunk;           /* tokens of a rank that are read at once; 0: 8K. Changes memory, not bits. */
    int64_t tile;            /* tokens, a multiple of 64; 0: lucid_cache_tile of max_tokens */
    lucid_dtype cache_dtype; /* LUCID_F32 or LUCID_BF16 */
    const char *saved;       /* a folder of lucid_context_save, whose text is gone on with; NULL: none */
    const char *isa;
    lucid_blas_kind blas; /* products with weights */
    lucid_schedule_kind schedule;
    size_t memory_budget; /* bytes a rank may use for remote tiles */
    int threads;
    double timeout; /* seconds without progress before a wait is an error */
    /* Called a few times a second while several tokens are read, with the share that is done, 0..1. */
    void (*progress)(void *context, double share);
    void *progress_context;
} lucid_context_options;

/* The model and the communicator must outlive the context. Errors: USAGE, UNSUPPORTED without OpenBLAS, MEMORY; of a
 * saved text INPUT when it is damaged or another model's, IO; agreed. Collective. */
lucid_status lucid_context_create(lucid_context **context, const lucid_model *model, lucid_comm *comm,
                                  const lucid_context_options *options);
void lucid_context_destroy(lucid_context *context); /* Local; NULL is fine */

/* Takes logits (n_rows, vocab_size) of what follows the tokens at position..position+n_rows-1. */
typedef lucid_status (*lucid_logits_taker)(void *context, int64_t position, int n_rows, const float *logits);

/* Which logits are wanted: of positions first..last-1 of the text. Each goes to `take` on one rank, the one that holds
 * the token, ascending on that rank. */
typedef struct {
    int64_t first, last;
    lucid_logits_taker take;
    void *context;
} lucid_logits_sink;

/* Appends ids (n), the same on every rank; sink may be NULL. Errors, agreed: USAGE when the text would grow beyond
 * max_tokens or n is not positive; INPUT when an id is not of the vocabulary, or a number in the model is not finite;
 * MEMORY; what the sink returns. After a failure but of the first two the text cannot be gone on with. Where
 * lucid_context_adrift says so, nothing can be agreed on any more: tidy up locally, then lucid_comm_abort. Collective.
 */
lucid_status lucid_context_append(lucid_context *context, const int32_t *ids, int64_t n, const lucid_logits_sink *sink);

/* After a failed append: ranks may be waiting for each other. Local. */
bool lucid_context_adrift(const lucid_context *context);

/* Goes back to the first n tokens. Errors: USAGE when there are fewer. Local, and to be done on all ranks. */
lucid_status lucid_context_truncate(lucid_context *context, int64_t n);

/* logits (vocab_size) of what follows the text, the same bits on every rank. Errors: USAGE while there is none, or
 * since the text was cut.
 * Local. */
lucid_status lucid_context_next(float *logits, lucid_context *context);

/* The text so far. */
const int32_t *lucid_context_tokens(const lucid_context *context, int64_t *n);

/* Tokens of a tile, the default filled in; a saved text brings its own. */
int64_t lucid_context_tile(const lucid_context *context);

/* Keeps the text and its cache in a folder, for any number of ranks; what was saved there before is replaced. Errors,
 * agreed: INPUT when something else is at path, IO, MEMORY. Collective. */
lucid_status lucid_context_save(const lucid_context *context, const char *path);

/* Flops that appending n tokens takes, on all ranks: attention as in lucid_plan, and twice each weight a token. */
double lucid_context_flops(const lucid_context *context, int64_t n);

/* Seconds of this rank since the context was created. */
typedef struct {
    double total;     /* in lucid_context_append */
    double chunks;    /* of which reading several tokens at once */
    double attention; /* of chunks in lucid_attention_run */
    double kernels;   /* of attention in its kernels, the mean of the threads */
    double wait;      /* of attention, the threads' mean without work: for remote tiles, or sending them */
    double products;  /* of chunks in products with weights */
    double pack;      /* of chunks in lucid_attention_load and _store */
    double decode;    /* of total in lucid_decode */
    double flops;     /* that the kernels' share of this rank stands for */
} lucid_context_times;
lucid_context_times lucid_context_elapsed(const lucid_context *context);

/* Bytes that this rank's share of the text takes, by what they are for, at most so far: its resident size should come
 * to their sum and what the program itself takes. */
typedef struct {
    size_t weights; /* the whole model, whose pages the ranks of a host share */
    size_t cache;   /* keys and values, with room to widen a layer of 16 bits; DeltaNet's states */
    size_t rows;    /* activations of the tokens read at once, and their logits */
    size_t engine;  /* attention's queries, sums, remote tiles and scratch for as many */
} lucid_context_bytes;
lucid_context_bytes lucid_context_share(const lucid_context *context); /* Local */

/* What a decoded token reads of a layer's cache on this rank, for measurements; NULL with DeltaNet. Local. */
const void *lucid_context_layer(const lucid_context *context, int layer, size_t *n_bytes);

#endif
