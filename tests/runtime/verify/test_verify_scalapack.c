/* ScaLAPACK's Y against the oracle's, for a seqlen that no block, and no number of ranks, divides. */
#include "tests/runtime/verify/verify_fixture.h"

#include <string.h>

static double verify(lucid_comm *comm, const fixture *f) {
    double error = -1;
    REQUIRE(lucid_verify_scalapack(&error, comm, &f->head, 0));
    return error;
}

static void right_and_wrong(lucid_comm *comm) {
    fixture *f = fixture_new(LUCID_ATTENTION_LUCID);
    fixture_hide(f, comm);
    CHECK_NEAR(verify(comm, f), 0, 2e-7, "the oracle's y, rounded to fp32");
    const double by = fixture_share(f->yd, FIXTURE_N, FIXTURE_DV, 0.25);
    f->y[FIXTURE_N * FIXTURE_DV - 1] += 0.25f;
    CHECK_NEAR(verify(comm, f), by, 1e-6, "0.25 in the last number of y");
    memcpy(f->y, f->v, sizeof f->y);
    CHECK(verify(comm, f) > 0.1, "without a solve the error is only %g", verify(comm, f));
    f->y[5] = NAN;
    CHECK(isinf(verify(comm, f)), "NaN gave the error %g", verify(comm, f));
    free(f);
}

static void fewer_rows_than_ranks(lucid_comm *comm) {
    fixture *f = fixture_new(LUCID_ATTENTION_LUCID);
    f->head.seqlen = 1;
    fixture_hide(f, comm);
    CHECK_NEAR(verify(comm, f), 0, 2e-7, "a single token");
    free(f);
}

/* Last: from here on the recorded failure stays. */
static void what_does_not_fit_is_refused(lucid_comm *comm) {
    fixture *f = fixture_new(LUCID_ATTENTION_LUCID);
    double error = -1;
    lucid_status status = lucid_verify_scalapack(&error, comm, &f->head, 1000);
    CHECK(status == LUCID_ERR_MEMORY, "P in 1000 bytes: status %d", (int)status);
    f->head.seqlen = (int64_t)1 << 40;
    status = lucid_verify_scalapack(&error, comm, &f->head, 0);
    CHECK(status == LUCID_ERR_MEMORY, "2^40 tokens: status %d", (int)status);
    CHECK(error == -1, "an output was set on failure");
    free(f);
}

int main(void) {
    lucid_comm *comm;
    REQUIRE(lucid_comm_open(&comm, &(lucid_comm_options){.transport = "mpi", .timeout = 60}));
    const char *missing = lucid_scalapack_missing(comm);
    if (missing) {
        CHECK(strstr(missing, "cannot be loaded"), "a library that is there is of no use: %s", missing);
        printf("skipped: %s\n", missing);
        lucid_comm_close(comm);
        return check_failures ? check_result() : LUCID_TEST_SKIP;
    }
    right_and_wrong(comm);
    fewer_rows_than_ranks(comm);
    what_does_not_fit_is_refused(comm);
    lucid_comm_close(comm);
    return check_result();
}
