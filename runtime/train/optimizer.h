/* AdamW (Loshchilov and Hutter, 2019) and the learning rate's course. Every rank does the whole of it, on the same
 * bits. Local. */
#ifndef LUCID_RUNTIME_TRAIN_OPTIMIZER_H
#define LUCID_RUNTIME_TRAIN_OPTIMIZER_H

#include "runtime/train/trainee.h"

typedef struct {
    double beta1, beta2, eps;
    double decay; /* of matrices, embeddings among them; not of gains, biases and convolutions */
} lucid_adamw;

/* Both moments (trainee->n_floats), laid out like the parameters. */
typedef struct {
    float *first, *second;
} lucid_moments;

/* Zeros. Errors: MEMORY. */
lucid_status lucid_moments_create(lucid_moments *moments, const lucid_trainee *trainee);
void lucid_moments_destroy(lucid_moments *moments); /* fine on zeros */

/* The 2-norm of the trainee's gradients. Errors: INPUT, naming tensor and index, where one is not finite or beyond
 * LUCID_EXACT_LIMIT. */
lucid_status lucid_gradient_norm(double *norm, const lucid_trainee *trainee);

/* Step `step` (0 is the first) with gradients times `scale`; gradients become zeros. */
void lucid_adamw_step(lucid_trainee *trainee, lucid_moments *moments, const lucid_adamw *adamw, int64_t step,
                      double rate, double scale, int threads);

/* A linear warm-up over the first n_warmup steps to `rate`, then half a cosine down to rate * last at the last of
 * n_steps. Pure. */
typedef struct {
    double rate, last;
    int64_t n_warmup, n_steps;
} lucid_rate_course;
double lucid_rate_at(const lucid_rate_course *course, int64_t step);

#endif
