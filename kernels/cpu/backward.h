/* Backward of A, U and S.
 *
 * A pair's tile is computed as (keys j, rows i): a panel of keys against a row granule's 64 columns. So a panel holds
 * whole rows of the tile transposed, which dkeys and dvalues multiply at once, while ds stays in scratch for the row's
 * own sum. Of the row granule, products stream qt, dout, and the two transposed: these are made once a call and serve
 * all its keys. */
#ifndef LUCID_CPU_BACKWARD_H
#define LUCID_CPU_BACKWARD_H

#include <math.h>
#include <string.h>

#include "kernels/cpu/panel.h"
#include "kernels/cpu/solve.h"

enum { TAIL_ROWS = 4, VALUE_CHUNK = 16 * GRANULE, BLOCK_COLUMNS = 2 * VEC };

/* A row granule as the products read it, and the scratch of its pairs. */
typedef struct {
    const float *row;    /* query row or key row */
    const float *values; /* (64, w) dout or dv */
    float *rows;         /* (64, ld) q or k */
    float *values_t;     /* (w, 64) */
    float *ds;           /* (64, 64) ds or dx, transposed */
    float *p;            /* (panel, 64) weights, transposed */
    float *key_values;   /* (w / 64, 16, 64) a panel of y: its rows as near to each other as chains like them */
    lucid_shape shape;
} backward_row;

/* What a pair is a part of. */
typedef enum { OF_ATTEND, OF_UPDATE } pair_kind;

/* dst (64, ld) = transpose of src (d, 64) */
static void transpose_columns(float *dst, const float *src, int d, int ld) {
    vec x[VEC];
    for (int i = 0; i < GRANULE; i += VEC)
        for (int c = 0; c < ld; c += VEC) {
            UNROLL for (int r = 0; r < VEC; r++) x[r] = c + r < d ? vec_load(src + (c + r) * GRANULE + i) : vec_zero();
            vec_transpose(x);
            UNROLL for (int r = 0; r < VEC; r++) vec_store(dst + (i + r) * ld + c, x[r]);
        }
}

/* dst (w, 64) = transpose of src (64, w) */
static void transpose_values(float *dst, const float *src, int w) {
    vec x[VEC];
    for (int i = 0; i < GRANULE; i += VEC)
        for (int c = 0; c < w; c += VEC) {
            UNROLL for (int r = 0; r < VEC; r++) x[r] = vec_load(src + (i + r) * w + c);
            vec_transpose(x);
            UNROLL for (int r = 0; r < VEC; r++) vec_store(dst + (c + r) * GRANULE + i, x[r]);
        }
}

static backward_row stage_row(const float *row, lucid_shape shape, float *scratch) {
    int ld = lucid_key_ld(shape), w = shape.value_ld;
    backward_row r = {.row = row, .values = row + lucid_record_values(shape), .shape = shape};
    r.rows = scratch;
    r.values_t = r.rows + GRANULE * ld;
    r.ds = r.values_t + GRANULE * w;
    r.p = r.ds + GRANULE * GRANULE;
    r.key_values = r.p + VALUE_CHUNK;
    transpose_columns(r.rows, row, shape.head_dim, ld);
    transpose_values(r.values_t, r.values, w);
    return r;
}

INLINE void stage_key_values(float *panel, const int rows, const float *y, int w) {
    for (int c = 0; c < w; c += VEC) {
        float *to = panel + c / GRANULE * VALUE_CHUNK + c % GRANULE;
        UNROLL for (int r = 0; r < rows; r++) vec_store(to + r * GRANULE, vec_load(y + r * w + c));
    }
}

/* acc += y_j . values_i */
INLINE void value_chain(vec acc[PANEL_ROWS][2], const int rows, const float *panel, const float *values_t,
                        int value_dim) {
    for (int c = 0; c < value_dim; c += GRANULE) {
        int n = value_dim - c < GRANULE ? value_dim - c : GRANULE;
        chain(acc, CONTINUE, rows, 2, panel + c / GRANULE * VALUE_CHUNK, GRANULE, 1, values_t + c * GRANULE, GRANULE,
              n);
    }
}

INLINE void start_chains(vec acc[PANEL_ROWS][2], const int rows, const float *start) {
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < 2; v++) acc[r][v] = start ? vec_load(start + v * VEC) : vec_zero();
    }
}

/* p and ds of keys j0.. with columns i..i + 2 VEC; row granules' own: rows before a key do not see it. */
INLINE void attend_block(const backward_row *r, const int rows, int j0, int i, const float *key, bool diagonal) {
    vec acc[PANEL_ROWS][2];
    float *p = r->p + i, *ds = r->ds + j0 * GRANULE + i;
    start_chains(acc, rows, r->row + lucid_record_rnorm(r->shape) + i);
    chain(acc, CONTINUE, rows, 2, key + j0, 1, GRANULE, r->row + i, GRANULE, r->shape.head_dim);
    UNROLL for (int k = 0; k < rows; k++) {
        UNROLL for (int v = 0; v < 2; v++) {
            vec w = vec_exp2(acc[k][v]);
            if (diagonal) w = vec_from(w, j0 + k - (i + v * VEC));
            vec_store(p + k * GRANULE + v * VEC, w);
        }
    }
    start_chains(acc, rows, r->row + lucid_query_row_delta(r->shape) + i);
    value_chain(acc, rows, r->key_values, r->values_t + i, r->shape.value_dim);
    UNROLL for (int k = 0; k < rows; k++) {
        UNROLL for (int v = 0; v < 2; v++)
            vec_store(ds + k * GRANULE + v * VEC, vec_mul(vec_load(p + k * GRANULE + v * VEC), acc[k][v]));
    }
}

INLINE void update_block(const backward_row *r, const int rows, int j0, int i, const float *key, bool diagonal) {
    const int d = r->shape.head_dim;
    const float *norm_i = r->row + lucid_record_rnorm(r->shape) + i, *norm_j = key + lucid_record_rnorm(r->shape) + j0;
    const vec bias = vec_set1((float)(-sqrt(d) * M_LOG2E));
    const float scale = (float)(M_LOG2E / sqrt(d)), gradient_scale = (float)(1 / sqrt(d));
    vec acc[PANEL_ROWS][2];
    float *p = r->p + i, *dx = r->ds + j0 * GRANULE + i;
    start_chains(acc, rows, NULL);
    chain(acc, CONTINUE, rows, 2, key + j0, 1, GRANULE, r->row + i, GRANULE, d);
    UNROLL for (int k = 0; k < rows; k++) {
        vec factor = vec_set1(norm_j[k] * scale);
        UNROLL for (int v = 0; v < 2; v++) {
            vec w = vec_exp2(vec_fma(acc[k][v], vec_mul(vec_load(norm_i + v * VEC), factor), bias));
            if (diagonal) w = vec_from(w, j0 + k + 1 - (i + v * VEC));
            vec_store(p + k * GRANULE + v * VEC, w);
        }
    }
    start_chains(acc, rows, NULL);
    value_chain(acc, rows, r->key_values, r->values_t + i, r->shape.value_dim);
    UNROLL for (int k = 0; k < rows; k++) {
        vec factor = vec_set1(-norm_j[k] * gradient_scale);
        UNROLL for (int v = 0; v < 2; v++) {
            vec w = vec_mul(vec_load(p + k * GRANULE + v * VEC), vec_mul(vec_load(norm_i + v * VEC), factor));
            vec_store(dx + k * GRANULE + v * VEC, vec_mul(w, acc[k][v]));
        }
    }
}

/* A panel of keys j0..: its part of the tile and of the key's sums. On the diagonal rows before j0 see none of them:
 * what would be zeros is left out, and columns before j0's block are not set. */
INLINE void backward_panel(const int rows, int j0, const pair_kind kind, const backward_row *r,
                           const lucid_key_sums *key, bool diagonal) {
    const int w = r->shape.value_ld, ld = lucid_key_ld(r->shape), i0 = diagonal ? j0 : 0, n_rows = GRANULE - i0;
    const float *p = r->p + i0, *ds = r->ds + j0 * GRANULE + i0, *values = r->values + i0 * w;
    stage_key_values(r->key_values, rows, key->record + lucid_record_values(r->shape) + j0 * w, w);
    for (int i = i0 / BLOCK_COLUMNS * BLOCK_COLUMNS; i < GRANULE; i += BLOCK_COLUMNS)
        (kind == OF_ATTEND ? attend_block : update_block)(r, rows, j0, i, key->record, diagonal);
    if (!key->dkeys) return;
    if (kind == OF_ATTEND)
        product(key->dvalues + j0 * w, ADD, rows, p, GRANULE, values, w, n_rows);
    else if (!diagonal)
        product(key->dvalues + j0 * w, SUBTRACT, rows, p, GRANULE, values, w, n_rows);
    product(key->dkeys + j0 * ld, ADD, rows, ds, GRANULE, r->rows + i0 * ld, ld, n_rows);
}

/* sums (rows, 64) += kt ds; on the diagonal a block's columns see no keys behind it. */
INLINE void add_sums(const int rows, float *sums, const float *kt, const float *ds, bool diagonal) {
    for (int i = 0; i < GRANULE; i += BLOCK_COLUMNS)
        product_columns(sums + i, ADD, rows, 2, kt, GRANULE, ds + i, GRANULE, diagonal ? i + BLOCK_COLUMNS : GRANULE);
}

/* sums (d, 64) += kt ds, in panels of a multiple of four rows; the last four may reach over kt's end, where a record
 * goes on with other numbers, and over d, where the sums have room for what comes of them. */
static void add_row_sums(float *sums, const float *kt, const float *ds, int d, bool diagonal) {
    int c = 0;
    for (; c + PANEL_LAST <= d; c += PANEL_LAST)
        add_sums(PANEL_LAST, sums + c * GRANULE, kt + c * GRANULE, ds, diagonal);
    for (; c < d; c += TAIL_ROWS) add_sums(TAIL_ROWS, sums + c * GRANULE, kt + c * GRANULE, ds, diagonal);
}

INLINE void backward_pairs(const pair_kind kind, float *row_sums, const float *row, const lucid_key_sums *keys,
                           int64_t n_keys, bool diagonal, lucid_shape shape, float *scratch) {
    unsigned mode = float_mode_enter();
    backward_row r = stage_row(row, shape, scratch);
    for (int64_t g = 0; g < n_keys; g++) {
        FOR_EACH_PANEL(backward_panel, kind, &r, &keys[g], diagonal);
        if (row_sums) add_row_sums(row_sums, keys[g].record, r.ds, shape.head_dim, diagonal);
    }
    float_mode_leave(mode);
}

static void attend_backward(float *dqt, const float *row, const lucid_key_sums *keys, int64_t n_keys, lucid_shape shape,
                            float *scratch) {
    backward_pairs(OF_ATTEND, dqt, row, keys, n_keys, false, shape, scratch);
}

static void attend_backward_diag(float *dqt, const float *row, const lucid_key_sums *key, lucid_shape shape,
                                 float *scratch) {
    backward_pairs(OF_ATTEND, dqt, row, key, 1, true, shape, scratch);
}

static void update_backward(float *dkt, const float *row, const lucid_key_sums *keys, int64_t n_keys, lucid_shape shape,
                            float *scratch) {
    backward_pairs(OF_UPDATE, dkt, row, keys, n_keys, false, shape, scratch);
}

static void update_backward_diag(float *dkt, const float *row, const lucid_key_sums *key, lucid_shape shape,
                                 float *scratch) {
    backward_pairs(OF_UPDATE, dkt, row, key, 1, true, shape, scratch);
}

/* dst (rows, w) -= or = transpose of p (n_keys, rows), rows p_ld apart, times y (n_keys, w) */
INLINE void product_transposed(float *dst, const product_sink sink, const int rows, const float *p, const int p_ld,
                               const float *y, int w, int n_keys) {
    vec acc[PANEL_ROWS][2];
    for (int col = 0; col < w; col += VEC) {
        chain(acc, sink == SUBTRACT ? NEGATIVE : POSITIVE, rows, 1, p, 1, p_ld, y + col, w, n_keys);
        UNROLL for (int r = 0; r < rows; r++) {
            float *x = dst + r * w + col;
            vec_store(x, sink == ASSIGN ? acc[r][0] : vec_add(vec_load(x), acc[r][0]));
        }
    }
}

/* dv_b -= P_>b,b^T dv_>b, then dv_b = inverse_b^T dv_b; the latter in place, since from the first rows downwards no row
 * is read after it was written. */
static void substitute_block_backward(float *dv, const float *p, const float *inverse, int b, int w) {
    float *dv_b = dv + (size_t)b * w;
    int after = b + SOLVE_BLOCK;
    for (int j = 0; after < GRANULE && j < SOLVE_BLOCK; j += SOLVE_ROWS)
        product_transposed(dv_b + j * w, SUBTRACT, SOLVE_ROWS, p + after * GRANULE + b + j, GRANULE, dv + after * w, w,
                           GRANULE - after);
    for (int j = 0; j < SOLVE_BLOCK; j += SOLVE_ROWS)
        product_transposed(dv_b + j * w, ASSIGN, SOLVE_ROWS, inverse + j * SOLVE_BLOCK + j, SOLVE_BLOCK, dv_b + j * w,
                           w, SOLVE_BLOCK - j);
}

static void solve_backward(float *row, lucid_shape shape, float *scratch) {
    unsigned mode = float_mode_enter();
    float *p = scratch, *inverse = p + GRANULE * GRANULE, *panel = inverse + SOLVE_BLOCK * SOLVE_BLOCK;
    kernel_scale scale;
    kernel_scale_init(&scale, row + lucid_record_rnorm(shape), shape.head_dim);
    FOR_EACH_PANEL(diagonal_panel, p, row, &scale, shape, panel);
    for (int b = GRANULE - SOLVE_BLOCK; b >= 0; b -= SOLVE_BLOCK) {
        invert_block(inverse, p + b * GRANULE + b);
        substitute_block_backward(row + lucid_record_values(shape), p, inverse, b, shape.value_ld);
    }
    float_mode_leave(mode);
}

#endif
