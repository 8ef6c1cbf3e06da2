/* A head whose results come from the oracle, rounded to fp32, for the tests of what judges such results. */
#ifndef LUCID_TESTS_RUNTIME_VERIFY_FIXTURE_H
#define LUCID_TESTS_RUNTIME_VERIFY_FIXTURE_H

#include "kernels/ref/dense.h"
#include "runtime/verify/verify.h"
#include "tests/comm/drive.h"
#include "tests/runtime/verify/uniform.h"

#include <math.h>

#define FIXTURE_N       331 /* divides by nothing that is used here */
#define FIXTURE_D       20
#define FIXTURE_DV      12
#define FIXTURE_QUERIES 2
#define FIXTURE_EPS     1e-5

typedef struct {
    float q[FIXTURE_QUERIES * FIXTURE_N * FIXTURE_D], k[FIXTURE_N * FIXTURE_D], v[FIXTURE_N * FIXTURE_DV];
    float y[FIXTURE_N * FIXTURE_DV], out[FIXTURE_QUERIES * FIXTURE_N * FIXTURE_DV], lse[FIXTURE_QUERIES * FIXTURE_N];
    double kd[FIXTURE_N * FIXTURE_D], kn[FIXTURE_N * FIXTURE_D], qd[FIXTURE_N * FIXTURE_D];
    double vd[FIXTURE_N * FIXTURE_DV], yd[FIXTURE_N * FIXTURE_DV], outd[FIXTURE_N * FIXTURE_DV], lsed[FIXTURE_N];
    lucid_verify_head head;
} fixture;

static inline void fixture_round(float *to, const double *from, int n) {
    for (int i = 0; i < n; i++) to[i] = (float)from[i];
}

static inline void fixture_widen(double *to, const float *from, int n) {
    for (int i = 0; i < n; i++) to[i] = from[i];
}

/* Keys around four centres, so that the solve matters. */
static inline void fixture_inputs(fixture *f) {
    double centres[4][FIXTURE_D];
    for (int i = 0; i < 4 * FIXTURE_D; i++) centres[i / FIXTURE_D][i % FIXTURE_D] = uniform();
    for (int i = 0; i < FIXTURE_N * FIXTURE_D; i++)
        f->k[i] = (float)(centres[i / FIXTURE_D * 7 % 4][i % FIXTURE_D] + 0.4 * uniform());
    for (int i = 0; i < FIXTURE_QUERIES * FIXTURE_N * FIXTURE_D; i++) f->q[i] = (float)uniform();
    for (int i = 0; i < FIXTURE_N * FIXTURE_DV; i++) f->v[i] = (float)uniform();
}

static inline fixture *fixture_new(lucid_attention_kind attention) {
    fixture *f = calloc(1, sizeof *f);
    if (!f) exit(2);
    fixture_inputs(f);
    fixture_widen(f->kd, f->k, FIXTURE_N * FIXTURE_D);
    fixture_widen(f->vd, f->v, FIXTURE_N * FIXTURE_DV);
    fixture_widen(f->yd, f->v, FIXTURE_N * FIXTURE_DV);
    lucid_dense_normalise(f->kn, f->kd, FIXTURE_N, FIXTURE_D, FIXTURE_EPS);
    if (attention == LUCID_ATTENTION_LUCID) lucid_dense_solve(f->yd, f->kn, f->vd, FIXTURE_N, FIXTURE_D, FIXTURE_DV);
    fixture_round(f->y, f->yd, FIXTURE_N * FIXTURE_DV);
    for (int h = 0; h < FIXTURE_QUERIES; h++) {
        fixture_widen(f->qd, f->q + h * FIXTURE_N * FIXTURE_D, FIXTURE_N * FIXTURE_D);
        lucid_dense_attend(f->outd, f->lsed, f->qd, f->kd, f->yd, FIXTURE_N, FIXTURE_D, FIXTURE_DV, 0.3);
        fixture_round(f->out + h * FIXTURE_N * FIXTURE_DV, f->outd, FIXTURE_N * FIXTURE_DV);
        fixture_round(f->lse + h * FIXTURE_N, f->lsed, FIXTURE_N);
    }
    f->head = (lucid_verify_head){.attention = attention,
                                  .seqlen = FIXTURE_N,
                                  .head_dim = FIXTURE_D,
                                  .value_dim = FIXTURE_DV,
                                  .n_queries = FIXTURE_QUERIES,
                                  .softmax_scale = 0.3,
                                  .eps = FIXTURE_EPS,
                                  .q = f->q,
                                  .k = f->k,
                                  .v = f->v,
                                  .y = f->y,
                                  .out = f->out,
                                  .lse = f->lse};
    return f;
}

/* The tensors are rank 0's; the others must not be asked for theirs. */
static inline void fixture_hide(fixture *f, const lucid_comm *comm) {
    if (comm->rank) f->head.q = f->head.k = f->head.v = f->head.y = f->head.out = f->head.lse = NULL;
}

/* What an error of `by` in one number of row-major x (n, dim) amounts to, relative to the rows' root mean square. */
static inline double fixture_share(const double *x, int n, int dim, double by) {
    double square = 0;
    for (int i = 0; i < n * dim; i++) square += x[i] * x[i];
    return by / sqrt(square / n);
}

#endif
