/* The dense backward against central differences of the dense forward: one key-value head, two query heads. */
#include <stdlib.h>
#include <string.h>

#include "kernels/ref/dense.h"
#include "tests/check.h"

enum { N = 9, HEADS = 2, DIM_MAX = 16 };

/* L = sum of out * dout over both heads; everything (N, dim) per head. */
typedef struct {
    int d, dv;
    double eps, scale;
    double *q, *k, *v, *dout; /* q, dout: (HEADS, N, dim) */
    double *dq, *dk, *dv_;
} model;

static double normal(void) {
    double u = (rand() + 1.0) / (RAND_MAX + 2.0), v = rand() / (RAND_MAX + 1.0);
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

static double *normals(int n) {
    double *x = malloc(sizeof *x * n);
    for (int i = 0; i < n; i++) x[i] = normal();
    return x;
}

/* Keys round three centres: P is far from the identity. */
static void cluster(double *k, int d) {
    double *centres = normals(3 * d);
    for (int i = 0; i < N * d; i++) k[i] = sqrt(0.8) * centres[(i / d % 3) * d + i % d] + sqrt(0.2) * k[i];
    free(centres);
}

static double loss(const model *m) {
    double kn[N * DIM_MAX], y[N * DIM_MAX], out[N * DIM_MAX], lse[N], sum = 0;
    lucid_dense_normalise(kn, m->k, N, m->d, m->eps);
    lucid_dense_solve(y, kn, m->v, N, m->d, m->dv);
    for (int h = 0; h < HEADS; h++) {
        lucid_dense_attend(out, lse, m->q + h * N * m->d, m->k, y, N, m->d, m->dv, m->scale);
        for (int i = 0; i < N * m->dv; i++) sum += out[i] * m->dout[h * N * m->dv + i];
    }
    return sum;
}

static void backward(model *m) {
    double kn[N * DIM_MAX], y[N * DIM_MAX], dkn[N * DIM_MAX], row[DIM_MAX];
    lucid_dense_normalise(kn, m->k, N, m->d, m->eps);
    lucid_dense_solve(y, kn, m->v, N, m->d, m->dv);
    for (int h = 0; h < HEADS; h++)
        lucid_dense_attend_backward(m->dq + h * N * m->d, m->dk, m->dv_, m->dout + h * N * m->dv, m->q + h * N * m->d,
                                    m->k, y, N, m->d, m->dv, m->scale, row);
    lucid_dense_solve_backward(m->dv_, dkn, m->dv_, kn, y, N, m->d, m->dv);
    lucid_dense_normalise_backward(m->dk, dkn, m->k, N, m->d, m->eps);
}

/* Central differences with step 1e-5 err by about 1e-10 of the third derivative and 1e-16 / 1e-5 of the loss. */
static void check(const model *m, double *x, const double *dx, int n, const char *what) {
    const double h = 1e-5, tolerance = 2e-8;
    for (int i = 0; i < n; i++) {
        const double kept = x[i];
        x[i] = kept + h;
        const double above = loss(m);
        x[i] = kept - h;
        const double below = loss(m), want = (above - below) / (2 * h);
        x[i] = kept;
        CHECK_NEAR(dx[i], want, tolerance * fmax(1, fabs(want)), "d %d, d_v %d, eps %g: %s[%d]", m->d, m->dv, m->eps,
                   what, i);
    }
}

static void check_model(int d, int dv, double eps, double scale) {
    model m = {.d = d, .dv = dv, .eps = eps, .scale = scale};
    m.q = normals(HEADS * N * d), m.k = normals(N * d), m.v = normals(N * dv), m.dout = normals(HEADS * N * dv);
    m.dq = calloc(HEADS * N * d, sizeof(double));
    m.dk = calloc(N * d, sizeof(double));
    m.dv_ = calloc(N * dv, sizeof(double));
    cluster(m.k, d);
    backward(&m);
    check(&m, m.q, m.dq, HEADS * N * d, "dq");
    check(&m, m.k, m.dk, N * d, "dk");
    check(&m, m.v, m.dv_, N * dv, "dv");
    free(m.q), free(m.k), free(m.v), free(m.dout), free(m.dq), free(m.dk), free(m.dv_);
}

int main(void) {
    check_model(4, 4, 1e-5, 0.5);
    check_model(5, 3, 1e-5, 0.4);
    check_model(3, 7, 0.5, 1); /* an eps that matters */
    check_model(2, 1, 1e-5, 0.7);
    check_model(16, 8, 1e-5, 0.25);
    return check_result();
}
