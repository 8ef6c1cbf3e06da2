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
    int tile;     /* granules */
    bool softmax; /* attention without a solve: Y = V */
    double scale; /* of the softmax; 0: 1 / sqrt(head_dim) */
} gpu_problem;

double gpu_problem_scale(const gpu_problem *problem);

/* Row-major (heads, n, dim), rounded to the dtype but for dout. Keys lie round 16 centres at correlation 0.8. */
typedef struct {
    gpu_problem problem;
    float *q, *k, *v;
    float *dout; /* (query heads, n, value_dim) */
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

/* Of the kernels that such a case may have, of this device: the last set. */
lucid_cuda_set gpu_case_best(const gpu_problem *problem, lucid_dtype dtype);

/* Uploads the inputs. dtype: that of the kernels; LUCID_F32 takes any inputs. */
gpu_case gpu_case_make(const gpu_inputs *inputs, lucid_dtype dtype, lucid_cuda_set set);
void gpu_case_free(gpu_case *c);

/* Values as they were uploaded, for another solve. */
void gpu_case_reset(gpu_case *c);
/* All row tiles; return at once. */
void gpu_case_solve(gpu_case *c);
void gpu_case_attend(gpu_case *c);

/* Row-major: y (n_kv_heads, n, value_dim), out (heads, n, value_dim), lse (heads, n). */
void gpu_case_download(gpu_case *c, float *y, float *out, float *lse);

/* --- the backward pass --- */

/* Of a case that has been solved and attended. Inputs and case outlive it. */
typedef struct {
    gpu_case *forward;
    const gpu_inputs *inputs;
    /* On the device, by tile: (n_tiles, n_kv_heads, tile) times what backward.h has of a granule. */
    float *keys, *rows, *sums;
    float *staging; /* one tile of host granules of one key-value head */
} gpu_backward;

gpu_backward gpu_backward_make(gpu_case *forward, const gpu_inputs *inputs);
void gpu_backward_free(gpu_backward *b);

/* Gradients at zero, as they are to begin with, for another run. */
void gpu_backward_reset(gpu_backward *b);
/* All tiles: keys, then rows. Returns at once. */
void gpu_backward_run(gpu_backward *b);

/* Of sum(out * dout), row-major: dq (query heads, n, head_dim), dk, dv (n_kv_heads, n, dim). */
typedef struct {
    float *dq, *dk, *dv;
} gpu_gradients;

void gpu_backward_download(gpu_backward *b, gpu_gradients to);

/* --- what a case's passes share: one head's granules of a tile, as a host has them --- */

/* End the program where there is no memory. The device's is NaN, the host's aligned as kernels.h wants it. */
void *gpu_allocate(size_t bytes);
void *gpu_device_allocate(size_t bytes);

/* Granules of a row tile. */
int gpu_case_granules(const gpu_case *c, int tile);
/* Tokens of a granule, none behind the sequence's end; and the first one's place in a head-by-head tensor's rows. */
int gpu_case_tokens(const gpu_case *c, int granule);
size_t gpu_case_first_row(const gpu_case *c, int granule, int head);

/* (tile) records with the inputs' values, and queries. */
void gpu_case_fill_records(const gpu_case *c, const gpu_inputs *inputs, float *records, int tile, int head);
void gpu_case_fill_queries(const gpu_case *c, const gpu_inputs *inputs, float *queries, int tile, int head);
/* To c->staging: (tile) records' values, the rest of them left as it is; whole states. */
void gpu_case_stage_values(gpu_case *c, int tile, int head);
void gpu_case_stage_states(gpu_case *c, int tile, int head);

#endif
