/* Backward's set-up, start and ends; backward.h says how it works. */
#include "runtime/attention/backward.h"
#include "runtime/attention/gain.h"
#include "runtime/attention/plan.h"
#include "runtime/device/device.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

static bool solves(const lucid_attention *a) {
    return a->problem.attention == LUCID_ATTENTION_LUCID;
}

/* --- set-up --- */

static lucid_status no_memory(const lucid_attention *a) {
    return lucid_fail(LUCID_ERR_MEMORY, "no memory for the backward pass: %.1f MiB of tensors and %.1f MiB of window",
                      (double)a->plan.tensor_bytes_max / (1 << 20), (double)a->plan.window_bytes / (1 << 20));
}

static lucid_schedule_config reversed(const lucid_schedule_config *forward) {
    lucid_schedule_config config = *forward;
    config.layout.reversed = true;
    config.fused = true; /* one round, for whatever work there is */
    return config;
}

static lucid_status create_keys(lucid_attention *a, int index) {
    const lucid_channel *forward = &a->channels[index];
    lucid_channel *c = &a->backward->channels[index];
    lucid_schedule_config config = reversed(&forward->schedule->config);
    size_t granules = (size_t)forward->n_sequences * a->granules_per_tile, rows = (size_t)a->n_rows;
    bool remote = a->comm->world_size > 1;
    config.no_attend = solves(a); /* the softmax's part is done on the way */
    config.in_step = a->backward->joined;
    LUCID_TRY(lucid_schedule_create(&c->schedule, &config));
    c->first_sequence = forward->first_sequence;
    c->n_sequences = forward->n_sequences;
    c->run = lucid_backward_run_keys;
    c->update_cost = c->attend_cost = (a->group + solves(a)) * (a->backward->joined ? 5 : 4);
    c->tile_floats = granules * lucid_gradient_row_floats(a->shape, a->group);
    c->tile_step = (ptrdiff_t)c->tile_floats;
    c->kv = lucid_alloc(rows * c->tile_floats * sizeof(float));
    c->window = lucid_alloc(remote ? (size_t)config.window * c->tile_floats * sizeof(float) : 0);
    a->backward->sums[index] = lucid_alloc(rows * granules * lucid_sums_floats(a->shape, a->group) * sizeof(float));
    return c->kv && c->window && a->backward->sums[index] ? LUCID_OK : no_memory(a);
}

/* The forward's records in reverse, in the forward's window. */
static lucid_status create_rows(lucid_attention *a, int index) {
    const lucid_channel *forward = &a->channels[index];
    lucid_channel *c = &a->backward->channels[a->plan.channels + index];
    lucid_schedule_config config = reversed(&forward->schedule->config);
    config.solve = false;
    config.onward = true;
    config.after = solves(a) ? a->backward->channels[index].schedule : NULL;
    LUCID_TRY(lucid_schedule_create(&c->schedule, &config));
    c->first_sequence = forward->first_sequence;
    c->n_sequences = forward->n_sequences;
    c->run = lucid_backward_run_rows;
    c->attend_cost = (a->group + solves(a)) * 3;
    c->tile_floats = forward->tile_floats;
    c->tile_step = -forward->tile_step;
    c->kv = a->n_rows ? lucid_own_tile(forward, a->n_rows - 1) : forward->kv;
    c->window = forward->window;
    return LUCID_OK;
}

lucid_status lucid_backward_create(lucid_attention *a) {
    int n = a->plan.channels;
    lucid_backward *b = a->backward = calloc(1, sizeof *b);
    if (!b) return no_memory(a);
    b->joined = a->comm->world_size == 1 && !a->device;
    b->n_channels = b->joined ? n : 2 * n;
    b->channels = calloc((size_t)b->n_channels, sizeof *b->channels);
    b->sums = calloc((size_t)n, sizeof *b->sums);
    if (!b->channels || !b->sums) return no_memory(a);
    for (int i = 0; i < n; i++) LUCID_TRY(create_keys(a, i));
    for (int i = 0; n + i < b->n_channels; i++) LUCID_TRY(create_rows(a, i));
    return LUCID_OK;
}

void lucid_backward_destroy(lucid_attention *a) {
    lucid_backward *b = a->backward;
    if (!b) return;
    for (int i = 0; b->channels && i < b->n_channels; i++) {
        lucid_schedule_destroy(b->channels[i].schedule);
        if (i >= a->plan.channels) continue; /* records and window are the forward's */
        free(b->channels[i].kv);
        free(b->channels[i].window);
    }
    for (int i = 0; b->sums && i < a->plan.channels; i++) free(b->sums[i]);
    free(b->channels);
    free(b->sums);
    free(b);
}

/* --- ends --- */

void lucid_backward_pack(const lucid_attention *a, const lucid_channel *forward, int row, int sequence, int head,
                         int granule, const void *rows, lucid_dtype dtype, int n_rows) {
    int channel = (int)(forward - a->channels);
    size_t index = lucid_query_index(a, forward, row, sequence, head, granule);
    float *query = lucid_gradient_row(a, channel, a->n_rows - 1 - row, sequence, granule) +
                   lucid_gradient_query_row(a->shape, head);
    a->kernels->pack_values(query, rows, dtype, n_rows, a->shape);
    lucid_query_row_begin(query, forward->queries + index * a->query_floats, forward->states + index * a->state_floats,
                          a->problem.softmax_scale * M_LOG2E, a->shape);
}

static void unpack_values(const lucid_attention *a, const float *values, float *rows, int n_rows) {
    for (int i = 0; i < n_rows; i++)
        memcpy(rows + (size_t)i * a->shape.value_dim, values + (size_t)i * a->shape.value_ld,
               (size_t)a->shape.value_dim * sizeof *rows);
}

void lucid_backward_unpack(const lucid_attention *a, const lucid_channel *forward, lucid_tensor tensor, int row,
                           int sequence, int head, int granule, float *rows, int n_rows) {
    lucid_shape s = a->shape;
    int channel = (int)(forward - a->channels), reversed_row = a->n_rows - 1 - row;
    const float *record = lucid_own_tile(forward, row) + lucid_record_index(a, sequence, granule) * a->record_floats;
    const float *key_row = lucid_gradient_row(a, channel, reversed_row, sequence, granule);
    const float *sums = lucid_gradient_sums(a, channel, reversed_row, sequence, granule);
    const float *dkeys = solves(a) ? sums + lucid_sums_update_dkeys(s) : NULL;
    if (tensor == LUCID_DQ)
        lucid_query_row_finish(rows, sums + lucid_sums_dqt(s, head), n_rows, s, (float)a->problem.softmax_scale);
    else if (tensor == LUCID_DK)
        lucid_key_row_finish(rows, record, sums, dkeys, sums + lucid_sums_dkt(s), a->key_gain, n_rows, s);
    else if (tensor == LUCID_DGAIN)
        lucid_gain_rows_finish(a, rows, record, sums + lucid_sums_dkt(s), n_rows);
    else /* without a solve, dV is dY */
        unpack_values(a, solves(a) ? key_row + lucid_record_values(s) : sums + lucid_sums_dy(s, a->group), rows,
                      n_rows);
}

/* --- the run --- */

/* Sums at zero; key rows from the records. */
static void begin_tile(const lucid_attention *a, int channel, int row) {
    const lucid_channel *c = &a->backward->channels[channel], *forward = &a->channels[channel];
    size_t values = lucid_record_values(a->shape);
    for (int s = 0; s < c->n_sequences; s++)
        for (int g = 0; g < a->granules_per_tile; g++) {
            const float *record =
                lucid_own_tile(forward, a->n_rows - 1 - row) + lucid_record_index(a, s, g) * a->record_floats;
            float *key_row = lucid_gradient_row(a, channel, row, s, g);
            memcpy(key_row, record, values * sizeof *key_row);
            lucid_gain_rows(a, key_row);
            memset(key_row + values, 0, (a->record_floats - values) * sizeof *key_row);
            memset(lucid_gradient_sums(a, channel, row, s, g), 0,
                   lucid_sums_floats(a->shape, a->group) * sizeof *key_row);
        }
}

/* In the channels' costs; see finish_piece in engine.c. */
static double count_work(const lucid_backward *b) {
    double work = 0;
    for (int i = 0; i < b->n_channels; i++) {
        const lucid_channel *c = &b->channels[i];
        const lucid_schedule *s = c->schedule;
        for (int row = 0; row < s->n_rows; row++)
            work += c->attend_cost * c->n_sequences *
                    (s->config.onward ? s->n_tiles - s->rows[row] - 0.5 : s->rows[row] + 0.5);
    }
    return work;
}

/* What this rank's rows stand for: five products against two, however many were made. */
static double forward_flops(const lucid_attention *a) {
    double pairs = 0;
    for (int row = 0; row < a->n_rows; row++) {
        int tile = a->channels[0].schedule->rows[row];
        int64_t first = lucid_tile_first(a, tile);
        pairs += lucid_pairs(first, first + lucid_tile_tokens(a, tile));
    }
    return a->plan.flops_total * pairs / lucid_pairs(0, a->problem.seqlen);
}

lucid_status lucid_attention_backward(lucid_attention *a) {
    lucid_backward *b = a->backward;
    if (!b || !b->loaded)
        return lucid_fail(LUCID_ERR_INTERNAL, "backward without dout: plan for it, run, and load dout first");
    for (int i = 0; i < b->n_channels; i++) lucid_schedule_start(b->channels[i].schedule, NULL);
#pragma omp parallel for collapse(2) num_threads(a->threads) schedule(static)
    for (int i = 0; i < a->plan.channels; i++)
        for (int row = 0; row < a->n_rows; row++) begin_tile(a, i, row);
    double work = count_work(b);
    lucid_status status =
        a->device ? lucid_device_backward(a, work) : lucid_engine_run(a, b->channels, b->n_channels, work);
    a->result.flops = 2.5 * forward_flops(a);
    b->loaded = false;
    b->ran = !status;
    return status;
}
