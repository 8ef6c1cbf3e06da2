/* U and S: the LUCID solve's update and diagonal kernels. */
#ifndef LUCID_CPU_SOLVE_H
#define LUCID_CPU_SOLVE_H

#include <math.h>
#include <string.h>

#include "kernels/cpu/panel.h"

enum { SOLVE_BLOCK = 16 };

/* What turns raw keys into P: rows are scaled while their panel is packed, keys in the exponent. */
typedef struct {
    float row_scale[GRANULE] __attribute__((aligned(64))); /* rnorm_i log2(e) / sqrt(d) */
    float bias;                                            /* -sqrt(d) log2(e) */
} kernel_scale;

static void kernel_scale_init(kernel_scale *scale, const float *rnorm, int d) {
    vec factor = vec_set1((float)(M_LOG2E / sqrt(d)));
    for (int i = 0; i < GRANULE; i += VEC) vec_store(scale->row_scale + i, vec_mul(vec_load(rnorm + i), factor));
    scale->bias = (float)(-sqrt(d) * M_LOG2E);
}

INLINE void kernel_block(float *p, const int rows, const int cols, const float *panel, float bias, const float *key,
                         const float *rnorm, int d) {
    vec acc[PANEL_ROWS][2];
    score_chain(acc, POSITIVE, rows, cols, panel, key, d);
    UNROLL for (int v = 0; v < cols; v++) {
        vec norm = vec_load(rnorm + v * VEC), start = vec_set1(bias);
        UNROLL for (int r = 0; r < rows; r++)
            vec_store(p + r * GRANULE + v * VEC, vec_exp2(vec_fma(acc[r][v], norm, start)));
    }
}

/* p (rows, 64): P of a panel's rows with the first n_keys of the granule `key`, and up to a vector more. */
INLINE void kernel_panel(float *p, const int rows, const float *panel, float bias, const float *key, lucid_shape shape,
                         int n_keys) {
    const float *rnorm = key + lucid_record_rnorm(shape);
    int j = 0;
    for (; j + VEC < n_keys; j += 2 * VEC)
        kernel_block(p + j, rows, 2, panel, bias, key + j, rnorm + j, shape.head_dim);
    if (j < n_keys) kernel_block(p + j, rows, 1, panel, bias, key + j, rnorm + j, shape.head_dim);
}

INLINE void update_panel(const int rows, int i0, float *row, const float *const *keys, int64_t n_keys,
                         const kernel_scale *scale, lucid_shape shape, float *scratch) {
    float *p = scratch, *y = row + lucid_record_values(shape) + (size_t)i0 * shape.value_ld;
    const float *panel =
        pack_panel(scratch + GRANULE * GRANULE, row, vec_loadu(scale->row_scale + panel_base(i0)), i0, shape.head_dim);
    for (int64_t g = 0; g < n_keys; g++) {
        kernel_panel(p, rows, panel, scale->bias, keys[g], shape, GRANULE);
        product(y, SUBTRACT, rows, p, GRANULE, keys[g] + lucid_record_values(shape), shape.value_ld, GRANULE);
    }
}

static void update(float *row, const float *const *keys, int64_t n_keys, lucid_shape shape, float *scratch) {
    unsigned mode = float_mode_enter();
    kernel_scale scale;
    kernel_scale_init(&scale, row + lucid_record_rnorm(shape), shape.head_dim);
    FOR_EACH_PANEL(update_panel, row, keys, n_keys, &scale, shape, scratch);
    float_mode_leave(mode);
}

/* Rows i0.. of the granule's own P, below the diagonal; what lies on and above it is zero or unset. */
INLINE void diagonal_panel(const int rows, int i0, float *p, const float *row, const kernel_scale *scale,
                           lucid_shape shape, float *panel_scratch) {
    const float *panel =
        pack_panel(panel_scratch, row, vec_loadu(scale->row_scale + panel_base(i0)), i0, shape.head_dim);
    kernel_panel(p + i0 * GRANULE, rows, panel, scale->bias, row, shape, i0 + rows);
}

/* inverse (16, 16) = (I + strictly lower part of p (16, 64))^-1, by forward substitution on the identity. */
static void invert_block(float *inverse, const float *p) {
    for (int col = 0; col < SOLVE_BLOCK; col += VEC) {
        vec x[SOLVE_BLOCK];
        UNROLL for (int i = 0; i < SOLVE_BLOCK; i++) {
            vec one = vec_set1(1);
            x[i] = vec_sub(vec_first(one, i - col + 1), vec_first(one, i - col));
        }
        UNROLL for (int j = 0; j < SOLVE_BLOCK; j++) {
            UNROLL for (int i = j + 1; i < SOLVE_BLOCK; i++) x[i] = vec_fnma(vec_set1(p[i * GRANULE + j]), x[j], x[i]);
        }
        UNROLL for (int i = 0; i < SOLVE_BLOCK; i++) vec_store(inverse + i * SOLVE_BLOCK + col, x[i]);
    }
}

/* y_b -= P_b,<b y_<b, then y_b = inverse_b y_b; the latter in place, since from the last rows upwards no row is read
 * after it was written. */
static void substitute_block(float *y, const float *p, const float *inverse, int b, int w) {
    float *y_b = y + (size_t)b * w;
    for (int i = 0; b > 0 && i < SOLVE_BLOCK; i += SOLVE_ROWS)
        product(y_b + i * w, SUBTRACT, SOLVE_ROWS, p + (b + i) * GRANULE, GRANULE, y, w, b);
    for (int i = SOLVE_BLOCK - SOLVE_ROWS; i >= 0; i -= SOLVE_ROWS)
        product(y_b + i * w, ASSIGN, SOLVE_ROWS, inverse + i * SOLVE_BLOCK, SOLVE_BLOCK, y_b, w, i + SOLVE_ROWS);
}

static void solve(float *row, lucid_shape shape, float *scratch) {
    unsigned mode = float_mode_enter();
    float *p = scratch, *inverse = p + GRANULE * GRANULE, *panel = inverse + SOLVE_BLOCK * SOLVE_BLOCK;
    kernel_scale scale;
    kernel_scale_init(&scale, row + lucid_record_rnorm(shape), shape.head_dim);
    FOR_EACH_PANEL(diagonal_panel, p, row, &scale, shape, panel);
    for (int b = 0; b < GRANULE; b += SOLVE_BLOCK) {
        invert_block(inverse, p + b * GRANULE + b);
        substitute_block(row + lucid_record_values(shape), p, inverse, b, shape.value_ld);
    }
    float_mode_leave(mode);
}

#endif
