/* The rate that a device's reports divide by. */
#include "runtime/device/device.h"

#include "runtime/device/check.h"

#include <cublas_v2.h>
#include <stdlib.h>

enum { SIDE = 8192, REPEAT = 5 };

typedef struct {
    cublasHandle_t handle;
    uint16_t *a, *b, *c; /* (SIDE, SIDE) bf16 */
    cudaEvent_t begin, end;
} product;

static lucid_status cublas_status(cublasStatus_t status, const char *call) {
    if (!status) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INTERNAL, "cuBLAS failed: %s (%s)", cublasGetStatusString(status), call);
}
#define CUBLAS_CHECK(call) cublas_status(call, #call)

static lucid_status product_run(product *p) {
    const float one = 1, zero = 0;
    return CUBLAS_CHECK(cublasGemmEx(p->handle, CUBLAS_OP_T, CUBLAS_OP_N, SIDE, SIDE, SIDE, &one, p->a, CUDA_R_16BF,
                                     SIDE, p->b, CUDA_R_16BF, SIDE, &zero, p->c, CUDA_R_16BF, SIDE, CUBLAS_COMPUTE_32F,
                                     CUBLAS_GEMM_DEFAULT));
}

/* Random numbers of both signs in [0.5, 2): on zeros a GPU is faster. */
static lucid_status matrix_create(uint16_t **matrix, uint32_t seed) {
    size_t n = (size_t)SIDE * SIDE, bytes = n * sizeof(uint16_t);
    uint16_t *host = malloc(bytes);
    if (!host) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a matrix of %zu bytes", bytes);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        host[i] = (uint16_t)((seed >> 16 & 0x80ff) | 0x3f00);
    }
    lucid_status status = LUCID_CUDA_CHECK(cudaMalloc((void **)matrix, bytes));
    if (!status) status = LUCID_CUDA_CHECK(cudaMemcpy(*matrix, host, bytes, cudaMemcpyDefault));
    free(host);
    return status;
}

static lucid_status product_create(product *p) {
    LUCID_TRY(matrix_create(&p->a, 1));
    LUCID_TRY(matrix_create(&p->b, 2));
    LUCID_TRY(LUCID_CUDA_CHECK(cudaMalloc((void **)&p->c, (size_t)SIDE * SIDE * sizeof *p->c)));
    LUCID_TRY(LUCID_CUDA_CHECK(cudaEventCreate(&p->begin)));
    LUCID_TRY(LUCID_CUDA_CHECK(cudaEventCreate(&p->end)));
    LUCID_TRY(CUBLAS_CHECK(cublasCreate(&p->handle)));
    return product_run(p); /* what is made at the first call */
}

static void product_destroy(product *p) {
    if (p->handle) cublasDestroy(p->handle);
    if (p->begin) cudaEventDestroy(p->begin);
    if (p->end) cudaEventDestroy(p->end);
    cudaFree(p->a);
    cudaFree(p->b);
    cudaFree(p->c);
}

static lucid_status product_time(product *p, double *seconds) {
    float ms = 0;
    LUCID_TRY(LUCID_CUDA_CHECK(cudaEventRecord(p->begin, NULL)));
    for (int i = 0; i < REPEAT; i++) LUCID_TRY(product_run(p));
    LUCID_TRY(LUCID_CUDA_CHECK(cudaEventRecord(p->end, NULL)));
    LUCID_TRY(LUCID_CUDA_CHECK(cudaEventSynchronize(p->end)));
    LUCID_TRY(LUCID_CUDA_CHECK(cudaEventElapsedTime(&ms, p->begin, p->end)));
    *seconds = 1e-3 * ms / REPEAT;
    return LUCID_OK;
}

lucid_status lucid_attention_device_peak(const lucid_attention *a, double *flops_per_second) {
    product p = {0};
    double seconds = 0;
    LUCID_TRY(LUCID_CUDA_CHECK(cudaSetDevice(lucid_device_ordinal(a->device))));
    lucid_status status = product_create(&p);
    if (!status) status = product_time(&p, &seconds);
    product_destroy(&p);
    if (!status) *flops_per_second = 2.0 * SIDE * SIDE * SIDE / seconds;
    return status;
}
