/* The products of training: lucid_matmul's and the two of its backward pass.
 *
 * All of them work on leaves, runs of rows that are the same whatever ranks there are. They are longer than
 * lucid_matmul's panels, so that less time goes into copying weights; that makes a row's bits depend on its leaf, which
 * no text that is read in chunks could allow. A leaf's share of a weight's gradient is fp32, and leaves are added
 * exactly (exact.h). So all bits are those of one rank. */
#ifndef LUCID_RUNTIME_TRAIN_PRODUCTS_H
#define LUCID_RUNTIME_TRAIN_PRODUCTS_H

#include "runtime/model/matmul.h"

typedef struct {
    int64_t first, n_rows; /* multiples of LUCID_PANEL */
} lucid_leaf;

/* out (n_rows, n_out) = [out +] x (n_rows, n_in) weight^T + bias, over the leaves. Local. */
void lucid_matmul_leaves(float *out, const lucid_linear *linear, const float *x, const lucid_leaf *leaves, int n_leaves,
                         bool accumulate, const lucid_blas *blas, int threads);

/* dx (n_rows, n_in) = [dx +] dout (n_rows, n_out) weight, over the leaves. Local. */
void lucid_matmul_input(float *dx, const lucid_linear *linear, const float *dout, const lucid_leaf *leaves,
                        int n_leaves, bool accumulate, const lucid_blas *blas, int threads);

/* Floats of scratch that lucid_matmul_weight takes. */
size_t lucid_matmul_weight_floats(int n_in, int threads);

/* dweight (n_out, n_in) += dout^T x over the leaves; dbias (n_out) += the columns of dout, unless NULL. Local. */
void lucid_matmul_weight(double *dweight, double *dbias, const lucid_linear *linear, const float *dout, const float *x,
                         const lucid_leaf *leaves, int n_leaves, float *scratch, const lucid_blas *blas, int threads);

#endif
