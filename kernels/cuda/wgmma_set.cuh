/* The set of one width: what wgmma_64.cu and wgmma_128.cu consist of, behind the primitives. */
#ifndef LUCID_KERNELS_CUDA_WGMMA_SET_CUH
#define LUCID_KERNELS_CUDA_WGMMA_SET_CUH

#include "kernels/cuda/sets.cuh"
#include "kernels/cuda/wgmma.cuh"

template <typename Tag, int PANELS> static kernel_set wgmma_set_of(lucid_dtype dtype) {
    constexpr size_t bytes = wgmma_sizes<PANELS>::bytes;
    kernel_set set = {{dtype, PANELS},
                      wgmma_update<Tag, PANELS>,
                      wgmma_solve<Tag, PANELS>,
                      wgmma_attend<Tag, PANELS>,
                      WGMMA_THREADS,
                      WGMMA_GRANULES,
                      bytes,
                      bytes};
    return set;
}

template <int PANELS> static kernel_set wgmma_set(lucid_dtype dtype) {
    return dtype == LUCID_BF16 ? wgmma_set_of<bf16_tag, PANELS>(dtype) : wgmma_set_of<f16_tag, PANELS>(dtype);
}

#endif
