/* The verification finds nothing wrong with the oracle's own results, and finds each thing that is made wrong in them,
 * by as much as it is wrong. */
#include "tests/runtime/verify/verify_fixture.h"

#define ROUNDING 1e-6 /* of fp32, 6e-8 of a number; early rows of out are several times their root mean square */

static lucid_verify_errors verify(lucid_comm *comm, fixture *f) {
    lucid_verify_errors errors = {-1, -1, -1};
    REQUIRE(lucid_verify_dense(&errors, comm, &f->head));
    return errors;
}

static void right_results_pass(lucid_comm *comm, lucid_attention_kind attention) {
    fixture *f = fixture_new(attention);
    fixture_hide(f, comm);
    const lucid_verify_errors errors = verify(comm, f);
    CHECK_NEAR(errors.y, 0, ROUNDING, "attention %d: y", attention);
    CHECK_NEAR(errors.out, 0, ROUNDING, "attention %d: out", attention);
    CHECK_NEAR(errors.lse, 0, ROUNDING, "attention %d: lse, about 6", attention);
    free(f);
}

static void wrong_numbers_are_found(lucid_comm *comm) {
    fixture *f = fixture_new(LUCID_ATTENTION_LUCID);
    fixture_hide(f, comm);
    const double by_y = fixture_share(f->yd, FIXTURE_N, FIXTURE_DV, 0.25);
    const double by_out = fixture_share(f->outd, FIXTURE_N, FIXTURE_DV, 0.125); /* of the last query head */
    f->y[FIXTURE_N * FIXTURE_DV - 1] += 0.25f;
    lucid_verify_errors errors = verify(comm, f);
    CHECK_NEAR(errors.y, by_y, 1e-6, "0.25 in the last number of y");
    CHECK_NEAR(errors.out, 0, ROUNDING, "out is judged by the oracle's y, not by the one given");

    f->out[FIXTURE_QUERIES * FIXTURE_N * FIXTURE_DV - 1] += 0.125f;
    f->lse[200] -= 0.5f;
    errors = verify(comm, f);
    CHECK_NEAR(errors.out, by_out, 1e-6, "0.125 in the last number of the last query head");
    CHECK_NEAR(errors.lse, 0.5, 1e-6, "0.5 in one lse");

    f->y[7] = NAN, f->out[8] = NAN, f->lse[9] = NAN;
    errors = verify(comm, f);
    CHECK(isinf(errors.y) && isinf(errors.out) && isinf(errors.lse), "NaN gave errors %g, %g, %g", errors.y, errors.out,
          errors.lse);
    free(f);
}

static void a_skipped_solve_is_found(lucid_comm *comm) {
    fixture *f = fixture_new(LUCID_ATTENTION_SOFTMAX);
    fixture_hide(f, comm);
    f->head.attention = LUCID_ATTENTION_LUCID;
    const lucid_verify_errors errors = verify(comm, f);
    CHECK(errors.y > 0.1 && errors.out > 0.1, "without a solve the errors are only %g and %g", errors.y, errors.out);
    free(f);
}

int main(void) {
    lucid_comm *comm;
    REQUIRE(lucid_comm_open(&comm, &(lucid_comm_options){.timeout = 60}));
    right_results_pass(comm, LUCID_ATTENTION_LUCID);
    right_results_pass(comm, LUCID_ATTENTION_SOFTMAX);
    wrong_numbers_are_found(comm);
    a_skipped_solve_is_found(comm);
    lucid_comm_close(comm);
    return check_result();
}
