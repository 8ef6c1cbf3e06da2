#include "runtime/model/deltanet.h"

#include "runtime/model/deltanet_parts.h"

#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Nothing else uses the communicator while states are on their way. */
enum { STATE_CHANNEL };

struct lucid_deltanet {
    lucid_deltanet_shape shape;
    const lucid_model *model;
    lucid_comm *comm;
    const lucid_blas *blas;
    int threads;
    double timeout;
    int n_groups;        /* of heads that travel together */
    size_t state_floats; /* of a head */
    lucid_convolution convolution;
    size_t tail_floats;      /* of a layer */
    float *states, *tails;   /* (n_layers, n_heads, d, d); (n_layers, tail) */
    float *scratch;          /* (threads) of lucid_deltanet_granule */
    lucid_request **sending; /* (n_groups) states on their way */
};

/* A chunk of one layer. */
typedef struct {
    lucid_deltanet *deltanet;
    const lucid_rows *rows;
    lucid_forward *forward;
    const lucid_model_layer *layer;
    float *states, *tail; /* the layer's */
    lucid_tiles tiles;
} chunk;

static float *layer_states(const lucid_deltanet *d, int layer) {
    return d->states + (size_t)layer * d->shape.n_heads * d->state_floats;
}

static int first_head(const lucid_deltanet *d, int group) {
    return (int)((int64_t)d->shape.n_heads * group / d->n_groups);
}

/* --- set-up --- */

static lucid_status allocate(lucid_deltanet *d) {
    const size_t layers = (size_t)d->model->config.n_layers;
    d->states = calloc(layers * d->shape.n_heads * d->state_floats, sizeof *d->states);
    d->tails = calloc(layers * d->tail_floats + 1, sizeof *d->tails);
    d->sending = calloc((size_t)d->n_groups, sizeof *d->sending);
    d->scratch = aligned_alloc(64, (size_t)d->threads * lucid_deltanet_scratch_floats(&d->shape) * sizeof *d->scratch);
    if (d->states && d->tails && d->sending && d->scratch) return LUCID_OK;
    return lucid_fail(LUCID_ERR_MEMORY, "no memory for DeltaNet's states of %zu layers", layers);
}

lucid_status lucid_deltanet_create(lucid_deltanet **deltanet, const lucid_model *model, lucid_comm *comm,
                                   const lucid_blas *blas, int threads, double timeout) {
    const lucid_model_config *c = &model->config;
    lucid_deltanet *d = calloc(1, sizeof *d);
    if (!d) return lucid_fail(LUCID_ERR_MEMORY, "no memory");
    *d = (lucid_deltanet){
        .shape = {.n_heads = c->n_heads, .head_dim = c->head_dim, .conv_size = c->conv_size},
        .model = model,
        .comm = comm,
        .blas = blas,
        .threads = threads,
        .timeout = timeout > 0 ? timeout : 600,
        .n_groups = c->n_heads < 2 * comm->world_size ? c->n_heads : 2 * comm->world_size,
        .state_floats = (size_t)c->head_dim * c->head_dim,
    };
    d->convolution = lucid_convolution_of(c);
    d->tail_floats = lucid_tail_floats(&d->convolution);
    const lucid_status status = allocate(d);
    if (status) {
        lucid_deltanet_destroy(d);
        return status;
    }
    *deltanet = d;
    return LUCID_OK;
}

void lucid_deltanet_destroy(lucid_deltanet *d) {
    if (!d) return;
    free(d->states);
    free(d->tails);
    free(d->sending);
    free(d->scratch);
    free(d);
}

void lucid_deltanet_reset(lucid_deltanet *d) {
    const size_t layers = (size_t)d->model->config.n_layers;
    memset(d->states, 0, layers * d->shape.n_heads * d->state_floats * sizeof *d->states);
    memset(d->tails, 0, layers * d->tail_floats * sizeof *d->tails);
}

/* --- tiles --- */

static int owner(const chunk *c, int64_t index) {
    return (int)(index % c->rows->world_size);
}

/* --- the chain of states --- */

static void run_heads(const chunk *c, const lucid_tile *t, int first, int last) {
    lucid_deltanet *d = c->deltanet;
    const size_t scratch = lucid_deltanet_scratch_floats(&d->shape);
    const int64_t end = t->row + t->n_tokens;
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int head = first; head < last; head++) {
        float *state = c->states + (size_t)head * d->state_floats;
        for (int64_t row = t->row; row < end; row = (row / LUCID_PANEL + 1) * LUCID_PANEL) {
            const int64_t next = (row / LUCID_PANEL + 1) * LUCID_PANEL;
            const lucid_deltanet_rows rows = {
                .forward = c->forward, .first = row, .last = next < end ? next : end, .head = head};
            lucid_deltanet_granule(state, &rows, &d->shape, d->blas,
                                   d->scratch + (size_t)omp_get_thread_num() * scratch);
        }
    }
}

/* The state that left for the rank of the tile after. */
static lucid_status await_sent(const chunk *c, int group) {
    lucid_deltanet *d = c->deltanet;
    return lucid_comm_await(d->comm, &d->sending[group], (d->comm->rank + 1) % d->comm->world_size, d->timeout,
                            "DeltaNet's state of heads", group);
}

/* Some heads of one tile: their state comes from the tile before and leaves to the one after. */
static lucid_status run_group(const chunk *c, const lucid_tile *t, int group) {
    lucid_deltanet *d = c->deltanet;
    const int first = first_head(d, group), last = first_head(d, group + 1);
    const size_t bytes = (size_t)(last - first) * d->state_floats * sizeof(float);
    float *states = c->states + (size_t)first * d->state_floats;
    lucid_request *coming = NULL;
    LUCID_TRY(await_sent(c, group));
    if (d->comm->world_size > 1 && t->index > c->tiles.first) {
        const int from = owner(c, t->index - 1);
        LUCID_TRY(lucid_comm_post_recv(d->comm, STATE_CHANNEL, from, states, bytes, &coming));
        LUCID_TRY(lucid_comm_await(d->comm, &coming, from, d->timeout, "DeltaNet's state of tile", t->index - 1));
    }
    run_heads(c, t, first, last);
    if (d->comm->world_size == 1 || t->index == c->tiles.last) return LUCID_OK;
    return lucid_comm_post_send(d->comm, STATE_CHANNEL, owner(c, t->index + 1), states, bytes, &d->sending[group]);
}

static lucid_status run_chain(const chunk *c) {
    lucid_deltanet *d = c->deltanet;
    for (int i = 0; i < c->tiles.n_tiles; i++)
        for (int group = 0; group < d->n_groups; group++) LUCID_TRY(run_group(c, &c->tiles.tiles[i], group));
    for (int group = 0; group < d->n_groups; group++) LUCID_TRY(await_sent(c, group));
    return lucid_comm_broadcast(d->comm, c->states, (size_t)d->shape.n_heads * d->state_floats * sizeof *c->states,
                                owner(c, c->tiles.last));
}

static lucid_status run_chunk(chunk *c) {
    const float *const projections[LUCID_PROJECTIONS] = {c->forward->q, c->forward->k, c->forward->v};
    const lucid_deltanet *d = c->deltanet;
    LUCID_TRY(lucid_comm_agree(d->comm, lucid_tiles_make(&c->tiles, c->rows, &d->convolution)));
    LUCID_TRY(lucid_tails_exchange(c->tail, &c->tiles, projections, &d->convolution, d->comm, d->timeout));
    for (int i = 0; i < c->tiles.n_tiles; i++) {
        const lucid_tile *t = &c->tiles.tiles[i];
        lucid_deltanet_features(c->forward, c->layer, t->row, t->n_tokens, t->tail, &c->deltanet->shape,
                                c->deltanet->threads);
    }
    LUCID_TRY(run_chain(c));
    lucid_rms_norm(c->forward->q, c->forward->q, c->layer->o_norm, c->forward->n_rows * c->deltanet->shape.n_heads,
                   c->deltanet->shape.head_dim, c->deltanet->model->config.rms_norm_eps, c->deltanet->threads);
    return LUCID_OK;
}

lucid_status lucid_deltanet_chunk(lucid_deltanet *d, int layer, lucid_forward *forward, const lucid_rows *rows) {
    chunk c = {.deltanet = d,
               .rows = rows,
               .forward = forward,
               .layer = &d->model->layers[layer],
               .states = layer_states(d, layer),
               .tail = d->tails + (size_t)layer * d->tail_floats};
    const lucid_status status = run_chunk(&c);
    lucid_tiles_free(&c.tiles);
    return status;
}

void lucid_deltanet_token(lucid_deltanet *d, int layer, lucid_forward *forward) {
    const lucid_model_layer *l = &d->model->layers[layer];
    const lucid_deltanet_shape *s = &d->shape;
    float *tail = d->tails + (size_t)layer * d->tail_floats, *scratch = d->scratch;
    lucid_tail_make(scratch, tail, (const float *const[]){forward->q, forward->k, forward->v}, 1, &d->convolution);
    lucid_deltanet_features(forward, l, 0, 1, tail, s, 1);
    memcpy(tail, scratch, d->tail_floats * sizeof *tail);
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int head = 0; head < s->n_heads; head++)
        lucid_deltanet_step(layer_states(d, layer) + (size_t)head * d->state_floats, forward, head, s);
    lucid_rms_norm(forward->q, forward->q, l->o_norm, s->n_heads, s->head_dim, d->model->config.rms_norm_eps, 1);
}
