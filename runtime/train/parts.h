/* What is no matrix product in a decoder's forward and backward pass, row by row.
 *
 * Rows are (n_rows, n), contiguous. Gradients of weights are exact sums (exact.h) and grow; so do gradients of inputs
 * where a parameter is called `sum`. A row's bits depend on that row alone, and on no vector width: loops that vectors
 * of any length may run have no sums in them. Local. */
#ifndef LUCID_RUNTIME_TRAIN_PARTS_H
#define LUCID_RUNTIME_TRAIN_PARTS_H

#include "runtime/model/config.h"

/* Backward of lucid_rms_norm: dx_sum (n_rows, n) and dgain_sum (n) from dout (n_rows, n). The rows of n_heads > 1 heads
 * of n each share one gain. n_rows is a multiple of 64. dx_sum may not be dout. */
void lucid_rms_norm_backward(float *dx_sum, double *dgain_sum, const float *dout, const float *x, const float *gain,
                             int64_t n_rows, int n, double eps, int threads);

/* Angles of rows: cosines, then sines (period, n_turned), for the first n_turned dimensions of a head; row r takes
 * those of r % period. */
typedef struct {
    const float *angles;
    int64_t period;
    int n_turned;
} lucid_rotations;

/* Turns the heads of x (n_rows, n_heads, d) by their row's angles, back with `back`. */
void lucid_turn(float *x, const lucid_rotations *rotations, int64_t n_rows, int n_heads, int d, bool back, int threads);

/* x (n_rows, n) *= scales (period); row r takes that of r % period. */
void lucid_scale_rows(float *x, const float *scales, int64_t period, int64_t n_rows, int n, int threads);

/* hidden (n) = activation(gate) * up */
void lucid_gate(float *hidden, const float *gate, const float *up, int64_t n, int activation, int threads);
/* gate and up become their gradients, from dhidden; hidden becomes what lucid_gate gave. All (n). */
void lucid_gate_backward(float *gate, float *up, float *hidden, const float *dhidden, int64_t n, int activation,
                         int threads);

/* What a row of outputs was worth. */
typedef struct {
    double loss; /* nats, or squares; an exact term */
    bool correct;
} lucid_row_loss;

/* Cross entropy: logits (n) become their gradient times scale. */
lucid_row_loss lucid_cross_entropy(float *logits, int n, int32_t target, double scale);
/* The square of the one output's distance to the target, in the same way. */
lucid_row_loss lucid_squared_error(float *output, float target, double scale);

/* dsum (n) += the columns' sums of rows (n_rows, n), by panels of 64 rows. */
void lucid_column_sums(double *dsum, const float *rows, int64_t n_rows, int n, int threads);

#endif
