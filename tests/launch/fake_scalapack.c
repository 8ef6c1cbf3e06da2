/* What `lucid verify` loads of ScaLAPACK, for a grid of one process. Its solver solves nothing, so that a right Y is
 * judged wrong. */
#include <stddef.h>

void Cblacs_pinfo(int *rank, int *world_size);
void Cblacs_pinfo(int *rank, int *world_size) {
    *rank = 0;
    *world_size = 1;
}

void Cblacs_get(int context, int what, int *value);
void Cblacs_get(int context, int what, int *value) {
    (void)context, (void)what;
    *value = 0;
}

void Cblacs_gridinit(int *context, const char *order, int n_rows, int n_cols);
void Cblacs_gridinit(int *context, const char *order, int n_rows, int n_cols) {
    (void)context, (void)order, (void)n_rows, (void)n_cols;
}

void Cblacs_gridexit(int context);
void Cblacs_gridexit(int context) {
    (void)context;
}

int numroc_(const int *n, const int *block, const int *proc, const int *source, const int *n_procs);
int numroc_(const int *n, const int *block, const int *proc, const int *source, const int *n_procs) {
    (void)block, (void)proc, (void)source, (void)n_procs;
    return *n;
}

void descinit_(int *descriptor, const int *n_rows, const int *n_cols, const int *block_rows, const int *block_cols,
               const int *source_row, const int *source_col, const int *context, const int *local_ld, int *info);
void descinit_(int *descriptor, const int *n_rows, const int *n_cols, const int *block_rows, const int *block_cols,
               const int *source_row, const int *source_col, const int *context, const int *local_ld, int *info) {
    (void)descriptor, (void)n_rows, (void)n_cols, (void)block_rows, (void)block_cols;
    (void)source_row, (void)source_col, (void)context, (void)local_ld;
    *info = 0;
}

void pdtrtrs_(const char *uplo, const char *trans, const char *diag, const int *n, const int *n_rhs, const double *a,
              const int *row_a, const int *col_a, const int *descriptor_a, double *b, const int *row_b,
              const int *col_b, const int *descriptor_b, int *info, size_t uplo_length, size_t trans_length,
              size_t diag_length);
void pdtrtrs_(const char *uplo, const char *trans, const char *diag, const int *n, const int *n_rhs, const double *a,
              const int *row_a, const int *col_a, const int *descriptor_a, double *b, const int *row_b,
              const int *col_b, const int *descriptor_b, int *info, size_t uplo_length, size_t trans_length,
              size_t diag_length) {
    (void)uplo, (void)trans, (void)diag, (void)n, (void)n_rhs, (void)a, (void)row_a, (void)col_a, (void)descriptor_a;
    (void)b, (void)row_b, (void)col_b, (void)descriptor_b, (void)uplo_length, (void)trans_length, (void)diag_length;
    *info = 0;
}
