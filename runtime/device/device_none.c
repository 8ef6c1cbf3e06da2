/* A build without kernels for GPUs. */
#include "runtime/device/device.h"

lucid_status lucid_device_create(lucid_device **device, lucid_attention *a) {
    (void)device, (void)a;
    return lucid_fail(LUCID_ERR_USAGE, "--device cuda: this build has no GPU kernels. Configure it with "
                                       "-DLUCID_CUDA=ON, where nvcc is, or run with --device cpu");
}

void lucid_device_destroy(lucid_device *device) {
    (void)device;
}

const char *lucid_device_isa(const lucid_device *device) {
    (void)device;
    return "cuda";
}

void lucid_device_address(char *address, size_t n_bytes, int local_rank) {
    (void)local_rank;
    if (n_bytes) *address = '\0';
}

lucid_status lucid_device_run(lucid_attention *a, double work_total) {
    (void)a, (void)work_total;
    return lucid_fail(LUCID_ERR_INTERNAL, "a run on a device that this build does not have");
}

lucid_status lucid_device_backward(lucid_attention *a, double work_total) {
    return lucid_device_run(a, work_total);
}

lucid_status lucid_attention_device_peak(const lucid_attention *a, double *flops_per_second) {
    (void)a, (void)flops_per_second;
    return lucid_fail(LUCID_ERR_INTERNAL, "the rate of a device that this build does not have");
}
