/* Fuzzes manifests with right checksums: what is accepted has only numbers that a reader may rely on. */
#include "runtime/checkpoint/manifest.h"
#include "runtime/files/checksum.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void check_block(const lucid_manifest *m, const lucid_manifest_block *b) {
    if (b->kind < 0 || b->kind >= LUCID_N_BLOCK_KINDS || b->file < 0 || b->file >= m->n_files) abort();
    if (b->channel < 0 || b->channel >= m->channels || b->cursor > b->tile + 1) abort();
    if (b->tile < 0 || (b->tile > 0 && (int64_t)b->tile * m->tile >= m->seqlen)) abort();
    if (b->offset + b->n_bytes < b->offset) abort();
    if (strchr(m->files[b->file], '/')) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    lucid_manifest m;
    const uint64_t checksum = lucid_checksum(0, bytes, n);
    uint8_t *all = malloc(n + sizeof checksum);
    if (!all) return 0;
    if (n) memcpy(all, bytes, n);
    memcpy(all + n, &checksum, sizeof checksum);
    if (lucid_manifest_decode(&m, all, n + sizeof checksum, "fuzz") == LUCID_OK) {
        for (int64_t i = 0; i < m.n_blocks; i++) check_block(&m, &m.blocks[i]);
        lucid_manifest_free(&m);
    }
    free(all);
    return 0;
}
