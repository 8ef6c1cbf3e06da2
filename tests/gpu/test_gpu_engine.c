/* The engine on a device, with the emulator for a GPU: right against the oracle, the same bits on any number of ranks
 * with any layout, schedule, tile and window, and what it does not do refused. `nccl`: tiles go by NCCL's links, with a
 * fake for NCCL, else through the hosts. */
#include "comm/nccl_links.h"
#include "tests/comm/worlds.h"
#include "tests/gpu/fake_kernels.h"
#include "tests/gpu/fake_nccl.h"
#include "tests/runtime/attention/attention_case.h"

static lucid_comm *comm, *alone;

/* Every row of every rank is one rank's, and all of them are there. */
static void compare(const attention_case *c, const attention_answer *got, const attention_answer *want, int n) {
    size_t rows = case_rows(c, LUCID_OUT), dim = (size_t)c->problem.value_dim;
    size_t group = (size_t)(c->problem.n_heads / c->problem.n_kv_heads), length = (size_t)c->problem.seqlen;
    double owned = 0;
    for (size_t row = 0; row < rows; row++) {
        size_t y_row = row / length / group * length + row % length;
        if (got->lse[row] == 0) continue; /* another rank's: scores are drawn, so none is zero */
        owned++;
        bool same = got->lse[row] == want->lse[row] &&
                    !memcmp(got->out + row * dim, want->out + row * dim, dim * sizeof(float)) &&
                    !memcmp(got->y + y_row * dim, want->y + y_row * dim, dim * sizeof(float));
        CHECK(same, "variant %d, row %zu: out %.9g, alone %.9g", n, row, got->out[row * dim], want->out[row * dim]);
        if (!same) break;
    }
    CHECK(!lucid_comm_allreduce(comm, &owned, 1, LUCID_SUM), "%s", lucid_failure());
    CHECK(owned == (double)rows, "variant %d: %g rows of %zu", n, owned, rows);
}

static void check_variants(const attention_case *c, const attention_answer *want) {
    static const lucid_options variants[] = {
        {.tile = 64, .layout = LUCID_LAYOUT_ZIGZAG, .schedule = LUCID_SCHEDULE_FUSED, .channels = 2},
        {.tile = 128, .layout = LUCID_LAYOUT_CYCLIC, .schedule = LUCID_SCHEDULE_PIPELINED},
        {.tile = 64, .layout = LUCID_LAYOUT_CONTIGUOUS, .memory_budget = 48 << 10},
        {.layout = LUCID_LAYOUT_AUTO},
    };
    for (int n = 0; n < (int)(sizeof variants / sizeof *variants); n++) {
        attention_answer got;
        lucid_options options = variants[n];
        options.cuda = true;
        options.timeout = 60;
        CHECK(!case_run(&got, comm, c, &options, NULL), "%s", lucid_failure());
        compare(c, &got, want, n);
        answer_free(&got);
    }
}

static void check_accuracy(const attention_case *c, const attention_answer *answer, double tolerance) {
    oracle_answer oracle;
    size_t length = (size_t)c->problem.seqlen;
    int dim = c->problem.value_dim;
    case_oracle(&oracle, c);
    double y = row_error(answer->y, oracle.y, case_rows(c, LUCID_Y), (int64_t)length, dim, 0);
    double out = row_error(answer->out, oracle.out, case_rows(c, LUCID_OUT), (int64_t)length, dim, 0);
    CHECK_NEAR(y, 0, tolerance, "y");
    CHECK_NEAR(out, 0, tolerance, "out");
    oracle_free(&oracle);
}

/* Values far from 1, and a column of zeros: the factors must bring them into fp16's range. */
static void scale_values(float *rows, lucid_tensor tensor, int64_t first, int n_tokens, int dim) {
    (void)first;
    for (int i = 0; tensor == LUCID_V && i < n_tokens; i++)
        for (int c = 0; c < dim; c++) rows[(size_t)i * dim + c] *= c == 1 ? 0 : c % 2 ? 1e-12f : 1e12f;
}

static void check_case(const attention_case *c, double tolerance) {
    attention_answer want;
    lucid_certificate_result certificate;
    lucid_options options = {.cuda = true};
    CHECK(!case_run(&want, alone, c, &options, &certificate), "%s", lucid_failure());
    check_accuracy(c, &want, tolerance);
    CHECK(certificate.residual <= tolerance && certificate.out_error <= tolerance, "certificate: %g, %g",
          certificate.residual, certificate.out_error);
    check_variants(c, &want);
    answer_free(&want);
}

/* Rank 0 has an older GPU than the others: all take its kernels. */
static void check_mixed(const attention_case *c) {
    attention_answer got;
    lucid_options options = {.cuda = true, .timeout = 60};
    CHECK(lucid_emulated_launches[LUCID_CUDA_SM90A] > 0, "Hopper's kernels were never taken");
    lucid_emulated_launches[LUCID_CUDA_SM80] = lucid_emulated_launches[LUCID_CUDA_SM90A] = 0;
    lucid_emulated_best = comm->rank == 0 ? LUCID_CUDA_SM80 : LUCID_CUDA_SM90A;
    CHECK(!case_run(&got, comm, c, &options, NULL), "%s", lucid_failure());
    CHECK(lucid_emulated_launches[LUCID_CUDA_SM80] > 0 && lucid_emulated_launches[LUCID_CUDA_SM90A] == 0,
          "%d launches of the older kernels, %d of Hopper's", lucid_emulated_launches[LUCID_CUDA_SM80],
          lucid_emulated_launches[LUCID_CUDA_SM90A]);
    lucid_emulated_best = LUCID_CUDA_SM90A;
    answer_free(&got);
}

static void check_refusals(void) {
    lucid_attention *a;
    lucid_problem problem = {.seqlen = 100, .batch = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = 8, .value_dim = 8};
    lucid_options plain = {.cuda = true};
    problem.cache_dtype = LUCID_BF16;
    CHECK(lucid_attention_create(&a, alone, &problem, &plain) == LUCID_ERR_UNSUPPORTED, "rounded values");
}

/* From now on the communicator is one whose transport links devices. */
static void link_devices(void) {
    static lucid_transport linking;
    linking = *comm->transport;
    linking.devices = &lucid_nccl_links;
    comm->transport = &linking;
    fake_nccl_lock = &comm->lock;
}

int main(int argc, char **argv) {
    worlds_open(&comm, &alone);
    if (argc > 1 && !strcmp(argv[1], "nccl")) link_devices();
    lucid_random random = {.seed = 5, .kind = LUCID_RANDOM_CLUSTERED, .correlation = 0.8};
    lucid_problem grouped = {.seqlen = 300, .batch = 1, .n_heads = 2, .n_kv_heads = 2, .head_dim = 40, .value_dim = 24};
    lucid_problem softmax = grouped;
    softmax.n_kv_heads = 1;
    softmax.softmax_scale = -0.2;
    softmax.attention = LUCID_ATTENTION_SOFTMAX;
    check_case(&(attention_case){.problem = grouped, .random = random, .dtype = LUCID_BF16}, 3e-3);
    check_case(&(attention_case){.problem = softmax, .random = random, .dtype = LUCID_F16}, 3e-3);
    check_mixed(&(attention_case){.problem = grouped, .random = random, .dtype = LUCID_BF16});
    grouped.seqlen = 130;
    check_case(&(attention_case){.problem = grouped, .random = random, .dtype = LUCID_F32, .tweak = scale_values},
               2e-5);
    if (comm->rank == 0) check_refusals();
    bool by_nccl = comm->transport->devices != NULL;
    CHECK((fake_nccl_bytes > 10000) == by_nccl, "%zu bytes by NCCL", fake_nccl_bytes); /* opening takes some */
    return worlds_close(comm, alone);
}
