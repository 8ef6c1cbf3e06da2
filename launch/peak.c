#include "launch/peak.h"

#include <math.h>
#include <omp.h>
#include <time.h>

#define BURST_SECONDS 0.015

static double burst_seconds(const lucid_kernels *kernels, int64_t n, double *flops) {
    double begin = omp_get_wtime();
    *flops = kernels->fma_burst(n);
    return omp_get_wtime() - begin;
}

/* Rounds that take about BURST_SECONDS on one thread. */
static int64_t calibrate(const lucid_kernels *kernels) {
    double flops, seconds;
    int64_t n = 1000;
    while ((seconds = burst_seconds(kernels, n, &flops)) < BURST_SECONDS / 4) n *= 2;
    return (int64_t)((double)n * BURST_SECONDS / seconds) + 1;
}

static double measure_once(const lucid_kernels *kernels, int64_t n, int n_threads) {
    double total = 0, longest = 0;
#pragma omp parallel num_threads(n_threads) reduction(+ : total) reduction(max : longest)
    {
        double flops;
#pragma omp barrier
        longest = burst_seconds(kernels, n, &flops);
        total = flops;
    }
    return total / longest;
}

double launch_peak_measure(const lucid_kernels *kernels, int n_threads) {
    int64_t n = calibrate(kernels);
    double a = measure_once(kernels, n, n_threads), b = measure_once(kernels, n, n_threads);
    double c = measure_once(kernels, n, n_threads);
    return fmax(fmin(a, b), fmin(fmax(a, b), c)); /* their median */
}

double launch_read_seconds(const lucid_kernels *kernels, const void *data, size_t n_bytes, int n_threads) {
    enum { PIECE = 1 << 18, UNIT = 1 << 10 };
    const int64_t n_pieces = (int64_t)(n_bytes / PIECE);
    float sum = 0;
    double begin = omp_get_wtime();
#pragma omp parallel for num_threads(n_threads) schedule(dynamic, 8) reduction(+ : sum)
    for (int64_t i = 0; i < n_pieces; i++) sum += kernels->read_burst((const char *)data + i * PIECE, PIECE);
    sum += kernels->read_burst((const char *)data + n_pieces * PIECE, n_bytes % PIECE / UNIT * UNIT);
    double seconds = omp_get_wtime() - begin;
    __asm__ volatile("" : : "x"(sum)); /* the sum is used */
    return seconds;
}
