/* Judges a finished run by references that share nothing with it: the dense oracle in fp64, and ScaLAPACK's triangular
 * solver on a P that is really written out. Both cost O(seqlen^2) time; ScaLAPACK O(seqlen^2 / world_size) memory too.
 */
#ifndef LUCID_RUNTIME_VERIFY_VERIFY_H
#define LUCID_RUNTIME_VERIFY_VERIFY_H

#include "runtime/lucid.h"

/* One key-value head, its query heads, and what the run made of them. The numbers are the same on every rank; the
 * tensors are gathered on rank 0 (NULL elsewhere), row-major and contiguous. */
typedef struct {
    lucid_attention_kind attention;
    int64_t seqlen;
    int head_dim, value_dim;
    int n_queries;             /* query heads that read this key-value head */
    double softmax_scale, eps; /* 0: as in lucid_problem */
    const float *q;            /* (n_queries, seqlen, head_dim) */
    const float *k, *v;        /* (seqlen, head_dim), (seqlen, value_dim) */
    const float *y, *out;      /* (seqlen, value_dim), (n_queries, seqlen, value_dim) */
    const float *lse;          /* (n_queries, seqlen) */
} lucid_verify_head;

/* Row-wise errors, see lucid_dense_row_error; of lse the largest absolute difference. The same on every rank. */
typedef struct {
    double y, out, lse;
} lucid_verify_errors;

/* Against the dense oracle, from the inputs alone: out is judged by the oracle's own Y. Every rank holds the head in
 * fp64 and takes its share of the rows. Collective. */
lucid_status lucid_verify_dense(lucid_verify_errors *errors, lucid_comm *comm, const lucid_verify_head *head);

/* In lucid_scalapack: y alone, against pdtrtrs on P in fp64, block-cyclic over all ranks. free_bytes: what this rank
 * may still allocate (0: unlimited). Errors: MEMORY when P does not fit; UNSUPPORTED where lucid_scalapack_missing says
 * why. Collective. */
lucid_status lucid_verify_scalapack(double *y_error, lucid_comm *comm, const lucid_verify_head *head,
                                    size_t free_bytes);

/* NULL when lucid_verify_scalapack can run, else the reason. ScaLAPACK is loaded here, not linked, so that a program
 * with this in it starts without it and without a BLAS. It needs the transport mpi, which opens by name without a
 * launcher too. Local. */
const char *lucid_scalapack_missing(const lucid_comm *comm);

#endif
