/* The clock that all waits and timings go by. */
#ifndef LUCID_COMM_CLOCK_H
#define LUCID_COMM_CLOCK_H

#include <time.h>

/* Seconds, never set back. */
static inline double lucid_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
