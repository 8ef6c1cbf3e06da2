#include "kernels/cuda/primitives.cuh"

#include "kernels/cuda/mma_set.cuh"

kernel_set mma_set_256(lucid_dtype dtype) {
    return mma_set<4>(dtype);
}
