/* A learned gain in the keys' norm, kn = gain RMSNorm(k), private to runtime/attention.
 *
 *   P_ij = exp(sum_c gain_c^2 kn'_ic kn'_jc / sqrt(d) - sqrt(d)),   kn' = RMSNorm(k)
 *
 * so the gain may stand with one side alone, the row's, and keys are stored, travel and are attended to as they are.
 * Where a kernel takes rows from a record, it gets a copy whose keys are scaled; a granule against itself, where the
 * record is both sides, a copy scaled by the gain once. Without a gain these are the kernels' own functions. */
#ifndef LUCID_RUNTIME_ATTENTION_GAIN_H
#define LUCID_RUNTIME_ATTENTION_GAIN_H

#include "runtime/attention/engine.h"

/* Scales the keys of a record, or of a gradient row, as they stand with the rows' side. */
void lucid_gain_rows(const lucid_attention *a, float *record);

/* kernels.h: update of record by the first n of the worker's keys, solve, and solve_backward of a key row whose record
 * is given. */
void lucid_gain_update(const lucid_attention *a, lucid_worker *w, float *record, int64_t n_keys);
void lucid_gain_solve(const lucid_attention *a, lucid_worker *w, float *record);
void lucid_gain_solve_backward(const lucid_attention *a, lucid_worker *w, float *key_row, const float *record);

/* dgain (n_rows, d), each row's share of the gain's gradient: 2 gain k dkt, from a granule's record and dkt. */
void lucid_gain_rows_finish(const lucid_attention *a, float *dgain, const float *record, const float *dkt, int n_rows);

#endif
