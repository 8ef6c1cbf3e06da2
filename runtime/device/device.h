/* The run on a GPU: the engine and its schedules as on a CPU, with tiles in a device's memory and kernels for pieces.
 *
 * The host's records, queries and states stay the home of tensors, so loading, storing, certificates and reports know
 * nothing of devices. A run copies them to the device in its kernels' form, works there, and brings y and the states
 * back. Each engine thread has a stream for the chain and one of lower priority for bulk work and waits for its piece
 * by polling, so that transfers go on; kernels read tiles that have arrived, never ones that are still to come. Tiles
 * go by the transport's own links between devices, where it has such (NCCL), else through pinned memory of the hosts.
 *
 * Keys and queries are taken in their own format where both are bf16 or both are fp16, else in fp32. Memory on the
 * device: per key head and token 8 W + 260 bytes or less, per query head and token 6 W + 8, W = head_dim rounded up to
 * 64, 128 or 256, and the window. Private to runtime/; device_cuda.c and device_backward.c are in the build or
 * device_none.c is. */
#ifndef LUCID_RUNTIME_DEVICE_DEVICE_H
#define LUCID_RUNTIME_DEVICE_DEVICE_H

#include "runtime/attention/engine.h"

typedef struct lucid_device lucid_device;

/* Engine threads that a rank on a device needs at least: one for the chain, one for bulk work, one for transfers. */
enum { LUCID_DEVICE_THREADS = 3 };

/* Errors: USAGE where this build or machine has no GPU; UNSUPPORTED for what only CPUs do: caches, snapshots, rounded
 * values; COMM and TIMEOUT where devices cannot be linked. Collective; agreed. */
lucid_status lucid_device_create(lucid_device **device, lucid_attention *a);
void lucid_device_destroy(lucid_device *device);          /* Local; NULL is fine */
int lucid_device_ordinal(const lucid_device *device);     /* CUDA's number of it */
const char *lucid_device_isa(const lucid_device *device); /* as lucid_attention_isa */

/* lucid_attention_run on the device; work_total as for lucid_engine_run. Collective. */
lucid_status lucid_device_run(lucid_attention *a, double work_total);

/* The same of lucid_attention_backward, once rows and sums are prepared on the host: device_backward.c. Collective. */
lucid_status lucid_device_backward(lucid_attention *a, double work_total);

#endif
