#include "runtime/attention/attention.h"
#include "runtime/model/problem.h"
#include "runtime/train/pass_state.h"

/* A layer's tensors while the engine reads or writes them. */
typedef struct {
    const lucid_pass *pass;
    const lucid_pass_layer *layer;
} transfer;

/* What lies behind a tensor: (n_rows, *n_heads, head_dim) from a token's row on. */
static float *tensor_rows(const transfer *t, lucid_tensor tensor, int batch, int64_t token, int *n_heads) {
    const lucid_pass *p = t->pass;
    const lucid_model_config *m = &p->trainee->model.config;
    float *const rows[] = {[LUCID_Q] = p->q,
                           [LUCID_K] = p->k,
                           [LUCID_V] = p->v,
                           [LUCID_OUT] = t->layer->attended,
                           [LUCID_DOUT] = p->dattended,
                           [LUCID_DQ] = p->dq,
                           [LUCID_DK] = p->dk,
                           [LUCID_DV] = p->dv,
                           [LUCID_DGAIN] = p->dgain};
    const bool of_keys =
        tensor == LUCID_K || tensor == LUCID_V || tensor == LUCID_DK || tensor == LUCID_DV || tensor == LUCID_DGAIN;
    *n_heads = of_keys ? m->n_kv_heads : m->n_heads;
    return rows[tensor] + lucid_micro_row(&p->micro, batch, token) * *n_heads * m->head_dim;
}

/* A lucid_reader; tokens of one call lie in one tile, and so in consecutive rows. */
static lucid_status read_rows(void *context, void *rows, lucid_tensor tensor, int batch, int head, int64_t first,
                              int n_tokens) {
    const transfer *t = context;
    int n_heads;
    const float *from = tensor_rows(t, tensor, batch, first, &n_heads);
    lucid_head_gather(rows, from, n_tokens, n_heads, head, t->pass->trainee->model.config.head_dim);
    return LUCID_OK;
}

/* A lucid_writer. */
static lucid_status write_rows(void *context, const float *rows, lucid_tensor tensor, int batch, int head,
                               int64_t first, int n_tokens) {
    const transfer *t = context;
    int n_heads;
    float *to = tensor_rows(t, tensor, batch, first, &n_heads);
    lucid_head_scatter(to, rows, n_tokens, n_heads, head, t->pass->trainee->model.config.head_dim);
    return LUCID_OK;
}

lucid_status lucid_pass_attention_create(lucid_pass *p, lucid_attention **attention) {
    const lucid_problem problem =
        lucid_model_problem(&p->trainee->model.config, p->options.length, p->micro.n_sequences);
    const lucid_options options = {
        .isa = p->options.isa,
        .layout = LUCID_LAYOUT_CYCLIC,
        .tile = p->options.tile,
        .threads = p->options.threads,
        .timeout = p->options.timeout,
        .backward = p->options.backward,
    };
    LUCID_TRY(lucid_attention_create(attention, p->comm, &problem, &options));
    if (!p->trainee->key_gain) return LUCID_OK;
    return lucid_comm_agree(p->comm, lucid_attention_set_key_gain(*attention, p->trainee->key_gain));
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
    static const lucid_tensor in[] = {LUCID_DOUT}, out[] = {LUCID_DQ, LUCID_DK, LUCID_DV, LUCID_DGAIN};
    return pass_through(p, layer, in, 1, lucid_attention_backward, out, p->trainee->key_gain ? 4 : 3);
}
