/* The GPU's kernels against the fp64 oracle at odd sizes, and the same bits for any tile. Skips where there is no GPU.
 * With an argument only that many cases: compute-sanitizer is slow. */
#include "kernels/ref/dense.h"
#include "tests/check.h"
#include "tests/gpu/gpu_case.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    float *y, *out, *lse;
    size_t y_bytes, out_bytes, lse_bytes;
} results;

static results run(const gpu_inputs *x) {
    const gpu_problem *p = &x->problem;
    size_t rows = (size_t)p->n_kv_heads * (size_t)p->n, heads = rows * (size_t)p->group;
    results r = {.y_bytes = rows * (size_t)p->value_dim * sizeof(float),
                 .out_bytes = heads * (size_t)p->value_dim * sizeof(float),
                 .lse_bytes = heads * sizeof(float)};
    r.y = malloc(r.y_bytes);
    r.out = malloc(r.out_bytes);
    r.lse = malloc(r.lse_bytes);
    gpu_case c = gpu_case_make(x, p->dtype);
    gpu_case_solve(&c);
    gpu_case_attend(&c);
    gpu_case_download(&c, r.y, r.out, r.lse);
    gpu_case_free(&c);
    return r;
}

static void results_free(results *r) {
    free(r->y);
    free(r->out);
    free(r->lse);
}

static double *wide(const float *x, size_t n) {
    double *to = malloc(n * sizeof *to);
    for (size_t i = 0; i < n; i++) to[i] = x[i];
    return to;
}

static double row_error(const float *x, const double *reference, int n, int dim) {
    double *got = wide(x, (size_t)n * (size_t)dim), error = lucid_dense_row_error(got, reference, n, dim);
    free(got);
    return error;
}

/* Weights and values of 16 bits round by 2^-12 each, over some hundred keys of a cluster. */
static double tolerance_of(lucid_dtype dtype) {
    return dtype == LUCID_F32 ? 5e-5 : 4e-3;
}

static void check_query_head(const gpu_inputs *x, const results *r, int head, const double *k, const double *y) {
    const gpu_problem *p = &x->problem;
    size_t keys = (size_t)p->n * (size_t)p->head_dim, values = (size_t)p->n * (size_t)p->value_dim;
    double *q = wide(x->q + (size_t)head * keys, keys), *out = malloc(values * sizeof *out);
    double *lse = malloc((size_t)p->n * sizeof *lse), worst = 0;
    lucid_dense_attend(out, lse, q, k, y, p->n, p->head_dim, p->value_dim, 1 / sqrt(p->head_dim));
    double error = row_error(r->out + (size_t)head * values, out, p->n, p->value_dim);
    CHECK_NEAR(error, 0, tolerance_of(p->dtype), "out of head %d", head);
    for (int i = 0; i < p->n; i++) worst = fmax(worst, fabs(r->lse[(size_t)head * (size_t)p->n + (size_t)i] - lse[i]));
    CHECK_NEAR(worst, 0, 1e-4, "lse of head %d", head);
    printf("  out %.1e  lse %.1e", error, worst);
    free(q);
    free(out);
    free(lse);
}

static void check_head(const gpu_inputs *x, const results *r, int head) {
    const gpu_problem *p = &x->problem;
    size_t keys = (size_t)p->n * (size_t)p->head_dim, values = (size_t)p->n * (size_t)p->value_dim;
    double *k = wide(x->k + (size_t)head * keys, keys), *v = wide(x->v + (size_t)head * values, values);
    double *kn = malloc(keys * sizeof *kn), *y = malloc(values * sizeof *y);
    lucid_dense_normalise(kn, k, p->n, p->head_dim, 1e-5);
    lucid_dense_solve(y, kn, v, p->n, p->head_dim, p->value_dim);
    double error = row_error(r->y + (size_t)head * values, y, p->n, p->value_dim);
    printf("  y %.1e", error);
    CHECK_NEAR(error, 0, tolerance_of(p->dtype), "y of head %d", head);
    for (int h = 0; h < p->group; h++) check_query_head(x, r, head * p->group + h, k, y);
    free(k);
    free(v);
    free(kn);
    free(y);
}

static void check_case(const gpu_problem *p, uint64_t seed) {
    static const char *const names[] = {"fp32", "bf16", "fp16"};
    gpu_inputs x = gpu_inputs_make(p, seed);
    results r = run(&x);
    printf("%s  d %3d  d_v %3d  N %5d  heads %d/%d  tile %3d:", names[p->dtype], p->head_dim, p->value_dim, p->n,
           p->n_kv_heads * p->group, p->n_kv_heads, p->tile);
    for (int head = 0; head < p->n_kv_heads; head++) check_head(&x, &r, head);
    printf("\n");
    results_free(&r);
    gpu_inputs_free(&x);
}

static void check_invariance(lucid_dtype dtype, int head_dim) {
    gpu_problem p = {dtype, head_dim, head_dim, 3000, 2, 2, 47};
    gpu_inputs x = gpu_inputs_make(&p, 7);
    results whole = run(&x);
    for (int tile = 1; tile <= 8; tile = 2 * tile + 1) {
        x.problem.tile = tile;
        results cut = run(&x);
        CHECK(!memcmp(cut.y, whole.y, whole.y_bytes), "y, dtype %d, tiles of %d granules", dtype, tile);
        CHECK(!memcmp(cut.out, whole.out, whole.out_bytes), "out, dtype %d, tiles of %d granules", dtype, tile);
        CHECK(!memcmp(cut.lse, whole.lse, whole.lse_bytes), "lse, dtype %d, tiles of %d granules", dtype, tile);
        results_free(&cut);
    }
    results_free(&whole);
    gpu_inputs_free(&x);
}

int main(int argc, char **argv) {
    static const gpu_problem cases[] = {
        {LUCID_BF16, 64, 64, 1000, 2, 2, 16},   {LUCID_F32, 33, 20, 300, 1, 1, 2},
        {LUCID_BF16, 128, 128, 1500, 2, 1, 24}, {LUCID_F16, 128, 128, 777, 1, 3, 5},
        {LUCID_BF16, 68, 68, 1025, 1, 1, 17},   {LUCID_F16, 17, 33, 130, 2, 1, 3},
        {LUCID_BF16, 256, 256, 700, 1, 1, 11},  {LUCID_F16, 200, 256, 129, 1, 1, 2},
        {LUCID_BF16, 1, 1, 65, 1, 1, 1},        {LUCID_F16, 64, 64, 1, 1, 1, 1},
        {LUCID_F32, 128, 128, 1000, 1, 2, 16},  {LUCID_F32, 256, 130, 200, 2, 1, 1},
        {LUCID_BF16, 128, 128, 700, 33, 1, 11}, {LUCID_BF16, 128, 128, 4000, 1, 1, 63},
    };
    const char *missing = gpu_missing();
    if (missing) {
        printf("skipped: %s\n", missing);
        return LUCID_TEST_SKIP;
    }
    int n = (int)(sizeof cases / sizeof *cases), limit = argc > 1 ? atoi(argv[1]) : n;
    for (int i = 0; i < n && i < limit; i++) check_case(&cases[i], (uint64_t)i + 1);
    if (limit < n) return check_result();
    check_invariance(LUCID_BF16, 128);
    check_invariance(LUCID_F16, 64);
    check_invariance(LUCID_BF16, 200);
    check_invariance(LUCID_F32, 40);
    return check_result();
}
