/* The oracle has no oracle: it is held against cases with closed forms, a P that this file writes out as a matrix, and
 * properties that the definition implies. Keys come in clusters, since for unrelated keys P is nearly the identity. */
#include "kernels/ref/dense.h"
#include "tests/check.h"

#include <stdlib.h>
#include <string.h>

#define N         150
#define D_MAX     68
#define EPS       1e-5
#define TOLERANCE 1e-12 /* fp64 rounding over 150 terms, with room */

typedef struct {
    int d, dv;
    double *q, *k, *v, *kn, *y, *out, *lse;
} head;

static double *array(int64_t n) {
    double *x = calloc((size_t)n, sizeof *x);
    if (!x) exit(2);
    return x;
}

/* Roughly normal: the sum of twelve uniform numbers, less six. */
static double normal(void) {
    static uint64_t state = 88172645463325252ull;
    double sum = -6;
    for (int u = 0; u < 12; u++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        sum += (double)(state >> 11) * 0x1p-53;
    }
    return sum;
}

/* Keys around four centres, correlation 0.8. */
static head head_new(int d, int dv) {
    head h = {d, dv, array(N * d), array(N * d), array(N * dv), array(N * d), array(N * dv), array(N * dv), array(N)};
    double centres[4][D_MAX];
    for (int c = 0; c < 4 * d; c++) centres[c / d][c % d] = normal();
    for (int i = 0; i < N * d; i++) {
        h.q[i] = normal();
        h.k[i] = sqrt(0.8) * centres[i / d * 7 % 4][i % d] + sqrt(0.2) * normal();
    }
    for (int i = 0; i < N * dv; i++) h.v[i] = normal();
    return h;
}

static void head_free(head *h) {
    free(h->q), free(h->k), free(h->v), free(h->kn), free(h->y), free(h->out), free(h->lse);
}

static void compute(head *h, double eps) {
    lucid_dense_normalise(h->kn, h->k, N, h->d, eps);
    lucid_dense_solve(h->y, h->kn, h->v, N, h->d, h->dv);
    lucid_dense_attend(h->out, h->lse, h->q, h->k, h->y, N, h->d, h->dv, 1 / sqrt(h->d));
}

/* Equal keys make P all ones below the diagonal, so y_i = v_i - v_{i-1}; the softmax is uniform and telescopes:
 * o_i = v_i / (i + 1). */
static void equal_keys_have_a_closed_form(void) {
    head h = head_new(8, 3);
    for (int i = 1; i < N; i++) memcpy(h.k + i * h.d, h.k, (size_t)h.d * sizeof *h.k);
    compute(&h, 0);
    for (int i = 0; i < N; i++) {
        double score = 0;
        for (int c = 0; c < h.d; c++) score += h.q[i * h.d + c] * h.k[c] / sqrt(h.d);
        CHECK_NEAR(h.lse[i], score + log(i + 1), TOLERANCE * N, "lse of row %d", i);
        for (int c = 0; c < h.dv; c++) {
            const double *v = h.v + i * h.dv + c;
            CHECK_NEAR(h.y[i * h.dv + c], i ? v[0] - v[-h.dv] : v[0], TOLERANCE * N, "y of row %d", i);
            CHECK_NEAR(h.out[i * h.dv + c], v[0] / (i + 1), TOLERANCE * N, "out of row %d", i);
        }
    }
    head_free(&h);
}

/* Two unit keys at a right angle, d = 2: kn_0 . kn_1 = 0, so P_10 = exp(-sqrt 2). */
static void two_keys_by_hand(void) {
    const double k[4] = {1, 0, 0, 1}, v[2] = {1, 5}, q[4] = {0, 0, 0, 0};
    double kn[4], y[2], out[2], lse[2];
    lucid_dense_normalise(kn, k, 2, 2, 0);
    CHECK_NEAR(kn[0], 1.4142135623730951, TOLERANCE, "RMSNorm of (1, 0)");
    lucid_dense_solve(y, kn, v, 2, 2, 1);
    CHECK_NEAR(y[1], 5 - 0.24311673443421419, TOLERANCE, "y of the second row");
    lucid_dense_attend(out, lse, q, k, y, 2, 2, 1, 1);
    CHECK_NEAR(out[1], (6 - 0.24311673443421419) / 2, TOLERANCE, "the mean of y_0 and y_1");
    lucid_dense_normalise(kn, k, 2, 2, 0.5);
    CHECK_NEAR(kn[0], 1, TOLERANCE, "eps is added to the mean of squares");
}

/* P written out and multiplied. */
static void p_times_y_is_v(int d, int dv) {
    head h = head_new(d, dv);
    compute(&h, EPS);
    double *row = array(dv), moved = 0;
    for (int i = 0; i < N; i++)
        for (int c = 0; c < dv; c++) {
            double sum = h.y[i * dv + c];
            for (int j = 0; j < i; j++) {
                double dot = 0;
                for (int e = 0; e < d; e++) dot += h.kn[i * d + e] * h.kn[j * d + e];
                sum += exp(dot / sqrt(d) - sqrt(d)) * h.y[j * dv + c];
            }
            CHECK_NEAR(sum, h.v[i * dv + c], TOLERANCE, "d %d: P Y, row %d, column %d", d, i, c);
            moved = fmax(moved, fabs(h.y[i * dv + c] - h.v[i * dv + c]));
        }
    CHECK(moved > 0.1, "d %d: these keys do not exercise the solve: Y - V is %g", d, moved);
    CHECK_NEAR(lucid_dense_residual(h.y, h.kn, h.v, N, d, dv, row), 0, TOLERANCE, "d %d: its own residual", d);
    CHECK(lucid_dense_residual(h.v, h.kn, h.v, N, d, dv, row) > 0.1, "d %d: Y = V leaves no residual", d);
    free(row);
    head_free(&h);
}

/* P + P^T is the identity plus a positive semidefinite matrix (up to eps), hence |P^-1| <= 2. */
static void growth_is_bounded(int d, int dv) {
    head h = head_new(d, dv);
    compute(&h, 0);
    for (int c = 0; c < dv; c++) {
        double y2 = 0, v2 = 0;
        for (int i = 0; i < N; i++) y2 += h.y[i * dv + c] * h.y[i * dv + c], v2 += h.v[i * dv + c] * h.v[i * dv + c];
        CHECK(sqrt(y2) <= 2 * sqrt(v2), "d %d: column %d grew from %g to %g", d, c, sqrt(v2), sqrt(y2));
    }
    head_free(&h);
}

/* Softmax weights sum to one. */
static void ones_stay_ones(void) {
    head h = head_new(16, 2);
    for (int i = 0; i < N * h.dv; i++) h.y[i] = 1;
    lucid_dense_attend(h.out, h.lse, h.q, h.k, h.y, N, h.d, h.dv, 0.25);
    for (int i = 0; i < N * h.dv; i++) CHECK_NEAR(h.out[i], 1, TOLERANCE, "number %d", i);
    head_free(&h);
}

static void linear_in_v(void) {
    head a = head_new(16, 4), b = head_new(16, 4), sum = head_new(16, 4);
    memcpy(b.k, a.k, N * 16 * sizeof(double)), memcpy(sum.k, a.k, N * 16 * sizeof(double));
    memcpy(b.q, a.q, N * 16 * sizeof(double)), memcpy(sum.q, a.q, N * 16 * sizeof(double));
    for (int i = 0; i < N * 4; i++) sum.v[i] = 3 * a.v[i] - 2 * b.v[i];
    compute(&a, EPS), compute(&b, EPS), compute(&sum, EPS);
    for (int i = 0; i < N * 4; i++) {
        CHECK_NEAR(sum.y[i], 3 * a.y[i] - 2 * b.y[i], 10 * TOLERANCE, "y, number %d", i);
        CHECK_NEAR(sum.out[i], 3 * a.out[i] - 2 * b.out[i], 10 * TOLERANCE, "out, number %d", i);
    }
    head_free(&a), head_free(&b), head_free(&sum);
}

/* The past knows nothing of a changed future, to the bit; the present does. */
static void causal(void) {
    const int cut = 77;
    head a = head_new(16, 4), b = head_new(16, 4);
    memcpy(b.q, a.q, N * 16 * sizeof(double));
    memcpy(b.k, a.k, cut * 16 * sizeof(double));
    memcpy(b.v, a.v, cut * 4 * sizeof(double));
    compute(&a, EPS), compute(&b, EPS);
    CHECK(!memcmp(a.y, b.y, cut * 4 * sizeof(double)), "y before row %d changed", cut);
    CHECK(!memcmp(a.out, b.out, cut * 4 * sizeof(double)), "out before row %d changed", cut);
    CHECK(!memcmp(a.lse, b.lse, cut * sizeof(double)), "lse before row %d changed", cut);
    CHECK(memcmp(a.out + cut * 4, b.out + cut * 4, 4 * sizeof(double)), "out of row %d did not change", cut);
    head_free(&a), head_free(&b);
}

static void row_error_is_the_worst_row(void) {
    const double ref[6] = {3, 4, 0, 0, 3, -4}; /* row norms 5, 0, 5: root mean square 5 sqrt(2/3) */
    double x[6] = {3, 4, 0.3, -0.4, 3, -4.1};
    CHECK_NEAR(lucid_dense_row_error(x, ref, 3, 2), 0.5 / (5 * sqrt(2.0 / 3)), TOLERANCE,
               "the middle row is off by 0.5");
    CHECK_NEAR(lucid_dense_row_error(ref, ref, 3, 2), 0, 0, "nothing is off");
    const double zero[6] = {0};
    CHECK_NEAR(lucid_dense_row_error(zero, zero, 3, 2), 0, 0, "nothing is off where all is zero");
    CHECK_NEAR(lucid_dense_row_error(ref, zero, 3, 2), 5, TOLERANCE, "absolute where all should be zero");
    x[0] = NAN;
    CHECK(isnan(lucid_dense_row_error(x, ref, 3, 2)), "a NaN was passed over");
}

int main(void) {
    static const int dims[][2] = {{1, 1}, {3, 5}, {16, 4}, {68, 68}};
    equal_keys_have_a_closed_form();
    two_keys_by_hand();
    for (size_t s = 0; s < sizeof dims / sizeof dims[0]; s++) {
        p_times_y_is_v(dims[s][0], dims[s][1]);
        growth_is_bounded(dims[s][0], dims[s][1]);
    }
    ones_stay_ones();
    linear_in_v();
    causal();
    row_error_is_the_worst_row();
    return check_result();
}
