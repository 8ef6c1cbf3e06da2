/* A text read in one piece, in chunks, token by token, cut back and read on. Chunks give the bits of one piece wherever
 * they are cut; decoded tokens give the same logits but for rounding, and the same bits on every number of ranks. Each
 * rank does everything alone as well and compares its part. */
#include "tests/comm/worlds.h"
#include "tests/runtime/model/context_fixture.h"

#define N_TOKENS 290
#define N_OTHERS 40

/* The largest logit's share by which decoding may differ: what the same arithmetic in another order costs. */
#define DECODE_TOLERANCE 1e-4
/* Keys and values of 8 bits through 2 layers; 1e-2 is the largest seen. */
#define BF16_TOLERANCE 0.04

static lucid_comm *comm, *alone;
static const char *golden_path;

static const char *const folders[] = {"lucid_rope",      "lucid_68",      "lucid_qknorm",
                                      "softmax_default", "deltanet_conv", "deltanet_plain"};

/* A run: counts of tokens appended one after the other; a negative one cuts back to that many. */
typedef struct {
    const char *name;
    int64_t chunk;
    lucid_dtype dtype;
    int counts[40];
} script;

/* Reads other tokens, and cuts back to n: nothing of them may stay. */
static void cut(lucid_context *context, const golden_case *c, int64_t n) {
    int32_t others[N_OTHERS];
    int64_t n_text;
    lucid_context_tokens(context, &n_text);
    for (int i = 0; i < N_OTHERS; i++) others[i] = (c->ids[n_text + i] + 1) % c->vocab;
    REQUIRE(lucid_context_append(context, others, N_OTHERS, NULL));
    REQUIRE(lucid_context_truncate(context, n));
}

static void step(lucid_context *context, const golden_case *c, int count, kept_logits *kept) {
    const lucid_logits_sink sink = kept_sink(kept);
    int64_t n;
    if (count < 0) {
        cut(context, c, -count);
        kept_cut(kept, -count);
        return;
    }
    lucid_context_tokens(context, &n);
    REQUIRE(lucid_context_append(context, c->ids + n, count, &sink));
}

static kept_logits play(const golden_case *c, lucid_comm *on, const script *s) {
    lucid_model *model;
    lucid_context *context;
    kept_logits kept = kept_make(c->n, c->vocab);
    const lucid_context_options options = {
        .max_tokens = c->n, .tile = 64, .chunk = s->chunk, .cache_dtype = s->dtype, .timeout = 60};
    REQUIRE(lucid_model_open(&model, on, c->path, NULL));
    REQUIRE(lucid_context_create(&context, model, on, &options));
    for (int i = 0; i < COUNT(s->counts) && s->counts[i]; i++) step(context, c, s->counts[i], &kept);
    int64_t n;
    while (lucid_context_tokens(context, &n), n < c->n) step(context, c, 1, &kept); /* the rest one by one */
    kept_check_coverage(&kept, on, s->name);
    lucid_context_destroy(context);
    lucid_model_close(model);
    return kept;
}

static int best_of(const float *logits, int n, double *lead) {
    int best = 0;
    double second = -INFINITY;
    for (int i = 1; i < n; i++) best = logits[i] > logits[best] ? i : best;
    for (int i = 0; i < n; i++) second = i != best && logits[i] > second ? logits[i] : second;
    *lead = logits[best] - second;
    return best;
}

/* The same logits to the tolerance, and the same token wherever it leads by more than twice that. */
static void check_agree(const kept_logits *got, const kept_logits *want, const golden_case *c, const char *what) {
    double apart = 0, lead;
    for (int64_t i = 0; i < got->n; i++) {
        if (!got->seen[i]) continue;
        const float *a = got->logits + i * got->vocab, *b = want->logits + i * got->vocab;
        for (int t = 0; t < got->vocab; t++) {
            const double d = fabs((double)a[t] - b[t]) / c->largest;
            apart = d > apart || isnan(d) ? d : apart;
        }
        const int best = best_of(b, got->vocab, &lead);
        if (lead > 2 * DECODE_TOLERANCE * c->largest)
            CHECK(best_of(a, got->vocab, &lead) == best, "%s: position %lld: another token", what, (long long)i);
    }
    CHECK_NEAR(apart, 0, DECODE_TOLERANCE, "%s: %s", c->path, what);
}

/* Many ways to cut: at, before and after granules and tiles, within one granule twice, and chunks within an append. */
static const script cuts[] = {
    {"halves", 0, LUCID_F32, {145, 145}},
    {"at granules", 0, LUCID_F32, {64, 128, 98}},
    {"around granules", 0, LUCID_F32, {63, 2, 64, 3, 61, 97}},
    {"within one granule", 0, LUCID_F32, {5, 2, 3, 20, 33, 2, 225}},
    {"chunks of 32 a rank", 32, LUCID_F32, {290}},
    {"chunks of 33 a rank", 33, LUCID_F32, {150, 140}},
    {"cut back", 0, LUCID_F32, {200, -131, 30, -128, 100, -228, 62}},
    {"cut back to nothing", 0, LUCID_F32, {100, -64, 10, -70, 220}},
};

/* DeltaNet solves a granule that is cut in two parts: equal but for rounding. */
static void test_chunks(const golden_case *c, bool same_bits) {
    const script whole = {"whole", 0, LUCID_F32, {N_TOKENS}};
    kept_logits want = play(c, alone, &whole);
    case_compare(c, &want, TOLERANCE, "in one piece");
    for (int i = 0; i < COUNT(cuts); i++) {
        kept_logits got = play(c, comm, &cuts[i]);
        check_agree(&got, &want, c, cuts[i].name);
        if (same_bits) kept_check_same(&got, &want, cuts[i].name);
        kept_free(&got);
    }
    kept_free(&want);
}

static const script decodings[] = {
    {"token by token", 0, LUCID_F32, {1}},
    {"a prompt, then tokens", 0, LUCID_F32, {130}},
    {"tokens between chunks", 0, LUCID_F32, {70, 1, 1, 1, 90, 1, 1, 30, 1, 62}},
    {"tokens, cut back to", 0, LUCID_F32, {126, 1, 1, 1, 1, 1, -129, 20, 1, -140, 1, -141, 100}},
};

static void test_decoding(const golden_case *c) {
    const script whole = {"whole", 0, LUCID_F32, {N_TOKENS}};
    kept_logits want = play(c, alone, &whole);
    for (int i = 0; i < COUNT(decodings); i++) {
        kept_logits got = play(c, comm, &decodings[i]), same = play(c, alone, &decodings[i]);
        check_agree(&got, &want, c, decodings[i].name);
        kept_check_same(&got, &same, decodings[i].name);
        kept_free(&same);
        kept_free(&got);
    }
    kept_free(&want);
}

/* A cache of 16 bits: chunks keep their bits, and logits stay near. */
static void test_bf16(const golden_case *c) {
    const script whole = {"bf16", 0, LUCID_BF16, {N_TOKENS}},
                 cut = {"bf16 in chunks", 0, LUCID_BF16, {70, 3, 100, 117}};
    const script tokens = {"bf16 by tokens", 0, LUCID_BF16, {200}};
    kept_logits want = play(c, alone, &whole), got = play(c, comm, &cut), decoded = play(c, comm, &tokens);
    kept_check_same(&got, &want, cut.name);
    case_compare(c, &want, BF16_TOLERANCE, whole.name);
    case_compare(c, &decoded, BF16_TOLERANCE, tokens.name);
    kept_free(&decoded);
    kept_free(&got);
    kept_free(&want);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: test_model_chunks GOLDEN_FOLDER\n");
        return 2;
    }
    golden_path = argv[1];
    worlds_open(&comm, &alone);
    for (int i = 0; i < COUNT(folders); i++) {
        golden_case c = case_read(golden_path, folders[i], N_TOKENS);
        test_chunks(&c, strncmp(folders[i], "deltanet", 8) != 0);
        test_decoding(&c);
        if (i < 2) test_bf16(&c);
        case_free(&c);
    }
    return worlds_close(comm, alone);
}
