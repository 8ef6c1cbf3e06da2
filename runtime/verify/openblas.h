/* The solve as one would write it with a good BLAS: the baseline of `lucid bench`. */
#ifndef LUCID_RUNTIME_VERIFY_OPENBLAS_H
#define LUCID_RUNTIME_VERIFY_OPENBLAS_H

#include "comm/comm.h"

/* Solves P Y = V in fp32 on one core: y, v (n, dv), k (n, d), row-major. Errors: UNSUPPORTED without OpenBLAS, MEMORY.
 */
lucid_status lucid_openblas_solve(float *y, const float *k, const float *v, int64_t n, int d, int dv, double eps);

#endif
