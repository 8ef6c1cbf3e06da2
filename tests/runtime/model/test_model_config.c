/* config.json and generation_config.json: what they say, and every way to be refused, each with the words that its
 * line must have. */
#include "tests/capture_failure.h"
#include "tests/scratch_folder.h"

#include "runtime/model/config.h"

#include <sys/stat.h>

/* A whole config with more keys before it; the first of two equal keys would be refused, so none is repeated. */
#define SIZES   "\"hidden_size\":48,\"intermediate_size\":20,\"num_hidden_layers\":3,\"vocab_size\":100"
#define REST    SIZES ",\"num_attention_heads\":6,\"model_type\":\"llama\"}"
#define C(keys) "{" keys "," REST

static lucid_status parse(lucid_model_config *config, const char *model, const char *generation) {
    const lucid_config_text text = {model, strlen(model), "config.json"};
    const lucid_config_text more = {generation, generation ? strlen(generation) : 0, "generation_config.json"};
    return lucid_model_config_parse(config, &text, generation ? &more : NULL);
}

static void test_defaults(void) {
    lucid_model_config c;
    CHECK(parse(&c, "{" REST, NULL) == LUCID_OK, "%s", last_failure);
    CHECK(c.hidden_size == 48 && c.intermediate_size == 20 && c.n_layers == 3 && c.vocab_size == 100, "sizes");
    CHECK(c.n_heads == 6 && c.n_kv_heads == 6 && c.head_dim == 8, "%d heads of %d", c.n_kv_heads, c.head_dim);
    CHECK(c.rms_norm_eps == 1e-6 && c.rope.theta == 10000 && c.rope.type == LUCID_ROPE_DEFAULT, "norm, RoPE");
    CHECK(c.attention == LUCID_MODEL_SOFTMAX && c.activation == LUCID_ACTIVATION_SILU, "kinds");
    CHECK(!c.tie_word_embeddings && !c.attention_bias && !c.mlp_bias && c.use_rope, "flags");
    CHECK(c.qk_norm == LUCID_QKNORM_AS_WEIGHTS && c.bos_token_id == -1 && c.n_eos == 0, "norm, ids");
    CHECK(c.temperature == 0 && c.top_p == 0 && c.top_k == 0 && !c.do_sample, "sampling");
}

static void test_paper_model(void) {
    static const char text[] = C("\"architectures\":[\"LlamaForCausalLM\"],\"attention_type\":\"lucid\","
                                 "\"head_dim\":68,\"num_key_value_heads\":2,\"use_rope\":false,\"use_beta\":false,"
                                 "\"which_rmsnorm\":\"exp_k_norm\",\"use_qknorm\":true,\"use_token_grad_clip\":true,"
                                 "\"rms_norm_eps\":1e-5,\"tie_word_embeddings\":true,\"attention_bias\":true,"
                                 "\"mlp_bias\":true,\"hidden_act\":\"gelu\",\"bos_token_id\":1,\"eos_token_id\":[2,3],"
                                 "\"pretraining_tp\":1,\"sliding_window\":null,\"rope_scaling\":null");
    lucid_model_config c;
    CHECK(parse(&c, text, NULL) == LUCID_OK, "%s", last_failure);
    CHECK(c.attention == LUCID_MODEL_LUCID && c.head_dim == 68 && c.n_kv_heads == 2 && !c.use_rope, "attention");
    CHECK(c.qk_norm == LUCID_QKNORM_ON && c.rms_norm_eps == 1e-5 && c.activation == LUCID_ACTIVATION_GELU, "layers");
    CHECK(c.tie_word_embeddings && c.attention_bias && c.mlp_bias, "flags");
    CHECK(c.bos_token_id == 1 && c.n_eos == 2 && c.eos_token_ids[0] == 2 && c.eos_token_ids[1] == 3, "ids");
}

static void test_qwen3(void) {
    static const char sizes[] =
        "\"hidden_size\":48,\"intermediate_size\":20,\"num_hidden_layers\":2,\"vocab_size\":100,"
        "\"num_attention_heads\":6,\"model_type\":\"qwen3\"";
    char text[1024];
    lucid_model_config c;
    snprintf(
        text, sizeof text,
        "{%s,\"architectures\":[\"Qwen3ForCausalLM\"],\"use_sliding_window\":false,"
        "\"sliding_window\":null,\"max_window_layers\":28,\"layer_types\":[\"full_attention\",\"full_attention\"]}",
        sizes);
    CHECK(parse(&c, text, NULL) == LUCID_OK, "%s", last_failure);
    CHECK(c.qk_norm == LUCID_QKNORM_BEFORE_ROPE && c.head_dim == 128, "norm %d, head_dim %d", c.qk_norm, c.head_dim);
    snprintf(text, sizeof text, "{%s,\"use_qknorm\":false}", sizes);
    check_failed(parse(&c, text, NULL), LUCID_ERR_INPUT, "use_qknorm: is false, and Qwen3 has it");
    snprintf(text, sizeof text, "{%s,\"attention_type\":\"deltanet\"}", sizes);
    check_failed(parse(&c, text, NULL), LUCID_ERR_INPUT, "attention_type: is deltanet, and that is not Qwen3's");
}

static void test_words(void) {
    lucid_model_config c;
    CHECK(parse(&c, C("\"attention_type\":\"oglucid\",\"use_qknorm\":false"), NULL) == LUCID_OK, "%s", last_failure);
    CHECK(c.attention == LUCID_MODEL_LUCID && c.qk_norm == LUCID_QKNORM_OFF, "oglucid");
    CHECK(parse(&c, C("\"attention_type\":\"deltanet\",\"hidden_act\":\"gelu_pytorch_tanh\""), NULL) == LUCID_OK, "%s",
          last_failure);
    CHECK(c.attention == LUCID_MODEL_DELTANET && c.activation == LUCID_ACTIVATION_GELU_TANH, "deltanet");
    CHECK(!c.use_rope && c.qk_norm == LUCID_QKNORM_OFF && c.conv_size == 4, "deltanet's layer");
    CHECK(parse(&c, C("\"attention_type\":\"deltanet\",\"use_beta\":true,\"use_short_conv\":false"), NULL) == LUCID_OK,
          "%s", last_failure);
    CHECK(c.conv_size == 1, "convolutions");
    CHECK(parse(&c, C("\"attention_type\":\"llama\",\"hidden_act\":\"silu\""), NULL) == LUCID_OK, "%s", last_failure);
    CHECK(c.attention == LUCID_MODEL_SOFTMAX && c.activation == LUCID_ACTIVATION_SILU, "llama");
    /* Without model_type the architecture says it; an odd head_dim is fine without RoPE. */
    CHECK(parse(&c,
                "{" SIZES ",\"num_attention_heads\":5,\"head_dim\":7,\"use_rope\":false,"
                "\"architectures\":[\"LlamaForCausalLM\"]}",
                NULL) == LUCID_OK,
          "%s", last_failure);
}

/* Positions by convolutions, by scales of queries, and by RoPE on a part of each head. */
static void test_positions(void) {
    lucid_model_config c;
    CHECK(parse(&c, C("\"use_rope\":false,\"conv_size\":4"), NULL) == LUCID_OK, "%s", last_failure);
    CHECK(c.conv_size == 1 && c.query_log_scale == 0 && lucid_model_rotary_dim(&c) == 0, "none");
    CHECK(lucid_model_query_scale(&c, 1 << 20) == 1, "no scale");
    CHECK(parse(&c, C("\"qkv_conv_size\":4,\"query_log_scale\":512,\"partial_rotary_factor\":0.5"), NULL) == LUCID_OK,
          "%s", last_failure);
    CHECK(c.conv_size == 4 && lucid_model_rotary_dim(&c) == 4, "convolutions %d, RoPE %d", c.conv_size, c.rotary_dim);
    CHECK(lucid_model_query_scale(&c, 511) == 1, "the last position without a scale");
    CHECK_NEAR(lucid_model_query_scale(&c, 512 * 512 - 1), 2, 1e-6, "the logarithm is twice as large");
    CHECK(parse(&c, C("\"rope_parameters\":{\"partial_rotary_factor\":0.25}"), NULL) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_model_rotary_dim(&c) == 2, "of rope_parameters: %d", c.rotary_dim);
}

static void test_rope(void) {
    lucid_model_config c;
    CHECK(parse(&c, C("\"rope_theta\":5e5,\"rope_scaling\":{\"type\":\"yarn\",\"rope_type\":\"yarn\",\"factor\":4}"),
                NULL) == LUCID_OK,
          "%s", last_failure);
    CHECK(c.rope.type == LUCID_ROPE_YARN && c.rope.theta == 5e5 && c.rope.factor == 4, "yarn");
    CHECK(c.rope.original_max_position_embeddings == 2048 && c.rope.beta_fast == 32 && c.rope.beta_slow == 1, "yarn");
    CHECK(parse(&c, C("\"rope_theta\":77,\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":77.0}"), NULL) ==
              LUCID_OK,
          "%s", last_failure);
    CHECK(c.rope.theta == 77, "theta %g", c.rope.theta);
}

static void test_generation(void) {
    lucid_model_config c;
    CHECK(parse(&c, C("\"eos_token_id\":[4,5],\"bos_token_id\":6"),
                "{\"eos_token_id\":7,\"transformers_version\":\"5\"}") == LUCID_OK,
          "%s", last_failure);
    CHECK(c.n_eos == 1 && c.eos_token_ids[0] == 7 && c.bos_token_id == 6, "ids");
    CHECK(parse(&c, C("\"eos_token_id\":4"),
                "{\"eos_token_id\":null,\"do_sample\":true,\"temperature\":0.6,\"top_p\":0.9,\"top_k\":50,"
                "\"repetition_penalty\":1.0,\"max_length\":4096}") == LUCID_OK,
          "%s", last_failure);
    CHECK(c.n_eos == 1 && c.eos_token_ids[0] == 4, "null is an absent key");
    CHECK(c.do_sample && c.temperature == 0.6 && c.top_p == 0.9 && c.top_k == 50, "sampling");
    check_failed(parse(&c, "{" REST, "{\"repetition_penalty\":1.1}"), LUCID_ERR_INPUT,
                 "generation_config.json: repetition_penalty: is not 1");
    check_failed(parse(&c, "{" REST, "{\"suppress_tokens\":[3]}"), LUCID_ERR_INPUT, "suppress_tokens: is set");
    check_failed(parse(&c, "{" REST, "{\"eos_token_id\":[1,100]}"), LUCID_ERR_INPUT,
                 "generation_config.json: eos_token_id: 100 is not below vocab_size, 100");
    check_failed(parse(&c, "{" REST, "{\"frequency\":3}"), LUCID_ERR_INPUT, "frequency: unknown key");
}

static const struct {
    const char *text, *fragment;
} refused[] = {
    {"", "config.json: line"},
    {"[]", "config.json: is not a JSON object"},
    {"{\"a\":", "config.json: line"},
    {"{\"hidden_size\":8,\"hidden_size\":8}", "duplicate"},
    {"{" REST " {}", "config.json: line"},
    {C("\"rms_norm_eps\":NaN"), "config.json: line"},
    {C("\"attention_scale\":2"), "config.json: attention_scale: unknown key"},
    {C("\"a\\nb\":2"), "config.json: a?b: unknown key"},
    {C("\"unheard_of\":null"), "unheard_of: unknown key"},
    {"{" SIZES ",\"num_attention_heads\":6}", "model_type: is missing"},
    {"{" SIZES ",\"num_attention_heads\":6,\"model_type\":\"mistral\"}", "model_type: 'mistral' is none of llama"},
    {"{\"model_type\":\"llama\"}", "hidden_size: is missing"},
    {"{\"model_type\":\"llama\",\"hidden_size\":8}", "intermediate_size: is missing"},
    {"{\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":8}", "vocab_size: is missing"},
    {"{\"model_type\":\"llama\"," SIZES "}", "num_attention_heads: is missing"},
    {"{\"model_type\":\"llama\",\"hidden_size\":0}", "hidden_size: must be an integer within 1..16777216"},
    {"{\"model_type\":\"llama\",\"hidden_size\":8.0}", "hidden_size: must be an integer"},
    {"{\"model_type\":\"llama\",\"hidden_size\":\"8\"}", "hidden_size: must be an integer"},
    {"{\"model_type\":\"llama\",\"vocab_size\":9223372036854775807}", "vocab_size: must be an integer"},
    {"{\"model_type\":\"llama\",\"num_hidden_layers\":-1}", "num_hidden_layers: must be an integer within 1..16384"},
    {C("\"architectures\":[\"LlamaModel\"]"), "architectures: 'LlamaModel' is none of LlamaForCausalLM"},
    {C("\"architectures\":[\"Qwen3ForCausalLM\"]"), "model_type: contradicts architectures"},
    {C("\"layer_types\":[\"full_attention\",\"sliding_attention\"]"),
     "layer_types: 'sliding_attention' is none of full_attention"},
    {C("\"layer_types\":\"full_attention\""), "layer_types: must be a list"},
    {C("\"architectures\":[]"), "architectures: must be a list of one"},
    {C("\"num_key_value_heads\":4"), "num_key_value_heads: 4 does not divide num_attention_heads, 6"},
    {C("\"head_dim\":257"), "head_dim: must be an integer within 1..256"},
    {C("\"head_dim\":7"), "head_dim: 7 is odd"},
    {"{" SIZES ",\"num_attention_heads\":5,\"model_type\":\"llama\"}", "head_dim: is missing, and hidden_size 48"},
    {"{\"hidden_size\":600,\"intermediate_size\":2,\"vocab_size\":2,\"num_hidden_layers\":1,"
     "\"num_attention_heads\":2,\"model_type\":\"llama\"}",
     "hidden_size: gives heads of dimension 300"},
    {C("\"rms_norm_eps\":0"), "rms_norm_eps: must be a number above 0 and at most 1e+12"},
    {C("\"rms_norm_eps\":true"), "rms_norm_eps: must be a number above 0 and at most 1e+12"},
    {C("\"tie_word_embeddings\":1"), "tie_word_embeddings: must be true or false"},
    {C("\"hidden_act\":\"relu\""), "hidden_act: 'relu' is none of silu, swish, gelu"},
    {C("\"hidden_act\":3"), "hidden_act: must be one of silu"},
    {C("\"attention_type\":\"lucid_path\""), "attention_type: 'lucid_path' is none of lucid, oglucid, llama"},
    {C("\"which_rmsnorm\":\"qk_norm\""), "which_rmsnorm: 'qk_norm' is none of exp_k_norm"},
    {C("\"use_qknorm\":\"yes\""), "use_qknorm: must be true or false"},
    {C("\"use_beta\":true"), "use_beta: is set, and that is not supported"},
    {C("\"attention_type\":\"deltanet\",\"use_qknorm\":true"), "use_qknorm: is set, and DeltaNet has none"},
    {C("\"attention_type\":\"deltanet\",\"num_key_value_heads\":2"), "num_key_value_heads: differs from"},
    {C("\"attention_type\":\"deltanet\",\"conv_size\":17"), "conv_size: must be an integer within 1..16"},
    {C("\"use_forget_gate\":true"), "use_forget_gate: is set"},
    {C("\"sliding_window\":4096"), "sliding_window: is set"},
    {C("\"pretraining_tp\":2"), "pretraining_tp: is not 1"},
    {C("\"quantization_config\":{\"bits\":4}"), "quantization_config: is set"},
    {C("\"auto_map\":{\"AutoModel\":\"m.M\"}"), "auto_map: is set"},
    {C("\"pruned_heads\":{\"0\":[1]}"), "pruned_heads: is set"},
    {C("\"partial_rotary_factor\":0.1"), "partial_rotary_factor: 0.1 of head_dim 8 is no even number within it"},
    {C("\"partial_rotary_factor\":0.45"), "partial_rotary_factor: 0.45 of head_dim 8 is no even number"},
    {C("\"partial_rotary_factor\":1.1"), "partial_rotary_factor: 1.1 of head_dim 8"},
    {C("\"qkv_conv_size\":17"), "qkv_conv_size: must be an integer within 1..16"},
    {C("\"query_log_scale\":1"), "query_log_scale: must be above 1"},
    {C("\"attention_type\":\"deltanet\",\"qkv_conv_size\":4"), "qkv_conv_size: is set, and DeltaNet has none"},
    {C("\"bos_token_id\":100"), "bos_token_id: 100 is not below vocab_size, 100"},
    {C("\"bos_token_id\":-1"), "bos_token_id: must be a token id"},
    {C("\"eos_token_id\":[1,\"2\"]"), "eos_token_id: must be a token id"},
    {C("\"eos_token_id\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]"),
     "eos_token_id: lists 33 ids, more than 32"},
    {C("\"rope_theta\":1"), "rope_theta: must be above 1"},
    {C("\"rope_theta\":\"1e4\""), "rope_theta: must be a number above 0 and at most 1e+12"},
    {C("\"rope_theta\":5,\"rope_parameters\":{\"rope_theta\":6}"),
     "rope_theta: differs from the one in rope_parameters"},
    {C("\"rope_scaling\":4"), "rope_scaling: must be an object or null"},
    {C("\"rope_scaling\":{},\"rope_parameters\":{}"), "rope_parameters: stands beside rope_scaling"},
    {C("\"rope_scaling\":{\"type\":\"longrope\"}"), "rope_scaling.type: 'longrope' is none of default, linear"},
    {C("\"rope_scaling\":{\"type\":\"yarn\",\"rope_type\":\"linear\",\"factor\":2}"),
     "rope_scaling.type: contradicts rope_type"},
    {C("\"rope_scaling\":{\"type\":\"linear\"}"), "rope_scaling.factor: is missing"},
    {C("\"rope_scaling\":{\"type\":\"linear\",\"factor\":0.5}"),
     "rope_scaling.factor: must be a number of at least 1 and"},
    {C("\"rope_parameters\":{\"rope_type\":\"linear\"}"), "rope_parameters.factor: is missing"},
    {C("\"rope_scaling\":{\"type\":\"linear\",\"factor\":2,\"strange\":1}"), "rope_scaling.strange: unknown key"},
    {C("\"partial_rotary_factor\":1,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2,\"partial_rotary_factor\":0.5}"),
     "partial_rotary_factor: differs from the one in rope_scaling"},
    {C("\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}"), "rope_scaling.low_freq_factor: is missing"},
    {C("\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1}"),
     "rope_scaling.high_freq_factor: is missing"},
    {C("\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4}"),
     "rope_scaling.high_freq_factor: must be above low_freq_factor"},
    {C("\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":8,\"beta_fast\":1,\"beta_slow\":2}"),
     "rope_scaling.beta_fast: must not be below beta_slow"},
    {C("\"head_dim\":2,\"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":8}"),
     "rope_scaling.rope_type: dynamic needs a head_dim above 2"},
};

static void test_refused(void) {
    lucid_model_config untouched, config;
    memset(&untouched, 0x5a, sizeof untouched);
    config = untouched;
    for (int i = 0; i < COUNT(refused); i++) {
        check_failed(parse(&config, refused[i].text, NULL), LUCID_ERR_INPUT, refused[i].fragment);
        CHECK(memcmp(&config, &untouched, sizeof config) == 0, "case %d: a refused config was stored", i);
    }
}

static void save(const char *name, const char *text) {
    FILE *file = fopen(scratch_path(name), "wb");
    fputs(text, file);
    fclose(file);
}

static void test_folder(void) {
    lucid_model_config c;
    check_failed(lucid_model_config_read(&c, scratch_folder), LUCID_ERR_INPUT, "config.json: there is no such file");
    save("config.json", "{" REST);
    CHECK(lucid_model_config_read(&c, scratch_folder) == LUCID_OK && c.hidden_size == 48, "%s", last_failure);
    save("generation_config.json", "{\"bos_token_id\":9}");
    CHECK(lucid_model_config_read(&c, scratch_folder) == LUCID_OK && c.bos_token_id == 9, "%s", last_failure);
    save("generation_config.json", "{\"bos_token_id\":}");
    check_failed(lucid_model_config_read(&c, scratch_folder), LUCID_ERR_INPUT, "generation_config.json: line 1");
    unlink(scratch_path("generation_config.json"));
    mkdir(scratch_path("generation_config.json"), 0700);
    check_failed(lucid_model_config_read(&c, scratch_folder), LUCID_ERR_INPUT, "not a file");
}

int main(void) {
    scratch_make();
    test_defaults();
    test_paper_model();
    test_qwen3();
    test_words();
    test_positions();
    test_rope();
    test_generation();
    test_refused();
    test_folder();
    scratch_remove();
    return check_result();
}
