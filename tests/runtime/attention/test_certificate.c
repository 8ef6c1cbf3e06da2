/* The certificate and the dense verification: they say what the oracle says of a good run, and they catch a bad one.
 *
 * Faults are put in from outside: the linker hands lucid_kernels_table and lucid_kernels_find to this file (--wrap),
 * which passes the real set on with some functions wrapped. A wrapped function can leave everything out, or the key
 * granules of one tile on the rows of one other; rows are told apart by the order of calls, which a single thread makes
 * the same in every run. */
#include "runtime/verify/verify.h"
#include "tests/check.h"
#include "tests/runtime/attention/attention_case.h"

enum { SEQLEN = 2048, TILE = 128, GRANULES = TILE / LUCID_GRANULE, DIM = 32 };
enum { BATCH = 2, HEADS = 6, KV_HEADS = 2, ALL_HEADS = BATCH * HEADS, GROUPED_SEQLEN = 4 * TILE };

/* Certificates of clustered keys stay below; the faults must exceed ten times as much. */
#define GOOD 5e-5

/* --- kernels with a fault --- */

typedef enum { NO_FAULT, NO_SOLVE, NOT_A_NUMBER, DROPPED_UPDATE, DROPPED_ATTEND, SPOILT_HEAD } fault_kind;

static struct {
    fault_kind kind;
    int64_t dropped; /* index of the first of the calls to leave out; of the head to spoil */
    int64_t calls;   /* of the function in question so far */
} fault;

static const lucid_kernels *real;
static lucid_kernels faulty;
static const lucid_kernels *faulty_table[] = {&faulty};

/* Keys to leave out of this call, in the middle of its list: none, or one tile's. A tile has two granules, so that two
 * calls in a row belong to the rows of one tile. */
static int64_t n_dropped(fault_kind kind, int64_t n_keys) {
    if (fault.kind != kind || n_keys < GRANULES) return 0;
    int64_t call = fault.calls++;
    return call >= fault.dropped && call < fault.dropped + GRANULES ? GRANULES : 0;
}

static int64_t middle_tile(int64_t n_keys) {
    return n_keys / GRANULES / 2 * GRANULES;
}

static void update(float *row, const float *const *keys, int64_t n_keys, lucid_shape shape, float *scratch) {
    if (fault.kind == NO_SOLVE) return;
    int64_t dropped = n_dropped(DROPPED_UPDATE, n_keys), first = dropped ? middle_tile(n_keys) : n_keys;
    real->update(row, keys, first, shape, scratch);
    if (dropped) real->update(row, keys + first + dropped, n_keys - first - dropped, shape, scratch);
}

static void solve(float *row, lucid_shape shape, float *scratch) {
    if (fault.kind != NO_SOLVE) real->solve(row, shape, scratch);
}

/* The diagonals of a tile come head by head, each its granules in turn; they are the last that a state gets. */
static bool is_spoilt(bool diagonal) {
    return fault.kind == SPOILT_HEAD && diagonal && fault.calls++ / GRANULES % ALL_HEADS == fault.dropped;
}

static void attend(float *state, const float *qt, const float *const *keys, int64_t n_keys, bool diagonal,
                   lucid_precision precision, double scale, lucid_shape shape, float *scratch) {
    int64_t dropped = diagonal ? 0 : n_dropped(DROPPED_ATTEND, n_keys), first = dropped ? middle_tile(n_keys) : n_keys;
    real->attend(state, qt, keys, first, diagonal, precision, scale, shape, scratch);
    if (dropped)
        real->attend(state, qt, keys + first + dropped, n_keys - first - dropped, false, precision, scale, shape,
                     scratch);
    for (int i = 0; fault.kind == NOT_A_NUMBER && i < LUCID_GRANULE; i++) /* column 0 of o: see kernels.h */
        state[2 * LUCID_GRANULE + i * shape.value_ld] = NAN;
    const bool spoilt = is_spoilt(diagonal);
    for (int i = 0; spoilt && i < LUCID_GRANULE; i++) state[LUCID_GRANULE + i] *= 1.01f; /* l */
}

const lucid_kernels *__real_lucid_kernels_find(const char *isa);
const lucid_kernels *__wrap_lucid_kernels_find(const char *isa);
const lucid_kernels *const *__wrap_lucid_kernels_table(int *count);

const lucid_kernels *__wrap_lucid_kernels_find(const char *isa) {
    real = __real_lucid_kernels_find(isa);
    faulty = *real;
    faulty.update = update;
    faulty.solve = solve;
    faulty.attend = attend;
    return &faulty;
}

const lucid_kernels *const *__wrap_lucid_kernels_table(int *count) {
    *count = 1;
    return faulty_table;
}

/* --- judges --- */

static lucid_comm *comm;
static oracle_answer oracle;
static float *inputs[3]; /* q, k, v */

static const attention_case clustered = {
    .problem = {.seqlen = SEQLEN, .batch = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = DIM, .value_dim = DIM},
    .random = {.seed = 5, .kind = LUCID_RANDOM_CLUSTERED, .n_centres = 16, .correlation = 0.8}};

static const attention_case grouped = {.problem = {.seqlen = GROUPED_SEQLEN,
                                                   .batch = BATCH,
                                                   .n_heads = HEADS,
                                                   .n_kv_heads = KV_HEADS,
                                                   .head_dim = DIM,
                                                   .value_dim = DIM},
                                       .random = {.seed = 6}};

static lucid_certificate_result run_case(attention_answer *answer, const attention_case *c, fault_kind kind,
                                         int64_t dropped) {
    lucid_certificate_result certificate;
    fault.kind = kind, fault.dropped = dropped, fault.calls = 0;
    if (case_run(answer, comm, c, &(lucid_options){.tile = TILE, .channels = 1}, &certificate)) {
        fprintf(stderr, "%s\n", lucid_failure());
        exit(1);
    }
    return certificate;
}

static lucid_certificate_result run(attention_answer *answer, fault_kind kind, int64_t dropped) {
    return run_case(answer, &clustered, kind, dropped);
}

static lucid_verify_errors verify(const attention_answer *answer) {
    lucid_verify_errors errors = {0};
    lucid_verify_head head = {.seqlen = SEQLEN, .head_dim = DIM, .value_dim = DIM, .n_queries = 1};
    head.q = inputs[LUCID_Q], head.k = inputs[LUCID_K], head.v = inputs[LUCID_V];
    head.y = answer->y, head.out = answer->out, head.lse = answer->lse;
    CHECK(!lucid_verify_dense(&errors, comm, &head), "%s", lucid_failure());
    return errors;
}

static void print(const char *what, const lucid_certificate_result *c, const lucid_verify_errors *e) {
    printf("%-28s certificate: residual %.2g out %.2g lse %.2g growth %.3f; dense: y %.2g out %.2g lse %.2g\n", what,
           c->residual, c->out_error, c->lse_error, c->growth, e->y, e->out, e->lse);
}

/* --- a good run --- */

static void check_good(void) {
    attention_answer a;
    lucid_certificate_result c = run(&a, NO_FAULT, 0);
    lucid_verify_errors e = verify(&a);
    print("good", &c, &e);
    CHECK(c.rows >= 32, "%d rows sampled", c.rows);
    CHECK_NEAR(c.residual, 0, GOOD, "certificate's residual");
    CHECK_NEAR(c.out_error, 0, GOOD, "certificate's out");
    CHECK_NEAR(c.lse_error, 0, GOOD, "certificate's lse");
    CHECK_NEAR(e.y, 0, GOOD, "dense y");
    CHECK_NEAR(e.out, 0, GOOD, "dense out");
    /* A sample of rows sees no more than all rows, and 32 of them not much less: a tenth is seldom. */
    double residual = case_residual(&clustered, &a, &oracle);
    CHECK(c.residual <= 1.01 * residual + 1e-9 && c.residual >= residual / 20,
          "residual %.3g of the sample, %.3g of all", c.residual, residual);
    CHECK_NEAR(e.y, row_error(a.y, oracle.y, SEQLEN, SEQLEN, DIM, 0), 1e-9, "two ways to the error of y");
    CHECK_NEAR(e.out, row_error(a.out, oracle.out, SEQLEN, SEQLEN, DIM, 0), 1e-9, "two ways to the error of out");
    double growth = 0;
    for (int col = 0; col < DIM; col++) {
        double y2 = 0, v2 = 0;
        for (int i = 0; i < SEQLEN; i++) {
            y2 += oracle.y[i * DIM + col] * oracle.y[i * DIM + col];
            v2 += oracle.v[i * DIM + col] * oracle.v[i * DIM + col];
        }
        growth = fmax(growth, sqrt(y2 / v2));
    }
    CHECK_NEAR(c.growth, growth, 1e-4, "growth");
    answer_free(&a);
}

/* --- bad runs --- */

/* Leaving the solve out leaves Y = V: only the residual can tell, and out must still fit the Y it was given. */
static void check_no_solve(void) {
    attention_answer a;
    lucid_certificate_result c = run(&a, NO_SOLVE, 0);
    lucid_verify_errors e = verify(&a);
    print("no solve", &c, &e);
    CHECK(!memcmp(a.y, inputs[LUCID_V], sizeof(float) * SEQLEN * DIM), "the fault was not put in");
    CHECK(c.residual > 1, "certificate's residual %g with Y = V, want above 1", c.residual);
    CHECK_NEAR(c.out_error, 0, GOOD, "out given Y");
    CHECK(e.y > 10 * GOOD && e.out > 10 * GOOD, "dense verification: y %g, out %g", e.y, e.out);
    answer_free(&a);
}

/* The worst error is that of a row with a NaN. */
static void check_not_a_number(void) {
    attention_answer a;
    lucid_certificate_result c = run(&a, NOT_A_NUMBER, 0);
    lucid_verify_errors e = verify(&a);
    print("NaN in out", &c, &e);
    CHECK(isnan(c.out_error), "certificate's out %g", c.out_error);
    CHECK_NEAR(c.residual, 0, GOOD, "the residual, which has no part in it");
    CHECK(!(e.out <= GOOD), "dense out %g", e.out);
    answer_free(&a);
}

/* One tile by one tile left out, early, in the middle and late among the calls, that is after each of `eighths` of
 * them. */
static void check_dropped(fault_kind kind, const int *eighths, int n) {
    attention_answer a;
    run(&a, kind, INT64_MAX - TILE);
    answer_free(&a);
    int64_t calls = fault.calls;
    for (int i = 0; i < n; i++) {
        lucid_certificate_result c = run(&a, kind, calls * eighths[i] / 8 / GRANULES * GRANULES);
        lucid_verify_errors e = verify(&a);
        print(kind == DROPPED_UPDATE ? "one tile less in U" : "one tile less in A", &c, &e);
        if (kind == DROPPED_UPDATE) {
            CHECK(c.residual > 10 * GOOD, "certificate's residual %g", c.residual);
            CHECK(e.y > 10 * GOOD, "dense y %g", e.y);
        } else {
            CHECK(c.out_error > 10 * GOOD || c.lse_error > 10 * GOOD, "certificate's out %g, lse %g", c.out_error,
                  c.lse_error);
            CHECK(e.out > 10 * GOOD && e.lse > 10 * GOOD, "dense out %g, lse %g", e.out, e.lse);
        }
        answer_free(&a);
    }
}

/* Of the heads of all sequences a single one is wrong, each in turn. */
static void check_spoilt_heads(void) {
    attention_answer good, a;
    lucid_certificate_result c = run_case(&good, &grouped, NO_FAULT, 0);
    CHECK_NEAR(c.residual, 0, GOOD, "residual of a grouped run");
    CHECK_NEAR(c.out_error, 0, GOOD, "out of a grouped run");
    CHECK_NEAR(c.lse_error, 0, GOOD, "lse of a grouped run");
    for (int head = 0; head < ALL_HEADS; head++) {
        c = run_case(&a, &grouped, SPOILT_HEAD, head);
        for (int other = 0; other < ALL_HEADS; other++) {
            const size_t row = (size_t)other * GROUPED_SEQLEN, bytes = GROUPED_SEQLEN * sizeof *a.lse;
            CHECK(!memcmp(a.lse + row, good.lse + row, bytes) == (other != head), "head %d with %d spoilt", other,
                  head);
        }
        CHECK(c.out_error > 10 * GOOD && c.lse_error > 10 * GOOD, "head %d spoilt: certificate's out %g, lse %g", head,
              c.out_error, c.lse_error);
        answer_free(&a);
    }
    answer_free(&good);
}

/* `quick`, for slow builds: tiles in the middle only. */
int main(int argc, char **argv) {
    static const int eighths[] = {5, 1, 3, 7};
    const int n = argc > 1 && !strcmp(argv[1], "quick") ? 1 : 4;
    if (lucid_comm_open(&comm, &(lucid_comm_options){.transport = "self"})) return 1;
    for (int tensor = LUCID_Q; tensor <= LUCID_V; tensor++) {
        inputs[tensor] = malloc(sizeof(float) * SEQLEN * DIM);
        case_read((void *)&clustered, inputs[tensor], (lucid_tensor)tensor, 0, 0, 0, SEQLEN);
    }
    case_oracle(&oracle, &clustered);
    check_good();
    check_no_solve();
    check_not_a_number();
    check_spoilt_heads();
    check_dropped(DROPPED_UPDATE, eighths, n);
    check_dropped(DROPPED_ATTEND, eighths, n);
    oracle_free(&oracle);
    for (int tensor = LUCID_Q; tensor <= LUCID_V; tensor++) free(inputs[tensor]);
    lucid_comm_close(comm);
    return check_result();
}
