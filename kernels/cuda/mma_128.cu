#include "kernels/cuda/primitives.cuh"

#include "kernels/cuda/mma_set.cuh"

kernel_set mma_set_128(lucid_dtype dtype) {
    return mma_set<2>(dtype);
}
