/* The convolutions of a context: their arithmetic is convolution.h's; here is what they need of earlier tokens. */
#include "runtime/model/context_parts.h"

#include <omp.h>
#include <string.h>

static float *layer_tail(const lucid_context *c, int layer) {
    return c->tails + (size_t)layer * lucid_tail_floats(&c->convolution);
}

static int owner(const lucid_context *c, int64_t token) {
    return (int)(token / c->options.tile % c->comm->world_size);
}

lucid_status lucid_context_find_tails(lucid_context *c) {
    const size_t n = lucid_tail_floats(&c->convolution), n_layers = (size_t)c->model->config.n_layers;
    const int64_t last = c->n_read - 1;
    if (n == 0 || c->n_tails == c->n_read) return LUCID_OK;
    memset(c->tails, 0, n_layers * n * sizeof *c->tails);
    for (int l = 0; last >= 0 && owner(c, last) == c->comm->rank && l < c->model->config.n_layers; l++)
        memcpy(layer_tail(c, l), lucid_cache_tail(c->cache, l, last / LUCID_GRANULE), n * sizeof *c->tails);
    if (last >= 0) LUCID_TRY(lucid_comm_broadcast(c->comm, c->tails, n_layers * n * sizeof *c->tails, owner(c, last)));
    c->n_tails = c->n_read;
    return LUCID_OK;
}

static void convolve_rows(const lucid_context *c, int layer, const lucid_conv_columns *s, int64_t row, int64_t n_tokens,
                          const float *tail) {
    const lucid_model_layer *l = &c->model->layers[layer];
    float *const projections[] = {c->forward.q, c->forward.k, c->forward.v};
    const float *const weights[] = {l->q_conv, l->k_conv, l->v_conv};
    const size_t ld = (size_t)c->convolution.n_channels[s->which];
    const lucid_conv_strip rows = {.n_tokens = n_tokens,
                                   .n_channels = s->n,
                                   .ld = ld,
                                   .weight = weights[s->which] + (size_t)s->column * (size_t)c->convolution.width,
                                   .width = c->convolution.width,
                                   .border = tail + lucid_tail_column(&c->convolution, s->which) + s->column,
                                   .border_ld = lucid_tail_ld(&c->convolution)};
    float *x = projections[s->which] + (size_t)row * ld + s->column;
    lucid_convolve(x, x, &rows);
}

/* The tails behind every granule's last token that a tile has of the chunk. */
static void keep_tails(const lucid_context *c, int layer, const lucid_tile *t, int64_t first) {
    const lucid_convolution *s = &c->convolution;
    const size_t row = (size_t)t->row;
    const float *const own[] = {c->forward.q + row * (size_t)s->n_channels[0],
                                c->forward.k + row * (size_t)s->n_channels[1],
                                c->forward.v + row * (size_t)s->n_channels[2]};
    for (int64_t token = first, last = first + t->n_tokens; token < last;) {
        const int64_t granule = token / LUCID_GRANULE, end = (granule + 1) * LUCID_GRANULE;
        token = end < last ? end : last;
        lucid_tail_make(lucid_cache_tail(c->cache, layer, granule), t->tail, own, token - first, s);
    }
}

lucid_status lucid_context_convolve(lucid_context *c, int layer, lucid_tiles *tiles) {
    const lucid_forward *f = &c->forward;
    const float *const projections[] = {f->q, f->k, f->v};
    if (c->convolution.width == 1) return LUCID_OK;
    const lucid_status status =
        lucid_tails_exchange(layer_tail(c, layer), tiles, projections, &c->convolution, c->comm, c->options.timeout);
    c->adrift = status != LUCID_OK;
    LUCID_TRY(status);
    for (int i = 0; i < tiles->n_tiles; i++) {
        const lucid_tile *t = &tiles->tiles[i];
        const int64_t begin = t->index * c->options.tile;
        keep_tails(c, layer, t, begin > tiles->rows->first ? begin : tiles->rows->first);
    }
    const int n_strips = lucid_convolution_strips(&c->convolution);
#pragma omp parallel for schedule(dynamic) num_threads(c->options.threads)
    for (int i = 0; i < n_strips; i++) {
        const lucid_conv_columns s = lucid_convolution_columns(&c->convolution, i);
        for (int t = 0; t < tiles->n_tiles; t++)
            convolve_rows(c, layer, &s, tiles->tiles[t].row, tiles->tiles[t].n_tokens, tiles->tiles[t].tail);
    }
    return LUCID_OK;
}

void lucid_context_convolve_one(lucid_context *c, int layer, int64_t position) {
    const size_t n = lucid_tail_floats(&c->convolution);
    const float *const own[] = {c->forward.q, c->forward.k, c->forward.v};
    float *before = layer_tail(c, layer), *after = c->tails + (size_t)c->model->config.n_layers * n;
    if (n == 0) return;
    lucid_tail_make(after, before, own, 1, &c->convolution);
    for (int i = 0; i < lucid_convolution_strips(&c->convolution); i++) {
        const lucid_conv_columns s = lucid_convolution_columns(&c->convolution, i);
        convolve_rows(c, layer, &s, 0, 1, before);
    }
    memcpy(before, after, n * sizeof *before);
    float *kept = lucid_cache_tail(c->cache, layer, position / LUCID_GRANULE);
    if (kept) memcpy(kept, before, n * sizeof *kept);
}
