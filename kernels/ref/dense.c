#include "kernels/ref/dense.h"

#include <math.h>

static double dot(const double *a, const double *b, int n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int c = 0; c < n; c++) sum += a[c] * b[c];
    return sum;
}

static double distance2(const double *a, const double *b, int n) {
    double sum = 0;
    for (int c = 0; c < n; c++) sum += (a[c] - b[c]) * (a[c] - b[c]);
    return sum;
}

void lucid_dense_normalise(double *kn, const double *k, int64_t n, int d, double eps) {
    for (int64_t i = 0; i < n; i++) {
        const double norm = sqrt(dot(k + i * d, k + i * d, d) / d + eps);
        for (int c = 0; c < d; c++) kn[i * d + c] = k[i * d + c] / norm;
    }
}

double lucid_dense_weight(const double *kn_i, const double *kn_j, int d) {
    return exp(dot(kn_i, kn_j, d) / sqrt(d) - sqrt(d));
}

void lucid_dense_update_row(double *row, const double *kn, const double *y, int64_t i, int64_t first, int64_t end,
                            int d, int dv) {
    for (int64_t j = first; j < end; j++) {
        const double p = lucid_dense_weight(kn + i * d, kn + j * d, d);
        for (int c = 0; c < dv; c++) row[c] -= p * y[j * dv + c];
    }
}

void lucid_dense_solve(double *y, const double *kn, const double *v, int64_t n, int d, int dv) {
    for (int64_t i = 0; i < n; i++) {
        for (int c = 0; c < dv; c++) y[i * dv + c] = v[i * dv + c];
        lucid_dense_update_row(y + i * dv, kn, y, i, 0, i, d, dv);
    }
}

void lucid_dense_attend_row(double *out_i, double *lse_i, const double *q_i, const double *k, const double *y,
                            int64_t i, int d, int dv, double softmax_scale) {
    double max = -INFINITY, sum = 0;
    for (int64_t j = 0; j <= i; j++) max = fmax(max, softmax_scale * dot(q_i, k + j * d, d));
    for (int c = 0; c < dv; c++) out_i[c] = 0;
    for (int64_t j = 0; j <= i; j++) {
        const double w = exp(softmax_scale * dot(q_i, k + j * d, d) - max);
        sum += w;
        for (int c = 0; c < dv; c++) out_i[c] += w * y[j * dv + c];
    }
    for (int c = 0; c < dv; c++) out_i[c] /= sum;
    *lse_i = max + log(sum);
}

void lucid_dense_attend(double *out, double *lse, const double *q, const double *k, const double *y, int64_t n, int d,
                        int dv, double softmax_scale) {
    for (int64_t i = 0; i < n; i++)
        lucid_dense_attend_row(out + i * dv, lse + i, q + i * d, k, y, i, d, dv, softmax_scale);
}

static void axpy(double *y, double a, const double *x, int n) {
    for (int c = 0; c < n; c++) y[c] += a * x[c];
}

void lucid_dense_attend_backward(double *dq, double *dk, double *dy, const double *dout, const double *q,
                                 const double *k, const double *y, int64_t n, int d, int dv, double softmax_scale,
                                 double *row) {
    for (int64_t i = 0; i < n; i++) {
        const double *q_i = q + i * d, *dout_i = dout + i * dv;
        double *dq_i = dq + i * d, lse;
        lucid_dense_attend_row(row, &lse, q_i, k, y, i, d, dv, softmax_scale);
        const double delta = dot(dout_i, row, dv);
        for (int c = 0; c < d; c++) dq_i[c] = 0;
        for (int64_t j = 0; j <= i; j++) {
            const double w = exp(softmax_scale * dot(q_i, k + j * d, d) - lse);
            const double ds = softmax_scale * w * (dot(dout_i, y + j * dv, dv) - delta);
            axpy(dq_i, ds, k + j * d, d);
            axpy(dk + j * d, ds, q_i, d);
            axpy(dy + j * dv, w, dout_i, dv);
        }
    }
}

void lucid_dense_solve_backward(double *dv, double *dkn, const double *dy, const double *kn, const double *y, int64_t n,
                                int d, int value_dim) {
    for (int64_t i = 0; i < n * d; i++) dkn[i] = 0;
    for (int64_t j = n - 1; j >= 0; j--) {
        double *dv_j = dv + j * value_dim;
        for (int c = 0; c < value_dim; c++) dv_j[c] = dy[j * value_dim + c];
        for (int64_t i = j + 1; i < n; i++) {
            const double *dv_i = dv + i * value_dim, p = lucid_dense_weight(kn + i * d, kn + j * d, d);
            const double dx = -dot(dv_i, y + j * value_dim, value_dim) * p / sqrt(d);
            axpy(dv_j, -p, dv_i, value_dim);
            axpy(dkn + i * d, dx, kn + j * d, d);
            axpy(dkn + j * d, dx, kn + i * d, d);
        }
    }
}

void lucid_dense_normalise_backward(double *dk, const double *dkn, const double *k, int64_t n, int d, double eps) {
    for (int64_t i = 0; i < n; i++) {
        const double *k_i = k + i * d, *dkn_i = dkn + i * d, r = 1 / sqrt(dot(k_i, k_i, d) / d + eps);
        const double along = dot(k_i, dkn_i, d) * r * r * r / d;
        for (int c = 0; c < d; c++) dk[i * d + c] += r * dkn_i[c] - along * k_i[c];
    }
}

/* fmax would pass over a NaN. */
static double max_or_nan(double a, double b) {
    return isnan(a) || isnan(b) ? NAN : fmax(a, b);
}

static double rms_row_norm(const double *x, int64_t n, int dim) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += dot(x + i * dim, x + i * dim, dim);
    return sqrt(sum / (double)n);
}

/* Of rows that are all zero an error is absolute. */
static double error_unit(const double *ref, int64_t n, int dim) {
    const double rms = rms_row_norm(ref, n, dim);
    return rms == 0 ? 1 : rms;
}

double lucid_dense_row_error(const double *x, const double *ref, int64_t n, int dim) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = max_or_nan(largest, distance2(x + i * dim, ref + i * dim, dim));
    return sqrt(largest) / error_unit(ref, n, dim);
}

double lucid_dense_residual(const double *y, const double *kn, const double *v, int64_t n, int d, int dv, double *row) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) {
        for (int c = 0; c < dv; c++) row[c] = v[i * dv + c];
        lucid_dense_update_row(row, kn, y, i, 0, i, d, dv);
        largest = max_or_nan(largest, distance2(row, y + i * dv, dv));
    }
    return sqrt(largest) / error_unit(v, n, dv);
}
