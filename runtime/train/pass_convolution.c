/* The convolutions of q, k and v, and their backward pass. A run is what a rank has of a sequence in one tile; runs get
 * the last tokens before them from the rank of the tile before and, of gradients, the first behind them from the rank
 * of the tile behind. Packed sequences are runs in themselves. */
#include "runtime/train/exact.h"
#include "runtime/train/pass_state.h"

#include <omp.h>
#include <string.h>

typedef struct {
    int64_t row, n_tokens;
} run;

static int own_tiles(const lucid_pass *p) {
    return (int)((p->micro.rows.n_rows + p->options.tile - 1) / p->options.tile);
}

int lucid_pass_runs(const lucid_pass *p) {
    if (p->micro.pack > 1) return p->micro.n_rows ? p->micro.n_sequences : 0;
    return own_tiles(p) * p->micro.n_sequences;
}

/* Runs of a tile follow each other, so that they travel together. */
static run run_at(const lucid_pass *p, int index) {
    const lucid_micro *m = &p->micro;
    const int n = m->n_sequences;
    if (m->pack > 1) return (run){.row = lucid_micro_row(m, index, 0), .n_tokens = m->length};
    const int64_t tile = (int64_t)(index / n) * m->rows.world_size + m->rows.rank;
    const int64_t first = tile * p->options.tile, left = m->length - first;
    return (run){.row = lucid_micro_row(m, index % n, first),
                 .n_tokens = left < p->options.tile ? left : p->options.tile};
}

/* p->leaving (runs, tail) goes to the runs behind, or with `back` before. Collective. */
static lucid_status exchange(lucid_pass *p, float *coming, bool back) {
    const lucid_border border = {
        .last = (p->micro.length - 1) / p->options.tile,
        .n_floats = (size_t)p->micro.n_sequences * lucid_tail_floats(&p->convolution),
        .back = back,
    };
    if (p->micro.pack > 1 || border.last == 0) return LUCID_OK;
    const lucid_status status = lucid_border_exchange(coming, p->leaving, &border, p->comm, p->options.timeout);
    p->adrift = status != LUCID_OK;
    return status;
}

static lucid_conv_strip strip_of(const lucid_pass *p, const lucid_conv_columns *s, const float *const weights[],
                                 const float *border, int64_t n_tokens) {
    return (lucid_conv_strip){.n_tokens = n_tokens,
                              .n_channels = s->n,
                              .ld = (size_t)p->convolution.n_channels[s->which],
                              .weight = weights[s->which] + (size_t)s->column * (size_t)p->convolution.width,
                              .width = p->convolution.width,
                              .border = border + lucid_tail_column(&p->convolution, s->which) + s->column,
                              .border_ld = lucid_tail_ld(&p->convolution)};
}

static size_t place_of(const lucid_pass *p, const lucid_conv_columns *s, int64_t row) {
    return (size_t)row * (size_t)p->convolution.n_channels[s->which] + (size_t)s->column;
}

/* --- forward --- */

static void leave_tails(const lucid_pass *p, const lucid_pass_layer *kept) {
    const int *n = p->convolution.n_channels;
    for (int i = 0; i < lucid_pass_runs(p); i++) {
        const run r = run_at(p, i);
        const size_t row = (size_t)r.row;
        const float *const own[] = {kept->projected[0] + row * (size_t)n[0], kept->projected[1] + row * (size_t)n[1],
                                    kept->projected[2] + row * (size_t)n[2]};
        const size_t floats = lucid_tail_floats(&p->convolution);
        lucid_tail_make(p->leaving + (size_t)i * floats, kept->tails + (size_t)i * floats, own, r.n_tokens,
                        &p->convolution);
    }
}

lucid_status lucid_pass_convolve(lucid_pass *p, const lucid_pass_layer *kept, const lucid_model_layer *l) {
    const float *const weights[] = {l->q_conv, l->k_conv, l->v_conv};
    float *const outputs[] = {p->q, p->k, p->v};
    const int n_strips = lucid_convolution_strips(&p->convolution), n_runs = lucid_pass_runs(p);
    leave_tails(p, kept);
    LUCID_TRY(exchange(p, kept->tails, false));
#pragma omp parallel for schedule(dynamic) num_threads(p->options.threads)
    for (int i = 0; i < n_strips; i++) {
        const lucid_conv_columns s = lucid_convolution_columns(&p->convolution, i);
        for (int j = 0; j < n_runs; j++) {
            const run r = run_at(p, j);
            const float *tail = kept->tails + (size_t)j * lucid_tail_floats(&p->convolution);
            const lucid_conv_strip strip = strip_of(p, &s, weights, tail, r.n_tokens);
            const size_t at = place_of(p, &s, r.row);
            lucid_convolve(outputs[s.which] + at, kept->projected[s.which] + at, &strip);
        }
    }
    return LUCID_OK;
}

/* --- backward --- */

/* The first width - 1 tokens of each run's gradients; behind a sequence's end they are zeros. */
static void leave_heads(const lucid_pass *p, float *const gradients[]) {
    const size_t ld = lucid_tail_ld(&p->convolution);
    for (int i = 0; i < lucid_pass_runs(p); i++) {
        const run r = run_at(p, i);
        float *block = p->leaving + (size_t)i * lucid_tail_floats(&p->convolution);
        for (int w = 0; w < p->convolution.width - 1; w++)
            for (int g = 0; g < LUCID_PROJECTIONS; g++) {
                const size_t n = (size_t)p->convolution.n_channels[g];
                float *to = block + (size_t)w * ld + lucid_tail_column(&p->convolution, g);
                if (w < r.n_tokens)
                    memcpy(to, gradients[g] + (size_t)(r.row + w) * n, n * sizeof *to);
                else
                    memset(to, 0, n * sizeof *to);
            }
    }
}

/* dweight += the sums over a run, panel by panel, each of which is fp32 and then exact. */
static void weight_backward(double *dweight, const lucid_conv_strip *whole, const float *dout, const float *x) {
    float sums[LUCID_CONV_MAX * LUCID_CONV_STRIP];
    for (int64_t first = 0; first < whole->n_tokens; first += LUCID_PANEL) {
        const size_t at = (size_t)first * whole->ld;
        const int64_t left = whole->n_tokens - first;
        lucid_conv_strip panel = *whole;
        panel.n_tokens = left < LUCID_PANEL ? left : LUCID_PANEL;
        if (first) {
            panel.border = x + at - (size_t)(whole->width - 1) * whole->ld;
            panel.border_ld = whole->ld;
        }
        lucid_convolve_weight(sums, dout + at, x + at, &panel);
        for (int c = 0; c < whole->n_channels; c++)
            for (int w = 0; w < whole->width; w++)
                dweight[c * whole->width + w] += lucid_exact(sums[w * LUCID_CONV_STRIP + c]);
    }
}

lucid_status lucid_pass_convolve_backward(lucid_pass *p, const lucid_pass_layer *kept, const lucid_model_layer *l) {
    const float *const weights[] = {l->q_conv, l->k_conv, l->v_conv};
    float *const gradients[] = {p->dq, p->dk, p->dv};
    const int n_strips = lucid_convolution_strips(&p->convolution), n_runs = lucid_pass_runs(p);
    const size_t floats = lucid_tail_floats(&p->convolution);
    leave_heads(p, gradients);
    LUCID_TRY(exchange(p, p->heads, true));
#pragma omp parallel for schedule(dynamic) num_threads(p->options.threads)
    for (int i = 0; i < n_strips; i++) {
        const lucid_conv_columns s = lucid_convolution_columns(&p->convolution, i);
        double *dweight = lucid_trainee_gradient(p->trainee, weights[s.which]) + s.column * p->convolution.width;
        for (int j = 0; j < n_runs; j++) {
            const run r = run_at(p, j);
            const lucid_conv_strip before = strip_of(p, &s, weights, kept->tails + (size_t)j * floats, r.n_tokens);
            const lucid_conv_strip behind = strip_of(p, &s, weights, p->heads + (size_t)j * floats, r.n_tokens);
            const size_t at = place_of(p, &s, r.row);
            weight_backward(dweight, &before, gradients[s.which] + at, kept->projected[s.which] + at);
            lucid_convolve_back(gradients[s.which] + at, gradients[s.which] + at, &behind);
        }
    }
    return LUCID_OK;
}
