/* Where the tokens of some sequences of equal length lie among the rows of activations.
 *
 * Long sequences are spread over the ranks in cyclic tiles (rows.h), one sequence's rows after the other's. Short ones
 * would leave most of their panels empty: they are packed, several end to end, and rank 0 holds them. A leaf is the
 * unit that weight gradients are summed over: a tile of a sequence, or a pack. Pure. */
#ifndef LUCID_RUNTIME_TRAIN_MICRO_H
#define LUCID_RUNTIME_TRAIN_MICRO_H

#include "runtime/model/rows.h"
#include "runtime/train/products.h"

typedef struct {
    int64_t length;    /* tokens of a sequence */
    int n_sequences;   /* a multiple of pack */
    int pack;          /* sequences end to end; 1: spread over the ranks */
    int64_t pack_rows; /* of this rank, a multiple of LUCID_PANEL */
    int64_t n_rows;
    lucid_rows rows; /* of one sequence, where pack is 1 */
    int n_leaves;
} lucid_micro;

/* Sequences that a pack holds: a function of the length alone. */
int lucid_micro_pack(int64_t length);

/* The tile that training uses where none is chosen, and for what is packed always: a function of the length alone. */
int64_t lucid_micro_tile(int64_t length);

lucid_micro lucid_micro_make(int64_t length, int n_sequences, int64_t tile, int world_size, int rank);

/* The row of a token of this rank; the tokens behind it in its tile follow. */
int64_t lucid_micro_row(const lucid_micro *micro, int sequence, int64_t token);

/* The sequence and token of a row; false where it is none. */
bool lucid_micro_token(const lucid_micro *micro, int64_t row, int *sequence, int64_t *token);

/* leaves (n_leaves) */
void lucid_micro_leaves(lucid_leaf *leaves, const lucid_micro *micro);

#endif
