#include "runtime/model/matmul.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Outputs of one call: blocks give threads something to share where there are few panels. */
#define BLOCK      512
#define BLOCK_GEMV 64

static void start_rows(float *out, const float *bias, int n_rows, int n, int ld, bool accumulate) {
    for (int r = 0; r < n_rows; r++) {
        float *row = out + (size_t)r * ld;
        if (!accumulate) memset(row, 0, (size_t)n * sizeof *row);
        for (int i = 0; bias && i < n; i++) row[i] += bias[i];
    }
}

/* n_rows rows a call. */
static void multiply_pieces(float *out, const lucid_linear *l, const float *x, int64_t n_pieces, int n_rows,
                            bool accumulate, const lucid_blas *blas, int threads) {
    const int n_blocks = (l->n_out + BLOCK - 1) / BLOCK;
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(threads)
    for (int64_t piece = 0; piece < n_pieces; piece++) {
        for (int block = 0; block < n_blocks; block++) {
            const int first = block * BLOCK, n = l->n_out - first < BLOCK ? l->n_out - first : BLOCK;
            float *to = out + (size_t)piece * n_rows * l->n_out + first;
            start_rows(to, l->bias ? l->bias + first : NULL, n_rows, n, l->n_out, accumulate);
            blas->sgemm(LUCID_BLAS_ROW_MAJOR, LUCID_BLAS_NO_TRANS, LUCID_BLAS_TRANS, n_rows, n, l->n_in, 1,
                        x + (size_t)piece * n_rows * l->n_in, l->n_in, l->weight + (size_t)first * l->n_in, l->n_in, 1,
                        to, l->n_out);
        }
    }
}

/* Joined panels first, as long as there is work for all threads. */
static void multiply_panels(float *out, const lucid_linear *l, const float *x, int64_t n_panels, bool accumulate,
                            const lucid_blas *blas, int threads) {
    const int64_t n_blocks = (l->n_out + BLOCK - 1) / BLOCK;
    int64_t n_joined = l->joined ? n_panels / LUCID_JOINED : 0;
    if (n_joined * n_blocks < threads) n_joined = 0;
    const size_t rows = (size_t)n_joined * LUCID_JOINED * LUCID_PANEL;
    multiply_pieces(out, l, x, n_joined, LUCID_JOINED * LUCID_PANEL, accumulate, blas, threads);
    multiply_pieces(out + rows * l->n_out, l, x + rows * l->n_in, n_panels - n_joined * LUCID_JOINED, LUCID_PANEL,
                    accumulate, blas, threads);
}

static void fill(float *x, size_t n) {
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525 + 1013904223;
        x[i] = (float)(int32_t)state * 0x1p-31f;
    }
}

/* The widths that blocks have decide, so more outputs than two of them show nothing new. */
lucid_status lucid_matmul_joins(bool *joins, int n_in, int n_out, const lucid_blas *blas) {
    const int n = n_out > BLOCK ? BLOCK + n_out % BLOCK : n_out, n_rows = LUCID_JOINED * LUCID_PANEL;
    const size_t n_x = (size_t)n_rows * (size_t)n_in, n_weight = (size_t)n * (size_t)n_in;
    const size_t n_product = (size_t)n_rows * (size_t)n;
    float *numbers = malloc((n_x + n_weight + 2 * n_product) * sizeof *numbers);
    if (!numbers) return lucid_fail(LUCID_ERR_MEMORY, "no memory to try products of %d by %d", n_in, n_out);
    float *const x = numbers, *const once = x + n_x + n_weight, *const apart = once + n_product;
    const lucid_linear linear = {.weight = x + n_x, .n_in = n_in, .n_out = n};
    fill(numbers, n_x + n_weight);
    multiply_pieces(once, &linear, x, 1, n_rows, false, blas, 1);
    multiply_pieces(apart, &linear, x, LUCID_JOINED, LUCID_PANEL, false, blas, 1);
    *joins = memcmp(once, apart, n_product * sizeof *once) == 0;
    free(numbers);
    return LUCID_OK;
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
