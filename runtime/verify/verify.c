/* Verification against the dense oracle. Rank 0 broadcasts the head, rows are shared out: Y by a right-looking forward
 * substitution over blocks of rows dealt out in turn (each finished block is broadcast), out by rows dealt out in turn.
 */
#include "runtime/verify/verify.h"

#include "kernels/ref/dense.h"

#include <math.h>
#include <stdlib.h>

#define BLOCK_ROWS 128

/* The head on every rank, in fp64. Arrays of (seqlen, head_dim), (seqlen, value_dim). */
typedef struct {
    double *k, *v, *y_given; /* inputs and the run's result */
    double *kn, *y;          /* the oracle's */
    float *staging;          /* (seqlen, max(head_dim, value_dim)), what travels */
    double *query, *out;     /* (seqlen, head_dim), (seqlen, value_dim): one query head, given */
    double *lse, *row;       /* (seqlen) given; (value_dim) */
} reference;

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static void reference_free(reference *ref) {
    free(ref->k), free(ref->v), free(ref->y_given), free(ref->kn), free(ref->y);
    free(ref->staging), free(ref->query), free(ref->out), free(ref->lse), free(ref->row);
}

static double *array(int64_t n_rows, int dim) {
    size_t bytes;
    if (__builtin_mul_overflow((size_t)n_rows, (size_t)dim * sizeof(double), &bytes)) return NULL;
    return malloc(bytes);
}

static lucid_status reference_allocate(reference *ref, const lucid_verify_head *head) {
    const int64_t n = head->seqlen;
    const int d = head->head_dim, dv = head->value_dim;
    *ref = (reference){.k = array(n, d),
                       .v = array(n, dv),
                       .y_given = array(n, dv),
                       .kn = array(n, d),
                       .y = array(n, dv),
                       .staging = (float *)array(n, d > dv ? d : dv),
                       .query = array(n, d),
                       .out = array(n, dv),
                       .lse = array(n, 1),
                       .row = array(1, dv)};
    if (ref->k && ref->v && ref->y_given && ref->kn && ref->y && ref->staging && ref->query && ref->out && ref->lse &&
        ref->row)
        return LUCID_OK;
    return lucid_fail(LUCID_ERR_MEMORY, "no memory to verify %lld tokens", (long long)n);
}

/* to = from of rank 0, on every rank. */
static lucid_status share(lucid_comm *comm, double *to, const float *from, float *staging, int64_t n_rows, int dim) {
    const int64_t n = n_rows * dim;
    for (int64_t i = 0; comm->rank == 0 && i < n; i++) staging[i] = from[i];
    LUCID_TRY(lucid_comm_broadcast(comm, staging, (size_t)n * sizeof *staging, 0));
    for (int64_t i = 0; i < n; i++) to[i] = staging[i];
    return LUCID_OK;
}

static lucid_status share_head(lucid_comm *comm, reference *ref, const lucid_verify_head *head) {
    LUCID_TRY(share(comm, ref->k, head->k, ref->staging, head->seqlen, head->head_dim));
    LUCID_TRY(share(comm, ref->v, head->v, ref->staging, head->seqlen, head->value_dim));
    return share(comm, ref->y_given, head->y, ref->staging, head->seqlen, head->value_dim);
}

/* Rows first..end-1 of Y take in the finished rows done..done_end-1. */
static void update_rows(reference *ref, const lucid_verify_head *head, int64_t first, int64_t end, int64_t done,
                        int64_t done_end) {
    const int d = head->head_dim, dv = head->value_dim;
    for (int64_t i = first; i < end; i++)
        lucid_dense_update_row(ref->y + i * dv, ref->kn, ref->y, i, done, min64(done_end, i), d, dv);
}

static lucid_status solve(lucid_comm *comm, reference *ref, const lucid_verify_head *head) {
    const int64_t n = head->seqlen, n_blocks = (n + BLOCK_ROWS - 1) / BLOCK_ROWS;
    const int dv = head->value_dim;
    for (int64_t i = 0; i < n * dv; i++) ref->y[i] = ref->v[i];
    if (head->attention == LUCID_ATTENTION_SOFTMAX) return LUCID_OK;
    lucid_dense_normalise(ref->kn, ref->k, n, head->head_dim, head->eps ? head->eps : 1e-5);
    for (int64_t b = 0; b < n_blocks; b++) {
        const int owner = (int)(b % comm->world_size);
        const int64_t first = b * BLOCK_ROWS, end = min64(n, first + BLOCK_ROWS);
        if (comm->rank == owner) update_rows(ref, head, first, end, first, end);
        LUCID_TRY(
            lucid_comm_broadcast(comm, ref->y + first * dv, (size_t)((end - first) * dv) * sizeof *ref->y, owner));
        const int64_t next = b + 1 + (comm->rank - owner - 1 + 2 * comm->world_size) % comm->world_size;
        for (int64_t own = next; own < n_blocks; own += comm->world_size)
            update_rows(ref, head, own * BLOCK_ROWS, min64(n, (own + 1) * BLOCK_ROWS), first, end);
    }
    return LUCID_OK;
}

/* fmax would pass over a NaN; infinity survives the reduction over ranks, too. */
static double max_or_infinity(double a, double b) {
    return isnan(a) || isnan(b) ? INFINITY : fmax(a, b);
}

/* Compares this rank's rows of one query head. sums: largest squared distance, largest error of lse; square of ref. */
static void compare_rows(const lucid_comm *comm, reference *ref, const lucid_verify_head *head, double largest[2],
                         double *square) {
    const int d = head->head_dim, dv = head->value_dim;
    const double scale = head->softmax_scale ? head->softmax_scale : 1 / sqrt(d);
    for (int64_t i = comm->rank; i < head->seqlen; i += comm->world_size) {
        double lse, distance2 = 0;
        lucid_dense_attend_row(ref->row, &lse, ref->query + i * d, ref->k, ref->y, i, d, dv, scale);
        for (int c = 0; c < dv; c++) {
            const double difference = ref->out[i * dv + c] - ref->row[c];
            distance2 += difference * difference;
            *square += ref->row[c] * ref->row[c];
        }
        largest[0] = max_or_infinity(largest[0], distance2);
        largest[1] = max_or_infinity(largest[1], fabs(ref->lse[i] - lse));
    }
}

static lucid_status compare_query_head(lucid_verify_errors *errors, lucid_comm *comm, reference *ref,
                                       const lucid_verify_head *head, int h) {
    const int64_t n = head->seqlen;
    const bool root = comm->rank == 0;
    LUCID_TRY(share(comm, ref->query, root ? head->q + h * n * head->head_dim : NULL, ref->staging, n, head->head_dim));
    LUCID_TRY(
        share(comm, ref->out, root ? head->out + h * n * head->value_dim : NULL, ref->staging, n, head->value_dim));
    LUCID_TRY(share(comm, ref->lse, root ? head->lse + h * n : NULL, ref->staging, n, 1));
    double largest[2] = {0, 0}, square = 0;
    compare_rows(comm, ref, head, largest, &square);
    LUCID_TRY(lucid_comm_allreduce(comm, largest, 2, LUCID_MAX));
    LUCID_TRY(lucid_comm_allreduce(comm, &square, 1, LUCID_SUM));
    if (square > 0) largest[0] /= square / (double)n;
    errors->out = max_or_infinity(errors->out, sqrt(largest[0]));
    errors->lse = max_or_infinity(errors->lse, largest[1]);
    return LUCID_OK;
}

lucid_status lucid_verify_dense(lucid_verify_errors *errors, lucid_comm *comm, const lucid_verify_head *head) {
    reference ref;
    lucid_verify_errors found = {0};
    lucid_status status = reference_allocate(&ref, head);
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), free_reference);
    LUCID_TRY_GOTO(share_head(comm, &ref, head), free_reference);
    LUCID_TRY_GOTO(solve(comm, &ref, head), free_reference);
    found.y = max_or_infinity(0, lucid_dense_row_error(ref.y_given, ref.y, head->seqlen, head->value_dim));
    for (int h = 0; h < head->n_queries; h++)
        LUCID_TRY_GOTO(compare_query_head(&found, comm, &ref, head, h), free_reference);
    *errors = found;
free_reference:
    reference_free(&ref);
    return status;
}
