/* A problem on a GPU for tests and benches: inputs on the host, tiles in the device's memory, launches over them.
 * Any CUDA error ends the program with a line that names the call. */
#ifndef LUCID_TESTS_GPU_GPU_CASE_H
#define LUCID_TESTS_GPU_GPU_CASE_H

#include "kernels/cuda/cuda.h"

#include <cuda_runtime_api.h>

#define GPU(call)                                                                    \
    do {                                                                             \
        cudaError_t error_ = (call);                                                 \
        if (error_) gpu_fail(__FILE__, __LINE__, #call, cudaGetErrorString(error_)); \
    } while (0)
/* Of the kernels' launches. */
#define GPU_LAUNCH(call)                                         \
    do {                                                         \
        const char *error_ = (call);                             \
        if (error_) gpu_fail(__FILE__, __LINE__, #call, error_); \
    } while (0)

void gpu_fail(const char *file, int line, const char *call, const char *what) __attribute__((noreturn));

/* NULL, or why nothing can run here. */
const char *gpu_missing(void);

typedef struct {
    lucid_dtype dtype;
    int head_dim, value_dim;
    int n; /* tokens */
    int n_kv_heads, group;
    int tile; /* granules */
} gpu_problem;

/* Row-major (heads, n, dim), rounded to the dtype. Keys lie round 16 centres at correlation 0.8. */
typedef struct {
    gpu_problem problem;
    float *q, *k, *v;
} gpu_inputs;

gpu_inputs gpu_inputs_make(const gpu_problem *problem, uint64_t seed);
void gpu_inputs_free(gpu_inputs *inputs);

typedef struct {
    gpu_problem problem;
    lucid_cuda_shape shape;
    lucid_cuda_set set;
    lucid_shape host;
    int n_granules, n_tiles;
    /* On the device, by tile: (n_tiles) times what a row tile holds. */
    unsigned char *records, *queries;
    float *rhs, *states;
    unsigned *counters;
    float *factor;  /* (n_kv_heads, W) */
    float *values;  /* rhs as uploaded */
    float *staging; /* one tile of host granules of one head */
    cudaStream_t stream;
} gpu_case;

/* Uploads the inputs. dtype: that of the kernels; LUCID_F32 takes any inputs. */
gpu_case gpu_case_make(const gpu_inputs *inputs, lucid_dtype dtype);
void gpu_case_free(gpu_case *c);

/* Values as they were uploaded, for another solve. */
void gpu_case_reset(gpu_case *c);
/* All row tiles; return at once. */
void gpu_case_solve(gpu_case *c);
void gpu_case_attend(gpu_case *c);

/* Row-major: y (n_kv_heads, n, value_dim), out (heads, n, value_dim), lse (heads, n). */
void gpu_case_download(gpu_case *c, float *y, float *out, float *lse);

#endif
