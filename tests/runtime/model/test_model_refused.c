/* Weight files that do not fit their configuration: one by one, with the words that the failure's line must have. */
#include "tests/capture_failure.h"
#include "tests/runtime/model/model_fixture.h"
#include "tests/scratch_folder.h"

#include "runtime/model/weights.h"

#include <sys/stat.h>

static lucid_comm *comm;

static lucid_status open_model(const lucid_model_options *options) {
    lucid_model *model = NULL;
    const lucid_status status = lucid_model_open(&model, comm, scratch_folder, options);
    lucid_model_close(model);
    return status;
}

static void refuse(lucid_status want, const char *fragment) {
    check_failed(open_model(NULL), want, fragment);
    scratch_entries(1);
}

static void refuse_model(fixture_model *m, const char *fragment) {
    fixture_write(m, scratch_folder);
    refuse(LUCID_ERR_INPUT, fragment);
}

static void test_missing_files(void) {
    fixture_model m = fixture_make(LUCID_F32);
    refuse(LUCID_ERR_INPUT, "config.json: there is no such file");
    fixture_save(scratch_folder, "config.json", FIXTURE_CONFIG "}");
    refuse(LUCID_ERR_INPUT, "has neither model.safetensors nor model.safetensors.index.json");
    fixture_write(&m, scratch_folder);
    fixture_save(scratch_folder, "config.json", FIXTURE_CONFIG ",\"sliding_window\":7}");
    refuse(LUCID_ERR_INPUT, "config.json: sliding_window: is set");
}

static void test_tensors(void) {
    fixture_model m = fixture_make(LUCID_BF16);
    m.tensors[3].shard = -1;
    refuse_model(&m, "tensor model.layers.0.self_attn.k_proj.weight is missing");

    m = fixture_make(LUCID_BF16);
    m.extra_keys = ",\"attention_bias\":true";
    refuse_model(&m, "tensor model.layers.0.self_attn.q_proj.bias is missing");

    m = fixture_make(LUCID_BF16);
    m.extra_keys = ",\"use_qknorm\":true";
    refuse_model(&m, "tensor model.layers.0.self_attn.q_norm.weight is missing");

    m = fixture_make(LUCID_BF16);
    fixture_add(&m, "model.layers.0.self_attn.q_norm.weight", 6, 0, LUCID_BF16);
    fixture_add(&m, "model.layers.0.self_attn.k_norm.weight", 6, 0, LUCID_BF16);
    refuse_model(&m, "tensor model.layers.1.self_attn.q_norm.weight is missing");

    m = fixture_make(LUCID_BF16);
    fixture_find(&m, "model.layers.1.mlp.up_proj.weight")->shape[0] = 11;
    refuse_model(&m, "tensor model.layers.1.mlp.up_proj.weight: has shape (11, 12), config.json calls for (10, 12)");

    m = fixture_make(LUCID_BF16);
    fixture_find(&m, "model.norm.weight")->n_dims = 2;
    fixture_find(&m, "model.norm.weight")->shape[1] = 1;
    refuse_model(&m, "tensor model.norm.weight: has shape (12, 1), config.json calls for (12)");

    m = fixture_make(LUCID_BF16);
    fixture_find(&m, "lm_head.weight")->dtype = 3;
    refuse_model(&m, "tensor lm_head.weight: dtype I32 is none of F32, BF16, F16");
}

static void test_unused(void) {
    const char *const exact[] = {"other", "model.layers.0.self_attn.rotary_emb.inv_freq"};
    const char *const pattern[] = {"*.rotary_emb.inv_freq"};
    fixture_model m = fixture_make(LUCID_BF16);
    fixture_add(&m, exact[1], 3, 0, LUCID_F32);
    fixture_write(&m, scratch_folder);
    check_failed(open_model(NULL), LUCID_ERR_INPUT,
                 "tensor model.layers.0.self_attn.rotary_emb.inv_freq: nothing uses it");
    check_failed(open_model(&(lucid_model_options){exact, 1}), LUCID_ERR_INPUT, "inv_freq: nothing uses it");
    CHECK(open_model(&(lucid_model_options){exact, 2}) == LUCID_OK, "%s", last_failure);
    CHECK(open_model(&(lucid_model_options){pattern, 1}) == LUCID_OK, "%s", last_failure);
    scratch_entries(1);

    m = fixture_make(LUCID_BF16);
    m.extra_keys = ",\"tie_word_embeddings\":true";
    fixture_write(&m, scratch_folder);
    CHECK(open_model(NULL) == LUCID_OK, "a tied model that has a head all the same: %s", last_failure);
    scratch_entries(1);

    m = fixture_make(LUCID_BF16);
    fixture_add(&m, "model.layers.2.mlp.up_proj.weight", 10, 12, LUCID_BF16);
    refuse_model(&m, "tensor model.layers.2.mlp.up_proj.weight: nothing uses it");
}

static void write_shards(int n_shards) {
    fixture_model m = fixture_make(LUCID_F16);
    m.n_shards = n_shards;
    fixture_write(&m, scratch_folder);
}

static void test_broken_shards(void) {
    struct stat info;
    write_shards(2);
    CHECK(stat(scratch_path("model-00001.safetensors"), &info) == 0, "no shard");
    CHECK(truncate(scratch_path("model-00001.safetensors"), info.st_size - 1) == 0, "truncate");
    refuse(LUCID_ERR_INPUT, "model-00001.safetensors: tensor ");

    write_shards(2);
    CHECK(truncate(scratch_path("model-00001.safetensors"), 5) == 0, "truncate");
    refuse(LUCID_ERR_INPUT, "model-00001.safetensors: has 5 bytes, too few");

    write_shards(2);
    unlink(scratch_path("model-00001.safetensors"));
    refuse(LUCID_ERR_INPUT, "model-00001.safetensors: cannot open");
}

static void refuse_index(const char *text, const char *fragment) {
    write_shards(2);
    fixture_save(scratch_folder, "model.safetensors.index.json", text);
    refuse(LUCID_ERR_INPUT, fragment);
}

#define NORM "\"model.norm.weight\":"

static void test_index(void) {
    refuse_index("{", "index.json: line");
    refuse_index("[]", "index.json: is not a JSON object");
    refuse_index("{}", "index.json: weight_map: must be an object");
    refuse_index("{\"weight_map\":{}}", "index.json: weight_map: must be an object");
    refuse_index("{\"weight_map\":{" NORM "3}}", "weight_map.model.norm.weight: must be the name of a file");
    refuse_index("{\"weight_map\":{" NORM "\"../model-00000.safetensors\"}}", "is not a file of the folder itself");
    refuse_index("{\"weight_map\":{" NORM "\"/etc/passwd\"}}", "'/etc/passwd' is not a file of the folder itself");
    refuse_index("{\"weight_map\":{" NORM "\"..\"}}", "is not a file of the folder itself");
    refuse_index("{\"weight_map\":{" NORM "\"\"}}", "is not a file of the folder itself");
    refuse_index("{\"weight_map\":{" NORM "\"a\\nb\"}}", "'a?b' is not a file of the folder itself");
    refuse_index("{\"weight_map\":{\"strange\":\"model-00000.safetensors\"}}",
                 "weight_map.strange: model-00000.safetensors has no such tensor");
    refuse_index("{\"weight_map\":{\"model.embed_tokens.weight\":\"model-00000.safetensors\"}}", "is not in the index");
}

/* Both shards hold the norm; the index can name but one. */
static void test_twice(void) {
    fixture_model m = fixture_make(LUCID_F16);
    m.n_shards = 2;
    fixture_write(&m, scratch_folder);
    const int norm = (int)(fixture_find(&m, "model.norm.weight") - m.tensors);
    const int other = !m.tensors[norm].shard;
    char name[64];
    fixture_add(&m, "model.norm.weight", 12, 0, LUCID_F16)->shard = other;
    fixture_shard_name(name, other);
    fixture_write_shard(&m, scratch_folder, name, other);
    refuse(LUCID_ERR_INPUT, "tensor model.norm.weight: is in model-0000");
}

/* As downloads are kept: the folder holds links to files elsewhere. */
static void test_links(void) {
    write_shards(2);
    rename(scratch_path("model-00001.safetensors"), scratch_path("blob"));
    CHECK(symlink("blob", scratch_path("model-00001.safetensors")) == 0, "symlink");
    CHECK(open_model(NULL) == LUCID_OK, "%s", last_failure);
    scratch_entries(1);
}

int main(void) {
    const lucid_comm_options self = {.transport = "self"};
    if (lucid_comm_open(&comm, &self)) return 1;
    scratch_make();
    test_missing_files();
    test_tensors();
    test_unused();
    test_broken_shards();
    test_index();
    test_twice();
    test_links();
    scratch_remove();
    lucid_comm_close(comm);
    return check_result();
}
