/* The oracle: LUCID attention of one head in fp64, row by row as the paper writes it. No tiles, no online softmax,
 * nothing shared with the kernels it judges; speed is no aim. Tensors are row-major and contiguous, (n, d) or (n, dv).
 *
 *   kn_i = k_i / sqrt(mean(k_i^2) + eps)
 *   P_ij = exp(kn_i . kn_j / sqrt(d) - sqrt(d)) for j < i,  P_ii = 1,  P_ij = 0 for j > i
 *   y_i  = v_i - sum_{j<i} P_ij y_j                                  (P Y = V)
 *   o_i  = sum_{j<=i} softmax_j(softmax_scale q_i . k_j) y_j
 *
 * and its backward, given dout, with w_ij the softmax weights:
 *
 *   ds_ij = w_ij (dout_i . y_j - dout_i . o_i)      dq_i = softmax_scale sum_j ds_ij k_j
 *   dy_j  = sum_i w_ij dout_i                       dk_j = softmax_scale sum_i ds_ij q_i
 *   P^T dV = dY                                     dx_ij = -(dv_i . y_j) P_ij for j < i
 *   dkn_i = (sum_{j<i} dx_ij kn_j + sum_{j>i} dx_ji kn_j) / sqrt(d), then backward through the norm into dk
 *
 * Rows are functions of their own, so that callers may share them out. No allocation. */
#ifndef LUCID_KERNELS_REF_DENSE_H
#define LUCID_KERNELS_REF_DENSE_H

#include <stdint.h>

/* kn (n, d); kn and k may be the same. */
void lucid_dense_normalise(double *kn, const double *k, int64_t n, int d, double eps);

/* P_ij for j < i, from the two normalised keys. */
double lucid_dense_weight(const double *kn_i, const double *kn_j, int d);

/* row (dv) -= sum of P_ij y_j over j = first..end-1, where end <= i. */
void lucid_dense_update_row(double *row, const double *kn, const double *y, int64_t i, int64_t first, int64_t end,
                            int d, int dv);

/* Y from P Y = V by forward substitution; y and v may be the same. */
void lucid_dense_solve(double *y, const double *kn, const double *v, int64_t n, int d, int dv);

/* out_i (dv) and lse_i of row i: attention of q_i (d) over keys 0..i and their values y. */
void lucid_dense_attend_row(double *out_i, double *lse_i, const double *q_i, const double *k, const double *y,
                            int64_t i, int d, int dv, double softmax_scale);

/* out (n, dv) and lse (n). */
void lucid_dense_attend(double *out, double *lse, const double *q, const double *k, const double *y, int64_t n, int d,
                        int dv, double softmax_scale);

/* Softmax attention of one query head backwards: dq (n, d) is written, dk (n, d) and dy (n, dv) are added to, so that
 * the query heads of one key-value head sum up. row is scratch (dv). */
void lucid_dense_attend_backward(double *dq, double *dk, double *dy, const double *dout, const double *q,
                                 const double *k, const double *y, int64_t n, int d, int dv, double softmax_scale,
                                 double *row);

/* The solve backwards: dv (n, value_dim) from P^T dV = dY by back substitution, dv and dy may be the same; dkn (n, d)
 * is written. */
void lucid_dense_solve_backward(double *dv, double *dkn, const double *dy, const double *kn, const double *y, int64_t n,
                                int d, int value_dim);

/* dk (n, d) += the gradient through kn = k / sqrt(mean(k^2) + eps). */
void lucid_dense_normalise_backward(double *dk, const double *dkn, const double *k, int64_t n, int d, double eps);

/* max_i |x_i - ref_i| / sqrt(mean_i |ref_i|^2), 2-norms over the dim numbers of a row; the norm of the reference alone
 * scales it, not each row's own. NaN anywhere in x gives NaN. */
double lucid_dense_row_error(const double *x, const double *ref, int64_t n, int dim);

/* max_i |(P Y - V)_i| / sqrt(mean_i |v_i|^2). row is scratch (dv). */
double lucid_dense_residual(const double *y, const double *kn, const double *v, int64_t n, int d, int dv, double *row);

#endif
