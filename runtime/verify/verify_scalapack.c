/* Verification of Y against ScaLAPACK. P is written out in fp64 on a grid of world_size x 1 processes, rows in blocks
 * dealt out in turn, so that every rank has whole rows; pdtrtrs replaces V by Y. */
#include "comm/watchdog.h"
#include "kernels/ref/dense.h"
#include "runtime/verify/scalapack.h"
#include "runtime/verify/verify.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 64

/* This rank's part of P Y = V, column-major as Fortran wants it. */
typedef struct {
    const lucid_scalapack *lib;
    int context, n, n_rhs, n_local, ld; /* n_local of the n rows are here */
    int p_descriptor[LUCID_SCALAPACK_DESCRIPTOR], y_descriptor[LUCID_SCALAPACK_DESCRIPTOR];
    float *k, *v, *y_given; /* (n, head_dim), (n, n_rhs), row-major and whole */
    double *kn;             /* (n, head_dim) */
    double *p;              /* (n_local, n) */
    double *y;              /* (n_local, n_rhs), V before */
} linear_system;

const char *lucid_scalapack_missing(const lucid_comm *comm) {
    const char *reason = NULL;
    if (strcmp(comm->transport->name, "mpi")) return "ScaLAPACK needs the transport mpi";
    return lucid_scalapack_load(&reason) ? NULL : reason;
}

/* Global row of local row l. */
static int64_t global_row(const lucid_comm *comm, int l) {
    return ((int64_t)(l / BLOCK) * comm->world_size + comm->rank) * BLOCK + l % BLOCK;
}

/* Refuses what would not fit, or what ScaLAPACK's int offsets could not address. Whole arrays of a few numbers a token
 * are little beside P, but counted. */
static lucid_status check_size(const lucid_comm *comm, const lucid_verify_head *head, size_t free_bytes) {
    const double n = (double)head->seqlen, dims = head->head_dim + head->value_dim;
    const double n_local = ceil(ceil(n / BLOCK) / comm->world_size) * BLOCK;
    const double bytes = 8 * n_local * n + 16 * n * dims;
    if (n_local * n > INT_MAX)
        return lucid_fail(LUCID_ERR_MEMORY, "%lld tokens over %d ranks are beyond what ScaLAPACK can address",
                          (long long)head->seqlen, comm->world_size);
    if (free_bytes && bytes > (double)free_bytes)
        return lucid_fail(LUCID_ERR_MEMORY, "P of %lld tokens needs %.2f GiB a rank, %.2f GiB are free",
                          (long long)head->seqlen, bytes / 0x1p30, (double)free_bytes / 0x1p30);
    return LUCID_OK;
}

static void *array(int64_t n, int64_t m, size_t each) {
    return malloc((size_t)n * (size_t)m * each);
}

static lucid_status system_allocate(linear_system *sys, const lucid_comm *comm, const lucid_verify_head *head) {
    const int64_t n = head->seqlen;
    const int d = head->head_dim, zero = 0, block = BLOCK;
    sys->n = (int)n;
    sys->n_rhs = head->value_dim;
    sys->n_local = sys->lib->numroc(&sys->n, &block, &comm->rank, &zero, &comm->world_size);
    sys->ld = sys->n_local > 0 ? sys->n_local : 1;
    sys->k = array(n, d, sizeof *sys->k);
    sys->v = array(n, sys->n_rhs, sizeof *sys->v);
    sys->y_given = array(n, sys->n_rhs, sizeof *sys->y_given);
    sys->kn = array(n, d, sizeof *sys->kn);
    sys->p = array(sys->ld, n, sizeof *sys->p);
    sys->y = array(sys->ld, sys->n_rhs, sizeof *sys->y);
    if (sys->k && sys->v && sys->y_given && sys->kn && sys->p && sys->y) return LUCID_OK;
    return lucid_fail(LUCID_ERR_MEMORY, "no memory for P of %lld tokens", (long long)n);
}

static void system_free(linear_system *sys) {
    free(sys->k), free(sys->v), free(sys->y_given), free(sys->kn), free(sys->p), free(sys->y);
}

static lucid_status share(lucid_comm *comm, float *to, const float *from, int64_t n) {
    if (comm->rank == 0) memcpy(to, from, (size_t)n * sizeof *to);
    return lucid_comm_broadcast(comm, to, (size_t)n * sizeof *to, 0);
}

static lucid_status share_head(linear_system *sys, lucid_comm *comm, const lucid_verify_head *head) {
    const int64_t n = head->seqlen;
    LUCID_TRY(share(comm, sys->k, head->k, n * head->head_dim));
    LUCID_TRY(share(comm, sys->v, head->v, n * head->value_dim));
    LUCID_TRY(share(comm, sys->y_given, head->y, n * head->value_dim));
    for (int64_t i = 0; i < n * head->head_dim; i++) sys->kn[i] = sys->k[i];
    lucid_dense_normalise(sys->kn, sys->kn, n, head->head_dim, head->eps ? head->eps : 1e-5);
    return LUCID_OK;
}

static void fill(linear_system *sys, const lucid_comm *comm, int d) {
    for (int l = 0; l < sys->n_local; l++) {
        const int64_t i = global_row(comm, l);
        for (int64_t j = 0; j < i; j++)
            sys->p[l + j * sys->ld] = lucid_dense_weight(sys->kn + i * d, sys->kn + j * d, d);
        sys->p[l + i * sys->ld] = 1;
        for (int64_t j = i + 1; j < sys->n; j++) sys->p[l + j * sys->ld] = 0;
        for (int64_t c = 0; c < sys->n_rhs; c++) sys->y[l + c * sys->ld] = sys->v[i * sys->n_rhs + c];
    }
}

/* All ranks return alike: what ScaLAPACK reports is global. */
static lucid_status solve(linear_system *sys) {
    const int zero = 0, one = 1, block = BLOCK;
    int info_p, info_y, info;
    sys->lib->descinit(sys->p_descriptor, &sys->n, &sys->n, &block, &block, &zero, &zero, &sys->context, &sys->ld,
                       &info_p);
    sys->lib->descinit(sys->y_descriptor, &sys->n, &sys->n_rhs, &block, &block, &zero, &zero, &sys->context, &sys->ld,
                       &info_y);
    if (info_p || info_y) return lucid_fail(LUCID_ERR_INTERNAL, "descinit gave %d and %d", info_p, info_y);
    sys->lib->pdtrtrs("L", "N", "U", &sys->n, &sys->n_rhs, sys->p, &one, &one, sys->p_descriptor, sys->y, &one, &one,
                      sys->y_descriptor, &info, 1, 1, 1);
    return info ? lucid_fail(LUCID_ERR_INTERNAL, "pdtrtrs gave %d", info) : LUCID_OK;
}

static lucid_status compare(double *error, lucid_comm *comm, const linear_system *sys) {
    double largest = 0, square = 0;
    for (int l = 0; l < sys->n_local; l++) {
        const float *given = sys->y_given + global_row(comm, l) * sys->n_rhs;
        double distance2 = 0;
        for (int64_t c = 0; c < sys->n_rhs; c++) {
            const double y = sys->y[l + c * sys->ld], difference = given[c] - y;
            distance2 += difference * difference;
            square += y * y;
        }
        if (!(distance2 <= largest)) largest = isnan(distance2) ? INFINITY : distance2;
    }
    LUCID_TRY(lucid_comm_allreduce(comm, &largest, 1, LUCID_MAX));
    LUCID_TRY(lucid_comm_allreduce(comm, &square, 1, LUCID_SUM));
    if (square > 0) largest /= square / sys->n;
    *error = sqrt(largest);
    return LUCID_OK;
}

static lucid_status check_library(linear_system *sys, const lucid_comm *comm) {
    const char *missing = lucid_scalapack_missing(comm);
    if (missing) return lucid_fail(LUCID_ERR_UNSUPPORTED, "%s", missing);
    sys->lib = lucid_scalapack_load(&missing);
    return LUCID_OK;
}

/* The grid's ranks are MPI_COMM_WORLD's, and so are ours. BLACS calls MPI on its own and waits without deadlines, so a
 * watchdog has one for it. */
static lucid_status solve_on_grid(linear_system *sys, lucid_comm *comm) {
    int rank, world_size;
    LUCID_TRY(lucid_comm_lend(comm));
    lucid_watchdog watchdog;
    lucid_watchdog_start(&watchdog, "ScaLAPACK", comm->options.timeout);
    sys->lib->pinfo(&rank, &world_size);
    sys->lib->get(-1, 0, &sys->context);
    sys->lib->gridinit(&sys->context, "R", comm->world_size, 1);
    const lucid_status status = solve(sys);
    sys->lib->gridexit(sys->context);
    lucid_watchdog_stop(&watchdog);
    const lucid_status reclaimed = lucid_comm_reclaim(comm);
    return status ? status : reclaimed;
}

lucid_status lucid_verify_scalapack(double *y_error, lucid_comm *comm, const lucid_verify_head *head,
                                    size_t free_bytes) {
    linear_system sys = {0};
    lucid_status status = check_library(&sys, comm);
    if (!status) status = check_size(comm, head, free_bytes);
    if (!status) status = system_allocate(&sys, comm, head);
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), free_system);
    LUCID_TRY_GOTO(share_head(&sys, comm, head), free_system);
    fill(&sys, comm, head->head_dim);
    LUCID_TRY_GOTO(solve_on_grid(&sys, comm), free_system);
    LUCID_TRY_GOTO(compare(y_error, comm, &sys), free_system);
free_system:
    system_free(&sys);
    return status;
}
