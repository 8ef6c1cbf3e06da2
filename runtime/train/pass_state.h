/* What the files of a pass share. */
#ifndef LUCID_RUNTIME_TRAIN_PASS_STATE_H
#define LUCID_RUNTIME_TRAIN_PASS_STATE_H

#include "runtime/model/convolution.h"
#include "runtime/train/micro.h"
#include "runtime/train/pass.h"

/* What the backward pass needs of a layer. Rows of no token are zeros in attended and in all gradients. */
typedef struct {
    float *input;     /* (n_rows, hidden) */
    float *middle;    /* (n_rows, hidden) between attention and MLP */
    float *attended;  /* (n_rows, q) */
    float *gate, *up; /* (n_rows, intermediate) before the activation */
    float *q, *k;     /* (n_rows, q), (n_rows, kv) turned and not yet normed; with q and k norms */
    /* With convolutions: q, k and v as projected, (n_rows, q), (n_rows, kv) twice; and (runs, tail) of those before
     * each run, zeros before a sequence. */
    float *projected[LUCID_PROJECTIONS], *tails;
    lucid_attention *attention;
} lucid_pass_layer;

struct lucid_pass {
    lucid_trainee *trainee;
    lucid_comm *comm;
    const lucid_blas *blas;
    lucid_pass_options options;
    lucid_micro micro;
    lucid_leaf *leaves;             /* (micro.n_leaves) */
    lucid_pass_layer *layers;       /* (n_layers) */
    lucid_convolution convolution;  /* width 1: none */
    float *rotations;               /* (pack_rows, rotary_dim); with RoPE */
    float *scales;                  /* (pack_rows) of queries; with query_log_scale */
    float *x, *dx;                  /* (n_rows, hidden): the residual stream, and its gradient */
    float *normed, *dnormed;        /* (n_rows, hidden) */
    float *q, *k, *v;               /* (n_rows, q), (n_rows, kv) twice */
    float *dattended, *dq;          /* (n_rows, q) */
    float *dk, *dv;                 /* (n_rows, kv) */
    float *dgain;                   /* (n_rows, kv); with a key gain */
    float *leaving, *heads;         /* (runs, tail) of borders; heads: gradients of those behind, zeros at the end */
    float *hidden, *dhidden;        /* (n_rows, intermediate) */
    float *outputs;                 /* (rows of the largest leaf, n_outputs) */
    float *scratch;                 /* of lucid_matmul_weight */
    void *memory;                   /* all of the above but layers and leaves */
    const lucid_examples *examples; /* under way */
    lucid_pass_times times;
    bool adrift;
};

static inline int lucid_pass_q(const lucid_pass *p) {
    return p->trainee->model.config.n_heads * p->trainee->model.config.head_dim;
}
static inline int lucid_pass_kv(const lucid_pass *p) {
    return p->trainee->model.config.n_kv_heads * p->trainee->model.config.head_dim;
}

/* out = x (n_rows, n_in) weight^T + bias [+ out] */
void lucid_pass_multiply(const lucid_pass *p, float *out, const lucid_linear *linear, const float *x,
                         const lucid_leaf *leaves, int n_leaves, bool accumulate);

/* Gradients of that product: its weights', and dx [+]= unless NULL. Leaves: of the rows that x and dout are. */
void lucid_pass_multiply_backward(const lucid_pass *p, float *dx, const lucid_linear *linear, const float *dout,
                                  const float *x, const lucid_leaf *leaves, int n_leaves, bool accumulate);

/* pass_layer.c */
lucid_status lucid_pass_layer_forward(lucid_pass *p, int layer);
lucid_status lucid_pass_layer_backward(lucid_pass *p, int layer);

/* pass_convolution.c: kept->projected -> p->q, k, v; and p->dq, dk, dv to the projections' gradients, in place.
 * Collective. */
int lucid_pass_runs(const lucid_pass *p);
lucid_status lucid_pass_convolve(lucid_pass *p, const lucid_pass_layer *kept, const lucid_model_layer *layer);
lucid_status lucid_pass_convolve_backward(lucid_pass *p, const lucid_pass_layer *kept, const lucid_model_layer *layer);

/* pass_attention.c: queries, keys and values of a layer through the engine, and back. Collective. */
lucid_status lucid_pass_attention_create(lucid_pass *p, lucid_attention **attention);
lucid_status lucid_pass_attend(lucid_pass *p, const lucid_pass_layer *layer);
lucid_status lucid_pass_attend_backward(lucid_pass *p, const lucid_pass_layer *layer);

/* pass_loss.c: final norm, outputs and losses, a leaf at a time; with `learn` the gradients, dx among them. Local. */
void lucid_pass_losses(lucid_pass_sums *sums, lucid_pass *p, bool learn, double scale);

#endif
