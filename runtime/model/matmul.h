/* Products with a model's weights.
 *
 * Rows of activations are multiplied in panels of 64 that start at multiples of 64 of the whole text, whoever holds
 * them, with zeros where a panel is not full. Each panel and each block of outputs is one call of a single-threaded
 * BLAS, always of the same sizes, so a row's bits depend on the row and its place in the panel alone: not on the number
 * of ranks or threads, nor on where a text was cut. A single row (a decoded token) takes another path, which reads the
 * weights once; its bits differ from a panel's in the last places.
 *
 * OpenBLAS copies the weights for each call, which with 64 rows takes a quarter of its time. Where it gives the same
 * bits to rows of a longer call, which depends on its kernels and the sizes and is tried out, several panels go into
 * one. */
#ifndef LUCID_RUNTIME_MODEL_MATMUL_H
#define LUCID_RUNTIME_MODEL_MATMUL_H

#include "runtime/blas/blas.h"

#define LUCID_PANEL  64 /* rows; the kernels' granule */
#define LUCID_JOINED 4  /* panels of one call: 1.3 to 1.5 times the rate of one; more give little more */

/* x weight^T + bias */
typedef struct {
    const float *weight; /* (n_out, n_in) */
    const float *bias;   /* (n_out), or NULL */
    int n_in, n_out;
    bool joined; /* lucid_matmul_joins of these sizes, or false */
} lucid_linear;

/* Whether LUCID_JOINED panels in one call get the bits that each gets in a call of its own, found by doing both with
 * random numbers. Errors: MEMORY. Local. */
lucid_status lucid_matmul_joins(bool *joins, int n_in, int n_out, const lucid_blas *blas);

/* out (n_rows, n_out) = [out +] x (n_rows, n_in) weight^T + bias; n_rows is 1 or a multiple of LUCID_PANEL. Local. */
void lucid_matmul(float *out, const lucid_linear *linear, const float *x, int64_t n_rows, bool accumulate,
                  const lucid_blas *blas, int threads);

#endif
