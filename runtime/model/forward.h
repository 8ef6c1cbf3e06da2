/* A decoder without its attention: embedding, projections, positions, MLP, logits.
 *
 * It works on rows: either whole panels of 64 tokens (matmul.h), of which some may be no token at all, or one row.
 * Rows that are no token (id -1) start as zeros and stay finite; nobody reads them. Per layer
 *
 *   lucid_forward_project   x -> q, k, v
 *   (convolution)           of q, k and v, where the model has them
 *   lucid_forward_place     q, k -> turned, normed, and queries scaled
 *   (attention)             q, k, v -> q, which takes what was attended to
 *   lucid_forward_finish    q -> x += o_proj(q);  x += mlp(x)
 *
 * Memory: (hidden_size + q + 2 kv + rotary_dim + 1) floats a row, and scratch for 1024 rows of the MLP. All functions
 * are Local.
 */
#ifndef LUCID_RUNTIME_MODEL_FORWARD_H
#define LUCID_RUNTIME_MODEL_FORWARD_H

#include "runtime/model/matmul.h"
#include "runtime/model/weights.h"

#define LUCID_FORWARD_SIZES 5 /* of a layer's weights */

typedef struct {
    const lucid_model *model;
    const lucid_blas *blas;
    int threads;
    double *inv_freq; /* (rotary_dim / 2), with use_rope */
    double attention_factor;

    int64_t n_rows, capacity;
    float *x;         /* (n_rows, hidden_size) the residual stream */
    float *q;         /* (n_rows, n_heads, head_dim) */
    float *k, *v;     /* (n_rows, n_kv_heads, head_dim) */
    float *beta;      /* (n_rows, n_heads), of DeltaNet, before its sigmoid */
    float *rotations; /* (n_rows, rotary_dim): cosines, then sines; with use_rope */
    float *scales;    /* (n_rows) of queries; with query_log_scale */

    float *normed;    /* (GROUP, hidden_size), and what else a group of rows takes */
    float *gate, *up; /* (GROUP, intermediate_size) */

    /* Sizes of products whose panels may be joined, once there are rows enough for it. */
    struct lucid_joined {
        int n_in, n_out;
    } joined[LUCID_FORWARD_SIZES];
    int n_joined;
    bool tried;

    double products; /* seconds in products with weights so far */
} lucid_forward;

/* max_context: the most tokens that the text may reach, which RoPE's type `dynamic` depends on. Errors: MEMORY. Destroy
 * also after a failure. */
lucid_status lucid_forward_create(lucid_forward *forward, const lucid_model *model, const lucid_blas *blas,
                                  int64_t max_context, int threads);
void lucid_forward_destroy(lucid_forward *forward); /* fine on zeros */

/* Makes room. n_rows is 1 or a multiple of LUCID_PANEL. Errors: MEMORY. */
lucid_status lucid_forward_resize(lucid_forward *forward, int64_t n_rows);

/* Row r becomes token id at `position`; -1: none. */
void lucid_forward_embed(lucid_forward *forward, int64_t row, int32_t id, int64_t position);

void lucid_forward_project(lucid_forward *forward, const lucid_model_layer *layer);
void lucid_forward_place(lucid_forward *forward, const lucid_model_layer *layer);
void lucid_forward_finish(lucid_forward *forward, const lucid_model_layer *layer);

/* logits (n_rows, vocab_size) of n_rows rows of x from `row` on: 1 or LUCID_PANEL of them, whole. x stays. */
void lucid_forward_logits(float *logits, lucid_forward *forward, const float *x, int n_rows);

/* Bytes in use for rows, scratch included. */
size_t lucid_forward_bytes(const lucid_forward *forward);

/* out (n_rows, n) = x / sqrt(mean(x^2) + eps) * gain (n); out may be x. */
void lucid_rms_norm(float *out, const float *x, const float *gain, int64_t n_rows, int n, double eps, int threads);

#endif
