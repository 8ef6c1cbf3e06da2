/* The GPU's kernels against the fp64 oracle at odd sizes, forward and backward, and the same bits for any tile. Skips
 * where there is no GPU. `small`: few and small cases, for compute-sanitizer and for the emulator. */
#include "kernels/ref/dense.h"
#include "tests/check.h"
#include "tests/gpu/gpu_case.h"

#include <stdlib.h>
#include <string.h>

/* What a case gives; the order in which it is compared. */
enum { Y, OUT, LSE, DQ, DK, DV, N_RESULTS };
static const char *const names[N_RESULTS] = {"y", "out", "lse", "dq", "dk", "dv"};

typedef struct {
    float *x[N_RESULTS]; /* row-major, head by head */
    size_t bytes[N_RESULTS];
} results;

static bool of_queries(int which) {
    return which == OUT || which == LSE || which == DQ;
}
static int dim_of(const gpu_problem *p, int which) {
    return which == LSE ? 1 : which == DQ || which == DK ? p->head_dim : p->value_dim;
}

static results results_make(const gpu_problem *p) {
    results r;
    size_t rows = (size_t)p->n_kv_heads * (size_t)p->n;
    for (int i = 0; i < N_RESULTS; i++) {
        r.bytes[i] = rows * (size_t)(of_queries(i) ? p->group : 1) * (size_t)dim_of(p, i) * sizeof(float);
        r.x[i] = gpu_allocate(r.bytes[i]);
        memset(r.x[i], 0xff, r.bytes[i]); /* NaN */
    }
    return r;
}

static void results_free(results *r) {
    for (int i = 0; i < N_RESULTS; i++) free(r->x[i]);
}

static results run(const gpu_inputs *x, lucid_cuda_set set) {
    results r = results_make(&x->problem);
    gpu_case c = gpu_case_make(x, x->problem.dtype, set);
    gpu_case_solve(&c);
    gpu_case_attend(&c);
    gpu_case_download(&c, r.x[Y], r.x[OUT], r.x[LSE]);
    gpu_backward b = gpu_backward_make(&c, x);
    gpu_backward_run(&b);
    gpu_backward_download(&b, (gpu_gradients){r.x[DQ], r.x[DK], r.x[DV]});
    gpu_backward_free(&b);
    gpu_case_free(&c);
    return r;
}

/* --- against the oracle --- */

/* One key-value head in fp64. */
typedef struct {
    const gpu_inputs *inputs;
    const results *got;
    int head;
    double *k, *kn, *y, *dk, *dv;
    double *scratch; /* (value_dim) */
} oracle;

static double *wide(const float *x, size_t n) {
    double *to = gpu_allocate(n * sizeof *to);
    for (size_t i = 0; i < n; i++) to[i] = x[i];
    return to;
}

static double *zeros(size_t n) {
    double *x = gpu_allocate(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = 0;
    return x;
}

/* Weights and values of 16 bits round by 2^-12 each, over some hundred keys of a cluster. Errors of gradients are the
 * first rows', in which little cancels, and the root mean square that they are measured by falls with the length. */
static double tolerance_of(const gpu_problem *p, int which) {
    if (which == LSE) return 1e-4;
    double base = p->dtype == LUCID_F32 ? 5e-5 : 4e-3;
    return which < DQ ? base : base * sqrt(fmax(1, p->n / 100.0));
}

/* The largest error of a row. That of lse is absolute, as is that of the gradients of a single token's query and key,
 * which are zero. */
static double error_of(const float *x, const double *want, const gpu_problem *p, int which) {
    int dim = dim_of(p, which);
    double *got = wide(x, (size_t)p->n * (size_t)dim), largest = 0;
    bool absolute = which == LSE || (p->n == 1 && (which == DQ || which == DK));
    for (size_t i = 0; absolute && i < (size_t)p->n * (size_t)dim; i++) {
        double error = fabs(got[i] - want[i]);
        if (!(error <= largest)) largest = isnan(error) ? INFINITY : error;
    }
    if (!absolute) largest = lucid_dense_row_error(got, want, p->n, dim);
    free(got);
    return largest;
}

static void check_rows(const oracle *o, int which, int head, const double *want) {
    const gpu_problem *p = &o->inputs->problem;
    double error = error_of(o->got->x[which] + (size_t)head * (size_t)p->n * (size_t)dim_of(p, which), want, p, which);
    CHECK_NEAR(error, 0, tolerance_of(p, which), "%s of head %d", names[which], head);
    printf("  %s %.1e", names[which], error);
}

static void check_query_head(oracle *o, int head) {
    const gpu_problem *p = &o->inputs->problem;
    const double scale = gpu_problem_scale(p);
    size_t keys = (size_t)p->n * (size_t)p->head_dim, values = (size_t)p->n * (size_t)p->value_dim;
    double *q = wide(o->inputs->q + (size_t)head * keys, keys), *dq = zeros(keys);
    double *dout = wide(o->inputs->dout + (size_t)head * values, values), *out = zeros(values);
    double *lse = zeros((size_t)p->n);
    lucid_dense_attend(out, lse, q, o->k, o->y, p->n, p->head_dim, p->value_dim, scale);
    lucid_dense_attend_backward(dq, o->dk, o->dv, dout, q, o->k, o->y, p->n, p->head_dim, p->value_dim, scale,
                                o->scratch);
    check_rows(o, OUT, head, out);
    check_rows(o, LSE, head, lse);
    check_rows(o, DQ, head, dq);
    free(q);
    free(dq);
    free(dout);
    free(out);
    free(lse);
}

/* dv is dY, which the query heads have summed. */
static void solve_backward(oracle *o) {
    const gpu_problem *p = &o->inputs->problem;
    double *dkn = zeros((size_t)p->n * (size_t)p->head_dim);
    lucid_dense_solve_backward(o->dv, dkn, o->dv, o->kn, o->y, p->n, p->head_dim, p->value_dim);
    lucid_dense_normalise_backward(o->dk, dkn, o->k, p->n, p->head_dim, 1e-5);
    free(dkn);
}

static oracle oracle_make(const gpu_inputs *x, const results *r, int head) {
    const gpu_problem *p = &x->problem;
    size_t keys = (size_t)p->n * (size_t)p->head_dim, values = (size_t)p->n * (size_t)p->value_dim;
    oracle o = {.inputs = x, .got = r, .head = head};
    o.k = wide(x->k + (size_t)head * keys, keys);
    o.y = wide(x->v + (size_t)head * values, values);
    o.kn = zeros(keys);
    o.dk = zeros(keys);
    o.dv = zeros(values);
    o.scratch = zeros((size_t)p->value_dim);
    lucid_dense_normalise(o.kn, o.k, p->n, p->head_dim, 1e-5);
    if (!p->softmax) lucid_dense_solve(o.y, o.kn, o.y, p->n, p->head_dim, p->value_dim);
    return o;
}

static void oracle_free(oracle *o) {
    free(o->k);
    free(o->kn);
    free(o->y);
    free(o->dk);
    free(o->dv);
    free(o->scratch);
}

static void check_head(const gpu_inputs *x, const results *r, int head) {
    const gpu_problem *p = &x->problem;
    oracle o = oracle_make(x, r, head);
    check_rows(&o, Y, head, o.y);
    for (int i = 0; i < p->group; i++) check_query_head(&o, head * p->group + i);
    if (!p->softmax) solve_backward(&o);
    check_rows(&o, DK, head, o.dk);
    check_rows(&o, DV, head, o.dv);
    oracle_free(&o);
}

static void check_case(const gpu_problem *p, lucid_cuda_set set, uint64_t seed) {
    static const char *const dtypes[] = {"fp32", "bf16", "fp16"};
    gpu_inputs x = gpu_inputs_make(p, seed);
    results r = run(&x, set);
    printf("%-5s  %s  %-7s  d %3d  d_v %3d  N %5d  heads %d/%d  tile %3d:", lucid_cuda_set_name(set), dtypes[p->dtype],
           p->softmax ? "softmax" : "lucid", p->head_dim, p->value_dim, p->n, p->n_kv_heads * p->group, p->n_kv_heads,
           p->tile);
    for (int head = 0; head < p->n_kv_heads; head++) check_head(&x, &r, head);
    printf("\n");
    fflush(stdout);
    results_free(&r);
    gpu_inputs_free(&x);
}

/* --- the same bits for any tile --- */

static void check_tile(gpu_inputs *x, lucid_cuda_set set, const results *whole, int tile) {
    x->problem.tile = tile;
    results cut = run(x, set);
    for (int i = 0; i < N_RESULTS; i++)
        CHECK(!memcmp(cut.x[i], whole->x[i], whole->bytes[i]), "%s, %s, dtype %d, d %d, tiles of %d granules", names[i],
              lucid_cuda_set_name(set), x->problem.dtype, x->problem.head_dim, tile);
    results_free(&cut);
}

static void check_invariance(const gpu_problem *p, lucid_cuda_set set) {
    gpu_inputs x = gpu_inputs_make(p, 7);
    results whole = run(&x, set);
    for (int tile = 1; tile <= 8 && tile < p->tile; tile = 2 * tile + 1) check_tile(&x, set, &whole, tile);
    results_free(&whole);
    gpu_inputs_free(&x);
}

/* --- cases --- */

/* By all sets that the device runs. */
static void check_by_sets(const gpu_problem *p, uint64_t seed) {
    for (int set = 0; set <= (int)gpu_case_best(p, p->dtype); set++) check_case(p, (lucid_cuda_set)set, seed);
}
static void check_invariance_by_sets(const gpu_problem *p) {
    for (int set = 0; set <= (int)gpu_case_best(p, p->dtype); set++) check_invariance(p, (lucid_cuda_set)set);
}

static void check_large(void) {
    static const gpu_problem cases[] = {
        {LUCID_BF16, 64, 64, 1000, 2, 2, 16, false, 0},   {LUCID_F32, 33, 20, 300, 1, 1, 2, false, 0},
        {LUCID_BF16, 128, 128, 1500, 2, 1, 24, false, 0}, {LUCID_F16, 128, 128, 777, 1, 3, 5, false, 0},
        {LUCID_BF16, 68, 68, 1025, 1, 1, 17, false, 0},   {LUCID_F16, 17, 33, 130, 2, 1, 3, false, -0.3},
        {LUCID_BF16, 256, 256, 700, 1, 1, 11, false, 0},  {LUCID_F16, 200, 256, 129, 1, 1, 2, false, 0},
        {LUCID_BF16, 1, 1, 65, 1, 1, 1, false, 0},        {LUCID_F16, 64, 64, 1, 1, 1, 1, false, 0},
        {LUCID_F32, 128, 128, 1000, 1, 2, 16, false, 0},  {LUCID_F32, 256, 130, 200, 2, 1, 1, false, 0},
        {LUCID_BF16, 128, 128, 700, 33, 1, 11, false, 0}, {LUCID_BF16, 128, 128, 4000, 1, 1, 63, false, 0},
        {LUCID_BF16, 128, 100, 500, 1, 4, 3, true, 0},    {LUCID_F32, 60, 60, 333, 2, 2, 4, true, -0.1},
    };
    static const gpu_problem whole[] = {
        {LUCID_BF16, 128, 128, 3000, 2, 2, 47, false, 0},
        {LUCID_F16, 64, 64, 3000, 2, 2, 47, false, 0},
        {LUCID_BF16, 200, 200, 3000, 2, 2, 47, false, 0},
        {LUCID_F32, 40, 40, 3000, 2, 2, 47, false, 0},
    };
    for (int i = 0; i < COUNT(cases); i++) check_by_sets(&cases[i], (uint64_t)i + 1);
    for (int i = 0; i < COUNT(whole); i++) check_invariance_by_sets(&whole[i]);
}

/* Every dtype and width, a tile cut short, a lone granule, grouped heads. */
static void check_small(void) {
    static const gpu_problem cases[] = {
        {LUCID_BF16, 64, 40, 200, 1, 2, 1, false, 0},   {LUCID_F16, 68, 68, 193, 2, 1, 3, false, 0},
        {LUCID_F32, 17, 33, 130, 1, 3, 2, false, -0.3}, {LUCID_BF16, 200, 256, 66, 1, 1, 2, false, 0},
        {LUCID_F32, 70, 20, 65, 1, 1, 2, false, 0},     {LUCID_F16, 64, 64, 1, 1, 1, 1, false, 0},
        {LUCID_BF16, 40, 40, 130, 1, 2, 2, true, -0.2},
    };
    static const gpu_problem whole = {LUCID_BF16, 40, 40, 250, 1, 2, 4, false, 0};
    for (int i = 0; i < COUNT(cases); i++) check_by_sets(&cases[i], (uint64_t)i + 1);
    check_invariance_by_sets(&whole);
}

int main(int argc, char **argv) {
    const char *missing = gpu_missing();
    if (missing) {
        printf("skipped: %s\n", missing);
        return LUCID_TEST_SKIP;
    }
    if (argc > 1 && !strcmp(argv[1], "small"))
        check_small();
    else
        check_large();
    return check_result();
}
