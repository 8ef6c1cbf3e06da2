/* U and S of whole sequences against fp64 forward substitution. */
#include "tests/kernels/fixture.h"

/* In units of 2^-24. An exponent is at most sqrt(d) log2(e) before the bias; its chain's d roundings add up like noise
 * to about sqrt(d) log2(e) / 2 units, which times ln 2 is P's relative error: sqrt(d) / 2, up to 4 sqrt(d) for the
 * worst of some hundred rows and |P^-1| <= 2. The rest is exp2 (5 units), the products and the sums over rows. */
static double tolerance(int d) {
    return (40 + 4 * sqrt(d)) * 0x1p-24;
}

static float *values_of(const head *h) {
    int w = h->shape.value_ld;
    float *y = allocate_floats((size_t)h->n * w);
    for (int i = 0; i < h->n; i++) memcpy(y + (size_t)i * w, head_values(h, i), w * sizeof *y);
    return y;
}

static void check_padding(const lucid_kernels *set, const head *h) {
    for (int i = 0; i < h->n_granules * GRANULE; i++)
        for (int c = 0; c < h->shape.value_ld; c++)
            if (i >= h->n || c >= h->shape.value_dim)
                CHECK(isfinite(head_values(h, i)[c]), "%s: padding (%d, %d) is %g", set->isa, i, c,
                      head_values(h, i)[c]);
}

static void check_solve(const lucid_kernels *set, const problem *p, const double *want, const char *keys) {
    lucid_shape s = p->shape;
    head h = head_make(set, p);
    head_solve(set, &h);
    float *y = values_of(&h);
    double error = row_error(y, s.value_ld, want, p->n, s.value_dim);
    CHECK(error <= tolerance(s.head_dim), "%s, %s keys, n %d, d %d, d_v %d: error %.3g above %.3g", set->isa, keys,
          p->n, s.head_dim, s.value_dim, error, tolerance(s.head_dim));
    check_padding(set, &h);
    free(y);
    head_free(&h);
}

static void check_problem(int n, int d, int dv, bool clustered) {
    problem p = problem_make(n, d, dv, 1000 + d);
    if (clustered) cluster_keys(&p, d);
    double *want = reference_solve(&p);
    FOR_EACH_SET(set) check_solve(set, &p, want, clustered ? "clustered" : "random");
    free(want);
    problem_free(&p);
}

/* Skipping the solve must not pass: with clustered keys Y is far from V. */
static void check_problem_is_hard(void) {
    problem p = problem_make(256, 64, 16, 7);
    cluster_keys(&p, 7);
    double *want = reference_solve(&p);
    CHECK(row_error(p.v, 16, want, p.n, 16) > 0.5, "V is too close to Y to test anything");
    free(want);
    problem_free(&p);
}

int main(void) {
    static const int dims[][2] = {{1, 1},   {2, 3},   {3, 2},    {16, 17},   {17, 16},   {63, 65},  {64, 64},  {65, 63},
                                  {68, 68}, {80, 16}, {64, 200}, {127, 128}, {128, 127}, {200, 64}, {256, 256}};
    for (size_t k = 0; k < sizeof dims / sizeof *dims; k++) {
        check_problem(192, dims[k][0], dims[k][1], false);
        check_problem(150, dims[k][0], dims[k][1], true);
    }
    for (int n = 1; n <= 64; n += n < 18 ? 1 : 9) check_problem(n, 20, 5, true);
    check_problem(700, 64, 64, true);
    check_problem_is_hard();
    return check_result();
}
