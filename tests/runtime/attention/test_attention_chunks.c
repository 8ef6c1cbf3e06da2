/* Chunks on top of a cache: however the tokens are cut, out, y and lse are the bytes of one run over all of them.
 *
 * Each rank keeps a cache of records as a language model would, for two layers, and runs the chunks of a cut one after
 * the other, both layers through one attention object. The reference is one run over all tokens on the rank alone,
 * without a cache. With 16 bits the cache must hold nothing that 16 bits do not, and y must follow from the rounded y
 * before it, which fp64 shows.
 */
#include "kernels/ref/dense.h"
#include "runtime/files/half.h"
#include "tests/runtime/attention/attention_fixture.h"
#include "tests/runtime/attention/ways.h"

enum { N_LAYERS = 2, MAX_CHUNKS = 10, TILE = 128 };

typedef struct {
    float *records, *pending;
} layer_cache;

/* --- the cache --- */

static size_t records_floats(const lucid_problem *p) {
    lucid_shape shape = lucid_shape_make(p->head_dim, p->value_dim);
    size_t tiles = ((size_t)p->seqlen + TILE - 1) / TILE;
    return tiles * (TILE / LUCID_GRANULE) * (size_t)p->n_kv_heads * lucid_record_floats(shape);
}

/* What a cache never wrote may hold anything finite: a truncated one does. */
static layer_cache cache_create(const lucid_problem *p) {
    layer_cache cache;
    size_t n = records_floats(p);
    size_t n_pending = (size_t)p->n_kv_heads * LUCID_GRANULE * (size_t)(p->value_dim + 15);
    if (posix_memalign((void **)&cache.records, 64, n * sizeof(float)) ||
        posix_memalign((void **)&cache.pending, 64, n_pending * sizeof(float)))
        exit(1);
    for (size_t i = 0; i < n; i++) cache.records[i] = 3;
    for (size_t i = 0; i < n_pending; i++) cache.pending[i] = 3;
    return cache;
}

static void cache_destroy(layer_cache *cache) {
    free(cache->records);
    free(cache->pending);
}

/* Keys and values of this rank's tokens change nothing when they are rounded again. Read off y as stored. */
static void check_rounded(const fixture *f, const char *what) {
    const lucid_problem *p = &f->problem;
    if (p->cache_dtype == LUCID_F32) return;
    uint16_t narrow;
    float wide;
    for (int64_t i = 0; i < p->seqlen * p->n_kv_heads * p->value_dim; i++) {
        lucid_narrow(&narrow, p->cache_dtype, &f->y[i], 1);
        lucid_widen(&wide, &narrow, p->cache_dtype, 1);
        CHECK(wide == f->y[i], "%s: y[%lld] = %.9g is not of the cache's type", what, (long long)i, f->y[i]);
        if (wide != f->y[i]) return;
    }
}

/* --- chunks --- */

/* Tokens first..last-1 of both layers. */
static void run_chunk(fixture *layers, layer_cache *caches, int64_t first, int64_t last, const char *what) {
    lucid_attention *a;
    lucid_problem problem = layers[0].problem;
    problem.seqlen = last;
    problem.n_cached = first;
    lucid_options options = {.layout = LUCID_LAYOUT_CYCLIC,
                             .schedule = (last + first) % 3 ? LUCID_SCHEDULE_FUSED : LUCID_SCHEDULE_PIPELINED,
                             .tile = TILE,
                             .channels = 1,
                             .threads = 1 + (int)(last % 2),
                             .timeout = 60};
    must(lucid_attention_create(&a, comm, &problem, &options), what);
    for (int layer = 0; layer < N_LAYERS; layer++) {
        must(lucid_attention_bind(a, caches[layer].records, caches[layer].pending), what);
        for (int tensor = LUCID_Q; tensor <= LUCID_V; tensor++)
            must(lucid_attention_load(a, (lucid_tensor)tensor, LUCID_F32, fixture_read, &layers[layer]), what);
        must(lucid_attention_run(a), what);
        for (int tensor = LUCID_OUT; tensor <= LUCID_LSE; tensor++)
            must(lucid_attention_store(a, (lucid_tensor)tensor, fixture_write, &layers[layer]), what);
    }
    lucid_attention_destroy(a);
}

/* ends: where chunks end, ascending, the last one at seqlen. */
static void run_cut(const fixture *want, const int64_t *ends, int n_chunks) {
    const lucid_problem *p = &want[0].problem;
    fixture layers[N_LAYERS];
    layer_cache caches[N_LAYERS];
    char what[200];
    int length = snprintf(what, sizeof what, "%s cache %d ranks %d chunks", p->attention ? "softmax" : "lucid",
                          p->cache_dtype, comm->world_size);
    for (int n = 0; n < n_chunks; n++)
        length += snprintf(what + length, sizeof what - (size_t)length, " %lld", (long long)ends[n]);
    for (int layer = 0; layer < N_LAYERS; layer++) {
        fixture_create(&layers[layer], p, want[layer].keys, want[layer].seed);
        caches[layer] = cache_create(p);
    }
    for (int n = 0; n < n_chunks; n++) run_chunk(layers, caches, n ? ends[n - 1] : 0, ends[n], what);
    for (int layer = 0; layer < N_LAYERS; layer++) {
        check_coverage(layers[layer].seen, (size_t)p->seqlen * (size_t)p->n_heads, what);
        fixture_compare(&layers[layer], &want[layer], what);
        fixture_destroy(&layers[layer]);
        cache_destroy(&caches[layer]);
    }
}

static void run_random_cuts(const fixture *want, int n_cuts, uint64_t seed) {
    int64_t seqlen = want[0].problem.seqlen, ends[MAX_CHUNKS];
    for (int cut = 0; cut < n_cuts; cut++) {
        int n = 0;
        for (int64_t end = 0; n < MAX_CHUNKS - 1 && end < seqlen; n++) {
            seed = fixture_hash(seed + 1);
            end += 1 + (int64_t)(seed % (seed >> 60 ? 300 : 3));
            ends[n] = end < seqlen ? end : seqlen;
        }
        if (ends[n - 1] < seqlen) ends[n++] = seqlen;
        run_cut(want, ends, n);
    }
}

static void run_problem(const lucid_problem *problem, int n_random) {
    static const struct {
        int n;
        int64_t ends[MAX_CHUNKS];
    } cuts[] = {{1, {601}},
                {2, {1, 601}},
                {2, {63, 601}},
                {2, {64, 601}},
                {3, {65, 66, 601}},
                {2, {600, 601}},
                {4, {128, 256, 257, 601}},
                {10, {1, 2, 63, 64, 65, 129, 130, 300, 511, 601}}};
    fixture want[N_LAYERS];
    for (int layer = 0; layer < N_LAYERS; layer++) {
        fixture_create(&want[layer], problem, KEYS_CLUSTERED, 7 + (uint64_t)layer);
        must(fixture_run(&want[layer], alone, &(lucid_options){.tile = 64}, NULL, NULL), "alone");
        check_rounded(&want[layer], "alone");
    }
    const size_t n_cuts = sizeof cuts / sizeof *cuts, step = n_random > 1 ? 1 : 3;
    for (size_t i = 0; i < n_cuts; i += step) run_cut(want, cuts[i].ends, cuts[i].n);
    run_random_cuts(want, n_random, 5);
    for (int layer = 0; layer < N_LAYERS; layer++) fixture_destroy(&want[layer]);
}

/* --- where y is rounded --- */

/* kn (seqlen, d) of rounded keys, v (seqlen, d_v). */
static void rounded_inputs(double *kn, double *v, const fixture *f) {
    const lucid_problem *p = &f->problem;
    uint16_t narrow;
    for (int64_t i = 0; i < p->seqlen; i++) {
        for (int c = 0; c < p->value_dim; c++) v[i * p->value_dim + c] = fixture_element(f, LUCID_V, 0, 0, i, c);
        for (int c = 0; c < p->head_dim; c++) {
            narrow = lucid_bf16_from_f32(fixture_element(f, LUCID_K, 0, 0, i, c));
            kn[i * p->head_dim + c] = lucid_f32_from_bf16(narrow);
        }
    }
    lucid_dense_normalise(kn, kn, p->seqlen, p->head_dim, 1e-5);
}

/* Largest distance of y from what follows from the stored y of earlier granules, over half a unit in y's last place:
 * a granule is solved in full precision, then rounded. solved (64, d_v): rows of this granule before rounding. */
static double rounding_error(const fixture *f, const double *kn, const double *v) {
    const lucid_problem *p = &f->problem;
    int d = p->head_dim, dv = p->value_dim;
    double worst = 0, solved[LUCID_GRANULE][64];
    for (int64_t i = 0; i < p->seqlen; i++) {
        double *row = solved[i % LUCID_GRANULE];
        for (int c = 0; c < dv; c++) row[c] = v[i * dv + c];
        for (int64_t j = 0; j < i; j++) {
            double dot = 0;
            for (int c = 0; c < d; c++) dot += kn[i * d + c] * kn[j * d + c];
            double weight = exp(dot / sqrt(d) - sqrt(d));
            bool same = j / LUCID_GRANULE == i / LUCID_GRANULE;
            for (int c = 0; c < dv; c++) row[c] -= weight * (same ? solved[j % LUCID_GRANULE][c] : f->y[j * dv + c]);
        }
        for (int c = 0; c < dv; c++) {
            int exponent;
            frexp(row[c], &exponent);
            double error = fabs(f->y[i * dv + c] - row[c]) / ldexp(1, exponent - 9);
            if (!(error <= worst)) worst = error;
        }
    }
    return worst;
}

/* Half a unit is 1; the rest is fp32's rounding, which P amplifies: 2^-16 of a unit times some tens. Rounding anywhere
 * else is off by more than 2. */
static void check_place_of_rounding(void) {
    lucid_problem problem = {.seqlen = 300,
                             .batch = 1,
                             .n_heads = 1,
                             .n_kv_heads = 1,
                             .head_dim = 20,
                             .value_dim = 36,
                             .cache_dtype = LUCID_BF16};
    fixture f;
    fixture_create(&f, &problem, KEYS_CLUSTERED, 3);
    must(fixture_run(&f, alone, &(lucid_options){.tile = 128}, NULL, NULL), "alone");
    double *kn = malloc((size_t)problem.seqlen * problem.head_dim * sizeof *kn);
    double *v = malloc((size_t)problem.seqlen * problem.value_dim * sizeof *v);
    rounded_inputs(kn, v, &f);
    double worst = rounding_error(&f, kn, v);
    CHECK_NEAR(worst, 1, 0.2, "rounding error in halves of a unit");
    free(kn);
    free(v);
    fixture_destroy(&f);
}

/* --- what is refused --- */

static void check_refused(const lucid_problem *problem, const lucid_options *options, lucid_status want) {
    lucid_attention *a;
    float none;
    lucid_status status = lucid_attention_create(&a, alone, problem, options);
    if (!status) {
        status = lucid_attention_bind(a, &none, &none);
        lucid_attention_destroy(a);
    }
    CHECK(status == want, "status %d, want %d", status, want);
}

static void check_refusals(void) {
    lucid_problem problem = {.seqlen = 10, .batch = 1, .n_heads = 2, .n_kv_heads = 2, .head_dim = 4, .value_dim = 4};
    problem.n_cached = 10;
    check_refused(&problem, &(lucid_options){.tile = 64}, LUCID_ERR_USAGE);
    problem.n_cached = -1;
    check_refused(&problem, &(lucid_options){.tile = 64}, LUCID_ERR_USAGE);
    problem.n_cached = 0;
    check_refused(&problem, &(lucid_options){.tile = 64, .layout = LUCID_LAYOUT_ZIGZAG}, LUCID_ERR_USAGE);
    check_refused(&problem, &(lucid_options){.tile = 64, .layout = LUCID_LAYOUT_CYCLIC}, LUCID_ERR_USAGE);
}

int main(int argc, char **argv) {
    bool quick = argc > 1 && !strcmp(argv[1], "quick");
    lucid_problem problem = {.seqlen = 601, .batch = 1, .n_heads = 4, .n_kv_heads = 2, .head_dim = 20, .value_dim = 36};
    worlds_open(&comm, &alone);
    for (int kind = LUCID_ATTENTION_LUCID; kind <= LUCID_ATTENTION_SOFTMAX; kind++)
        for (int dtype = LUCID_F32; dtype <= (kind || quick ? LUCID_BF16 : LUCID_F16); dtype++) {
            problem.attention = (lucid_attention_kind)kind;
            problem.cache_dtype = (lucid_dtype)dtype;
            run_problem(&problem, quick ? 1 : 4);
        }
    check_place_of_rounding();
    if (comm->rank == 0) check_refusals();
    return worlds_close(comm, alone);
}
