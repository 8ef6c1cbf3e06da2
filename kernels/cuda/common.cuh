/* What all kernels share: where granules lie, tickets and dependencies, and the substitution of a diagonal granule. */
#ifndef LUCID_KERNELS_CUDA_COMMON_CUH
#define LUCID_KERNELS_CUDA_COMMON_CUH

#include "kernels/cuda/cuda.h"

enum { GRANULE = LUCID_GRANULE, WEIGHT_LD = GRANULE + 4, VALUE_PAD = 8 };

/* A score may exceed its row's reference exponent by this much (base 2) before the row is rescaled: weights below 2^8
 * leave fp16 all its bits. */
#define RESCALE_EXPONENT 8.0f

LUCID_DEVICE int min_of(int a, int b) {
    return a < b ? a : b;
}

/* Key granules that precede the row tile. */
LUCID_DEVICE int earlier_granules(const lucid_cuda_piece &p) {
    return p.n_tiles * p.granules_per_tile;
}

/* Key granule j, counted through the key tiles and then the row tile. */
LUCID_DEVICE const unsigned char *key_record(const lucid_cuda_piece &p, int sequence, int j) {
    int tile = j / p.granules_per_tile;
    const void *base = tile < p.n_tiles ? p.tiles[tile] : p.records;
    size_t index = (size_t)sequence * p.granules_per_tile + j % p.granules_per_tile;
    return (const unsigned char *)base + index * lucid_cuda_record_bytes(p.shape);
}

/* Of the row tile. */
LUCID_DEVICE unsigned char *own_record(const lucid_cuda_piece &p, int sequence, int granule) {
    size_t index = (size_t)sequence * p.granules_per_tile + granule;
    return (unsigned char *)p.records + index * lucid_cuda_record_bytes(p.shape);
}

LUCID_DEVICE const float *record_norms(const lucid_cuda_piece &p, const unsigned char *record) {
    return (const float *)(record + 2 * lucid_cuda_matrix_bytes(p.shape));
}

LUCID_DEVICE float *granule_rhs(const lucid_cuda_piece &p, int sequence, int granule) {
    return p.rhs + ((size_t)sequence * p.granules_per_tile + granule) * lucid_cuda_rhs_floats(p.shape);
}

/* Of query heads, numbered through the sequences. */
LUCID_DEVICE float *granule_state(const lucid_cuda_piece &p, int head, int granule) {
    return p.states + ((size_t)head * p.granules_per_tile + granule) * lucid_cuda_state_floats(p.shape);
}
LUCID_DEVICE const unsigned char *granule_query(const lucid_cuda_piece &p, int head, int granule) {
    return (const unsigned char *)p.queries +
           ((size_t)head * p.granules_per_tile + granule) * lucid_cuda_matrix_bytes(p.shape);
}

/* One thread waits until `wanted` granules of the sequence are solved; a barrier must follow. *known: so many are, zero
 * at first. The counter only rises, so one look at it is for all granules below. Whether there was a look. */
LUCID_DEVICE bool wait_for_granules(unsigned *known, const unsigned *progress, unsigned wanted) {
    if (*known >= wanted) return false;
    while ((*known = acquire(progress)) < wanted) pause_briefly();
    return true;
}

/* P_ij = exp2(dot_ij row_factor rnorm_j + bias): the norms multiply products of the raw keys, in fp32. */
LUCID_DEVICE float row_factor(float rnorm, int head_dim) {
    return rnorm * (1.4426950408889634f / sqrtf((float)head_dim));
}
LUCID_DEVICE float weight_bias(int head_dim) {
    return -1.4426950408889634f * sqrtf((float)head_dim);
}

/* values (64, W) = inverse(weights) values in shared memory, a column a thread; weights (64 keys, 64 rows) transposed
 * and unit lower triangular, so that one load brings four rows of a key. Sixteen rows at a time are in registers; the
 * earlier ones are subtracted first. In fp32 this is 1 % of the solve, so nothing is inverted. */
LUCID_DEVICE void substitute(float *values, const float *weights, int width, int thread, int n_threads) {
    int ld = width + VALUE_PAD;
    for (int column = thread; column < width; column += n_threads)
        for (int block = 0; block < GRANULE; block += 16) {
            const float *rows = weights + block;
            float y[16], w[16];
#pragma unroll
            for (int i = 0; i < 16; i++) y[i] = values[(block + i) * ld + column];
            for (int j = 0; j < block; j++) {
                float y_j = values[j * ld + column];
                load_sixteen(w, rows + j * WEIGHT_LD);
#pragma unroll
                for (int i = 0; i < 16; i++) y[i] = fmaf(-w[i], y_j, y[i]);
            }
#pragma unroll
            for (int j = 0; j < 16; j++) {
                load_sixteen(w, rows + (block + j) * WEIGHT_LD);
#pragma unroll
                for (int i = j + 1; i < 16; i++) y[i] = fmaf(-w[i], y[j], y[i]);
            }
#pragma unroll
            for (int i = 0; i < 16; i++) values[(block + i) * ld + column] = y[i];
        }
}

/* The next of n items that no block has drawn yet, the same for all threads; false when none is left. drawn is in
 * shared memory. */
LUCID_DEVICE bool draw_item(unsigned *item, unsigned *drawn, unsigned *counter, unsigned n) {
    block_barrier();
    if (threadIdx.x == 0) *drawn = take_ticket(counter);
    block_barrier();
    *item = *drawn;
    return *item < n;
}

#endif
