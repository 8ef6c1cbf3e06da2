/* One layer's step of one new token. Every tile that is cached gives a partial sum for each key-value head, computed
 * where the tile is; the granule that is being filled gives one of its own. One exchange brings all of them to all
 * ranks, which merge them in ascending order, so that the bits depend neither on the world size nor on threads. The
 * records are read once; n_tiles * n_kv_heads * (group + 1) * value_dim floats are received. */
#include "runtime/attention/attention.h"
#include "runtime/cache/records.h"
#include "runtime/files/half.h"
#include "runtime/isa.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

struct lucid_decoder {
    lucid_cache *cache;
    const lucid_kernels *kernels;
    lucid_decode_shape shape; /* of the cached records */
    float q_scale;            /* softmax_scale log2(e) */
    size_t partial_floats, rows_floats, scratch_floats;
    float *rows;     /* (n_kv_heads, rows_floats) the token's queries and key, packed */
    float *own;      /* (n_kv_heads) fp32 records that hold the token alone */
    float *merged;   /* (n_kv_heads, partial_floats) */
    float *partials; /* (tiles and the granule being filled, n_kv_heads, partial_floats), by rank */
    float *scratch;  /* (threads, scratch_floats) */
    size_t *bytes;   /* (world_size) of partials that a rank gives */
    size_t *first;   /* (world_size) floats before a rank's partials */
};

/* What the layers of one step have in common: the place of the new token. */
typedef struct {
    int64_t n;            /* cached tokens, and the new token's number */
    int64_t n_whole;      /* those in whole granules */
    int64_t n_tiles;      /* tiles with whole granules */
    int64_t tile, row;    /* the new token's, the row on the rank that owns it */
    int granule, slot;    /* within the tile, within the granule: slot tokens of the granule are cached */
    int owner;            /* rank */
    int64_t n_local_rows; /* this rank's among n_tiles */
} place;

static place place_of(const lucid_cache *c) {
    place p = {.n = c->tokens, .n_whole = c->tokens / LUCID_GRANULE * LUCID_GRANULE};
    p.n_tiles = lucid_cache_tiles(c, p.n_whole);
    p.tile = p.n / c->config.tile;
    p.row = p.tile / c->comm->world_size;
    p.owner = (int)(p.tile % c->comm->world_size);
    p.granule = (int)(p.n % c->config.tile / LUCID_GRANULE);
    p.slot = (int)(p.n % LUCID_GRANULE);
    p.n_local_rows = lucid_cache_rows(c, p.n_tiles, c->comm->rank);
    return p;
}

/* --- set-up --- */

static lucid_status check_options(const lucid_cache *c, const lucid_decode_options *options) {
    if (options->n_heads >= c->config.n_kv_heads && options->n_heads % c->config.n_kv_heads == 0) return LUCID_OK;
    return lucid_fail(LUCID_ERR_USAGE, "%d heads are no multiple of %d key-value heads", options->n_heads,
                      c->config.n_kv_heads);
}

static void *floats(size_t n) {
    return aligned_alloc(64, (n + 15) / 16 * 64);
}

static lucid_status allocate(lucid_decoder *d) {
    const lucid_cache *c = d->cache;
    const size_t heads = (size_t)c->config.n_kv_heads, world_size = (size_t)c->comm->world_size;
    d->partial_floats = lucid_partial_floats(&d->shape);
    d->rows_floats = (lucid_decode_rows_floats(&d->shape) + 15) / 16 * 16;
    d->scratch_floats = (lucid_decode_scratch_floats(&d->shape) + 15) / 16 * 16;
    d->rows = floats(heads * d->rows_floats);
    d->own = floats(heads * lucid_record_floats(c->shape));
    d->merged = floats(heads * d->partial_floats);
    d->partials = floats((size_t)(c->n_tiles + 1) * heads * d->partial_floats);
    d->scratch = floats((size_t)c->config.threads * d->scratch_floats);
    d->bytes = calloc(world_size, sizeof *d->bytes);
    d->first = calloc(world_size, sizeof *d->first);
    if (d->rows && d->own && d->merged && d->partials && d->scratch && d->bytes && d->first) {
        memset(d->own, 0, heads * lucid_record_floats(c->shape) * sizeof *d->own);
        return LUCID_OK;
    }
    return lucid_fail(LUCID_ERR_MEMORY, "no memory to decode with %" PRId64 " tiles of %zu key-value heads", c->n_tiles,
                      heads);
}

lucid_status lucid_decoder_create(lucid_decoder **decoder, lucid_cache *cache, const lucid_decode_options *options) {
    const lucid_cache_config *config = &cache->config;
    lucid_decoder *d = calloc(1, sizeof *d);
    lucid_status status = d ? check_options(cache, options) : lucid_fail(LUCID_ERR_MEMORY, "no memory for a decoder");
    if (!status) {
        const double scale = options->softmax_scale != 0 ? options->softmax_scale : 1 / sqrt(config->head_dim);
        d->cache = cache;
        d->q_scale = (float)(scale * M_LOG2E);
        d->shape = (lucid_decode_shape){.shape = cache->shape,
                                        .dtype = config->dtype,
                                        .group = options->n_heads / config->n_kv_heads,
                                        .solve = config->attention == LUCID_ATTENTION_LUCID};
        status = allocate(d);
    }
    status = lucid_comm_agree(cache->comm, status);
    if (!status) status = lucid_isa_agree(&d->kernels, cache->comm, options->isa);
    if (status) {
        lucid_decoder_destroy(d);
        return status;
    }
    *decoder = d;
    return LUCID_OK;
}

void lucid_decoder_destroy(lucid_decoder *d) {
    if (!d) return;
    free(d->rows);
    free(d->own);
    free(d->merged);
    free(d->partials);
    free(d->scratch);
    free(d->bytes);
    free(d->first);
    free(d);
}

/* --- one step --- */

static float *own_record(const lucid_decoder *d, int head) {
    return d->own + (size_t)head * lucid_record_floats(d->cache->shape);
}

/* The new token as a record of its own, which gives the norm the bits that it has in a prefill, and as packed rows. */
static void prepare_head(lucid_decoder *d, int head, const float *q, const float *k) {
    const lucid_cache *c = d->cache;
    const int dim = c->shape.head_dim, group = d->shape.group;
    float key[LUCID_MAX_HEAD_DIM] = {0}, *record = own_record(d, head), *rows = d->rows + (size_t)head * d->rows_floats;
    memcpy(key, k + (size_t)head * dim, (size_t)dim * sizeof *key);
    lucid_round(key, c->config.dtype, LUCID_MAX_HEAD_DIM);
    d->kernels->pack_rows(record, key, LUCID_F32, 1, dim);
    d->kernels->normalise(record, c->shape, (float)c->config.eps);
    lucid_decode_pack(rows, q + (size_t)head * group * dim, d->q_scale, key, record[lucid_record_rnorm(c->shape)],
                      &d->shape);
    d->kernels->decode_begin(d->merged + (size_t)head * d->partial_floats, rows, key, &d->shape);
}

/* Rank r gives a partial of each of its tiles, then, where it owns the granule being filled, of that. */
static void place_partials(lucid_decoder *d, const place *p) {
    const lucid_cache *c = d->cache;
    size_t before = 0;
    for (int r = 0; r < c->comm->world_size; r++) {
        const size_t n = (size_t)lucid_cache_rows(c, p->n_tiles, r) + (r == p->owner && p->slot > 0);
        const size_t n_floats = n * c->config.n_kv_heads * d->partial_floats;
        d->first[r] = before;
        d->bytes[r] = n_floats * sizeof(float);
        before += n_floats;
    }
}

/* A head's partial of a tile; the one of the granule being filled comes after its owner's tiles. */
static float *partial_at(const lucid_decoder *d, int rank, int64_t row, int head) {
    return d->partials + d->first[rank] + ((size_t)row * d->cache->config.n_kv_heads + head) * d->partial_floats;
}

static void compute_partial(lucid_decoder *d, const place *p, int layer, int64_t row, int head) {
    const lucid_cache *c = d->cache;
    const float *rows = d->rows + (size_t)head * d->rows_floats;
    float *partial = partial_at(d, c->comm->rank, row, head);
    const bool filling = row == p->n_local_rows;
    const int64_t tile = row * c->comm->world_size + c->comm->rank;
    const char *records = lucid_cache_record(c, layer, filling ? p->row : row, head, filling ? p->granule : 0);
    const int64_t n = filling ? p->slot : lucid_cache_tile_tokens(c, tile, p->n_whole);
    /* Every partial starts at the same references, those of the token's own scores. */
    memcpy(partial, d->merged + (size_t)head * d->partial_floats, d->partial_floats * sizeof *partial);
    d->kernels->decode(partial, rows, records, n, &d->shape, d->scratch + omp_get_thread_num() * d->scratch_floats);
}

/* merged takes the partials of all tiles; the values that are left of the token's own are pending, until the granule
 * being filled is subtracted too. y (w). */
static void merge_head(lucid_decoder *d, const place *p, int head, float *y, float *pending, const float *v) {
    const lucid_cache *c = d->cache;
    const int world_size = c->comm->world_size;
    float *merged = d->merged + (size_t)head * d->partial_floats;
    const float *sum = merged + lucid_partial_sum(&d->shape);
    for (int64_t t = 0; t < p->n_tiles; t++)
        d->kernels->decode_merge(merged, partial_at(d, (int)(t % world_size), t / world_size, head), &d->shape);
    for (int i = 0; i < c->shape.value_ld; i++) pending[i] = i < c->shape.value_dim ? v[i] - sum[i] : 0;
    memcpy(y, pending, (size_t)c->shape.value_ld * sizeof *y);
    if (p->slot == 0) return;
    const float *last = partial_at(d, p->owner, lucid_cache_rows(c, p->n_tiles, p->owner), head);
    d->kernels->decode_merge(merged, last, &d->shape);
    for (int i = 0; d->shape.solve && i < c->shape.value_ld; i++) y[i] -= last[lucid_partial_sum(&d->shape) + i];
}

/* The token's key, norm and values into its place, on the rank that owns it. */
static void keep_token(lucid_decoder *d, const place *p, int layer, int head) {
    const lucid_cache *c = d->cache;
    const lucid_shape s = c->shape;
    const lucid_dtype dtype = c->config.dtype;
    const size_t element = lucid_dtype_bytes(dtype);
    const float *own = own_record(d, head);
    char *record = lucid_cache_record(c, layer, p->row, head, p->granule);
    for (int i = 0; i < s.head_dim; i++)
        lucid_narrow(record + ((size_t)i * LUCID_GRANULE + p->slot) * element, dtype, own + i * LUCID_GRANULE, 1);
    memcpy(record + lucid_cached_rnorm(s, dtype) + p->slot * sizeof(float), own + lucid_record_rnorm(s), sizeof(float));
    lucid_narrow(record + lucid_cached_values(s, dtype) + (size_t)p->slot * s.value_ld * element, dtype,
                 own + lucid_record_values(s), s.value_ld);
}

/* From all ranks' partials to the head's outputs. */
static void finish_head(lucid_decoder *d, const place *p, int layer, int head, float *out, const float *v) {
    const lucid_cache *c = d->cache;
    const lucid_decode_shape own = {.shape = c->shape, .dtype = LUCID_F32, .group = d->shape.group};
    float *merged = d->merged + (size_t)head * d->partial_floats, pending[LUCID_MAX_HEAD_DIM];
    float *record = own_record(d, head), *y = record + lucid_record_values(c->shape);
    merge_head(d, p, head, y, pending, v + (size_t)head * c->shape.value_dim);
    lucid_round(y, c->config.dtype, LUCID_MAX_HEAD_DIM); /* what follows in the record is zero */
    d->kernels->decode(merged, d->rows + (size_t)head * d->rows_floats, record, 1, &own,
                       d->scratch + omp_get_thread_num() * d->scratch_floats);
    lucid_decode_finish(out + (size_t)head * d->shape.group * c->shape.value_dim, merged, &d->shape);
    if (c->comm->rank != p->owner) return;
    keep_token(d, p, layer, head);
    const size_t row = ((size_t)layer * c->config.n_kv_heads + head) * LUCID_GRANULE + p->slot;
    memcpy(c->pending + row * c->shape.value_ld, pending, (size_t)c->shape.value_ld * sizeof *pending);
}

/* A tile's heads are neighbours in memory and go to one thread, which asks for the next record while it reads one. */
static void compute_partials(lucid_decoder *d, const place *p, int layer) {
    const lucid_cache *c = d->cache;
    const int n_heads = c->config.n_kv_heads;
    const bool filling = c->comm->rank == p->owner && p->slot > 0;
    const int64_t n = (p->n_local_rows + filling) * n_heads;
#pragma omp parallel for num_threads(c->config.threads) schedule(dynamic, n_heads)
    for (int64_t i = 0; i < n; i++) compute_partial(d, p, layer, i / n_heads, (int)(i % n_heads));
}

lucid_status lucid_decode(lucid_decoder *d, int layer, float *out, const float *q, const float *k, const float *v) {
    lucid_cache *c = d->cache;
    const int n_heads = c->config.n_kv_heads;
    if (c->tokens >= c->config.max_tokens)
        return lucid_fail(LUCID_ERR_MEMORY, "the cache holds at most %" PRId64 " tokens", c->config.max_tokens);
    const place p = place_of(c);
    for (int head = 0; head < n_heads; head++) prepare_head(d, head, q, k); /* too little to wake threads for */
    place_partials(d, &p);
    compute_partials(d, &p, layer);
    LUCID_TRY(lucid_comm_allgather(c->comm, partial_at(d, c->comm->rank, 0, 0), d->partials, d->bytes));
#pragma omp parallel for num_threads(c->config.threads)
    for (int head = 0; head < n_heads; head++) finish_head(d, &p, layer, head, out, v);
    return LUCID_OK;
}
