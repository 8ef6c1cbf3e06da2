/* Causal depthwise convolutions of the projections q, k and v: out[t] = sum over w of weight[w] x[t - (width - 1) + w],
 * channel by channel, in fp32 and in the order of w.
 *
 * A token needs the width - 1 tokens before it. Where they are elsewhere - in an earlier chunk, on another rank - their
 * projections stand in a tail: (width - 1, q + k + v channels), oldest first, zeros before the first token. Each output
 * depends on its own width inputs alone, in a fixed order, so bits do not depend on where a text is cut. Internal to
 * lucid_model and lucid_train. */
#ifndef LUCID_RUNTIME_MODEL_CONVOLUTION_H
#define LUCID_RUNTIME_MODEL_CONVOLUTION_H

#include "comm/comm.h"
#include "runtime/model/config.h"
#include "runtime/model/rows.h"

#define LUCID_PROJECTIONS 3  /* q, k, v */
#define LUCID_CONV_MAX    16 /* the largest width */
#define LUCID_CONV_STRIP  64

typedef struct {
    int width; /* 1: no convolutions, and tails are empty */
    int n_channels[LUCID_PROJECTIONS];
} lucid_convolution;

lucid_convolution lucid_convolution_of(const lucid_model_config *config);
size_t lucid_tail_floats(const lucid_convolution *shape);

/* A tail's columns of projection `which`, and the floats from one of its tokens to the next. */
size_t lucid_tail_column(const lucid_convolution *shape, int which);
size_t lucid_tail_ld(const lucid_convolution *shape);

/* tail = that of the token behind n_tokens consecutive rows, projections[i] (n_tokens, n_channels[i]) from the first of
 * them on, whose own tail is `before`. */
void lucid_tail_make(float *tail, const float *before, const float *const projections[LUCID_PROJECTIONS],
                     int64_t n_tokens, const lucid_convolution *shape);

/* The channels of all three, cut into strips of one projection each, of which a thread takes one at once. */
typedef struct {
    int which, column, n; /* the projection; its first channel; how many, at most LUCID_CONV_STRIP */
} lucid_conv_columns;
int lucid_convolution_strips(const lucid_convolution *shape);
lucid_conv_columns lucid_convolution_columns(const lucid_convolution *shape, int strip);

/* Up to LUCID_CONV_STRIP channels of consecutive tokens. */
typedef struct {
    int64_t n_tokens;
    int n_channels;
    size_t ld;           /* of x and out: floats from token to token */
    const float *weight; /* (n_channels, width) */
    int width;
    const float *border; /* (width - 1) tokens next to them: before the first; of gradients behind the last */
    size_t border_ld;
} lucid_conv_strip;

/* out may be x. Local. */
void lucid_convolve(float *out, const float *x, const lucid_conv_strip *strip);

/* dx from dout, which may be dx. Local. */
void lucid_convolve_back(float *dx, const float *dout, const lucid_conv_strip *strip);

/* dweight (width, LUCID_CONV_STRIP) = the sums over the strip's tokens of dout[t] x[t - (width - 1) + w]; x's border.
 */
void lucid_convolve_weight(float *dweight, const float *dout, const float *x, const lucid_conv_strip *strip);

/* What a rank has of a chunk in one tile: consecutive rows. */
typedef struct {
    int64_t index, row; /* in the text; of its first token of the chunk, local */
    int n_tokens;
    float *tail; /* of its first token */
} lucid_tile;

/* The tiles of a chunk that this rank holds, ascending, with room for their tails. */
typedef struct {
    const lucid_rows *rows;
    lucid_tile *tiles; /* (n_tiles) */
    int n_tiles;
    int64_t first, last; /* tiles of the whole chunk, by their index in the text */
    float *tails, *leaving;
} lucid_tiles;

/* Errors: MEMORY. Local. Free also after a failure. */
lucid_status lucid_tiles_make(lucid_tiles *tiles, const lucid_rows *rows, const lucid_convolution *shape);
void lucid_tiles_free(lucid_tiles *tiles); /* fine on zeros */

/* Fills the tiles' tails. tail: in, of the chunk's first token; out, of the one behind the chunk; on every rank.
 * projections are of all of this rank's rows. Errors, not agreed on: COMM, TIMEOUT. Collective. */
lucid_status lucid_tails_exchange(float *tail, lucid_tiles *tiles, const float *const projections[LUCID_PROJECTIONS],
                                  const lucid_convolution *shape, lucid_comm *comm, double timeout);

/* Blocks of floats that go from each tile of first..last to the one after it, or with `back` the one before; tile t is
 * on rank t mod world_size. leaving and coming (own tiles, n_floats); the tile that gets none keeps what it has. */
typedef struct {
    int64_t first, last;
    size_t n_floats;
    bool back;
} lucid_border;

/* Errors, not agreed on: COMM, TIMEOUT, MEMORY. Collective. */
lucid_status lucid_border_exchange(float *coming, const float *leaving, const lucid_border *border, lucid_comm *comm,
                                   double timeout);

#endif
