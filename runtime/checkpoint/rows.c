#include "runtime/checkpoint/rows.h"

#include <string.h>

size_t lucid_row_bytes(const lucid_attention *a, lucid_block_kind kind, int channel, int tile) {
    const bool values = kind == LUCID_BLOCK_VALUES;
    const size_t floats = values ? (size_t)LUCID_GRANULE * a->shape.value_ld : a->state_floats;
    const size_t groups = (size_t)a->channels[channel].n_sequences * (values ? 1 : a->group);
    return groups * lucid_tile_granules(a, tile) * floats * sizeof(float);
}

size_t lucid_row_bytes_max(const lucid_attention *a) {
    size_t max = 0;
    for (int channel = 0; channel < a->plan.channels; channel++)
        for (int kind = 0; kind < LUCID_N_BLOCK_KINDS; kind++) {
            const size_t n = lucid_row_bytes(a, kind, channel, 0); /* no tile is longer than the first */
            max = n > max ? n : max;
        }
    return max;
}

/* A row is pieces of equal length, one a granule of a sequence or head. */
static float *piece_at(const lucid_row *row, lucid_block_kind kind, int head, int granule) {
    if (kind == LUCID_BLOCK_VALUES) return lucid_row_values(row, head, granule);
    return lucid_row_state(row, head / row->group, head % row->group, granule);
}

static int n_heads(const lucid_row *row, lucid_block_kind kind) {
    return row->n_sequences * (kind == LUCID_BLOCK_VALUES ? 1 : row->group);
}

static size_t piece_floats(const lucid_row *row, lucid_block_kind kind) {
    return kind == LUCID_BLOCK_VALUES ? row->values_floats : row->state_floats;
}

void lucid_row_copy(void *bytes, const lucid_row *row, lucid_block_kind kind) {
    const size_t n = piece_floats(row, kind);
    float *to = bytes;
    for (int head = 0; head < n_heads(row, kind); head++)
        for (int g = 0; g < row->n_granules; g++, to += n) memcpy(to, piece_at(row, kind, head, g), n * sizeof *to);
}

void lucid_row_fill(const lucid_row *row, lucid_block_kind kind, const void *bytes) {
    const size_t n = piece_floats(row, kind);
    const float *from = bytes;
    for (int head = 0; head < n_heads(row, kind); head++)
        for (int g = 0; g < row->n_granules; g++, from += n)
            memcpy(piece_at(row, kind, head, g), from, n * sizeof *from);
}
