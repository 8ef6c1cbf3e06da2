/* A of the sequence's first rows: the softmax pass in fp64. Keys, values and queries are widened once per call and
 * granule; then it is the same two products as in panel.h, EXACT_ROWS rows by two vectors at a time. */
#ifndef LUCID_CPU_EXACT_H
#define LUCID_CPU_EXACT_H

#include <math.h>

#include "kernels/cpu/panel.h"

/* A call's share of the scratch. */
typedef struct {
    double *q;      /* (d, 64) times scale */
    double *k;      /* (d, 64) */
    double *y;      /* (64, w) */
    double *scores; /* (EXACT_ROWS, 64) */
    double *p;      /* (EXACT_ROWS, 64) */
} exact_scratch;

static exact_scratch exact_carve(float *scratch, lucid_shape shape) {
    exact_scratch s = {.q = (double *)scratch};
    s.k = s.q + (size_t)GRANULE * shape.head_dim;
    s.y = s.k + (size_t)GRANULE * shape.head_dim;
    s.scores = s.y + (size_t)GRANULE * shape.value_ld;
    s.p = s.scores + EXACT_ROWS * GRANULE;
    return s;
}

static void widen_all(double *dst, const float *src, double factor, size_t n) {
    for (size_t i = 0; i < n; i += VECD) vecd_store(dst + i, vecd_mul(vecd_widen(src + i), vecd_set1(factor)));
}

/* acc (EXACT_ROWS, 2 vectors) = sum over n steps of a's column times b's row; row r of a starts at a + r * a_row. */
INLINE void exact_chain(vecd acc[EXACT_ROWS][2], const double *a, const int a_row, int a_step, const double *b,
                        size_t b_step, int n) {
    UNROLL for (int r = 0; r < EXACT_ROWS; r++) acc[r][0] = acc[r][1] = vecd_set1(0);
    for (int step = 0; step < n; step++, a += a_step, b += b_step) {
        vecd left = vecd_load(b), right = vecd_load(b + VECD);
        UNROLL for (int r = 0; r < EXACT_ROWS; r++) {
            vecd x = vecd_set1(a[r * a_row]);
            acc[r][0] = vecd_fma(x, left, acc[r][0]);
            acc[r][1] = vecd_fma(x, right, acc[r][1]);
        }
    }
}

/* Scores of EXACT_ROWS rows with the first n_keys keys, or some more. */
static void exact_scores(const exact_scratch *s, int i0, int d, int n_keys) {
    for (int j = 0; j < n_keys; j += 2 * VECD) {
        vecd acc[EXACT_ROWS][2];
        exact_chain(acc, s->q + i0, 1, GRANULE, s->k + j, GRANULE, d);
        UNROLL for (int r = 0; r < EXACT_ROWS; r++) {
            vecd_store(s->scores + r * GRANULE + j, acc[r][0]);
            vecd_store(s->scores + r * GRANULE + j + VECD, acc[r][1]);
        }
    }
}

/* 2^a to 6e-9: Taylor's series on [-1/2, 1/2]. */
INLINE vecd vecd_exp2(vecd a) {
    static const double terms[] = {
        0x1.ffcbfc588b0c5p-17, 0x1.430912f86c786p-13, 0x1.5d87fe78a673p-10, /* / 7! .. 5! */
        0x1.3b2ab6fba4e77p-7,  0x1.c6b08d704a0bfp-5,  0x1.ebfbdff82c58ep-3, 0x1.62e42fefa39efp-1, 1};
    vecd r = vecd_fraction(a), p = vecd_set1(terms[0]);
    UNROLL for (size_t k = 1; k < sizeof terms / sizeof *terms; k++) p = vecd_fma(p, r, vecd_set1(terms[k]));
    return vecd_scale(p, a);
}

/* p = exp2(scores - m) of the first n_seen keys, then zeros to the end of the 2 VECD keys that they end in; returns the
 * sum. */
static double exact_weights(double *p, const double *scores, float m, int n_seen) {
    vecd shift = vecd_set1(-(double)m), sums = vecd_set1(0);
    double lanes[VECD] __attribute__((aligned(64))), sum = 0;
    int end = (n_seen + 2 * VECD - 1) / (2 * VECD) * (2 * VECD);
    for (int j = 0; j < end; j += VECD) vecd_store(p + j, vecd_exp2(vecd_add(vecd_load(scores + j), shift)));
    for (int j = n_seen; j < end; j++) p[j] = 0;
    for (int j = 0; j < end; j += VECD) sums = vecd_add(sums, vecd_load(p + j));
    vecd_store(lanes, sums);
    for (int lane = 0; lane < VECD; lane++) sum += lanes[lane];
    return sum;
}

/* One row's weights and their sum into l; m rises first where the rule wants it. A row that ends here is divided by its
 * sum: returns the factor of what o holds already. */
static double exact_row(double *p, const double *scores, float *m, float *l, float *o, int n_seen, bool last, int w) {
    double sum = exact_weights(p, scores, *m, n_seen), largest = *m;
    if (!(sum <= (double)(1ull << LUCID_RESCALE_EXPONENT))) {
        for (int j = 0; j < n_seen; j++) largest = fmax(largest, scores[j]);
        double factor = exp2(*m - (float)largest);
        *m = (float)largest;
        *l = (float)(*l * factor);
        for (int c = 0; c < w; c++) o[c] = (float)(o[c] * factor);
        sum = exact_weights(p, scores, *m, n_seen);
    }
    sum += *l;
    *l = last ? 1 : (float)sum;
    if (!last) return 1;
    *m = (float)(*m + log2(sum));
    for (int j = 0; j < n_seen; j++) p[j] /= sum;
    return 1 / sum;
}

/* o (EXACT_ROWS, w) = factor o + p y, p (EXACT_ROWS, n_keys) */
static void exact_values(float *o, const double factor[EXACT_ROWS], const exact_scratch *s, int w, int n_keys) {
    for (int c = 0; c < w; c += 2 * VECD) {
        vecd acc[EXACT_ROWS][2];
        exact_chain(acc, s->p, GRANULE, 1, s->y + c, w, n_keys);
        UNROLL for (int r = 0; r < EXACT_ROWS; r++) {
            float *x = o + r * w + c;
            vecd_narrow(x, vecd_fma(vecd_widen(x), vecd_set1(factor[r]), acc[r][0]));
            vecd_narrow(x + VECD, vecd_fma(vecd_widen(x + VECD), vecd_set1(factor[r]), acc[r][1]));
        }
    }
}

static void exact_granule(const exact_scratch *s, float *state, const float *key, bool diagonal, lucid_shape shape) {
    float *m = state, *l = state + GRANULE, *o = state + 2 * GRANULE;
    widen_all(s->k, key, 1, (size_t)GRANULE * shape.head_dim);
    widen_all(s->y, key + lucid_record_values(shape), 1, (size_t)GRANULE * shape.value_ld);
    for (int i0 = 0; i0 < GRANULE; i0 += EXACT_ROWS) {
        double factor[EXACT_ROWS];
        int n_keys = diagonal ? i0 + EXACT_ROWS : GRANULE; /* the last of these rows sees */
        exact_scores(s, i0, shape.head_dim, n_keys);
        for (int r = 0; r < EXACT_ROWS; r++)
            factor[r] = exact_row(s->p + r * GRANULE, s->scores + r * GRANULE, m + i0 + r, l + i0 + r,
                                  o + (size_t)(i0 + r) * shape.value_ld, diagonal ? i0 + r + 1 : GRANULE, diagonal,
                                  shape.value_ld);
        exact_values(o + (size_t)i0 * shape.value_ld, factor, s, shape.value_ld, n_keys);
    }
}

static void attend_exact(float *state, const float *qt, const float *const *keys, int64_t n_keys, bool diagonal,
                         double scale, lucid_shape shape, float *scratch) {
    exact_scratch s = exact_carve(scratch, shape);
    widen_all(s.q, qt, scale, (size_t)GRANULE * shape.head_dim);
    for (int64_t g = 0; g < n_keys; g++) exact_granule(&s, state, keys[g], diagonal, shape);
}

#endif
