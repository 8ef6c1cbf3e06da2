/* Backward of whole sequences, two query heads on one key-value head, against the dense fp64 backward; and the same
 * bits whether one pass adds both sides' sums or each side has its own, and however key lists are cut. */
#include "kernels/ref/dense.h"
#include "tests/kernels/fixture.h"

enum { HEADS = 2 };

/* fp32 inputs, the fp64 answer and what a kernel set makes of them. */
typedef struct {
    problem p;
    float *q[HEADS], *dout[HEADS];
    double *dq[HEADS], *dk, *dv;
} task;

typedef struct {
    lucid_shape shape;
    int n_granules;
    head h;            /* records and, of the last head, queries and states */
    float *query_rows; /* (n_granules, HEADS) */
    float *key_rows;   /* (n_granules) */
    float *dqt, *dkt;  /* (n_granules, HEADS), (n_granules) */
    float *dkeys[2];   /* (n_granules): of the softmax, of the solve */
    float *dq[HEADS], *dk, *dv;
    lucid_key_sums *list;
} run;

static double *widened(const float *x, size_t n) {
    double *wide = allocate(n * sizeof *wide);
    for (size_t i = 0; i < n; i++) wide[i] = x[i];
    return wide;
}

static void answer(task *t) {
    int n = t->p.n, d = t->p.shape.head_dim, dv = t->p.shape.value_dim;
    double *k = widened(t->p.k, (size_t)n * d), *y = widened(t->p.v, (size_t)n * dv), row[LUCID_MAX_HEAD_DIM];
    double *kn = allocate(sizeof(double) * n * d), *dkn = allocate(sizeof(double) * n * d);
    t->dk = allocate(sizeof(double) * n * d), t->dv = allocate(sizeof(double) * n * dv);
    memset(t->dk, 0, sizeof(double) * n * d), memset(t->dv, 0, sizeof(double) * n * dv);
    lucid_dense_normalise(kn, k, n, d, EPS);
    lucid_dense_solve(y, kn, y, n, d, dv);
    for (int h = 0; h < HEADS; h++) {
        double *q = widened(t->q[h], (size_t)n * d), *dout = widened(t->dout[h], (size_t)n * dv);
        t->dq[h] = allocate(sizeof(double) * n * d);
        lucid_dense_attend_backward(t->dq[h], t->dk, t->dv, dout, q, k, y, n, d, dv, t->p.q_scale / M_LOG2E, row);
        free(q), free(dout);
    }
    lucid_dense_solve_backward(t->dv, dkn, t->dv, kn, y, n, d, dv);
    lucid_dense_normalise_backward(t->dk, dkn, k, n, d, EPS);
    free(k), free(y), free(kn), free(dkn);
}

static task task_make(int n, int d, int dv, bool clustered) {
    task t = {.p = problem_make(n, d, dv, 500 + d)};
    if (clustered) cluster_keys(&t.p, d);
    for (int h = 0; h < HEADS; h++) {
        t.q[h] = normals((size_t)n * d, 70 + h);
        t.dout[h] = normals((size_t)n * dv, 80 + h);
    }
    answer(&t);
    return t;
}

static void task_free(task *t) {
    for (int h = 0; h < HEADS; h++) free(t->q[h]), free(t->dout[h]), free(t->dq[h]);
    free(t->dk), free(t->dv);
    problem_free(&t->p);
}

static float *query_row(const run *r, int g, int h) {
    return r->query_rows + (size_t)(g * HEADS + h) * lucid_query_row_floats(r->shape);
}
static float *key_row(const run *r, int g) {
    return r->key_rows + g * lucid_record_floats(r->shape);
}
static float *sums(const run *r, float *all, int index) {
    return all ? all + index * lucid_key_sums_floats(r->shape) : NULL;
}

static float *zeros(size_t n) {
    float *x = allocate_floats(n);
    memset(x, 0, n * sizeof *x);
    return x;
}

static void forward(run *r, const lucid_kernels *set, const task *t) {
    lucid_shape s = r->shape;
    problem p = t->p;
    for (int h = 0; h < HEADS; h++) {
        p.q = t->q[h];
        if (h) head_free(&r->h);
        r->h = head_make(set, &p);
        head_solve(set, &r->h);
        head_attend(set, &r->h, LUCID_FAST);
        for (int g = 0; g < r->n_granules; g++) {
            int first = g * GRANULE, rows = p.n - first < GRANULE ? p.n - first : GRANULE;
            set->pack_values(query_row(r, g, h), t->dout[h] + (size_t)first * s.value_dim, LUCID_F32, rows, s);
            lucid_query_row_begin(query_row(r, g, h), head_query(&r->h, g), head_state(&r->h, g), p.q_scale, s);
        }
    }
    for (int g = 0; g < r->n_granules; g++) {
        memcpy(key_row(r, g), head_record(&r->h, g), lucid_record_values(s) * sizeof(float));
        memset(key_row(r, g) + lucid_record_values(s), 0, sizeof(float) * GRANULE * s.value_ld);
    }
}

static run run_make(const lucid_kernels *set, const task *t) {
    lucid_shape s = t->p.shape;
    run r = {.shape = s, .n_granules = (t->p.n + GRANULE - 1) / GRANULE};
    size_t n = r.n_granules, sum = lucid_key_sums_floats(s);
    r.query_rows = zeros(n * HEADS * lucid_query_row_floats(s));
    r.key_rows = zeros(n * lucid_record_floats(s));
    r.dqt = zeros(n * HEADS * sum), r.dkt = zeros(n * sum);
    r.dkeys[0] = zeros(n * sum), r.dkeys[1] = zeros(n * sum);
    r.dk = zeros((size_t)t->p.n * s.head_dim), r.dv = zeros((size_t)t->p.n * s.value_dim);
    for (int h = 0; h < HEADS; h++) r.dq[h] = zeros((size_t)t->p.n * s.head_dim);
    r.list = allocate(n * sizeof *r.list);
    forward(&r, set, t);
    return r;
}

static void run_free(run *r) {
    head_free(&r->h);
    for (int h = 0; h < HEADS; h++) free(r->dq[h]);
    free(r->query_rows), free(r->key_rows), free(r->dqt), free(r->dkt), free(r->dkeys[0]), free(r->dkeys[1]);
    free(r->dk), free(r->dv), free(r->list);
}

/* Keys last-1, ..., first; the sums of one kind, or none. */
static lucid_key_sums *list(run *r, int first, int last, int kind, bool key_sums) {
    for (int n = 0, j = last - 1; j >= first; j--, n++)
        r->list[n] = (lucid_key_sums){head_record(&r->h, j), key_sums ? sums(r, r->dkeys[kind], j) : NULL,
                                      key_row(r, j) + lucid_record_values(r->shape)};
    return r->list;
}

/* Row granule i against keys first..last-1. */
static void pairs(run *r, const lucid_kernels *set, int i, int first, int last, bool row_sums, bool key_sums) {
    float *scratch = r->h.scratch;
    for (int h = 0; h < HEADS; h++)
        set->attend_backward(row_sums ? sums(r, r->dqt, i * HEADS + h) : NULL, query_row(r, i, h),
                             list(r, first, last, 0, key_sums), last - first, r->shape, scratch);
    set->update_backward(row_sums ? sums(r, r->dkt, i) : NULL, key_row(r, i), list(r, first, last, 1, key_sums),
                         last - first, r->shape, scratch);
}

static void diagonal(run *r, const lucid_kernels *set, int i, bool row_sums, bool key_sums) {
    for (int h = 0; h < HEADS; h++)
        set->attend_backward_diag(row_sums ? sums(r, r->dqt, i * HEADS + h) : NULL, query_row(r, i, h),
                                  list(r, i, i + 1, 0, key_sums), r->shape, r->h.scratch);
    if (key_sums) set->solve_backward(key_row(r, i), r->shape, r->h.scratch);
    set->update_backward_diag(row_sums ? sums(r, r->dkt, i) : NULL, key_row(r, i), list(r, i, i + 1, 1, key_sums),
                              r->shape, r->h.scratch);
}

/* Tiles of keys from the last to the first, each against all rows from the last. */
static void key_pass(run *r, const lucid_kernels *set, int tile, bool row_sums) {
    for (int first = (r->n_granules - 1) / tile * tile; first >= 0; first -= tile) {
        int last = first + tile < r->n_granules ? first + tile : r->n_granules;
        for (int i = r->n_granules - 1; i >= last; i--) pairs(r, set, i, first, last, row_sums, true);
        for (int i = last - 1; i >= first; i--) {
            diagonal(r, set, i, row_sums, true);
            pairs(r, set, i, first, i, row_sums, true);
        }
    }
}

static void row_pass(run *r, const lucid_kernels *set) {
    for (int i = 0; i < r->n_granules; i++) {
        diagonal(r, set, i, true, false);
        pairs(r, set, i, i / 2, i, true, false);
        pairs(r, set, i, 0, i / 2, true, false);
    }
}

static void finish(run *r, const task *t) {
    lucid_shape s = r->shape;
    for (int g = 0; g < r->n_granules; g++) {
        size_t first = (size_t)g * GRANULE;
        int rows = t->p.n - (int)first < GRANULE ? t->p.n - (int)first : GRANULE;
        for (int h = 0; h < HEADS; h++)
            lucid_query_row_finish(r->dq[h] + first * s.head_dim, sums(r, r->dqt, g * HEADS + h), rows, s,
                                   (float)(t->p.q_scale / M_LOG2E));
        lucid_key_row_finish(r->dk + first * s.head_dim, head_record(&r->h, g), sums(r, r->dkeys[0], g),
                             sums(r, r->dkeys[1], g), sums(r, r->dkt, g), NULL, rows, s);
        for (int i = 0; i < rows; i++)
            memcpy(r->dv + (first + i) * s.value_dim, key_row(r, g) + lucid_record_values(s) + (size_t)i * s.value_ld,
                   sizeof(float) * s.value_dim);
    }
}

static run compute(const lucid_kernels *set, const task *t, int tile, bool one_pass) {
    run r = run_make(set, t);
    key_pass(&r, set, tile, one_pass);
    if (!one_pass) row_pass(&r, set);
    finish(&r, t);
    return r;
}

static void check_same(const lucid_kernels *set, const task *t, const run *a, const run *b, const char *what) {
    size_t keys = sizeof(float) * t->p.n * t->p.shape.head_dim, values = sizeof(float) * t->p.n * t->p.shape.value_dim;
    bool same = !memcmp(a->dk, b->dk, keys) && !memcmp(a->dv, b->dv, values);
    for (int h = 0; h < HEADS; h++) same = same && !memcmp(a->dq[h], b->dq[h], keys);
    CHECK(same, "%s, n %d, d %d, d_v %d: %s changes bits", set->isa, t->p.n, t->p.shape.head_dim, t->p.shape.value_dim,
          what);
}

/* That of the solve (test_kernels_solve.c) four times over: y's own, the back substitution's, and dout . y - delta
 * cancels to about half. */
static double tolerance(int d) {
    return 4 * (40 + 4 * sqrt(d)) * 0x1p-24;
}

/* A row that sees itself alone has no gradient through its weights: then the error counts as it is. */
static double error_of(const float *got, const double *want, int n, int dim) {
    return n == 1 ? sqrt(dot(got, got, dim)) : row_error(got, dim, want, n, dim);
}

static void check_set(const lucid_kernels *set, const task *t) {
    int n = t->p.n, d = t->p.shape.head_dim, dv = t->p.shape.value_dim;
    run one = compute(set, t, 1, true), tiles = compute(set, t, 3, true), two = compute(set, t, 2, false);
    double dk = error_of(one.dk, t->dk, n, d), dvalues = row_error(one.dv, dv, t->dv, n, dv), dq = 0;
    for (int h = 0; h < HEADS; h++) {
        double error = error_of(one.dq[h], t->dq[h], n, d);
        if (!(error <= dq)) dq = error; /* NaN stays */
    }
    CHECK_NEAR(dq, 0, tolerance(d), "%s, n %d, d %d, d_v %d: dq", set->isa, n, d, dv);
    CHECK_NEAR(dk, 0, tolerance(d), "%s, n %d, d %d, d_v %d: dk", set->isa, n, d, dv);
    CHECK_NEAR(dvalues, 0, tolerance(d), "%s, n %d, d %d, d_v %d: dv", set->isa, n, d, dv);
    check_same(set, t, &one, &tiles, "the tile");
    check_same(set, t, &one, &two, "a second pass");
    run_free(&one), run_free(&tiles), run_free(&two);
}

static void check_task(int n, int d, int dv, bool clustered) {
    task t = task_make(n, d, dv, clustered);
    FOR_EACH_SET(set) check_set(set, &t);
    task_free(&t);
}

/* `quick`, for slow builds: every third shape. */
int main(int argc, char **argv) {
    static const int dims[][2] = {{1, 1},   {2, 3},   {3, 2},    {16, 17},   {17, 16},  {63, 65},
                                  {64, 64}, {68, 68}, {64, 200}, {127, 128}, {200, 64}, {256, 256}};
    size_t step = argc > 1 && !strcmp(argv[1], "quick") ? 3 : 1;
    for (size_t k = 0; k < sizeof dims / sizeof *dims; k += step) check_task(150, dims[k][0], dims[k][1], true);
    for (int n = 1; n <= 64; n += 21) check_task(n, 20, 5, true);
    check_task(320, 64, 64, true);
    check_task(320, 32, 48, false);
    return check_result();
}
