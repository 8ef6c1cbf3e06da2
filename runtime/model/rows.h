/* The tokens of one step and the rows that a rank holds of them: whole panels of its own cyclic tiles, ascending. Pure.
 */
#ifndef LUCID_RUNTIME_MODEL_ROWS_H
#define LUCID_RUNTIME_MODEL_ROWS_H

#include "runtime/model/matmul.h"

typedef struct {
    int64_t first, last; /* tokens first..last-1 of the text */
    int64_t tile;        /* tokens, a multiple of LUCID_PANEL; tile t is on rank t mod world_size */
    int world_size, rank;
    int64_t n_rows; /* of this rank: panels that hold a token of the step, times LUCID_PANEL */
} lucid_rows;

lucid_rows lucid_rows_make(int64_t first, int64_t last, int64_t tile, int world_size, int rank);

/* The token of a local row; it may be outside of first..last-1. */
int64_t lucid_rows_token(const lucid_rows *rows, int64_t row);

/* The local row of a token of one of this rank's tiles. */
int64_t lucid_rows_index(const lucid_rows *rows, int64_t token);

/* The rank that holds a token. */
int lucid_rows_owner(const lucid_rows *rows, int64_t token);

#endif
