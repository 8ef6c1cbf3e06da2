#include "runtime/model/convolution.h"

#include "runtime/attention/attention.h"
#include "runtime/vector.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* Nothing of the engine or of a state is on its way while borders are exchanged. */
#define CHANNEL 1

/* --- tails --- */

lucid_convolution lucid_convolution_of(const lucid_model_config *c) {
    const int q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    return (lucid_convolution){.width = c->conv_size > 1 ? c->conv_size : 1, .n_channels = {q, kv, kv}};
}

size_t lucid_tail_ld(const lucid_convolution *s) {
    return (size_t)s->n_channels[0] + (size_t)s->n_channels[1] + (size_t)s->n_channels[2];
}

size_t lucid_tail_column(const lucid_convolution *s, int which) {
    size_t column = 0;
    for (int i = 0; i < which; i++) column += (size_t)s->n_channels[i];
    return column;
}

size_t lucid_tail_floats(const lucid_convolution *s) {
    return (size_t)(s->width - 1) * lucid_tail_ld(s);
}

void lucid_tail_make(float *tail, const float *before, const float *const projections[LUCID_PROJECTIONS],
                     int64_t n_tokens, const lucid_convolution *s) {
    const size_t ld = lucid_tail_ld(s);
    for (int i = 0; i < s->width - 1; i++) {
        const int64_t t = n_tokens - (s->width - 1) + i; /* among the tokens, or before them */
        for (int p = 0; p < LUCID_PROJECTIONS; p++) {
            const size_t n = (size_t)s->n_channels[p], column = lucid_tail_column(s, p);
            const float *from =
                t >= 0 ? projections[p] + (size_t)t * n : before + (size_t)(s->width - 1 + t) * ld + column;
            memcpy(tail + (size_t)i * ld + column, from, n * sizeof *tail);
        }
    }
}

/* --- arithmetic --- */

static int strips_of(int n_channels) {
    return (n_channels + LUCID_CONV_STRIP - 1) / LUCID_CONV_STRIP;
}

int lucid_convolution_strips(const lucid_convolution *s) {
    return strips_of(s->n_channels[0]) + strips_of(s->n_channels[1]) + strips_of(s->n_channels[2]);
}

lucid_conv_columns lucid_convolution_columns(const lucid_convolution *s, int strip) {
    lucid_conv_columns found = {0};
    for (; strip >= strips_of(s->n_channels[found.which]); found.which++)
        strip -= strips_of(s->n_channels[found.which]);
    found.column = strip * LUCID_CONV_STRIP;
    const int left = s->n_channels[found.which] - found.column;
    found.n = left < LUCID_CONV_STRIP ? left : LUCID_CONV_STRIP;
    return found;
}

/* Compilers do not see that a sum over rows can stay in a register: so it is said. Unaligned. */
#define LANES 16
typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

/* out (n) = the rows' sum, each times its weights (LUCID_CONV_STRIP apart); out may be one of the rows. */
LUCID_CLONES static void weigh(float *out, const float *const *rows, const float *weights, int width, int n) {
    int c = 0;
    for (; c + LANES <= n; c += LANES) {
        lanes sum = *(const lanes *)(weights + c) * *(const lanes *)(rows[0] + c);
        for (int w = 1; w < width; w++)
            sum += *(const lanes *)(weights + w * LUCID_CONV_STRIP + c) * *(const lanes *)(rows[w] + c);
        *(lanes *)(out + c) = sum;
    }
    for (; c < n; c++) {
        float sum = weights[c] * rows[0][c];
        for (int w = 1; w < width; w++) sum += weights[w * LUCID_CONV_STRIP + c] * rows[w][c];
        out[c] = sum;
    }
}

static void transpose(float *weights, const lucid_conv_strip *s) {
    for (int w = 0; w < s->width; w++)
        for (int c = 0; c < s->n_channels; c++) weights[w * LUCID_CONV_STRIP + c] = s->weight[c * s->width + w];
}

/* The inputs of token t. */
static void find_rows(const float **rows, const float *x, int64_t t, const lucid_conv_strip *s) {
    for (int w = 0; w < s->width; w++) {
        const int64_t from = t - (s->width - 1) + w;
        rows[w] = from >= 0 ? x + (size_t)from * s->ld : s->border + (size_t)(from + s->width - 1) * s->border_ld;
    }
}

/* The last token first, so that what is yet to be read is as it was. */
void lucid_convolve(float *out, const float *x, const lucid_conv_strip *s) {
    float weights[LUCID_CONV_MAX * LUCID_CONV_STRIP];
    const float *rows[LUCID_CONV_MAX];
    transpose(weights, s);
    for (int64_t t = s->n_tokens - 1; t >= 0; t--) {
        find_rows(rows, x, t, s);
        weigh(out + (size_t)t * s->ld, rows, weights, s->width, s->n_channels);
    }
}

void lucid_convolve_back(float *dx, const float *dout, const lucid_conv_strip *s) {
    float weights[LUCID_CONV_MAX * LUCID_CONV_STRIP];
    const float *rows[LUCID_CONV_MAX];
    transpose(weights, s);
    for (int64_t t = 0; t < s->n_tokens; t++) {
        for (int w = 0; w < s->width; w++) {
            const int64_t from = t + s->width - 1 - w;
            rows[w] = from < s->n_tokens ? dout + (size_t)from * s->ld
                                         : s->border + (size_t)(from - s->n_tokens) * s->border_ld;
        }
        weigh(dx + (size_t)t * s->ld, rows, weights, s->width, s->n_channels);
    }
}

/* sums (width, LUCID_CONV_STRIP) += dout times each row */
LUCID_CLONES static void correlate(float *sums, const float *dout, const float *const *rows, int width, int n) {
    for (int w = 0; w < width; w++) {
        const float *row = rows[w];
        float *sum = sums + w * LUCID_CONV_STRIP;
#pragma omp simd
        for (int c = 0; c < n; c++) sum[c] += dout[c] * row[c];
    }
}

void lucid_convolve_weight(float *dweight, const float *dout, const float *x, const lucid_conv_strip *s) {
    const float *rows[LUCID_CONV_MAX];
    memset(dweight, 0, (size_t)s->width * LUCID_CONV_STRIP * sizeof *dweight);
    for (int64_t t = 0; t < s->n_tokens; t++) {
        find_rows(rows, x, t, s);
        correlate(dweight, dout + (size_t)t * s->ld, rows, s->width, s->n_channels);
    }
}

/* --- borders of tiles --- */

static int64_t first_own(const lucid_border *b, const lucid_comm *comm) {
    return b->first + ((comm->rank - b->first) % comm->world_size + comm->world_size) % comm->world_size;
}

/* Whose border comes to a tile, and whose it leaves for. */
static int64_t before(const lucid_border *b, int64_t tile) {
    return b->back ? tile + 1 : tile - 1;
}

static int64_t behind(const lucid_border *b, int64_t tile) {
    return b->back ? tile - 1 : tile + 1;
}

static int owner(const lucid_comm *comm, int64_t tile) {
    return (int)(tile % comm->world_size);
}

/* A tile's two requests: its block leaves, and another comes. */
static lucid_status post(lucid_request **requests, float *coming, const float *leaving, int64_t tile,
                         const lucid_border *b, lucid_comm *comm) {
    const int64_t to = behind(b, tile), from = before(b, tile);
    const size_t bytes = b->n_floats * sizeof(float);
    if (from >= b->first && from <= b->last)
        LUCID_TRY(lucid_comm_post_recv(comm, CHANNEL, owner(comm, from), coming, bytes, &requests[0]));
    if (to >= b->first && to <= b->last)
        LUCID_TRY(lucid_comm_post_send(comm, CHANNEL, owner(comm, to), leaving, bytes, &requests[1]));
    return LUCID_OK;
}

static lucid_status await(lucid_request **requests, int64_t tile, const lucid_border *b, lucid_comm *comm,
                          double timeout) {
    const int64_t to = behind(b, tile), from = before(b, tile);
    if (requests[0])
        LUCID_TRY(lucid_comm_await(comm, &requests[0], owner(comm, from), timeout, "the border of tile", from));
    if (!requests[1]) return LUCID_OK;
    return lucid_comm_await(comm, &requests[1], owner(comm, to), timeout, "the border of tile", tile);
}

lucid_status lucid_border_exchange(float *coming, const float *leaving, const lucid_border *b, lucid_comm *comm,
                                   double timeout) {
    const int64_t first = first_own(b, comm), n = b->last < first ? 0 : (b->last - first) / comm->world_size + 1;
    lucid_request **requests = calloc((size_t)(2 * n + 1), sizeof *requests);
    lucid_status status = requests ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for %lld tiles", (long long)n);
    for (int64_t i = 0; !status && i < n; i++)
        status = post(requests + 2 * i, coming + (size_t)i * b->n_floats, leaving + (size_t)i * b->n_floats,
                      first + i * comm->world_size, b, comm);
    for (int64_t i = 0; !status && i < n; i++)
        status = await(requests + 2 * i, first + i * comm->world_size, b, comm, timeout > 0 ? timeout : 600);
    free(requests);
    return status;
}

/* --- the tiles of a chunk --- */

static void add_tile(lucid_tiles *t, int64_t index, size_t tail_floats) {
    const lucid_rows *r = t->rows;
    const int64_t begin = index * r->tile, end = begin + r->tile;
    const int64_t first = begin > r->first ? begin : r->first, last = end < r->last ? end : r->last;
    t->tiles[t->n_tiles] = (lucid_tile){.index = index,
                                        .row = lucid_rows_index(r, first),
                                        .n_tokens = (int)(last - first),
                                        .tail = t->tails + (size_t)t->n_tiles * tail_floats};
    t->n_tiles++;
}

lucid_status lucid_tiles_make(lucid_tiles *t, const lucid_rows *rows, const lucid_convolution *shape) {
    const size_t tail_floats = lucid_tail_floats(shape);
    *t = (lucid_tiles){.rows = rows, .first = rows->first / rows->tile, .last = (rows->last - 1) / rows->tile};
    const size_t n = (size_t)((t->last - t->first) / rows->world_size + 1);
    t->tiles = calloc(n, sizeof *t->tiles);
    t->tails = calloc(n * tail_floats + 1, sizeof *t->tails);
    t->leaving = calloc(n * tail_floats + 1, sizeof *t->leaving);
    if (!t->tiles || !t->tails || !t->leaving) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %zu tiles", n);
    for (int64_t i = t->first; i <= t->last; i++)
        if (i % rows->world_size == rows->rank) add_tile(t, i, tail_floats);
    return LUCID_OK;
}

void lucid_tiles_free(lucid_tiles *t) {
    free(t->tiles);
    free(t->tails);
    free(t->leaving);
    *t = (lucid_tiles){0};
}

/* A tile that another one follows is whole, or the chunk's first, whose own tail is known: so its last tokens are known
 * before any message comes; those of the chunk's last tile after. */
static void leave(float *tail, const lucid_tile *t, const float *const projections[LUCID_PROJECTIONS],
                  const lucid_convolution *s) {
    const float *own[LUCID_PROJECTIONS];
    for (int p = 0; p < LUCID_PROJECTIONS; p++) own[p] = projections[p] + (size_t)t->row * (size_t)s->n_channels[p];
    lucid_tail_make(tail, t->tail, own, t->n_tokens, s);
}

lucid_status lucid_tails_exchange(float *tail, lucid_tiles *t, const float *const projections[LUCID_PROJECTIONS],
                                  const lucid_convolution *s, lucid_comm *comm, double timeout) {
    const size_t n = lucid_tail_floats(s);
    const lucid_border border = {.first = t->first, .last = t->last, .n_floats = n};
    const int last_owner = (int)(t->last % comm->world_size);
    if (n == 0) return LUCID_OK;
    for (int i = 0; i < t->n_tiles; i++) {
        if (t->tiles[i].index == t->first) memcpy(t->tiles[i].tail, tail, n * sizeof *tail);
        if (t->tiles[i].index < t->last) leave(t->leaving + (size_t)i * n, &t->tiles[i], projections, s);
    }
    LUCID_TRY(lucid_border_exchange(t->tails, t->leaving, &border, comm, timeout));
    if (comm->rank == last_owner) leave(tail, &t->tiles[t->n_tiles - 1], projections, s);
    return lucid_comm_broadcast(comm, tail, n * sizeof *tail, last_owner);
}
