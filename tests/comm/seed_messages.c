/* Writes the inputs that fuzz_messages starts from into a folder: a job, reports with and without events, manifests of
 * caches and of a checkpoint. */
#include "comm/message_manifest.h"
#include "comm/messages.h"

#include <stdio.h>
#include <stdlib.h>

static void save(const char *folder, const char *name, int kind, const uint8_t *bytes, size_t n) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file || fputc(kind, file) == EOF || fwrite(bytes, 1, n, file) != n || fclose(file)) {
        perror(path);
        exit(1);
    }
}

static void save_job(const char *folder, const char *name, const lucid_job *job) {
    uint8_t *bytes;
    size_t n;
    if (lucid_message_pack_job(&bytes, &n, job)) exit(1);
    save(folder, name, 0, bytes, n);
    free(bytes);
}

static void save_report(const char *folder, const char *name, const lucid_rank_report *report) {
    uint8_t *bytes;
    size_t n;
    if (lucid_message_pack_report(&bytes, &n, report)) exit(1);
    save(folder, name, 1, bytes, n);
    free(bytes);
}

static void save_cache(const char *folder, const char *name, const lucid_cache_manifest *manifest) {
    uint8_t *bytes;
    size_t n;
    if (lucid_message_pack_cache(&bytes, &n, manifest)) exit(1);
    save(folder, name, 2, bytes, n);
    free(bytes);
}

static void save_manifest(const char *folder, const char *name) {
    char files[][LUCID_MANIFEST_MAX_NAME] = {"lucid-job.0.tiles", "lucid-job.0.1.rows"};
    lucid_manifest_block blocks[] = {{.cursor = 1, .n_bytes = 4096, .checksum = 1},
                                     {.kind = 1, .tile = 1, .cursor = 1, .file = 1, .offset = 64, .n_bytes = 4096}};
    const lucid_manifest manifest = {.seqlen = 128,
                                     .batch = 1,
                                     .n_heads = 1,
                                     .n_kv_heads = 1,
                                     .head_dim = 16,
                                     .value_dim = 16,
                                     .isa = "scalar",
                                     .tile = 64,
                                     .channels = 1,
                                     .world_size = 1,
                                     .files = files,
                                     .n_files = 2,
                                     .blocks = blocks,
                                     .n_blocks = 2};
    uint8_t *bytes;
    size_t n;
    if (lucid_message_pack_manifest(&bytes, &n, &manifest)) exit(1);
    save(folder, name, 3, bytes, n);
    free(bytes);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    const lucid_job empty = {0};
    char *words[] = {"lucid", "attend", "--input", "/data/\xc3\xa9.safetensors", ""};
    const lucid_job job = {.build = "1.0 (abc)", .job_id = "node-1", .words = words, .n_words = 5};
    lucid_report_event events[] = {{.end = 1, .phase = 2, .row = 3}, {.begin = 1, .end = 2, .phase = 4, .channel = 1}};
    lucid_rank_report report = {.rank = 1, .host = "node1", .wall = 1.5, .phase = {1, 2, 3, 4, 5}, .flops = 1e12};
    save_job(argv[1], "empty", &empty);
    save_job(argv[1], "job", &job);
    save_report(argv[1], "report", &report);
    report.events = events;
    report.n_events = 2;
    save_report(argv[1], "events", &report);
    int32_t ids[] = {1, 300, 70000};
    uint64_t checksums[] = {1, UINT64_C(1) << 63};
    lucid_cache_manifest manifest = {.fingerprint = "a model",
                                     .dtype = 1,
                                     .n_layers = 2,
                                     .n_kv_heads = 2,
                                     .head_dim = 68,
                                     .value_dim = 68,
                                     .eps = 1e-5,
                                     .tile = 64,
                                     .n_shards = 3};
    save_cache(argv[1], "no_tokens", &manifest);
    manifest.tokens = 3, manifest.token_ids = ids, manifest.n_tiles = 1, manifest.checksums = checksums;
    save_cache(argv[1], "cache", &manifest);
    save_manifest(argv[1], "manifest");
    return 0;
}
