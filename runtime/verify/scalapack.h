/* The few routines of BLACS and ScaLAPACK that verification uses, as a table that is filled when the library is loaded.
 * By Fortran's rules everything goes by reference, and the lengths of character arguments follow at the end. */
#ifndef LUCID_RUNTIME_VERIFY_SCALAPACK_H
#define LUCID_RUNTIME_VERIFY_SCALAPACK_H

#include <stddef.h>

#define LUCID_SCALAPACK_DESCRIPTOR 9 /* ints that describe a distributed matrix */

typedef struct {
    void (*pinfo)(int *rank, int *world_size);
    void (*get)(int context, int what, int *value);
    void (*gridinit)(int *context, const char *order, int n_rows, int n_cols);
    void (*gridexit)(int context);
    /* How many of n rows (or columns), dealt out in blocks to n_procs from source on, process proc has. */
    int (*numroc)(const int *n, const int *block, const int *proc, const int *source, const int *n_procs);
    void (*descinit)(int *descriptor, const int *n_rows, const int *n_cols, const int *block_rows,
                     const int *block_cols, const int *source_row, const int *source_col, const int *context,
                     const int *local_ld, int *info);
    /* Overwrites B with the solution of op(A) X = B, A triangular. */
    void (*pdtrtrs)(const char *uplo, const char *trans, const char *diag, const int *n, const int *n_rhs,
                    const double *a, const int *row_a, const int *col_a, const int *descriptor_a, double *b,
                    const int *row_b, const int *col_b, const int *descriptor_b, int *info, size_t uplo_length,
                    size_t trans_length, size_t diag_length);
} lucid_scalapack;

/* Loads the library on the first call. NULL when it or a routine is missing; *reason then says which. */
const lucid_scalapack *lucid_scalapack_load(const char **reason);

#endif
