/* The two matrix products that everything else is made of, on panels of up to PANEL_ROWS rows:
 *
 *   score_block    acc (rows, cols vectors) += panel^T kt     FMA chains over the head dimension
 *   product_block  acc (rows, cols vectors)  = p y            FMA chains over keys, from zero
 *
 * `rows` and `cols` are compile-time constants after inlining, so that acc lives in registers; d, n_keys and the
 * strides are loops. A row's chain never depends on rows or cols, hence neither do its bits. */
#ifndef LUCID_CPU_PANEL_H
#define LUCID_CPU_PANEL_H

#include "kernels/kernels.h"

enum { GRANULE = LUCID_GRANULE };

/* panel (d, VEC) = rows i0.. of qt (d, 64), times scale (64) where that is given. Returns the panel's first row: near
 * the granule's end the vectors start before i0. */
INLINE const float *pack_panel(float *panel, const float *qt, const float *scale, int i0, int d) {
    int base = i0 < GRANULE - VEC ? i0 : GRANULE - VEC;
    vec factor = scale ? vec_loadu(scale + base) : vec_set1(1);
    for (int c = 0; c < d; c++) vec_store(panel + c * VEC, vec_mul(vec_loadu(qt + c * GRANULE + base), factor));
    return panel + (i0 - base);
}

INLINE void score_block(vec acc[PANEL_ROWS][2], const int rows, const int cols, const float *panel, const float *kt,
                        int d) {
    for (int c = 0; c < d; c++) {
        vec k[2];
        UNROLL for (int v = 0; v < cols; v++) k[v] = vec_load(kt + c * GRANULE + v * VEC);
        UNROLL for (int r = 0; r < rows; r++) {
            vec q = vec_set1(panel[c * VEC + r]);
            UNROLL for (int v = 0; v < cols; v++) acc[r][v] = vec_fma(q, k[v], acc[r][v]);
        }
    }
}

INLINE void product_block(vec acc[PANEL_ROWS][2], const int rows, const int cols, const float *p, const int p_ld,
                          const float *y, int w, int n_keys) {
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < cols; v++) acc[r][v] = vec_zero();
    }
    for (int j = 0; j < n_keys; j++) {
        vec b[2];
        UNROLL for (int v = 0; v < cols; v++) b[v] = vec_load(y + (size_t)j * w + v * VEC);
        UNROLL for (int r = 0; r < rows; r++) {
            vec a = vec_set1(p[r * p_ld + j]);
            UNROLL for (int v = 0; v < cols; v++) acc[r][v] = vec_fma(a, b[v], acc[r][v]);
        }
    }
}

typedef enum { ASSIGN, ADD, SUBTRACT } product_sink;

INLINE void product_columns(float *dst, const product_sink sink, const int rows, const int cols, const float *p,
                            const int p_ld, const float *y, int w, int n_keys) {
    vec acc[PANEL_ROWS][2];
    product_block(acc, rows, cols, p, p_ld, y, w, n_keys);
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < cols; v++) {
            float *x = dst + r * w + v * VEC;
            vec_store(x, sink == ADD        ? vec_add(vec_load(x), acc[r][v])
                         : sink == SUBTRACT ? vec_sub(vec_load(x), acc[r][v])
                                            : acc[r][v]);
        }
    }
}

/* dst (rows, w) =, += or -= p (rows, n_keys) y (n_keys, w). With ASSIGN, dst may be rows of y. */
INLINE void product(float *dst, const product_sink sink, const int rows, const float *p, const int p_ld, const float *y,
                    int w, int n_keys) {
    int col = 0;
    for (; col + 2 * VEC <= w; col += 2 * VEC) product_columns(dst + col, sink, rows, 2, p, p_ld, y + col, w, n_keys);
    if (col < w) product_columns(dst + col, sink, rows, 1, p, p_ld, y + col, w, n_keys);
}

/* The loops over a granule's panels: STEP(rows, i0) with constant rows. */
#define FOR_EACH_PANEL(step, ...)                                                                  \
    do {                                                                                           \
        int i0_ = 0;                                                                               \
        for (; i0_ + PANEL_ROWS <= GRANULE; i0_ += PANEL_ROWS) step(PANEL_ROWS, i0_, __VA_ARGS__); \
        step(PANEL_LAST, i0_, __VA_ARGS__);                                                        \
    } while (0)

/* Kernels flush denormals, whatever the caller's mode: far-away keys' exp2 would cost an assist of 150 cycles each. */
INLINE unsigned float_mode_enter(void) {
    unsigned mode = _mm_getcsr();
    _mm_setcsr(_MM_MASK_MASK | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON);
    return mode;
}
INLINE void float_mode_leave(unsigned mode) {
    _mm_setcsr(mode);
}

#endif
