#include "runtime/attention/snapshot.h"

#include "runtime/attention/attention.h"

#include <string.h>

int lucid_snapshot_rows(const lucid_attention *a) {
    return a->plan.channels * a->n_rows;
}

static lucid_row row_at(const lucid_attention *a, int channel, int row, lucid_cursor cursor) {
    const lucid_channel *c = &a->channels[channel];
    int tile = c->schedule->rows[row];
    return (lucid_row){
        .channel = channel,
        .tile = tile,
        .cursor = cursor,
        .final = cursor.update_next > tile,
        .has_values = c->schedule->config.solve && cursor.update_next > 0,
        .has_states = cursor.attend_next > 0,
        .n_sequences = c->n_sequences,
        .group = a->group,
        .n_granules = lucid_tile_granules(a, tile),
        .values_floats = (size_t)LUCID_GRANULE * a->shape.value_ld,
        .state_floats = a->state_floats,
        .records = lucid_own_tile(c, row),
        .states = c->states + lucid_query_index(a, c, row, 0, 0, 0) * a->state_floats,
        .record_floats = a->record_floats,
        .granules_per_tile = a->granules_per_tile,
    };
}

/* --- taking --- */

bool lucid_snapshot_begin(lucid_attention *a, int index, lucid_row *out) {
    int channel = index / a->n_rows, row = index % a->n_rows;
    lucid_schedule *s = a->channels[channel].schedule;
    lucid_cursor cursor;
    omp_set_lock(&a->lock);
    bool rests = lucid_schedule_pause(s, row, &cursor);
    omp_unset_lock(&a->lock);
    if (rests) *out = row_at(a, channel, row, cursor);
    return rests;
}

void lucid_snapshot_end(lucid_attention *a, int index) {
    omp_set_lock(&a->lock);
    lucid_schedule_unpause(a->channels[index / a->n_rows].schedule, index % a->n_rows);
    omp_unset_lock(&a->lock);
}

/* --- putting back --- */

static lucid_status check_cursors(const lucid_attention *a, const lucid_cursor *cursors) {
    int n_tiles = (int)a->plan.n_tiles;
    if (a->problem.n_cached) return lucid_fail(LUCID_ERR_UNSUPPORTED, "a run on top of a cache cannot be resumed");
    for (size_t i = 0; i < (size_t)a->plan.channels * (size_t)n_tiles; i++) {
        lucid_cursor c = cursors[i];
        int tile = (int)(i % (size_t)n_tiles);
        if (!lucid_cursor_legal(c, tile))
            return lucid_fail(LUCID_ERR_INPUT,
                              "row tile %d of %d cannot be at key tile %d of its solve and %d of its "
                              "softmax pass",
                              tile, n_tiles, c.update_next, c.attend_next);
    }
    return LUCID_OK;
}

/* Ranks that started from different cursors would wait for each other for ever. */
static lucid_status agree_cursors(const lucid_attention *a, const lucid_cursor *cursors) {
    uint64_t hash = 0;
    for (size_t i = 0; i < (size_t)a->plan.channels * (size_t)a->plan.n_tiles; i++) {
        hash = (hash ^ (uint32_t)cursors[i].update_next) * 0x9e3779b97f4a7c15u;
        hash = (hash ^ hash >> 29 ^ (uint32_t)cursors[i].attend_next) * 0x9e3779b97f4a7c15u;
    }
    double largest[2] = {(double)(hash >> 12), -(double)(hash >> 12)}; /* 52 bits are exact */
    LUCID_TRY(lucid_comm_allreduce(a->comm, largest, 2, LUCID_MAX));
    if (largest[0] != -largest[1])
        return lucid_fail(LUCID_ERR_INPUT,
                          "ranks were told to resume from different places: do all read the same files?");
    return LUCID_OK;
}

static lucid_status read_rows(lucid_attention *a, lucid_row_reader read, void *context) {
    for (int channel = 0; channel < a->plan.channels; channel++)
        for (int row = 0; row < a->n_rows; row++) {
            int tile = a->channels[channel].schedule->rows[row];
            lucid_row view = row_at(a, channel, row, *lucid_start_cursor(a, channel, tile));
            if (view.has_values || view.has_states) LUCID_TRY(read(context, &view));
        }
    return LUCID_OK;
}

lucid_status lucid_attention_resume(lucid_attention *a, const lucid_cursor *cursors, lucid_row_reader read,
                                    void *context) {
    LUCID_TRY(lucid_comm_agree(a->comm, check_cursors(a, cursors)));
    LUCID_TRY(agree_cursors(a, cursors));
    memcpy(a->cursors, cursors, (size_t)a->plan.channels * (size_t)a->plan.n_tiles * sizeof *cursors);
    return lucid_comm_agree(a->comm, read_rows(a, read, context));
}
