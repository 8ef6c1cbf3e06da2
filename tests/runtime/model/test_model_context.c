/* Texts through whole models: logits against the fp64 oracle for every golden folder, and the same bits on every number
 * of ranks and threads, in chunks of any size. Each rank reads the text alone as well and compares its part. */
#include "tests/comm/worlds.h"
#include "tests/runtime/model/context_fixture.h"

#define N_TOKENS 330 /* six panels, the last one not full */

static lucid_comm *comm, *alone;
static const char *golden_path;

static const char *const folders[] = {
    "softmax_default", "softmax_linear", "softmax_dynamic", "softmax_llama3", "softmax_yarn",
    "softmax_norope",  "softmax_qknorm", "softmax_qwen3",   "lucid_rope",     "lucid_68",
    "lucid_qknorm",    "deltanet_conv",  "deltanet_plain",
};

typedef struct {
    lucid_comm *comm;
    int threads;
    int64_t tile;
} run;

static kept_logits read_text(const golden_case *c, const run *r) {
    lucid_model *model;
    lucid_context *context;
    kept_logits kept = kept_make(c->n, c->vocab);
    const lucid_logits_sink sink = kept_sink(&kept);
    const lucid_context_options options = {.max_tokens = c->n, .threads = r->threads, .tile = r->tile, .timeout = 60};
    REQUIRE(lucid_model_open(&model, r->comm, c->path, NULL));
    REQUIRE(lucid_context_create(&context, model, r->comm, &options));
    REQUIRE(lucid_context_append(context, c->ids, c->n, &sink));
    kept_check_coverage(&kept, r->comm, c->path);
    lucid_context_destroy(context);
    lucid_model_close(model);
    return kept;
}

static void test_folder(const char *name) {
    const run runs[] = {{comm, 1, 0}, {comm, 2, 128}};
    golden_case c = case_read(golden_path, name, N_TOKENS);
    kept_logits want = read_text(&c, &(run){alone, 1, 0});
    const double apart = case_compare(&c, &want, TOLERANCE, "alone");
    if (comm->rank == 0) printf("%-16s relative difference %.2g\n", name, apart);
    for (int i = 0; i < COUNT(runs); i++) {
        kept_logits got = read_text(&c, &runs[i]);
        kept_check_same(&got, &want, name);
        kept_free(&got);
    }
    kept_free(&want);
    case_free(&c);
}

/* PyTorch's own logits; the base of RoPE's type `dynamic` is that of just these tokens. */
static void test_golden(const char *name) {
    golden_case c = case_read(golden_path, name, 96);
    oracle_golden known = oracle_golden_read(c.path);
    memcpy(c.logits, known.logits, (size_t)c.n * c.vocab * sizeof *c.logits);
    kept_logits got = read_text(&c, &(run){comm, 1, 0});
    case_compare(&c, &got, TOLERANCE, "against PyTorch");
    kept_free(&got);
    oracle_golden_free(&known);
    case_free(&c);
}

/* The logits after the text, on every rank: as the sink's of the last position but for rounding. */
static void test_next(void) {
    golden_case c = case_read(golden_path, "lucid_rope", 130);
    float *logits = calloc((size_t)c.vocab, sizeof *logits);
    lucid_model *model;
    lucid_context *context;
    REQUIRE(lucid_model_open(&model, comm, c.path, NULL));
    REQUIRE(lucid_context_create(&context, model, comm, &(lucid_context_options){.max_tokens = 200}));
    CHECK(lucid_context_next(logits, context) == LUCID_ERR_USAGE, "logits of nothing");
    REQUIRE(lucid_context_append(context, c.ids, c.n, NULL));
    REQUIRE(lucid_context_next(logits, context));
    for (int i = 0; i < c.vocab; i++)
        CHECK_NEAR(logits[i] / c.largest, c.logits[(size_t)(c.n - 1) * c.vocab + i] / c.largest, TOLERANCE, "logit %d",
                   i);
    lucid_context_destroy(context);
    lucid_model_close(model);
    free(logits);
    case_free(&c);
}

/* A transport that counts: allgathers are exchanges, and nothing else should be called. */
static const lucid_transport *counted;
static int n_exchanges, n_others;

static lucid_status count_allgather(lucid_comm *on, const void *send, void *recv, const size_t *recv_bytes) {
    n_exchanges++;
    return counted->allgather(on, send, recv, recv_bytes);
}
static lucid_status count_allreduce(lucid_comm *on, double *x, int n, lucid_reduction op) {
    n_others++;
    return counted->allreduce(on, x, n, op);
}
static lucid_status count_broadcast(lucid_comm *on, void *buffer, size_t bytes, int root) {
    n_others++;
    return counted->broadcast(on, buffer, bytes, root);
}
static lucid_status count_gather(lucid_comm *on, const void *send, size_t bytes, void *recv, const size_t *recv_bytes,
                                 int root) {
    n_others++;
    return counted->gather(on, send, bytes, recv, recv_bytes, root);
}

/* A decoded token costs one exchange a layer, and no other collective once the first one has agreed on its room. */
static void test_exchanges(void) {
    golden_case c = case_read(golden_path, "lucid_rope", 132);
    lucid_model *model;
    lucid_context *context;
    lucid_transport counting = *(counted = comm->transport);
    counting.allgather = count_allgather;
    counting.allreduce = count_allreduce;
    counting.broadcast = count_broadcast;
    counting.gather = count_gather;
    REQUIRE(lucid_model_open(&model, comm, c.path, NULL));
    REQUIRE(lucid_context_create(&context, model, comm, &(lucid_context_options){.max_tokens = 200}));
    REQUIRE(lucid_context_append(context, c.ids, 130, NULL));
    REQUIRE(lucid_context_append(context, c.ids + 130, 1, NULL));
    comm->transport = &counting;
    REQUIRE(lucid_context_append(context, c.ids + 131, 1, NULL));
    comm->transport = counted;
    CHECK(n_exchanges == model->config.n_layers && n_others == 0, "%d exchanges and %d others for %d layers",
          n_exchanges, n_others, model->config.n_layers);
    lucid_context_destroy(context);
    lucid_model_close(model);
    case_free(&c);
}

/* Refused on all ranks alike, before anything happens, so that the context can go on. */
static void test_refused(void) {
    static const int32_t high[] = {1, 32}, low[] = {-1};
    golden_case c = case_read(golden_path, "lucid_rope", 100);
    lucid_model *model;
    lucid_context *context;
    REQUIRE(lucid_model_open(&model, comm, c.path, NULL));
    CHECK(lucid_context_create(&context, model, comm, &(lucid_context_options){0}), "a context of no tokens");
    CHECK(lucid_context_create(&context, model, comm, &(lucid_context_options){.max_tokens = 1, .tile = 65}), "tile");
    REQUIRE(lucid_context_create(&context, model, comm, &(lucid_context_options){.max_tokens = 100}));
    CHECK(lucid_context_append(context, c.ids, 0, NULL) == LUCID_ERR_USAGE, "no tokens");
    CHECK(lucid_context_append(context, high, 2, NULL) == LUCID_ERR_INPUT, "an id above the vocabulary");
    CHECK(lucid_context_append(context, low, 1, NULL) == LUCID_ERR_INPUT, "an id below the vocabulary");
    CHECK(lucid_context_append(context, c.ids, 101, NULL) == LUCID_ERR_USAGE, "more than the context holds");
    REQUIRE(lucid_context_append(context, c.ids, 100, NULL));
    lucid_context_destroy(context);
    lucid_model_close(model);
    case_free(&c);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: test_model_context GOLDEN_FOLDER\n");
        return 2;
    }
    golden_path = argv[1];
    worlds_open(&comm, &alone);
    for (int i = 0; i < COUNT(folders); i++) test_folder(folders[i]);
    for (int i = 0; i < COUNT(folders); i++) test_golden(folders[i]);
    test_next();
    test_exchanges();
    test_refused();
    return worlds_close(comm, alone);
}
