/* A backward run over a fixture's inputs, the dense oracle's answer to the same, and the comparison of two runs. */
#ifndef LUCID_TESTS_ATTENTION_GRADIENTS_H
#define LUCID_TESTS_ATTENTION_GRADIENTS_H

#include "kernels/ref/dense.h"
#include "runtime/files/half.h"
#include "tests/runtime/attention/attention_fixture.h"
#include "tests/runtime/attention/ways.h"

/* Gradients of sum(out * dout): (batch, n_heads, N, d), (batch, n_kv_heads, N, d), (batch, n_kv_heads, N, d_v). */
typedef struct {
    fixture f; /* the inputs */
    float *dq, *dk, *dv;
    const float *gain;   /* (d) of the keys' norm, or NULL */
    float *dgain;        /* (batch, n_kv_heads, N, d) */
    lucid_dtype dtype;   /* of q, k and v; dout is fp32 */
    bool cuda;           /* where it is computed */
    unsigned char *seen; /* (batch, n_heads, N) rows of dq that this rank stored */
} gradients;

static inline size_t kv_rows(const lucid_problem *p) {
    return (size_t)p->batch * p->n_kv_heads * (size_t)p->seqlen;
}
static inline size_t query_rows(const lucid_problem *p) {
    return (size_t)p->batch * p->n_heads * (size_t)p->seqlen;
}

static inline void gradients_create(gradients *g, const lucid_problem *p, fixture_keys keys) {
    *g = (gradients){.f = {.problem = *p, .keys = keys, .seed = 11}};
    g->dq = calloc(query_rows(p) * (size_t)p->head_dim, sizeof(float));
    g->dk = calloc(kv_rows(p) * (size_t)p->head_dim, sizeof(float));
    g->dgain = calloc(kv_rows(p) * (size_t)p->head_dim, sizeof(float));
    g->dv = calloc(kv_rows(p) * (size_t)p->value_dim, sizeof(float));
    g->seen = calloc(query_rows(p), 1);
}

static inline void gradients_destroy(gradients *g) {
    free(g->dq), free(g->dk), free(g->dv), free(g->dgain), free(g->seen);
}

static inline int dim_of(const lucid_problem *p, lucid_tensor tensor) {
    return tensor == LUCID_V || tensor == LUCID_DOUT || tensor == LUCID_DV ? p->value_dim : p->head_dim;
}

static inline lucid_dtype dtype_of(const gradients *g, lucid_tensor tensor) {
    return tensor == LUCID_DOUT ? LUCID_F32 : g->dtype;
}

static inline lucid_status read_rows(void *context, void *rows, lucid_tensor tensor, int batch, int head, int64_t first,
                                     int n_tokens) {
    const gradients *g = context;
    const lucid_dtype dtype = dtype_of(g, tensor);
    int dim = dim_of(&g->f.problem, tensor);
    for (int i = 0; i < n_tokens; i++)
        for (int c = 0; c < dim; c++) {
            float x = fixture_element(&g->f, tensor, batch, head, first + i, c);
            lucid_narrow((char *)rows + ((size_t)i * dim + c) * lucid_dtype_bytes(dtype), dtype, &x, 1);
        }
    return LUCID_OK;
}

static inline lucid_status write_rows(void *context, const float *rows, lucid_tensor tensor, int batch, int head,
                                      int64_t first, int n_tokens) {
    gradients *g = context;
    const lucid_problem *p = &g->f.problem;
    int heads = tensor == LUCID_DQ ? p->n_heads : p->n_kv_heads, dim = dim_of(p, tensor);
    size_t row = ((size_t)batch * heads + head) * (size_t)p->seqlen + (size_t)first;
    float *to = tensor == LUCID_DQ ? g->dq : tensor == LUCID_DK ? g->dk : tensor == LUCID_DV ? g->dv : g->dgain;
    memcpy(to + row * dim, rows, (size_t)n_tokens * dim * sizeof(float));
    if (tensor == LUCID_DQ) memset(g->seen + row, 1, (size_t)n_tokens);
    return LUCID_OK;
}

static inline lucid_status compute(gradients *g, lucid_comm *c, lucid_options options) {
    lucid_attention *a;
    options.backward = true;
    options.cuda = g->cuda;
    LUCID_TRY(lucid_attention_create(&a, c, &g->f.problem, &options));
    lucid_status status = g->gain ? lucid_attention_set_key_gain(a, g->gain) : LUCID_OK;
    for (int tensor = LUCID_Q; tensor <= LUCID_V && !status; tensor++)
        status = lucid_attention_load(a, (lucid_tensor)tensor, g->dtype, read_rows, g);
    if (!status) status = lucid_attention_run(a);
    if (!status) status = lucid_attention_load(a, LUCID_DOUT, LUCID_F32, read_rows, g);
    if (!status) status = lucid_attention_backward(a);
    for (int tensor = LUCID_DQ; tensor <= (g->gain ? LUCID_DGAIN : LUCID_DV) && !status; tensor++)
        status = lucid_attention_store(a, (lucid_tensor)tensor, write_rows, g);
    lucid_attention_destroy(a);
    return status;
}

/* --- the oracle --- */

static inline double *wide(const gradients *g, lucid_tensor tensor, int batch, int head) {
    int64_t n = g->f.problem.seqlen;
    int dim = dim_of(&g->f.problem, tensor);
    float row[LUCID_MAX_HEAD_DIM], widened[LUCID_MAX_HEAD_DIM];
    double *x = malloc((size_t)(n * dim) * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        read_rows((void *)g, row, tensor, batch, head, i, 1);
        lucid_widen(widened, row, dtype_of(g, tensor), dim);
        for (int c = 0; c < dim; c++) x[i * dim + c] = widened[c];
    }
    return x;
}

/* NaN is the worst of all, and stays. */
static inline double worse(double a, double b) {
    return isnan(a) || a > b ? a : b;
}

static inline double error_of(const float *x, const double *want, int64_t n, int dim) {
    double *got = malloc((size_t)(n * dim) * sizeof *got);
    for (int64_t i = 0; i < n * dim; i++) got[i] = x[i];
    double error = lucid_dense_row_error(got, want, n, dim);
    free(got);
    return error;
}

/* Rows share the gain's gradient out in a way of their own; their sum is what counts. kn: without the gain. */
static inline double gain_error(const gradients *g, const double *dkn, const double *kn, size_t sequence) {
    const int64_t n = g->f.problem.seqlen;
    const int d = g->f.problem.head_dim;
    const float *rows = g->dgain + sequence * (size_t)(n * d);
    double largest = 0, error = 0;
    for (int c = 0; c < d; c++) {
        double want = 0, got = 0;
        for (int64_t i = 0; i < n; i++) want += dkn[i * d + c] * kn[i * d + c], got += rows[i * d + c];
        largest = fmax(largest, fabs(want));
        error = worse(error, fabs(got - want));
    }
    return error / largest;
}

static inline void scale_columns(double *x, const float *factors, int64_t n, int d) {
    for (int64_t i = 0; factors && i < n * d; i++) x[i] *= factors[i % d];
}

/* One key-value head: the largest row error of dq, dk and dv, and that of the gain's gradient. */
static inline void judge_head(double error[4], const gradients *g, int batch, int kv_head) {
    const lucid_problem *p = &g->f.problem;
    int64_t n = p->seqlen;
    int d = p->head_dim, dv = p->value_dim, group = p->n_heads / p->n_kv_heads;
    bool solve = p->attention == LUCID_ATTENTION_LUCID;
    double scale = p->softmax_scale != 0 ? p->softmax_scale : 1 / sqrt(d), eps = p->eps > 0 ? p->eps : 1e-5;
    double *k = wide(g, LUCID_K, batch, kv_head), *y = wide(g, LUCID_V, batch, kv_head), row[LUCID_MAX_HEAD_DIM];
    double *kn = malloc((size_t)(n * d) * sizeof *kn), *dkn = malloc((size_t)(n * d) * sizeof *dkn);
    double *dk = calloc((size_t)(n * d), sizeof *dk), *dvalues = calloc((size_t)(n * dv), sizeof *dvalues);
    double *dq = malloc((size_t)(n * d) * sizeof *dq), *plain = malloc((size_t)(n * d) * sizeof *plain);
    lucid_dense_normalise(plain, k, n, d, eps);
    memcpy(kn, plain, (size_t)(n * d) * sizeof *kn);
    scale_columns(kn, g->gain, n, d);
    if (solve) lucid_dense_solve(y, kn, y, n, d, dv);
    for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
        double *q = wide(g, LUCID_Q, batch, head), *dout = wide(g, LUCID_DOUT, batch, head);
        lucid_dense_attend_backward(dq, dk, dvalues, dout, q, k, y, n, d, dv, scale, row);
        size_t first = ((size_t)batch * p->n_heads + head) * (size_t)(n * d);
        error[0] = worse(error[0], error_of(g->dq + first, dq, n, d));
        free(q), free(dout);
    }
    if (solve) lucid_dense_solve_backward(dvalues, dkn, dvalues, kn, y, n, d, dv);
    size_t sequence = (size_t)batch * p->n_kv_heads + kv_head;
    if (g->gain) error[3] = worse(error[3], gain_error(g, dkn, plain, sequence));
    scale_columns(dkn, g->gain, n, d);
    if (solve) lucid_dense_normalise_backward(dk, dkn, k, n, d, eps);
    error[1] = worse(error[1], error_of(g->dk + sequence * (size_t)(n * d), dk, n, d));
    error[2] = worse(error[2], error_of(g->dv + sequence * (size_t)(n * dv), dvalues, n, dv));
    free(k), free(y), free(kn), free(dkn), free(dk), free(dvalues), free(dq), free(plain);
}

static inline void judge(const gradients *g, double tolerance) {
    static const char *const names[] = {"dq", "dk", "dv", "the gain's gradient"};
    const lucid_problem *p = &g->f.problem;
    double error[4] = {0};
    for (int b = 0; b < p->batch; b++)
        for (int h = 0; h < p->n_kv_heads; h++) judge_head(error, g, b, h);
    printf("N %lld d %d d_v %d heads %d/%d keys %d %s: dq %.2g dk %.2g dv %.2g gain %.2g\n", (long long)p->seqlen,
           p->head_dim, p->value_dim, p->n_heads, p->n_kv_heads, g->f.keys, p->attention ? "softmax" : "lucid",
           error[0], error[1], error[2], error[3]);
    for (int i = 0; i < 4; i++)
        CHECK_NEAR(error[i], 0, tolerance, "%s of N %lld, d %d, keys %d", names[i], (long long)p->seqlen, p->head_dim,
                   g->f.keys);
}

/* --- invariance --- */

static inline bool same_rows(const float *got, const float *want, size_t row, int dim) {
    return !memcmp(got + row * (size_t)dim, want + row * (size_t)dim, (size_t)dim * sizeof *got);
}

static inline void compare(const gradients *got, const gradients *want, const char *what) {
    const lucid_problem *p = &want->f.problem;
    int group = p->n_heads / p->n_kv_heads;
    for (size_t row = 0; row < query_rows(p); row++) {
        size_t kv_row = row / (size_t)p->seqlen / (size_t)group * (size_t)p->seqlen + row % (size_t)p->seqlen;
        if (!got->seen[row]) continue;
        bool dq = same_rows(got->dq, want->dq, row, p->head_dim),
             dk = same_rows(got->dk, want->dk, kv_row, p->head_dim);
        bool dgain = same_rows(got->dgain, want->dgain, kv_row, p->head_dim);
        bool dv = same_rows(got->dv, want->dv, kv_row, p->value_dim);
        CHECK(dq && dk && dv && dgain, "%s: row %zu differs:%s%s%s%s", what, row, dq ? "" : " dq", dk ? "" : " dk",
              dv ? "" : " dv", dgain ? "" : " dgain");
        if (!dq || !dk || !dv || !dgain) return;
    }
}

/* Of the same inputs as want, with other options. Collective. */
static inline void gradients_run_as(const gradients *want, lucid_comm *c, const lucid_options *options,
                                    const char *what) {
    gradients got;
    gradients_create(&got, &want->f.problem, want->f.keys);
    got.gain = want->gain, got.dtype = want->dtype, got.cuda = want->cuda;
    must(compute(&got, c, *options), what);
    compare(&got, want, what);
    check_coverage(got.seen, query_rows(&got.f.problem), what);
    gradients_destroy(&got);
}

#endif
