#ifndef LUCID_RUNTIME_VERIFY_OPENBLAS_EXP_H
#define LUCID_RUNTIME_VERIFY_OPENBLAS_EXP_H

#include <stdint.h>

/* x_i = exp2(x_i + shift) for x_i + shift in [-126, 0]; relative error below 2e-7. The best of this processor's vector
 * extensions is used. */
void lucid_openblas_exp2(float *x, int64_t n, float shift);

#endif
