/* LUCID attention's kernels on an NVIDIA GPU: the solve and the softmax pass over whole tiles of granules.
 *
 * A launch takes one row tile of some sequences, (n_sequences, granules_per_tile) records, and key tiles before it. All
 * data is in the device's memory already: no kernel waits for a transfer. Rows apply granules in ascending order and a
 * row's operations do not depend on how rows and keys are cut into tiles, so for one kernel set the bits are the same
 * for any layout, schedule and tile, as on CPUs. Callers own all memory; nothing is allocated; launches return at once.
 *
 * solve is one persistent kernel. Its work items, two granules of one sequence's rows, are numbered by row first and
 * sequence second and drawn by tickets; an item waits only for granules of smaller tickets, whose blocks run already,
 * so it cannot deadlock however many blocks are resident. Dependencies are one counter a sequence in global memory:
 * granules solved so far. The left-looking order reads each record once per row block and writes it once.
 */
#ifndef LUCID_KERNELS_CUDA_CUDA_H
#define LUCID_KERNELS_CUDA_CUDA_H

#include "kernels/cuda/layout.h"

#include <float.h>
#include <math.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CUstream_st *lucid_cuda_stream; /* a cudaStream_t */

enum { LUCID_CUDA_TILES = 32 };

/* Sets of kernels, the least demanding first. For one set the bits are the same everywhere. */
typedef enum {
    LUCID_CUDA_SM80,  /* all shapes */
    LUCID_CUDA_SM90A, /* Hopper alone; heads of at most 128, 16 bits */
} lucid_cuda_set;

static inline const char *lucid_cuda_set_name(lucid_cuda_set set) {
    return set == LUCID_CUDA_SM90A ? "sm90a" : "sm80";
}

/* Pointers are to the device's memory, aligned to 16 bytes. */
typedef struct {
    lucid_cuda_shape shape;
    lucid_cuda_set set;
    const void *tiles[LUCID_CUDA_TILES]; /* earlier key tiles, ascending, all of them full */
    int n_tiles, granules_per_tile;
    bool own;               /* the row tile's own keys come after those */
    bool first;             /* attend: a row's first keys: the state begins */
    int n_granules;         /* of the row tile, 1..granules_per_tile */
    int n_sequences, group; /* kv heads times batch; query heads of each */
    void *records;          /* (n_sequences, granules_per_tile) of the row tile */
    float *rhs;             /* (n_sequences, granules_per_tile) */
    const void *queries;    /* (n_sequences, group, granules_per_tile) */
    float *states;          /* (n_sequences, group, granules_per_tile) */
    unsigned *counters;     /* solve: (1 + n_sequences), zero */
    int head_dim;           /* d of the formulas */
    float scale;            /* attend: lucid_cuda_scale(softmax_scale) */
} lucid_cuda_piece;

/* |softmax_scale| * log2(e): its sign is that of the queries, since a row's largest score must be that of its largest
 * product. Not zero: a masked score is minus infinity times this. */
static inline float lucid_cuda_scale(double softmax_scale) {
    return fmaxf((float)(fabs(softmax_scale) * 1.4426950408889634), FLT_MIN);
}

/* The last set that this program has for the current device and the shape. */
lucid_cuda_set lucid_cuda_best(lucid_cuda_shape shape);

/* All others return NULL, or what is wrong, a literal or the CUDA runtime's. Local. */

/* Whether the set's kernels can run on the current device; raises their limits of shared memory. Once for each device.
 */
const char *lucid_cuda_prepare(lucid_cuda_shape shape, lucid_cuda_set set);

/* rhs -= P(row tile, key tiles) y */
const char *lucid_cuda_update(const lucid_cuda_piece *piece, lucid_cuda_stream stream);
/* Forward substitution within the row tile, all of whose earlier tiles have been subtracted: rhs and the records' y. */
const char *lucid_cuda_solve(const lucid_cuda_piece *piece, lucid_cuda_stream stream);
/* The online softmax over the key tiles and, with `own`, the row tile's keys up to each row. */
const char *lucid_cuda_attend(const lucid_cuda_piece *piece, lucid_cuda_stream stream);

/* Between a device's granules and a CPU's, n_granules of each, both in the device's memory. factor (n_sequences, W) is
 * what columns are multiplied by, granules_per_tile granules each sequence. */
typedef struct {
    lucid_cuda_shape shape;
    lucid_shape host; /* of kernels.h */
    int n_granules, granules_per_tile;
    const float *factor; /* (n_granules / granules_per_tile, W), powers of two */
    bool negated;        /* queries: softmax_scale is negative */
} lucid_cuda_form;

/* records and rhs from host_records; `values`: y = rhs too, for softmax without a solve. */
const char *lucid_cuda_pack_records(void *records, float *rhs, const float *host_records, bool values,
                                    const lucid_cuda_form *form, lucid_cuda_stream stream);
/* host_records' values = rhs / factor */
const char *lucid_cuda_unpack_values(float *host_records, const float *rhs, const lucid_cuda_form *form,
                                     lucid_cuda_stream stream);
const char *lucid_cuda_pack_queries(void *queries, const float *host_queries, const lucid_cuda_form *form,
                                    lucid_cuda_stream stream);
/* host_states = states, o / factor; granules_per_tile counts a sequence's granules of all its query heads. */
const char *lucid_cuda_unpack_states(float *host_states, const float *states, const lucid_cuda_form *form,
                                     lucid_cuda_stream stream);

#ifdef __cplusplus
}
#endif

#endif
