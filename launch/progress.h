/* The progress line: share done, Gflop/s, time left, on rank 0's stderr. */
#ifndef LUCID_LAUNCH_PROGRESS_H
#define LUCID_LAUNCH_PROGRESS_H

#include "launch/options.h"

typedef struct {
    bool on, terminal, shown;
    double delay;            /* seconds before the first line */
    double started, printed; /* seconds of a monotonic clock */
    double flops;            /* of the whole run, all ranks */
} launch_progress;

/* mode: a launch_progress_mode. Only rank 0's line is ever on. */
launch_progress launch_progress_make(int mode, int rank, double flops);

/* As lucid_options.progress wants it; context is a launch_progress. The share is this rank's, which stands for all. */
void launch_progress_update(void *context, double share);

/* The same with a text in place of Gflop/s. */
void launch_progress_show(launch_progress *progress, double share, const char *text);

/* Starts the clock; ends the line, so that what follows starts on a fresh one. */
void launch_progress_begin(launch_progress *progress);
void launch_progress_end(launch_progress *progress);

#endif
