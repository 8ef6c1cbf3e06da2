/* What the kernel tests share: deterministic inputs, records and queries built by a kernel set, whole causal passes as
 * a runtime would run them, and an independent dense fp64 computation of the same from the fp32 inputs. */
#ifndef LUCID_TESTS_KERNELS_FIXTURE_H
#define LUCID_TESTS_KERNELS_FIXTURE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "tests/check.h"

enum { GRANULE = LUCID_GRANULE };
static const double EPS = 1e-5;

/* One head's inputs, row-major: q, k (n, head_dim), v (n, value_dim). */
typedef struct {
    lucid_shape shape;
    int n;
    double q_scale; /* softmax_scale * log2(e) */
    float *q, *k, *v;
} problem;

/* One head as kernels see it: n_granules records, queries and states. */
typedef struct {
    lucid_shape shape;
    int n, n_granules;
    double q_scale;
    float *records, *queries, *states, *scratch;
    const float **keys; /* the records, as lists of keys want them */
} head;

static inline void *allocate(size_t bytes) {
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    if (!p) abort();
    return p;
}

static inline float *allocate_floats(size_t n) {
    return allocate(n * sizeof(float));
}

static inline double uniform(uint64_t *seed) { /* splitmix64, in (0, 1) */
    uint64_t z = (*seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return ((double)((z ^ (z >> 31)) >> 11) + 0.5) * 0x1p-53;
}

static inline double normal(uint64_t *seed) {
    double radius = sqrt(-2 * log(uniform(seed)));
    return radius * cos(2 * M_PI * uniform(seed));
}

static inline float *normals(size_t n, uint64_t seed) {
    float *x = allocate_floats(n);
    for (size_t i = 0; i < n; i++) x[i] = (float)normal(&seed);
    return x;
}

/* Keys round 16 centres with correlation 0.8, for which the solve matters (random keys leave P near the identity). */
static inline void cluster_keys(problem *p, uint64_t seed) {
    int d = p->shape.head_dim;
    float *centres = normals((size_t)16 * d, seed);
    for (int i = 0; i < p->n; i++) {
        const float *centre = centres + (size_t)(16 * uniform(&seed)) * d;
        for (int c = 0; c < d; c++)
            p->k[(size_t)i * d + c] = (float)(sqrt(0.8) * centre[c] + sqrt(0.2) * p->k[(size_t)i * d + c]);
    }
    free(centres);
}

static inline problem problem_make(int n, int head_dim, int value_dim, uint64_t seed) {
    problem p = {.shape = lucid_shape_make(head_dim, value_dim), .n = n, .q_scale = M_LOG2E / sqrt(head_dim)};
    p.q = normals((size_t)n * head_dim, seed);
    p.k = normals((size_t)n * head_dim, seed + 1);
    p.v = normals((size_t)n * value_dim, seed + 2);
    return p;
}

static inline void problem_free(problem *p) {
    free(p->q);
    free(p->k);
    free(p->v);
}

static inline float *head_record(const head *h, int g) {
    return h->records + g * lucid_record_floats(h->shape);
}
static inline float *head_query(const head *h, int g) {
    return h->queries + g * lucid_query_floats(h->shape);
}
static inline float *head_state(const head *h, int g) {
    return h->states + g * lucid_state_floats(h->shape);
}

static inline head head_make(const lucid_kernels *set, const problem *p) {
    lucid_shape s = p->shape;
    head h = {.shape = s, .n = p->n, .n_granules = (p->n + GRANULE - 1) / GRANULE, .q_scale = p->q_scale};
    h.records = allocate_floats(h.n_granules * lucid_record_floats(s));
    h.queries = allocate_floats(h.n_granules * lucid_query_floats(s));
    h.states = allocate_floats(h.n_granules * lucid_state_floats(s));
    h.scratch = allocate_floats(lucid_kernels_scratch_floats(s));
    h.keys = allocate(h.n_granules * sizeof *h.keys);
    for (int g = 0; g < h.n_granules; g++) {
        size_t first = (size_t)g * GRANULE;
        int rows = p->n - (int)first < GRANULE ? p->n - (int)first : GRANULE;
        h.keys[g] = head_record(&h, g);
        set->pack_rows(head_record(&h, g), p->k + first * s.head_dim, LUCID_F32, rows, s.head_dim);
        set->normalise(head_record(&h, g), s, (float)EPS);
        set->pack_values(head_record(&h, g), p->v + first * s.value_dim, LUCID_F32, rows, s);
        set->pack_rows(head_query(&h, g), p->q + first * s.head_dim, LUCID_F32, rows, s.head_dim);
    }
    return h;
}

static inline void head_free(head *h) {
    free(h->records);
    free(h->queries);
    free(h->states);
    free(h->scratch);
    free(h->keys);
}

static inline void head_solve(const lucid_kernels *set, head *h) {
    for (int g = 0; g < h->n_granules; g++) {
        set->update(head_record(h, g), h->keys, g, h->shape, h->scratch);
        set->solve(head_record(h, g), h->shape, h->scratch);
    }
}

static inline void head_attend(const lucid_kernels *set, head *h, lucid_precision precision) {
    for (int g = 0; g < h->n_granules; g++) {
        float *state = head_state(h, g), *query = head_query(h, g);
        set->attend_begin(state, query, head_record(h, g), h->q_scale, h->shape);
        set->attend(state, query, h->keys, g, false, precision, h->q_scale, h->shape, h->scratch);
        set->attend(state, query, h->keys + g, 1, true, precision, h->q_scale, h->shape, h->scratch);
    }
}

/* out (n, value_dim) and lse (n) from the states */
static inline void head_finish(const lucid_kernels *set, const head *h, float *out, float *lse) {
    for (int g = 0; g < h->n_granules; g++) {
        int first = g * GRANULE, rows = h->n - first < GRANULE ? h->n - first : GRANULE;
        set->attend_finish(out + (size_t)first * h->shape.value_dim, lse + first, head_state(h, g), rows, h->shape);
    }
}

/* y of token i, (w) */
static inline const float *head_values(const head *h, int i) {
    return head_record(h, i / GRANULE) + lucid_record_values(h->shape) + (size_t)(i % GRANULE) * h->shape.value_ld;
}

static inline double dot(const float *a, const float *b, int d) {
    double sum = 0;
    for (int c = 0; c < d; c++) sum += (double)a[c] * b[c];
    return sum;
}

/* y (n, value_dim) by forward substitution, one row after the other */
static inline double *reference_solve(const problem *p) {
    int d = p->shape.head_dim, dv = p->shape.value_dim;
    double *y = allocate(sizeof(double) * p->n * dv), *norm = allocate(sizeof(double) * p->n);
    for (int i = 0; i < p->n; i++) {
        const float *k_i = p->k + (size_t)i * d;
        norm[i] = 1 / sqrt(dot(k_i, k_i, d) / d + EPS);
        for (int c = 0; c < dv; c++) y[(size_t)i * dv + c] = p->v[(size_t)i * dv + c];
        for (int j = 0; j < i; j++) {
            double p_ij = exp(dot(k_i, p->k + (size_t)j * d, d) * norm[i] * norm[j] / sqrt(d) - sqrt(d));
            for (int c = 0; c < dv; c++) y[(size_t)i * dv + c] -= p_ij * y[(size_t)j * dv + c];
        }
    }
    free(norm);
    return y;
}

/* out (n, value_dim) and lse (n) of softmax attention over h's values as they are */
static inline void reference_attend(const problem *p, const head *h, double *out, double *lse) {
    int d = p->shape.head_dim, dv = p->shape.value_dim;
    double *s = allocate(sizeof(double) * p->n);
    for (int i = 0; i < p->n; i++) {
        double largest = -INFINITY, sum = 0, *o = out + (size_t)i * dv;
        for (int j = 0; j <= i; j++) {
            s[j] = dot(p->q + (size_t)i * d, p->k + (size_t)j * d, d) * p->q_scale;
            largest = fmax(largest, s[j]);
        }
        memset(o, 0, sizeof(double) * dv);
        for (int j = 0; j <= i; j++) {
            double weight = exp2(s[j] - largest);
            sum += weight;
            for (int c = 0; c < dv; c++) o[c] += weight * head_values(h, j)[c];
        }
        for (int c = 0; c < dv; c++) o[c] /= sum;
        lse[i] = (largest + log2(sum)) * M_LN2;
    }
    free(s);
}

/* The largest row error |got_i - want_i|_2 over the root mean square of want's rows; rows of got are ld floats apart.
 */
static inline double row_error(const float *got, size_t ld, const double *want, int n, int dim) {
    double largest = 0, square = 0;
    for (int i = 0; i < n; i++) {
        double error = 0;
        for (int c = 0; c < dim; c++) {
            double w = want[(size_t)i * dim + c], e = got[i * ld + c] - w;
            error += e * e;
            square += w * w;
        }
        if (!(error <= largest)) largest = isnan(error) ? INFINITY : error;
    }
    return sqrt(largest / (square / n));
}

#define FOR_EACH_SET(set)                                                          \
    for (int n_sets_, s_ = 0; s_ < (lucid_kernels_table(&n_sets_), n_sets_); s_++) \
        for (const lucid_kernels *set = lucid_kernels_table(&n_sets_)[s_]; set && set->supported(); set = NULL)

#endif
