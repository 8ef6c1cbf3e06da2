/* A: the softmax pass. */
#ifndef LUCID_CPU_ATTEND_H
#define LUCID_CPU_ATTEND_H

#include <math.h>
#include <string.h>

#include "kernels/cpu/exact.h"
#include "kernels/cpu/panel.h"

/* A panel's share of a granule's state, copied out of and back into it. */
typedef struct {
    float m[VEC] __attribute__((aligned(64)));
    float l[VEC] __attribute__((aligned(64)));
    float *o;           /* (rows, w), in the state itself */
    const float *panel; /* packed queries */
    float *p;           /* (rows, 64) */
} softmax_panel;

/* Keeps the compiler from sharing values between two chains, for which it would have to spill accumulators. */
#define APART(panel, kt, p) __asm__ volatile("" : "+r"(panel), "+r"(kt), "+r"(p) : : "memory")

/* p = exp2(x), the scores as one chain or as the sum of two. */
INLINE void softmax_block(float *p, const bool careful, const int rows, const int cols, const float *panel,
                          const float *m, const float *kt, int d) {
    vec acc[PANEL_ROWS][2];
    if (careful) {
        score_chain(acc, POSITIVE, rows, cols, panel, kt, d - d / 2);
        UNROLL for (int r = 0; r < rows; r++) {
            UNROLL for (int v = 0; v < cols; v++)
                vec_store(p + r * GRANULE + v * VEC, vec_sub(acc[r][v], vec_set1(m[r])));
        }
        panel += (d - d / 2) * VEC, kt += (d - d / 2) * GRANULE;
        APART(panel, kt, p);
        UNROLL for (int r = 0; r < rows; r++) {
            UNROLL for (int v = 0; v < cols; v++) acc[r][v] = vec_zero();
        }
        score_chain(acc, CONTINUE, rows, cols, panel, kt, d / 2);
    } else {
        UNROLL for (int r = 0; r < rows; r++) {
            UNROLL for (int v = 0; v < cols; v++) acc[r][v] = vec_set1(-m[r]);
        }
        score_chain(acc, CONTINUE, rows, cols, panel, kt, d);
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < cols; v++) {
            float *x = p + r * GRANULE + v * VEC;
            vec_store(x, vec_exp2(careful ? vec_add(vec_load(x), acc[r][v]) : acc[r][v]));
        }
    }
}

/* p = exp2(x) of one vector of keys, the scores as the sum of eight chains, added without loss into two numbers. */
INLINE void compensated_block(float *p, const int rows, const float *panel, const float *m, const float *kt, int d) {
    vec acc[PANEL_ROWS][2], sum[PANEL_ROWS], lost[PANEL_ROWS];
    const int length = (d + 7) / 8;
    UNROLL for (int r = 0; r < rows; r++) sum[r] = vec_set1(-m[r]), lost[r] = vec_zero();
    for (int c = 0; c < d; c += length) {
        score_chain(acc, POSITIVE, rows, 1, panel + c * VEC, kt + c * GRANULE, d - c < length ? d - c : length);
        UNROLL for (int r = 0; r < rows; r++) {
            vec next = vec_add(sum[r], acc[r][0]), added = vec_sub(next, sum[r]);
            vec error = vec_add(vec_sub(sum[r], vec_sub(next, added)), vec_sub(acc[r][0], added));
            sum[r] = next, lost[r] = vec_add(lost[r], error);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        vec weight = vec_exp2(sum[r]);
        vec_store(p + r * GRANULE, vec_fma(weight, vec_mul(lost[r], vec_set1((float)M_LN2)), weight));
    }
}

/* p = exp2(x) of cols vectors of keys. */
INLINE void weights_block(float *p, const lucid_precision precision, const int rows, const int cols, const float *panel,
                          const float *m, const float *kt, int d) {
    if (precision != LUCID_COMPENSATED) {
        softmax_block(p, precision == LUCID_CAREFUL, rows, cols, panel, m, kt, d);
        return;
    }
    UNROLL for (int v = 0; v < cols; v++) compensated_block(p + v * VEC, rows, panel, m, kt + v * VEC, d);
}

/* Row r may see the first n_seen + r keys of a granule: n_seen is 64 but on the diagonal, where later ones are cut off
 * here, before anything can see them. */
INLINE void cut_future(float *p, const int rows, int n_seen) {
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < GRANULE; j += VEC)
            vec_store(p + r * GRANULE + j, vec_first(vec_load(p + r * GRANULE + j), n_seen + r - j));
}

/* p = exp2(x) of a panel with a granule's keys; returns its row sums. */
INLINE vec softmax_scores(const softmax_panel *s, const lucid_precision precision, const int rows, const float *kt,
                          int d, int n_seen) {
    int n_keys = n_seen < GRANULE ? n_seen + rows - 1 : GRANULE, j = 0;
    for (; j + VEC < n_keys; j += 2 * VEC) weights_block(s->p + j, precision, rows, 2, s->panel, s->m, kt + j, d);
    if (j < n_keys) weights_block(s->p + j, precision, rows, 1, s->panel, s->m, kt + j, d);
    if (n_seen < GRANULE) cut_future(s->p, rows, n_seen);

    vec sum[VEC];
    UNROLL for (int r = 0; r < VEC; r++) sum[r] = vec_zero();
    UNROLL for (int r = 0; r < rows; r++) {
        sum[r] = vec_load(s->p + r * GRANULE);
        UNROLL for (int v = 1; v < GRANULE / VEC; v++) sum[r] = vec_add(sum[r], vec_load(s->p + r * GRANULE + v * VEC));
    }
    return vec_row_sums(sum);
}

/* The largest score of one query with the first n_keys keys. */
static float largest_score(const float *query, const float *kt, int d, int n_keys) {
    float score[GRANULE] __attribute__((aligned(64))), largest = -INFINITY;
    for (int j = 0; j < GRANULE; j += VEC) {
        vec acc = vec_zero();
        for (int c = 0; c < d; c++) acc = vec_fma(vec_set1(query[c * VEC]), vec_load(kt + c * GRANULE + j), acc);
        vec_store(score + j, acc);
    }
    for (int j = 0; j < n_keys; j++) largest = fmaxf(largest, score[j]);
    return largest;
}

/* Raises m of the rows whose bit is set to the granule's largest score and rescales what they have summed. Rare. */
static __attribute__((noinline, cold)) void raise_reference(softmax_panel *s, unsigned row_bits, const float *kt,
                                                            lucid_shape shape, int n_seen) {
    for (int r = 0; r < PANEL_ROWS; r++) {
        if (!(row_bits >> r & 1)) continue;
        float largest = largest_score(s->panel + r, kt, shape.head_dim, n_seen < GRANULE ? n_seen + r : GRANULE);
        if (!(largest > s->m[r])) continue;
        vec factor = vec_exp2(vec_set1(s->m[r] - largest));
        s->m[r] = largest;
        s->l[r] *= vec_lane0(factor);
        float *o = s->o + (size_t)r * shape.value_ld;
        for (int c = 0; c < shape.value_ld; c += VEC) vec_store(o + c, vec_mul(vec_load(o + c), factor));
    }
}

/* o += p y, over n_keys keys: one chain, or one for each half. */
INLINE void softmax_values(const softmax_panel *s, const lucid_precision precision, const int rows, const float *y,
                           int w, int n_keys) {
    const int length = precision == LUCID_COMPENSATED ? GRANULE / 2 : GRANULE;
    for (int j = 0; j < n_keys; j += length)
        product(s->o, ADD, rows, s->p + j, GRANULE, y + j * w, w, n_keys - j < length ? n_keys - j : length);
}

INLINE void softmax_granule(softmax_panel *s, const lucid_precision precision, const int rows, const float *key,
                            lucid_shape shape, int n_seen) {
    const vec limit = vec_set1((float)(1ull << LUCID_RESCALE_EXPONENT));
    vec sums = softmax_scores(s, precision, rows, key, shape.head_dim, n_seen);
    unsigned high = vec_not_below(sums, limit);
    if (__builtin_expect(high != 0, 0)) {
        raise_reference(s, high, key, shape, n_seen);
        sums = softmax_scores(s, precision, rows, key, shape.head_dim, n_seen);
    }
    vec_store(s->l, vec_add(vec_load(s->l), sums));
    int n_keys = n_seen < GRANULE ? n_seen + rows - 1 : GRANULE;
    softmax_values(s, precision, rows, key + lucid_record_values(shape), shape.value_ld, n_keys);
}

INLINE void attend_panel(const int rows, int i0, float *state, const float *qt, const float *const *keys,
                         int64_t n_keys, bool diagonal, const lucid_precision precision, double scale,
                         lucid_shape shape, float *scratch) {
    float *m = state, *l = state + GRANULE;
    softmax_panel s = {.o = state + 2 * GRANULE + (size_t)i0 * shape.value_ld, .p = scratch};
    s.panel = pack_panel(scratch + GRANULE * GRANULE, qt, vec_set1((float)scale), i0, shape.head_dim);
    memcpy(s.m, m + i0, rows * sizeof *m);
    memcpy(s.l, l + i0, rows * sizeof *l);
    for (int64_t g = 0; g < n_keys; g++)
        softmax_granule(&s, precision, rows, keys[g], shape, diagonal ? i0 + 1 : GRANULE);
    memcpy(m + i0, s.m, rows * sizeof *m);
    memcpy(l + i0, s.l, rows * sizeof *l);
}

/* attend_fast, ...: `attend` of one precision in fp32. */
#define DEFINE_ATTEND(name, precision)                                                                                \
    static void attend_##name(float *state, const float *qt, const float *const *keys, int64_t n_keys, bool diagonal, \
                              double scale, lucid_shape shape, float *scratch) {                                      \
        FOR_EACH_PANEL(attend_panel, state, qt, keys, n_keys, diagonal, precision, scale, shape, scratch);            \
    }
DEFINE_ATTEND(fast, LUCID_FAST)
DEFINE_ATTEND(careful, LUCID_CAREFUL)
DEFINE_ATTEND(compensated, LUCID_COMPENSATED)

static void attend(float *state, const float *qt, const float *const *keys, int64_t n_keys, bool diagonal,
                   lucid_precision precision, double scale, lucid_shape shape, float *scratch) {
    unsigned mode = float_mode_enter();
    (precision == LUCID_EXACT         ? attend_exact
     : precision == LUCID_COMPENSATED ? attend_compensated
     : precision == LUCID_CAREFUL     ? attend_careful
                                      : attend_fast)(state, qt, keys, n_keys, diagonal, scale, shape, scratch);
    float_mode_leave(mode);
}

static void attend_begin(float *state, const float *qt, const float *record, double scale, lucid_shape shape) {
    column_dots(state, qt, record, shape.head_dim);
    for (int i = 0; i < GRANULE; i++) {
        state[i] *= (float)scale;
        if (fabsf(state[i]) < LUCID_START_EXPONENT) state[i] = 0;
    }
    memset(state + GRANULE, 0, sizeof(float) * (lucid_state_floats(shape) - GRANULE));
}

/* a / l, given 1 / l rounded: the residual of the product corrects it to what a division gives, but for ties, in a
 * fifth of the time. */
INLINE vec divide(vec a, vec l, vec inverse) {
    vec quotient = vec_mul(a, inverse);
    return vec_fma(vec_fnma(quotient, l, a), inverse, quotient);
}

/* One row (value_dim) of the output, o / l; the last vector is cut through a buffer. */
INLINE void divide_row(float *out, const float *o, float l, int value_dim) {
    float buffer[VEC] __attribute__((aligned(64)));
    vec x = vec_set1(l), inverse = vec_set1(1 / l);
    int c = 0;
    for (; c + VEC <= value_dim; c += VEC) vec_storeu(out + c, divide(vec_load(o + c), x, inverse));
    if (c == value_dim) return;
    vec_store(buffer, divide(vec_load(o + c), x, inverse));
    memcpy(out + c, buffer, (value_dim - c) * sizeof *out);
}

/* result (64) = log2 x of positive normal numbers, to 1e-9: 2 atanh((m - 1) / (m + 1)) / ln 2 of a mantissa within a
 * factor sqrt(2) of 1. Written for the compiler to vectorise. */
static void log2_all(double *restrict result, const float *restrict x) {
    for (int i = 0; i < GRANULE; i++) {
        int32_t bits, mantissa_bits, exponent;
        float mantissa;
        memcpy(&bits, x + i, sizeof bits);
        exponent = (bits - 0x3f3504f3) >> 23; /* the bits of sqrt(1 / 2) */
        mantissa_bits = bits - exponent * (1 << 23);
        memcpy(&mantissa, &mantissa_bits, sizeof mantissa);
        double above = (double)mantissa - 1, f = above / (above + 2), s = f * f;
        double series = f + f * s * (1.0 / 3 + s * (1.0 / 5 + s * (1.0 / 7 + s * (1.0 / 9))));
        result[i] = exponent + 2 * M_LOG2E * series;
    }
}

static void attend_finish(float *out, float *lse, const float *state, int n_rows, lucid_shape shape) {
    const float *m = state, *l = state + GRANULE, *o = state + 2 * GRANULE;
    double log2_l[GRANULE] __attribute__((aligned(64)));
    log2_all(log2_l, l);
    for (int i = 0; i < n_rows; i++, out += shape.value_dim, o += shape.value_ld) {
        if (l[i] == 0) {
            memset(out, 0, shape.value_dim * sizeof *out);
            lse[i] = -INFINITY;
        } else {
            divide_row(out, o, l[i], shape.value_dim);
            lse[i] = (float)((m[i] + log2_l[i]) * M_LN2);
        }
    }
}

#endif
