#include "tests/runtime/attention/schedule_simulation.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One side of a link: what was posted, in order, and how much of it has met its other side. */
typedef struct {
    lucid_transfer *queue; /* (n_positions) */
    int posted, met;
} side;

typedef struct {
    lucid_schedule *schedule;
    side sends[2], receives[2]; /* [link] */
    double arrival[2];          /* of the tile that this rank is sending, INFINITY: none */
    double end;                 /* of the piece being worked on, INFINITY: none */
    lucid_piece piece;
    int last_claim;
    int *content;    /* (window) position in each slot, -1: none */
    int *received;   /* (n_positions) times */
    int *applied[2]; /* [softmax] (n_rows) key tiles applied */
} node;

typedef struct {
    const simulation *setup;
    node *nodes; /* (world_size) */
    int world_size, n_tiles, n_positions;
    double now;
    uint64_t random;
    simulation_result result;
} world;

static void fault(world *w, const char *what, int rank, int position) {
    if (w->result.fault[0]) return;
    snprintf(w->result.fault, sizeof w->result.fault, "%s (rank %d, position %d)", what, rank, position);
}

static double duration(world *w, double mean) {
    if (!w->setup->jitter) return mean;
    w->random ^= w->random << 13, w->random ^= w->random >> 7, w->random ^= w->random << 17;
    return mean * 2 * (double)(w->random >> 11) * 0x1p-53;
}

static int neighbour(const world *w, int rank, int link) {
    return (rank + (link == 0 ? 1 : -1) + w->world_size) % w->world_size;
}

/* --- what a rank does by itself --- */

static void post(side *s, const lucid_transfer *transfer) {
    s->queue[s->posted++] = *transfer;
}

static void post_all(world *w, int rank) {
    node *n = &w->nodes[rank];
    lucid_transfer transfer;
    while (lucid_schedule_claim(n->schedule, &transfer)) {
        if (transfer.position <= n->last_claim) fault(w, "claims do not ascend", rank, transfer.position);
        n->last_claim = transfer.position;
        n->content[transfer.slot] = -1;
        post(&n->receives[transfer.link], &transfer);
    }
    for (int link = 0; link < 2; link++)
        while (lucid_schedule_send(n->schedule, link, &transfer)) post(&n->sends[link], &transfer);
}

static bool readable(const node *n, lucid_piece_kind kind, int tile) {
    int row = n->schedule->row_of[tile], slot = lucid_schedule_slot(n->schedule, kind, tile);
    if (row >= 0) return n->applied[0][row] > tile;
    int last_round = n->schedule->n_positions - n->schedule->n_tiles;
    return slot >= 0 && n->content[slot] == tile + (kind == LUCID_PIECE_ATTEND ? last_round : 0);
}

/* Rows in step take a tile after the row before them took it, if it does. */
static bool in_step(const node *n, bool softmax, const lucid_piece *p) {
    if (!n->schedule->config.in_step || p->row == 0) return true;
    int before = n->applied[softmax][p->row - 1];
    return p->last <= before || before > n->schedule->rows[p->row - 1];
}

static void begin_piece(world *w, int rank) {
    node *n = &w->nodes[rank];
    lucid_piece *p = &n->piece;
    if (!lucid_schedule_next(n->schedule, LUCID_QUEUE_CHAIN, p) &&
        !lucid_schedule_next(n->schedule, LUCID_QUEUE_BULK, p))
        return;
    bool softmax = p->kind == LUCID_PIECE_ATTEND;
    int own = n->schedule->rows[p->row];
    if (n->applied[softmax][p->row] != p->first) fault(w, "a gap in a row's order", rank, p->first);
    if (!in_step(n, softmax, p)) fault(w, "a row out of step", rank, p->first);
    for (int tile = p->first; tile < p->last && p->kind != LUCID_PIECE_SOLVE; tile++)
        if (!readable(n, p->kind, tile)) fault(w, "work on a tile that is not there", rank, tile);
    double tiles = p->last - p->first - (p->first <= own && own < p->last ? 0.5 : 0);
    double time = duration(w, tiles * (softmax ? w->setup->attend : w->setup->update));
    w->result.work += time;
    n->end = w->now + time;
}

static void end_piece(world *w, int rank) {
    node *n = &w->nodes[rank];
    n->applied[n->piece.kind == LUCID_PIECE_ATTEND][n->piece.row] = n->piece.last;
    n->end = INFINITY;
    lucid_schedule_done(n->schedule, &n->piece);
}

/* --- links --- */

static void start_link(world *w, int rank, int link) {
    const side *sends = &w->nodes[rank].sends[link], *receives = &w->nodes[neighbour(w, rank, link)].receives[link];
    if (w->nodes[rank].arrival[link] < INFINITY || sends->met == sends->posted || receives->met == receives->posted)
        return;
    w->nodes[rank].arrival[link] = w->now + duration(w, w->setup->hop);
}

static void arrive(world *w, int rank, int link) {
    int peer = neighbour(w, rank, link);
    node *from = &w->nodes[rank], *to = &w->nodes[peer];
    lucid_transfer *sent = &from->sends[link].queue[from->sends[link].met++];
    lucid_transfer *received = &to->receives[link].queue[to->receives[link].met++];
    if (sent->position != received->position || sent->peer != peer || received->peer != rank)
        fault(w, "a message meets the wrong receive", peer, received->position);
    if (sent->slot >= 0 && from->content[sent->slot] != sent->position)
        fault(w, "a slot was given away while it was sent from", rank, sent->position);
    to->content[received->slot] = received->position;
    to->received[received->position]++;
    from->arrival[link] = INFINITY;
    lucid_schedule_received(to->schedule, received);
    lucid_schedule_sent(from->schedule, sent);
}

/* --- the loop --- */

/* Lets a rank do all that it now can. */
static void wake(world *w, int rank) {
    post_all(w, rank);
    if (w->nodes[rank].end == INFINITY) begin_piece(w, rank);
    for (int link = 0; link < 2; link++) {
        start_link(w, rank, link);
        start_link(w, neighbour(w, rank, 1 - link), link);
    }
}

/* The earliest event: a rank, and its piece (-1) or one of its links. False when nothing is under way. */
static bool next_event(const world *w, int *rank, int *link) {
    double first = INFINITY;
    for (int r = 0; r < w->world_size; r++) {
        const double times[] = {w->nodes[r].end, w->nodes[r].arrival[0], w->nodes[r].arrival[1]};
        for (int i = 0; i < 3; i++)
            if (times[i] < first) first = times[i], *rank = r, *link = i - 1;
    }
    return first < INFINITY;
}

static void run(world *w) {
    int rank, link;
    for (int r = 0; r < w->world_size; r++) wake(w, r);
    while (!w->result.fault[0] && next_event(w, &rank, &link)) {
        w->now = link < 0 ? w->nodes[rank].end : w->nodes[rank].arrival[link];
        if (link < 0)
            end_piece(w, rank);
        else
            arrive(w, rank, link);
        wake(w, rank);
        if (link >= 0) wake(w, neighbour(w, rank, link));
    }
    w->result.makespan = w->now;
}

/* --- what must hold at the end --- */

/* Where a row started: key tiles already applied in what this round serves. */
static int started_at(const world *w, int tile, bool softmax) {
    const simulation *s = w->setup;
    if (!softmax && !s->schedule.solve) return tile + 1;
    if (softmax && s->schedule.no_attend) return tile + 1;
    if (!s->cursors) return s->schedule.onward ? tile : 0;
    return softmax ? s->cursors[tile].attend_next : s->cursors[tile].update_next;
}

static bool needs(const world *w, const lucid_schedule *s, int position) {
    int tile = position % w->n_tiles;
    for (int row = 0; row < s->n_rows; row++) {
        int own = s->rows[row];
        bool solve_round = position < w->n_tiles, last_round = position >= w->n_positions - w->n_tiles;
        bool update = solve_round && started_at(w, own, false) <= tile;
        bool in_need = w->setup->schedule.onward ? own < tile : own > tile;
        if (in_need && (update || (last_round && started_at(w, own, true) <= tile))) return true;
    }
    return false;
}

/* 1 for the ranks on the tile's way from its owner to the last rank that needs it; found by walking. */
static void walk(const world *w, int position, int *passes) {
    int owner = 0, last_in_need = 0, tile = position % w->n_tiles;
    while (w->nodes[owner].schedule->row_of[tile] < 0) owner++;
    int direction = lucid_layout_direction(&w->setup->schedule.layout, tile);
    for (int hops = 0; hops < w->world_size; hops++) {
        const lucid_schedule *s = w->nodes[(owner + direction * hops + w->world_size) % w->world_size].schedule;
        if (needs(w, s, position)) last_in_need = hops;
    }
    for (int hops = 0; hops < w->world_size; hops++)
        passes[(owner + direction * hops + w->world_size) % w->world_size] = hops > 0 && hops <= last_in_need;
}

static void check_end(world *w) {
    int *passes = malloc((size_t)w->world_size * sizeof *passes);
    for (int position = 0; position < w->n_positions; position++) {
        walk(w, position, passes);
        for (int r = 0; r < w->world_size; r++)
            if (w->nodes[r].received[position] != passes[r]) fault(w, "a tile came too often or never", r, position);
    }
    free(passes);
    for (int r = 0; r < w->world_size; r++) {
        const node *n = &w->nodes[r];
        if (!lucid_schedule_finished(n->schedule)) fault(w, "not finished", r, lucid_schedule_awaited(n->schedule));
        for (int row = 0; row < n->schedule->n_rows; row++) {
            int tile = n->schedule->rows[row], last = w->setup->schedule.onward ? w->n_tiles : tile + 1;
            if (n->applied[1][row] != last || n->applied[0][row] != tile + 1)
                fault(w, "a row is not complete", r, tile);
        }
    }
}

/* --- set-up --- */

static int *filled(int n, int value) {
    int *array = malloc((size_t)(n + 1) * sizeof *array);
    for (int i = 0; i < n; i++) array[i] = value;
    return array;
}

static void node_create(world *w, int rank) {
    node *n = &w->nodes[rank];
    lucid_schedule_config config = w->setup->schedule;
    config.rank = rank;
    if (lucid_schedule_create(&n->schedule, &config)) exit(2);
    if (w->setup->cursors) lucid_schedule_start(n->schedule, w->setup->cursors);
    w->n_tiles = n->schedule->n_tiles;
    w->n_positions = n->schedule->n_positions;
    for (int link = 0; link < 2; link++) {
        n->sends[link].queue = malloc((size_t)w->n_positions * sizeof(lucid_transfer));
        n->receives[link].queue = malloc((size_t)w->n_positions * sizeof(lucid_transfer));
        n->arrival[link] = INFINITY;
    }
    n->end = INFINITY;
    n->last_claim = -1;
    n->content = filled(config.window, -1);
    n->received = filled(w->n_positions, 0);
    for (int softmax = 0; softmax < 2; softmax++) {
        n->applied[softmax] = filled(n->schedule->n_rows, 0);
        for (int row = 0; row < n->schedule->n_rows; row++)
            n->applied[softmax][row] = started_at(w, n->schedule->rows[row], softmax);
    }
}

static void node_destroy(node *n) {
    for (int link = 0; link < 2; link++) {
        free(n->sends[link].queue);
        free(n->receives[link].queue);
        free(n->applied[link]);
    }
    free(n->content);
    free(n->received);
    lucid_schedule_destroy(n->schedule);
}

simulation_result simulation_run(const simulation *setup) {
    world w = {.setup = setup, .world_size = setup->schedule.layout.world_size, .random = setup->jitter};
    w.nodes = calloc((size_t)w.world_size, sizeof *w.nodes);
    for (int r = 0; r < w.world_size; r++) node_create(&w, r);
    run(&w);
    if (!w.result.fault[0]) check_end(&w);
    for (int r = 0; r < w.world_size; r++) node_destroy(&w.nodes[r]);
    free(w.nodes);
    return w.result;
}
