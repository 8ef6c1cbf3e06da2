#include "runtime/train/micro.h"

#define PACK_ROWS  256 /* a pack's tokens, at most: few padded rows, and leaves of some length */
#define PACK_LIMIT 128 /* tokens of a sequence that is packed */
#define TILE_MAX   1024
#define TILES      2 /* of a sequence, at least: for as many ranks; more share out the sequences */

static int64_t panels(int64_t tokens) {
    return (tokens + LUCID_PANEL - 1) / LUCID_PANEL;
}

int lucid_micro_pack(int64_t length) {
    return length <= PACK_LIMIT ? (int)(PACK_ROWS / length) : 1;
}

int64_t lucid_micro_tile(int64_t length) {
    const int64_t share = lucid_micro_pack(length) > 1 ? length : (length + TILES - 1) / TILES;
    const int64_t tile = panels(share) * LUCID_PANEL;
    return tile < TILE_MAX ? tile : TILE_MAX;
}

lucid_micro lucid_micro_make(int64_t length, int n_sequences, int64_t tile, int world_size, int rank) {
    lucid_micro m = {.length = length, .n_sequences = n_sequences, .pack = lucid_micro_pack(length)};
    m.rows = lucid_rows_make(0, length, tile, world_size, rank);
    m.pack_rows = m.pack == 1 ? m.rows.n_rows : rank == 0 ? panels(m.pack * length) * LUCID_PANEL : 0;
    m.n_rows = m.pack_rows * (n_sequences / m.pack);
    const int64_t leaves = m.pack == 1 ? (m.pack_rows + tile - 1) / tile : m.pack_rows > 0;
    m.n_leaves = (int)leaves * (n_sequences / m.pack);
    return m;
}

int64_t lucid_micro_row(const lucid_micro *m, int sequence, int64_t token) {
    if (m->pack == 1) return sequence * m->pack_rows + lucid_rows_index(&m->rows, token);
    return sequence / m->pack * m->pack_rows + sequence % m->pack * m->length + token;
}

bool lucid_micro_token(const lucid_micro *m, int64_t row, int *sequence, int64_t *token) {
    const int64_t in_pack = row % m->pack_rows, packs = row / m->pack_rows;
    const int64_t nth = m->pack == 1 ? 0 : in_pack / m->length;
    *token = m->pack == 1 ? lucid_rows_token(&m->rows, in_pack) : in_pack % m->length;
    *sequence = (int)(packs * m->pack + nth);
    return nth < m->pack && *token < m->length;
}

void lucid_micro_leaves(lucid_leaf *leaves, const lucid_micro *m) {
    const int64_t size = m->pack == 1 ? m->rows.tile : m->pack_rows;
    for (int64_t first = 0; first < m->n_rows; first += m->pack_rows)
        for (int64_t row = 0; row < m->pack_rows; row += size) {
            const int64_t left = m->pack_rows - row;
            *leaves++ = (lucid_leaf){.first = first + row, .n_rows = left < size ? left : size};
        }
}
