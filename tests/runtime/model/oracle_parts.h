/* What the oracle's own files share. */
#ifndef LUCID_TESTS_ORACLE_PARTS_H
#define LUCID_TESTS_ORACLE_PARTS_H

#include "tests/runtime/model/oracle.h"

#include <stddef.h>

/* x (n_tokens, n_heads, dim), as projections produce it. */
typedef struct {
    double *x;
    int n_tokens, n_heads, dim;
} oracle_heads;

static inline double *oracle_head(const oracle_heads *heads, int token, int head) {
    return heads->x + ((size_t)token * heads->n_heads + head) * heads->dim;
}

static inline double oracle_dot(const double *a, const double *b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

double *oracle_zeros(size_t n); /* ends the program when there is no memory */
double oracle_silu(double x);
/* x (n) = x / sqrt(mean(x^2) + eps) * gain; gain NULL: 1. */
void oracle_rms_norm(double *x, const float *gain, int n, double eps);

/* Turns token t of x by position t. */
void oracle_rotate(oracle_heads *x, const oracle_rope *rope);

/* out = causal softmax(q k / sqrt(dim)) v */
void oracle_softmax_attention(oracle_heads *out, const oracle_heads *q, const oracle_heads *k, const oracle_heads *v);
/* v becomes LUCID's preconditioned values. */
void oracle_precondition(oracle_heads *v, const oracle_heads *k, double eps);
/* x[t][c] = sum_w weight[c][w] x[t - 3 + w][c], tokens before the first being zero; weight (channels, 4). */
void oracle_short_convolution(oracle_heads *x, const float *weight);
/* out = the delta rule's reads; q and k need not be normalised. beta (n_tokens, k->n_heads). */
void oracle_delta_rule(oracle_heads *out, const oracle_heads *q, const oracle_heads *k, const oracle_heads *v,
                       const double *beta);

#endif
