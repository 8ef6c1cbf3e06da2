/* The backward of lucid_matmul: two more products of the same panels.
 *
 * Gradients of inputs come panel by panel, like the forward. Those of weights are products over leaves, runs of rows
 * that are the same whatever ranks there are; a leaf's product is fp32, and leaves are added exactly (exact.h). So the
 * bits of both are those of one rank. */
#ifndef LUCID_RUNTIME_TRAIN_PRODUCTS_H
#define LUCID_RUNTIME_TRAIN_PRODUCTS_H

#include "runtime/model/matmul.h"

typedef struct {
    int64_t first, n_rows; /* multiples of LUCID_PANEL */
} lucid_leaf;

/* dx (n_rows, n_in) = [dx +] dout (n_rows, n_out) weight. Local. */
void lucid_matmul_input(float *dx, const lucid_linear *linear, const float *dout, int64_t n_rows, bool accumulate,
                        const lucid_blas *blas, int threads);

/* Floats of scratch that lucid_matmul_weight takes. */
size_t lucid_matmul_weight_floats(int n_in, int threads);

/* dweight (n_out, n_in) += dout^T x over the leaves; dbias (n_out) += the columns of dout, unless NULL. Local. */
void lucid_matmul_weight(double *dweight, double *dbias, const lucid_linear *linear, const float *dout, const float *x,
                         const lucid_leaf *leaves, int n_leaves, float *scratch, const lucid_blas *blas, int threads);

#endif
