/* Products with weights against sums in fp64, and the same bits for panels that are joined, alone, or shared by
 * threads, for sizes at and around the blocks and kernels of a BLAS. */
#include "tests/check.h"

#include "runtime/model/matmul.h"

#include <stdlib.h>
#include <string.h>

/* A sum of n_in terms within 1/4: fp32 in any order. */
#define TOLERANCE 2e-5

static const lucid_blas *blas;

static float *numbers(size_t n, uint32_t seed) {
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245 + 12345;
        x[i] = (float)(seed >> 8) * 0x1p-24f - 0.5f;
    }
    return x;
}

static void check_values(const float *out, const lucid_linear *l, const float *x, int64_t n_rows) {
    for (int64_t at = 0; at < n_rows * l->n_out; at += 97) {
        const int64_t row = at / l->n_out, column = at % l->n_out;
        double sum = l->bias[column];
        for (int i = 0; i < l->n_in; i++) sum += (double)x[row * l->n_in + i] * l->weight[column * l->n_in + i];
        CHECK_NEAR(out[at], sum, TOLERANCE, "%d by %d: row %d, output %d", l->n_in, l->n_out, (int)row, (int)column);
    }
}

/* Panels one by one, then all of them joined, on one and on more threads than there are calls. */
static void test_sizes(int n_in, int n_out, int *n_joined) {
    const int64_t n_panels = 2 * LUCID_JOINED + 3, n_rows = n_panels * LUCID_PANEL;
    const size_t n = (size_t)n_rows * (size_t)n_out;
    float *x = numbers((size_t)n_rows * (size_t)n_in, 1), *weight = numbers((size_t)n_out * (size_t)n_in, 2);
    float *bias = numbers((size_t)n_out, 3), *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
    lucid_linear l = {.weight = weight, .bias = bias, .n_in = n_in, .n_out = n_out};
    for (int64_t row = 0; row < n_rows; row += LUCID_PANEL)
        lucid_matmul(want + row * n_out, &l, x + row * n_in, LUCID_PANEL, false, blas, 1);
    check_values(want, &l, x, n_rows);
    CHECK(lucid_matmul_joins(&l.joined, n_in, n_out, blas) == LUCID_OK, "%s", lucid_failure());
    *n_joined += l.joined;
    for (int threads = 1; threads <= 5; threads += 2) {
        memset(got, 0xff, n * sizeof *got);
        lucid_matmul(got, &l, x, n_rows, false, blas, threads);
        CHECK(memcmp(got, want, n * sizeof *got) == 0, "%d by %d, %d threads, joined %d: other bits", n_in, n_out,
              threads, l.joined);
    }
    free(got);
    free(want);
    free(bias);
    free(weight);
    free(x);
}

static void test_kind(lucid_blas_kind kind) {
    static const int sizes[] = {1, 7, 10, 20, 33, 64, 100, 256, 320, 512, 513, 522, 640, 1030};
    int n_joined = 0;
    CHECK(lucid_blas_open(&blas, kind) == LUCID_OK, "%s", lucid_failure());
    if (!blas) return;
    CHECK(blas->kind == kind, "%s instead", lucid_blas_name(blas));
    for (int i = 0; i < COUNT(sizes); i++) {
        test_sizes(96, sizes[i], &n_joined);
        test_sizes(257, sizes[i], &n_joined);
        test_sizes(sizes[i], 72, &n_joined);
    }
    printf("%d of %d sizes are joined by %s, core %s\n", n_joined, 3 * COUNT(sizes), lucid_blas_name(blas), blas->core);
    if (!strcmp(blas->core, "SkylakeX")) CHECK(n_joined >= 30, "only %d", n_joined);
}

int main(void) {
    test_kind(LUCID_BLAS_OPENBLAS);
    test_kind(LUCID_BLAS_ONEDNN);
    return check_result();
}
