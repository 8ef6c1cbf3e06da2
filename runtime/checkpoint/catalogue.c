#include "runtime/checkpoint/catalogue.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The bytes of sound manifests, each after its length, as they travel from rank 0 to all. */
typedef struct {
    uint8_t *bytes;
    size_t n_bytes;
} parcel;

static lucid_status append(parcel *p, const uint8_t *bytes, uint64_t n_bytes) {
    uint8_t *grown = realloc(p->bytes, p->n_bytes + sizeof n_bytes + n_bytes);
    if (!grown) return lucid_fail(LUCID_ERR_MEMORY, "no memory for a manifest of %" PRIu64 " bytes", n_bytes);
    memcpy(grown + p->n_bytes, &n_bytes, sizeof n_bytes);
    memcpy(grown + p->n_bytes + sizeof n_bytes, bytes, n_bytes);
    p->bytes = grown;
    p->n_bytes += sizeof n_bytes + n_bytes;
    return LUCID_OK;
}

/* Runs of one problem that share a folder go on from each other, so they cut it alike and have the same input. */
static lucid_status check_same_job(const lucid_manifest *m, const lucid_manifest *first, const char *name) {
    if (strcmp(m->isa, first->isa) == 0 && m->tile == first->tile && m->channels == first->channels &&
        m->input == first->input)
        return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s: is of another job than others in its folder", name);
}

/* *first is the first sound manifest, for comparison; rank -1: none yet. */
static lucid_status add_manifest(parcel *p, lucid_manifest *first, const lucid_folder *folder, const char *file,
                                 const lucid_problem *problem) {
    char name[512];
    uint8_t *bytes;
    size_t n_bytes;
    lucid_manifest manifest = {0};
    snprintf(name, sizeof name, "%s/%s", folder->path, file);
    LUCID_TRY(lucid_folder_read_all(&bytes, &n_bytes, folder, file, LUCID_MANIFEST_MAX_BYTES + sizeof(uint64_t)));
    lucid_status status = lucid_manifest_decode(&manifest, bytes, n_bytes, name);
    if (!status) status = lucid_manifest_match(&manifest, problem, name);
    if (!status && first->rank >= 0) status = check_same_job(&manifest, first, name);
    if (!status) status = append(p, bytes, n_bytes);
    if (!status && first->rank < 0) {
        *first = manifest;
        manifest = (lucid_manifest){0};
    }
    lucid_manifest_free(&manifest);
    free(bytes);
    return status;
}

static lucid_status none_found(const lucid_folder *folder, const char *refusal) {
    if (refusal[0]) return lucid_fail(LUCID_ERR_INPUT, "%s", refusal);
    return lucid_fail(LUCID_ERR_INPUT, "%s: there is no checkpoint to resume from", folder->path);
}

static lucid_status read_all(parcel *p, const lucid_folder *folder, const lucid_problem *problem) {
    char **names, first_refusal[512] = "";
    int n_names;
    lucid_manifest first = {.rank = -1};
    LUCID_TRY(lucid_folder_list(&names, &n_names, folder, LUCID_FOLDER_MANIFEST));
    for (int i = 0; i < n_names; i++) {
        char line[512];
        lucid_failure_divert(line, sizeof line);
        const lucid_status status = add_manifest(p, &first, folder, names[i], problem);
        lucid_failure_divert(NULL, 0);
        if (!status) continue;
        if (p->n_bytes || i + 1 < n_names) fprintf(stderr, "lucid: %s; it is left out\n", line);
        if (!first_refusal[0]) memcpy(first_refusal, line, sizeof line);
    }
    free(names);
    lucid_manifest_free(&first);
    return p->n_bytes ? LUCID_OK : none_found(folder, first_refusal);
}

static lucid_status share(parcel *p, lucid_comm *comm) {
    LUCID_TRY(lucid_comm_broadcast(comm, &p->n_bytes, sizeof p->n_bytes, 0));
    if (comm->rank) p->bytes = malloc(p->n_bytes);
    const lucid_status status =
        p->bytes ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for %zu bytes of manifests", p->n_bytes);
    LUCID_TRY(lucid_comm_agree(comm, status));
    return lucid_comm_broadcast(comm, p->bytes, p->n_bytes, 0);
}

static lucid_status unpack(lucid_catalogue *c, const parcel *p) {
    uint64_t n_bytes;
    for (size_t at = 0; at < p->n_bytes; at += n_bytes) {
        lucid_manifest *grown = realloc(c->manifests, ((size_t)c->n_manifests + 1) * sizeof *grown);
        if (!grown) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %d manifests", c->n_manifests + 1);
        c->manifests = grown;
        memcpy(&n_bytes, p->bytes + at, sizeof n_bytes);
        at += sizeof n_bytes;
        LUCID_TRY(lucid_manifest_decode(&c->manifests[c->n_manifests], p->bytes + at, n_bytes, "manifest"));
        c->n_candidates += c->manifests[c->n_manifests++].n_blocks;
    }
    return LUCID_OK;
}

static int compare_rows(const lucid_manifest_block *a, const lucid_manifest_block *b) {
    if (a->kind != b->kind) return a->kind < b->kind ? -1 : 1;
    if (a->channel != b->channel) return a->channel < b->channel ? -1 : 1;
    return (a->tile > b->tile) - (a->tile < b->tile);
}

static int compare(const void *x, const void *y) {
    const lucid_manifest_block *a = ((const lucid_candidate *)x)->block, *b = ((const lucid_candidate *)y)->block;
    const int order = compare_rows(a, b);
    return order ? order : (a->cursor < b->cursor) - (a->cursor > b->cursor);
}

static lucid_status sort(lucid_catalogue *c) {
    c->candidates = malloc(((size_t)c->n_candidates + 1) * sizeof *c->candidates);
    if (!c->candidates) return lucid_fail(LUCID_ERR_MEMORY, "no memory for %" PRId64 " blocks", c->n_candidates);
    int64_t n = 0;
    for (int i = 0; i < c->n_manifests; i++)
        for (int64_t b = 0; b < c->manifests[i].n_blocks; b++)
            c->candidates[n++] = (lucid_candidate){&c->manifests[i], &c->manifests[i].blocks[b]};
    qsort(c->candidates, (size_t)n, sizeof *c->candidates, compare);
    return LUCID_OK;
}

lucid_status lucid_catalogue_open(lucid_catalogue *catalogue, lucid_comm *comm, const lucid_folder *folder,
                                  const lucid_problem *problem) {
    parcel p = {0};
    lucid_catalogue c = {0};
    lucid_status status = comm->rank == 0 ? read_all(&p, folder, problem) : LUCID_OK;
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), free_parcel);
    LUCID_TRY_GOTO(share(&p, comm), free_parcel);
    status = unpack(&c, &p);
    if (!status) status = sort(&c);
    status = lucid_comm_agree(comm, status);
    if (status)
        lucid_catalogue_close(&c);
    else
        *catalogue = c;
free_parcel:
    free(p.bytes);
    return status;
}

void lucid_catalogue_close(lucid_catalogue *catalogue) {
    for (int i = 0; i < catalogue->n_manifests; i++) lucid_manifest_free(&catalogue->manifests[i]);
    free(catalogue->manifests);
    free(catalogue->candidates);
    *catalogue = (lucid_catalogue){0};
}

const lucid_candidate *lucid_catalogue_find(int64_t *count, const lucid_catalogue *c, lucid_block_kind kind,
                                            int channel, int tile) {
    const lucid_manifest_block wanted = {.kind = (int)kind, .channel = channel, .tile = tile};
    int64_t low = 0, high = c->n_candidates;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (compare_rows(c->candidates[middle].block, &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (*count = 0; low + *count < c->n_candidates; ++*count)
        if (compare_rows(c->candidates[low + *count].block, &wanted)) break;
    return c->candidates + low;
}
