/* How granules lie in a device's memory, for hosts and devices alike. Everything below is per granule of 64 tokens and
 * head; W = 64 * panels is head_dim and value_dim rounded up to the widths that kernels are built for.
 *
 *   record   of one kv head, what is stored, sent and read by the kernels, contiguous:
 *              k      (64, W)  keys as they came, of the tile's dtype
 *              y      (64, W)  what the tensor cores read: preconditioned values (softmax: values) times their column's
 *                              factor, fp16, and fp32 where the tile's dtype is
 *              rnorm  (64)     fp32, 1 / sqrt(mean(k^2) + eps)
 *   rhs      (64, W)  fp32: values times their factor, less what has been subtracted; y once solved
 *   query    (64, W)  of the tile's dtype
 *   state    m (64), l (64), o (64, W): fp32, as in kernels.h
 *
 * 16-bit matrices lie in panels of 64 columns, rows 128 bytes long whose 16-byte chunks are permuted: chunk c of row r
 * at c ^ (r % 8), the 128-byte swizzle of Hopper's matrix instructions. So a record is copied to shared memory as it
 * stands, in any way, and eight rows of a column of chunks lie in eight different groups of banks.
 *
 * Values are scaled by a power of two for each column and sequence, so that the largest |v| of the whole column lies in
 * [1, 2). Since |Y|_2 <= 2 |V|_2 by column, |y| < 4 sqrt(N): fp16 holds that up to N = 2^28, and its 11 bits beat one
 * bf16 term by eight at the same cost. Weights lie in (0, 1] in the solve and below 2^8 in the softmax, so they are
 * fp16 too. */
#ifndef LUCID_KERNELS_CUDA_LAYOUT_H
#define LUCID_KERNELS_CUDA_LAYOUT_H

#include "kernels/kernels.h"

#ifdef __CUDACC__
#define LUCID_HOST_DEVICE static __host__ __device__ __forceinline__
#else
#define LUCID_HOST_DEVICE static inline
#endif

enum {
    LUCID_CUDA_PANEL = 64,         /* columns */
    LUCID_CUDA_PANEL_BYTES = 8192, /* of a granule, 16-bit */
    LUCID_CUDA_NORM_BYTES = 256,
};

typedef struct {
    lucid_dtype dtype; /* of keys and queries */
    int panels;        /* 1, 2 or 4 */
} lucid_cuda_shape;

LUCID_HOST_DEVICE int lucid_cuda_width(lucid_cuda_shape s) {
    return LUCID_CUDA_PANEL * s.panels;
}

/* Panels for these dimensions: kernels exist for 1, 2 and 4. */
LUCID_HOST_DEVICE int lucid_cuda_panels(int head_dim, int value_dim) {
    int d = head_dim > value_dim ? head_dim : value_dim;
    return d <= 64 ? 1 : d <= 128 ? 2 : 4;
}

LUCID_HOST_DEVICE size_t lucid_cuda_matrix_bytes(lucid_cuda_shape s) {
    return (size_t)LUCID_CUDA_PANEL_BYTES * s.panels * (s.dtype == LUCID_F32 ? 2 : 1);
}
LUCID_HOST_DEVICE size_t lucid_cuda_record_bytes(lucid_cuda_shape s) {
    return 2 * lucid_cuda_matrix_bytes(s) + LUCID_CUDA_NORM_BYTES;
}
LUCID_HOST_DEVICE size_t lucid_cuda_rhs_floats(lucid_cuda_shape s) {
    return (size_t)LUCID_GRANULE * lucid_cuda_width(s);
}
LUCID_HOST_DEVICE size_t lucid_cuda_state_floats(lucid_cuda_shape s) {
    return (size_t)LUCID_GRANULE * (2 + lucid_cuda_width(s));
}

/* Byte offset of chunk `chunk` (eight columns) of a row of a 16-bit matrix. */
LUCID_HOST_DEVICE int lucid_cuda_chunk(int row, int chunk) {
    return (chunk >> 3) * LUCID_CUDA_PANEL_BYTES + row * 128 + (((chunk ^ row) & 7) << 4);
}

/* Byte offset of an element of a matrix. */
LUCID_HOST_DEVICE int lucid_cuda_element(lucid_cuda_shape s, int row, int column) {
    if (s.dtype == LUCID_F32) return 4 * (row * lucid_cuda_width(s) + column);
    return lucid_cuda_chunk(row, column >> 3) + 2 * (column & 7);
}

/* --- fragments of mma.m16n8k16, as the PTX manual lays them out over the 32 lanes of a warp --- */

/* The row of a 16-row tile, and the column of an 8-column one, of accumulator c[i]. */
LUCID_HOST_DEVICE int lucid_mma_row(int lane, int i) {
    return (lane >> 2) + 8 * (i >> 1);
}
LUCID_HOST_DEVICE int lucid_mma_column(int lane, int i) {
    return 2 * (lane & 3) + (i & 1);
}
/* ldmatrix.x4: the (row, chunk) whose address a lane brings, from the tile's first ones. Row operand, 16 rows by 16
 * columns, and, transposed, a value operand, 16 keys by 16 columns: */
LUCID_HOST_DEVICE int lucid_mma_row_lane(int lane) {
    return lane & 15;
}
LUCID_HOST_DEVICE int lucid_mma_row_chunk(int lane) {
    return lane >> 4;
}
/* Key operand, 16 keys by 16 columns: registers 0 and 1 are the first eight keys', 2 and 3 the others'. */
LUCID_HOST_DEVICE int lucid_mma_key_lane(int lane) {
    return (lane & 7) + ((lane >> 4) << 3);
}
LUCID_HOST_DEVICE int lucid_mma_key_chunk(int lane) {
    return (lane >> 3) & 1;
}

#endif
