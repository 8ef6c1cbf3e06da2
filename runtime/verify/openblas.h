/* The solve as one would write it with a good BLAS: the baseline of `lucid bench`. OpenBLAS is loaded when first asked
 * for, with the kernels of this processor (it mistakes newer ones for a Prescott) and one thread. */
#ifndef LUCID_RUNTIME_VERIFY_OPENBLAS_H
#define LUCID_RUNTIME_VERIFY_OPENBLAS_H

#include "comm/comm.h"

/* Sets OPENBLAS_NUM_THREADS=1, and OPENBLAS_CORETYPE where this processor has AVX-512 and the user chose none. OpenBLAS
 * reads them once, when it is loaded: whatever loads it calls this before. Not thread-safe, as setenv is not. */
void lucid_openblas_prepare(void);

/* The kernels that OpenBLAS really chose ("SkylakeX"); NULL when there is no OpenBLAS. */
const char *lucid_openblas_core(void);

/* Solves P Y = V in fp32 on one core: y, v (n, dv), k (n, d), row-major. Errors: UNSUPPORTED without OpenBLAS, MEMORY.
 */
lucid_status lucid_openblas_solve(float *y, const float *k, const float *v, int64_t n, int d, int dv, double eps);

#endif
