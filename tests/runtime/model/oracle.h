/* An independent decoder-only language model in fp64, the reference that the runtime's models are tested against.
 *
 * Llama family with three attentions: softmax, LUCID, DeltaNet. Everything is dense and one token or pair at a time; no
 * code of kernels/ or runtime/ is used, and the formulas are written as the sources state them:
 *   Llama, RoPE types   transformers, modeling_llama.py and modeling_rope_utils.py, but in fp64 throughout
 *   LUCID               arXiv 2602.10410; P's diagonal is 1 whatever eps is
 *   DeltaNet            flash-linear-attention, fla/layers/delta_net.py with its defaults (see oracle_attention.c)
 * The oracle itself is proven by test_oracle.c against logits from PyTorch. oracle_folder.h reads models from files.
 *
 * Weights are fp32 and read as they are, row-major with shapes as in model files; callers own them. Impossible
 * configurations and lack of memory end the program: this is for tests alone.
 */
#ifndef LUCID_TESTS_ORACLE_H
#define LUCID_TESTS_ORACLE_H

#include <stdint.h>

#define ORACLE_CONV_WIDTH 4

typedef enum { ORACLE_SOFTMAX, ORACLE_LUCID, ORACLE_DELTANET } oracle_attention;
typedef enum { ORACLE_SILU, ORACLE_GELU } oracle_activation; /* GELU: the exact one, by erf */
/* RMSNorm with a gain of each query and key head. Qwen3 norms before RoPE; the LUCID authors' model, whose key
 * use_qknorm is, norms after it. Not for DeltaNet. */
typedef enum { ORACLE_QK_NORM_NONE, ORACLE_QK_NORM_BEFORE_ROPE, ORACLE_QK_NORM_AFTER_ROPE } oracle_qk_norm;
typedef enum {
    ORACLE_ROPE_NONE,
    ORACLE_ROPE_DEFAULT,
    ORACLE_ROPE_LINEAR,
    ORACLE_ROPE_DYNAMIC,
    ORACLE_ROPE_LLAMA3,
    ORACLE_ROPE_YARN
} oracle_rope_kind;

/* Only what the kind names is read. */
typedef struct {
    oracle_rope_kind kind;
    int dim;                                  /* of a head's dimensions the first so many turn; 0: all */
    double theta;                             /* all */
    double factor;                            /* all but default */
    int64_t original_max_position;            /* dynamic, llama3, yarn: the length before it was stretched */
    int64_t max_context;                      /* dynamic: theta is that of a sequence of this length */
    double low_freq_factor, high_freq_factor; /* llama3 */
    double beta_fast, beta_slow;              /* yarn */
    double attention_factor;                  /* yarn; 0: 0.1 ln(factor) + 1 */
} oracle_rope;

typedef struct {
    int vocab_size, hidden_size, intermediate_size, n_layers;
    int n_heads, n_kv_heads, head_dim; /* query head h reads key-value head h / (n_heads / n_kv_heads) */
    double rms_norm_eps;
    oracle_attention attention;
    oracle_activation activation;
    oracle_qk_norm qk_norm;
    oracle_rope rope; /* DeltaNet has none, whatever is here */
    /* L: queries at position i are multiplied by ln(i + 1) / ln L where that is above 1; 0: they are not. */
    double query_log_scale;
} oracle_config;

typedef struct {
    const float *weight; /* (n_out, n_in) */
    const float *bias;   /* (n_out) or NULL */
} oracle_linear;

typedef struct {
    const float *input_norm, *post_attention_norm; /* (hidden_size) */
    oracle_linear q_proj, k_proj, v_proj, o_proj;  /* heads are consecutive runs of head_dim rows */
    const float *q_norm, *k_norm;                  /* (head_dim), with qk_norm */
    oracle_linear gate_proj, up_proj, down_proj;
    const float *q_conv1d, *k_conv1d, *v_conv1d; /* (channels, ORACLE_CONV_WIDTH), or all NULL: none */
    /* DeltaNet */
    oracle_linear b_proj; /* (n_kv_heads, hidden_size) */
    const float *o_norm;  /* (head_dim) */
} oracle_layer;

typedef struct {
    oracle_config config;
    const float *embed_tokens; /* (vocab_size, hidden_size) */
    const oracle_layer *layers;
    const float *norm;    /* (hidden_size) */
    const float *lm_head; /* (vocab_size, hidden_size); NULL: tied to embed_tokens */
} oracle_model;

/* logits (n_tokens, vocab_size): row t predicts token t + 1 from tokens 0..t. */
void oracle_logits(double *logits, const oracle_model *model, const int64_t *tokens, int n_tokens);

#endif
