/* Rates of the solve, the softmax pass and the backward pass on one GPU, against a bf16 matrix product by cuBLAS in the
 * same run, and their errors, on 16 clusters of keys at correlation 0.8. Outside the timers: making and moving inputs,
 * restoring values.
 *
 *   flops     4 d for each pair and head, in the solve and in the softmax pass; of the backward pass 2.5 times those of
 *             both, five products against two, however many were made (seven, in tf32, at half the rate of bf16)
 *   ratio     seconds of the backward pass / of the solve and the softmax pass
 *   errors    of head 0 against the fp32 kernels, which tests hold to the fp64 oracle: y and out by row, gradients by
 *             |x - fp32| / |fp32| over all rows, the largest of dq, dk and dv: the first rows are far larger than most
 *   residual  in fp64 on 64 rows; untouched is what Y = V leaves */
#include "kernels/ref/dense.h"
#include "tests/check.h"
#include "tests/gpu/gpu_case.h"

#include <cublas_v2.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { REPEAT = 5, GEMM = 8192, SAMPLES = 64 };

static int compare(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Median seconds of `run`, after one that does not count; `before` is not timed. */
static double time_of(cudaStream_t stream, void (*before)(void *), void (*run)(void *), void *context) {
    cudaEvent_t begin, end;
    float ms[REPEAT];
    GPU(cudaEventCreate(&begin));
    GPU(cudaEventCreate(&end));
    for (int i = -1; i < REPEAT; i++) {
        if (before) before(context);
        GPU(cudaEventRecord(begin, stream));
        run(context);
        GPU(cudaEventRecord(end, stream));
        GPU(cudaEventSynchronize(end));
        if (i >= 0) GPU(cudaEventElapsedTime(&ms[i], begin, end));
    }
    GPU(cudaEventDestroy(begin));
    GPU(cudaEventDestroy(end));
    qsort(ms, REPEAT, sizeof *ms, compare);
    return 1e-3 * ms[REPEAT / 2];
}

/* --- the matrix product --- */

typedef struct {
    cublasHandle_t handle;
    uint16_t *a, *b, *c; /* (GEMM, GEMM) bf16 */
} product;

static void multiply(void *context) {
    product *p = context;
    float one = 1, zero = 0;
    cublasStatus_t status =
        cublasGemmEx(p->handle, CUBLAS_OP_T, CUBLAS_OP_N, GEMM, GEMM, GEMM, &one, p->a, CUDA_R_16BF, GEMM, p->b,
                     CUDA_R_16BF, GEMM, &zero, p->c, CUDA_R_16BF, GEMM, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    if (status) gpu_fail(__FILE__, __LINE__, "cublasGemmEx", cublasGetStatusString(status));
}

/* Random bf16 numbers in (-2, 2): zeros would run faster than data. */
static uint16_t *random_matrix(uint32_t seed) {
    size_t n = (size_t)GEMM * GEMM;
    uint16_t *host = gpu_allocate(n * sizeof *host), *device;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        host[i] = (uint16_t)((seed >> 16 & 0x80ff) | 0x3f00);
    }
    GPU(cudaMalloc((void **)&device, n * sizeof *device));
    GPU(cudaMemcpy(device, host, n * sizeof *device, cudaMemcpyHostToDevice));
    free(host);
    return device;
}

/* TFLOP/s */
static double product_rate(void) {
    product p = {.a = random_matrix(1), .b = random_matrix(2), .c = random_matrix(3)};
    cublasStatus_t status = cublasCreate(&p.handle);
    if (status) gpu_fail(__FILE__, __LINE__, "cublasCreate", cublasGetStatusString(status));
    double seconds = time_of(NULL, NULL, multiply, &p);
    cublasDestroy(p.handle);
    GPU(cudaFree(p.a));
    GPU(cudaFree(p.b));
    GPU(cudaFree(p.c));
    return 2e-12 * GEMM * (double)GEMM * GEMM / seconds;
}

/* --- errors --- */

typedef struct {
    float *y, *out, *lse;
    gpu_gradients gradients;
} results;

static results download(gpu_case *c, gpu_backward *b) {
    const gpu_problem *p = &c->problem;
    size_t rows = (size_t)p->n_kv_heads * (size_t)p->n * sizeof(float), query_rows = rows * (size_t)p->group;
    size_t d = (size_t)p->head_dim, dv = (size_t)p->value_dim;
    results r = {gpu_allocate(rows * dv),
                 gpu_allocate(query_rows * dv),
                 gpu_allocate(query_rows),
                 {gpu_allocate(query_rows * d), gpu_allocate(rows * d), gpu_allocate(rows * dv)}};
    gpu_case_download(c, r.y, r.out, r.lse);
    gpu_backward_download(b, r.gradients);
    return r;
}

static void results_free(results *r) {
    free(r->y);
    free(r->out);
    free(r->lse);
    free(r->gradients.dq);
    free(r->gradients.dk);
    free(r->gradients.dv);
}

/* The largest row error over the root mean square of the reference's rows. */
static double row_error(const float *x, const float *reference, int n, int dim) {
    double largest = 0, square = 0;
    for (int i = 0; i < n; i++) {
        double error = 0;
        for (int c = 0; c < dim; c++) {
            double r = reference[(size_t)i * dim + c], e = x[(size_t)i * dim + c] - r;
            error += e * e;
            square += r * r;
        }
        if (!(error <= largest)) largest = isnan(error) ? INFINITY : error;
    }
    return sqrt(largest / (square / n));
}

/* |x - reference| / |reference|, 2-norms of all n numbers. */
static double relative_error(const float *x, const float *reference, size_t n) {
    double error = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        double r = reference[i], e = x[i] - r;
        error += e * e;
        square += r * r;
    }
    return isnan(error) ? INFINITY : sqrt(error / square);
}

static double gradient_error(const results *got, const results *want, int n, int d) {
    size_t all = (size_t)n * (size_t)d;
    double dq = relative_error(got->gradients.dq, want->gradients.dq, all);
    double dk = relative_error(got->gradients.dk, want->gradients.dk, all);
    return fmax(fmax(dq, dk), relative_error(got->gradients.dv, want->gradients.dv, all));
}

static double *wide(const float *x, size_t n) {
    double *to = gpu_allocate(n * sizeof *to);
    for (size_t i = 0; i < n; i++) to[i] = x[i];
    return to;
}

/* max |(P Y - V)_i| over sampled rows, by |V|'s root mean square. */
static double residual(const gpu_inputs *x, const float *y32) {
    int n = x->problem.n, d = x->problem.head_dim, dv = x->problem.value_dim, samples = n < SAMPLES ? n : SAMPLES;
    double *kn = wide(x->k, (size_t)n * d), *v = wide(x->v, (size_t)n * dv), *y = wide(y32, (size_t)n * dv);
    double row[LUCID_MAX_HEAD_DIM], largest = 0, square = 0;
    lucid_dense_normalise(kn, kn, n, d, 1e-5);
    for (size_t i = 0; i < (size_t)n * dv; i++) square += v[i] * v[i];
    for (int s = 1; s <= samples; s++) {
        int64_t i = (int64_t)s * n / samples - 1;
        double error = 0;
        memcpy(row, v + i * dv, (size_t)dv * sizeof *row);
        lucid_dense_update_row(row, kn, y, i, 0, i, d, dv);
        for (int c = 0; c < dv; c++) error += (row[c] - y[i * dv + c]) * (row[c] - y[i * dv + c]);
        if (!(error <= largest)) largest = isnan(error) ? INFINITY : error;
    }
    free(kn);
    free(v);
    free(y);
    return sqrt(largest / (square / n));
}

/* Head 0 alone, by the fp32 kernels. */
static results reference_of(const gpu_inputs *x) {
    gpu_inputs head = *x;
    head.problem.n_kv_heads = head.problem.group = 1;
    gpu_case c = gpu_case_make(&head, LUCID_F32, LUCID_CUDA_SM80);
    gpu_case_solve(&c);
    gpu_case_attend(&c);
    gpu_backward b = gpu_backward_make(&c, &head);
    gpu_backward_run(&b);
    results r = download(&c, &b);
    gpu_backward_free(&b);
    gpu_case_free(&c);
    return r;
}

/* --- one row of the table --- */

static void reset(void *context) {
    gpu_case_reset(context);
}
static void solve(void *context) {
    gpu_case_solve(context);
}
static void attend(void *context) {
    gpu_case_attend(context);
}

static void reset_gradients(void *context) {
    gpu_backward_reset(context);
}
static void run_backward(void *context) {
    gpu_backward_run(context);
}

typedef struct {
    double solve, attend, backward;
} seconds;

/* TFLOP/s and % of the product's. */
static void print_rate(double tflop, double s, double peak) {
    printf("  %8.1f %5.1f", tflop / s, 100 * tflop / s / peak);
}

static void print_rates(const gpu_problem *p, lucid_cuda_set set, const seconds *s, double peak) {
    double tflop = 2e-12 * p->n_kv_heads * p->head_dim * p->n * (p->n + 1.0), both = s->solve + s->attend;
    printf("%5s %5s %4d %5d %7d", lucid_cuda_set_name(set), p->dtype == LUCID_BF16 ? "bf16" : "fp16", p->head_dim,
           p->n_kv_heads, p->n);
    print_rate(tflop, s->solve, peak);
    print_rate(tflop, s->attend, peak);
    print_rate(2 * tflop, both, peak);
    print_rate(2.5 * 2 * tflop, s->backward, peak);
    printf(" %5.2f", s->backward / both);
}

static void bench_set(const gpu_problem *p, lucid_cuda_set set, double peak) {
    int n = p->n, d = p->head_dim;
    gpu_inputs x = gpu_inputs_make(p, 1);
    gpu_case c = gpu_case_make(&x, p->dtype, set);
    seconds s;
    s.solve = time_of(c.stream, reset, solve, &c);
    s.attend = time_of(c.stream, NULL, attend, &c);
    gpu_backward b = gpu_backward_make(&c, &x);
    s.backward = time_of(c.stream, reset_gradients, run_backward, &b);
    results got = download(&c, &b), want = reference_of(&x);
    double out = row_error(got.out, want.out, n, d), y = row_error(got.y, want.y, n, d);
    double gradients = gradient_error(&got, &want, n, d), left = residual(&x, got.y);
    print_rates(p, set, &s, peak);
    printf("  %8.2e %8.2e %8.2e %8.2e %8.2e\n", y, out, gradients, left, residual(&x, x.v));
    fflush(stdout);
    CHECK_NEAR(out, 0, 1e-2, "out, N %d", n);
    CHECK_NEAR(gradients, 0, 1e-2, "gradients, N %d", n);
    CHECK_NEAR(left, 0, 1e-2, "residual, N %d", n);
    results_free(&got);
    results_free(&want);
    gpu_backward_free(&b);
    gpu_case_free(&c);
    gpu_inputs_free(&x);
}

/* A row for each set that the device runs, the best first. */
static void bench(int n, int d, int heads, lucid_dtype dtype, double peak) {
    gpu_problem p = {dtype, d, d, n, heads, 1, (n + LUCID_GRANULE - 1) / LUCID_GRANULE, false, 0};
    for (int set = (int)gpu_case_best(&p, dtype); set >= 0; set--) bench_set(&p, (lucid_cuda_set)set, peak);
}

int main(void) {
    const char *missing = gpu_missing();
    struct cudaDeviceProp properties;
    if (missing) {
        printf("skipped: %s\n", missing);
        return LUCID_TEST_SKIP;
    }
    GPU(cudaGetDeviceProperties(&properties, 0));
    double peak = product_rate();
    printf("%s, %d multiprocessors; bf16 product of %d^3: %.1f TFLOP/s\n", properties.name,
           properties.multiProcessorCount, GEMM, peak);
    printf("TFLOP/s and %% of the product's rate; medians of %d\n", REPEAT);
    printf("%5s %5s %4s %5s %7s  %8s %5s  %8s %5s  %8s %5s  %8s %5s %5s  %8s %8s %8s %8s %8s\n", "set", "dtype", "d",
           "heads", "N", "solve", "%", "attend", "%", "both", "%", "backward", "%", "ratio", "y_error", "out_err",
           "grad_err", "residual", "untouched");
    bench(4096, 128, 8, LUCID_BF16, peak);
    bench(16384, 128, 8, LUCID_BF16, peak);
    bench(65536, 128, 8, LUCID_BF16, peak);
    bench(16384, 64, 8, LUCID_BF16, peak);
    bench(65536, 64, 8, LUCID_BF16, peak);
    bench(16384, 128, 8, LUCID_F16, peak);
    bench(16384, 68, 8, LUCID_BF16, peak);
    bench(16384, 256, 8, LUCID_BF16, peak);
    return check_result();
}
