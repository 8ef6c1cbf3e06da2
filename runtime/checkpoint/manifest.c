#include "runtime/checkpoint/manifest.h"

#include "runtime/files/checksum.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Defaults are spelled out, so that a number given and the same number left out are the same problem. */
lucid_manifest lucid_manifest_make(const lucid_problem *p, const char *isa, int64_t tile, int channels) {
    lucid_manifest m = {
        .attention = p->attention,
        .seqlen = p->seqlen,
        .batch = p->batch,
        .n_heads = p->n_heads,
        .n_kv_heads = p->n_kv_heads,
        .head_dim = p->head_dim,
        .value_dim = p->value_dim,
        .softmax_scale = p->softmax_scale == 0 ? 1 / sqrt(p->head_dim) : p->softmax_scale,
        .eps = p->eps > 0 ? p->eps : 1e-5,
        .tile = tile,
        .channels = channels,
    };
    strncpy(m.isa, isa, sizeof m.isa - 1);
    return m;
}

lucid_status lucid_manifest_encode(uint8_t **bytes, size_t *n_bytes, const lucid_manifest *manifest) {
    uint8_t *message;
    size_t n;
    LUCID_TRY(lucid_message_pack_manifest(&message, &n, manifest));
    const uint64_t checksum = lucid_checksum(0, message, n);
    uint8_t *all = realloc(message, n + sizeof checksum);
    if (!all) {
        free(message);
        return lucid_fail(LUCID_ERR_MEMORY, "no memory for a manifest of %zu bytes", n);
    }
    memcpy(all + n, &checksum, sizeof checksum);
    *bytes = all;
    *n_bytes = n + sizeof checksum;
    return LUCID_OK;
}

/* Limits as those of the runtime, so that no product below overflows. */
static lucid_status check_numbers(const lucid_manifest *m, const char *name) {
    const bool sound = m->seqlen >= 1 && m->seqlen <= INT64_C(1) << 36 && m->batch >= 1 && m->n_kv_heads >= 1 &&
                       m->n_heads >= m->n_kv_heads && m->n_heads % m->n_kv_heads == 0 && m->head_dim >= 1 &&
                       m->head_dim <= LUCID_MAX_HEAD_DIM && m->value_dim >= 1 && m->value_dim <= LUCID_MAX_HEAD_DIM &&
                       m->tile >= LUCID_GRANULE && m->tile <= INT64_C(1) << 24 && m->tile % LUCID_GRANULE == 0 &&
                       m->channels >= 1 && m->channels <= (int64_t)m->batch * m->n_kv_heads && m->world_size >= 1 &&
                       m->rank >= 0 && m->rank < m->world_size &&
                       (m->seqlen + m->tile - 1) / m->tile < INT32_MAX / LUCID_N_BLOCK_KINDS / m->channels;
    return sound ? LUCID_OK : lucid_fail(LUCID_ERR_INPUT, "%s: its numbers are impossible", name);
}

static lucid_status check_files(const lucid_manifest *m, const char *name) {
    for (int64_t i = 0; i < m->n_files; i++)
        if (!m->files[i][0] || strchr(m->files[i], '/') || m->files[i][0] == '.')
            return lucid_fail(LUCID_ERR_INPUT, "%s: '%s' is no name of a file of a checkpoint", name, m->files[i]);
    return LUCID_OK;
}

static lucid_status check_blocks(const lucid_manifest *m, const char *name) {
    const int64_t n_tiles = (m->seqlen + m->tile - 1) / m->tile;
    for (int64_t i = 0; i < m->n_blocks; i++) {
        const lucid_manifest_block *b = &m->blocks[i];
        if (b->channel < 0 || b->channel >= m->channels || b->tile < 0 || b->tile >= n_tiles || b->cursor < 1 ||
            b->cursor > b->tile + 1 || b->file < 0 || b->file >= m->n_files || b->offset > INT64_MAX ||
            b->n_bytes > (uint64_t)INT64_MAX - b->offset)
            return lucid_fail(LUCID_ERR_INPUT, "%s: block %" PRId64 " is impossible", name, i);
    }
    return LUCID_OK;
}

static lucid_status check(const lucid_manifest *m, const char *name) {
    LUCID_TRY(check_numbers(m, name));
    LUCID_TRY(check_files(m, name));
    return check_blocks(m, name);
}

lucid_status lucid_manifest_decode(lucid_manifest *manifest, const uint8_t *bytes, size_t n_bytes, const char *name) {
    lucid_manifest m = {0};
    uint64_t checksum;
    if (n_bytes < sizeof checksum) return lucid_fail(LUCID_ERR_INPUT, "%s: has only %zu bytes", name, n_bytes);
    const size_t n = n_bytes - sizeof checksum;
    memcpy(&checksum, bytes + n, sizeof checksum);
    if (checksum != lucid_checksum(0, bytes, n))
        return lucid_fail(LUCID_ERR_INPUT, "%s: is damaged: its checksum does not match", name);
    LUCID_TRY(lucid_message_unpack_manifest(&m, bytes, n, name));
    const lucid_status status = check(&m, name);
    if (status)
        lucid_manifest_free(&m);
    else
        *manifest = m;
    return status;
}

static lucid_status differs(const char *name, const char *what, double theirs, double ours) {
    return lucid_fail(LUCID_ERR_INPUT, "%s: is a checkpoint of another problem: its %s is %.17g, not %.17g", name, what,
                      theirs, ours);
}

lucid_status lucid_manifest_match(const lucid_manifest *m, const lucid_problem *problem, const char *name) {
    const lucid_manifest want = lucid_manifest_make(problem, "", 0, 0);
    const struct {
        const char *what;
        double theirs, ours;
    } numbers[] = {
        {"attention (0: lucid, 1: softmax)", m->attention, want.attention},
        {"sequence length", (double)m->seqlen, (double)want.seqlen},
        {"batch", m->batch, want.batch},
        {"number of query heads", m->n_heads, want.n_heads},
        {"number of key-value heads", m->n_kv_heads, want.n_kv_heads},
        {"head_dim", m->head_dim, want.head_dim},
        {"value_dim", m->value_dim, want.value_dim},
        {"softmax_scale", m->softmax_scale, want.softmax_scale},
        {"eps", m->eps, want.eps},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].theirs != numbers[i].ours)
            return differs(name, numbers[i].what, numbers[i].theirs, numbers[i].ours);
    return LUCID_OK;
}
