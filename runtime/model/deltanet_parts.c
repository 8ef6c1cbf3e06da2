#include "runtime/model/deltanet_parts.h"

#include "kernels/kernels.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#define L2_NORM_EPS 1e-6

static int channels(const lucid_deltanet_shape *s) {
    return s->n_heads * s->head_dim;
}

/* --- before the delta rule --- */

static lucid_convolution convolution_of(const lucid_deltanet_shape *s) {
    return (lucid_convolution){.width = s->conv_size, .n_channels = {channels(s), channels(s), channels(s)}};
}

/* Columns of one head of projection `which` (x: its first token's), in place. */
static void convolve_head(float *x, const float *weight, int which, int column, int n_tokens, const float *tail,
                          const lucid_deltanet_shape *s) {
    const lucid_convolution shape = convolution_of(s);
    for (int c = column; c < column + s->head_dim; c += LUCID_CONV_STRIP) {
        const int left = column + s->head_dim - c;
        const lucid_conv_strip strip = {.n_tokens = n_tokens,
                                        .n_channels = left < LUCID_CONV_STRIP ? left : LUCID_CONV_STRIP,
                                        .ld = (size_t)channels(s),
                                        .weight = weight + (size_t)c * (size_t)s->conv_size,
                                        .width = s->conv_size,
                                        .border = tail + lucid_tail_column(&shape, which) + c,
                                        .border_ld = lucid_tail_ld(&shape)};
        lucid_convolve(x + c, x + c, &strip);
    }
}

/* SiLU; and of queries and keys (scale > 0) the norm, times scale. */
static void activate_head(float *x, int n_tokens, double scale, const lucid_deltanet_shape *s) {
    for (int t = 0; t < n_tokens; t++, x += channels(s)) {
        double square = L2_NORM_EPS;
        for (int c = 0; c < s->head_dim; c++) {
            x[c] = x[c] / (1 + expf(-x[c]));
            square += (double)x[c] * x[c];
        }
        const float factor = (float)(scale / sqrt(square));
        for (int c = 0; scale > 0 && c < s->head_dim; c++) x[c] *= factor;
    }
}

void lucid_deltanet_features(lucid_forward *f, const lucid_model_layer *l, int64_t row, int n_tokens, const float *tail,
                             const lucid_deltanet_shape *s, int threads) {
    float *const tensors[] = {f->q, f->k, f->v};
    const float *const weights[] = {l->q_conv, l->k_conv, l->v_conv};
    const double scales[] = {1 / sqrt(s->head_dim), 1, 0};
    const size_t n = (size_t)channels(s);
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (int x = 0; x < 3; x++) {
        for (int head = 0; head < s->n_heads; head++) {
            const int column = head * s->head_dim;
            float *first = tensors[x] + (size_t)row * n;
            if (s->conv_size > 1) convolve_head(first, weights[x], x, column, n_tokens, tail, s);
            activate_head(first + column, n_tokens, scales[x], s);
        }
    }
    float *beta = f->beta + (size_t)row * (size_t)s->n_heads;
    for (int64_t i = 0; i < (int64_t)n_tokens * s->n_heads; i++) beta[i] = 1 / (1 + expf(-beta[i]));
}

/* --- the delta rule --- */

/* A granule of one head, in scratch; rows without a token are zeros, which leave the state as it is. */
typedef struct {
    float *q, *k; /* (64, d) */
    float *wu;    /* (64, 2 d): W, and U beside it */
    float *a;     /* (64, 64) */
    float *out;   /* (64, d) */
    float beta[LUCID_PANEL];
    int d;
} granule;

size_t lucid_deltanet_scratch_floats(const lucid_deltanet_shape *s) {
    const size_t granule_floats = LUCID_PANEL * (5 * (size_t)s->head_dim + LUCID_PANEL);
    const lucid_convolution shape = convolution_of(s);
    const size_t tail = lucid_tail_floats(&shape); /* of a single token's step */
    return ((granule_floats > tail ? granule_floats : tail) + 15) / 16 * 16;
}

static granule granule_make(float *scratch, int d) {
    const size_t n = LUCID_PANEL * (size_t)d;
    return (granule){
        .q = scratch, .k = scratch + n, .wu = scratch + 2 * n, .out = scratch + 4 * n, .a = scratch + 5 * n, .d = d};
}

static void load_rows(granule *g, const lucid_deltanet_rows *r, const lucid_deltanet_shape *s) {
    const size_t n = (size_t)channels(s), d = (size_t)g->d;
    memset(g->q, 0, 4 * LUCID_PANEL * d * sizeof *g->q); /* q, k and wu */
    memset(g->beta, 0, sizeof g->beta);
    for (int64_t row = r->first; row < r->last; row++) {
        const size_t i = (size_t)(row % LUCID_PANEL), from = (size_t)row * n + (size_t)r->head * d;
        const float beta = g->beta[i] = r->forward->beta[row * s->n_heads + r->head];
        memcpy(g->q + i * d, r->forward->q + from, d * sizeof *g->q);
        memcpy(g->k + i * d, r->forward->k + from, d * sizeof *g->k);
        for (size_t c = 0; c < d; c++) {
            g->wu[i * 2 * d + c] = beta * r->forward->k[from + c];
            g->wu[(i * 2 + 1) * d + c] = beta * r->forward->v[from + c];
        }
    }
}

static void store_rows(const granule *g, const lucid_deltanet_rows *r, const lucid_deltanet_shape *s) {
    const size_t n = (size_t)channels(s), d = (size_t)g->d;
    for (int64_t row = r->first; row < r->last; row++)
        memcpy(r->forward->q + (size_t)row * n + (size_t)r->head * d, g->out + (size_t)(row % LUCID_PANEL) * d,
               d * sizeof *g->out);
}

/* out (64, n) = [out +] factor * a (64, k) b (k, n) or, transposed, b (n, k). */
static void multiply(const lucid_blas *blas, float *out, int ld_out, const float *a, int ld_a, const float *b, int ld_b,
                     bool transposed, int n, int k, float factor, bool add) {
    blas->sgemm(LUCID_BLAS_ROW_MAJOR, LUCID_BLAS_NO_TRANS, transposed ? LUCID_BLAS_TRANS : LUCID_BLAS_NO_TRANS,
                LUCID_PANEL, n, k, factor, a, ld_a, b, ld_b, add ? 1 : 0, out, ld_out);
}

/* [W | U] from diag(beta) [K | V]. */
static void solve(granule *g, const lucid_blas *blas) {
    multiply(blas, g->a, LUCID_PANEL, g->k, g->d, g->k, g->d, true, LUCID_PANEL, g->d, 1, false);
    for (int i = 0; i < LUCID_PANEL; i++)
        for (int j = 0; j < i; j++) g->a[i * LUCID_PANEL + j] *= g->beta[i];
    blas->strsm(LUCID_BLAS_ROW_MAJOR, LUCID_BLAS_LEFT, LUCID_BLAS_LOWER, LUCID_BLAS_NO_TRANS, LUCID_BLAS_UNIT,
                LUCID_PANEL, 2 * g->d, 1, g->a, LUCID_PANEL, g->wu, 2 * g->d);
}

/* A token reads what it wrote itself, so the diagonal stays. */
static void read_out(granule *g, const float *state, const lucid_blas *blas) {
    const float *u = g->wu + g->d;
    multiply(blas, g->a, LUCID_PANEL, g->q, g->d, g->k, g->d, true, LUCID_PANEL, g->d, 1, false);
    for (int i = 0; i < LUCID_PANEL; i++)
        for (int j = i + 1; j < LUCID_PANEL; j++) g->a[i * LUCID_PANEL + j] = 0;
    multiply(blas, g->out, g->d, g->q, g->d, state, g->d, false, g->d, g->d, 1, false);
    multiply(blas, g->out, g->d, g->a, LUCID_PANEL, u, 2 * g->d, false, g->d, LUCID_PANEL, 1, true);
}

void lucid_deltanet_granule(float *state, const lucid_deltanet_rows *rows, const lucid_deltanet_shape *shape,
                            const lucid_blas *blas, float *scratch) {
    granule g = granule_make(scratch, shape->head_dim);
    const int d = g.d;
    load_rows(&g, rows, shape);
    solve(&g, blas);
    multiply(blas, g.wu + d, 2 * d, g.wu, 2 * d, state, d, false, d, d, -1, true);
    read_out(&g, state, blas);
    blas->sgemm(LUCID_BLAS_ROW_MAJOR, LUCID_BLAS_TRANS, LUCID_BLAS_NO_TRANS, d, d, LUCID_PANEL, 1, g.k, d, g.wu + d,
                2 * d, 1, state, d);
    store_rows(&g, rows, shape);
}

void lucid_deltanet_step(float *state, lucid_forward *f, int head, const lucid_deltanet_shape *s) {
    const int d = s->head_dim;
    float *q = f->q + (size_t)head * (size_t)d, change[LUCID_MAX_HEAD_DIM] = {0}, out[LUCID_MAX_HEAD_DIM] = {0};
    const float *k = f->k + (size_t)head * (size_t)d, *v = f->v + (size_t)head * (size_t)d, beta = f->beta[head];
    for (int i = 0; i < d; i++)
        for (int c = 0; c < d; c++) change[c] += k[i] * state[i * d + c];
    for (int c = 0; c < d; c++) change[c] = beta * (v[c] - change[c]);
    for (int i = 0; i < d; i++)
        for (int c = 0; c < d; c++) {
            state[i * d + c] += k[i] * change[c];
            out[c] += q[i] * state[i * d + c];
        }
    memcpy(q, out, (size_t)d * sizeof *q);
}
