#include "runtime/model/matmul.h"

#include <omp.h>
#include <string.h>

/* Outputs of one call. With 64 rows, OpenBLAS spends a tenth of its time on copying weights; blocks give threads
 * something to share where there are few panels. */
#define BLOCK      512
#define BLOCK_GEMV 64

static void start_rows(float *out, const float *bias, int n_rows, int n, int ld, bool accumulate) {
    for (int r = 0; r < n_rows; r++) {
        float *row = out + (size_t)r * ld;
        if (!accumulate) memset(row, 0, (size_t)n * sizeof *row);
        for (int i = 0; bias && i < n; i++) row[i] += bias[i];
    }
}

static void multiply_panels(float *out, const lucid_linear *l, const float *x, int64_t n_panels, bool accumulate,
                            const lucid_blas *blas, int threads) {
    const int n_blocks = (l->n_out + BLOCK - 1) / BLOCK;
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(threads)
    for (int64_t panel = 0; panel < n_panels; panel++) {
        for (int block = 0; block < n_blocks; block++) {
            const int first = block * BLOCK, n = l->n_out - first < BLOCK ? l->n_out - first : BLOCK;
            float *to = out + (size_t)panel * LUCID_PANEL * l->n_out + first;
            start_rows(to, l->bias ? l->bias + first : NULL, LUCID_PANEL, n, l->n_out, accumulate);
            blas->sgemm(LUCID_BLAS_ROW_MAJOR, LUCID_BLAS_NO_TRANS, LUCID_BLAS_TRANS, LUCID_PANEL, n, l->n_in, 1,
                        x + (size_t)panel * LUCID_PANEL * l->n_in, l->n_in, l->weight + (size_t)first * l->n_in,
                        l->n_in, 1, to, l->n_out);
        }
    }
}

static void multiply_row(float *out, const lucid_linear *l, const float *x, bool accumulate, const lucid_blas *blas,
                         int threads) {
    const int n_blocks = (l->n_out + BLOCK_GEMV - 1) / BLOCK_GEMV;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int block = 0; block < n_blocks; block++) {
        const int first = block * BLOCK_GEMV, n = l->n_out - first < BLOCK_GEMV ? l->n_out - first : BLOCK_GEMV;
        start_rows(out + first, l->bias ? l->bias + first : NULL, 1, n, l->n_out, accumulate);
        blas->sgemv(LUCID_BLAS_ROW_MAJOR, LUCID_BLAS_NO_TRANS, n, l->n_in, 1, l->weight + (size_t)first * l->n_in,
                    l->n_in, x, 1, 1, out + first, 1);
    }
}

void lucid_matmul(float *out, const lucid_linear *linear, const float *x, int64_t n_rows, bool accumulate,
                  const lucid_blas *blas, int threads) {
    if (n_rows == 1)
        multiply_row(out, linear, x, accumulate, blas, threads);
    else
        multiply_panels(out, linear, x, n_rows / LUCID_PANEL, accumulate, blas, threads);
}
