/* A model's weights: model.safetensors, or model.safetensors.index.json and its shards, as fp32 pointers.
 *
 * F32 tensors are mapped from their files and used in place. F16 and BF16 tensors, and F32 ones that a file holds at an
 * offset no float can stand at, are widened or copied once into memory that all ranks of a host share; each of those
 * ranks fills its share of it. Where ranks of one host cannot see each other's memory (containers), each keeps a copy.
 *
 * Files must stay as they are while a model is open: a mapped file that is cut short kills the process that reads it.
 */
#ifndef LUCID_RUNTIME_MODEL_WEIGHTS_H
#define LUCID_RUNTIME_MODEL_WEIGHTS_H

#include "comm/comm.h"
#include "runtime/model/config.h"

/* All weights are row-major (outputs, inputs), fp32, at least 4-byte aligned, read-only; those that the configuration
 * does not have are NULL. q = n_heads * head_dim, kv = n_kv_heads * head_dim. */
typedef struct {
    const float *input_norm;               /* (hidden_size) */
    const float *q_proj, *q_bias;          /* (q, hidden_size), (q) */
    const float *k_proj, *k_bias;          /* (kv, hidden_size), (kv) */
    const float *v_proj, *v_bias;          /* (kv, hidden_size), (kv) */
    const float *o_proj, *o_bias;          /* (hidden_size, q), (hidden_size) */
    const float *q_norm, *k_norm;          /* (head_dim): gains of use_qknorm */
    const float *post_attention_norm;      /* (hidden_size) */
    const float *gate_proj, *gate_bias;    /* (intermediate_size, hidden_size), (intermediate_size) */
    const float *up_proj, *up_bias;        /* (intermediate_size, hidden_size), (intermediate_size) */
    const float *down_proj, *down_bias;    /* (hidden_size, intermediate_size), (hidden_size) */
    const float *b_proj;                   /* DeltaNet: (n_heads, hidden_size) */
    const float *q_conv, *k_conv, *v_conv; /* (q, conv_size), (kv, conv_size) twice, with conv_size > 1 */
    const float *o_norm;                   /* DeltaNet: (head_dim) */
} lucid_model_layer;

typedef struct lucid_model_storage lucid_model_storage;

typedef struct {
    lucid_model_config config; /* qk_norm is not AS_WEIGHTS */
    const float *embed_tokens; /* (vocab_size, hidden_size) */
    const float *norm;         /* (hidden_size) */
    const float *lm_head;      /* (vocab_size, hidden_size); embed_tokens where they are tied */
    lucid_model_layer *layers; /* (n_layers) */
    int64_t n_parameters;
    size_t mapped_bytes; /* of files, used in place */
    size_t shared_bytes; /* of widened or copied tensors, once a host */
    bool node_wide;      /* false: shared_bytes are once a rank */
    lucid_model_storage *storage;
} lucid_model;

typedef struct {
    const char *const *allow_unused; /* (n_allow_unused) names of tensors that may be unused; * and ? are wildcards */
    int n_allow_unused;
} lucid_model_options;

/* Reads folder's configuration and weights. options may be NULL. Errors: INPUT naming the file and the key or tensor
 * that is missing, unused, or of a wrong shape or dtype; UNSUPPORTED; IO; MEMORY; the same outcome on all ranks.
 * Collective. */
lucid_status lucid_model_open(lucid_model **model, lucid_comm *comm, const char *folder,
                              const lucid_model_options *options);
void lucid_model_close(lucid_model *model); /* Local; NULL is fine */

#endif
