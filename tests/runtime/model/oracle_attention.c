/* The three attentions, over all heads of one layer.
 *
 * DeltaNet keeps the conventions of flash-linear-attention's layer with its default options: q, k and v pass a causal
 * depthwise convolution of width 4 without bias and then SiLU (SiLU alone when convolutions are off); q and k are
 * divided by their L2 norm, sqrt(sum + 1e-6), per head; beta is a sigmoid, one number a token and key-value head,
 * projected from the layer's input; queries are scaled by 1 / sqrt(dim); a token reads the state after its own write;
 * RMSNorm with a gain shared by all heads follows per head. There is no RoPE and no output gate. That layer has as
 * many key-value heads as query heads; with fewer, query heads share a state as in GQA. */
#include "tests/runtime/model/oracle_parts.h"

#include <math.h>
#include <stdlib.h>

#define L2_NORM_EPS 1e-6

/* weights (n) = softmax of scores, in place */
static void softmax(double *weights, int n) {
    double largest = weights[0], sum = 0;
    for (int j = 1; j < n; j++) largest = fmax(largest, weights[j]);
    for (int j = 0; j < n; j++) sum += weights[j] = exp(weights[j] - largest);
    for (int j = 0; j < n; j++) weights[j] /= sum;
}

void oracle_softmax_attention(oracle_heads *out, const oracle_heads *q, const oracle_heads *k, const oracle_heads *v) {
    const int group = q->n_heads / k->n_heads;
    double *weights = oracle_zeros((size_t)q->n_tokens);
    for (int h = 0; h < q->n_heads; h++) {
        for (int i = 0; i < q->n_tokens; i++) {
            double *row = oracle_head(out, i, h);
            for (int j = 0; j <= i; j++)
                weights[j] = oracle_dot(oracle_head(q, i, h), oracle_head(k, j, h / group), q->dim) / sqrt(q->dim);
            softmax(weights, i + 1);
            for (int c = 0; c < v->dim; c++) row[c] = 0;
            for (int j = 0; j <= i; j++) {
                for (int c = 0; c < v->dim; c++) row[c] += weights[j] * oracle_head(v, j, h / group)[c];
            }
        }
    }
    free(weights);
}

static oracle_heads copy_of(const oracle_heads *heads) {
    const size_t n = (size_t)heads->n_tokens * heads->n_heads * heads->dim;
    oracle_heads copy = *heads;
    copy.x = oracle_zeros(n);
    for (size_t i = 0; i < n; i++) copy.x[i] = heads->x[i];
    return copy;
}

void oracle_precondition(oracle_heads *v, const oracle_heads *k, double eps) {
    const double root = sqrt(k->dim);
    oracle_heads kn = copy_of(k);
    for (int h = 0; h < k->n_heads; h++) {
        for (int i = 0; i < k->n_tokens; i++) {
            double *y = oracle_head(v, i, h);
            oracle_rms_norm(oracle_head(&kn, i, h), NULL, k->dim, eps);
            for (int j = 0; j < i; j++) {
                const double p = exp(oracle_dot(oracle_head(&kn, i, h), oracle_head(&kn, j, h), k->dim) / root - root);
                for (int c = 0; c < v->dim; c++) y[c] -= p * oracle_head(v, j, h)[c];
            }
        }
    }
    free(kn.x);
}

void oracle_short_convolution(oracle_heads *x, const float *weight) {
    const int channels = x->n_heads * x->dim;
    for (int t = x->n_tokens - 1; t >= 0; t--) {
        for (int c = 0; c < channels; c++) {
            double sum = 0;
            for (int w = 0; w < ORACLE_CONV_WIDTH; w++) {
                const int from = t - (ORACLE_CONV_WIDTH - 1) + w;
                if (from >= 0) sum += weight[c * ORACLE_CONV_WIDTH + w] * x->x[(size_t)from * channels + c];
            }
            x->x[(size_t)t * channels + c] = sum;
        }
    }
}

static void l2_norm(oracle_heads *x) {
    for (int t = 0; t < x->n_tokens; t++) {
        for (int h = 0; h < x->n_heads; h++) {
            double *row = oracle_head(x, t, h);
            const double norm = sqrt(oracle_dot(row, row, x->dim) + L2_NORM_EPS);
            for (int c = 0; c < x->dim; c++) row[c] /= norm;
        }
    }
}

/* state (dim of v, dim of k) = state (I - beta k k^T) + beta v k^T */
static void delta_write(double *state, const double *k, const double *v, double beta, int dim) {
    for (int r = 0; r < dim; r++) {
        const double change = beta * (v[r] - oracle_dot(state + (size_t)r * dim, k, dim));
        for (int c = 0; c < dim; c++) state[(size_t)r * dim + c] += change * k[c];
    }
}

void oracle_delta_rule(oracle_heads *out, const oracle_heads *q, const oracle_heads *k, const oracle_heads *v,
                       const double *beta) {
    const int dim = k->dim, group = q->n_heads / k->n_heads;
    oracle_heads qn = copy_of(q), kn = copy_of(k);
    l2_norm(&qn);
    l2_norm(&kn);
    for (int g = 0; g < k->n_heads; g++) {
        double *state = oracle_zeros((size_t)dim * dim);
        for (int t = 0; t < k->n_tokens; t++) {
            delta_write(state, oracle_head(&kn, t, g), oracle_head(v, t, g), beta[(size_t)t * k->n_heads + g], dim);
            for (int h = g * group; h < (g + 1) * group; h++) {
                for (int r = 0; r < dim; r++)
                    oracle_head(out, t, h)[r] =
                        oracle_dot(state + (size_t)r * dim, oracle_head(&qn, t, h), dim) / sqrt(dim);
            }
        }
        free(state);
    }
    free(kn.x);
    free(qn.x);
}
