/* A of the sequence's first rows in plain C: the softmax pass in fp64, row by row. */
#ifndef LUCID_REF_EXACT_H
#define LUCID_REF_EXACT_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "kernels/kernels.h"

/* 2^x to 1e-12 by Taylor's series; 0 below the normal numbers, infinity above them. */
static double exp2_of_double(double x) {
    static const double terms[] = {0x1.e4cf5158b8ec7p-28,
                                   0x1.b5253d395e7c1p-24,
                                   0x1.62c0223a5c822p-20,
                                   0x1.ffcbfc588b0c5p-17,
                                   0x1.430912f86c786p-13,
                                   0x1.5d87fe78a673p-10,
                                   0x1.3b2ab6fba4e77p-7,
                                   0x1.c6b08d704a0bfp-5,
                                   0x1.ebfbdff82c58ep-3,
                                   0x1.62e42fefa39efp-1,
                                   1};
    if (!(x >= -1022)) return x != x ? x : 0;
    if (x >= 1023.5) return INFINITY;
    double n = rint(x), p = 0;
    for (size_t k = 0; k < sizeof terms / sizeof *terms; k++) p = p * (x - n) + terms[k];
    uint64_t bits = (uint64_t)((int64_t)n + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

/* scores (n_keys) in fp64, row i's queries times the first n_keys keys */
static void exact_scores(double *score, const float *qt, int i, const float *kt, double scale, int d, int n_keys) {
    for (int j = 0; j < n_keys; j++) {
        score[j] = 0;
        for (int c = 0; c < d; c++) score[j] += scale * qt[c * LUCID_GRANULE + i] * kt[c * LUCID_GRANULE + j];
    }
}

static double exact_weights(double *p, const double *score, float m, int n_keys) {
    double sum = 0;
    for (int j = 0; j < n_keys; j++) sum += p[j] = exp2_of_double(score[j] - m);
    return sum;
}

static void exact_row(float *state, const float *qt, int i, const float *key, double scale, lucid_shape shape,
                      int n_keys, bool last) {
    double score[LUCID_GRANULE], p[LUCID_GRANULE], largest = -INFINITY;
    const float *y = key + lucid_record_values(shape);
    float *m = state + i, *l = state + LUCID_GRANULE + i, *o = state + 2 * LUCID_GRANULE + i * shape.value_ld;
    exact_scores(score, qt, i, key, scale, shape.head_dim, n_keys);
    double sum = exact_weights(p, score, *m, n_keys);
    if (!(sum <= (double)(1ull << LUCID_RESCALE_EXPONENT))) {
        for (int j = 0; j < n_keys; j++) largest = fmax(largest, score[j]);
        double factor = exp2_of_double(*m - (float)largest);
        *m = (float)largest;
        *l = (float)(*l * factor);
        for (int c = 0; c < shape.value_ld; c++) o[c] = (float)(o[c] * factor);
        sum = exact_weights(p, score, *m, n_keys);
    }
    sum += *l;
    for (int c = 0; c < shape.value_ld; c++) {
        double weighted = o[c];
        for (int j = 0; j < n_keys; j++) weighted += p[j] * y[j * shape.value_ld + c];
        o[c] = (float)(last ? weighted / sum : weighted);
    }
    if (last) *m = (float)(*m + log2(sum));
    *l = last ? 1 : (float)sum;
}

#endif
