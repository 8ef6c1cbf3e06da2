/* An attention run on one rank over random inputs, and the dense oracle's answer to the same. Tensors are whole:
 * (batch, heads, N, dim). */
#ifndef LUCID_TESTS_ATTENTION_CASE_H
#define LUCID_TESTS_ATTENTION_CASE_H

#include "kernels/ref/dense.h"
#include "runtime/files/half.h"
#include "runtime/files/random.h"
#include "runtime/lucid.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    lucid_problem problem;
    lucid_random random;
    lucid_dtype dtype;
    /* Optional: changes fp32 rows after they were drawn. */
    void (*tweak)(float *rows, lucid_tensor tensor, int64_t first, int n_tokens, int dim);
} attention_case;

typedef struct {
    float *y, *out, *lse;
} attention_answer;

typedef struct {
    double *y, *out, *lse;
    double *kn, *v; /* (batch, kv heads, N, dim) what the residual needs */
} oracle_answer;

static inline size_t case_rows(const attention_case *c, lucid_tensor tensor) {
    bool kv = tensor == LUCID_Y || tensor == LUCID_K || tensor == LUCID_V;
    int heads = kv ? c->problem.n_kv_heads : c->problem.n_heads;
    return (size_t)c->problem.batch * heads * (size_t)c->problem.seqlen;
}

static inline lucid_status case_read(void *context, void *rows, lucid_tensor tensor, int batch, int head, int64_t first,
                                     int n_tokens) {
    const attention_case *c = context;
    int dim = tensor == LUCID_V ? c->problem.value_dim : c->problem.head_dim;
    lucid_random_rows(rows, c->dtype, &c->random, tensor, batch, head, first, n_tokens, dim);
    if (c->tweak) c->tweak(rows, tensor, first, n_tokens, dim);
    return LUCID_OK;
}

/* --- the run --- */

typedef struct {
    const attention_case *c;
    attention_answer *answer;
} case_writing;

static inline lucid_status case_write(void *context, const float *rows, lucid_tensor tensor, int batch, int head,
                                      int64_t first, int n_tokens) {
    const case_writing *w = context;
    const lucid_problem *p = &w->c->problem;
    int heads = tensor == LUCID_Y ? p->n_kv_heads : p->n_heads, dim = tensor == LUCID_LSE ? 1 : p->value_dim;
    float *to = tensor == LUCID_Y ? w->answer->y : tensor == LUCID_OUT ? w->answer->out : w->answer->lse;
    size_t row = ((size_t)batch * heads + head) * (size_t)p->seqlen + (size_t)first;
    memcpy(to + row * dim, rows, (size_t)n_tokens * dim * sizeof *to);
    return LUCID_OK;
}

static inline void answer_free(attention_answer *a) {
    free(a->y), free(a->out), free(a->lse);
}

/* certificate may be NULL. */
static inline lucid_status case_run(attention_answer *answer, lucid_comm *comm, const attention_case *c,
                                    const lucid_options *options, lucid_certificate_result *certificate) {
    lucid_attention *a;
    case_writing writing = {c, answer};
    size_t dim = (size_t)c->problem.value_dim;
    answer->y = calloc(case_rows(c, LUCID_Y) * dim, sizeof(float));
    answer->out = calloc(case_rows(c, LUCID_OUT) * dim, sizeof(float));
    answer->lse = calloc(case_rows(c, LUCID_LSE), sizeof(float));
    LUCID_TRY(lucid_attention_create(&a, comm, &c->problem, options));
    lucid_status status = LUCID_OK;
    for (int tensor = LUCID_Q; tensor <= LUCID_V && !status; tensor++)
        status = lucid_attention_load(a, (lucid_tensor)tensor, c->dtype, case_read, (void *)c);
    if (!status) status = lucid_attention_run(a);
    if (!status && certificate) status = lucid_certificate(a, certificate);
    for (int tensor = LUCID_OUT; tensor <= LUCID_LSE && !status; tensor++)
        status = lucid_attention_store(a, (lucid_tensor)tensor, case_write, &writing);
    lucid_attention_destroy(a);
    return status;
}

/* --- the oracle --- */

/* x (N, dim): the rows that the run reads, rounded as it gets them. */
static inline void case_widen(double *x, const attention_case *c, lucid_tensor tensor, int batch, int head) {
    int dim = tensor == LUCID_V ? c->problem.value_dim : c->problem.head_dim;
    float rows[LUCID_MAX_HEAD_DIM], widened[LUCID_MAX_HEAD_DIM];
    for (int64_t i = 0; i < c->problem.seqlen; i++) {
        case_read((void *)c, rows, tensor, batch, head, i, 1);
        lucid_widen(widened, rows, c->dtype, dim);
        for (int k = 0; k < dim; k++) x[i * dim + k] = widened[k];
    }
}

static inline void oracle_free(oracle_answer *o) {
    free(o->y), free(o->out), free(o->lse), free(o->kn), free(o->v);
}

static inline void oracle_head(oracle_answer *o, const attention_case *c, int batch, int kv_head) {
    const lucid_problem *p = &c->problem;
    size_t n = (size_t)p->seqlen, d = (size_t)p->head_dim, dv = (size_t)p->value_dim;
    int group = p->n_heads / p->n_kv_heads;
    size_t sequence = (size_t)batch * p->n_kv_heads + kv_head;
    double *k = malloc(n * d * sizeof *k), *q = malloc(n * d * sizeof *q);
    double *kn = o->kn + sequence * n * d, *v = o->v + sequence * n * dv, *y = o->y + sequence * n * dv;
    double scale = p->softmax_scale != 0 ? p->softmax_scale : 1 / sqrt((double)d);
    case_widen(k, c, LUCID_K, batch, kv_head);
    case_widen(v, c, LUCID_V, batch, kv_head);
    lucid_dense_normalise(kn, k, p->seqlen, p->head_dim, p->eps > 0 ? p->eps : 1e-5);
    memcpy(y, v, n * dv * sizeof *y);
    if (p->attention == LUCID_ATTENTION_LUCID) lucid_dense_solve(y, kn, v, p->seqlen, p->head_dim, p->value_dim);
    for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
        size_t first = ((size_t)batch * p->n_heads + head) * n;
        case_widen(q, c, LUCID_Q, batch, head);
        lucid_dense_attend(o->out + first * dv, o->lse + first, q, k, y, p->seqlen, p->head_dim, p->value_dim, scale);
    }
    free(k), free(q);
}

static inline void case_oracle(oracle_answer *o, const attention_case *c) {
    size_t dv = (size_t)c->problem.value_dim;
    o->y = malloc(case_rows(c, LUCID_Y) * dv * sizeof *o->y);
    o->v = malloc(case_rows(c, LUCID_V) * dv * sizeof *o->v);
    o->kn = malloc(case_rows(c, LUCID_K) * (size_t)c->problem.head_dim * sizeof *o->kn);
    o->out = malloc(case_rows(c, LUCID_OUT) * dv * sizeof *o->out);
    o->lse = malloc(case_rows(c, LUCID_LSE) * sizeof *o->lse);
    for (int b = 0; b < c->problem.batch; b++)
        for (int h = 0; h < c->problem.n_kv_heads; h++) oracle_head(o, c, b, h);
}

/* max over heads and over rows first.. of |x - ref|_2, over the root mean square of the head's reference rows. */
static inline double row_error(const float *x, const double *ref, size_t n_rows, int64_t seqlen, int dim,
                               int64_t first) {
    double worst = 0;
    for (size_t head = 0; head * (size_t)seqlen < n_rows; head++) {
        double largest = 0, squares = 0;
        for (int64_t i = 0; i < seqlen; i++) {
            double distance = 0;
            for (int c = 0; c < dim; c++) {
                size_t at = (head * (size_t)seqlen + (size_t)i) * (size_t)dim + (size_t)c;
                distance += (x[at] - ref[at]) * (x[at] - ref[at]);
                squares += ref[at] * ref[at];
            }
            if (i >= first && !(distance <= largest)) largest = isnan(distance) ? INFINITY : distance;
        }
        double error = sqrt(largest / (squares / (double)seqlen));
        if (!(error <= worst)) worst = isnan(error) ? INFINITY : error;
    }
    return worst;
}

/* max |(P Y - V)_i| over the root mean square of V's rows, of the run's Y. */
static inline double case_residual(const attention_case *c, const attention_answer *a, const oracle_answer *o) {
    const lucid_problem *p = &c->problem;
    size_t n = case_rows(c, LUCID_Y) * (size_t)p->value_dim, per_head = (size_t)p->seqlen * (size_t)p->value_dim;
    double *y = malloc(n * sizeof *y), row[LUCID_MAX_HEAD_DIM], worst = 0;
    for (size_t i = 0; i < n; i++) y[i] = a->y[i];
    for (size_t head = 0; head * per_head < n; head++) {
        double residual = lucid_dense_residual(y + head * per_head, o->kn + head * (size_t)p->seqlen * p->head_dim,
                                               o->v + head * per_head, p->seqlen, p->head_dim, p->value_dim, row);
        if (!(residual <= worst)) worst = isnan(residual) ? INFINITY : residual;
    }
    free(y);
    return worst;
}

#endif
