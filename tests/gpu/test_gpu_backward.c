/* The backward pass on a device, with the emulator for a GPU: dq, dk and dv against the dense fp64 backward, and the
 * same bits on any number of ranks with any layout, tile, window and number of channels. Lengths are no multiples
 * of 64; widths are gpu.kernels's. */
#include "tests/runtime/attention/gradients.h"

static void check_variants(const gradients *want) {
    static const lucid_options variants[] = {
        {.tile = 64, .layout = LUCID_LAYOUT_ZIGZAG, .channels = 2, .timeout = 60},
        {.tile = 128, .layout = LUCID_LAYOUT_CYCLIC, .schedule = LUCID_SCHEDULE_PIPELINED, .timeout = 60},
        {.tile = 64, .layout = LUCID_LAYOUT_CONTIGUOUS, .memory_budget = 150 << 10, .timeout = 60},
        {.layout = LUCID_LAYOUT_AUTO, .timeout = 60},
    };
    for (int n = 0; n < (int)(sizeof variants / sizeof *variants); n++) {
        char what[40];
        snprintf(what, sizeof what, "variant %d on %d ranks", n, comm->world_size);
        gradients_run_as(want, comm, &variants[n], what);
    }
}

static void check_case(const lucid_problem *p, fixture_keys keys, lucid_dtype dtype, double tolerance, bool vary) {
    gradients want;
    gradients_create(&want, p, keys);
    want.dtype = dtype;
    want.cuda = true;
    must(compute(&want, alone, (lucid_options){0}), "alone");
    judge(&want, tolerance);
    if (vary) check_variants(&want);
    gradients_destroy(&want);
}

/* Tolerances: y is stored in fp16 by the forward of 16-bit tensors and operands have 11 bits, 5e-4 each; of fp32
 * tensors they have 21, and the factors of coincident keys cancel. */
int main(int argc, char **argv) {
    char gpu[32];
    REQUIRE(lucid_comm_open(&comm, &(lucid_comm_options){.transport = argc > 1 ? argv[1] : NULL, .timeout = 60}));
    REQUIRE(lucid_comm_open(&alone, &(lucid_comm_options){.transport = "self"}));
    lucid_device_address(gpu, sizeof gpu, comm->local_rank);
    if (!*gpu) {
        printf("skipped: host %s has no GPU\n", comm->host);
        worlds_close(comm, alone);
        return 77;
    }
    lucid_problem grouped = {.seqlen = 200, .batch = 1, .n_heads = 4, .n_kv_heads = 2, .head_dim = 24, .value_dim = 36};
    lucid_problem odd = {.seqlen = 130, .batch = 1, .n_heads = 2, .n_kv_heads = 1, .head_dim = 40, .value_dim = 17};
    lucid_problem softmax = odd;
    odd.eps = 0.1, odd.softmax_scale = -0.2;
    softmax.attention = LUCID_ATTENTION_SOFTMAX;
    check_case(&grouped, KEYS_CLUSTERED, LUCID_BF16, 5e-3, true);
    check_case(&softmax, KEYS_NORMAL, LUCID_F32, 2e-5, true);
    if (comm->world_size == 1) {
        check_case(&odd, KEYS_CLUSTERED, LUCID_F16, 5e-3, false);
        check_case(&odd, KEYS_COINCIDENT, LUCID_F32, 1e-3, false);
    }
    return worlds_close(comm, alone);
}
