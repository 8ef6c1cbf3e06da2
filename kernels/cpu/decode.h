/* One new token against cached records: a product of a few rows with a stream that comes from memory once. Per granule
 * all rows' scores are made while its keys are in registers, then the exponentials, then all rows' sums while its
 * values are; keys and values are asked for far enough ahead that memory never waits for arithmetic. */
#ifndef LUCID_CPU_DECODE_H
#define LUCID_CPU_DECODE_H

#include <math.h>
#include <string.h>

#include "kernels/cpu/pack.h"
#include "kernels/cpu/panel.h"

/* Processors fetch ahead within a page by themselves, but stop at its end. */
enum { DECODE_AHEAD_BYTES = 4096 };

/* The loops over rows take constant numbers of them: STEP(rows, ...), rows = 1..DECODE_ROWS. */
#define WITH_ROWS(n, step, ...)                                \
    do {                                                       \
        if ((n) == 1) step(1, __VA_ARGS__);                    \
        if ((n) == 2) step(2, __VA_ARGS__);                    \
        if (DECODE_ROWS > 2 && (n) == 3) step(3, __VA_ARGS__); \
        if (DECODE_ROWS > 2 && (n) == 4) step(4, __VA_ARGS__); \
        if (DECODE_ROWS > 2 && (n) == 5) step(5, __VA_ARGS__); \
        if (DECODE_ROWS > 2 && (n) == 6) step(6, __VA_ARGS__); \
    } while (0)

/* What stays the same from granule to granule. */
typedef struct {
    const lucid_decode_shape *shape;
    const float *rows;
    float *m, *l, *o; /* o (group, w), sum behind it */
    float *p;         /* (n_rows, 64) */
    int n_rows;       /* the queries and, when there is a solve, the key */
    float bias;       /* -sqrt(d) log2(e) */
} decode_pass;

INLINE void decode_ahead(const char *at, size_t bytes) {
    UNROLL for (size_t b = 0; b < bytes; b += 64)
        vec_prefetch((const float *)(const void *)(at + b + DECODE_AHEAD_BYTES));
}

/* dst (rows, cols vectors) += one chain of n terms, from zero: x's rows times vectors of dtype, y_step bytes apart. */
INLINE void add_chain(const int rows, const int cols, float *dst, size_t dst_ld, const float *x, ptrdiff_t x_row,
                      ptrdiff_t x_step, const char *y, size_t y_step, const lucid_dtype dtype, int n) {
    const size_t vec_bytes = VEC * lucid_dtype_bytes(dtype);
    vec acc[DECODE_ROWS][DECODE_COLS];
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < cols; v++) acc[r][v] = vec_zero();
    }
    for (int i = 0; i < n; i++, x += x_step, y += y_step) {
        vec b[DECODE_COLS];
        decode_ahead(y, cols * vec_bytes);
        UNROLL for (int v = 0; v < cols; v++) b[v] = load_elements(y + v * vec_bytes, dtype);
        UNROLL for (int r = 0; r < rows; r++) {
            vec a = vec_set1(x[r * x_row]);
            UNROLL for (int v = 0; v < cols; v++) acc[r][v] = vec_fma(a, b[v], acc[r][v]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < cols; v++) {
            float *to = dst + r * dst_ld + v * VEC;
            vec_store(to, vec_add(vec_load(to), acc[r][v]));
        }
    }
}

/* p (rows, 64) = start + the rows' products with a granule's keys, in four chains as attend's. */
INLINE void score_rows(const int rows, float *p, const float *start, const float *x, ptrdiff_t ld, const char *kt,
                       const lucid_dtype dtype, int d) {
    const size_t bytes = lucid_dtype_bytes(dtype);
    const int length = (d + 3) / 4;
    UNROLL for (int j = 0; j < GRANULE; j += DECODE_COLS * VEC) {
        UNROLL for (int r = 0; r < rows; r++) {
            UNROLL for (int v = 0; v < DECODE_COLS; v++) vec_store(p + r * GRANULE + j + v * VEC, vec_set1(start[r]));
        }
        for (int c = 0; c < d; c += length) {
            const int n = d - c < length ? d - c : length;
            add_chain(rows, DECODE_COLS, p + j, GRANULE, x + c * ld, 1, ld, kt + (c * GRANULE + j) * bytes,
                      GRANULE * bytes, dtype, n);
        }
    }
}

/* The scores of n rows from `first` on: a query's start at -m, the key's at zero. */
INLINE void decode_scores(const decode_pass *s, int first, int n, const char *kt, const lucid_dtype dtype) {
    const int group = s->shape->group, d = s->shape->shape.head_dim;
    float start[DECODE_ROWS];
    for (int r = 0; r < n; r++) start[r] = first + r < group ? -s->m[first + r] : 0;
    WITH_ROWS(n, score_rows, s->p + first * GRANULE, start, s->rows + first, group + 1, kt, dtype, d);
}

/* dst (rows, w) += p (rows, n) y (n, w) */
INLINE void value_rows(const int rows, float *dst, const float *p, const char *y, const lucid_dtype dtype, int w,
                       int n) {
    const size_t bytes = lucid_dtype_bytes(dtype);
    int c = 0;
    for (; c + DECODE_COLS * VEC <= w; c += DECODE_COLS * VEC)
        add_chain(rows, DECODE_COLS, dst + c, w, p, GRANULE, 1, y + c * bytes, w * bytes, dtype, n);
    for (; c < w; c += VEC) add_chain(rows, 1, dst + c, w, p, GRANULE, 1, y + c * bytes, w * bytes, dtype, n);
}

/* p = exp2 of a query's scores, zero from key n on; returns them added up lane by lane. */
INLINE vec weights_of(float *p, int n) {
    vec sum = vec_zero();
    for (int j = 0; j < GRANULE; j += VEC) {
        vec x = vec_exp2(vec_load(p + j));
        if (n < GRANULE) x = vec_first(x, n - j);
        vec_store(p + j, x);
        sum = vec_add(sum, x);
    }
    return sum;
}

/* The same for the key: p = P, which no sum is wanted of, so that later keys' do no harm. */
INLINE void kernel_weights(float *p, const float *rnorm, float bias) {
    for (int j = 0; j < GRANULE; j += VEC) {
        vec x = vec_exp2(vec_fma(vec_load(p + j), vec_load(rnorm + j), vec_set1(bias)));
        vec_store(p + j, x);
    }
}

/* Row h's reference rises to its largest score of the granule's first n keys; what it has summed is rescaled, and its
 * scores are made again. Rare. */
static __attribute__((noinline, cold)) void decode_raise(decode_pass *s, int h, const char *kt, int n) {
    const int w = s->shape->shape.value_ld;
    const float before = s->m[h];
    float largest = before, *p = s->p + h * GRANULE;
    s->m[h] = 0;
    if (s->shape->dtype == LUCID_F32) decode_scores(s, h, 1, kt, LUCID_F32);
    if (s->shape->dtype == LUCID_BF16) decode_scores(s, h, 1, kt, LUCID_BF16);
    for (int j = 0; j < n; j++) largest = fmaxf(largest, p[j]);
    s->m[h] = largest;
    vec factor = vec_exp2(vec_set1(before - largest));
    s->l[h] *= vec_lane0(factor);
    for (int c = 0; c < w; c += VEC) {
        float *o = s->o + (size_t)h * w + c;
        vec_store(o, vec_mul(vec_load(o), factor));
    }
    if (s->shape->dtype == LUCID_F32) decode_scores(s, h, 1, kt, LUCID_F32);
    if (s->shape->dtype == LUCID_BF16) decode_scores(s, h, 1, kt, LUCID_BF16);
}

/* Weights of up to VEC queries from `first` on, and l. */
INLINE void decode_weights(decode_pass *s, int first, int count, const char *kt, int n) {
    const vec limit = vec_set1((float)(1ull << LUCID_RESCALE_EXPONENT));
    float *p = s->p + first * GRANULE;
    vec each[VEC];
    for (int r = 0; r < VEC; r++) each[r] = r < count ? weights_of(p + r * GRANULE, n) : vec_zero();
    vec sums = vec_row_sums(each);
    unsigned high = vec_not_below(sums, limit);
    if (__builtin_expect(high != 0, 0)) {
        for (int r = 0; r < count; r++) {
            if (!(high >> r & 1)) continue;
            decode_raise(s, first + r, kt, n);
            each[r] = weights_of(p + r * GRANULE, n);
        }
        sums = vec_row_sums(each);
    }
    vec_store(s->l + first, vec_add(vec_load(s->l + first), sums));
}

INLINE void decode_granule(decode_pass *s, const char *record, const lucid_dtype dtype, int n) {
    const lucid_shape shape = s->shape->shape;
    const int group = s->shape->group;
    const char *y = record + lucid_cached_values(shape, dtype);
    for (int r = 0; r < s->n_rows; r += DECODE_ROWS)
        decode_scores(s, r, s->n_rows - r < DECODE_ROWS ? s->n_rows - r : DECODE_ROWS, record, dtype);
    for (int h = 0; h < group; h += VEC) decode_weights(s, h, group - h < VEC ? group - h : VEC, record, n);
    if (s->n_rows > group)
        kernel_weights(s->p + group * GRANULE, (const float *)(const void *)(record + lucid_cached_rnorm(shape, dtype)),
                       s->bias);
    for (int r = 0; r < s->n_rows; r += DECODE_ROWS) {
        const int rows = s->n_rows - r < DECODE_ROWS ? s->n_rows - r : DECODE_ROWS;
        float *dst = s->o + (size_t)r * shape.value_ld;
        WITH_ROWS(rows, value_rows, dst, s->p + r * GRANULE, y, dtype, shape.value_ld, n);
    }
}

INLINE void decode_granules(decode_pass *s, const char *cached, const lucid_dtype dtype, int64_t n_tokens) {
    const size_t record_bytes = lucid_cached_bytes(s->shape->shape, dtype);
    for (; n_tokens > 0; n_tokens -= GRANULE, cached += record_bytes)
        decode_granule(s, cached, dtype, n_tokens < GRANULE ? (int)n_tokens : GRANULE);
}

static void decode(float *partial, const float *rows, const void *cached, int64_t n_tokens,
                   const lucid_decode_shape *shape, float *scratch) {
    unsigned mode = float_mode_enter();
    decode_pass s = {.shape = shape,
                     .rows = rows,
                     .m = partial,
                     .l = partial + lucid_partial_l(shape),
                     .o = partial + lucid_partial_o(shape),
                     .p = scratch,
                     .n_rows = shape->group + shape->solve,
                     .bias = (float)(-sqrt(shape->shape.head_dim) * M_LOG2E)};
    if (shape->dtype == LUCID_F32) decode_granules(&s, cached, LUCID_F32, n_tokens);
    if (shape->dtype == LUCID_BF16) decode_granules(&s, cached, LUCID_BF16, n_tokens);
    float_mode_leave(mode);
}

static void decode_begin(float *partial, const float *rows, const float *key, const lucid_decode_shape *shape) {
    memset(partial, 0, sizeof(float) * lucid_partial_floats(shape));
    for (int h = 0; h < shape->group; h++) {
        float own = 0;
        for (int c = 0; c < shape->shape.head_dim; c++) own = fmaf(rows[c * (shape->group + 1) + h], key[c], own);
        partial[h] = fabsf(own) < LUCID_START_EXPONENT ? 0 : own;
    }
}

/* 2^(m - largest), exactly 1 for the largest, which exp2's last place might spoil again and again. */
INLINE vec merge_factor(float m, float largest) {
    return m == largest ? vec_set1(1) : vec_exp2(vec_set1(m - largest));
}

/* to (w) = to * a + from * b */
INLINE void merge_row(float *to, vec a, const float *from, vec b, int w) {
    for (int c = 0; c < w; c += VEC) vec_store(to + c, vec_fma(vec_load(from + c), b, vec_mul(vec_load(to + c), a)));
}

static void decode_merge(float *partial, const float *other, const lucid_decode_shape *shape) {
    unsigned mode = float_mode_enter();
    const int w = shape->shape.value_ld;
    const size_t l = lucid_partial_l(shape);
    for (int h = 0; h < shape->group; h++) {
        const float m = fmaxf(partial[h], other[h]);
        const vec a = merge_factor(partial[h], m), b = merge_factor(other[h], m);
        const size_t o = lucid_partial_o(shape) + (size_t)h * w;
        partial[h] = m;
        partial[l + h] = partial[l + h] * vec_lane0(a) + other[l + h] * vec_lane0(b);
        merge_row(partial + o, a, other + o, b, w);
    }
    const size_t sum = lucid_partial_sum(shape);
    if (shape->solve) merge_row(partial + sum, vec_set1(1), other + sum, vec_set1(1), w);
    float_mode_leave(mode);
}

/* The loads of eight chains keep as many lines on their way as a core can; additions of anything take the same time, as
 * denormals are flushed. */
static float read_burst(const void *data, size_t n_bytes) {
    enum { CHAINS = 8, STEP = 1024 };
    unsigned mode = float_mode_enter();
    const char *at = data, *end = at + n_bytes;
    vec sum[CHAINS];
    UNROLL for (int k = 0; k < CHAINS; k++) sum[k] = vec_zero();
    for (; at < end; at += STEP) {
        decode_ahead(at, STEP);
        UNROLL for (int k = 0; k < STEP / (4 * VEC); k++) sum[k % CHAINS] =
            vec_add(sum[k % CHAINS], vec_load((const float *)(const void *)at + k * VEC));
    }
    UNROLL for (int k = 1; k < CHAINS; k++) sum[0] = vec_add(sum[0], sum[k]);
    float_mode_leave(mode);
    return vec_lane0(sum[0]);
}

#endif
