/* Manifests as files: what is damaged or impossible is refused, and what is of another problem is told apart. */
#include "tests/capture_failure.h"

#include "runtime/checkpoint/manifest.h"
#include "runtime/files/checksum.h"

#include <stdlib.h>

static const lucid_problem problem = {.seqlen = 1000,
                                      .batch = 2,
                                      .n_heads = 4,
                                      .n_kv_heads = 2,
                                      .head_dim = 16,
                                      .value_dim = 8,
                                      .softmax_scale = 0,
                                      .eps = 0};

static char files[2][LUCID_MANIFEST_MAX_NAME];
static lucid_manifest_block blocks[2];

/* Tiles of 128: tile 7 is the last one. */
static lucid_manifest sound(void) {
    lucid_manifest m = lucid_manifest_make(&problem, "avx2", 128, 4);
    strcpy(files[0], "lucid-a.0.tiles");
    strcpy(files[1], "lucid-a.0.1.rows");
    blocks[0] = (lucid_manifest_block){.channel = 3, .tile = 7, .cursor = 8, .n_bytes = 4096};
    blocks[1] = (lucid_manifest_block){.kind = LUCID_BLOCK_STATES, .tile = 2, .cursor = 1, .file = 1, .n_bytes = 64};
    m.rank = 1;
    m.world_size = 2;
    m.input = 5;
    m.files = files;
    m.n_files = 2;
    m.blocks = blocks;
    m.n_blocks = 2;
    return m;
}

static lucid_status again(const lucid_manifest *m) {
    lucid_manifest got = {.rank = 77};
    uint8_t *bytes;
    size_t n;
    CHECK(lucid_manifest_encode(&bytes, &n, m) == LUCID_OK, "%s", last_failure);
    const lucid_status status = lucid_manifest_decode(&got, bytes, n, "file");
    CHECK(!status || got.rank == 77, "the manifest was set");
    if (!status) lucid_manifest_free(&got);
    free(bytes);
    return status;
}

/* No flip of a bit and no cut goes unnoticed. */
static void test_damage(void) {
    const lucid_manifest m = sound();
    lucid_manifest got;
    uint8_t *bytes;
    size_t n;
    CHECK(lucid_manifest_encode(&bytes, &n, &m) == LUCID_OK, "%s", last_failure);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        check_failed(lucid_manifest_decode(&got, bytes, n, "file"), LUCID_ERR_INPUT, "file: is damaged");
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t length = 0; length < n; length++)
        CHECK(lucid_manifest_decode(&got, bytes, length, "file") == LUCID_ERR_INPUT, "%zu of %zu bytes", length, n);
    free(bytes);
}

#define IMPOSSIBLE(statement, fragment)                        \
    do {                                                       \
        lucid_manifest m = sound();                            \
        statement;                                             \
        check_failed(again(&m), LUCID_ERR_INPUT, "" fragment); \
    } while (0)

static void test_impossible(void) {
    lucid_manifest unchanged = sound();
    CHECK(again(&unchanged) == LUCID_OK, "%s", last_failure);
    IMPOSSIBLE(m.seqlen = 0, "numbers are impossible");
    IMPOSSIBLE(m.seqlen = INT64_MAX, "numbers are impossible");
    IMPOSSIBLE(m.batch = -1, "numbers are impossible");
    IMPOSSIBLE(m.n_heads = 3, "numbers are impossible");
    IMPOSSIBLE(m.head_dim = 257, "numbers are impossible");
    IMPOSSIBLE(m.tile = 100, "numbers are impossible");
    IMPOSSIBLE(m.tile = 0, "numbers are impossible");
    IMPOSSIBLE(m.channels = 5, "numbers are impossible");
    IMPOSSIBLE(m.rank = 2, "numbers are impossible");
    IMPOSSIBLE((m.seqlen = INT64_C(1) << 36, m.tile = 64), "numbers are impossible");
    IMPOSSIBLE(strcpy(files[1], "../x"), "'../x' is no name");
    IMPOSSIBLE(strcpy(files[1], ".."), "'..' is no name");
    IMPOSSIBLE(strcpy(files[1], ""), "'' is no name");
    IMPOSSIBLE(blocks[0].channel = 4, "block 0 is impossible");
    IMPOSSIBLE(blocks[0].tile = 8, "block 0 is impossible");
    IMPOSSIBLE(blocks[0].cursor = 9, "block 0 is impossible");
    IMPOSSIBLE(blocks[1].cursor = 0, "block 1 is impossible");
    IMPOSSIBLE(blocks[1].file = 2, "block 1 is impossible");
    IMPOSSIBLE(blocks[1].file = -1, "block 1 is impossible");
    IMPOSSIBLE(blocks[1].offset = UINT64_MAX, "block 1 is impossible");
    IMPOSSIBLE((blocks[1].offset = 64, blocks[1].n_bytes = INT64_MAX), "block 1 is impossible");
}

/* Numbers that a caller leaves to their defaults are those defaults. */
static void test_match(void) {
    const lucid_manifest m = sound();
    lucid_problem other = problem;
    CHECK(lucid_manifest_match(&m, &other, "file") == LUCID_OK, "%s", last_failure);
    other.softmax_scale = 0.25;
    other.eps = 1e-5;
    CHECK(lucid_manifest_match(&m, &other, "file") == LUCID_OK, "%s", last_failure);
    other.eps = 1e-6;
    check_failed(lucid_manifest_match(&m, &other, "file"), LUCID_ERR_INPUT, "its eps is 1.0000000000000001e-05");
    other = problem;
    other.seqlen = 999;
    check_failed(lucid_manifest_match(&m, &other, "file"), LUCID_ERR_INPUT, "sequence length is 1000, not 999");
    other = problem;
    other.attention = LUCID_ATTENTION_SOFTMAX;
    check_failed(lucid_manifest_match(&m, &other, "file"), LUCID_ERR_INPUT, "attention (0: lucid, 1: softmax) is 0");
}

int main(void) {
    test_damage();
    test_impossible();
    test_match();
    return check_result();
}
