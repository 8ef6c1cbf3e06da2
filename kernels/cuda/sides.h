/* Forms for lucid_cuda_pack_sides and lucid_cuda_unpack_sides: how sides lie in what a host has of a granule. Whoever
 * drives the backward pass, a runtime or a bench of the kernels alone, brings tensors to the device by these.
 *
 * Granules are of one sequence, n_granules of them one behind the other as on the host (kernels/kernels.h), in the
 * device's memory. */
#ifndef LUCID_KERNELS_CUDA_SIDES_H
#define LUCID_KERNELS_CUDA_SIDES_H

#include "kernels/cuda/backward.h"

typedef struct {
    lucid_cuda_shape shape;
    lucid_shape host;
    int group; /* query heads of a key-value head */
} lucid_cuda_gradients;

/* Records as the sides of key tiles. */
static inline lucid_cuda_side_form lucid_cuda_key_form(const lucid_cuda_gradients *g, int n_granules,
                                                       const float *records) {
    return (lucid_cuda_side_form){.shape = g->shape,
                                  .host = g->host,
                                  .n_granules = n_granules,
                                  .keys = records,
                                  .keys_stride = lucid_record_floats(g->host),
                                  .rest = records + lucid_record_rnorm(g->host),
                                  .rest_stride = lucid_record_floats(g->host),
                                  .stride = lucid_cuda_side_floats(g->shape)};
}

/* Gradient rows' key rows as the first sides of row tiles. Unpacking does not look at rows. */
static inline lucid_cuda_side_form lucid_cuda_key_row_form(const lucid_cuda_gradients *g, int n_granules,
                                                           const float *rows) {
    lucid_cuda_side_form form = lucid_cuda_key_form(g, n_granules, rows);
    form.keys_stride = form.rest_stride = lucid_gradient_row_floats(g->host, g->group);
    form.stride *= 1 + (size_t)g->group;
    return form;
}

/* Gradient rows' query rows of one head as sides of row tiles, 1 + head sides behind the key rows'. Their queries have
 * a factor; sides have them as they came, queries (n_granules, d, 64), so that 16 bits are enough. */
static inline lucid_cuda_side_form lucid_cuda_query_row_form(const lucid_cuda_gradients *g, int n_granules,
                                                             const float *rows, int head, const float *queries) {
    lucid_cuda_side_form form = lucid_cuda_key_row_form(g, n_granules, rows);
    form.keys = queries;
    form.keys_stride = lucid_query_floats(g->host);
    form.rest += lucid_gradient_query_row(g->host, head);
    form.delta = true;
    return form;
}

#endif
