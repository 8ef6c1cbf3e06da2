/* Model checker for the schedules: explores every order in which ranks work and messages arrive.
 *
 * A world is 1..4 ranks with one or two channels each, the links between them, and at most one piece of work in
 * progress per rank. Transitions: a rank begins the piece its schedule names; it ends it; the oldest send and the
 * oldest receive posted on a link meet. Posting receives and sends is done at once after each transition, as the
 * runtime does. With `buffered`, a send completes when it is posted (an eager message), else when it meets its receive
 * (rendezvous).
 *
 * Checked in every state reached: a link delivers the position that its receiver claimed; a source still holds the tile
 * that is read from it, at the begin and at the end of a piece and when a send meets its receive; rows apply key tiles
 * in ascending order without a gap; when nothing can happen any more, every rank has finished.
 *
 * States are kept as 64-bit hashes. Usage: test_schedule_model [max_ranks max_tiles]; exit 1 at the first violation.
 */
#include "runtime/schedule.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RANKS = 4, MAX_CHANNELS = 2, MAX_SLOTS = 2, MAX_QUEUE = 20, MAX_TILES = 8 };

typedef struct {
    lucid_schedule_config schedule; /* rank is filled in */
    int n_channels;
    bool buffered, atomic, lazy;
} model;

/* Transfers posted on one side of a link and not yet met. */
typedef struct {
    int n;
    lucid_transfer queue[MAX_QUEUE];
} posted;

/* Everything of a world but the schedules' own states, which follow it in one buffer. */
typedef struct {
    posted sends[MAX_CHANNELS][MAX_RANKS][2], receives[MAX_CHANNELS][MAX_RANKS][2]; /* [direction of travel] */
    int content[MAX_CHANNELS][MAX_RANKS][MAX_SLOTS]; /* position in each slot, -1: none */
    bool working[MAX_RANKS];
    int channel[MAX_RANKS];
    lucid_piece piece[MAX_RANKS];
} world;

static model current;
static lucid_schedule *schedules[MAX_CHANNELS][MAX_RANKS];
static world live;
static uint64_t *visited;
static size_t visited_capacity, n_visited;

static void violation(const char *what, int rank, int channel, int position) {
    const lucid_schedule_config *c = &current.schedule;
    printf("violation: %s (rank %d, channel %d, position %d; %s, %d ranks, %d tiles, window %d, %d channels%s%s%s%s)\n",
           what, rank, channel, position, lucid_layout_name(c->layout.kind), c->layout.world_size, c->layout.n_tiles,
           c->window, current.n_channels, c->solve ? " solve" : "", c->fused ? " fused" : "",
           c->second_round ? " second-round" : "", current.buffered ? " buffered" : "");
    exit(1);
}

/* --- a rank's side of the world --- */

static void push(posted *p, const lucid_transfer *transfer) {
    if (p->n == MAX_QUEUE) violation("too many transfers posted", -1, -1, transfer->position);
    p->queue[p->n++] = *transfer;
}

static lucid_transfer pop(posted *p) {
    lucid_transfer transfer = p->queue[0];
    memmove(p->queue, p->queue + 1, --p->n * sizeof *p->queue);
    memset(p->queue + p->n, 0, sizeof *p->queue);
    return transfer;
}

static void check_source(int rank, int channel, int slot, int position) {
    const lucid_schedule *s = schedules[channel][rank];
    int tile = position % s->n_tiles;
    if (slot < 0 ? s->row_of[tile] < 0 || s->update_next[s->row_of[tile]] <= tile
                 : live.content[channel][rank][slot] != position)
        violation("a tile is sent that is not there", rank, channel, position);
}

static bool post_receive(int rank, int channel) {
    lucid_transfer transfer;
    if (!lucid_schedule_claim(schedules[channel][rank], &transfer)) return false;
    live.content[channel][rank][transfer.slot] = -1;
    push(&live.receives[channel][rank][transfer.link], &transfer);
    return true;
}

static bool post_send(int rank, int channel) {
    lucid_transfer transfer;
    lucid_schedule *s = schedules[channel][rank];
    if (!lucid_schedule_send(s, &transfer)) return false;
    check_source(rank, channel, transfer.slot, transfer.position);
    push(&live.sends[channel][rank][transfer.link], &transfer);
    if (current.buffered) lucid_schedule_sent(s, &transfer);
    return true;
}

/* Posts all that the schedules of a rank allow. */
static void settle(int rank) {
    if (current.lazy) return;
    for (int c = 0; c < current.n_channels; c++)
        while (post_receive(rank, c) || post_send(rank, c)) continue;
}

/* The key tiles that a piece reads must lie where the schedule says. */
static void check_piece(int rank, int channel, const lucid_piece *piece) {
    const lucid_schedule *s = schedules[channel][rank];
    int own = s->rows[piece->row];
    if (piece->last > own + 1 || (piece->kind == LUCID_PIECE_UPDATE && piece->last > own))
        violation("a row reads its future", rank, channel, piece->last);
    for (int tile = piece->first; tile < piece->last; tile++) {
        if (piece->kind == LUCID_PIECE_SOLVE) continue;
        int row = s->row_of[tile], slot = lucid_schedule_slot(s, tile);
        bool there = row >= 0 ? s->update_next[row] > tile
                              : slot >= 0 && live.content[channel][rank][slot] >= 0 &&
                                    live.content[channel][rank][slot] % s->n_tiles == tile;
        if (!there) violation("work on a tile that is not there", rank, channel, tile);
    }
}

static bool begin_work(int rank) {
    if (live.working[rank]) return false;
    lucid_piece piece;
    for (int queue = LUCID_QUEUE_CHAIN; queue <= LUCID_QUEUE_BULK; queue++)
        for (int c = 0; c < current.n_channels; c++) {
            lucid_schedule *s = schedules[c][rank];
            if (!lucid_schedule_next(s, queue, &piece)) continue;
            int cursor = piece.kind == LUCID_PIECE_ATTEND ? s->attend_next[piece.row] : s->update_next[piece.row];
            if (cursor != piece.first || piece.last <= piece.first)
                violation("a gap in a row's order", rank, c, piece.first);
            check_piece(rank, c, &piece);
            live.working[rank] = true;
            live.channel[rank] = c;
            live.piece[rank] = piece;
            return true;
        }
    return false;
}

static void end_work(int rank) {
    check_piece(rank, live.channel[rank], &live.piece[rank]);
    lucid_schedule_done(schedules[live.channel[rank]][rank], &live.piece[rank]);
    live.working[rank] = false;
    memset(&live.piece[rank], 0, sizeof live.piece[rank]);
    live.channel[rank] = 0;
    settle(rank);
}

static bool deliver(int channel, int rank, int direction) {
    int world_size = current.schedule.layout.world_size;
    int peer = (rank + (direction == 0 ? 1 : -1) + world_size) % world_size;
    posted *sends = &live.sends[channel][rank][direction], *receives = &live.receives[channel][peer][direction];
    if (!sends->n || !receives->n) return false;
    lucid_transfer sent = pop(sends), received = pop(receives);
    if (sent.position != received.position || sent.peer != peer || received.peer != rank)
        violation("a message meets the wrong receive", peer, channel, received.position);
    if (!current.buffered) check_source(rank, channel, sent.slot, sent.position);
    live.content[channel][peer][received.slot] = received.position;
    lucid_schedule_received(schedules[channel][peer], &received);
    if (!current.buffered) lucid_schedule_sent(schedules[channel][rank], &sent);
    settle(rank);
    settle(peer);
    return true;
}

/* --- states --- */

static size_t state_bytes(void) {
    size_t bytes = sizeof live;
    for (int c = 0; c < current.n_channels; c++)
        for (int r = 0; r < current.schedule.layout.world_size; r++) bytes += schedules[c][r]->n_state * sizeof(int);
    return bytes;
}

static void copy_state(char *buffer, bool save) {
    for (int c = -1; c < current.n_channels; c++)
        for (int r = 0; r < current.schedule.layout.world_size; r++) {
            if (c < 0 && r > 0) break;
            void *part = c < 0 ? (void *)&live : schedules[c][r]->state;
            size_t bytes = c < 0 ? sizeof live : schedules[c][r]->n_state * sizeof(int);
            memcpy(save ? buffer : part, save ? part : buffer, bytes);
            buffer += bytes;
        }
}

static uint64_t mix(uint64_t hash, const void *data, size_t bytes) {
    const unsigned char *p = data;
    for (; bytes >= 8; bytes -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
    }
    for (; bytes; bytes--) hash = (hash ^ *p++) * 0x100000001b3u;
    return hash;
}

/* Queues are short, so only their live parts enter the hash. */
static uint64_t hash_state(void) {
    uint64_t hash = 1;
    for (int c = 0; c < current.n_channels; c++)
        for (int r = 0; r < current.schedule.layout.world_size; r++) {
            hash = mix(hash, schedules[c][r]->state, schedules[c][r]->n_state * sizeof(int));
            for (int d = 0; d < 2; d++) {
                hash = mix(hash, live.sends[c][r][d].queue, live.sends[c][r][d].n * sizeof(lucid_transfer));
                hash = mix(hash, &live.receives[c][r][d].n, sizeof(int));
            }
        }
    return mix(hash, live.working, sizeof live.working) | 1;
}

static void insert(uint64_t hash) {
    size_t i = hash % visited_capacity;
    while (visited[i]) i = (i + 1) % visited_capacity;
    visited[i] = hash;
}

/* True when the state is new. */
static bool visit(uint64_t hash) {
    size_t i = hash % visited_capacity;
    for (; visited[i]; i = (i + 1) % visited_capacity)
        if (visited[i] == hash) return false;
    visited[i] = hash;
    if (++n_visited * 2 > visited_capacity) {
        uint64_t *old = visited;
        size_t old_capacity = visited_capacity;
        visited_capacity *= 4;
        visited = calloc(visited_capacity, sizeof *visited);
        for (size_t k = 0; k < old_capacity; k++)
            if (old[k]) insert(old[k]);
        free(old);
    }
    return true;
}

static void check_end(void) {
    for (int c = 0; c < current.n_channels; c++)
        for (int r = 0; r < current.schedule.layout.world_size; r++)
            if (!lucid_schedule_finished(schedules[c][r]))
                violation("deadlock", r, c, lucid_schedule_awaited(schedules[c][r]));
}

/* Transition n of the live world; false when it is not enabled. */
static bool step(int n) {
    int world_size = current.schedule.layout.world_size;
    if (n < world_size) {
        if (live.working[n]) {
            end_work(n);
            return true;
        }
        if (!begin_work(n)) return false;
        if (current.atomic) end_work(n);
        return true;
    }
    n -= world_size;
    int channel = n / (4 * world_size), rank = n / 4 % world_size;
    switch (n % 4) {
    case 0:
        return deliver(channel, rank, 0);
    case 1:
        return deliver(channel, rank, 1);
    case 2:
        return current.lazy && post_receive(rank, channel);
    default:
        return current.lazy && post_send(rank, channel);
    }
}

static void explore(void) {
    int n_steps = current.schedule.layout.world_size * (1 + 4 * current.n_channels);
    size_t bytes = state_bytes();
    char *here = malloc(bytes);
    bool any = false;
    copy_state(here, true);
    for (int n = 0; n < n_steps; n++) {
        if (!step(n)) continue;
        any = true;
        if (visit(hash_state())) explore();
        copy_state(here, false);
    }
    if (!any) check_end();
    free(here);
}

static size_t check_model(const model *m) {
    current = *m;
    memset(&live, 0, sizeof live);
    visited_capacity = 1 << 12;
    visited = calloc(visited_capacity, sizeof *visited);
    n_visited = 0;
    for (int c = 0; c < m->n_channels; c++)
        for (int r = 0; r < m->schedule.layout.world_size; r++) {
            lucid_schedule_config config = m->schedule;
            config.rank = r;
            if (lucid_schedule_create(&schedules[c][r], &config)) exit(2);
            memset(live.content[c][r], -1, sizeof live.content[c][r]);
        }
    for (int r = 0; r < m->schedule.layout.world_size; r++) settle(r);
    explore();
    for (int c = 0; c < m->n_channels; c++)
        for (int r = 0; r < m->schedule.layout.world_size; r++) lucid_schedule_destroy(schedules[c][r]);
    free(visited);
    return n_visited;
}

typedef struct {
    int max_ranks, max_tiles, n_channels;
    bool buffered, atomic, lazy;
} sweep;

static size_t check_sweep(const sweep *w) {
    static const struct {
        bool solve, fused, second_round;
    } schemes[] = {{true, false, true}, {true, true, false}, {true, true, true}, {false, false, false}};
    size_t total = 0;
    for (int scheme = 0; scheme < 4; scheme++)
        for (int kind = LUCID_LAYOUT_CONTIGUOUS; kind <= LUCID_LAYOUT_CYCLIC; kind++)
            for (int world_size = 2; world_size <= w->max_ranks; world_size++)
                for (int n_tiles = 1; n_tiles <= w->max_tiles; n_tiles++)
                    for (int window = 1; window <= MAX_SLOTS; window++) {
                        model m = {.schedule = {.layout = {(lucid_layout_kind)kind, world_size, n_tiles},
                                                .solve = schemes[scheme].solve,
                                                .fused = schemes[scheme].fused,
                                                .second_round = schemes[scheme].second_round,
                                                .window = window,
                                                .range_max = 2},
                                   .n_channels = w->n_channels,
                                   .buffered = w->buffered,
                                   .atomic = w->atomic,
                                   .lazy = w->lazy};
                        total += check_model(&m);
                    }
    printf("%d ranks, %d tiles, %d channels%s%s%s: %zu states\n", w->max_ranks, w->max_tiles, w->n_channels,
           w->buffered ? ", buffered" : "", w->atomic ? ", atomic" : "", w->lazy ? ", lazy" : "", total);
    fflush(stdout);
    return total;
}

/* `quick` leaves out the largest sweeps, for builds that are slow. */
int main(int argc, char **argv) {
    static const sweep sweeps[] = {
        {3, 5, 1, false, false, false},
        {3, 5, 1, true, false, false},
        {3, 4, 1, false, true, true},
        {2, 4, 2, false, true, false},
        /* the largest */
        {4, 8, 1, false, true, false},
        {4, 8, 1, true, true, false},
        {4, 6, 1, false, false, false},
        {3, 6, 1, false, true, true},
        {3, 4, 2, false, true, false},
    };
    size_t n = argc > 1 && !strcmp(argv[1], "quick") ? 4 : sizeof sweeps / sizeof *sweeps;
    for (size_t i = 0; i < n; i++) check_sweep(&sweeps[i]);
    printf("no violation\n");
    return 0;
}
