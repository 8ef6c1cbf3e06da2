#include "runtime/attention/layout.h"

static int n_runs(const lucid_layout *layout) {
    switch (layout->kind) {
    case LUCID_LAYOUT_CONTIGUOUS:
        return layout->world_size;
    case LUCID_LAYOUT_ZIGZAG:
        return 2 * layout->world_size;
    default:
        return layout->n_tiles;
    }
}

/* Run r holds the tiles from floor(r T / R) to floor((r + 1) T / R) - 1; this inverts that. */
static int run_of(const lucid_layout *layout, int tile) {
    if (layout->reversed) tile = layout->n_tiles - 1 - tile;
    return (int)((((int64_t)tile + 1) * n_runs(layout) - 1) / layout->n_tiles);
}

static int run_owner(const lucid_layout *layout, int run) {
    if (layout->kind == LUCID_LAYOUT_CYCLIC) return run % layout->world_size;
    return run < layout->world_size ? run : 2 * layout->world_size - 1 - run;
}

int lucid_layout_owner(const lucid_layout *layout, int tile) {
    return run_owner(layout, run_of(layout, tile));
}

int lucid_layout_direction(const lucid_layout *layout, int tile) {
    bool downwards = layout->kind == LUCID_LAYOUT_ZIGZAG && run_of(layout, tile) >= layout->world_size;
    return downwards != layout->reversed ? -1 : 1;
}

int lucid_layout_hops(const lucid_layout *layout, int tile, int rank) {
    int distance = (rank - lucid_layout_owner(layout, tile)) * lucid_layout_direction(layout, tile);
    return distance < 0 ? distance + layout->world_size : distance;
}

int lucid_layout_last(const lucid_layout *layout, int rank) {
    int64_t n_tiles = layout->n_tiles, world_size = layout->world_size, tile;
    switch (layout->kind) {
    case LUCID_LAYOUT_CONTIGUOUS:
        tile = (rank + 1) * n_tiles / world_size - 1;
        break;
    case LUCID_LAYOUT_ZIGZAG:
        tile = (2 * world_size - rank) * n_tiles / (2 * world_size) - 1;
        break;
    default:
        tile = n_tiles - 1 - (n_tiles - 1 - rank) % world_size;
        break;
    }
    /* An empty run ends on somebody else's tile: then the rank's last tile, if any, is in its first run. */
    if (!layout->reversed && tile >= 0 && rank < n_tiles && lucid_layout_owner(layout, (int)tile) == rank)
        return (int)tile;
    for (tile = n_tiles - 1; tile >= 0 && lucid_layout_owner(layout, (int)tile) != rank;) tile--;
    return (int)tile;
}

int lucid_layout_count(const lucid_layout *layout, int rank) {
    int count = 0;
    for (int tile = 0; tile < layout->n_tiles; tile++) count += lucid_layout_owner(layout, tile) == rank;
    return count;
}

int lucid_layout_reach(const lucid_layout *layout, int tile, int first_row) {
    int owner = lucid_layout_owner(layout, tile), direction = lucid_layout_direction(layout, tile);
    for (int hops = layout->world_size - 1; hops > 0; hops--) {
        int rank = (owner + direction * hops + layout->world_size) % layout->world_size;
        int last = lucid_layout_last(layout, rank);
        if (last > tile && last >= first_row) return hops;
    }
    return 0;
}

const char *lucid_layout_name(lucid_layout_kind kind) {
    static const char *const names[] = {"auto", "contiguous", "zigzag", "cyclic"};
    return names[kind];
}

const char *lucid_schedule_name(lucid_schedule_kind kind) {
    static const char *const names[] = {"auto", "pipelined", "fused"};
    return names[kind];
}
