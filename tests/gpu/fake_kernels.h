/* What a test may ask of the emulated GPU. */
#ifndef LUCID_TESTS_GPU_FAKE_KERNELS_H
#define LUCID_TESTS_GPU_FAKE_KERNELS_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

extern lucid_cuda_set lucid_emulated_best;                /* of this rank's device; at first LUCID_CUDA_SM90A */
extern int lucid_emulated_launches[LUCID_CUDA_SM90A + 1]; /* of the forward, by set */

#ifdef __cplusplus
}
#endif

#endif
