/* Writes a manifest without its checksum into a folder, for fuzz_manifest to start from. */
#include "runtime/checkpoint/manifest.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    char files[][LUCID_MANIFEST_MAX_NAME] = {"lucid-a.0.tiles", "lucid-a.0.1.rows"}, path[1024];
    lucid_manifest_block blocks[] = {{.tile = 1, .cursor = 2, .n_bytes = 4096, .checksum = 1},
                                     {.kind = 1, .tile = 1, .cursor = 1, .file = 1, .offset = 64, .n_bytes = 4096}};
    const lucid_problem problem = {
        .seqlen = 128, .batch = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = 16, .value_dim = 16};
    lucid_manifest m = lucid_manifest_make(&problem, "scalar", 64, 1);
    uint8_t *bytes;
    size_t n;
    m.world_size = 1;
    m.files = files;
    m.n_files = 2;
    m.blocks = blocks;
    m.n_blocks = 2;
    if (argc != 2 || lucid_message_pack_manifest(&bytes, &n, &m)) return 1;
    snprintf(path, sizeof path, "%s/manifest", argv[1]);
    FILE *file = fopen(path, "wb");
    const int bad = !file || fwrite(bytes, 1, n, file) != n || fclose(file);
    free(bytes);
    return bad;
}
