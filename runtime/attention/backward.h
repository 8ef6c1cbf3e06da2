/* The backward pass: dq, dk and dv from dout, across ranks, private to runtime/attention.
 *
 * Back substitution is forward substitution read from the sequence's end, so the backward pass is two more schedules of
 * the same kind over the reversed layout, in which tile t is what tile n_tiles - 1 - t was:
 *   keys  the chain. A key tile takes the row tiles behind it, the last of the sequence first: the softmax's shares of
 *         dk and dY, and P^T dV and its share of dk. Then its own granules are solved, and it travels on as a row tile:
 *         a gradient row per granule, which is the key row (kt, rnorm, dv) and the group's query rows, see kernels.h.
 *   rows  no chain: a row tile takes its own key tile and then those before it, for dq and its share of dk through P.
 *         The forward's records travel. It needs the row's dv, so it follows the keys' schedule row by row; being bulk
 *         work on later channels, it fills whatever waits the chain has, as the softmax pass does in the forward.
 * Four products a pair there and three here, 7 / 2 of the forward. One rank does without the second: its keys' schedule
 * keeps rows in step, so that a pair's five products are made at once, 5 / 2 of the forward. The order in which each
 * sum grows is the same (kernels.h), hence the bits: they do not depend on ranks, layout, tile, budget or threads. On a
 * GPU, where blocks own the sums that they add to, one rank has both passes too.
 *
 * A message of the keys' pass is (1 + group) records' size a granule, one of the rows' pass a record. Memory: a
 * gradient row and the sums for each own token, about (6 + 5 group) head_dim floats a key-value head.
 */
#ifndef LUCID_RUNTIME_ATTENTION_BACKWARD_H
#define LUCID_RUNTIME_ATTENTION_BACKWARD_H

#include "runtime/attention/engine.h"

/* Backward's share of an attention object. Rows count from the sequence's end, as its schedules do. */
struct lucid_backward {
    bool joined;             /* one pass: one rank's, on a CPU */
    int n_channels;          /* keys' channels, as many as the forward has, then unless joined the rows' */
    lucid_channel *channels; /* keys': kv are (n_rows, n_sequences, granules_per_tile) gradient rows */
    float **sums;            /* (plan.channels) the same shape, sums */
    bool loaded, ran;        /* dout has been read since the last run; gradients are there */
};

/* Of an own row tile. channel: the forward's. */
static inline float *lucid_gradient_row(const lucid_attention *a, int channel, int row, int sequence, int granule) {
    const lucid_channel *c = &a->backward->channels[channel];
    return lucid_own_tile(c, row) +
           lucid_record_index(a, sequence, granule) * lucid_gradient_row_floats(a->shape, a->group);
}
static inline float *lucid_gradient_sums(const lucid_attention *a, int channel, int row, int sequence, int granule) {
    size_t tile = (size_t)row * a->backward->channels[channel].n_sequences * a->granules_per_tile;
    return a->backward->sums[channel] +
           (tile + lucid_record_index(a, sequence, granule)) * lucid_sums_floats(a->shape, a->group);
}

/* Errors: MEMORY. */
lucid_status lucid_backward_create(lucid_attention *a);
void lucid_backward_destroy(lucid_attention *a);

/* Rows of dout (n_rows, value_dim) into their query row; forward row numbering. Thread-safe for different granules. */
void lucid_backward_pack(const lucid_attention *a, const lucid_channel *forward, int row, int sequence, int head,
                         int granule, const void *rows, lucid_dtype dtype, int n_rows);

/* Rows of LUCID_DQ, DK, DGAIN (n_rows, head_dim) or DV (n_rows, value_dim) of a granule; forward row numbering. */
void lucid_backward_unpack(const lucid_attention *a, const lucid_channel *forward, lucid_tensor tensor, int row,
                           int sequence, int head, int granule, float *rows, int n_rows);

/* backward_pieces.c: what channels do with a piece of work. */
void lucid_backward_run_keys(const lucid_attention *a, lucid_worker *w, const lucid_assignment *job);
void lucid_backward_run_rows(const lucid_attention *a, lucid_worker *w, const lucid_assignment *job);

#endif
