#include "runtime/attention/attention.h"
#include "runtime/train/pass_state.h"

#include <string.h>

/* A layer's tensors while the engine reads or writes them. */
typedef struct {
    const lucid_pass *pass;
    const lucid_pass_layer *layer;
} transfer;

/* (n_rows, n_heads, head_dim) behind a tensor. */
static float *tensor_rows(const transfer *t, lucid_tensor tensor, int *n_heads) {
    const lucid_pass *p = t->pass;
    const lucid_model_config *m = &p->trainee->model.config;
    float *const rows[] = {[LUCID_Q] = p->q,
                           [LUCID_K] = p->k,
                           [LUCID_V] = p->v,
                           [LUCID_OUT] = t->layer->attended,
                           [LUCID_DOUT] = p->dattended,
                           [LUCID_DQ] = p->dq,
                           [LUCID_DK] = p->dk,
                           [LUCID_DV] = p->dv};
    const bool of_keys = tensor == LUCID_K || tensor == LUCID_V || tensor == LUCID_DK || tensor == LUCID_DV;
    *n_heads = of_keys ? m->n_kv_heads : m->n_heads;
    return rows[tensor];
}

/* A lucid_reader; tokens of one call lie in one tile, and so in consecutive rows. */
static lucid_status read_rows(void *context, void *rows, lucid_tensor tensor, int batch, int head, int64_t first,
                              int n_tokens) {
    const transfer *t = context;
    const size_t d = (size_t)t->pass->trainee->model.config.head_dim;
    int n_heads;
    const float *from = tensor_rows(t, tensor, &n_heads);
    const size_t row = (size_t)lucid_micro_row(&t->pass->micro, batch, first);
    for (int i = 0; i < n_tokens; i++)
        memcpy((float *)rows + (size_t)i * d, from + ((row + (size_t)i) * (size_t)n_heads + (size_t)head) * d,
               d * sizeof *from);
    return LUCID_OK;
}

/* A lucid_writer. */
static lucid_status write_rows(void *context, const float *rows, lucid_tensor tensor, int batch, int head,
                               int64_t first, int n_tokens) {
    const transfer *t = context;
    const size_t d = (size_t)t->pass->trainee->model.config.head_dim;
    int n_heads;
    float *to = tensor_rows(t, tensor, &n_heads);
    const size_t row = (size_t)lucid_micro_row(&t->pass->micro, batch, first);
    for (int i = 0; i < n_tokens; i++)
        memcpy(to + ((row + (size_t)i) * (size_t)n_heads + (size_t)head) * d, rows + (size_t)i * d, d * sizeof *rows);
    return LUCID_OK;
}

lucid_status lucid_pass_attention_create(lucid_pass *p, lucid_attention **attention) {
    const lucid_model_config *m = &p->trainee->model.config;
    const lucid_problem problem = {
        .attention = m->attention == LUCID_MODEL_LUCID ? LUCID_ATTENTION_LUCID : LUCID_ATTENTION_SOFTMAX,
        .seqlen = p->options.length,
        .batch = p->micro.n_sequences,
        .n_heads = m->n_heads,
        .n_kv_heads = m->n_kv_heads,
        .head_dim = m->head_dim,
        .value_dim = m->head_dim,
        .eps = m->rms_norm_eps,
    };
    const lucid_options options = {
        .isa = p->options.isa,
        .layout = LUCID_LAYOUT_CYCLIC,
        .tile = p->options.tile,
        .threads = p->options.threads,
        .timeout = p->options.timeout,
        .backward = p->options.backward,
    };
    return lucid_attention_create(attention, p->comm, &problem, &options);
}

static lucid_status load(transfer *t, const lucid_tensor *tensors, int n) {
    for (int i = 0; i < n; i++)
        LUCID_TRY(lucid_attention_load(t->layer->attention, tensors[i], LUCID_F32, read_rows, t));
    return LUCID_OK;
}

static lucid_status store(transfer *t, const lucid_tensor *tensors, int n) {
    for (int i = 0; i < n; i++) LUCID_TRY(lucid_attention_store(t->layer->attention, tensors[i], write_rows, t));
    return LUCID_OK;
}

/* Loads, runs and stores; `run` is the engine's. */
static lucid_status pass_through(lucid_pass *p, const lucid_pass_layer *layer, const lucid_tensor *in, int n_in,
                                 lucid_status (*run)(lucid_attention *), const lucid_tensor *out, int n_out) {
    transfer t = {p, layer};
    const double begin = lucid_clock();
    LUCID_TRY(lucid_comm_agree(p->comm, load(&t, in, n_in)));
    const double loaded = lucid_clock();
    const lucid_status status = run(layer->attention);
    p->adrift = status != LUCID_OK;
    LUCID_TRY(status);
    const double ran = lucid_clock();
    LUCID_TRY(lucid_comm_agree(p->comm, store(&t, out, n_out)));
    p->times.attention += ran - loaded;
    p->times.pack += lucid_clock() - ran + loaded - begin;
    return LUCID_OK;
}

lucid_status lucid_pass_attend(lucid_pass *p, const lucid_pass_layer *layer) {
    static const lucid_tensor in[] = {LUCID_Q, LUCID_K, LUCID_V}, out[] = {LUCID_OUT};
    return pass_through(p, layer, in, 3, lucid_attention_run, out, 1);
}

lucid_status lucid_pass_attend_backward(lucid_pass *p, const lucid_pass_layer *layer) {
    static const lucid_tensor in[] = {LUCID_DOUT}, out[] = {LUCID_DQ, LUCID_DK, LUCID_DV};
    return pass_through(p, layer, in, 1, lucid_attention_backward, out, 3);
}
