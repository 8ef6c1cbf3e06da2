#include "launch/source.h"

#include <inttypes.h>
#include <limits.h>

static const char *const names[LAUNCH_N_INPUTS] = {[LUCID_Q] = "q", [LUCID_K] = "k", [LUCID_V] = "v"};

const char *launch_dtype_name(lucid_dtype dtype) {
    static const char *const dtypes[] = {[LUCID_F32] = "fp32", [LUCID_BF16] = "bf16", [LUCID_F16] = "fp16"};
    return dtypes[dtype];
}

int launch_tensor_heads(const lucid_problem *p, lucid_tensor tensor) {
    bool kv = tensor == LUCID_K || tensor == LUCID_V || tensor == LUCID_Y || tensor == LUCID_DK || tensor == LUCID_DV;
    return kv ? p->n_kv_heads : p->n_heads;
}

int launch_tensor_dim(const lucid_problem *p, lucid_tensor tensor) {
    if (tensor == LUCID_LSE) return 1;
    bool keys = tensor == LUCID_Q || tensor == LUCID_K || tensor == LUCID_DQ || tensor == LUCID_DK;
    return keys ? p->head_dim : p->value_dim;
}

int64_t launch_tensor_row(const lucid_problem *p, lucid_tensor tensor, int batch, int head, int64_t token) {
    return ((int64_t)batch * launch_tensor_heads(p, tensor) + head) * p->seqlen + token;
}

/* The last four sizes of a tensor, batch 1 where it has only three. */
typedef struct {
    int64_t batch, heads, seqlen, dim;
} extents;

static extents tensor_extents(const lucid_safetensors_tensor *t) {
    const int64_t *last = t->shape + t->n_dims - 3;
    return (extents){.batch = t->n_dims == 4 ? t->shape[0] : 1, .heads = last[0], .seqlen = last[1], .dim = last[2]};
}

static lucid_status find_tensor(launch_source *source, lucid_tensor which) {
    const char *path = lucid_safetensors_path(source->file);
    const lucid_safetensors_tensor *t = lucid_safetensors_find(source->file, names[which]);
    if (!t) return lucid_fail(LUCID_ERR_INPUT, "%s: no tensor '%s'", path, names[which]);
    if (t->n_dims != 3 && t->n_dims != 4)
        return lucid_fail(LUCID_ERR_INPUT, "%s: %s has %d dimensions, not ([batch,] heads, N, dim)", path, t->name,
                          t->n_dims);
    source->tensors[which] = t;
    return lucid_safetensors_dtype(&source->dtypes[which], source->file, t);
}

static lucid_status check_extent(const launch_source *source, const char *tensor, const char *what, int64_t value,
                                 int64_t max) {
    if (value >= 1 && value <= max) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s: %s has %s %" PRId64 ", not 1..%" PRId64,
                      lucid_safetensors_path(source->file), tensor, what, value, max);
}

static lucid_status check_extents(const launch_source *source, const char *tensor, const extents *e) {
    LUCID_TRY(check_extent(source, tensor, "batch size", e->batch, INT_MAX));
    LUCID_TRY(check_extent(source, tensor, "number of heads", e->heads, 65536));
    LUCID_TRY(check_extent(source, tensor, "sequence length", e->seqlen, INT64_C(1) << 40));
    return check_extent(source, tensor, "head_dim", e->dim, LUCID_MAX_HEAD_DIM);
}

static lucid_status check_same(const launch_source *source, const char *what, const char *a, int64_t in_a,
                               const char *b, int64_t in_b) {
    if (in_a == in_b) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s: %s has %s %" PRId64 ", %s has %" PRId64,
                      lucid_safetensors_path(source->file), a, what, in_a, b, in_b);
}

static lucid_status check_shapes(launch_source *source) {
    extents e[LAUNCH_N_INPUTS];
    for (int i = 0; i < LAUNCH_N_INPUTS; i++) {
        e[i] = tensor_extents(source->tensors[i]);
        LUCID_TRY(check_same(source, "number of dimensions", "q", source->tensors[LUCID_Q]->n_dims, names[i],
                             source->tensors[i]->n_dims));
        LUCID_TRY(check_extents(source, names[i], &e[i]));
        LUCID_TRY(check_same(source, "batch size", "q", e[LUCID_Q].batch, names[i], e[i].batch));
        LUCID_TRY(check_same(source, "sequence length", "q", e[LUCID_Q].seqlen, names[i], e[i].seqlen));
    }
    LUCID_TRY(check_same(source, "head_dim", "q", e[LUCID_Q].dim, "k", e[LUCID_K].dim));
    LUCID_TRY(check_same(source, "number of heads", "k", e[LUCID_K].heads, "v", e[LUCID_V].heads));
    if (e[LUCID_Q].heads % e[LUCID_K].heads)
        return lucid_fail(LUCID_ERR_INPUT, "%s: q has %" PRId64 " heads, no multiple of k's %" PRId64,
                          lucid_safetensors_path(source->file), e[LUCID_Q].heads, e[LUCID_K].heads);
    source->batched = source->tensors[LUCID_Q]->n_dims == 4;
    source->problem.batch = (int)e[LUCID_Q].batch;
    source->problem.n_heads = (int)e[LUCID_Q].heads;
    source->problem.n_kv_heads = (int)e[LUCID_K].heads;
    source->problem.seqlen = e[LUCID_Q].seqlen;
    source->problem.head_dim = (int)e[LUCID_Q].dim;
    source->problem.value_dim = (int)e[LUCID_V].dim;
    return LUCID_OK;
}

static lucid_problem problem_from_options(const launch_options *o, int64_t seqlen) {
    return (lucid_problem){
        .attention = o->attention,
        .seqlen = seqlen,
        .batch = (int)o->batch,
        .n_heads = (int)o->heads,
        .n_kv_heads = (int)(o->kv_heads ? o->kv_heads : o->heads),
        .head_dim = (int)o->head_dim,
        .value_dim = (int)(o->value_dim ? o->value_dim : o->head_dim),
        .softmax_scale = o->softmax_scale,
        .eps = o->eps,
    };
}

void launch_source_random(launch_source *source, const launch_options *options, int64_t seqlen) {
    *source = (launch_source){
        .random = {.seed = (uint64_t)options->seed, .kind = options->keys, .correlation = 0.8},
        .problem = problem_from_options(options, seqlen),
        .batched = true,
    };
    for (int i = 0; i < LAUNCH_N_INPUTS; i++) source->dtypes[i] = options->dtype;
}

lucid_status launch_source_open(launch_source *source, const launch_options *options) {
    launch_source_random(source, options, options->random);
    if (!options->input) return LUCID_OK;
    LUCID_TRY(lucid_safetensors_open(&source->file, options->input));
    for (int i = 0; i < LAUNCH_N_INPUTS; i++) LUCID_TRY(find_tensor(source, i));
    return check_shapes(source);
}

void launch_source_close(launch_source *source) {
    lucid_safetensors_close(source->file);
    source->file = NULL;
}

static lucid_status read_rows(const launch_source *source, void *rows, lucid_tensor tensor, int batch, int head,
                              int64_t first, int n_tokens) {
    const lucid_problem *p = &source->problem;
    int dim = launch_tensor_dim(p, tensor);
    if (!source->file) {
        lucid_random_rows(rows, source->dtypes[tensor], &source->random, tensor, batch, head, first, n_tokens, dim);
        return LUCID_OK;
    }
    /* The file is checked: no product exceeds its size. */
    int64_t row = launch_tensor_row(p, tensor, batch, head, first);
    return lucid_safetensors_read(source->file, source->tensors[tensor], row * dim, (int64_t)n_tokens * dim, rows);
}

lucid_status launch_source_read(void *context, void *rows, lucid_tensor tensor, int batch, int head, int64_t first,
                                int n_tokens) {
    const launch_source *source = context;
    LUCID_TRY(read_rows(source, rows, tensor, batch, head, first, n_tokens));
    if (source->digest)
        lucid_digest_add(source->digest, rows, source->dtypes[tensor], tensor, batch, head, first, n_tokens,
                         launch_tensor_dim(&source->problem, tensor));
    return LUCID_OK;
}

lucid_status launch_source_load(launch_source *source, lucid_attention *attention) {
    for (int i = 0; i < LAUNCH_N_INPUTS; i++)
        LUCID_TRY(lucid_attention_load(attention, i, source->dtypes[i], launch_source_read, source));
    return LUCID_OK;
}
