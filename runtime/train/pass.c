#include "runtime/train/pass_state.h"

#include "runtime/attention/attention.h"
#include "runtime/train/exact.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 16 /* floats */

/* --- memory: counted first, then handed out of one piece, zeroed --- */

typedef struct {
    float *base; /* NULL: count only */
    size_t n;
} arena;

static float *take(arena *a, int64_t rows, int64_t columns) {
    float *at = a->base ? a->base + a->n : NULL;
    a->n += ((size_t)rows * (size_t)columns + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return at;
}

static void take_layer(const lucid_pass *p, lucid_pass_layer *l, arena *a) {
    const lucid_model_config *c = &p->trainee->model.config;
    const int64_t n = p->micro.n_rows;
    const bool mlp = !p->trainee->bare, norms = c->qk_norm == LUCID_QKNORM_ON;
    l->input = take(a, n, c->hidden_size);
    l->middle = take(a, n, c->hidden_size);
    l->attended = take(a, n, lucid_pass_q(p));
    l->gate = take(a, mlp ? n : 0, c->intermediate_size);
    l->up = take(a, mlp ? n : 0, c->intermediate_size);
    l->q = take(a, norms ? n : 0, lucid_pass_q(p));
    l->k = take(a, norms ? n : 0, lucid_pass_kv(p));
    if (p->convolution.width == 1) return;
    for (int i = 0; i < LUCID_PROJECTIONS; i++) l->projected[i] = take(a, n, p->convolution.n_channels[i]);
    l->tails = take(a, lucid_pass_runs(p), (int64_t)lucid_tail_floats(&p->convolution));
}

static int max_int(int a, int b) {
    return a > b ? a : b;
}

static void take_all(lucid_pass *p, arena *a) {
    const lucid_model_config *c = &p->trainee->model.config;
    const int64_t n = p->micro.n_rows, leaf = p->micro.pack == 1 ? p->options.tile : p->micro.pack_rows;
    const int hidden = c->hidden_size, q = lucid_pass_q(p), kv = lucid_pass_kv(p);
    const int inner = p->trainee->bare ? 0 : c->intermediate_size;
    float **const wide[] = {&p->x, &p->dx, &p->normed, &p->dnormed};
    float **const queries[] = {&p->q, &p->dattended, &p->dq};
    float **const keys[] = {&p->k, &p->v, &p->dk, &p->dv};
    for (int i = 0; i < 4; i++) *wide[i] = take(a, n, hidden);
    for (int i = 0; i < 3; i++) *queries[i] = take(a, n, q);
    for (int i = 0; i < 4; i++) *keys[i] = take(a, n, kv);
    p->dgain = take(a, p->trainee->key_gain ? n : 0, kv);
    p->hidden = take(a, n, inner);
    p->dhidden = take(a, n, inner);
    p->outputs = take(a, leaf, p->trainee->n_outputs);
    p->scratch =
        take(a, 1, (int64_t)lucid_matmul_weight_floats(max_int(hidden, max_int(q, inner)), p->options.threads));
    p->rotations = c->use_rope ? take(a, p->micro.pack_rows, lucid_model_rotary_dim(c)) : NULL;
    p->scales = c->query_log_scale ? take(a, p->micro.pack_rows, 1) : NULL;
    p->leaving = take(a, lucid_pass_runs(p), (int64_t)lucid_tail_floats(&p->convolution));
    p->heads = take(a, lucid_pass_runs(p), (int64_t)lucid_tail_floats(&p->convolution));
    for (int l = 0; l < c->n_layers; l++) take_layer(p, &p->layers[l], a);
}

static lucid_status allocate(lucid_pass *p) {
    arena a = {0};
    p->layers = calloc((size_t)p->trainee->model.config.n_layers, sizeof *p->layers);
    p->leaves = calloc((size_t)p->micro.n_leaves + 1, sizeof *p->leaves);
    if (p->layers && p->leaves) {
        take_all(p, &a);
        a.base = p->memory = lucid_alloc(a.n * sizeof(float));
    }
    if (!a.base)
        return lucid_fail(LUCID_ERR_MEMORY, "no memory for the activations of %d sequences of %lld tokens",
                          p->micro.n_sequences, (long long)p->micro.length);
    memset(a.base, 0, a.n * sizeof(float));
    a.n = 0;
    take_all(p, &a);
    lucid_micro_leaves(p->leaves, &p->micro);
    return LUCID_OK;
}

/* --- positions --- */

static lucid_status set_rotations(lucid_pass *p) {
    const lucid_model_config *c = &p->trainee->model.config;
    const int half = lucid_model_rotary_dim(c) / 2;
    double factor, *inv_freq = calloc((size_t)half + 1, sizeof *inv_freq);
    if (!inv_freq) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d frequencies", half);
    lucid_rope_frequencies(inv_freq, &factor, c, p->options.length);
    for (int64_t row = 0; row < p->micro.pack_rows; row++) {
        int sequence;
        int64_t token;
        float *cosines = p->rotations + row * 2 * half;
        lucid_micro_token(&p->micro, row, &sequence, &token);
        for (int i = 0; i < half; i++) {
            cosines[i] = (float)(cos((double)token * inv_freq[i]) * factor);
            cosines[half + i] = (float)(sin((double)token * inv_freq[i]) * factor);
        }
    }
    free(inv_freq);
    return LUCID_OK;
}

static void set_scales(lucid_pass *p) {
    for (int64_t row = 0; row < p->micro.pack_rows; row++) {
        int sequence;
        int64_t token;
        lucid_micro_token(&p->micro, row, &sequence, &token);
        p->scales[row] = lucid_model_query_scale(&p->trainee->model.config, token);
    }
}

/* --- life --- */

static lucid_status prepare(lucid_pass *p) {
    lucid_pass_options *o = &p->options;
    if (o->length < 1 || o->n_sequences < 0 || o->tile < 0 || o->tile % LUCID_PANEL || o->threads < 0)
        return lucid_fail(LUCID_ERR_USAGE, "sequences of %lld tokens, %d at once, in tiles of %lld: impossible",
                          (long long)o->length, o->n_sequences, (long long)o->tile);
    const int pack = lucid_micro_pack(o->length);
    if (o->tile == 0 || pack > 1) o->tile = lucid_micro_tile(o->length);
    if (o->threads == 0) o->threads = 1;
    if (o->n_sequences == 0) o->n_sequences = 1;
    o->n_sequences = (o->n_sequences + pack - 1) / pack * pack;
    p->micro = lucid_micro_make(o->length, o->n_sequences, o->tile, p->comm->world_size, p->comm->rank);
    p->convolution = lucid_convolution_of(&p->trainee->model.config);
    LUCID_TRY(allocate(p));
    if (p->scales) set_scales(p);
    if (p->rotations) LUCID_TRY(set_rotations(p));
    return LUCID_OK;
}

lucid_status lucid_pass_create(lucid_pass **pass, lucid_trainee *trainee, lucid_comm *comm,
                               const lucid_pass_options *options) {
    lucid_pass *p = calloc(1, sizeof *p);
    lucid_status status = lucid_comm_agree(comm, p ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory"));
    if (status) goto destroy;
    *p = (lucid_pass){.trainee = trainee, .comm = comm, .options = *options};
    LUCID_TRY_GOTO(lucid_blas_agree(&p->blas, comm, options->blas), destroy);
    LUCID_TRY_GOTO(lucid_comm_agree(comm, prepare(p)), destroy);
    for (int l = 0; l < trainee->model.config.n_layers; l++)
        LUCID_TRY_GOTO(lucid_pass_attention_create(p, &p->layers[l].attention), destroy);
    *pass = p;
    return LUCID_OK;
destroy:
    lucid_pass_destroy(p);
    return status;
}

void lucid_pass_destroy(lucid_pass *p) {
    if (!p) return;
    for (int l = 0; p->layers && l < p->trainee->model.config.n_layers; l++)
        lucid_attention_destroy(p->layers[l].attention);
    free(p->layers);
    free(p->leaves);
    free(p->memory);
    free(p);
}

int lucid_pass_sequences(const lucid_pass *p) {
    return p->micro.n_sequences;
}

bool lucid_pass_adrift(const lucid_pass *p) {
    return p->adrift;
}

lucid_pass_times lucid_pass_elapsed(const lucid_pass *p) {
    return p->times;
}

/* --- embeddings --- */

/* The ids of a row's token; NULL where it is none. */
static const int32_t *row_ids(const lucid_pass *p, int64_t row) {
    const lucid_examples *e = p->examples;
    int sequence;
    int64_t token;
    if (!lucid_micro_token(&p->micro, row, &sequence, &token) || sequence >= e->n_sequences) return NULL;
    return e->ids + (sequence * e->length + token) * e->n_ids;
}

static void embed(const lucid_pass *p) {
    const lucid_model *m = &p->trainee->model;
    const size_t hidden = (size_t)m->config.hidden_size;
#pragma omp parallel for schedule(static) num_threads(p->options.threads)
    for (int64_t r = 0; r < p->micro.n_rows; r++) {
        const int32_t *ids = row_ids(p, r);
        float *x = p->x + (size_t)r * hidden;
        memset(x, 0, hidden * sizeof *x);
        for (int i = 0; ids && i < p->examples->n_ids; i++) {
            const float *row = m->embed_tokens + (size_t)(ids[i] < 0 ? 0 : ids[i]) * hidden;
            for (size_t c = 0; ids[i] >= 0 && c < hidden; c++) x[c] += row[c];
        }
    }
}

/* Columns are shared out, since many rows have the same id. */
static void embed_backward(const lucid_pass *p) {
    const lucid_model *m = &p->trainee->model;
    const int hidden = m->config.hidden_size;
    double *gradient = lucid_trainee_gradient(p->trainee, m->embed_tokens);
#pragma omp parallel num_threads(p->options.threads)
    {
        const int n = omp_get_num_threads(), t = omp_get_thread_num();
        const int first = (int)((int64_t)hidden * t / n), last = (int)((int64_t)hidden * (t + 1) / n);
        for (int64_t r = 0; r < p->micro.n_rows; r++) {
            const int32_t *ids = row_ids(p, r);
            const float *dx = p->dx + (size_t)r * (size_t)hidden;
            for (int i = 0; ids && i < p->examples->n_ids; i++) {
                double *sum = gradient + (size_t)(ids[i] < 0 ? 0 : ids[i]) * (size_t)hidden;
                for (int c = first; ids[i] >= 0 && c < last; c++) sum[c] += lucid_exact(dx[c]);
            }
        }
    }
}

/* --- passes --- */

static lucid_status forward(lucid_pass *p, const lucid_examples *examples) {
    p->examples = examples;
    embed(p);
    for (int l = 0; l < p->trainee->model.config.n_layers; l++) LUCID_TRY(lucid_pass_layer_forward(p, l));
    return LUCID_OK;
}

lucid_status lucid_pass_learn(lucid_pass_sums *sums, lucid_pass *p, const lucid_examples *examples, double scale) {
    const double begin = lucid_clock();
    LUCID_TRY(forward(p, examples));
    lucid_pass_losses(sums, p, true, scale);
    for (int l = p->trainee->model.config.n_layers - 1; l >= 0; l--) LUCID_TRY(lucid_pass_layer_backward(p, l));
    embed_backward(p);
    p->times.total += lucid_clock() - begin;
    return LUCID_OK;
}

lucid_status lucid_pass_score(lucid_pass_sums *sums, lucid_pass *p, const lucid_examples *examples) {
    const double begin = lucid_clock();
    LUCID_TRY(forward(p, examples));
    lucid_pass_losses(sums, p, false, 0);
    p->times.total += lucid_clock() - begin;
    return LUCID_OK;
}
