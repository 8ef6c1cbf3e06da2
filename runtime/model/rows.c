#include "runtime/model/rows.h"

/* This rank's panels before the text's panel `panel`. */
static int64_t panels_before(const lucid_rows *r, int64_t panel) {
    const int64_t per_tile = r->tile / LUCID_PANEL, tile = panel / per_tile;
    const int64_t whole = (tile + r->world_size - 1 - r->rank) / r->world_size * per_tile;
    return tile % r->world_size == r->rank ? whole + panel % per_tile : whole;
}

lucid_rows lucid_rows_make(int64_t first, int64_t last, int64_t tile, int world_size, int rank) {
    lucid_rows r = {.first = first, .last = last, .tile = tile, .world_size = world_size, .rank = rank};
    const int64_t end = (last + LUCID_PANEL - 1) / LUCID_PANEL;
    r.n_rows = (panels_before(&r, end) - panels_before(&r, first / LUCID_PANEL)) * LUCID_PANEL;
    return r;
}

int64_t lucid_rows_token(const lucid_rows *r, int64_t row) {
    const int64_t panel = row / LUCID_PANEL + panels_before(r, r->first / LUCID_PANEL);
    const int64_t per_tile = r->tile / LUCID_PANEL, tile = panel / per_tile * r->world_size + r->rank;
    return tile * r->tile + panel % per_tile * LUCID_PANEL + row % LUCID_PANEL;
}

int64_t lucid_rows_index(const lucid_rows *r, int64_t token) {
    const int64_t before = panels_before(r, r->first / LUCID_PANEL);
    return (panels_before(r, token / LUCID_PANEL) - before) * LUCID_PANEL + token % LUCID_PANEL;
}

int lucid_rows_owner(const lucid_rows *r, int64_t token) {
    return (int)(token / r->tile % r->world_size);
}
