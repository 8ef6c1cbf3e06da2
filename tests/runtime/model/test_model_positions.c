/* Positions by convolutions of q, k and v, by scales of queries, and by RoPE on a part of each head: against the fp64
 * oracle, however a text is cut into chunks and tokens, cut back, saved and gone on with, on every number of ranks.
 * Weights are random ones of a trainee; each rank reads everything alone as well and compares its part. */
#include "runtime/train/trainee.h"
#include "tests/comm/worlds.h"
#include "tests/runtime/model/context_fixture.h"
#include "tests/runtime/train/oracle_of.h"
#include "tests/scratch_folder.h"

#include <ftw.h>

#define N_TOKENS 300
#define VOCAB    23
#define N_LAYERS 2

/* The same arithmetic in another order. */
#define DECODE_TOLERANCE 1e-4

static lucid_comm *comm, *alone;

typedef struct {
    const char *name;
    lucid_model_config config;
} model_case;

static lucid_model_config config_of(int attention, int n_kv_heads, int conv_size) {
    return (lucid_model_config){.hidden_size = 24,
                                .intermediate_size = 28,
                                .vocab_size = VOCAB,
                                .n_layers = N_LAYERS,
                                .n_heads = 4,
                                .n_kv_heads = n_kv_heads,
                                .head_dim = 22, /* 88 channels of queries: a strip of 64 and a rest */
                                .max_position_embeddings = 512,
                                .rms_norm_eps = 1e-5,
                                .attention = attention,
                                .conv_size = conv_size,
                                .rope = {.type = LUCID_ROPE_DEFAULT, .theta = 100}};
}

static int32_t ids[N_TOKENS];

/* Steps of a run: so many tokens are appended; a negative one cuts back to that many, after other tokens were read;
 * SAVE goes on from a folder with a new context. */
#define SAVE 1000
typedef struct {
    const char *name;
    int steps[40];
} script;

static const script chunks[] = {
    {"in one piece", {300}},
    {"around granules", {63, 2, 64, 3, 60, 108}},
    {"pieces shorter than a convolution", {2, 3, 2, 55, 2, 2, 234}},
    {"cut back", {200, -131, 30, -128, 102, -64, 236}},
    {"cut back to nothing", {100, -63, 10, 227}},
    {"saved in a granule", {197, SAVE, 103}},
    {"saved at a granule's end, cut back", {192, SAVE, -129, 171}},
};
static const script decodings[] = {
    {"a prompt, then tokens", {62, 1, 1, 1, 1, 1, 1, 1, 1, 70, 1, 1, 1, 1, 50, 1}},
    {"tokens, saved and cut back", {126, 1, 1, 1, 1, SAVE, 1, 1, -129, 1, 1, 2, 1, -130, 1}},
};

static lucid_context *open_context(lucid_comm *on, const lucid_model *model, const char *saved) {
    lucid_context *context;
    const lucid_context_options options = {.max_tokens = N_TOKENS, .tile = 64, .saved = saved, .timeout = 60};
    REQUIRE(lucid_context_create(&context, model, on, &options));
    return context;
}

/* Wrong tokens first, so that what stays of them is seen. */
static void cut(lucid_context *context, int64_t n) {
    const int32_t others[5] = {1, 2, 3, 4, 5};
    REQUIRE(lucid_context_append(context, others, 5, NULL));
    REQUIRE(lucid_context_append(context, others, 1, NULL));
    REQUIRE(lucid_context_truncate(context, n));
}

static lucid_context *reopen(lucid_context *context, lucid_comm *on, const lucid_model *model) {
    const char *path = scratch_path(on == comm ? "context" : "alone");
    char own[300];
    snprintf(own, sizeof own, "%s%d", path, on == comm ? 0 : comm->rank);
    REQUIRE(lucid_context_save(context, own));
    lucid_context_destroy(context);
    return open_context(on, model, own);
}

static kept_logits play(lucid_comm *on, const lucid_model *model, const script *s) {
    kept_logits kept = kept_make(N_TOKENS, VOCAB);
    const lucid_logits_sink sink = kept_sink(&kept);
    lucid_context *context = open_context(on, model, NULL);
    int64_t n = 0;
    for (int i = 0; n < N_TOKENS; lucid_context_tokens(context, &n)) {
        const int step = i < COUNT(s->steps) && s->steps[i] ? s->steps[i++] : 1; /* the rest one by one */
        if (step == SAVE) {
            context = reopen(context, on, model);
        } else if (step < 0) {
            cut(context, -step);
            kept_cut(&kept, -step);
        } else {
            REQUIRE(lucid_context_append(context, ids + n, step, &sink));
        }
    }
    kept_check_coverage(&kept, on, s->name);
    lucid_context_destroy(context);
    return kept;
}

static void judge(const golden_case *want, const lucid_model *model) {
    kept_logits whole = play(alone, model, &chunks[0]);
    case_compare(want, &whole, TOLERANCE, "alone");
    for (int i = 0; i < COUNT(chunks); i++) {
        kept_logits got = play(comm, model, &chunks[i]);
        kept_check_same(&got, &whole, chunks[i].name);
        kept_free(&got);
    }
    for (int i = 0; i < COUNT(decodings); i++) {
        kept_logits got = play(comm, model, &decodings[i]), same = play(alone, model, &decodings[i]);
        case_compare(want, &got, DECODE_TOLERANCE, decodings[i].name);
        kept_check_same(&got, &same, decodings[i].name);
        kept_free(&got);
        kept_free(&same);
    }
    kept_free(&whole);
}

static void test_case(const model_case *c) {
    lucid_trainee t;
    oracle_layer layers[N_LAYERS];
    int64_t wide[N_TOKENS];
    REQUIRE(lucid_trainee_create(&t, &(lucid_trainee_config){.config = c->config}));
    lucid_trainee_initialise(&t, 5, 0.3);
    const oracle_model model = oracle_model_of(layers, &t.model);
    golden_case want = case_make(c->name, N_TOKENS, VOCAB);
    for (int i = 0; i < N_TOKENS; i++) wide[i] = want.ids[i] = ids[i];
    case_answer(&want, &model, wide);
    judge(&want, &t.model);
    case_free(&want);
    lucid_trainee_destroy(&t);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *place) {
    (void)status, (void)type, (void)place;
    return remove(path);
}

static void remove_folders(void) {
    nftw(scratch_folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void) {
    model_case cases[] = {
        {"lucid, convolutions", config_of(LUCID_MODEL_LUCID, 1, 4)},
        {"lucid, convolutions, scales, RoPE on 10 of 22", config_of(LUCID_MODEL_LUCID, 2, 4)},
        {"softmax, convolutions, norms", config_of(LUCID_MODEL_SOFTMAX, 2, 4)},
        {"lucid, scales alone", config_of(LUCID_MODEL_LUCID, 4, 1)},
    };
    cases[1].config.use_rope = true, cases[1].config.rotary_dim = 10, cases[1].config.query_log_scale = 30;
    cases[2].config.qk_norm = LUCID_QKNORM_ON, cases[3].config.query_log_scale = 7;
    for (int i = 0; i < N_TOKENS; i++)
        ids[i] = (int32_t)((i < 40 ? i * 7 + i / 5 : ids[i - 9] * 5 + ids[i - 31] + i / 11) % VOCAB);
    worlds_open(&comm, &alone);
    if (comm->rank == 0) scratch_make();
    REQUIRE(lucid_comm_broadcast(comm, scratch_folder, sizeof scratch_folder, 0));
    for (int i = 0; i < COUNT(cases); i++) test_case(&cases[i]);
    REQUIRE(lucid_comm_barrier(comm));
    if (comm->rank == 0) remove_folders();
    return worlds_close(comm, alone);
}
