#include "runtime/train/products.h"

#include "runtime/train/exact.h"
#include "runtime/train/parts.h"
#include "runtime/vector.h"

#include <omp.h>
#include <string.h>

/* Columns of one call, and outputs of one of a weight's gradient: what is copied for a call serves all of its rows. */
#define BLOCK        1024
#define BLOCK_WEIGHT 256

static int n_blocks_of(int n) {
    return (n + BLOCK - 1) / BLOCK;
}

static int block_size(int n, int block) {
    return n - block * BLOCK < BLOCK ? n - block * BLOCK : BLOCK;
}

static void add_bias(float *out, const float *bias, int64_t n_rows, int n, int ld) {
    for (int64_t r = 0; r < n_rows; r++)
        for (int i = 0; i < n; i++) out[r * ld + i] += bias[i];
}

void lucid_matmul_leaves(float *out, const lucid_linear *l, const float *x, const lucid_leaf *leaves, int n_leaves,
                         bool accumulate, const lucid_blas *blas, int threads) {
    const int n_blocks = n_blocks_of(l->n_out);
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(threads)
    for (int leaf = 0; leaf < n_leaves; leaf++) {
        for (int block = 0; block < n_blocks; block++) {
            const int first = block * BLOCK, n = block_size(l->n_out, block);
            const size_t row = (size_t)leaves[leaf].first;
            float *to = out + row * (size_t)l->n_out + first;
            blas->sgemm(LUCID_BLAS_ROW_MAJOR, LUCID_BLAS_NO_TRANS, LUCID_BLAS_TRANS, (int)leaves[leaf].n_rows, n,
                        l->n_in, 1, x + row * (size_t)l->n_in, l->n_in, l->weight + (size_t)first * (size_t)l->n_in,
                        l->n_in, accumulate ? 1 : 0, to, l->n_out);
            if (l->bias) add_bias(to, l->bias + first, leaves[leaf].n_rows, n, l->n_out);
        }
    }
}

void lucid_matmul_input(float *dx, const lucid_linear *l, const float *dout, const lucid_leaf *leaves, int n_leaves,
                        bool accumulate, const lucid_blas *blas, int threads) {
    const int n_blocks = n_blocks_of(l->n_in);
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(threads)
    for (int leaf = 0; leaf < n_leaves; leaf++) {
        for (int block = 0; block < n_blocks; block++) {
            const int first = block * BLOCK, n = block_size(l->n_in, block);
            const size_t row = (size_t)leaves[leaf].first;
            blas->sgemm(LUCID_BLAS_ROW_MAJOR, LUCID_BLAS_NO_TRANS, LUCID_BLAS_NO_TRANS, (int)leaves[leaf].n_rows, n,
                        l->n_out, 1, dout + row * (size_t)l->n_out, l->n_out, l->weight + first, l->n_in,
                        accumulate ? 1 : 0, dx + row * (size_t)l->n_in + first, l->n_in);
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
