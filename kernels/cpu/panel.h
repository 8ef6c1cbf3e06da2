/* The two matrix products that everything else is made of, on panels of up to PANEL_ROWS rows, as chains of FMAs in
 * registers:
 *
 *   score_chain    acc (rows, cols vectors) += panel^T kt    over the head dimension
 *   product        dst (rows, w) =, +=, -= p y               over keys, from zero
 *
 * `rows` and `cols` are compile-time constants after inlining, so that acc lives in registers; d, n_keys and the
 * strides are run-time loops. A row's chain never depends on rows or cols, hence neither do its bits. */
#ifndef LUCID_CPU_PANEL_H
#define LUCID_CPU_PANEL_H

#include "kernels/kernels.h"

enum { GRANULE = LUCID_GRANULE };

/* Two steps of a chain per turn: a loop's own instructions compete with FMAs for ports. More gain nothing, since the
 * code of a whole granule should stay in the micro-operation cache. */
#define UNROLL_STEPS _Pragma("GCC unroll 2")

/* Keys and values of a granule do not fit the first-level cache together: each row of them is asked for this many steps
 * ahead (1 % at d = 128, more where a neighbour shares the cache). */
enum { PREFETCH_STEPS = 4 };

/* Gives a pointer a register of its own: offsets from it fit one byte, where the compiler would fold it into others'.
 */
#define OWN_REGISTER(pointer) __asm__("" : "+r"(pointer))

/* Where a panel's vectors start: near the granule's end they start before row i0. */
INLINE int panel_base(int i0) {
    return i0 < GRANULE - VEC ? i0 : GRANULE - VEC;
}

/* panel (d, VEC) = rows i0.. of qt (d, 64), times factor, lane by lane. Returns the panel's first row. */
INLINE const float *pack_panel(float *panel, const float *qt, vec factor, int i0, int d) {
    int base = panel_base(i0);
    for (int c = 0; c < d; c++) vec_store(panel + c * VEC, vec_mul(vec_loadu(qt + c * GRANULE + base), factor));
    return panel + (i0 - base);
}

/* How a chain starts: from what acc holds, or from zero, adding or subtracting products. */
typedef enum { CONTINUE, POSITIVE, NEGATIVE } chain_start;

/* One step: acc_rv += a_r b_v, with a_r at a[r / 4][(r % 4 - 2) * a_row + at]; `first` starts from zero instead. */
INLINE void chain_step(vec acc[PANEL_ROWS][2], const bool first, const bool negative, const int rows, const int cols,
                       const float *const a[4], const int a_row, ptrdiff_t at, const float *b, size_t b_step) {
    vec y[2];
    UNROLL for (int v = 0; v < cols; v++) {
        y[v] = vec_load(b + v * VEC);
        vec_prefetch(b + v * VEC + PREFETCH_STEPS * b_step);
    }
    UNROLL for (int r = 0; r < rows; r++) {
        vec x = vec_set1(a[r / 4][(r % 4 - 2) * a_row + at]);
        UNROLL for (int v = 0; v < cols; v++) {
            vec sum = first ? vec_zero() : acc[r][v];
            acc[r][v] = negative ? vec_fnma(x, y[v], sum) : first ? vec_mul(x, y[v]) : vec_fma(x, y[v], sum);
        }
    }
}

/* n >= 1 steps: a_r moves on by a_step from step to step, and b by b_step. */
INLINE void chain(vec acc[PANEL_ROWS][2], const chain_start start, const int rows, const int cols, const float *a,
                  const int a_row, const int a_step, const float *b, size_t b_step, int n) {
    const float *bases[4];
    UNROLL for (int k = 0; 4 * k < rows; k++) {
        bases[k] = a + (4 * k + 2) * a_row;
        OWN_REGISTER(bases[k]);
    }
    ptrdiff_t at = 0, end = (ptrdiff_t)n * a_step;
    if (start != CONTINUE) {
        chain_step(acc, true, start == NEGATIVE, rows, cols, bases, a_row, at, b, b_step);
        at += a_step, b += b_step;
    }
    UNROLL_STEPS for (; at < end; at += a_step, b += b_step)
        chain_step(acc, false, start == NEGATIVE, rows, cols, bases, a_row, at, b, b_step);
}

INLINE void score_chain(vec acc[PANEL_ROWS][2], const chain_start start, const int rows, const int cols,
                        const float *panel, const float *kt, int d) {
    chain(acc, start, rows, cols, panel, 1, VEC, kt, GRANULE, d);
}

typedef enum { ASSIGN, ADD, SUBTRACT } product_sink;

/* Subtracting, the chain itself is negative: its final addition to dst is then one instruction with its load. */
INLINE void product_columns(float *dst, const product_sink sink, const int rows, const int cols, const float *p,
                            const int p_ld, const float *y, int w, int n_keys) {
    vec acc[PANEL_ROWS][2];
    chain(acc, sink == SUBTRACT ? NEGATIVE : POSITIVE, rows, cols, p, p_ld, 1, y, w, n_keys);
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < cols; v++) {
            float *x = dst + r * w + v * VEC;
            vec_store(x, sink == ASSIGN ? acc[r][v] : vec_add(vec_load(x), acc[r][v]));
        }
    }
}

/* dst (rows, w) =, += or -= p (rows, n_keys) y (n_keys, w), n_keys >= 1. With ASSIGN, dst may be rows of y. */
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

/* dot_i = sum_c a_ci b_ci of two (d, 64) matrices; a granule's chains side by side hide each other's latency. */
INLINE void column_dots(float *dot, const float *a, const float *b, int d) {
    vec sum[GRANULE / VEC];
    UNROLL for (int v = 0; v < GRANULE / VEC; v++) sum[v] = vec_zero();
    for (int c = 0; c < d; c++) {
        UNROLL for (int v = 0; v < GRANULE / VEC; v++) sum[v] =
            vec_fma(vec_load(a + c * GRANULE + v * VEC), vec_load(b + c * GRANULE + v * VEC), sum[v]);
    }
    UNROLL for (int v = 0; v < GRANULE / VEC; v++) vec_store(dot + v * VEC, sum[v]);
}

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
