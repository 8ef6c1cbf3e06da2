#include "runtime/train/products.h"

#include "runtime/train/exact.h"
#include "runtime/train/parts.h"
#include "runtime/train/vector.h"

#include <omp.h>
#include <string.h>

/* Inputs of one call, and outputs of one: what is packed for a call is used by all of its rows. */
#define BLOCK_INPUT  512
#define BLOCK_WEIGHT 128

void lucid_matmul_input(float *dx, const lucid_linear *l, const float *dout, int64_t n_rows, bool accumulate,
                        const lucid_blas *blas, int threads) {
    const int64_t n_panels = n_rows / LUCID_PANEL;
    const int n_blocks = (l->n_in + BLOCK_INPUT - 1) / BLOCK_INPUT;
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(threads)
    for (int64_t panel = 0; panel < n_panels; panel++) {
        for (int block = 0; block < n_blocks; block++) {
            const int first = block * BLOCK_INPUT, n = l->n_in - first < BLOCK_INPUT ? l->n_in - first : BLOCK_INPUT;
            blas->sgemm(LUCID_BLAS_ROW_MAJOR, LUCID_BLAS_NO_TRANS, LUCID_BLAS_NO_TRANS, LUCID_PANEL, n, l->n_out, 1,
                        dout + (size_t)panel * LUCID_PANEL * l->n_out, l->n_out, l->weight + first, l->n_in,
                        accumulate ? 1 : 0, dx + (size_t)panel * LUCID_PANEL * l->n_in + first, l->n_in);
        }
    }
}

size_t lucid_matmul_weight_floats(int n_in, int threads) {
    return (size_t)threads * BLOCK_WEIGHT * (size_t)n_in;
}

LUCID_CLONES static void add_exactly(double *restrict sum, const float *restrict x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) sum[i] += lucid_exact(x[i]);
}

void lucid_matmul_weight(double *dweight, double *dbias, const lucid_linear *l, const float *dout, const float *x,
                         const lucid_leaf *leaves, int n_leaves, float *scratch, const lucid_blas *blas, int threads) {
    const int n_blocks = (l->n_out + BLOCK_WEIGHT - 1) / BLOCK_WEIGHT;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int block = 0; block < n_blocks; block++) {
        const int first = block * BLOCK_WEIGHT, n = l->n_out - first < BLOCK_WEIGHT ? l->n_out - first : BLOCK_WEIGHT;
        float *product = scratch + (size_t)omp_get_thread_num() * BLOCK_WEIGHT * (size_t)l->n_in;
        for (int leaf = 0; leaf < n_leaves; leaf++) {
            const size_t row = (size_t)leaves[leaf].first;
            blas->sgemm(LUCID_BLAS_ROW_MAJOR, LUCID_BLAS_TRANS, LUCID_BLAS_NO_TRANS, n, l->n_in,
                        (int)leaves[leaf].n_rows, 1, dout + row * (size_t)l->n_out + first, l->n_out,
                        x + row * (size_t)l->n_in, l->n_in, 0, product, l->n_in);
            add_exactly(dweight + (size_t)first * (size_t)l->n_in, product, (int64_t)n * l->n_in);
        }
    }
    for (int leaf = 0; dbias && leaf < n_leaves; leaf++)
        lucid_column_sums(dbias, dout + (size_t)leaves[leaf].first * (size_t)l->n_out, leaves[leaf].n_rows, l->n_out,
                          threads);
}
