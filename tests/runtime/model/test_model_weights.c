/* Weights of small models, in every dtype, sharded or not, tied or not, on every rank: the values, what is used in
 * place, and that ranks of a host share one copy of what is not; and models' fingerprints. */
#include "tests/check.h"
#include "tests/comm/drive.h"
#include "tests/runtime/model/model_fixture.h"
#include "tests/scratch_folder.h"

#include "runtime/model/fingerprint.h"
#include "runtime/model/tensors.h"

#include <stdint.h>
#include <sys/stat.h>

static lucid_comm *comm;

static void barrier(void) {
    REQUIRE(lucid_comm_barrier(comm));
}

/* Rank 0's folder, on all ranks. */
static void make_common_folder(void) {
    if (comm->rank == 0) scratch_make();
    REQUIRE(lucid_comm_broadcast(comm, scratch_folder, sizeof scratch_folder, 0));
}

static lucid_model *open_common(fixture_model *m) {
    lucid_model *model = NULL;
    if (comm->rank == 0) fixture_write(m, scratch_folder);
    barrier();
    REQUIRE(lucid_model_open(&model, comm, scratch_folder, NULL));
    return model;
}

static void close_common(lucid_model *model) {
    lucid_model_close(model);
    barrier();
    if (comm->rank == 0) scratch_entries(1);
    barrier();
}

static void check_values(const float *got, const char *name, int64_t n) {
    CHECK(got, "%s is NULL", name);
    for (int64_t i = 0; got && i < n; i++) {
        if (got[i] == fixture_value(name, i)) continue;
        CHECK(0, "%s[%lld] is %g, want %g", name, (long long)i, got[i], fixture_value(name, i));
        return;
    }
}

static void check_layer(const lucid_model_layer *l, int layer) {
    const struct {
        const float *got;
        const char *name;
        int n;
    } tensors[] = {{l->input_norm, "input_layernorm", 12}, {l->q_proj, "self_attn.q_proj", 288},
                   {l->k_proj, "self_attn.k_proj", 144},   {l->v_proj, "self_attn.v_proj", 144},
                   {l->o_proj, "self_attn.o_proj", 288},   {l->post_attention_norm, "post_attention_layernorm", 12},
                   {l->gate_proj, "mlp.gate_proj", 120},   {l->up_proj, "mlp.up_proj", 120},
                   {l->down_proj, "mlp.down_proj", 120}};
    char name[80];
    for (int t = 0; t < COUNT(tensors); t++) {
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, tensors[t].name);
        check_values(tensors[t].got, name, tensors[t].n);
    }
}

static void check_model(const lucid_model *model) {
    check_values(model->embed_tokens, "model.embed_tokens.weight", 108);
    check_values(model->norm, "model.norm.weight", 12);
    for (int l = 0; l < 2; l++) check_layer(&model->layers[l], l);
    if (model->config.tie_word_embeddings) {
        CHECK(model->lm_head == model->embed_tokens, "a tied head is another tensor");
    } else {
        check_values(model->lm_head, "lm_head.weight", 108);
    }
}

/* Inodes of the weights' anonymous file in this process, and whether its mapping is read-only. */
static double weights_inode(int *read_only) {
    char line[512], permissions[8];
    double inode = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    *read_only = 0;
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long long number;
        if (!strstr(line, "lucid-weights")) continue;
        if (sscanf(line, "%*s %7s %*s %*s %llu", permissions, &number) != 2) continue;
        inode = (double)number;
        *read_only = permissions[1] == '-';
    }
    if (maps) fclose(maps);
    return inode;
}

static void check_sharing(const lucid_model *model, int n_parameters, int n_mapped) {
    int read_only;
    const double inode = weights_inode(&read_only);
    double bounds[] = {inode, -inode};
    REQUIRE(lucid_comm_allreduce(comm, bounds, 2, LUCID_MIN));
    CHECK(model->n_parameters == n_parameters, "%lld parameters, want %d", (long long)model->n_parameters,
          n_parameters);
    CHECK(model->mapped_bytes == (size_t)n_mapped * 4, "%zu bytes in place, want %d", model->mapped_bytes,
          n_mapped * 4);
    CHECK(model->shared_bytes >= (size_t)(n_parameters - n_mapped) * 4, "%zu bytes shared", model->shared_bytes);
    CHECK(model->node_wide, "not shared");
    CHECK((inode > 0) == (model->shared_bytes > 0), "inode %g for %zu bytes", inode, model->shared_bytes);
    CHECK(bounds[0] == -bounds[1], "ranks have inodes from %g to %g", bounds[0], -bounds[1]);
    CHECK(inode == 0 || read_only, "shared weights can be written");
}

/* --- fingerprints --- */

typedef struct {
    char text[LUCID_FINGERPRINT_MAX];
} fingerprint;

static fingerprint fingerprint_of(const lucid_model *model, int64_t max_context) {
    fingerprint f;
    REQUIRE(lucid_model_fingerprint(f.text, model, max_context));
    return f;
}

/* The last number of any tensor makes another model. */
static void check_fingerprint(lucid_model *model, const char *name) {
    const fingerprint own = fingerprint_of(model, 64);
    lucid_model_slot *slots;
    int n_slots;
    REQUIRE(lucid_model_slots_make(&slots, &n_slots, model));
    for (int s = 0; s < n_slots; s++) {
        const float *values = *slots[s].pointer;
        int64_t n = 1;
        for (int i = 0; i < slots[s].n_dims; i++) n *= slots[s].shape[i];
        float *others = malloc((size_t)n * sizeof *others);
        memcpy(others, values, (size_t)n * sizeof *others);
        others[n - 1] += 1;
        *slots[s].pointer = others;
        CHECK(strcmp(own.text, fingerprint_of(model, 64).text), "%s: another %s counts for nothing", name,
              slots[s].name);
        *slots[s].pointer = values;
        free(others);
    }
    free(slots);
}

/* What RoPE's type dynamic looks at, and no other. */
static void check_positions(lucid_model *model, const char *name) {
    const bool dynamic = model->config.use_rope && model->config.rope.type == LUCID_ROPE_DYNAMIC;
    const fingerprint own = fingerprint_of(model, 64), longer = fingerprint_of(model, 65);
    CHECK(dynamic == (strcmp(own.text, longer.text) != 0), "%s: the longest text", name);
    model->config.max_position_embeddings++;
    CHECK(dynamic == (strcmp(own.text, fingerprint_of(model, 64).text) != 0), "%s: positions", name);
    model->config.max_position_embeddings--;
}

#define PARAMETERS (108 + 2 * 1248 + 12 + 108)

static void test_dtypes(void) {
    static const int dtypes[] = {LUCID_F32, LUCID_BF16, LUCID_F16};
    static const int shards[] = {0, 1, 3};
    fingerprint first = {""};
    for (int d = 0; d < COUNT(dtypes); d++) {
        for (int s = 0; s < COUNT(shards); s++) {
            fixture_model m = fixture_make(dtypes[d]);
            m.n_shards = shards[s];
            lucid_model *model = open_common(&m);
            check_model(model);
            check_sharing(model, PARAMETERS, dtypes[d] == LUCID_F32 ? PARAMETERS : 0);
            const fingerprint own = fingerprint_of(model, 64);
            if (!*first.text) first = own;
            CHECK(!strcmp(own.text, first.text), "the same weights in other files: '%s', '%s'", own.text, first.text);
            close_common(model);
        }
    }
}

/* Tensors of all three dtypes side by side. */
static void test_mixed(void) {
    fixture_model m = fixture_make(LUCID_F32);
    int n_mapped = 0;
    m.n_shards = 2;
    for (int i = 0; i < m.n_tensors; i++) {
        m.tensors[i].dtype = i % 3;
        if (i % 3 == LUCID_F32) n_mapped += (int)fixture_elements(&m.tensors[i]);
    }
    lucid_model *model = open_common(&m);
    check_model(model);
    check_sharing(model, PARAMETERS, n_mapped);
    close_common(model);
}

/* Headers whose length leaves no float where one can stand: everything is copied. */
static void test_misaligned(void) {
    for (int padding = 1; padding <= 4; padding++) {
        fixture_model m = fixture_make(LUCID_F32);
        m.header_padding = padding;
        lucid_model *model = open_common(&m);
        check_model(model);
        check_sharing(model, PARAMETERS, padding == 4 ? PARAMETERS : 0);
        close_common(model);
    }
}

static void test_tied(void) {
    fixture_model m = fixture_make(LUCID_BF16);
    m.n_tensors--; /* lm_head */
    m.extra_keys = ",\"tie_word_embeddings\":true";
    lucid_model *model = open_common(&m);
    check_model(model);
    check_sharing(model, PARAMETERS - 108, 0);
    close_common(model);
}

static void test_biases_and_norms(void) {
    static const struct {
        const char *name;
        int n;
    } extra[] = {{"self_attn.q_proj.bias", 24}, {"self_attn.k_proj.bias", 12},  {"self_attn.v_proj.bias", 12},
                 {"self_attn.o_proj.bias", 12}, {"mlp.gate_proj.bias", 10},     {"mlp.up_proj.bias", 10},
                 {"mlp.down_proj.bias", 12},    {"self_attn.q_norm.weight", 6}, {"self_attn.k_norm.weight", 6}};
    fixture_model m = fixture_make(LUCID_F32);
    char names[2][COUNT(extra)][80];
    m.extra_keys = ",\"attention_bias\":true,\"mlp_bias\":true,\"attention_type\":\"lucid\"";
    for (int l = 0; l < 2; l++) {
        for (int e = 0; e < COUNT(extra); e++) {
            snprintf(names[l][e], sizeof names[l][e], "model.layers.%d.%s", l, extra[e].name);
            fixture_add(&m, names[l][e], extra[e].n, 0, LUCID_F16);
        }
    }
    lucid_model *model = open_common(&m);
    check_model(model);
    CHECK(model->config.qk_norm == LUCID_QKNORM_ON, "weights decide where the configuration does not say");
    for (int l = 0; l < 2; l++) {
        const lucid_model_layer *p = &model->layers[l];
        const float *got[] = {p->q_bias,  p->k_bias,    p->v_bias, p->o_bias, p->gate_bias,
                              p->up_bias, p->down_bias, p->q_norm, p->k_norm};
        for (int e = 0; e < COUNT(extra); e++) check_values(got[e], names[l][e], extra[e].n);
        CHECK(!p->b_proj && !p->q_conv && !p->o_norm, "DeltaNet's weights");
    }
    check_fingerprint(model, "biases and norms");
    close_common(model);
}

/* Opens a model while this rank takes itself for another than it is; no rank may share then. */
static void open_disguised(const char *host, int local_rank, int local_size) {
    fixture_model m = fixture_make(LUCID_BF16);
    const lucid_comm own = *comm;
    snprintf(comm->host, sizeof comm->host, "%s", host);
    comm->local_rank = local_rank;
    comm->local_size = local_size;
    lucid_model *model = open_common(&m);
    memcpy(comm->host, own.host, sizeof own.host);
    comm->local_rank = own.local_rank;
    comm->local_size = own.local_size;
    CHECK(!model->node_wide, "rank %d of %d on %s shares", local_rank, local_size, host);
    check_model(model);
    close_common(model);
}

/* Where ranks cannot find their host's memory, or two hosts have one name, each rank keeps a copy. */
static void test_strangers(void) {
    char host[32];
    if (comm->world_size == 1) return;
    snprintf(host, sizeof host, "host-%d", comm->rank);
    open_disguised(host, comm->local_rank, comm->local_size);
    const int last = comm->rank == comm->world_size - 1;
    open_disguised("twin", last ? 0 : comm->rank, last ? 1 : comm->world_size - 1);
}

/* The models that logits are checked with elsewhere. */
static void test_golden(const char *folder) {
    static const char *const names[] = {"deltanet_conv",  "deltanet_plain", "lucid_68",
                                        "lucid_qknorm",   "lucid_rope",     "softmax_dynamic",
                                        "softmax_linear", "softmax_qknorm", "softmax_yarn"};
    char path[512];
    for (int i = 0; i < COUNT(names); i++) {
        lucid_model *model = NULL;
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        REQUIRE(lucid_model_open(&model, comm, path, NULL));
        const bool conv = strcmp(names[i], "deltanet_conv") == 0;
        CHECK((model->layers[0].q_conv != NULL) == conv, "%s: convolutions", names[i]);
        check_fingerprint(model, names[i]);
        check_positions(model, names[i]);
        lucid_model_close(model);
    }
}

static int count_descriptors(void) {
    int n = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder && readdir(folder)) n++;
    if (folder) closedir(folder);
    return n;
}

/* A folder that is fine but another one on the last rank, and one that is broken there: all ranks fail. */
static void test_disagreement(void) {
    const char *other = comm->rank == comm->world_size - 1 ? "tied" : "plain";
    fixture_model m = fixture_make(LUCID_BF16);
    lucid_model *model = NULL;
    char path[512];
    if (comm->world_size == 1) return;
    if (comm->rank == 0) {
        mkdir(scratch_path("plain"), 0700);
        mkdir(scratch_path("tied"), 0700);
        fixture_write(&m, scratch_path("plain"));
        m.n_tensors--;
        m.extra_keys = ",\"tie_word_embeddings\":true";
        fixture_write(&m, scratch_path("tied"));
    }
    barrier();
    snprintf(path, sizeof path, "%s/%s", scratch_folder, other);
    CHECK(lucid_model_open(&model, comm, path, NULL) == LUCID_ERR_INPUT, "another model on the last rank");
    CHECK(strstr(lucid_failure(), "not the same on all ranks"), "the line is '%s'", lucid_failure());
    if (comm->rank == comm->world_size - 1) strcat(path, "/nowhere");
    const lucid_status status = lucid_model_open(&model, comm, path, NULL);
    CHECK(status == (comm->rank == comm->world_size - 1 ? LUCID_ERR_INPUT : LUCID_ERR_COMM), "status %d", (int)status);
    CHECK(!model, "a model in spite of a failure");
    barrier();
    if (comm->rank) return;
    for (int i = 0; i < 4; i++)
        unlink(scratch_path((const char *[]){"plain/config.json", "plain/model.safetensors", "tied/config.json",
                                             "tied/model.safetensors"}[i]));
}

int main(int argc, char **argv) {
    REQUIRE(lucid_comm_open(&comm, NULL));
    make_common_folder();
    test_dtypes();
    const int descriptors = count_descriptors();
    test_mixed();
    test_misaligned();
    test_tied();
    test_biases_and_norms();
    test_strangers();
    if (argc > 1) test_golden(argv[1]);
    CHECK(count_descriptors() == descriptors, "%d descriptors are left open", count_descriptors() - descriptors);
    test_disagreement();
    if (comm->rank == 0) scratch_remove();
    lucid_comm_close(comm);
    return check_result();
}
