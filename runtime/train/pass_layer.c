/* One layer, forward and backward. A part that a bare model lacks (its weight is NULL) passes its input on. */
#include "runtime/train/parts.h"
#include "runtime/train/pass_state.h"

#include "runtime/model/forward.h"

#include <omp.h>
#include <string.h>

static const lucid_model_config *config_of(const lucid_pass *p) {
    return &p->trainee->model.config;
}

void lucid_pass_multiply(const lucid_pass *p, float *out, const lucid_linear *linear, const float *x,
                         const lucid_leaf *leaves, int n_leaves, bool accumulate) {
    lucid_matmul_leaves(out, linear, x, leaves, n_leaves, accumulate, p->blas, p->options.threads);
}

void lucid_pass_multiply_backward(const lucid_pass *p, float *dx, const lucid_linear *l, const float *dout,
                                  const float *x, const lucid_leaf *leaves, int n_leaves, bool accumulate) {
    lucid_matmul_weight(lucid_trainee_gradient(p->trainee, l->weight), lucid_trainee_gradient(p->trainee, l->bias), l,
                        dout, x, leaves, n_leaves, p->scratch, p->blas, p->options.threads);
    if (dx) lucid_matmul_input(dx, l, dout, leaves, n_leaves, accumulate, p->blas, p->options.threads);
}

/* The normed input of a half of a layer: in p->normed, or x itself where there is no norm. */
static const float *norm(const lucid_pass *p, const float *x, const float *gain) {
    const lucid_model_config *c = config_of(p);
    if (!gain) return x;
    lucid_rms_norm(p->normed, x, gain, p->micro.n_rows, c->hidden_size, c->rms_norm_eps, p->options.threads);
    return p->normed;
}

/* p->dx += the gradient of x through its norm, from p->dnormed. Without a norm nothing passes by it: dx is dnormed. */
static void norm_backward(const lucid_pass *p, const float *x, const float *gain) {
    const lucid_model_config *c = config_of(p);
    if (!gain) {
        memcpy(p->dx, p->dnormed, (size_t)p->micro.n_rows * (size_t)c->hidden_size * sizeof *p->dx);
        return;
    }
    lucid_rms_norm_backward(p->dx, lucid_trainee_gradient(p->trainee, gain), p->dnormed, x, gain, p->micro.n_rows,
                            c->hidden_size, c->rms_norm_eps, p->options.threads);
}

/* --- linear maps --- */

typedef struct {
    lucid_linear q, k, v, o, gate, up, down;
} linears;

static linears linears_of(const lucid_pass *p, const lucid_model_layer *l) {
    const int hidden = config_of(p)->hidden_size, inner = config_of(p)->intermediate_size;
    const int q = lucid_pass_q(p), kv = lucid_pass_kv(p);
    return (linears){
        .q = {.weight = l->q_proj, .bias = l->q_bias, .n_in = hidden, .n_out = q},
        .k = {.weight = l->k_proj, .bias = l->k_bias, .n_in = hidden, .n_out = kv},
        .v = {.weight = l->v_proj, .bias = l->v_bias, .n_in = hidden, .n_out = kv},
        .o = {.weight = l->o_proj, .bias = l->o_bias, .n_in = q, .n_out = hidden},
        .gate = {.weight = l->gate_proj, .bias = l->gate_bias, .n_in = hidden, .n_out = inner},
        .up = {.weight = l->up_proj, .bias = l->up_bias, .n_in = hidden, .n_out = inner},
        .down = {.weight = l->down_proj, .bias = l->down_bias, .n_in = inner, .n_out = hidden},
    };
}

/* --- positions and norms of heads --- */

/* Queries or keys of a layer. kept: what goes into the norm (gain, NULL: none). */
typedef struct {
    float *kept;
    const float *gain, *scales;
    int n_heads;
} heads;

static heads queries_of(const lucid_pass *p, const lucid_pass_layer *kept, const lucid_model_layer *l) {
    return (heads){.kept = kept->q, .gain = l->q_norm, .scales = p->scales, .n_heads = config_of(p)->n_heads};
}

static heads keys_of(const lucid_pass *p, const lucid_pass_layer *kept, const lucid_model_layer *l) {
    return (heads){.kept = kept->k, .gain = l->k_norm, .n_heads = config_of(p)->n_kv_heads};
}

static void turn(const lucid_pass *p, float *x, const heads *h, bool back) {
    const lucid_model_config *c = config_of(p);
    const lucid_rotations rotations = {
        .angles = p->rotations, .period = p->micro.pack_rows, .n_turned = lucid_model_rotary_dim(c)};
    if (c->use_rope) lucid_turn(x, &rotations, p->micro.n_rows, h->n_heads, c->head_dim, back, p->options.threads);
}

static void scale(const lucid_pass *p, float *x, const heads *h) {
    if (h->scales)
        lucid_scale_rows(x, h->scales, p->micro.pack_rows, p->micro.n_rows, h->n_heads * config_of(p)->head_dim,
                         p->options.threads);
}

/* As lucid_forward has it: RoPE, the norm of each head, the queries' scales. */
static void place_heads(const lucid_pass *p, float *x, const heads *h) {
    const lucid_model_config *c = config_of(p);
    const int64_t n = p->micro.n_rows * h->n_heads;
    turn(p, x, h, false);
    if (h->gain) {
        memcpy(h->kept, x, (size_t)(n * c->head_dim) * sizeof *x);
        lucid_rms_norm(x, h->kept, h->gain, n, c->head_dim, c->rms_norm_eps, p->options.threads);
    }
    scale(p, x, h);
}

/* dx (n_rows, n_heads, head_dim) becomes the gradient of place_heads' input; scratch has its shape. */
static void place_heads_backward(const lucid_pass *p, float *dx, float *scratch, const heads *h) {
    const lucid_model_config *c = config_of(p);
    const int64_t n = p->micro.n_rows * h->n_heads;
    const size_t bytes = (size_t)(n * c->head_dim) * sizeof *dx;
    scale(p, dx, h);
    if (h->gain) {
        memcpy(scratch, dx, bytes);
        memset(dx, 0, bytes);
        lucid_rms_norm_backward(dx, lucid_trainee_gradient(p->trainee, h->gain), scratch, h->kept, h->gain, n,
                                c->head_dim, c->rms_norm_eps, p->options.threads);
    }
    turn(p, dx, h, true);
}

/* --- halves --- */

/* p->x -> layer->middle */
static lucid_status attention_forward(lucid_pass *p, const lucid_pass_layer *kept, const lucid_model_layer *l) {
    const linears w = linears_of(p, l);
    const lucid_model_config *c = config_of(p);
    const int64_t n_rows = p->micro.n_rows;
    const size_t bytes = (size_t)n_rows * (size_t)c->hidden_size * sizeof(float);
    const bool convolved = p->convolution.width > 1;
    const heads queries = queries_of(p, kept, l), keys = keys_of(p, kept, l);
    const float *normed = norm(p, kept->input, l->input_norm);
    lucid_pass_multiply(p, convolved ? kept->projected[0] : p->q, &w.q, normed, p->leaves, p->micro.n_leaves, false);
    lucid_pass_multiply(p, convolved ? kept->projected[1] : p->k, &w.k, normed, p->leaves, p->micro.n_leaves, false);
    lucid_pass_multiply(p, convolved ? kept->projected[2] : p->v, &w.v, normed, p->leaves, p->micro.n_leaves, false);
    if (convolved) LUCID_TRY(lucid_pass_convolve(p, kept, l));
    place_heads(p, p->q, &queries);
    place_heads(p, p->k, &keys);
    LUCID_TRY(lucid_pass_attend(p, kept));
    memcpy(kept->middle, l->o_proj ? kept->input : kept->attended, bytes);
    if (l->o_proj) lucid_pass_multiply(p, kept->middle, &w.o, kept->attended, p->leaves, p->micro.n_leaves, true);
    return LUCID_OK;
}

/* The gain's gradient, from p->dgain. */
static void gain_backward(const lucid_pass *p) {
    const lucid_model_config *c = config_of(p);
    double *gradient = lucid_trainee_gradient(p->trainee, p->trainee->key_gain);
    for (int leaf = 0; gradient && leaf < p->micro.n_leaves; leaf++)
        lucid_column_sums(gradient, p->dgain + p->leaves[leaf].first * lucid_pass_kv(p),
                          p->leaves[leaf].n_rows * c->n_kv_heads, c->head_dim, p->options.threads);
}

/* p->dx: from the gradient of middle to that of input */
static lucid_status attention_backward(lucid_pass *p, const lucid_pass_layer *kept, const lucid_model_layer *l) {
    const linears w = linears_of(p, l);
    const lucid_model_config *c = config_of(p);
    const lucid_leaf *leaves = p->leaves;
    const int n = p->micro.n_leaves;
    if (l->o_proj)
        lucid_pass_multiply_backward(p, p->dattended, &w.o, p->dx, kept->attended, leaves, n, false);
    else
        memcpy(p->dattended, p->dx, (size_t)p->micro.n_rows * (size_t)c->hidden_size * sizeof(float));
    LUCID_TRY(lucid_pass_attend_backward(p, kept));
    gain_backward(p);
    const heads queries = queries_of(p, kept, l), keys = keys_of(p, kept, l);
    place_heads_backward(p, p->dq, p->q, &queries);
    place_heads_backward(p, p->dk, p->k, &keys);
    if (p->convolution.width > 1) LUCID_TRY(lucid_pass_convolve_backward(p, kept, l));
    const float *normed = norm(p, kept->input, l->input_norm);
    lucid_pass_multiply_backward(p, p->dnormed, &w.q, p->dq, normed, leaves, n, false);
    lucid_pass_multiply_backward(p, p->dnormed, &w.k, p->dk, normed, leaves, n, true);
    lucid_pass_multiply_backward(p, p->dnormed, &w.v, p->dv, normed, leaves, n, true);
    norm_backward(p, kept->input, l->input_norm);
    return LUCID_OK;
}

/* layer->middle -> p->x */
static void mlp_forward(lucid_pass *p, const lucid_pass_layer *kept, const lucid_model_layer *l) {
    const linears w = linears_of(p, l);
    const lucid_model_config *c = config_of(p);
    const int64_t n_rows = p->micro.n_rows;
    memcpy(p->x, kept->middle, (size_t)n_rows * (size_t)c->hidden_size * sizeof *p->x);
    if (!l->gate_proj) return;
    const float *normed = norm(p, kept->middle, l->post_attention_norm);
    lucid_pass_multiply(p, kept->gate, &w.gate, normed, p->leaves, p->micro.n_leaves, false);
    lucid_pass_multiply(p, kept->up, &w.up, normed, p->leaves, p->micro.n_leaves, false);
    lucid_gate(p->hidden, kept->gate, kept->up, n_rows * c->intermediate_size, c->activation, p->options.threads);
    lucid_pass_multiply(p, p->x, &w.down, p->hidden, p->leaves, p->micro.n_leaves, true);
}

/* p->dx: from the gradient of the layer's output to that of middle */
static void mlp_backward(lucid_pass *p, const lucid_pass_layer *kept, const lucid_model_layer *l) {
    const linears w = linears_of(p, l);
    const lucid_model_config *c = config_of(p);
    const lucid_leaf *leaves = p->leaves;
    const int n = p->micro.n_leaves;
    if (!l->gate_proj) return;
    lucid_matmul_input(p->dhidden, &w.down, p->dx, leaves, n, false, p->blas, p->options.threads);
    lucid_gate_backward(kept->gate, kept->up, p->hidden, p->dhidden, p->micro.n_rows * c->intermediate_size,
                        c->activation, p->options.threads);
    lucid_pass_multiply_backward(p, NULL, &w.down, p->dx, p->hidden, leaves, n, false);
    const float *normed = norm(p, kept->middle, l->post_attention_norm);
    lucid_pass_multiply_backward(p, p->dnormed, &w.gate, kept->gate, normed, leaves, n, false);
    lucid_pass_multiply_backward(p, p->dnormed, &w.up, kept->up, normed, leaves, n, true);
    norm_backward(p, kept->middle, l->post_attention_norm);
}

lucid_status lucid_pass_layer_forward(lucid_pass *p, int layer) {
    const lucid_pass_layer *kept = &p->layers[layer];
    const lucid_model_layer *l = &p->trainee->model.layers[layer];
    memcpy(kept->input, p->x, (size_t)p->micro.n_rows * (size_t)config_of(p)->hidden_size * sizeof *p->x);
    LUCID_TRY(attention_forward(p, kept, l));
    mlp_forward(p, kept, l);
    return LUCID_OK;
}

lucid_status lucid_pass_layer_backward(lucid_pass *p, int layer) {
    const lucid_pass_layer *kept = &p->layers[layer];
    const lucid_model_layer *l = &p->trainee->model.layers[layer];
    mlp_backward(p, kept, l);
    return attention_backward(p, kept, l);
}
