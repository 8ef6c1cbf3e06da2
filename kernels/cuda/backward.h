/* The backward pass on an NVIDIA GPU: sums over pairs of a key granule and a row granule, as in kernels/kernels.h.
 *
 * Two launches, each of which owns what it adds to, so that nothing is added by two at once and no sum depends on how
 * pairs are shared out:
 *   keys  a block takes a key granule through row granules, the sequence's last first, and keeps dkeys and dvalues in
 *         registers: the softmax's share, then the solve's, then, with `own`, the granule's own back substitution.
 *   rows  a block takes a row granule, of one query head or of the solve, through key granules, its own first and then
 *         the earlier ones, and keeps dq or dkt. It needs the row's dv.
 * All is fp32 in memory. Products are made by tensor cores in tf32: 16-bit keys and queries lose nothing by that, other
 * operands keep 11 bits and their range, so nothing has to be scaled. Of fp32 tensors each operand is split in two
 * terms and three products are added, which leaves 21 bits. Four products a pair for keys and three for rows. */
#ifndef LUCID_KERNELS_CUDA_BACKWARD_H
#define LUCID_KERNELS_CUDA_BACKWARD_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A side is what one granule brings to a pair, fp32, contiguous; columns behind head_dim or value_dim are zero:
 *   keys    (64, W)  k, or q of a query row
 *   values  (64, W)  y of a key; dout of a query row; of a key row what becomes dv
 *   norm    (64)     rnorm; -lse of a query row, base 2
 *   delta   (64)     -delta of a query row
 * Sums of a granule are matrices (64, W): */
enum { LUCID_CUDA_DKEYS, LUCID_CUDA_UPDATE_DKEYS, LUCID_CUDA_DKT, LUCID_CUDA_DQ }; /* of each head, and then dY */

LUCID_HOST_DEVICE size_t lucid_cuda_side_floats(lucid_cuda_shape s) {
    return (size_t)LUCID_GRANULE * (2 * lucid_cuda_width(s) + 2);
}
LUCID_HOST_DEVICE size_t lucid_cuda_sum_floats(lucid_cuda_shape s) {
    return (size_t)LUCID_GRANULE * lucid_cuda_width(s);
}
LUCID_HOST_DEVICE size_t lucid_cuda_sums_floats(lucid_cuda_shape s, int group) {
    return lucid_cuda_sum_floats(s) * (size_t)(LUCID_CUDA_DQ + group + 1);
}

/* Pointers are to the device's memory, aligned to 16 bytes. Tiles are (n_sequences, granules_per_tile), of keys: sides,
 * of rows: 1 + group sides, the key row and the query rows. */
typedef struct {
    lucid_cuda_shape shape;
    const float *tiles[LUCID_CUDA_TILES]; /* keys: later row tiles, descending; rows: earlier key tiles, descending */
    int n_tiles, granules_per_tile;
    int n_first;            /* granules of tiles[0]; the others are full */
    bool own;               /* the own tile against itself: after those of `keys`, before those of `rows` */
    bool solve;             /* false: softmax attention */
    int n_granules;         /* of the own tile */
    int n_sequences, group; /* kv heads times batch; query heads of each */
    const float *keys;      /* the own tile */
    float *rows;            /* the same; keys: the key rows' values, dv once solved */
    float *sums;            /* (n_sequences, granules_per_tile) */
    unsigned *counters;     /* keys: (1 + n_sequences), zero */
    int head_dim;
    float scale; /* softmax_scale * log2(e) */
} lucid_cuda_backward;

/* All return NULL, or what is wrong. Local. */

/* As lucid_cuda_prepare, for the two below. */
const char *lucid_cuda_backward_prepare(lucid_cuda_shape shape);
const char *lucid_cuda_backward_keys(const lucid_cuda_backward *piece, lucid_cuda_stream stream);
const char *lucid_cuda_backward_rows(const lucid_cuda_backward *piece, lucid_cuda_stream stream);

/* Sides of n_granules granules from a host's, in the device's memory; strides in floats from one granule to the next.
 * sides.h has the forms that there are. */
typedef struct {
    lucid_cuda_shape shape;
    lucid_shape host;
    int n_granules;
    const float *keys; /* (d, 64) */
    size_t keys_stride;
    const float *rest; /* norm (64) | values (64, w) | delta (64) if `delta` */
    size_t rest_stride;
    bool delta;
    size_t stride; /* of the sides */
} lucid_cuda_side_form;

const char *lucid_cuda_pack_sides(float *sides, const lucid_cuda_side_form *form, lucid_cuda_stream stream);
/* host (n_granules, 64, w) = values of sides; of the form shape, host, n_granules and stride count. */
const char *lucid_cuda_unpack_sides(float *host, const float *sides, const lucid_cuda_side_form *form,
                                    lucid_cuda_stream stream);
/* host (n_granules) granules' sums as in kernels/kernels.h: dkeys times scale | update_dkeys | dkt | dqt of each head |
 * dY, from sums (n_granules). */
const char *lucid_cuda_unpack_sums(float *host, const float *sums, int group, float scale,
                                   const lucid_cuda_side_form *form, lucid_cuda_stream stream);

#ifdef __cplusplus
}
#endif

#endif
