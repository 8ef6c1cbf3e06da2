/* The set of one width: what mma_64.cu, mma_128.cu and mma_256.cu consist of, behind the primitives. */
#ifndef LUCID_KERNELS_CUDA_MMA_SET_CUH
#define LUCID_KERNELS_CUDA_MMA_SET_CUH

#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/sets.cuh"

template <typename Tag, int PANELS> static kernel_set mma_set_of(lucid_dtype dtype) {
    typedef mma_sizes<PANELS> S;
    kernel_set set = {{dtype, PANELS},
                      mma_update<Tag, PANELS>,
                      mma_solve<Tag, PANELS>,
                      mma_attend<Tag, PANELS>,
                      MMA_THREADS,
                      S::M,
                      S::solve_bytes,
                      S::attend_bytes};
    return set;
}

template <int PANELS> static kernel_set mma_set(lucid_dtype dtype) {
    return dtype == LUCID_BF16 ? mma_set_of<bf16_tag, PANELS>(dtype) : mma_set_of<f16_tag, PANELS>(dtype);
}

#endif
