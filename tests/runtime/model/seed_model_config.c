/* Writes the inputs that fuzz_model_config starts from into a folder. */
#include <stdio.h>
#include <stdlib.h>

#define SIZES                                                                                       \
    "\"model_type\":\"llama\",\"hidden_size\":48,\"intermediate_size\":20,\"num_hidden_layers\":3," \
    "\"vocab_size\":100,\"num_attention_heads\":6"

static const struct {
    const char *text, *generation;
} seeds[] = {
    {"{" SIZES "}", NULL},
    {"{" SIZES ",\"num_key_value_heads\":2,\"head_dim\":68,\"attention_type\":\"lucid\",\"use_rope\":false,"
     "\"which_rmsnorm\":\"exp_k_norm\",\"use_qknorm\":true,\"use_beta\":false}",
     NULL},
    {"{" SIZES ",\"bos_token_id\":1,\"eos_token_id\":[2,3]}",
     "{\"eos_token_id\":4,\"temperature\":0.6,\"top_p\":0.9,\"top_k\":5,\"repetition_penalty\":1.0}"},
    {"{" SIZES ",\"rope_theta\":5e5,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,"
     "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192}}",
     NULL},
    {"{" SIZES ",\"rope_parameters\":{\"rope_type\":\"yarn\",\"rope_theta\":1e4,\"factor\":4,\"beta_fast\":16,"
     "\"beta_slow\":2,\"mscale\":1,\"mscale_all_dim\":0.7,\"truncate\":false,\"attention_factor\":1.2}}",
     NULL},
    {"{" SIZES ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2.5},\"max_position_embeddings\":64}", NULL},
    {"{" SIZES ",\"attention_type\":\"deltanet\",\"use_short_conv\":true,\"conv_size\":4,\"hidden_act\":\"gelu\"}",
     NULL},
};

int main(int argc, char **argv) {
    char path[1024];
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    for (size_t s = 0; s < sizeof seeds / sizeof *seeds; s++) {
        snprintf(path, sizeof path, "%s/%zu", argv[1], s);
        FILE *file = fopen(path, "wb");
        if (!file) {
            perror(path);
            return 1;
        }
        fputs(seeds[s].text, file);
        if (seeds[s].generation) fprintf(file, "%c%s", 0, seeds[s].generation);
        fclose(file);
    }
    return 0;
}
