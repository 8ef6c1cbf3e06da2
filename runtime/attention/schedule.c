#include "runtime/attention/schedule.h"

#include <stdlib.h>
#include <string.h>

enum { ARRIVED = 1, FORWARDED = 2 };

static int tile_at(const lucid_schedule *s, int position) {
    return position % s->n_tiles;
}

/* What a tile is for at this position. */
static bool serves_updates(const lucid_schedule *s, int position) {
    return s->config.solve && position < s->n_tiles;
}

static bool serves_attends(const lucid_schedule *s, int position) {
    return position >= s->n_positions - s->n_tiles;
}

static bool receives(const lucid_schedule *s, int position) {
    int hops = s->hops[tile_at(s, position)];
    return hops > 0 && hops <= s->reach[position];
}

static bool sends(const lucid_schedule *s, int position) {
    return s->hops[tile_at(s, position)] < s->reach[position];
}

static bool row_solved(const lucid_schedule *s, int row) {
    return s->update_next[row] > s->rows[row];
}

int lucid_schedule_slot(const lucid_schedule *s, lucid_piece_kind kind, int tile) {
    return s->slot_of[kind == LUCID_PIECE_ATTEND ? s->n_positions - s->n_tiles + tile : tile];
}

static bool available(const lucid_schedule *s, lucid_piece_kind kind, int tile) {
    int row = s->row_of[tile];
    return row >= 0 ? row_solved(s, row) : lucid_schedule_slot(s, kind, tile) >= 0;
}

/* Index of the first local row after the tile. */
static int first_row_after(const lucid_schedule *s, int tile) {
    int low = 0, high = s->n_rows;
    while (low < high) {
        int middle = (low + high) / 2;
        if (s->rows[middle] > tile)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Local rows first..last-1 apply the tile, their own apart. */
typedef struct {
    int first, last;
} row_range;

static row_range rows_in_need(const lucid_schedule *s, int tile) {
    int after = first_row_after(s, tile);
    return s->config.onward ? (row_range){0, after} : (row_range){after, s->n_rows};
}

static int attend_end(const lucid_schedule *s, int row) {
    return s->config.onward ? s->n_tiles : s->rows[row] + 1;
}

static int next_incoming(const lucid_schedule *s, int position) {
    while (position < s->n_positions && !receives(s, position)) position++;
    return position;
}

static int next_send(const lucid_schedule *s, int position, int direction) {
    for (; position < s->n_positions; position++) {
        if (s->direction[tile_at(s, position)] == direction && sends(s, position)) break;
    }
    return position;
}

/* --- work --- */

/* Softmax work waits for the local solve unless the schedule is fused. */
static bool attend_allowed(const lucid_schedule *s) {
    return s->config.fused || s->count->solved_rows == s->n_rows;
}

static int range_end(const lucid_schedule *s, lucid_piece_kind kind, int first, int limit) {
    if (limit > first + s->config.range_max) limit = first + s->config.range_max;
    int last = first;
    while (last < limit && available(s, kind, last)) last++;
    return last;
}

/* How far the row may go beside the one before it: no limit once that has taken all of its own. */
static int in_step(const lucid_schedule *s, const int *next, int row, int limit) {
    if (!s->config.in_step || row == 0 || next[row - 1] > s->rows[row - 1]) return limit;
    return next[row - 1] < limit ? next[row - 1] : limit;
}

bool lucid_schedule_pause(lucid_schedule *s, int row, lucid_cursor *cursor) {
    s->paused[row] = 1;
    *cursor = (lucid_cursor){s->update_next[row], s->attend_next[row]};
    return !s->update_until[row] && !s->attend_until[row];
}

void lucid_schedule_unpause(lucid_schedule *s, int row) {
    s->paused[row] = 0;
}

/* Takes key tiles [update_next, limit) for the row, as far as they are here. */
static bool take_update(lucid_schedule *s, int row, int limit, lucid_piece *piece) {
    if (s->paused[row] || s->update_until[row] || row_solved(s, row)) return false;
    limit = in_step(s, s->update_next, row, limit);
    int first = s->update_next[row], last = range_end(s, LUCID_PIECE_UPDATE, first, limit);
    if (last == first) return false;
    s->update_until[row] = last;
    *piece = (lucid_piece){LUCID_PIECE_UPDATE, row, first, last};
    return true;
}

static bool take_attend(lucid_schedule *s, int row, int limit, lucid_piece *piece) {
    if (s->paused[row] || s->attend_until[row]) return false;
    if (s->config.after && !row_solved(s->config.after, row)) return false;
    limit = in_step(s, s->attend_next, row, limit);
    int first = s->attend_next[row], last = range_end(s, LUCID_PIECE_ATTEND, first, limit);
    if (last == first) return false;
    s->attend_until[row] = last;
    *piece = (lucid_piece){LUCID_PIECE_ATTEND, row, first, last};
    return true;
}

/* Rows are solved in ascending order, so only the first unsolved row can be ready. */
static bool take_solve(lucid_schedule *s, lucid_piece *piece) {
    int row = s->count->solved_rows;
    if (row == s->n_rows || s->paused[row] || s->update_until[row] || s->update_next[row] != s->rows[row]) return false;
    s->update_until[row] = s->rows[row] + 1;
    *piece = (lucid_piece){LUCID_PIECE_SOLVE, row, s->rows[row], s->rows[row] + 1};
    return true;
}

static bool window_full(const lucid_schedule *s) {
    return s->count->claimed - s->count->released == s->config.window && s->count->next_incoming < s->n_positions;
}

/* A full rank holds up its predecessor: what stands between its oldest tile and the release of its slot comes first. */
static bool take_oldest(lucid_schedule *s, lucid_piece *piece) {
    if (!window_full(s)) return false;
    int slot = s->count->released % s->config.window, position = s->slot_position[slot];
    if (!(s->slot_flags[slot] & ARRIVED)) return false;
    int tile = tile_at(s, position);
    row_range rows = rows_in_need(s, tile);
    if (serves_updates(s, position))
        for (int row = rows.first; row < rows.last; row++)
            if (s->update_next[row] <= tile && take_update(s, row, tile + 1, piece)) return true;
    if (!serves_attends(s, position) || !attend_allowed(s)) return false;
    for (int row = rows.first; row < rows.last; row++)
        if (s->attend_next[row] <= tile && take_attend(s, row, tile + 1, piece)) return true;
    return false;
}

static bool next_chain(lucid_schedule *s, lucid_piece *piece) {
    if (take_solve(s, piece) || take_oldest(s, piece)) return true;
    int row = s->count->solved_rows;
    return row < s->n_rows && take_update(s, row, s->rows[row], piece);
}

static bool next_bulk(lucid_schedule *s, lucid_piece *piece) {
    for (int row = s->count->solved_rows; row < s->n_rows; row++)
        if (take_update(s, row, s->rows[row], piece)) return true;
    if (!attend_allowed(s)) return false;
    for (int row = s->count->finished_rows; row < s->n_rows; row++)
        if (take_attend(s, row, attend_end(s, row), piece)) return true;
    return false;
}

bool lucid_schedule_next(lucid_schedule *s, lucid_queue queue, lucid_piece *piece) {
    return queue == LUCID_QUEUE_CHAIN ? next_chain(s, piece) : next_bulk(s, piece);
}

/* --- the window --- */

static bool updates_done(const lucid_schedule *s, int tile) {
    row_range rows = rows_in_need(s, tile);
    for (int row = rows.first; row < rows.last; row++)
        if (s->update_next[row] <= tile) return false;
    return true;
}

static bool attends_done(const lucid_schedule *s, int tile) {
    row_range rows = rows_in_need(s, tile);
    for (int row = rows.first; row < rows.last; row++)
        if (s->attend_next[row] <= tile) return false;
    return true;
}

static bool may_release(const lucid_schedule *s, int slot) {
    int position = s->slot_position[slot], tile = tile_at(s, position);
    if (s->slot_flags[slot] != (ARRIVED | FORWARDED)) return false;
    if (serves_updates(s, position) && !updates_done(s, tile)) return false;
    return !serves_attends(s, position) || attends_done(s, tile);
}

static void release_oldest(lucid_schedule *s) {
    while (s->count->released < s->count->claimed) {
        int slot = s->count->released % s->config.window;
        if (!may_release(s, slot)) return;
        s->slot_of[s->slot_position[slot]] = -1;
        s->slot_position[slot] = -1;
        s->slot_flags[slot] = 0;
        s->count->released++;
    }
}

/* Rows need not be solved or finished in order: a run may start with some of them done. */
static void count_rows(lucid_schedule *s) {
    struct lucid_schedule_counters *n = s->count;
    while (n->solved_rows < s->n_rows && row_solved(s, n->solved_rows)) n->solved_rows++;
    while (n->finished_rows < s->n_rows && s->attend_next[n->finished_rows] >= attend_end(s, n->finished_rows))
        n->finished_rows++;
}

void lucid_schedule_done(lucid_schedule *s, const lucid_piece *piece) {
    bool attended = piece->kind == LUCID_PIECE_ATTEND;
    (attended ? s->attend_next : s->update_next)[piece->row] = piece->last;
    (attended ? s->attend_until : s->update_until)[piece->row] = 0;
    count_rows(s);
    release_oldest(s);
}

/* --- transfers --- */

bool lucid_schedule_claim(lucid_schedule *s, lucid_transfer *transfer) {
    int position = s->count->next_incoming;
    if (position >= s->n_positions || s->count->claimed - s->count->released == s->config.window) return false;
    int tile = tile_at(s, position), slot = s->count->claimed++ % s->config.window;
    int world_size = s->config.layout.world_size;
    s->slot_position[slot] = position;
    s->slot_flags[slot] = sends(s, position) ? 0 : FORWARDED;
    s->count->next_incoming = next_incoming(s, position + 1);
    *transfer = (lucid_transfer){.position = position,
                                 .tile = tile,
                                 .peer = (s->config.rank - s->direction[tile] + world_size) % world_size,
                                 .link = s->direction[tile] < 0,
                                 .slot = slot};
    release_oldest(s);
    return true;
}

void lucid_schedule_received(lucid_schedule *s, const lucid_transfer *transfer) {
    s->slot_flags[transfer->slot] |= ARRIVED;
    s->slot_of[transfer->position] = transfer->slot;
    release_oldest(s);
}

/* The slot to send position from (-1: the own tile), or -2 while it cannot leave. */
static int send_slot(const lucid_schedule *s, int position) {
    int tile = tile_at(s, position), row = s->row_of[tile];
    if (row >= 0) return row_solved(s, row) ? -1 : -2;
    return s->slot_of[position] >= 0 ? s->slot_of[position] : -2;
}

bool lucid_schedule_send(lucid_schedule *s, int link, lucid_transfer *transfer) {
    int direction = link == 0 ? 1 : -1, position = s->count->next_send[link], world_size = s->config.layout.world_size;
    if (position >= s->n_positions) return false;
    int slot = send_slot(s, position);
    if (slot == -2) return false;
    s->count->next_send[link] = next_send(s, position + 1, direction);
    s->count->sends_in_flight++;
    int peer = (s->config.rank + direction + world_size) % world_size;
    *transfer = (lucid_transfer){position, tile_at(s, position), peer, link, slot};
    return true;
}

void lucid_schedule_sent(lucid_schedule *s, const lucid_transfer *transfer) {
    s->count->sends_in_flight--;
    if (transfer->slot >= 0) s->slot_flags[transfer->slot] |= FORWARDED;
    release_oldest(s);
}

/* Receives need no look: what comes is sent on or applied by a row. */
bool lucid_schedule_finished(const lucid_schedule *s) {
    if (s->count->solved_rows < s->n_rows) return false;
    return s->count->finished_rows == s->n_rows && s->count->sends_in_flight == 0 &&
           s->count->next_send[0] >= s->n_positions && s->count->next_send[1] >= s->n_positions;
}

int lucid_schedule_awaited(const lucid_schedule *s) {
    for (int n = s->count->released; n < s->count->claimed; n++) {
        int slot = n % s->config.window;
        if (!(s->slot_flags[slot] & ARRIVED)) return s->slot_position[slot];
    }
    return -1;
}

/* --- set-up --- */

static void fill_tables(lucid_schedule *s) {
    const lucid_layout *layout = &s->config.layout;
    int row = 0;
    for (int tile = 0; tile < s->n_tiles; tile++) {
        bool ours = lucid_layout_owner(layout, tile) == s->config.rank;
        s->hops[tile] = lucid_layout_hops(layout, tile, s->config.rank);
        s->direction[tile] = (signed char)lucid_layout_direction(layout, tile);
        s->row_of[tile] = ours ? row : -1;
        if (ours) s->rows[row++] = tile;
    }
}

bool lucid_cursor_legal(lucid_cursor c, int tile) {
    return c.update_next >= 0 && c.update_next <= tile + 1 && c.attend_next >= 0 && c.attend_next <= tile + 1 &&
           (c.attend_next <= tile || c.update_next > tile);
}

/* How many hops away the last rank is that has a row in need of the tile with a cursor not after it. */
static int last_in_need(const lucid_schedule *s, int tile) {
    int world_size = s->config.layout.world_size;
    int owner = lucid_layout_owner(&s->config.layout, tile), hops = world_size - 1;
    for (; hops > 0; hops--)
        if (s->least[(owner + s->direction[tile] * hops + world_size) % world_size] <= tile) break;
    return hops;
}

/* Downwards over the tiles (onward: upwards), least is each rank's least cursor over the rows that came by: those in
 * need of the tile. */
static void fill_reach(lucid_schedule *s, const lucid_cursor *cursors) {
    for (int round = 0; round < s->n_positions / s->n_tiles; round++) {
        int first = round * s->n_tiles;
        for (int rank = 0; rank < s->config.layout.world_size; rank++) s->least[rank] = s->n_tiles;
        for (int n = 0; n < s->n_tiles; n++) {
            int tile = s->config.onward ? n : s->n_tiles - 1 - n;
            s->reach[first + tile] = last_in_need(s, tile);
            lucid_cursor c = cursors ? cursors[tile] : (lucid_cursor){0, 0};
            int *least = &s->least[lucid_layout_owner(&s->config.layout, tile)];
            if (serves_updates(s, first) && c.update_next < *least) *least = c.update_next;
            if (serves_attends(s, first) && c.attend_next < *least) *least = c.attend_next;
        }
    }
}

void lucid_schedule_start(lucid_schedule *s, const lucid_cursor *cursors) {
    fill_reach(s, cursors);
    memset(s->state, 0, s->n_state * sizeof *s->state);
    for (int slot = 0; slot < s->config.window; slot++) s->slot_position[slot] = -1;
    for (int position = 0; position < s->n_positions; position++) s->slot_of[position] = -1;
    for (int row = 0; row < s->n_rows; row++) {
        int tile = s->rows[row];
        s->update_next[row] = !s->config.solve ? tile + 1 : cursors ? cursors[tile].update_next : 0;
        int attend_first = s->config.no_attend ? attend_end(s, row) : s->config.onward ? tile : 0;
        s->attend_next[row] = cursors ? cursors[tile].attend_next : attend_first;
    }
    count_rows(s);
    s->count->next_incoming = next_incoming(s, 0);
    s->count->next_send[0] = next_send(s, 0, 1);
    s->count->next_send[1] = next_send(s, 0, -1);
}

static int *carve(int **block, int n) {
    int *part = *block;
    *block += n;
    return part;
}

lucid_status lucid_schedule_create(lucid_schedule **schedule, const lucid_schedule_config *config) {
    int n_tiles = config->layout.n_tiles, n_rows = lucid_layout_count(&config->layout, config->rank);
    lucid_schedule *s = calloc(1, sizeof *s);
    if (!s) return lucid_fail(LUCID_ERR_MEMORY, "no memory for the schedule");
    s->config = *config;
    s->n_tiles = n_tiles;
    s->n_rows = n_rows;
    s->n_positions = config->solve && !config->fused ? 2 * n_tiles : n_tiles;
    s->n_state = 5 * n_rows + 2 * config->window + s->n_positions + (int)(sizeof *s->count / sizeof(int));
    size_t n_tables = (size_t)n_rows + 2 * (size_t)n_tiles + (size_t)s->n_positions + (size_t)config->layout.world_size;
    int *tables = malloc(n_tables * sizeof(int) + (size_t)n_tiles);
    s->state = malloc((size_t)s->n_state * sizeof(int));
    s->rows = tables;
    if (!tables || !s->state) {
        lucid_schedule_destroy(s);
        return lucid_fail(LUCID_ERR_MEMORY, "no memory for the schedule of %d tiles", n_tiles);
    }
    s->rows = carve(&tables, n_rows);
    s->row_of = carve(&tables, n_tiles);
    s->hops = carve(&tables, n_tiles);
    s->reach = carve(&tables, s->n_positions);
    s->least = carve(&tables, config->layout.world_size);
    s->direction = (signed char *)tables;
    int *state = s->state;
    s->update_next = carve(&state, n_rows);
    s->attend_next = carve(&state, n_rows);
    s->update_until = carve(&state, n_rows);
    s->attend_until = carve(&state, n_rows);
    s->paused = carve(&state, n_rows);
    s->slot_position = carve(&state, config->window);
    s->slot_flags = carve(&state, config->window);
    s->slot_of = carve(&state, s->n_positions);
    s->count = (struct lucid_schedule_counters *)state;
    fill_tables(s);
    lucid_schedule_start(s, NULL);
    *schedule = s;
    return LUCID_OK;
}

void lucid_schedule_destroy(lucid_schedule *s) {
    if (!s) return;
    free(s->rows);
    free(s->state);
    free(s);
}
