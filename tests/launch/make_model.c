/* make_model DIR [NAME=NUMBER ...]: a model folder with random weights in fp32, for tests and measurements of commands
 * on language models. Names: layers, hidden, inner, heads, kv_heads, head_dim, vocab, softmax (1: no LUCID), seed,
 * rope (0: none). Without a tokenizer.json its tokens are bytes. Laid out by hand, so nothing of the library under test
 * makes its own input. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_TENSORS = 1024 };

static struct {
    const char *name;
    int value;
} numbers[] = {{"layers", 2},    {"hidden", 32}, {"inner", 48},  {"heads", 4}, {"kv_heads", 2},
               {"head_dim", 16}, {"vocab", 256}, {"softmax", 0}, {"seed", 1},  {"rope", 1}};

static int number(const char *name) {
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(numbers[i].name, name)) return numbers[i].value;
    abort();
}

static void set_number(const char *text) {
    const size_t n = strcspn(text, "=");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strlen(numbers[i].name) == n && !memcmp(numbers[i].name, text, n) && text[n]) {
            numbers[i].value = atoi(text + n + 1);
            return;
        }
    fprintf(stderr, "make_model: no number is called '%s'\n", text);
    exit(2);
}

typedef struct {
    char name[80];
    int64_t rows, columns; /* columns 0: a gain */
} tensor;

static tensor tensors[MAX_TENSORS];
static int n_tensors;

static void add(int layer, const char *name, int64_t rows, int64_t columns) {
    if (n_tensors == MAX_TENSORS) abort();
    tensor *t = &tensors[n_tensors++];
    *t = (tensor){.rows = rows, .columns = columns};
    if (layer < 0)
        snprintf(t->name, sizeof t->name, "%s.weight", name);
    else
        snprintf(t->name, sizeof t->name, "model.layers.%d.%s.weight", layer, name);
}

static void add_layer(int l) {
    const int hidden = number("hidden"), inner = number("inner"), d = number("head_dim");
    const int q = number("heads") * d, kv = number("kv_heads") * d;
    add(l, "input_layernorm", hidden, 0);
    add(l, "self_attn.q_proj", q, hidden);
    add(l, "self_attn.k_proj", kv, hidden);
    add(l, "self_attn.v_proj", kv, hidden);
    add(l, "self_attn.o_proj", hidden, q);
    add(l, "post_attention_layernorm", hidden, 0);
    add(l, "mlp.gate_proj", inner, hidden);
    add(l, "mlp.up_proj", inner, hidden);
    add(l, "mlp.down_proj", hidden, inner);
}

static FILE *create(const char *folder, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file) {
        perror(path);
        exit(1);
    }
    return file;
}

static void write_config(const char *folder) {
    FILE *file = create(folder, "config.json");
    fprintf(file,
            "{\"model_type\":\"llama\",\"hidden_size\":%d,\"intermediate_size\":%d,\"vocab_size\":%d,"
            "\"num_hidden_layers\":%d,\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"head_dim\":%d,"
            "\"max_position_embeddings\":65536,\"rms_norm_eps\":1e-5,\"tie_word_embeddings\":true,\"use_rope\":%s,"
            "\"attention_type\":\"%s\",\"eos_token_id\":[0,3]}\n",
            number("hidden"), number("inner"), number("vocab"), number("layers"), number("heads"), number("kv_heads"),
            number("head_dim"), number("rope") ? "true" : "false", number("softmax") ? "llama" : "lucid");
    fclose(file);
}

static int64_t elements(const tensor *t) {
    return t->rows * (t->columns ? t->columns : 1);
}

static void write_header(FILE *file) {
    static char header[1 << 18];
    size_t n = 0;
    int64_t offset = 0;
    for (int i = 0; i < n_tensors; i++) {
        const tensor *t = &tensors[i];
        const int64_t end = offset + 4 * elements(t);
        n += (size_t)snprintf(header + n, sizeof header - n, "%c\"%s\":{\"dtype\":\"F32\",\"shape\":[%lld",
                              i ? ',' : '{', t->name, (long long)t->rows);
        if (t->columns) n += (size_t)snprintf(header + n, sizeof header - n, ",%lld", (long long)t->columns);
        n += (size_t)snprintf(header + n, sizeof header - n, "],\"data_offsets\":[%lld,%lld]}", (long long)offset,
                              (long long)end);
        offset = end;
    }
    n += (size_t)snprintf(header + n, sizeof header - n, "}");
    while (n % 8) header[n++] = ' ';
    const uint64_t length = n;
    fwrite(&length, sizeof length, 1, file);
    fwrite(header, 1, n, file);
}

static double uniform(void) {
    static uint64_t state;
    if (!state) state = 0x9e3779b97f4a7c15u * (uint64_t)number("seed");
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (double)(state >> 11) * 0x1p-53 - 0.5;
}

/* Gains near 1; embeddings of deviation 1; the rest so that activations keep their size. */
static void write_values(FILE *file, const tensor *t) {
    const double deviation = strstr(t->name, "embed") ? 1 : 1.4 / sqrt((double)t->columns);
    for (int64_t i = 0; i < elements(t); i++) {
        const double noise = uniform() + uniform() + uniform(); /* of deviation 1/2 */
        const float x = (float)(t->columns ? 2 * noise * deviation : 1 + 0.2 * noise);
        fwrite(&x, sizeof x, 1, file);
    }
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: make_model DIR [NAME=NUMBER ...]\n");
        return 2;
    }
    for (int i = 2; i < argc; i++) set_number(argv[i]);
    mkdir(argv[1], 0777);
    write_config(argv[1]);
    add(-1, "model.embed_tokens", number("vocab"), number("hidden"));
    for (int l = 0; l < number("layers"); l++) add_layer(l);
    add(-1, "model.norm", number("hidden"), 0);
    FILE *file = create(argv[1], "model.safetensors");
    write_header(file);
    for (int i = 0; i < n_tensors; i++) write_values(file, &tensors[i]);
    return fclose(file) ? 1 : 0;
}
