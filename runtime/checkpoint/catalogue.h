/* What a checkpoint's folder offers to a run that resumes: the sound manifests of all ranks that ever wrote there, and
 * for each row tile the blocks that hold it. Private to runtime/checkpoint. */
#ifndef LUCID_RUNTIME_CHECKPOINT_CATALOGUE_H
#define LUCID_RUNTIME_CHECKPOINT_CATALOGUE_H

#include "runtime/checkpoint/folder.h"
#include "runtime/checkpoint/manifest.h"

typedef struct {
    const lucid_manifest *manifest;
    const lucid_manifest_block *block;
} lucid_candidate;

typedef struct {
    lucid_manifest *manifests; /* (n_manifests) all of one job */
    int n_manifests;
    lucid_candidate *candidates; /* (n_candidates) by kind, channel, tile; the largest cursor first */
    int64_t n_candidates;
} lucid_catalogue;

/* Rank 0 reads the manifests and every rank gets them. A manifest that is damaged, or of another problem, is named in a
 * line on stderr and left out. Errors: INPUT with the first such line where none remains. Collective; agreed. */
lucid_status lucid_catalogue_open(lucid_catalogue *catalogue, lucid_comm *comm, const lucid_folder *folder,
                                  const lucid_problem *problem);
void lucid_catalogue_close(lucid_catalogue *catalogue); /* fine on a zeroed one */

/* The blocks of a row tile, *count of them. Pure. */
const lucid_candidate *lucid_catalogue_find(int64_t *count, const lucid_catalogue *catalogue, lucid_block_kind kind,
                                            int channel, int tile);

#endif
