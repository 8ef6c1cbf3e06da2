/* DeltaNet's arithmetic on rows that one rank holds. Internal to lucid_model. Local. */
#ifndef LUCID_RUNTIME_MODEL_DELTANET_PARTS_H
#define LUCID_RUNTIME_MODEL_DELTANET_PARTS_H

#include "runtime/model/convolution.h"
#include "runtime/model/forward.h"

typedef struct {
    int n_heads, head_dim;
    int conv_size; /* 1: no convolutions */
} lucid_deltanet_shape;

/* Up to 64 tokens of one granule: rows first..last-1 of forward, one head. */
typedef struct {
    lucid_forward *forward;
    int64_t first, last;
    int head;
} lucid_deltanet_rows;

/* Projections of consecutive tokens to what the delta rule takes: convolved, through SiLU, q and k normalised, q
 * scaled; beta through its sigmoid. tail: of the first of them. */
void lucid_deltanet_features(lucid_forward *forward, const lucid_model_layer *layer, int64_t row, int n_tokens,
                             const float *tail, const lucid_deltanet_shape *shape, int threads);

/* state (d, d: keys, values) and forward's q of the rows by the WY form; scratch of lucid_deltanet_scratch_floats. */
void lucid_deltanet_granule(float *state, const lucid_deltanet_rows *rows, const lucid_deltanet_shape *shape,
                            const lucid_blas *blas, float *scratch);
size_t lucid_deltanet_scratch_floats(const lucid_deltanet_shape *shape);

/* The same for forward's single row, as the recurrence. */
void lucid_deltanet_step(float *state, lucid_forward *forward, int head, const lucid_deltanet_shape *shape);

#endif
