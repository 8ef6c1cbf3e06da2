/* The baseline computes the same Y, in fp32, at lengths around its block sizes and on keys for which the solve matters.
 */
#include "kernels/ref/dense.h"
#include "runtime/blas/blas.h"
#include "runtime/verify/openblas.h"
#include "tests/check.h"
#include "tests/runtime/verify/uniform.h"

#include <stdlib.h>

/* Rounding in the exponents, which grows like sqrt(n); clustered keys: 2e-5 at 8192 tokens is usual for fp32. */
#define TOLERANCE 5e-5

static void solve(int n, int d, int dv) {
    float *k = malloc((size_t)n * d * sizeof *k), *v = malloc((size_t)n * dv * sizeof *v);
    float *y = malloc((size_t)n * dv * sizeof *y);
    double *kn = malloc((size_t)n * d * sizeof *kn), *ref = malloc((size_t)n * dv * sizeof *ref);
    double *got = malloc((size_t)n * dv * sizeof *got), centres[4][128];
    for (int i = 0; i < 4 * d; i++) centres[i / d][i % d] = uniform();
    for (int i = 0; i < n * d; i++) kn[i] = k[i] = (float)(centres[i / d * 7 % 4][i % d] + 0.4 * uniform());
    for (int i = 0; i < n * dv; i++) ref[i] = v[i] = (float)uniform();
    lucid_dense_normalise(kn, kn, n, d, 1e-5);
    lucid_dense_solve(ref, kn, ref, n, d, dv);

    const lucid_status status = lucid_openblas_solve(y, k, v, n, d, dv, 1e-5);
    CHECK(status == LUCID_OK, "n %d: status %d: %s", n, (int)status, lucid_failure());
    for (int i = 0; i < n * dv; i++) got[i] = y[i];
    CHECK_NEAR(lucid_dense_row_error(got, ref, n, dv), 0, TOLERANCE, "n %d, d %d, dv %d", n, d, dv);
    free(k), free(v), free(y), free(kn), free(ref), free(got);
}

int main(void) {
    const lucid_blas *blas;
    if (lucid_blas_open(&blas, LUCID_BLAS_OPENBLAS)) {
        printf("skipped: %s\n", lucid_failure());
        return LUCID_TEST_SKIP;
    }
    printf("OpenBLAS core %s\n", blas->core);
    static const int lengths[] = {1, 63, 64, 65, 200, 512, 513, 1600};
    for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) solve(lengths[l], 64, 64);
    solve(777, 68, 12);
    solve(300, 1, 1);
    return check_result();
}
