/* The kernel contract: LUCID attention's arithmetic on granules, one table of functions per instruction set.
 *
 * A granule is 64 consecutive tokens counted from global token 0. All arithmetic is defined on whole granules: a
 * sequence's last granule is padded with zero rows, which no real row ever reads (they lie in its future), so no kernel
 * has a tail. Every row applies granules in ascending order and every row's operations are the same whatever register
 * block it falls into; a row's bits are therefore a function of the kernel set and the inputs alone.
 *
 * This folder does no I/O, no allocation, keeps no state and knows no MPI. Callers own all buffers; every pointer is
 * 64-byte aligned but for src of the pack functions and out and lse of attend_finish, which need none; outputs come
 * first; buffers do not overlap unless said. Inputs are finite: within a granule a future key's weight is an exact
 * zero, which an infinite value would not respect. update, solve and the attend functions but begin and finish may
 * flush denormals; the SIMD sets run them in a floating-point mode of their own and restore the caller's.
 *
 * Notation, per granule and head (d = head_dim, w = value_ld, all fp32):
 *   record  one granule of one kv head, the unit that is stored, sent and read by the kernels, contiguous:
 *             kt    (d, 64)   keys after RoPE, not normalised, transposed
 *             rnorm (64)      1 / sqrt(mean(k^2) + eps)
 *             y     (64, w)   values before solve, preconditioned values after; columns >= value_dim are zero
 *   qt      (d, 64)           queries, transposed, as they came
 *   scale                     softmax_scale * log2(e)
 *   state   one granule of one query head's online softmax:
 *             m (64)   reference exponent (base 2)    l (64)  sum of exp2(s - m)    o (64, w)  sum of exp2(s - m) y
 *
 * Decoding takes one new token of one kv head against records of a cache:
 *   cached  a record whose kt and y are of the cache's dtype, rnorm staying fp32; an fp32 one is a record
 *   rows    (d, group + 1)  the group's queries times softmax_scale * log2(e), then the key times its norm * log2(e) /
 *                           sqrt(d): an element of all rows, then the next
 *   partial what the token gets from some cached tokens, mergeable:
 *             m (group)    l (group)    o (group, w)   as in a state, m and l padded to a multiple of 16
 *             sum (w)      sum of P_j y_j
 *
 * Backward. A row granule i brings what its gradients need, a key granule j <= i keeps the sums over its rows; nothing
 * else of a pair is stored, P and the softmax's weights are computed again from kt, rnorm and lse. Two sorts of rows:
 *   query row  one granule of one query head, laid out like a record with a tail:
 *             qt scale (d, 64) | -lse (64), base 2 | dout (64, w) | -delta (64), delta_i = dout_i . out_i
 *   key row    a record whose values are dY until solve_backward makes them dV
 * and the sums, with ld = d rounded up to a multiple of 16:
 *   dkeys   (64, ld)  of a key granule; apart for the softmax and the solve
 *   dvalues (64, w)   of a key granule: dY, then P^T dV = dY's right side: the values of its own key row
 *   dqt, dkt (ld, 64) of a row granule, transposed; rows d.. are scratch
 * One pair costs five products with both sides' sums (scores, dout . y, dvalues, dkeys, dqt), four without the row's,
 * three without the key's. One pass over all pairs is cheapest, and one rank makes it: 5 / 2 of the forward. Across
 * ranks it would have to carry either side's sums from rank to rank in a fixed order, a chain as long as the sequence
 * for each granule; so there each side is summed where it lives, in passes of four and three products, 7 / 2.
 *
 * Key granules take rows in descending order, which back substitution demands, and row granules take keys in descending
 * order, their own granule first, since a single pass that finishes key granules from the last to the first meets them
 * so. The query heads of a row granule come in ascending order, the softmax before the solve. All chains run over
 * ascending indices. Hence the same bits whichever pass adds a sum.
 */
#ifndef LUCID_KERNELS_H
#define LUCID_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LUCID_GRANULE      64
#define LUCID_MAX_HEAD_DIM 256
/* A score may exceed its row's reference exponent by this much (base 2, on the granule's sum) before it is rescaled. */
#define LUCID_RESCALE_EXPONENT 40
/* A row whose own score is closer to zero than this (base 2) starts with reference exponent zero. */
#define LUCID_START_EXPONENT 32

typedef enum { LUCID_F32, LUCID_BF16, LUCID_F16 } lucid_dtype;

typedef struct {
    int head_dim;  /* d: of q and k, 1..256 */
    int value_dim; /* of v, 1..256 */
    int value_ld;  /* w: value_dim rounded up to a multiple of 16 */
} lucid_shape;

static inline lucid_shape lucid_shape_make(int head_dim, int value_dim) {
    return (lucid_shape){.head_dim = head_dim, .value_dim = value_dim, .value_ld = (value_dim + 15) / 16 * 16};
}

static inline size_t lucid_dtype_bytes(lucid_dtype dtype) {
    return dtype == LUCID_F32 ? 4 : 2;
}

/* How a row's softmax pass is done; a function of the row granule's number, counted from the sequence's start. Errors
 * of out are measured against the rows of the whole sequence. The first rows are several times longer than most and
 * average over too few keys for the rounding errors of their exponents to cancel.
 *   EXACT        in fp64, rounded into the state after each granule; three times the work of FAST
 *   COMPENSATED  scores as eight chains over c, added without loss; weights from both parts of the sum; products as two
 *                chains over 32 keys each, added to o in order: 1.6 times the work
 *   CAREFUL      scores as the sum of two chains, over c < (d + 1) / 2, less m_i, and over the rest: 2 % more work
 *   FAST         scores as one chain */
typedef enum { LUCID_FAST, LUCID_CAREFUL, LUCID_COMPENSATED, LUCID_EXACT } lucid_precision;

static inline lucid_precision lucid_row_precision(int64_t granule) {
    return granule < 1 ? LUCID_EXACT : granule < 6 ? LUCID_COMPENSATED : granule < 64 ? LUCID_CAREFUL : LUCID_FAST;
}

/* Offsets and sizes in floats; each is a multiple of 16, so every part of an aligned record is aligned. */
static inline size_t lucid_record_rnorm(lucid_shape s) {
    return (size_t)LUCID_GRANULE * s.head_dim;
}
static inline size_t lucid_record_values(lucid_shape s) {
    return (size_t)LUCID_GRANULE * (s.head_dim + 1);
}
static inline size_t lucid_record_floats(lucid_shape s) {
    return (size_t)LUCID_GRANULE * (s.head_dim + 1 + s.value_ld);
}
static inline size_t lucid_query_floats(lucid_shape s) {
    return (size_t)LUCID_GRANULE * s.head_dim;
}
static inline size_t lucid_state_floats(lucid_shape s) {
    return (size_t)LUCID_GRANULE * (2 + s.value_ld);
}

typedef struct {
    lucid_shape shape;
    lucid_dtype dtype; /* of the cached keys and values: LUCID_F32 or LUCID_BF16 */
    int group;         /* query heads, at least 1 */
    bool solve;        /* false: softmax attention, sum stays as it is */
} lucid_decode_shape;

/* Bytes; each is a multiple of 64. */
static inline size_t lucid_cached_rnorm(lucid_shape s, lucid_dtype dtype) {
    return lucid_dtype_bytes(dtype) * LUCID_GRANULE * s.head_dim;
}
static inline size_t lucid_cached_values(lucid_shape s, lucid_dtype dtype) {
    return lucid_cached_rnorm(s, dtype) + sizeof(float) * LUCID_GRANULE;
}
static inline size_t lucid_cached_bytes(lucid_shape s, lucid_dtype dtype) {
    return lucid_cached_values(s, dtype) + lucid_dtype_bytes(dtype) * LUCID_GRANULE * s.value_ld;
}

/* Offsets and sizes in floats; each but that of rows is a multiple of 16. */
static inline size_t lucid_partial_l(const lucid_decode_shape *s) {
    return ((size_t)s->group + 15) / 16 * 16;
}
static inline size_t lucid_partial_o(const lucid_decode_shape *s) {
    return 2 * lucid_partial_l(s);
}
static inline size_t lucid_partial_sum(const lucid_decode_shape *s) {
    return lucid_partial_o(s) + (size_t)s->group * s->shape.value_ld;
}
static inline size_t lucid_partial_floats(const lucid_decode_shape *s) {
    return lucid_partial_sum(s) + s->shape.value_ld;
}
static inline size_t lucid_decode_rows_floats(const lucid_decode_shape *s) {
    return ((size_t)s->group + 1) * s->shape.head_dim;
}
static inline size_t lucid_decode_scratch_floats(const lucid_decode_shape *s) {
    return ((size_t)s->group + 1) * LUCID_GRANULE;
}

/* Leading dimension of gradients of keys and queries. */
static inline int lucid_key_ld(lucid_shape s) {
    return (s.head_dim + 15) / 16 * 16;
}
static inline size_t lucid_query_row_delta(lucid_shape s) {
    return lucid_record_floats(s);
}
static inline size_t lucid_query_row_floats(lucid_shape s) {
    return lucid_record_floats(s) + LUCID_GRANULE;
}
/* Of dkeys, dqt and dkt. */
static inline size_t lucid_key_sums_floats(lucid_shape s) {
    return (size_t)LUCID_GRANULE * lucid_key_ld(s);
}

/* All rows of a granule and key-value head, contiguous: the key row, then the query rows of its heads. */
static inline size_t lucid_gradient_row_floats(lucid_shape s, int group) {
    return lucid_record_floats(s) + (size_t)group * lucid_query_row_floats(s);
}
static inline size_t lucid_gradient_query_row(lucid_shape s, int head) {
    return lucid_record_floats(s) + (size_t)head * lucid_query_row_floats(s);
}

/* All sums of a granule, contiguous: dkeys of the softmax, dkeys of the solve, dkt, dqt of each head, dY. */
static inline size_t lucid_sums_update_dkeys(lucid_shape s) {
    return lucid_key_sums_floats(s);
}
static inline size_t lucid_sums_dkt(lucid_shape s) {
    return 2 * lucid_key_sums_floats(s);
}
static inline size_t lucid_sums_dqt(lucid_shape s, int head) {
    return (3 + (size_t)head) * lucid_key_sums_floats(s);
}
static inline size_t lucid_sums_dy(lucid_shape s, int group) {
    return lucid_sums_dqt(s, group);
}
static inline size_t lucid_sums_floats(lucid_shape s, int group) {
    return lucid_sums_dy(s, group) + (size_t)LUCID_GRANULE * s.value_ld;
}

/* A key granule and where its sums are kept; dkeys NULL: only the row's sums are wanted. */
typedef struct {
    const float *record;
    float *dkeys, *dvalues;
} lucid_key_sums;

/* One instruction set's kernels. In the formulas i runs over the row granule, j over a key granule's 64 tokens, and
 *   P_ij = exp2(fma(dot_ij, rnorm_j, -sqrt(d) log2 e)),   dot_ij = sum_c (k_ic rnorm_i log2(e) / sqrt(d)) k_jc
 *   x_ij = sum_c (qt_ci scale) kt_cj - m_i,
 * the latter an FMA chain over c that starts at -m_i, or as lucid_precision has it. A product with values is one FMA
 * chain over j = 0..63 that starts at zero, or two of 32; its result is then added to the accumulator in memory, once
 * per granule. */
typedef struct lucid_kernels {
    const char *isa; /* "scalar", "avx2", "avx512" */

    /* True when this processor and operating system can run the set. */
    bool (*supported)(void);

    /* dst (d, 64) = transpose(src), src (n_rows, d) of dtype, rows d elements apart, unaligned; n_rows in 0..64; the
     * other rows are zero. */
    void (*pack_rows)(float *dst, const void *src, lucid_dtype dtype, int n_rows, int d);

    /* record.rnorm from record.kt, eps added to the mean. */
    void (*normalise)(float *record, lucid_shape shape, float eps);

    /* record.y = src (n_rows, value_dim) of dtype, zero-padded to (64, w). */
    void (*pack_values)(float *record, const void *src, lucid_dtype dtype, int n_rows, lucid_shape shape);

    /* U: row.y -= P(row, key_g) key_g.y for g = 0..n_keys-1 in this order. keys[g] are whole records of earlier
     * granules. */
    void (*update)(float *row, const float *const *keys, int64_t n_keys, lucid_shape shape, float *scratch);

    /* S: row.y = inverse(P(row, row)) row.y, P unit lower triangular, by inverted blocks of 16. */
    void (*solve)(float *row, lucid_shape shape, float *scratch);

    /* state: l = 0; o = 0; m_i = 0, or the row's own score x_ii where that is LUCID_START_EXPONENT or further from
     * zero, so that l stays representable. Chains that start at zero round less than those that start at a score. Only
     * record.kt is read. */
    void (*attend_begin)(float *state, const float *qt, const float *record, double scale, lucid_shape shape);

    /* A: per granule, l_i += sum_j exp2(x_ij), o_i += sum_j exp2(x_ij) y_j; with `diagonal` keys is the row's own
     * granule alone, of which row i sees j <= i. When the granule's sum exceeds 2^LUCID_RESCALE_EXPONENT, m_i first
     * rises to the granule's largest score and l_i, o_i are rescaled. An EXACT row's diagonal, its last granule, leaves
     * l = 1. */
    void (*attend)(float *state, const float *qt, const float *const *keys, int64_t n_keys, bool diagonal,
                   lucid_precision precision, double scale, lucid_shape shape, float *scratch);

    /* out (n_rows, value_dim) fp32, out_i = o_i / l_i; lse (n_rows) = (m_i + log2 l_i) ln 2. A row with l_i = 0 saw no
     * key: out = 0, lse = -inf. */
    void (*attend_finish)(float *out, float *lse, const float *state, int n_rows, lucid_shape shape);

    /* partial: l, o and sum = 0, m as attend_begin has it from the token's scores with its own key (d). */
    void (*decode_begin)(float *partial, const float *rows, const float *key, const lucid_decode_shape *shape);

    /* Adds the first n_tokens >= 1 tokens of consecutive cached records, granule by granule as attend and update do
     * but for P's products, which are chains of a quarter of d too, reading each key and value once; what lies behind
     * them in the last record does not count. */
    void (*decode)(float *partial, const float *rows, const void *cached, int64_t n_tokens,
                   const lucid_decode_shape *shape, float *scratch);

    /* partial += other, with the larger m of each head. */
    void (*decode_merge)(float *partial, const float *other, const lucid_decode_shape *shape);

    /* Reads n_bytes, a multiple of 1024, at an aligned address; returns something that depends on them. The caller
     * times it: this is the bandwidth that reports divide by. */
    float (*read_burst)(const void *data, size_t n_bytes);

    /* Backward of A, row: a query row; keys in the order of the list, each whole.
     *   w_ij = exp2(sum_c kt_cj q_ic), one chain starting at -lse_i;  ds_ij = w_ij (sum_c y_jc dout_ic), starting at
     *   -delta_i;  dvalues_j += sum_i w_ij dout_i;  dkeys_j += sum_i ds_ij q_i;  dqt_i += sum_j ds_ij k_j
     * q as in the row, with its factor. dqt NULL: only the keys' sums are wanted. */
    void (*attend_backward)(float *dqt, const float *row, const lucid_key_sums *keys, int64_t n_keys, lucid_shape shape,
                            float *scratch);
    /* The same on the row's own granule, i >= j only. */
    void (*attend_backward_diag)(float *dqt, const float *row, const lucid_key_sums *key, lucid_shape shape,
                                 float *scratch);

    /* Backward of U, row: a solved key row.
     *   dx_ij = -(sum_c y_jc dv_ic) P_ij rnorm_i rnorm_j / sqrt(d)
     *   dvalues_j -= sum_i P_ij dv_i;  dkeys_j += sum_i dx_ij k_i;  dkt_i += sum_j dx_ij k_j
     * dkt NULL: only the keys' sums are wanted. */
    void (*update_backward)(float *dkt, const float *row, const lucid_key_sums *keys, int64_t n_keys, lucid_shape shape,
                            float *scratch);
    /* The same on the row's own granule, i > j only; dvalues stays. */
    void (*update_backward_diag)(float *dkt, const float *row, const lucid_key_sums *key, lucid_shape shape,
                                 float *scratch);
    /* Backward of S: row.values = inverse(P(row, row)^T) row.values. */
    void (*solve_backward)(float *row, lucid_shape shape, float *scratch);

    /* Runs n rounds of independent FMAs from registers and returns the flops done; the caller times it. This is the
     * peak that reports divide by. */
    double (*fma_burst)(int64_t n);
} lucid_kernels;

/* Floats of scratch that any of these functions may use, for any kernel set. */
size_t lucid_kernels_scratch_floats(lucid_shape shape);

/* rows from q (group, d) and the token's key (d), rnorm its norm as in a record; q_scale = softmax_scale * log2(e). */
void lucid_decode_pack(float *rows, const float *q, float q_scale, const float *key, float rnorm,
                       const lucid_decode_shape *shape);

/* out (group, value_dim) = o / l, 0 where l is 0. */
void lucid_decode_finish(float *out, const float *partial, const lucid_decode_shape *shape);

/* What backward does once a token, the same for all sets: not worth vectors. */

/* Completes a query row whose dout pack_values has written: qt scale, -lse and -delta, from the finished state. */
void lucid_query_row_begin(float *row, const float *qt, const float *state, double scale, lucid_shape shape);

/* dq (n_rows, d) = softmax_scale * transpose(dqt) */
void lucid_query_row_finish(float *dq, const float *dqt, int n_rows, lucid_shape shape, float softmax_scale);

/* dk (n_rows, d) = ln(2) attend_dkeys + z - k rnorm^2 (k . z) / d, z = update_dkeys + gain^2 transpose(dkt): the
 * softmax's share, and the solve's through RMSNorm. Without a solve update_dkeys and dkt are NULL. gain (d), which the
 * rows' keys were scaled by twice, or NULL. */
void lucid_key_row_finish(float *dk, const float *record, const float *attend_dkeys, const float *update_dkeys,
                          const float *dkt, const float *gain, int n_rows, lucid_shape shape);

/* The table of kernel sets, best first; *count entries. */
const lucid_kernels *const *lucid_kernels_table(int *count);

/* The set called isa, or with "auto" the best this machine supports. NULL when there is no such name or the machine
 * cannot run it. Local. */
const lucid_kernels *lucid_kernels_find(const char *isa);

#endif
