/* CUDA's errors as ours. */
#ifndef LUCID_RUNTIME_DEVICE_CHECK_H
#define LUCID_RUNTIME_DEVICE_CHECK_H

#include "comm/comm.h"

#include <cuda_runtime_api.h>

static inline lucid_status lucid_cuda_status(cudaError_t error, const char *call) {
    if (!error) return LUCID_OK;
    if (error == cudaErrorMemoryAllocation)
        return lucid_fail(LUCID_ERR_MEMORY, "the GPU's memory is full: use more ranks or a shorter sequence (%s)",
                          call);
    return lucid_fail(LUCID_ERR_INTERNAL, "the GPU failed: %s (%s)", cudaGetErrorString(error), call);
}
#define LUCID_CUDA_CHECK(call) lucid_cuda_status(call, #call)

/* Of a kernel's launch: NULL or what is wrong. */
static inline lucid_status lucid_cuda_launched(const char *error, const char *what) {
    return error ? lucid_fail(LUCID_ERR_INTERNAL, "the GPU did not start %s: %s", what, error) : LUCID_OK;
}

#endif
