/* The machine's FMA peak and read bandwidth, measured: what every share divides by. */
#ifndef LUCID_LAUNCH_PEAK_H
#define LUCID_LAUNCH_PEAK_H

#include "kernels/kernels.h"

/* Flops per second of independent FMAs from registers, on n_threads threads at once: all their flops over the longest
 * thread's time, the median of three bursts of about 15 ms, so that a neighbour who slows the run slows its measure
 * too. Local: call it on all ranks at once to share the machine as a run does. */
double launch_peak_measure(const lucid_kernels *kernels, int n_threads);

/* Seconds that n_threads threads take to read n_bytes at data, 64-byte aligned, once: what decoding is compared with. A
 * last piece of less than 1 KiB is left out. Local. */
double launch_read_seconds(const lucid_kernels *kernels, const void *data, size_t n_bytes, int n_threads);

#endif
