/* A model's configuration: config.json and generation_config.json of a Hugging Face folder as a plain struct.
 *
 * Models are of the Llama family (model_type llama, LlamaForCausalLM), with the keys that the LUCID paper's code adds,
 * or Qwen3's (qwen3, Qwen3ForCausalLM), which differ in where heads are normalised. Every key of both files is on a
 * table in config_keys.c: effective, harmless, or refused by name unless it is off; a key on no table is refused too.
 * null is an absent key, and an absent key has the default of transformers but for the sizes, which must be there, and
 * the token ids, which are then none.
 *
 * The paper's keys:
 *   attention_type  "lucid", "oglucid" (its authors' name for the first version of the same mathematics), "llama"
 *                   (softmax: the baseline, and what a model without this key is) or "deltanet"
 *   use_rope        false: no positions at all. Default true.
 *   use_qknorm      RMSNorm with a gain per dimension, on queries and keys of each head, after RoPE; Qwen3 always
 *                   has it, before RoPE. It is apart from LUCID's own normalisation of keys, which has no gain and does
 *                   not touch the softmax. Absent: as the weights have it.
 *   which_rmsnorm   "exp_k_norm": LUCID's normalisation of keys; there is no other.
 *   use_beta        true is refused, but for "deltanet", which always has it
 * flash-linear-attention's for "deltanet": use_short_conv (default true), conv_size (4). And this project's own, for
 * models whose only positions are these:
 *   qkv_conv_size    causal depthwise convolutions over so many tokens on q, k and v behind their projections, without
 *                    bias or activation; weights as flash-linear-attention names them. Default 1: none.
 *   query_log_scale  L: the query at position i is multiplied by max(1, ln(i + 1) / ln L), so that texts longer than
 *                    L tokens are attended to as sharply. Absent: not at all.
 */
#ifndef LUCID_RUNTIME_MODEL_CONFIG_H
#define LUCID_RUNTIME_MODEL_CONFIG_H

#include "comm/comm.h"
#include "runtime/model/rope.h"

#define LUCID_MODEL_MAX_EOS 32

typedef enum { LUCID_MODEL_SOFTMAX, LUCID_MODEL_LUCID, LUCID_MODEL_DELTANET } lucid_model_attention;

typedef enum {
    LUCID_ACTIVATION_SILU,
    LUCID_ACTIVATION_GELU,     /* x / 2 (1 + erf(x / sqrt 2)) */
    LUCID_ACTIVATION_GELU_TANH /* its approximation by tanh */
} lucid_activation;

typedef enum {
    LUCID_QKNORM_AS_WEIGHTS,
    LUCID_QKNORM_OFF,
    LUCID_QKNORM_ON,         /* after RoPE */
    LUCID_QKNORM_BEFORE_ROPE /* Qwen3 */
} lucid_model_qknorm;

typedef struct {
    int hidden_size, intermediate_size, vocab_size;
    int n_layers, n_heads, n_kv_heads, head_dim; /* n_heads is a multiple of n_kv_heads */
    int max_position_embeddings;
    double rms_norm_eps;
    int attention;  /* lucid_model_attention */
    int activation; /* lucid_activation */
    int qk_norm;    /* lucid_model_qknorm */
    bool tie_word_embeddings, attention_bias, mlp_bias;
    bool use_rope;       /* never with DeltaNet */
    lucid_rope rope;     /* valid with use_rope */
    int rotary_dim;      /* the first dimensions of a head, which RoPE turns; 0: all */
    int conv_size;       /* tokens of the causal convolutions on q, k and v; at most 1: there are none */
    int query_log_scale; /* 0: none */

    int bos_token_id; /* -1: none */
    int n_eos, eos_token_ids[LUCID_MODEL_MAX_EOS];

    /* What generation_config.json proposes for sampling; whoever samples may choose otherwise. */
    bool do_sample;
    double temperature, top_p; /* 0: not proposed */
    int top_k;                 /* 0: not proposed: all */
} lucid_model_config;

/* Reads folder/config.json and, where there is one, folder/generation_config.json, whose token ids then hold. Errors:
 * INPUT naming file and key; IO; MEMORY. Local. */
lucid_status lucid_model_config_read(lucid_model_config *config, const char *folder);

/* The same of texts; path is for messages, and generation may be NULL. Pure. */
typedef struct {
    const char *text;
    size_t n_bytes;
    const char *path;
} lucid_config_text;
lucid_status lucid_model_config_parse(lucid_model_config *config, const lucid_config_text *model,
                                      const lucid_config_text *generation);

/* Dimensions of a head that RoPE turns, an even number; 0 without RoPE. Pure. */
int lucid_model_rotary_dim(const lucid_model_config *config);

/* What a query at `position` is multiplied by. Pure. */
float lucid_model_query_scale(const lucid_model_config *config, int64_t position);

/* lucid_rope_compute for this model; only with use_rope. max_context: the most tokens that the run may see. Pure. */
void lucid_rope_frequencies(double *inv_freq, double *attention_factor, const lucid_model_config *config,
                            int64_t max_context);

#endif
