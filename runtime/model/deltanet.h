/* DeltaNet: attention by a state instead of a cache (arXiv 2406.06484), with the conventions of
 * flash-linear-attention's layer.
 *
 * Per head, with q and k divided by their L2 norm sqrt(sum + 1e-6), q / sqrt(d), and beta a sigmoid:
 *   S_t = S_{t-1} + beta_t k_t (v_t - S_{t-1}^T k_t)^T,   o_t = S_t^T q_t,   then RMSNorm with o_norm's gain.
 * q, k and v come through SiLU, and before it through causal convolutions of conv_size tokens where the model has them.
 *
 * A chunk of tokens is done in granules of 64 by the WY form: with A the part of diag(beta) K K^T below its diagonal,
 *   [W | U] = (I + A)^-1 diag(beta) [K | V],   U' = U - W S,   O = Q S + lower(Q K^T) U',   S += K^T U',
 * all of them products of matrices. States go from rank to rank with the tiles, some heads at a time, so that ranks
 * work on different heads at once; so do the last conv_size - 1 tokens' projections. After a chunk all ranks have the
 * state, and decode tokens without a message. A state of n_layers * n_heads * head_dim^2 floats is the whole memory.
 */
#ifndef LUCID_RUNTIME_MODEL_DELTANET_H
#define LUCID_RUNTIME_MODEL_DELTANET_H

#include "runtime/model/forward.h"
#include "runtime/model/rows.h"

typedef struct lucid_deltanet lucid_deltanet;

/* All must outlive it. timeout: seconds that a wait for another rank may last. Errors: MEMORY. Local. */
lucid_status lucid_deltanet_create(lucid_deltanet **deltanet, const lucid_model *model, lucid_comm *comm,
                                   const lucid_blas *blas, int threads, double timeout);
void lucid_deltanet_destroy(lucid_deltanet *deltanet); /* NULL is fine */

/* Forgets everything. Local. */
void lucid_deltanet_reset(lucid_deltanet *deltanet);

/* One layer's step of a chunk, whose projections are in forward: its q becomes what was attended to. Errors, not
 * agreed on: COMM, TIMEOUT. Collective. */
lucid_status lucid_deltanet_chunk(lucid_deltanet *deltanet, int layer, lucid_forward *forward, const lucid_rows *rows);

/* The same of a single token, which all ranks have. Local. */
void lucid_deltanet_token(lucid_deltanet *deltanet, int layer, lucid_forward *forward);

#endif
