/* Writes small model folders for tests: config.json and tensor files laid out here by hand, so nothing of the library
 * under test makes its own input. Every weight is a multiple of 1/8 below 2, exact in all three dtypes, and a function
 * of its tensor's name and its index alone. */
#ifndef LUCID_TESTS_MODEL_FIXTURE_H
#define LUCID_TESTS_MODEL_FIXTURE_H

#include "runtime/files/half.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURE_MAX_TENSORS 96

typedef struct {
    char name[80];
    int n_dims;
    int64_t shape[3];
    int dtype; /* lucid_dtype */
    int shard; /* -1: in none */
} fixture_tensor;

/* hidden 12, intermediate 10, vocabulary 9, 2 layers, 4 heads and 2 key-value heads of dimension 6. */
typedef struct {
    fixture_tensor tensors[FIXTURE_MAX_TENSORS];
    int n_tensors;
    const char *extra_keys; /* of config.json, each with a comma before it */
    int n_shards;           /* 0: model.safetensors */
    int header_padding;     /* bytes after the header: 1 puts floats where none can stand */
} fixture_model;

#define FIXTURE_CONFIG                                                                                                \
    "{\"model_type\":\"llama\",\"hidden_size\":12,\"intermediate_size\":10,\"vocab_size\":9,\"num_hidden_layers\":2," \
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":6"

static inline float fixture_value(const char *name, int64_t i) {
    uint32_t h = 2166136261u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 16777619u;
    h = (h ^ (uint32_t)i) * 16777619u;
    return (float)((int)(h >> 8 & 31) - 16) / 8;
}

static inline int64_t fixture_elements(const fixture_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->n_dims; i++) n *= t->shape[i];
    return n;
}

/* shape ends at the first 0. */
static inline fixture_tensor *fixture_add(fixture_model *m, const char *name, int64_t rows, int64_t columns,
                                          int dtype) {
    fixture_tensor *t = &m->tensors[m->n_tensors++];
    *t = (fixture_tensor){.n_dims = columns ? 2 : 1, .shape = {rows, columns}, .dtype = dtype};
    snprintf(t->name, sizeof t->name, "%s", name);
    return t;
}

static inline void fixture_add_layer(fixture_model *m, int layer, int dtype) {
    static const struct {
        const char *name;
        int rows, columns;
    } rows[] = {{"input_layernorm", 12, 0},   {"self_attn.q_proj", 24, 12}, {"self_attn.k_proj", 12, 12},
                {"self_attn.v_proj", 12, 12}, {"self_attn.o_proj", 12, 24}, {"post_attention_layernorm", 12, 0},
                {"mlp.gate_proj", 10, 12},    {"mlp.up_proj", 10, 12},      {"mlp.down_proj", 12, 10}};
    char name[80];
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, rows[r].name);
        fixture_add(m, name, rows[r].rows, rows[r].columns, dtype);
    }
}

/* A plain model; callers change it before it is written. */
static inline fixture_model fixture_make(int dtype) {
    fixture_model m = {.extra_keys = ""};
    fixture_add(&m, "model.embed_tokens.weight", 9, 12, dtype);
    fixture_add_layer(&m, 0, dtype);
    fixture_add_layer(&m, 1, dtype);
    fixture_add(&m, "model.norm.weight", 12, 0, dtype);
    fixture_add(&m, "lm_head.weight", 9, 12, dtype);
    return m;
}

static inline fixture_tensor *fixture_find(fixture_model *m, const char *name) {
    for (int i = 0; i < m->n_tensors; i++) {
        if (strcmp(m->tensors[i].name, name) == 0) return &m->tensors[i];
    }
    fprintf(stderr, "the fixture has no %s\n", name);
    exit(1);
}

static inline FILE *fixture_open(const char *folder, const char *name) {
    char path[512];
    int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    if (length < 0 || (size_t)length >= sizeof path) {
        fprintf(stderr, "%s/%s: too long a path\n", folder, name);
        exit(1);
    }
    FILE *file = fopen(path, "wb");
    if (!file) {
        perror(path);
        exit(1);
    }
    return file;
}

static inline void fixture_save(const char *folder, const char *name, const char *text) {
    FILE *file = fixture_open(folder, name);
    fputs(text, file);
    fclose(file);
}

static inline size_t fixture_header(char *header, size_t bytes, const fixture_model *m, int shard) {
    static const char *const dtypes[] = {[LUCID_F32] = "F32", [LUCID_BF16] = "BF16", [LUCID_F16] = "F16", "I32"};
    size_t n = (size_t)snprintf(header, bytes, "{\"__metadata__\":{\"format\":\"pt\"}");
    int64_t end = 0;
    for (int i = 0; i < m->n_tensors; i++) {
        const fixture_tensor *t = &m->tensors[i];
        if (t->shard != shard) continue;
        const int64_t begin = end;
        end += fixture_elements(t) * (t->dtype == LUCID_F32 || t->dtype > LUCID_F16 ? 4 : 2);
        n += (size_t)snprintf(header + n, bytes - n, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%lld", t->name,
                              dtypes[t->dtype], (long long)t->shape[0]);
        for (int d = 1; d < t->n_dims; d++)
            n += (size_t)snprintf(header + n, bytes - n, ",%lld", (long long)t->shape[d]);
        n += (size_t)snprintf(header + n, bytes - n, "],\"data_offsets\":[%lld,%lld]}", (long long)begin,
                              (long long)end);
    }
    n += (size_t)snprintf(header + n, bytes - n, "}");
    while (n % 8) header[n++] = ' ';
    for (int i = 0; i < m->header_padding; i++) header[n++] = ' ';
    return n;
}

static inline void fixture_write_shard(const fixture_model *m, const char *folder, const char *name, int shard) {
    static char header[1 << 16];
    const uint64_t n = fixture_header(header, sizeof header, m, shard);
    FILE *file = fixture_open(folder, name);
    fwrite(&n, sizeof n, 1, file);
    fwrite(header, 1, n, file);
    for (int i = 0; i < m->n_tensors; i++) {
        const fixture_tensor *t = &m->tensors[i];
        for (int64_t e = 0; t->shard == shard && e < fixture_elements(t); e++) {
            const float x = fixture_value(t->name, e);
            const lucid_dtype dtype = t->dtype > LUCID_F16 ? LUCID_F32 : (lucid_dtype)t->dtype;
            unsigned char bytes[4];
            lucid_narrow(bytes, dtype, &x, 1);
            fwrite(bytes, 1, lucid_dtype_bytes(dtype), file);
        }
    }
    fclose(file);
}

static inline void fixture_shard_name(char name[64], int shard) {
    snprintf(name, 64, "model-%05d.safetensors", shard);
}

static inline void fixture_write_index(const fixture_model *m, const char *folder) {
    char name[64];
    FILE *file = fixture_open(folder, "model.safetensors.index.json");
    fputs("{\"metadata\":{\"total_size\":1},\"weight_map\":{", file);
    for (int i = 0, n = 0; i < m->n_tensors; i++) {
        if (m->tensors[i].shard < 0) continue;
        fixture_shard_name(name, m->tensors[i].shard);
        fprintf(file, "%s\"%s\":\"%s\"", n++ ? "," : "", m->tensors[i].name, name);
    }
    fputs("}}", file);
    fclose(file);
}

/* config.json and the tensor files; with shards, tensors go to them in turn. */
static inline void fixture_write(fixture_model *m, const char *folder) {
    char text[2048];
    snprintf(text, sizeof text, FIXTURE_CONFIG "%s}", m->extra_keys);
    fixture_save(folder, "config.json", text);
    if (m->n_shards == 0) {
        fixture_write_shard(m, folder, "model.safetensors", 0);
        return;
    }
    for (int i = 0; i < m->n_tensors; i++) m->tensors[i].shard = i % m->n_shards;
    for (int s = 0; s < m->n_shards; s++) {
        fixture_shard_name(text, s);
        fixture_write_shard(m, folder, text, s);
    }
    fixture_write_index(m, folder);
}

#endif
