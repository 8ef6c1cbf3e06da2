/* Model checker for the schedules: explores every order in which ranks work and messages arrive.
 *
 * A world is 1..4 ranks with one or two channels each, the links between them, and one or two pieces of work in
 * progress per rank (threads). Transitions: a rank begins the piece its schedule names; it ends it; the oldest send and
 * the oldest receive posted on a link meet. Posting receives and sends is done at once after each transition, as the
 * runtime does. With `buffered`, a send completes when it is posted (an eager message), else when it meets its receive
 * (rendezvous). `limit` bounds what is in flight, receives of a channel and sends of a link, as the engine does.
 *
 * Checked in every state reached: a link delivers the position that its receiver claimed; a source still holds the tile
 * that is read from it, at the begin and at the end of a piece and when a send meets its receive; rows apply key tiles
 * in ascending order without a gap, and `in_step` a key tile's rows come to it in ascending order, one at a time; when
 * nothing can happen any more, every row is complete and every rank has finished.
 *
 * States are kept as 64-bit hashes. Usage: test_schedule_model [quick|all]; exit 1 at the first violation.
 */
#include "runtime/attention/schedule.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All legal cursors; more than there are of up to 4 tiles. */
#define ALL_STARTS 10000

enum { MAX_RANKS = 4, MAX_CHANNELS = 2, MAX_WORKERS = 2, MAX_SLOTS = 3, MAX_TILES = 8, MAX_QUEUE = 2 * MAX_TILES };

typedef struct {
    lucid_schedule_config schedule;  /* rank is filled in */
    lucid_cursor cursors[MAX_TILES]; /* where rows start */
    int n_channels;
    bool buffered, atomic, lazy, holds;
    bool backward; /* the first channel is the keys' of the backward pass, the second the rows' */
    bool in_step;  /* the backward pass of a single rank */
    int limit, workers;
} model;

/* Transfers posted on one side of a link and not yet met; small, since states are copied at every step. */
typedef struct {
    signed char n;
    struct {
        signed char position, slot;
    } queue[MAX_QUEUE];
} posted;

/* A rank's side of one channel, but for its schedule's own state. */
typedef struct {
    posted sends[2], receives[2];   /* [link] */
    signed char content[MAX_SLOTS]; /* position in each slot, -1: none */
    signed char
        applied[2][MAX_TILES]; /* [softmax] key tiles applied to each row so far, counted apart from the schedule */
    signed char held;          /* the row that is held + 1, or 0 */
    signed char n_holds;       /* so far */
    uint64_t hash;             /* of all this and the schedule's state */
} node;

/* What a thread is doing. */
typedef struct {
    bool working;
    int channel;
    lucid_piece piece;
} job;

static model current;
static lucid_schedule *schedules[MAX_CHANNELS][MAX_RANKS];
static node nodes[MAX_CHANNELS][MAX_RANKS];
static job jobs[MAX_RANKS][MAX_WORKERS];
static uint64_t *visited;
static size_t visited_capacity, n_visited;

static void violation(const char *what, int rank, int channel, int position) {
    const lucid_schedule_config *c = &current.schedule;
    printf("violation: %s (rank %d, channel %d, position %d; %s, %d ranks, %d tiles, window %d, %d channels, "
           "limit %d%s%s%s; cursors",
           what, rank, channel, position, lucid_layout_name(c->layout.kind), c->layout.world_size, c->layout.n_tiles,
           c->window, current.n_channels, current.limit, c->solve ? " solve" : "", c->fused ? " fused" : "",
           current.buffered ? " buffered" : "");
    for (int tile = 0; tile < c->layout.n_tiles; tile++)
        printf(" %d/%d", current.cursors[tile].update_next, current.cursors[tile].attend_next);
    printf(")\n");
    exit(1);
}

/* --- a rank's side of the world --- */

static int neighbour(int rank, int link) {
    int world_size = current.schedule.layout.world_size;
    return (rank + (link == 0 ? 1 : -1) + world_size) % world_size;
}

/* A send goes to the link's next rank, a receive comes from the one before. */
static void push(posted *p, const lucid_transfer *transfer, int rank, bool is_send) {
    int peer = neighbour(rank, is_send ? transfer->link : 1 - transfer->link);
    if (transfer->peer != peer || transfer->tile != transfer->position % current.schedule.layout.n_tiles)
        violation("a transfer that contradicts itself", rank, -1, transfer->position);
    if (p->n == MAX_QUEUE) violation("too many transfers posted", rank, -1, transfer->position);
    p->queue[p->n].position = (signed char)transfer->position;
    p->queue[p->n++].slot = (signed char)transfer->slot;
}

static lucid_transfer pop(posted *p) {
    int position = p->queue[0].position;
    lucid_transfer transfer = {
        .position = position, .tile = position % current.schedule.layout.n_tiles, .slot = p->queue[0].slot};
    memmove(p->queue, p->queue + 1, (size_t)--p->n * sizeof *p->queue);
    return transfer;
}

static void check_source(int rank, int channel, int slot, int position) {
    const lucid_schedule *s = schedules[channel][rank];
    int tile = position % s->n_tiles;
    if (slot < 0 ? s->row_of[tile] < 0 || s->update_next[s->row_of[tile]] <= tile
                 : nodes[channel][rank].content[slot] != position)
        violation("a tile is sent that is not there", rank, channel, position);
}

static bool post_receive(int rank, int channel) {
    lucid_transfer transfer;
    node *at = &nodes[channel][rank];
    if (current.limit && at->receives[0].n + at->receives[1].n >= current.limit) return false;
    if (!lucid_schedule_claim(schedules[channel][rank], &transfer)) return false;
    if (transfer.slot < 0 || transfer.slot >= current.schedule.window)
        violation("a slot beyond the window", rank, channel, transfer.position);
    at->content[transfer.slot] = -1;
    push(&at->receives[transfer.link], &transfer, rank, false);
    return true;
}

static bool post_send(int rank, int channel, int link) {
    lucid_transfer transfer;
    lucid_schedule *s = schedules[channel][rank];
    node *at = &nodes[channel][rank];
    if (current.limit && at->sends[link].n >= current.limit) return false;
    if (!lucid_schedule_send(s, link, &transfer)) return false;
    check_source(rank, channel, transfer.slot, transfer.position);
    push(&at->sends[link], &transfer, rank, true);
    if (current.buffered) lucid_schedule_sent(s, &transfer);
    return true;
}

/* Posts all that the schedules of a rank allow. */
static void settle(int rank) {
    if (current.lazy) return;
    for (int c = 0; c < current.n_channels; c++)
        while (post_receive(rank, c) || post_send(rank, c, 0) || post_send(rank, c, 1)) continue;
}

/* The key tiles that a piece reads must lie where the schedule says. */
static void check_piece(int rank, int channel, const lucid_piece *piece) {
    const lucid_schedule *s = schedules[channel][rank];
    int own = s->rows[piece->row];
    bool future = piece->last > own + 1 || (piece->kind == LUCID_PIECE_UPDATE && piece->last > own);
    if (s->config.after && nodes[0][rank].applied[0][piece->row] <= own)
        violation("a row goes on before it is solved", rank, channel, piece->first);
    if (s->config.onward ? piece->first < own || piece->last > s->n_tiles : future)
        violation("a row reads its future", rank, channel, piece->last);
    for (int tile = piece->first; tile < piece->last; tile++) {
        if (piece->kind == LUCID_PIECE_SOLVE) continue;
        int row = s->row_of[tile], slot = lucid_schedule_slot(s, piece->kind, tile);
        int position = tile + (piece->kind == LUCID_PIECE_ATTEND ? s->n_positions - s->n_tiles : 0);
        bool there =
            row >= 0 ? s->update_next[row] > tile : slot >= 0 && nodes[channel][rank].content[slot] == position;
        if (!there) violation("work on a tile that is not there", rank, channel, tile);
    }
}

/* In step, a row takes a key tile when the rows before it are done with it. */
static void check_step(int rank, int channel, const lucid_piece *piece) {
    const signed char *applied = nodes[channel][rank].applied[piece->kind == LUCID_PIECE_ATTEND];
    const int *rows = schedules[channel][rank]->rows;
    for (int row = 0; current.in_step && row < piece->row; row++)
        if (applied[row] <= rows[row] && applied[row] < piece->last)
            violation("a tile is taken before its turn", rank, channel, applied[row]);
}

static bool begin_work(int rank, job *worker) {
    lucid_piece piece;
    for (int queue = LUCID_QUEUE_CHAIN; queue <= LUCID_QUEUE_BULK; queue++)
        for (int c = 0; c < current.n_channels; c++) {
            lucid_schedule *s = schedules[c][rank];
            if (!lucid_schedule_next(s, queue, &piece)) continue;
            int applied = nodes[c][rank].applied[piece.kind == LUCID_PIECE_ATTEND][piece.row];
            if (applied != piece.first || piece.last <= piece.first)
                violation("a gap in a row's order", rank, c, piece.first);
            if (nodes[c][rank].held == piece.row + 1) violation("work on a row that is held", rank, c, piece.first);
            check_piece(rank, c, &piece);
            check_step(rank, c, &piece);
            *worker = (job){true, c, piece};
            return true;
        }
    return false;
}

static void end_work(int rank, job *worker) {
    lucid_schedule *s = schedules[worker->channel][rank];
    const lucid_piece *piece = &worker->piece;
    check_piece(rank, worker->channel, piece);
    lucid_schedule_done(s, piece);
    bool softmax = piece->kind == LUCID_PIECE_ATTEND;
    nodes[worker->channel][rank].applied[softmax][piece->row] = (signed char)piece->last;
    if ((softmax ? s->attend_next : s->update_next)[piece->row] != piece->last)
        violation("a cursor is not where the work is", rank, worker->channel, piece->last);
    worker->working = false;
    settle(rank);
}

/* A rank that says so frees its memory. */
static void check_unfinished(int rank, int channel) {
    if (lucid_schedule_finished(schedules[channel][rank]))
        violation("finished before a transfer has ended", rank, channel, -1);
}

static bool deliver(int channel, int rank, int link) {
    int peer = neighbour(rank, link);
    posted *sends = &nodes[channel][rank].sends[link], *receives = &nodes[channel][peer].receives[link];
    if (!sends->n || !receives->n) return false;
    check_unfinished(peer, channel);
    if (!current.buffered) check_unfinished(rank, channel);
    lucid_transfer sent = pop(sends), received = pop(receives);
    if (sent.position != received.position)
        violation("a message meets the wrong receive", peer, channel, received.position);
    if (!current.buffered) check_source(rank, channel, sent.slot, sent.position);
    nodes[channel][peer].content[received.slot] = (signed char)received.position;
    lucid_schedule_received(schedules[channel][peer], &received);
    if (!current.buffered) lucid_schedule_sent(schedules[channel][rank], &sent);
    settle(rank);
    settle(peer);
    return true;
}

/* Somebody holds one of rank 0's rows, for a snapshot, and later lets it go; twice on each channel. */
static bool hold_or_release(int channel, int row) {
    lucid_schedule *s = schedules[channel][0];
    node *at = &nodes[channel][0];
    lucid_cursor cursor;
    if (!current.holds || row >= s->n_rows) return false;
    if (at->held == row + 1) {
        lucid_schedule_unpause(s, row);
        at->held = 0;
        return true;
    }
    if (at->held || at->n_holds == 2) return false;
    bool rests = lucid_schedule_pause(s, row, &cursor), busy = false;
    for (int w = 0; w < current.workers; w++)
        busy |= jobs[0][w].working && jobs[0][w].channel == channel && jobs[0][w].piece.row == row;
    if (rests == busy) violation("a row that is worked on and said to rest, or neither", 0, channel, row);
    at->held = (signed char)(row + 1);
    at->n_holds++;
    return true;
}

/* --- states --- */

/* Ranks that a transition touched, as bits: only they are restored and hashed again. */
typedef unsigned rank_set;
#define ALL_RANKS ((1u << MAX_RANKS) - 1)

static size_t state_bytes(void) {
    size_t bytes = sizeof jobs;
    for (int c = 0; c < current.n_channels; c++)
        for (int r = 0; r < current.schedule.layout.world_size; r++)
            bytes += sizeof nodes[c][r] + (size_t)schedules[c][r]->n_state * sizeof(int);
    return bytes;
}

static char *copy_part(char *buffer, void *part, size_t bytes, bool save) {
    memcpy(save ? buffer : part, save ? part : buffer, bytes);
    return buffer + bytes;
}

static void copy_state(char *buffer, rank_set ranks, bool save) {
    buffer = copy_part(buffer, jobs, sizeof jobs, save);
    for (int c = 0; c < current.n_channels; c++)
        for (int r = 0; r < current.schedule.layout.world_size; r++) {
            size_t bytes = (size_t)schedules[c][r]->n_state * sizeof(int);
            if (ranks >> r & 1) {
                copy_part(buffer, &nodes[c][r], sizeof nodes[c][r], save);
                copy_part(buffer + sizeof nodes[c][r], schedules[c][r]->state, bytes, save);
            }
            buffer += sizeof nodes[c][r] + bytes;
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

/* Receives follow from the schedule's state and their number; so do the pieces that a rank works on, and which of its
 * workers has which makes no difference. */
static uint64_t hash_node(int channel, int rank) {
    const node *at = &nodes[channel][rank];
    const lucid_schedule *s = schedules[channel][rank];
    uint64_t counts = 0;
    memcpy(&counts,
           (const signed char[]){at->sends[0].n, at->sends[1].n, at->receives[0].n, at->receives[1].n, at->n_holds}, 5);
    uint64_t hash = mix(counts, s->state, (size_t)s->n_state * sizeof(int));
    for (int link = 0; link < 2; link++)
        hash = mix(hash, at->sends[link].queue, (size_t)at->sends[link].n * sizeof *at->sends[link].queue);
    return hash;
}

static uint64_t hash_state(rank_set touched) {
    uint64_t hash = 0;
    for (int r = 0; r < current.schedule.layout.world_size; r++) {
        for (int c = 0; c < current.n_channels; c++) {
            if (touched >> r & 1) nodes[c][r].hash = hash_node(c, r);
            hash = mix(hash, &nodes[c][r].hash, sizeof nodes[c][r].hash);
        }
        for (int w = 0; w < current.workers; w++) hash += jobs[r][w].working;
    }
    return mix(1, &hash, sizeof hash) | 1;
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

static void check_rank_end(int rank, int channel) {
    const lucid_schedule *s = schedules[channel][rank];
    if (!lucid_schedule_finished(s)) violation("deadlock", rank, channel, lucid_schedule_awaited(s));
    for (int row = 0; row < s->n_rows; row++)
        for (int softmax = !s->config.solve; softmax < (s->config.no_attend ? 1 : 2); softmax++)
            if (nodes[channel][rank].applied[softmax][row] != (s->config.onward ? s->n_tiles : s->rows[row] + 1))
                violation("a row was not completed", rank, channel, s->rows[row]);
}

static void check_end(void) {
    for (int c = 0; c < current.n_channels; c++)
        for (int r = 0; r < current.schedule.layout.world_size; r++) check_rank_end(r, c);
}

/* Transition n; the ranks that it touched, none when it is not enabled. */
static rank_set step(int n) {
    int world_size = current.schedule.layout.world_size, workers = world_size * current.workers;
    if (n < workers) {
        int worker_rank = n / current.workers;
        job *worker = &jobs[worker_rank][n % current.workers];
        bool ends = worker->working;
        if (!ends && !begin_work(worker_rank, worker)) return 0;
        if (ends || current.atomic) end_work(worker_rank, worker);
        return 1u << worker_rank;
    }
    n -= workers;
    if (n >= 5 * world_size * current.n_channels) {
        n -= 5 * world_size * current.n_channels;
        return hold_or_release(n / MAX_TILES, n % MAX_TILES) ? 1 : 0;
    }
    int channel = n / (5 * world_size), rank = n / 5 % world_size, action = n % 5;
    if (action < 2) return deliver(channel, rank, action) ? 1u << rank | 1u << neighbour(rank, action) : 0;
    if (!current.lazy) return 0;
    bool posts = action == 2 ? post_receive(rank, channel) : post_send(rank, channel, action - 3);
    return posts ? 1u << rank : 0;
}

static void explore(void) {
    int n_steps = current.schedule.layout.world_size * (current.workers + 5 * current.n_channels) +
                  MAX_TILES * current.n_channels;
    char *here = malloc(state_bytes());
    bool any = false;
    copy_state(here, ALL_RANKS, true);
    for (int n = 0; n < n_steps; n++) {
        rank_set touched = step(n);
        if (!touched) continue;
        any = true;
        if (visit(hash_state(touched))) explore();
        copy_state(here, touched, false);
    }
    if (!any) check_end();
    free(here);
}

static void create(int channel, int rank) {
    lucid_schedule_config config = current.schedule;
    config.rank = rank;
    config.layout.reversed = current.backward;
    config.no_attend = current.backward && config.solve;
    config.in_step = current.in_step;
    if (current.backward && channel == 1) {
        config.no_attend = config.solve = false;
        config.onward = true;
        config.after = schedules[0][rank];
    }
    if (lucid_schedule_create(&schedules[channel][rank], &config)) exit(2);
    const lucid_schedule *s = schedules[channel][rank];
    lucid_schedule_start(schedules[channel][rank], current.backward ? NULL : current.cursors);
    node *at = &nodes[channel][rank];
    memset(at->content, -1, sizeof at->content);
    for (int row = 0; row < s->n_rows; row++) {
        at->applied[0][row] = (signed char)current.cursors[s->rows[row]].update_next;
        at->applied[1][row] = (signed char)current.cursors[s->rows[row]].attend_next;
        if (config.onward) at->applied[1][row] = (signed char)s->rows[row];
    }
}

static size_t check_model(const model *m) {
    current = *m;
    memset(nodes, 0, sizeof nodes);
    memset(jobs, 0, sizeof jobs);
    visited_capacity = 1 << 12;
    visited = calloc(visited_capacity, sizeof *visited);
    n_visited = 0;
    for (int c = 0; c < m->n_channels; c++)
        for (int r = 0; r < m->schedule.layout.world_size; r++) create(c, r);
    for (int r = 0; r < m->schedule.layout.world_size; r++) settle(r);
    hash_state(ALL_RANKS);
    explore();
    for (int c = 0; c < m->n_channels; c++)
        for (int r = 0; r < m->schedule.layout.world_size; r++) lucid_schedule_destroy(schedules[c][r]);
    free(visited);
    return n_visited;
}

typedef struct {
    int max_ranks, max_tiles, max_window, n_channels;
    bool buffered, atomic, lazy, holds, backward, in_step;
    int limit, workers; /* 0 workers: 1 */
    int starts;         /* cursors tried a case: 0: zero; ALL_STARTS: all that are legal; else so many, at random */
} sweep;

/* Cursor number n of those that are legal for a tile, 0..(tile + 1)^2 + tile + 1. */
static lucid_cursor legal_cursor(int tile, int n) {
    int unsolved = (tile + 1) * (tile + 1);
    return n < unsolved ? (lucid_cursor){n / (tile + 1), n % (tile + 1)} : (lucid_cursor){tile + 1, n - unsolved};
}

/* Start number n of the case; false when there are no more. Number 0 is all zeros. */
static bool choose_start(model *m, int n, int starts) {
    static uint64_t random = 1;
    if (n && n >= starts) return false;
    for (int tile = 0; tile < m->schedule.layout.n_tiles; tile++) {
        int n_legal = (tile + 1) * (tile + 1) + tile + 2;
        random = random * 6364136223846793005u + 1442695040888963407u;
        int choice = starts == ALL_STARTS ? n % n_legal : n ? (int)((random >> 33) % (uint64_t)n_legal) : 0;
        m->cursors[tile] = legal_cursor(tile, choice);
        if (starts == ALL_STARTS) n /= n_legal;
    }
    return starts != ALL_STARTS || n == 0;
}

static size_t check_starts(model *m, int starts) {
    size_t total = 0;
    for (int n = 0; choose_start(m, n, starts); n++) total += check_model(m);
    return total;
}

static size_t check_sweep(const sweep *w) {
    static const struct { bool solve, fused; } schemes[] = {{true, false}, {true, true}, {false, false}};
    size_t total = 0;
    for (int scheme = w->backward ? 1 : 0; scheme < (w->backward && !w->in_step ? 2 : 3); scheme++)
        for (int kind = LUCID_LAYOUT_CONTIGUOUS; kind <= LUCID_LAYOUT_CYCLIC; kind++)
            for (int world_size = w->in_step ? 1 : 2; world_size <= w->max_ranks; world_size++)
                for (int n_tiles = 1; n_tiles <= w->max_tiles; n_tiles++)
                    for (int window = 1; window <= w->max_window; window++) {
                        model m = {.schedule = {.layout = {.kind = (lucid_layout_kind)kind,
                                                           .world_size = world_size,
                                                           .n_tiles = n_tiles},
                                                .solve = schemes[scheme].solve,
                                                .fused = schemes[scheme].fused || w->in_step,
                                                .window = window,
                                                .range_max = 2},
                                   .n_channels = w->n_channels,
                                   .buffered = w->buffered,
                                   .atomic = w->atomic,
                                   .lazy = w->lazy,
                                   .holds = w->holds,
                                   .backward = w->backward,
                                   .in_step = w->in_step,
                                   .limit = w->limit,
                                   .workers = w->workers ? w->workers : 1};
                        total += check_starts(&m, w->starts);
                    }
    printf("%d ranks, %d tiles, window %d, %d channels, limit %d, %d workers, %d starts%s%s%s%s: %zu states\n",
           w->max_ranks, w->max_tiles, w->max_window, w->n_channels, w->limit, w->workers ? w->workers : 1, w->starts,
           w->buffered ? ", buffered" : "", w->atomic ? ", atomic" : "", w->lazy ? ", lazy" : "",
           w->holds      ? ", holds"
           : w->in_step  ? ", backward in step"
           : w->backward ? ", backward"
                         : "",
           total);
    fflush(stdout);
    return total;
}

/* `quick` leaves out the largest sweeps, for builds that are slow. */
int main(int argc, char **argv) {
    static const sweep sweeps[] = {
        {1, 6, 1, 1, .workers = 2, .backward = true, .in_step = true},
        {3, 5, 2, 1, .limit = 0},
        {3, 5, 2, 1, .buffered = true},
        {3, 4, 2, 1, .atomic = true, .lazy = true},
        {2, 4, 2, 2, .atomic = true},
        {3, 6, 3, 1, .atomic = true, .limit = 1},
        {3, 4, 2, 1, .workers = 2},
        {3, 3, 2, 1, .atomic = true, .starts = ALL_STARTS},
        {3, 4, 2, 1, .starts = 40},
        {4, 6, 1, 1, .atomic = true, .starts = 20},
        {2, 3, 2, 1, .workers = 2, .holds = true},
        {3, 4, 1, 1, .holds = true, .starts = 3},
        {2, 4, 2, 2, .backward = true},
        {3, 4, 2, 2, .atomic = true, .backward = true, .limit = 1},
        /* the largest */
        {4, 8, 2, 1, .atomic = true},
        {4, 8, 2, 1, .buffered = true, .atomic = true},
        {4, 6, 2, 1, .limit = 0},
        {3, 6, 2, 1, .atomic = true, .lazy = true},
        {3, 4, 2, 2, .atomic = true},
        {4, 8, 2, 1, .atomic = true, .buffered = true, .starts = 4},
        {3, 6, 2, 1, .starts = 12},
        {3, 5, 2, 2, .atomic = true, .backward = true},
    };
    size_t n = argc > 1 && !strcmp(argv[1], "quick") ? 14 : sizeof sweeps / sizeof *sweeps;
    for (size_t i = 0; i < n; i++) check_sweep(&sweeps[i]);
    printf("no violation\n");
    return 0;
}
