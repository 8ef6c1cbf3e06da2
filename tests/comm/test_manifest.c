/* Manifests of checkpoints: round trip, bytes that must be refused, limits. */
#include "tests/capture_failure.h"

#include "comm/message_manifest.h"

#include <stdlib.h>

/* No member is zero, so one that is lost on the way shows. */
static char sample_files[][LUCID_MANIFEST_MAX_NAME] = {"lucid-a.0.tiles", "lucid-a.0.7.rows"};

static lucid_manifest_block sample_blocks[] = {
    {.kind = 1, .channel = 2, .tile = 3, .cursor = 4, .file = 1, .offset = 5, .n_bytes = 6, .checksum = UINT64_MAX},
    {.channel = -1, .tile = -1, .cursor = -1, .file = -1, .offset = UINT64_MAX, .n_bytes = UINT64_MAX, .checksum = 7},
};

static const lucid_manifest sample_manifest = {
    .attention = 1,
    .seqlen = (int64_t)1 << 36,
    .batch = 2,
    .n_heads = 64,
    .n_kv_heads = 8,
    .head_dim = 68,
    .value_dim = 64,
    .softmax_scale = 0.125,
    .eps = 1e-6,
    .isa = "avx512",
    .tile = 512,
    .channels = 4,
    .input = UINT64_MAX - 1,
    .rank = 9,
    .world_size = 10,
    .files = sample_files,
    .n_files = 2,
    .blocks = sample_blocks,
    .n_blocks = 2,
};

static void test_manifest_round_trip(void) {
    uint8_t *bytes;
    size_t n;
    lucid_manifest got = {0};
    CHECK(lucid_message_pack_manifest(&bytes, &n, &sample_manifest) == LUCID_OK, "%s", last_failure);
    CHECK(lucid_message_unpack_manifest(&got, bytes, n, "m") == LUCID_OK, "%s", last_failure);
    free(bytes);
    CHECK(got.n_files == 2 && memcmp(got.files, sample_files, sizeof sample_files) == 0, "the files changed");
    CHECK(got.n_blocks == 2 && memcmp(got.blocks, sample_blocks, sizeof sample_blocks) == 0, "the blocks changed");
    free(got.files);
    free(got.blocks);
    got.files = sample_files;
    got.blocks = sample_blocks;
    CHECK(memcmp(&got, &sample_manifest, sizeof got) == 0, "the manifest changed");
}

static void test_refused_manifests(void) {
    static const struct {
        const char *fragment;
        size_t n;
        uint8_t bytes[20];
    } refused[] = {
        {"is no manifest", 4, {8, 1, 0x12, 0}},
        {"malformed", 4, {8, 1, 0x22, 1}},
        {"attention has no value 2", 6, {8, 1, 0x22, 2, 8, 2}},
        {"kind has no value 2", 9, {8, 1, 0x22, 5, 0x8a, 1, 2, 8, 2}},
        {"Block has an unknown field 9", 9, {8, 1, 0x22, 5, 0x8a, 1, 2, 0x48, 5}},
        {"files is not UTF-8", 8, {8, 1, 0x22, 4, 0x82, 1, 1, 0}},
        {"softmax_scale is not finite", 13, {8, 1, 0x22, 9, 0x41, 0, 0, 0, 0, 0, 0, 0xf0, 0x7f}},
    };
    for (int i = 0; i < COUNT(refused); i++) {
        lucid_manifest manifest = {.rank = 77};
        check_failed(lucid_message_unpack_manifest(&manifest, refused[i].bytes, refused[i].n, "file"), LUCID_ERR_INPUT,
                     refused[i].fragment);
        CHECK(manifest.rank == 77 && !manifest.blocks, "case %d: the manifest was set", i);
    }
}

/* The greatest block that can be made, a million times, is within the limit. */
static void test_limits(void) {
    lucid_manifest_block block = {1, -1, -1, -1, -1, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    lucid_manifest manifest = {.rank = 1, .blocks = &block};
    uint8_t *bytes;
    size_t n_without, n;
    CHECK(lucid_message_pack_manifest(&bytes, &n_without, &manifest) == LUCID_OK, "%s", last_failure);
    free(bytes);
    manifest.n_blocks = 1;
    CHECK(lucid_message_pack_manifest(&bytes, &n, &manifest) == LUCID_OK, "%s", last_failure);
    free(bytes);
    CHECK((n - n_without) * LUCID_MANIFEST_MAX_BLOCKS + 1000000 < LUCID_MANIFEST_MAX_BYTES, "%zu bytes a block",
          n - n_without);
    manifest.n_blocks = LUCID_MANIFEST_MAX_BLOCKS + 1;
    check_failed(lucid_message_pack_manifest(&bytes, &n, &manifest), LUCID_ERR_USAGE, "1000001 blocks");
    manifest = sample_manifest;
    memset(manifest.isa, 'a', sizeof manifest.isa);
    check_failed(lucid_message_pack_manifest(&bytes, &n, &manifest), LUCID_ERR_USAGE, "isa is longer than 15 bytes");
}

int main(void) {
    test_manifest_round_trip();
    test_refused_manifests();
    test_limits();
    return check_result();
}
