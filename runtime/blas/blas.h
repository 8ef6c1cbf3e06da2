/* Plain matrix products: OpenBLAS, loaded when first asked for.
 *
 * OpenBLAS reads its environment once, when it is loaded, and starts its threads then. A program that were linked with
 * it could change neither, so it is loaded: with one thread (callers run it inside threads of their own) and with the
 * kernels of this processor (some versions take newer ones for a Prescott). One thread also makes a product's bits a
 * function of its sizes and values alone, on one kind of processor.
 */
#ifndef LUCID_RUNTIME_BLAS_H
#define LUCID_RUNTIME_BLAS_H

#include "comm/comm.h"

/* CBLAS's enumerators; ROW_MAJOR and so on. */
enum {
    LUCID_BLAS_ROW_MAJOR = 101,
    LUCID_BLAS_NO_TRANS = 111,
    LUCID_BLAS_TRANS = 112,
    LUCID_BLAS_LOWER = 122,
    LUCID_BLAS_UNIT = 132,
    LUCID_BLAS_LEFT = 141
};

/* The functions are CBLAS's. */
typedef struct {
    const char *core; /* the kernels it chose: "SkylakeX" */
    void (*sgemm)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                  const float *b, int ldb, float beta, float *c, int ldc);
    void (*sgemv)(int order, int trans, int m, int n, float alpha, const float *a, int lda, const float *x, int incx,
                  float beta, float *y, int incy);
    void (*strsm)(int order, int side, int uplo, int trans, int diag, int m, int n, float alpha, const float *a,
                  int lda, float *b, int ldb);
} lucid_blas;

/* Errors: UNSUPPORTED, saying what to install. Thread-safe. Local. */
lucid_status lucid_blas_open(const lucid_blas **blas);

/* Sets OPENBLAS_NUM_THREADS=1, and OPENBLAS_CORETYPE where this processor has AVX-512 and the user chose none. Whatever
 * else loads an OpenBLAS calls this before. Not thread-safe, as setenv is not. */
void lucid_blas_prepare(void);

#endif
