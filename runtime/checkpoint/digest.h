/* Tells inputs apart by their numbers: a digest of all of q, k and v, taken while ranks read them. It does not depend
 * on who read what, nor on the file's name, time or layout, so a copy, or random numbers written to a file, count as
 * the same input.
 *
 * Each granule of a head has a checksum that begins with its coordinates; the digest is their sum modulo 2^64. */
#ifndef LUCID_RUNTIME_CHECKPOINT_DIGEST_H
#define LUCID_RUNTIME_CHECKPOINT_DIGEST_H

#include "runtime/lucid.h"

#include <stdatomic.h>

typedef struct {
    _Atomic uint64_t sum;
} lucid_digest;

/* Adds rows (n_tokens, dim) of dtype; first is a multiple of the granule. Thread-safe. Local. */
void lucid_digest_add(lucid_digest *digest, const void *rows, lucid_dtype dtype, lucid_tensor tensor, int batch,
                      int head, int64_t first, int n_tokens, int dim);

/* *all = the sum over all ranks. Collective. */
lucid_status lucid_digest_combine(uint64_t *all, lucid_comm *comm, const lucid_digest *digest);

#endif
