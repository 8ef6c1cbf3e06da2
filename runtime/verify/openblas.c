/* Left-looking blocked forward substitution: for each block of rows the scores against all earlier keys by sgemm, exp2
 * in place, times Y by sgemm; the diagonal block the same way in smaller blocks, at its end by strsm. Everything but
 * exp2 is OpenBLAS, at block sizes that suit it. */
#include "runtime/verify/openblas.h"

#include "runtime/blas/blas.h"
#include "runtime/verify/openblas_exp.h"

#include <math.h>
#include <stdlib.h>

/* The fastest of those tried; from 256 x 512 to 1024 x 256 all lie within 5 %, and larger products of scores fall
 * behind as they leave the second-level cache. */
#define ROWS     768 /* of a block of Y that is solved together */
#define KEYS     256 /* whose scores are held at once; at least ROWS / 4, for the halves of a block */
#define TRIANGLE 64  /* rows of the triangles that strsm gets; what lies beside them in a block goes through sgemm */
#define LOG2_E   1.44269504088896340736

/* kn (n, d): normalised keys times sqrt(log2(e) / sqrt(d)), so that products of two are exponents of two. */
typedef struct {
    const lucid_blas *blas;
    float *kn, *scores, *y;
    int64_t n;
    int d, dv;
    float shift;
} problem;

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* scores (n_rows, n_keys) = kn of rows times kn of keys, transposed. */
static void multiply_keys(const problem *p, int64_t row, int n_rows, int64_t key, int n_keys) {
    p->blas->sgemm(LUCID_BLAS_ROW_MAJOR, LUCID_BLAS_NO_TRANS, LUCID_BLAS_TRANS, n_rows, n_keys, p->d, 1,
                   p->kn + row * p->d, p->d, p->kn + key * p->d, p->d, 0, p->scores, n_keys);
}

/* y of n_rows rows -= P y of n_keys earlier keys. */
static void update(const problem *p, int64_t row, int n_rows, int64_t key, int n_keys) {
    multiply_keys(p, row, n_rows, key, n_keys);
    lucid_openblas_exp2(p->scores, (int64_t)n_rows * n_keys, p->shift);
    p->blas->sgemm(LUCID_BLAS_ROW_MAJOR, LUCID_BLAS_NO_TRANS, LUCID_BLAS_NO_TRANS, n_rows, p->dv, n_keys, -1, p->scores,
                   n_keys, p->y + key * p->dv, p->dv, 1, p->y + row * p->dv, p->dv);
}

static void solve_triangle(const problem *p, int64_t row, int n_rows) {
    multiply_keys(p, row, n_rows, row, n_rows);
    lucid_openblas_exp2(p->scores, (int64_t)n_rows * n_rows, p->shift);
    p->blas->strsm(LUCID_BLAS_ROW_MAJOR, LUCID_BLAS_LEFT, LUCID_BLAS_LOWER, LUCID_BLAS_NO_TRANS, LUCID_BLAS_UNIT,
                   n_rows, p->dv, 1, p->scores, n_rows, p->y + row * p->dv, p->dv);
}

/* Halves first: solve the upper, update the lower from it, solve the lower. */
static void solve_block(const problem *p, int64_t row, int n_rows) {
    if (n_rows <= TRIANGLE) {
        solve_triangle(p, row, n_rows);
        return;
    }
    const int upper = (n_rows / 2 + TRIANGLE - 1) / TRIANGLE * TRIANGLE;
    solve_block(p, row, upper);
    update(p, row + upper, n_rows - upper, row, upper);
    solve_block(p, row + upper, n_rows - upper);
}

static void solve(const problem *p) {
    for (int64_t row = 0; row < p->n; row += ROWS) {
        const int n_rows = (int)min64(ROWS, p->n - row);
        for (int64_t key = 0; key < row; key += KEYS) update(p, row, n_rows, key, (int)min64(KEYS, row - key));
        solve_block(p, row, n_rows);
    }
}

static void normalise(const problem *p, const float *k, double eps) {
    const double scale = sqrt(LOG2_E / sqrt(p->d));
    for (int64_t i = 0; i < p->n; i++) {
        double square = 0;
        for (int c = 0; c < p->d; c++) square += (double)k[i * p->d + c] * k[i * p->d + c];
        const double factor = scale / sqrt(square / p->d + eps);
        for (int c = 0; c < p->d; c++) p->kn[i * p->d + c] = (float)(k[i * p->d + c] * factor);
    }
}

lucid_status lucid_openblas_solve(float *y, const float *k, const float *v, int64_t n, int d, int dv, double eps) {
    const lucid_blas *blas;
    LUCID_TRY(lucid_blas_open(&blas, LUCID_BLAS_OPENBLAS));
    problem p = {.blas = blas,
                 .kn = aligned_alloc(64, ((size_t)n * (size_t)d * sizeof(float) + 63) / 64 * 64),
                 .scores = aligned_alloc(64, (size_t)ROWS * KEYS * sizeof(float)),
                 .y = y,
                 .n = n,
                 .d = d,
                 .dv = dv,
                 .shift = (float)(-sqrt(d) * LOG2_E)};
    lucid_status status = LUCID_OK;
    if (!p.kn || !p.scores) {
        status = lucid_fail(LUCID_ERR_MEMORY, "no memory to solve %lld tokens", (long long)n);
        goto free_buffers;
    }
    for (int64_t i = 0; i < n * dv; i++) y[i] = v[i];
    normalise(&p, k, eps);
    solve(&p);
free_buffers:
    free(p.kn), free(p.scores);
    return status;
}
