/* A of whole sequences against fp64 softmax attention, spread-out scores and late giants included. */
#include "tests/kernels/fixture.h"

/* Errors of a score are a few units in the last place of the largest magnitude that its chain meets, `reach` (base 2);
 * they become relative errors of its weight. 16 units are for exp2, the sums and the products. */
static double tolerance(int d, double reach) {
    return (16 + 4 * sqrt(d) + 4 * reach) * 0x1p-24;
}

static double largest_score(const problem *p) {
    double largest = 0;
    for (int i = 0; i < p->n; i++)
        for (int j = 0; j <= i; j++) {
            int d = p->shape.head_dim;
            largest = fmax(largest, fabs(dot(p->q + (size_t)i * d, p->k + (size_t)j * d, d) * p->q_scale));
        }
    return largest;
}

static void check_attend(const lucid_kernels *set, const problem *p, lucid_precision precision, double bound,
                         const char *what) {
    lucid_shape s = p->shape;
    head h = head_make(set, p);
    head_solve(set, &h);
    head_attend(set, &h, precision);
    float *out = allocate_floats((size_t)p->n * s.value_dim), *lse = allocate_floats(p->n);
    double *want = allocate(sizeof(double) * p->n * s.value_dim), *want_lse = allocate(sizeof(double) * p->n);
    head_finish(set, &h, out, lse);
    reference_attend(p, &h, want, want_lse);
    double error = row_error(out, s.value_dim, want, p->n, s.value_dim);
    CHECK(error <= bound, "%s, %s, n %d, d %d, d_v %d: error %.3g above %.3g", set->isa, what, p->n, s.head_dim,
          s.value_dim, error, bound);
    for (int i = 0; i < p->n; i++)
        CHECK_NEAR(lse[i], want_lse[i], bound + 0x1p-23 * fabs(want_lse[i]), "%s, %s, d %d: lse of row %d", set->isa,
                   what, s.head_dim, i);
    free(out);
    free(lse);
    free(want);
    free(want_lse);
    head_free(&h);
}

static void check_problem(problem *p, const char *what) {
    double reach = largest_score(p);
    /* fp64 leaves what rounds a state, granule by granule, the division and out; the reference exponent may be off. */
    double rounded = (6 + p->n / GRANULE) * 0x1p-24;
    FOR_EACH_SET(set) {
        check_attend(set, p, LUCID_FAST, tolerance(p->shape.head_dim, reach), what);
        check_attend(set, p, LUCID_CAREFUL, tolerance(p->shape.head_dim, reach), what);
        check_attend(set, p, LUCID_COMPENSATED, tolerance(p->shape.head_dim, reach / 8), what);
        check_attend(set, p, LUCID_EXACT, rounded, what);
    }
    problem_free(p);
}

static void check_random(int n, int d, int dv) {
    problem p = problem_make(n, d, dv, 2000 + d);
    check_problem(&p, "random");
}

/* Scores spread over about +-200 in base 2: rows meet keys far above their own, and all below. */
static void check_spread(int d) {
    problem p = problem_make(300, d, 24, 3000 + d);
    for (size_t i = 0; i < (size_t)p.n * d; i++) p.q[i] *= 48;
    check_problem(&p, "spread");
}

/* One key in the middle of a granule that is worth 2^200 times any before it, for every later row. */
static void check_giant(int at) {
    problem p = problem_make(260, 8, 8, 4000);
    for (int i = 0; i < p.n; i++) p.q[i * 8] = 1;
    p.k[at * 8] = (float)(200 / p.q_scale);
    check_problem(&p, "giant");
}

/* Rows whose own key is the giant: everything else underflows, and out is the row's own y. */
static void check_own_giant(void) {
    problem p = problem_make(130, 8, 8, 5000);
    for (int i = 0; i < p.n; i++)
        for (int c = 0; c < 8; c++) p.k[i * 8 + c] = p.q[i * 8 + c] * 40;
    check_problem(&p, "own giant");
}

/* Scores of two chains that cancel and six that do not: what adding the chains loses must come back. */
static void check_cancelling(void) {
    problem p = problem_make(160, 64, 24, 6000);
    for (int i = 0; i < p.n; i++) {
        float *q = p.q + i * 64, *k = p.k + i * 64;
        for (int c = 0; c < 8; c++) q[c] = q[16 + c] = 0;
        q[0] = q[16] = k[0] = 64;
        k[16] = -64;
    }
    FOR_EACH_SET(set) check_attend(set, &p, LUCID_COMPENSATED, tolerance(8, 8), "cancelling");
    problem_free(&p);
}

/* A row that sees no key: out = 0, lse = -inf. */
static void check_empty(const lucid_kernels *set) {
    lucid_shape s = lucid_shape_make(4, 5);
    float *state = allocate_floats(lucid_state_floats(s)), out[2 * 5], lse[2];
    memset(state, 0, sizeof(float) * lucid_state_floats(s));
    set->attend_finish(out, lse, state, 2, s);
    for (int i = 0; i < 10; i++) CHECK(out[i] == 0, "%s: out[%d] is %g", set->isa, i, out[i]);
    for (int i = 0; i < 2; i++) CHECK(lse[i] == -INFINITY, "%s: lse[%d] is %g", set->isa, i, lse[i]);
    free(state);
}

int main(void) {
    static const int dims[][2] = {{1, 1},   {2, 3},   {3, 2},    {16, 17},   {17, 16},   {63, 65},  {64, 64},  {65, 63},
                                  {68, 68}, {80, 16}, {64, 200}, {127, 128}, {128, 127}, {200, 64}, {256, 256}};
    for (size_t k = 0; k < sizeof dims / sizeof *dims; k++) check_random(160, dims[k][0], dims[k][1]);
    for (int n = 1; n <= 64; n += n < 18 ? 1 : 9) check_random(n, 20, 5);
    check_spread(8);
    check_spread(64);
    for (int at = 60; at < 68; at++) check_giant(at);
    check_giant(0);
    check_giant(130);
    check_giant(250);
    check_own_giant();
    check_cancelling();
    FOR_EACH_SET(set) check_empty(set);
    return check_result();
}
