/* Plain matrix products: OpenBLAS, and for products with weights oneDNN where it is; loaded when first asked for.
 *
 * OpenBLAS reads its environment once, when it is loaded, and starts its threads then. A program that were linked with
 * it could change neither, so it is loaded: with one thread (callers run it inside threads of their own) and with the
 * kernels of this processor (some versions take newer ones for a Prescott). One thread also makes a product's bits a
 * function of its sizes and values alone, on one kind of processor.
 *
 * oneDNN's sgemm, made for operands that come from memory and are used once, trains a model of width 256 in three
 * quarters of OpenBLAS's time.
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

typedef enum { LUCID_BLAS_AUTO, LUCID_BLAS_ONEDNN, LUCID_BLAS_OPENBLAS } lucid_blas_kind;

/* The functions are CBLAS's; sgemm takes ROW_MAJOR only. */
typedef struct {
    lucid_blas_kind kind; /* whose sgemm is */
    const char *core;     /* the kernels that OpenBLAS chose: "SkylakeX" */
    void (*sgemm)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                  const float *b, int ldb, float beta, float *c, int ldc);
    void (*sgemv)(int order, int trans, int m, int n, float alpha, const float *a, int lda, const float *x, int incx,
                  float beta, float *y, int incy);
    void (*strsm)(int order, int side, int uplo, int trans, int diag, int m, int n, float alpha, const float *a,
                  int lda, float *b, int ldb);
} lucid_blas;

/* AUTO: oneDNN where it is. Errors: UNSUPPORTED, saying what to install. Thread-safe. Local. */
lucid_status lucid_blas_open(const lucid_blas **blas, lucid_blas_kind kind);

/* The same on all ranks, so that bits do not depend on who computed what; AUTO: oneDNN where all ranks have it.
 * Collective. */
lucid_status lucid_blas_agree(const lucid_blas **blas, lucid_comm *comm, lucid_blas_kind kind);

/* "oneDNN" or "OpenBLAS" */
const char *lucid_blas_name(const lucid_blas *blas);

/* Sets OPENBLAS_NUM_THREADS=1, and OPENBLAS_CORETYPE where this processor has AVX-512 and the user chose none. Whatever
 * else loads an OpenBLAS calls this before. Not thread-safe, as setenv is not. */
void lucid_blas_prepare(void);

#endif
