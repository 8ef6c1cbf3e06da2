/* A model's attention layers as the engine takes them: the problem, and heads out of rows of activations. Not for
 * DeltaNet, which has an engine of its own. All functions are pure. */
#ifndef LUCID_RUNTIME_MODEL_PROBLEM_H
#define LUCID_RUNTIME_MODEL_PROBLEM_H

#include "runtime/lucid.h"
#include "runtime/model/config.h"

lucid_attention_kind lucid_model_attention_kind(const lucid_model_config *config);

/* One layer on batch sequences of seqlen tokens, none of them cached. */
lucid_problem lucid_model_problem(const lucid_model_config *config, int64_t seqlen, int batch);

/* head (n_rows, head_dim) from its place in rows (n_rows, n_heads, head_dim), and back. */
void lucid_head_gather(float *head, const float *rows, int64_t n_rows, int n_heads, int index, int head_dim);
void lucid_head_scatter(float *rows, const float *head, int64_t n_rows, int n_heads, int index, int head_dim);

#endif
