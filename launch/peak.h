/* The machine's FMA peak, measured: what every "share of peak" divides by. */
#ifndef LUCID_LAUNCH_PEAK_H
#define LUCID_LAUNCH_PEAK_H

#include "kernels/kernels.h"

/* Flops per second of independent FMAs from registers, on n_threads threads at once: all their flops over the longest
 * thread's time, the median of three bursts of about 15 ms, so that a neighbour who slows the run slows its measure
 * too. Local: call it on all ranks at once to share the machine as a run does. */
double launch_peak_measure(const lucid_kernels *kernels, int n_threads);

#endif
