#include "kernels/cuda/primitives_sm90.cuh"

#include "kernels/cuda/wgmma_set.cuh"

kernel_set wgmma_set_64(lucid_dtype dtype) {
    return wgmma_set<1>(dtype);
}
