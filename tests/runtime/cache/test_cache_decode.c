/* Decoding token by token: the same bits for any world size and number of threads, and what fp64 gives. The reference
 * takes each token's earlier y from the cache as they are kept, so that it judges each step by itself, and then once
 * more its own, which judges what errors add up to. */
#include "kernels/ref/dense.h"
#include "runtime/cache/records.h"
#include "runtime/files/half.h"
#include "tests/comm/worlds.h"
#include "tests/runtime/cache/cache_fixture.h"

static const cache_case cases[] = {
    {"fp32", LUCID_ATTENTION_LUCID, LUCID_F32, 2, 2, 64, 64, 330, 400, 64},
    {"fp32, group 3, d 68", LUCID_ATTENTION_LUCID, LUCID_F32, 6, 2, 68, 40, 300, 300, 128},
    {"fp32, d 1, one head", LUCID_ATTENTION_LUCID, LUCID_F32, 1, 1, 1, 1, 130, 1000, 0},
    {"bf16", LUCID_ATTENTION_LUCID, LUCID_BF16, 2, 2, 64, 64, 330, 400, 64},
    {"bf16, group 9, d 68", LUCID_ATTENTION_LUCID, LUCID_BF16, 9, 1, 68, 68, 200, 300, 64},
    {"softmax", LUCID_ATTENTION_SOFTMAX, LUCID_F32, 4, 2, 32, 48, 200, 400, 64},
    {"softmax, bf16", LUCID_ATTENTION_SOFTMAX, LUCID_BF16, 4, 2, 32, 48, 200, 400, 64},
};

static void check_bits(lucid_comm *comm, lucid_comm *alone, const cache_case *c) {
    float *want = case_run(alone, c, 1), *got = case_run(comm, c, 2);
    const int64_t t = case_difference(c, got, want, 0);
    CHECK(t < 0, "%s: token %d differs between 1 rank and %d of 2 threads", c->name, (int)t, comm->world_size);
    free(got), free(want);
}

/* One key-value head of one layer in fp64. */
typedef struct {
    const cache_case *c;
    int layer, head;
    double *k, *kn, *v, *y; /* (n, dim) keys as kept, normalised; values; y as kept */
    double *out;            /* (n, value_dim) */
} reference;

static double kept(const char *base, size_t index, lucid_dtype dtype) {
    float x;
    lucid_widen(&x, base + index * lucid_dtype_bytes(dtype), dtype, 1);
    return x;
}

static void fill(reference *r, const lucid_cache *cache) {
    const cache_case *c = r->c;
    const int d = c->head_dim, dv = c->value_dim, T = (int)cache->config.tile;
    float v[8 * LUCID_MAX_HEAD_DIM];
    for (int64_t t = 0; t < c->n; t++) {
        const char *record = lucid_cache_record(cache, r->layer, t / T, r->head, (int)(t % T) / LUCID_GRANULE);
        const char *y = record + lucid_cached_values(cache->shape, c->dtype);
        const size_t slot = (size_t)t % LUCID_GRANULE;
        case_row(v, c, r->layer, LUCID_V, t);
        for (int i = 0; i < d; i++) r->k[t * d + i] = kept(record, (size_t)i * LUCID_GRANULE + slot, c->dtype);
        for (int i = 0; i < dv; i++) r->y[t * dv + i] = kept(y, slot * cache->shape.value_ld + (size_t)i, c->dtype);
        for (int i = 0; i < dv; i++) r->v[t * dv + i] = v[r->head * dv + i];
    }
    lucid_dense_normalise(r->kn, r->k, c->n, d, 1e-5);
}

/* The keys are the given ones, rounded to nearest where they are kept in 16 bits. */
static void check_keys(const reference *r) {
    const cache_case *c = r->c;
    float k[8 * LUCID_MAX_HEAD_DIM];
    for (int64_t t = 0; t < c->n; t++) {
        case_row(k, c, r->layer, LUCID_K, t);
        for (int i = 0; i < c->head_dim; i++) {
            const float x = k[r->head * c->head_dim + i];
            const double want = c->dtype == LUCID_F32 ? x : lucid_f32_from_bf16(lucid_bf16_from_f32(x));
            CHECK(r->k[t * c->head_dim + i] == want, "%s: key %d of token %d", c->name, i, (int)t);
        }
    }
}

/* Each y against its equation with the earlier ones as kept. In fp32, a sum over hundreds of terms; in bf16, besides,
 * half a unit in the last place. The pending values are those before the last granule was subtracted. */
static void check_values(const reference *r, const lucid_cache *cache) {
    const cache_case *c = r->c;
    const int d = c->head_dim, dv = c->value_dim;
    const bool solve = c->attention == LUCID_ATTENTION_LUCID;
    double row[LUCID_MAX_HEAD_DIM];
    for (int64_t t = 0; t < c->n; t++) {
        const int64_t whole = t / LUCID_GRANULE * LUCID_GRANULE;
        memcpy(row, r->v + t * dv, (size_t)dv * sizeof *row);
        if (solve) lucid_dense_update_row(row, r->kn, r->y, t, 0, whole, d, dv);
        const float *pending = cache->pending + (size_t)r->layer * lucid_cache_pending_floats(cache) +
                               ((size_t)r->head * LUCID_GRANULE + (size_t)(t - whole)) * cache->shape.value_ld;
        for (int i = 0; i < dv && whole == c->n / LUCID_GRANULE * LUCID_GRANULE; i++)
            CHECK_NEAR(pending[i], row[i], 2e-5, "%s: pending value %d of token %d", c->name, i, (int)t);
        if (solve) lucid_dense_update_row(row, r->kn, r->y, t, whole, t, d, dv);
        for (int i = 0; i < dv; i++) {
            const double tolerance = 2e-5 + (c->dtype == LUCID_F32 ? 0 : fabs(row[i]) * 0x1p-8);
            CHECK_NEAR(r->y[t * dv + i], row[i], tolerance, "%s: y %d of token %d", c->name, i, (int)t);
        }
    }
}

static double attend_error(const reference *r, const float *out, const double *y) {
    const cache_case *c = r->c;
    const int d = c->head_dim, dv = c->value_dim, group = c->n_heads / c->n_kv_heads;
    double worst = 0, q[LUCID_MAX_HEAD_DIM], lse, *got = malloc((size_t)c->n * dv * sizeof *got);
    float row[32 * LUCID_MAX_HEAD_DIM];
    for (int h = r->head * group; h < (r->head + 1) * group; h++) {
        for (int64_t t = 0; t < c->n; t++) {
            case_row(row, c, r->layer, LUCID_Q, t);
            for (int i = 0; i < d; i++) q[i] = row[h * d + i];
            lucid_dense_attend_row(r->out + t * dv, &lse, q, r->k, y, t, d, dv, 1 / sqrt(d));
            const size_t at = ((size_t)t * CACHE_LAYERS + r->layer) * case_out_floats(c) + (size_t)h * dv;
            for (int i = 0; i < dv; i++) got[t * dv + i] = out[at + i];
        }
        const double error = lucid_dense_row_error(got, r->out, c->n, dv);
        if (!(error <= worst)) worst = isnan(error) ? INFINITY : error;
    }
    free(got);
    return worst;
}

static void check_head(const cache_case *c, const lucid_cache *cache, const float *out, int layer, int head) {
    const size_t n = (size_t)c->n, d = (size_t)c->head_dim, dv = (size_t)c->value_dim;
    reference r = {c,
                   layer,
                   head,
                   malloc(n * d * 8),
                   malloc(n * d * 8),
                   malloc(n * dv * 8),
                   malloc(n * dv * 8),
                   malloc(n * dv * 8)};
    fill(&r, cache);
    check_keys(&r);
    check_values(&r, cache);
    const double error = attend_error(&r, out, r.y);
    CHECK(error <= 1e-5, "%s: out is off by %.3g, given y", c->name, error); /* as prefill's is */
    if (c->dtype == LUCID_F32 && c->attention == LUCID_ATTENTION_LUCID) {
        double *y = malloc(n * dv * sizeof *y);
        lucid_dense_solve(y, r.kn, r.v, c->n, c->head_dim, c->value_dim);
        const double y_error = lucid_dense_row_error(r.y, y, c->n, c->value_dim);
        const double out_error = attend_error(&r, out, y);
        CHECK(y_error <= 2e-5, "%s: y is off by %.3g", c->name, y_error); /* a prefill's on clusters */
        CHECK(out_error <= 2e-5, "%s: out is off by %.3g", c->name, out_error);
        free(y);
    }
    free(r.k), free(r.kn), free(r.v), free(r.y), free(r.out);
}

static void check_accuracy(lucid_comm *alone, const cache_case *c) {
    lucid_cache *cache;
    const lucid_cache_config config = case_config(c, 1);
    float *out = case_outputs(c);
    REQUIRE(lucid_cache_create(&cache, alone, &config));
    case_decode(cache, c, out, 0, c->n);
    for (int layer = 0; layer < CACHE_LAYERS; layer++)
        for (int head = 0; head < c->n_kv_heads; head++) check_head(c, cache, out, layer, head);
    lucid_cache_destroy(cache);
    free(out);
}

/* Tokens that are forgotten and fed again give the same bits again. */
static void check_truncation(lucid_comm *comm, const cache_case *c) {
    lucid_cache *cache;
    const lucid_cache_config config = case_config(c, 1);
    float *first = case_outputs(c), *again = case_outputs(c);
    REQUIRE(lucid_cache_create(&cache, comm, &config));
    case_decode(cache, c, first, 0, c->n);
    const int64_t cuts[] = {c->n, c->n - 1, c->n - 100, 64, 63, 0};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        const int64_t kept_tokens = lucid_cache_truncate(cache, cuts[i]);
        CHECK(kept_tokens <= cuts[i] && kept_tokens > cuts[i] - 64 && kept_tokens == lucid_cache_tokens(cache),
              "%s: cut at %d keeps %d", c->name, (int)cuts[i], (int)kept_tokens);
        case_decode(cache, c, again, kept_tokens, c->n);
        const int64_t t = case_difference(c, first, again, kept_tokens);
        CHECK(t < 0, "%s: cut at %d: token %d differs", c->name, (int)cuts[i], (int)t);
    }
    lucid_cache_destroy(cache);
    free(first), free(again);
}

static void check_full(lucid_comm *comm) {
    const cache_case c = {"full", LUCID_ATTENTION_LUCID, LUCID_F32, 1, 1, 4, 4, 5, 5, 0};
    lucid_cache *cache;
    lucid_decoder *decoder;
    const lucid_cache_config config = case_config(&c, 1);
    float *out = case_outputs(&c), x[4] = {1, 2, 3, 4};
    REQUIRE(lucid_cache_create(&cache, comm, &config));
    case_decode(cache, &c, out, 0, 5);
    REQUIRE(lucid_decoder_create(&decoder, cache, &(lucid_decode_options){.n_heads = 1}));
    CHECK(lucid_decode(decoder, 0, out, x, x, x) == LUCID_ERR_MEMORY, "a token beyond the last one");
    CHECK(lucid_cache_append(cache, 1) == LUCID_ERR_MEMORY, "room beyond the last token");
    CHECK(lucid_decoder_create(&decoder, cache, &(lucid_decode_options){.n_heads = 0}) == LUCID_ERR_USAGE, "no heads");
    lucid_decoder_destroy(decoder);
    lucid_cache_destroy(cache);
    free(out);
}

static void check_refused(lucid_comm *comm) {
    const cache_case c = {"refused", LUCID_ATTENTION_LUCID, LUCID_F32, 1, 1, 64, 64, 1, 1, 0};
    const lucid_cache_config good = case_config(&c, 1);
    lucid_cache *cache;
    lucid_cache_config bad = good;
    bad.dtype = LUCID_F16;
    CHECK(lucid_cache_create(&cache, comm, &bad) == LUCID_ERR_USAGE, "fp16");
    bad = good, bad.head_dim = 257;
    CHECK(lucid_cache_create(&cache, comm, &bad) == LUCID_ERR_USAGE, "head_dim 257");
    bad = good, bad.tile = 96;
    CHECK(lucid_cache_create(&cache, comm, &bad) == LUCID_ERR_USAGE, "tile 96");
    bad = good, bad.max_tokens = 0;
    CHECK(lucid_cache_create(&cache, comm, &bad) == LUCID_ERR_USAGE, "no tokens");
    bad = good, bad.max_tokens = INT64_C(1) << 40, bad.n_layers = 1000;
    CHECK(lucid_cache_create(&cache, comm, &bad) == LUCID_ERR_MEMORY, "2^40 tokens fit");
    CHECK(lucid_cache_tile(1) == 64 && lucid_cache_tile(64 << 10) == 512 && lucid_cache_tile(1 << 20) == 1024, "tiles");
}

/* test_cache_decode [quick]: every other case, for builds that are slow. */
int main(int argc, char **argv) {
    lucid_comm *comm, *alone;
    const bool quick = argc > 1 && strcmp(argv[1], "quick") == 0;
    worlds_open(&comm, &alone);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i += quick ? 2 : 1) {
        check_bits(comm, alone, &cases[i]);
        if (comm->world_size == 1) check_accuracy(alone, &cases[i]);
    }
    if (comm->world_size <= 2 && !quick) {
        check_truncation(comm, &cases[0]);
        check_truncation(comm, &cases[3]);
    }
    check_full(comm);
    check_refused(comm);
    return worlds_close(comm, alone);
}
