/* Sets of kernels for one shape, made in one file for each width and listed in kernels.cu. */
#ifndef LUCID_KERNELS_CUDA_SETS_CUH
#define LUCID_KERNELS_CUDA_SETS_CUH

#include "kernels/cuda/cuda.h"

typedef void (*piece_kernel)(lucid_cuda_piece);

typedef struct {
    lucid_cuda_shape shape;
    piece_kernel update, solve, attend;
    int threads, granules;            /* of a row block */
    size_t solve_bytes, attend_bytes; /* shared memory; update as solve */
} kernel_set;

/* dtype: LUCID_BF16 or LUCID_F16; heads up to that many columns. */
kernel_set mma_set_64(lucid_dtype dtype);
kernel_set mma_set_128(lucid_dtype dtype);
kernel_set mma_set_256(lucid_dtype dtype);
/* For Hopper; there where LUCID_CUDA_HOPPER is defined. */
kernel_set wgmma_set_64(lucid_dtype dtype);
kernel_set wgmma_set_128(lucid_dtype dtype);

#endif
