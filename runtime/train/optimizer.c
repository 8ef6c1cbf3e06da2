#include "runtime/train/optimizer.h"

#include "runtime/attention/attention.h"
#include "runtime/train/exact.h"
#include "runtime/vector.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>

#define SPAN 16384 /* elements that a thread takes at once */

lucid_status lucid_moments_create(lucid_moments *m, const lucid_trainee *t) {
    const size_t bytes = (size_t)t->n_floats * sizeof(float);
    m->first = lucid_alloc(bytes);
    m->second = lucid_alloc(bytes);
    if (!m->first || !m->second)
        return lucid_fail(LUCID_ERR_MEMORY, "no memory for the moments of %lld parameters",
                          (long long)t->model.n_parameters);
    memset(m->first, 0, bytes);
    memset(m->second, 0, bytes);
    return LUCID_OK;
}

void lucid_moments_destroy(lucid_moments *m) {
    free(m->first);
    free(m->second);
    *m = (lucid_moments){0};
}

/* Gaps between tensors are zeros, and count as nothing. */
lucid_status lucid_gradient_norm(double *norm, const lucid_trainee *t) {
    double square = 0;
    for (int s = 0; s < t->n_slots; s++) {
        const double *g = t->gradients + t->first[s];
        const int64_t n = lucid_trainee_elements(t, s);
        for (int64_t i = 0; i < n; i++) {
            if (!(fabs(g[i]) <= LUCID_EXACT_LIMIT))
                return lucid_fail(LUCID_ERR_INPUT,
                                  "the gradient of %s at %lld is %g, beyond %g: try a lower rate or a longer warm-up",
                                  t->slots[s].name, (long long)i, g[i], LUCID_EXACT_LIMIT);
            square += g[i] * g[i];
        }
    }
    *norm = sqrt(square);
    return LUCID_OK;
}

/* What one element's step is made of; fp32 but for the gradient. */
typedef struct {
    float beta1, beta2, eps, rate, shrink;
    double scale;
    float unbias1, unbias2; /* 1 / (1 - beta^(step + 1)) */
} update;

LUCID_CLONES static void update_span(float *restrict w, float *restrict first, float *restrict second,
                                     double *restrict gradient, int64_t n, update u) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = (float)(gradient[i] * u.scale);
        first[i] = u.beta1 * first[i] + (1 - u.beta1) * g;
        second[i] = u.beta2 * second[i] + (1 - u.beta2) * (g * g);
        const float step = first[i] * u.unbias1 / (__builtin_sqrtf(second[i] * u.unbias2) + u.eps);
        w[i] = w[i] * u.shrink - u.rate * step;
        gradient[i] = 0;
    }
}

void lucid_adamw_step(lucid_trainee *t, lucid_moments *m, const lucid_adamw *a, int64_t step, double rate, double scale,
                      int threads) {
    for (int s = 0; s < t->n_slots; s++) {
        const int64_t first = t->first[s], n = t->first[s + 1] - first;
        const update u = {.beta1 = (float)a->beta1,
                          .beta2 = (float)a->beta2,
                          .eps = (float)a->eps,
                          .rate = (float)rate,
                          .shrink = (float)(t->slots[s].n_dims == 2 ? 1 - rate * a->decay : 1),
                          .scale = scale,
                          .unbias1 = (float)(1 / (1 - pow(a->beta1, (double)(step + 1)))),
                          .unbias2 = (float)(1 / (1 - pow(a->beta2, (double)(step + 1))))};
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int64_t i = first; i < first + n; i += SPAN)
            update_span(t->parameters + i, m->first + i, m->second + i, t->gradients + i,
                        first + n - i < SPAN ? first + n - i : SPAN, u);
    }
}

double lucid_rate_at(const lucid_rate_course *c, int64_t step) {
    if (step < c->n_warmup) return c->rate * (double)(step + 1) / (double)c->n_warmup;
    const int64_t left = c->n_steps - 1 - c->n_warmup;
    const double share = left > 0 ? (double)(step - c->n_warmup) / (double)left : 1;
    return c->rate * (c->last + (1 - c->last) * 0.5 * (1 + cos(M_PI * fmin(1, share))));
}
