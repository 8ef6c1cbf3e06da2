/* What the forward and the backward run on a GPU share. Private to runtime/device. */
#ifndef LUCID_RUNTIME_DEVICE_DEVICE_CUDA_H
#define LUCID_RUNTIME_DEVICE_DEVICE_CUDA_H

#include "kernels/cuda/cuda.h"
#include "runtime/device/device.h"

#include <cuda_runtime_api.h>

/* What the device holds of a channel beside its tiles; NULL what a run has no use for. */
typedef struct {
    unsigned char *queries; /* (n_rows, n_sequences, group, granules_per_tile) */
    float *states;          /* the same */
    float *rhs;             /* (n_rows, n_sequences, granules_per_tile) */
    float *sums;            /* the same, of the backward pass */
} lucid_device_share;

typedef struct {
    cudaStream_t chain, bulk;
    cudaEvent_t done;
    unsigned *counters; /* (1 + sequences) */
} lucid_device_worker;

struct lucid_device {
    int ordinal;
    lucid_cuda_shape shape;
    lucid_cuda_set set; /* the same on all ranks */
    const char *isa;    /* its name; "cuda" before the first run */
    int n_channels;
    lucid_channel *channels;      /* (n_channels) as the engine wants them, tiles on the device */
    lucid_device_share *shares;   /* (n_channels) */
    lucid_device_worker *workers; /* (threads) */
    float *factor;                /* (sequences, W) */
    float *granules;              /* some of the host's, on the device */
    cudaStream_t copies;
    const lucid_device_links *transfers;
    void *links; /* transfers' */
};

/* One sequence's part of a row tile, some granules of it; the forward's rows. */
typedef struct {
    int channel, row, sequence; /* sequence: in the channel */
    int first, n;               /* granules */
} lucid_device_part;

/* Copies of these channels without tiles, shares without memory, the threads' streams. Local. */
lucid_status lucid_device_begin(lucid_attention *a, const lucid_channel *channels, int n_channels);
/* What a run takes, given back; the device object stays. */
void lucid_device_release(lucid_attention *a);

/* Of the device's memory, into *pointer, a pointer to a pointer. */
lucid_status lucid_device_allocate(void *pointer, size_t bytes);

typedef lucid_status (*lucid_device_visitor)(lucid_attention *a, const lucid_device_part *p);

/* Visits all own granules, at most `most` at a time. */
lucid_status lucid_device_each_part(lucid_attention *a, int most, lucid_device_visitor visit);

/* Waits until the stream has done what it was given. */
lucid_status lucid_device_finish(const lucid_attention *a, const lucid_device_worker *w, cudaStream_t stream);

/* The forward or the backward. */
typedef struct {
    lucid_status (*bring)(lucid_attention *a); /* memory, and tensors to the device; errors agreed */
    void (*run)(const lucid_attention *a, lucid_worker *w, const lucid_assignment *job); /* a piece */
    lucid_device_visitor take;                                                           /* results from the device, */
    int most; /* so many granules at a time */
} lucid_device_pass;

/* Collective. */
lucid_status lucid_device_run_pass(lucid_attention *a, const lucid_device_pass *pass, double work_total);

#endif
