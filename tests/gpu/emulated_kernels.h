/* The kernels of all dtypes and widths, for the emulator. */
#ifndef LUCID_TESTS_GPU_EMULATED_KERNELS_H
#define LUCID_TESTS_GPU_EMULATED_KERNELS_H

#include "tests/gpu/emulator_sm90.h"

#include "kernels/cuda/backward.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/simt.cuh"
#include "kernels/cuda/wgmma.cuh"

struct launches {
    void (*update)(lucid_cuda_piece), (*solve)(lucid_cuda_piece), (*attend)(lucid_cuda_piece);
    unsigned threads;
    int granules;
    size_t solve_bytes, attend_bytes;
};

template <typename Tag, int PANELS> static launches mma_launches() {
    typedef mma_sizes<PANELS> S;
    return {mma_update<Tag, PANELS>, mma_solve<Tag, PANELS>, mma_attend<Tag, PANELS>, MMA_THREADS, S::M,
            S::solve_bytes + 16,     S::attend_bytes};
}

template <typename Tag, int PANELS> static launches wgmma_launches() {
    constexpr size_t bytes = wgmma_sizes<PANELS>::bytes;
    return {wgmma_update<Tag, PANELS>,
            wgmma_solve<Tag, PANELS>,
            wgmma_attend<Tag, PANELS>,
            WGMMA_THREADS,
            WGMMA_GRANULES,
            bytes,
            bytes};
}

template <typename Tag> static launches launches_of_width(int panels, lucid_cuda_set set) {
    if (set == LUCID_CUDA_SM90A && panels < 4) return panels == 1 ? wgmma_launches<Tag, 1>() : wgmma_launches<Tag, 2>();
    return panels == 1 ? mma_launches<Tag, 1>() : panels == 2 ? mma_launches<Tag, 2>() : mma_launches<Tag, 4>();
}

static launches launches_of(lucid_cuda_shape shape, lucid_cuda_set set) {
    size_t bytes = simt_shared_bytes(shape);
    if (shape.dtype == LUCID_F32) return {simt_update, simt_solve, simt_attend, SIMT_THREADS, 1, bytes, bytes};
    return shape.dtype == LUCID_BF16 ? launches_of_width<bf16_tag>(shape.panels, set)
                                     : launches_of_width<f16_tag>(shape.panels, set);
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
