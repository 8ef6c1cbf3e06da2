/* What all launches share. */
#ifndef LUCID_KERNELS_CUDA_LAUNCH_CUH
#define LUCID_KERNELS_CUDA_LAUNCH_CUH

#include <stdint.h>

static const char *text_of(cudaError_t error) {
    return error == cudaSuccess ? NULL : cudaGetErrorString(error);
}

/* Whether the current device has the instructions and so much shared memory for a block; NULL or what is wrong. */
static const char *check_device(size_t shared_bytes) {
    int device, major, most;
    cudaError_t error = cudaGetDevice(&device);
    if (!error) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (!error) error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (error) return text_of(error);
    if (major < 8) return "the GPU is older than compute capability 8.0";
    return (size_t)most < shared_bytes ? "the GPU has too little shared memory for heads this wide" : NULL;
}

template <typename Piece> static cudaError_t allow_shared(void (*kernel)(Piece), size_t bytes) {
    return cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
}

/* How many blocks of a kernel the current device holds at once. */
template <typename Piece>
static cudaError_t resident_blocks(int64_t *blocks, void (*kernel)(Piece), int threads, size_t bytes) {
    int device, processors = 0, resident = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (!error) error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (!error) error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, threads, bytes);
    *blocks = (int64_t)processors * resident;
    return error;
}

/* 64-bit blocks, since a grid holds 2^31 - 1. */
template <typename Piece>
static const char *launch(void (*kernel)(Piece), const Piece *piece, int64_t blocks, int threads, size_t bytes,
                          cudaStream_t stream) {
    if (blocks > INT32_MAX) return "too many row blocks for one launch: use a smaller tile";
    kernel<<<(unsigned)blocks, (unsigned)threads, bytes, stream>>>(*piece);
    return text_of(cudaGetLastError());
}

#endif
