/* The kernels of all dtypes and widths, for the emulator. */
#ifndef LUCID_TESTS_GPU_EMULATED_KERNELS_H
#define LUCID_TESTS_GPU_EMULATED_KERNELS_H

#include "tests/gpu/emulator_sm90.h"

#include "kernels/cuda/backward.cuh"
#include "kernels/cuda/mma_set.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/simt.cuh"
#include "kernels/cuda/wgmma_set.cuh"

static kernel_set set_of(lucid_cuda_shape shape, lucid_cuda_set set) {
    bool hopper = set == LUCID_CUDA_SM90A;
    if (shape.dtype == LUCID_F32) return simt_set(shape.panels);
    return shape.panels == 4   ? mma_set<4>(shape.dtype)
           : shape.panels == 2 ? (hopper ? wgmma_set<2>(shape.dtype) : mma_set<2>(shape.dtype))
                               : (hopper ? wgmma_set<1>(shape.dtype) : mma_set<1>(shape.dtype));
}

struct backward_launches {
    void (*keys)(lucid_cuda_backward), (*rows)(lucid_cuda_backward);
    size_t bytes;
};

template <int PANELS> static backward_launches backward_launches_of_width(bool split) {
    size_t bytes = pair_sizes<PANELS>::bytes;
    if (split) return {backward_keys<PANELS, 2>, backward_rows<PANELS, 2>, bytes};
    return {backward_keys<PANELS, 1>, backward_rows<PANELS, 1>, bytes};
}

static inline backward_launches backward_launches_of(lucid_cuda_shape shape) {
    bool split = shape.dtype == LUCID_F32;
    return shape.panels == 1   ? backward_launches_of_width<1>(split)
           : shape.panels == 2 ? backward_launches_of_width<2>(split)
                               : backward_launches_of_width<4>(split);
}

#endif
