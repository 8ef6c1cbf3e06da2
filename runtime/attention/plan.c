/* The plan: every choice that a run makes from sizes alone, and what it costs. Pure, so that --plan and a run agree. */
#include "runtime/attention/plan.h"
#include "runtime/attention/backward.h"

#include <math.h>
#include <stdlib.h>

enum {
    TILE_MAX = 512,
    TILES_PER_RANK = 16,
    CHANNELS_MAX = 16,
    CYCLIC_WINDOW = 8,
    DEVICE_TILE_MAX = 8192,
    DEVICE_TILES_PER_RANK = 8,
    TILE_LIMIT = 1 << 24
};
static const size_t DEFAULT_BUDGET = (size_t)1 << 30;

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

lucid_shape lucid_problem_shape(const lucid_problem *problem) {
    return lucid_shape_make(problem->head_dim, problem->value_dim);
}

double lucid_pairs(int64_t first, int64_t last) {
    return 0.5 * ((double)last * ((double)last + 1) - (double)first * ((double)first + 1));
}

lucid_status lucid_problem_check(const lucid_problem *p) {
    if (p->seqlen < 1 || p->seqlen > (int64_t)1 << 36)
        return lucid_fail(LUCID_ERR_USAGE, "seqlen %lld is outside 1..2^36", (long long)p->seqlen);
    if (p->batch < 1 || p->n_heads < 1 || p->n_kv_heads < 1)
        return lucid_fail(LUCID_ERR_USAGE, "batch %d, heads %d and kv heads %d must be at least 1", p->batch,
                          p->n_heads, p->n_kv_heads);
    if (p->n_heads % p->n_kv_heads)
        return lucid_fail(LUCID_ERR_USAGE, "heads (%d) must be a multiple of kv heads (%d)", p->n_heads, p->n_kv_heads);
    if (p->head_dim < 1 || p->head_dim > LUCID_MAX_HEAD_DIM || p->value_dim < 1 || p->value_dim > LUCID_MAX_HEAD_DIM)
        return lucid_fail(LUCID_ERR_USAGE, "head dimensions %d (keys) and %d (values) must be in 1..%d", p->head_dim,
                          p->value_dim, LUCID_MAX_HEAD_DIM);
    if ((int64_t)p->batch * p->n_heads > 1 << 20)
        return lucid_fail(LUCID_ERR_USAGE, "batch %d times heads %d is more than 2^20", p->batch, p->n_heads);
    if (p->n_cached < 0 || p->n_cached >= p->seqlen)
        return lucid_fail(LUCID_ERR_USAGE, "%lld cached tokens of %lld leave nothing to compute",
                          (long long)p->n_cached, (long long)p->seqlen);
    if (!(p->eps >= 0) || !isfinite(p->eps) || !isfinite(p->softmax_scale))
        return lucid_fail(LUCID_ERR_USAGE, "eps %g and softmax scale %g must be finite, eps not negative", p->eps,
                          p->softmax_scale);
    return LUCID_OK;
}

static lucid_status check_options(const lucid_options *o, const lucid_problem *p) {
    if (o->backward && (p->n_cached || p->cache_dtype != LUCID_F32))
        return lucid_fail(LUCID_ERR_USAGE, "there is no backward pass on top of a cache or through its rounding");
    if (o->tile < 0 || o->tile % LUCID_GRANULE || o->tile > TILE_LIMIT)
        return lucid_fail(LUCID_ERR_USAGE, "tile %lld is not a multiple of %d tokens up to 2^24", (long long)o->tile,
                          LUCID_GRANULE);
    if (o->threads < 0 || o->threads > 4096 || o->channels < 0)
        return lucid_fail(LUCID_ERR_USAGE, "threads %d and channels %d must be positive", o->threads, o->channels);
    return LUCID_OK;
}

/* A GPU wants thousands of rows at once, and the chain enough tiles. */
static int64_t device_tile(const lucid_problem *p, int world_size) {
    int64_t tile = ceil_div(p->seqlen, (int64_t)DEVICE_TILES_PER_RANK * world_size * LUCID_GRANULE) * LUCID_GRANULE;
    return tile < DEVICE_TILE_MAX ? tile : DEVICE_TILE_MAX;
}

/* Large tiles cost least; but where ranks or threads share the chain there should be enough of them. A tile that was
 * asked for stays what it is, even beyond the sequence: a cache's records lie by it. */
static int64_t choose_tile(const lucid_problem *p, const lucid_options *o, int world_size) {
    int64_t whole = ceil_div(p->seqlen, LUCID_GRANULE) * LUCID_GRANULE;
    if (o->tile) return o->tile;
    if (o->cuda) return min64(whole, world_size == 1 ? TILE_LIMIT : device_tile(p, world_size));
    int64_t workers = (int64_t)world_size * (o->threads ? o->threads : 1);
    int64_t tile = TILE_MAX;
    while (workers > 1 && tile > LUCID_GRANULE && p->seqlen / tile < TILES_PER_RANK * workers) tile /= 2;
    return min64(tile, whole);
}

static int choose_channels(const lucid_problem *p, const lucid_options *o) {
    int n_sequences = p->batch * p->n_kv_heads;
    int wanted = o->channels ? o->channels : o->cuda ? 1 : o->threads > 2 ? o->threads : 2;
    if (wanted > CHANNELS_MAX) wanted = CHANNELS_MAX;
    return wanted < n_sequences ? wanted : n_sequences;
}

/* --- sizes --- */

typedef struct {
    int rows, new_rows, incoming, sent; /* tiles owned, those not wholly cached; received and sent in one round */
    double work;                        /* (row tile, key tile) pairs */
} rank_share;

/* One tile of all heads as it is stored and sent. */
static size_t tile_bytes(const lucid_plan *plan, const lucid_problem *p) {
    return (size_t)(plan->tile / LUCID_GRANULE) * p->batch * p->n_kv_heads *
           lucid_record_floats(lucid_problem_shape(p)) * sizeof(float);
}

/* The same in the backward pass, and the sums of an own tile. */
static size_t gradient_tile_bytes(const lucid_plan *plan, const lucid_problem *p) {
    return (size_t)(plan->tile / LUCID_GRANULE) * p->batch * p->n_kv_heads *
           lucid_gradient_row_floats(lucid_problem_shape(p), p->n_heads / p->n_kv_heads) * sizeof(float);
}
static size_t sums_bytes(const lucid_plan *plan, const lucid_problem *p) {
    return (size_t)(plan->tile / LUCID_GRANULE) * p->batch * p->n_kv_heads *
           lucid_sums_floats(lucid_problem_shape(p), p->n_heads / p->n_kv_heads) * sizeof(float);
}

static size_t tensor_bytes(const lucid_plan *plan, const lucid_problem *p, const lucid_options *o,
                           const rank_share *most) {
    lucid_shape shape = lucid_problem_shape(p);
    size_t query = (lucid_query_floats(shape) + lucid_state_floats(shape)) * sizeof(float);
    size_t backward = o->backward ? gradient_tile_bytes(plan, p) + sums_bytes(plan, p) : 0;
    return (size_t)most->rows * (tile_bytes(plan, p) + backward) +
           (size_t)most->new_rows * (size_t)(plan->tile / LUCID_GRANULE) * p->batch * p->n_heads * query;
}

/* Each field's maximum over ranks. */
static lucid_status most_of(rank_share *most, const lucid_layout *layout, int first_row) {
    int world_size = layout->world_size;
    rank_share *shares = calloc((size_t)world_size, sizeof *shares);
    if (!shares) return lucid_fail(LUCID_ERR_MEMORY, "no memory to plan for %d ranks", world_size);
    for (int tile = 0; tile < layout->n_tiles; tile++) {
        int rank = lucid_layout_owner(layout, tile), direction = lucid_layout_direction(layout, tile);
        shares[rank].rows++;
        shares[rank].new_rows += tile >= first_row;
        shares[rank].work += tile >= first_row ? tile + 0.5 : 0;
        for (int hops = lucid_layout_reach(layout, tile, first_row); hops > 0; hops--) {
            shares[rank].sent++;
            rank = (rank + direction + world_size) % world_size;
            shares[rank].incoming++;
        }
    }
    *most = (rank_share){0};
    for (int rank = 0; rank < world_size; rank++) {
        const rank_share *share = &shares[rank];
        if (share->rows > most->rows) most->rows = share->rows;
        if (share->new_rows > most->new_rows) most->new_rows = share->new_rows;
        if (share->incoming > most->incoming) most->incoming = share->incoming;
        if (share->sent > most->sent) most->sent = share->sent;
        if (share->work > most->work) most->work = share->work;
    }
    free(shares);
    return LUCID_OK;
}

/* --- choices --- */

typedef struct {
    rank_share most;
    size_t message_bytes, slot_bytes; /* a slot of the window holds a tile, with backward one of either pass */
    size_t budget, slots;             /* for the window: bytes, and what they hold */
    int window_wanted;                /* slots with which the schedule loses next to nothing by waiting for one */
} demand;

/* Cyclic rows consume their tiles as they come. The others' last rows need every tile, long after it came: a window of
 * half of what comes in costs them a fifth of their efficiency. */
static lucid_status demand_of(demand *d, const lucid_plan *plan, const lucid_problem *p, const lucid_options *o,
                              int world_size) {
    lucid_layout layout = {.kind = plan->layout, .world_size = world_size, .n_tiles = (int)plan->n_tiles};
    *d = (demand){.message_bytes = tile_bytes(plan, p)};
    d->slot_bytes = d->message_bytes + (o->backward ? gradient_tile_bytes(plan, p) : 0);
    LUCID_TRY(most_of(&d->most, &layout, (int)(p->n_cached / plan->tile)));
    bool few = plan->layout == LUCID_LAYOUT_CYCLIC && d->most.incoming > CYCLIC_WINDOW;
    d->window_wanted = few ? CYCLIC_WINDOW : d->most.incoming;
    return LUCID_OK;
}

/* Bytes for remote tiles: the given budget, else a default that leaves room. */
static size_t window_budget(const lucid_options *o, size_t tensors, size_t free_bytes) {
    if (o->memory_budget) return o->memory_budget;
    if (!free_bytes) return DEFAULT_BUDGET;
    size_t left = free_bytes > tensors ? (free_bytes - tensors) / 2 : 0;
    return left < DEFAULT_BUDGET ? left : DEFAULT_BUDGET;
}

/* With the tile and layout fixed: the window and the memory. */
static lucid_status fit(lucid_plan *plan, const lucid_problem *p, const lucid_options *o, int world_size,
                        size_t free_bytes, demand *d) {
    LUCID_TRY(demand_of(d, plan, p, o, world_size));
    plan->tensor_bytes_max = tensor_bytes(plan, p, o, &d->most);
    d->budget = window_budget(o, plan->tensor_bytes_max, free_bytes);
    d->slots = d->budget / d->slot_bytes;
    plan->window_tiles = (int)min64((int64_t)d->slots, d->window_wanted);
    plan->window_bytes = (size_t)plan->window_tiles * d->slot_bytes;
    return LUCID_OK;
}

static lucid_status choose_layout(lucid_plan *plan, const lucid_problem *p, const lucid_options *o, int world_size,
                                  size_t free_bytes, demand *d) {
    if (o->layout != LUCID_LAYOUT_AUTO) {
        plan->layout = o->layout;
        return fit(plan, p, o, world_size, free_bytes, d);
    }
    plan->layout = world_size == 1 ? LUCID_LAYOUT_CONTIGUOUS : LUCID_LAYOUT_ZIGZAG;
    lucid_status status = fit(plan, p, o, world_size, free_bytes, d);
    if (status || plan->window_tiles >= d->window_wanted) return status;
    plan->layout = LUCID_LAYOUT_CYCLIC;
    return fit(plan, p, o, world_size, free_bytes, d);
}

/* No tile of another rank's fits. */
static lucid_status refuse_window(const lucid_plan *plan, const lucid_options *o, size_t free_bytes, const demand *d) {
    const double mib = 1 << 20;
    if (o->memory_budget)
        return lucid_fail(LUCID_ERR_USAGE,
                          "a memory budget of %.1f MiB does not hold one tile of %lld tokens (%.1f MiB): raise "
                          "--memory-budget or lower --tile",
                          (double)d->budget / mib, (long long)plan->tile, (double)d->slot_bytes / mib);
    return lucid_fail(LUCID_ERR_MEMORY,
                      "a rank needs %.1f MiB for its tensors, and twice %.1f MiB for another rank's tile of %lld "
                      "tokens, and may use %.1f MiB: use more ranks",
                      (double)plan->tensor_bytes_max / mib, (double)d->slot_bytes / mib, (long long)plan->tile,
                      (double)free_bytes / mib);
}

/* Halves a tile that was not asked for until the budget holds two. */
static lucid_status choose_tile_and_layout(lucid_plan *plan, const lucid_problem *p, const lucid_options *o,
                                           int world_size, size_t free_bytes, demand *d) {
    plan->tile = choose_tile(p, o, world_size);
    for (;; plan->tile = ceil_div(plan->tile / 2, LUCID_GRANULE) * LUCID_GRANULE) {
        plan->n_tiles = ceil_div(p->seqlen, plan->tile);
        if (plan->n_tiles > INT32_MAX / 8)
            return lucid_fail(LUCID_ERR_USAGE, "tile %lld cuts %lld tokens into too many tiles", (long long)plan->tile,
                              (long long)p->seqlen);
        LUCID_TRY(choose_layout(plan, p, o, world_size, free_bytes, d));
        if (!d->most.incoming || d->slots >= 2) return LUCID_OK;
        if (o->tile || plan->tile == LUCID_GRANULE) return d->slots ? LUCID_OK : refuse_window(plan, o, free_bytes, d);
    }
}

static void count_flops(lucid_plan *plan, const lucid_problem *p, const demand *d) {
    double pairs = lucid_pairs(p->n_cached, p->seqlen);
    double per_pair = 2.0 * (p->head_dim + p->value_dim);
    double heads = p->n_heads + (p->attention == LUCID_ATTENTION_LUCID ? p->n_kv_heads : 0);
    double tiles = (double)plan->n_tiles, cached = (double)(p->n_cached / plan->tile);
    plan->flops_total = pairs * per_pair * heads * p->batch;
    plan->flops_max = plan->flops_total * fmin(1, d->most.work / (0.5 * (tiles * tiles - cached * cached)));
}

lucid_status lucid_plan_make(lucid_plan *plan, const lucid_problem *problem, const lucid_options *options,
                             int world_size, size_t free_bytes) {
    lucid_plan made = {0};
    demand d;
    LUCID_TRY(lucid_problem_check(problem));
    LUCID_TRY(check_options(options, problem));
    LUCID_TRY(choose_tile_and_layout(&made, problem, options, world_size, free_bytes, &d));
    bool solve = problem->attention == LUCID_ATTENTION_LUCID;
    made.schedule = options->schedule == LUCID_SCHEDULE_AUTO ? LUCID_SCHEDULE_FUSED : options->schedule;
    made.channels = choose_channels(problem, options);
    /* Fused, one round beats two at any window, although a full window holds up the chain. */
    made.second_round = solve && world_size > 1 && made.schedule == LUCID_SCHEDULE_PIPELINED;
    int threads = options->threads ? options->threads : 1;
    int64_t rounds = made.second_round ? 2 : 1;
    made.scratch_bytes = lucid_attention_scratch_bytes(problem, &made, threads);
    made.messages_max = rounds * d.most.sent * made.channels;
    made.bytes_sent_max = (double)rounds * d.most.sent * (double)d.message_bytes;
    count_flops(&made, problem, &d);
    size_t total = made.tensor_bytes_max + made.window_bytes + made.scratch_bytes;
    if (free_bytes && total > free_bytes)
        return lucid_fail(
            LUCID_ERR_MEMORY,
            "a rank needs %.1f MiB (%.1f tensors, %.1f window, %.1f scratch) and may use %.1f MiB: use more "
            "ranks%s",
            (double)total / (1 << 20), (double)made.tensor_bytes_max / (1 << 20), (double)made.window_bytes / (1 << 20),
            (double)made.scratch_bytes / (1 << 20), (double)free_bytes / (1 << 20),
            options->memory_budget ? " or a smaller --memory-budget" : "");
    *plan = made;
    return LUCID_OK;
}
