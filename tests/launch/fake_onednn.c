/* Libraries that say that they are oneDNN: FAKE_RUNTIME is what does their work in parallel, as dnnl_version has it (2:
 * OpenMP, 4: TBB). Products are all zero, so whoever takes one shows it. */
#include <stdint.h>
#include <string.h>

struct version {
    int major, minor, patch;
    const char *hash;
    unsigned cpu_runtime, gpu_runtime;
};

const struct version *dnnl_version(void);
const struct version *dnnl_version(void) {
    static const struct version version = {3, 0, 0, "fake", FAKE_RUNTIME, 0};
    return &version;
}

int dnnl_sgemm(char trans_a, char trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
               const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
int dnnl_sgemm(char trans_a, char trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
               const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    (void)trans_a, (void)trans_b, (void)k, (void)alpha, (void)a, (void)lda, (void)b, (void)ldb, (void)beta;
    for (int64_t row = 0; row < m; row++) memset(c + row * ldc, 0, (size_t)n * sizeof *c);
    return 0;
}
