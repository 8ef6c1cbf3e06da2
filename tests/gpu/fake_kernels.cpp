/* The launches of kernels/cuda/cuda.h and backward.h by the emulator, one at a time. */
#include "tests/gpu/fake_kernels.h"

#include "tests/gpu/emulated_kernels.h"

#include <mutex>

lucid_cuda_set lucid_emulated_best = LUCID_CUDA_SM90A;
int lucid_emulated_launches[LUCID_CUDA_SM90A + 1];

static std::mutex one_at_a_time;

static const char *run(const std::function<void()> &kernel, int blocks, unsigned threads, size_t shared) {
    static unsigned seed;
    std::lock_guard<std::mutex> guard(one_at_a_time);
    emulator::launch(kernel, (unsigned)blocks, threads, shared, 2, ++seed);
    return NULL;
}

static kernel_set kernels_of(const lucid_cuda_piece &p) {
    lucid_emulated_launches[p.set]++;
    return set_of(p.shape, p.set);
}

static int row_blocks(const lucid_cuda_piece &p) {
    int granules = set_of(p.shape, p.set).granules;
    return (p.n_granules + granules - 1) / granules * p.n_sequences;
}

lucid_cuda_set lucid_cuda_best(lucid_cuda_shape shape) {
    return shape.dtype != LUCID_F32 && shape.panels < 4 ? lucid_emulated_best : LUCID_CUDA_SM80;
}

const char *lucid_cuda_prepare(lucid_cuda_shape, lucid_cuda_set) {
    return NULL;
}

const char *lucid_cuda_update(const lucid_cuda_piece *piece, lucid_cuda_stream) {
    kernel_set k = kernels_of(*piece);
    return run([&] { k.update(*piece); }, row_blocks(*piece), k.threads, k.solve_bytes);
}

const char *lucid_cuda_solve(const lucid_cuda_piece *piece, lucid_cuda_stream) {
    kernel_set k = kernels_of(*piece);
    return run([&] { k.solve(*piece); }, 2, k.threads, k.solve_bytes);
}

const char *lucid_cuda_attend(const lucid_cuda_piece *piece, lucid_cuda_stream) {
    kernel_set k = kernels_of(*piece);
    return run([&] { k.attend(*piece); }, row_blocks(*piece) * piece->group, k.threads, k.attend_bytes);
}

static pack_form records_form(const lucid_cuda_form *f) {
    return {*f, lucid_record_floats(f->host), lucid_record_rnorm(f->host), lucid_record_values(f->host)};
}

const char *lucid_cuda_pack_records(void *records, float *rhs, const float *host, bool values,
                                    const lucid_cuda_form *form, lucid_cuda_stream) {
    return run([&] { pack_records((unsigned char *)records, rhs, host, values, records_form(form)); }, form->n_granules,
               PACK_THREADS, 0);
}

const char *lucid_cuda_unpack_values(float *host, const float *rhs, const lucid_cuda_form *form, lucid_cuda_stream) {
    return run([&] { unpack_values(host, rhs, records_form(form)); }, form->n_granules, PACK_THREADS, 0);
}

const char *lucid_cuda_pack_queries(void *queries, const float *host, const lucid_cuda_form *form, lucid_cuda_stream) {
    pack_form in = {*form, lucid_query_floats(form->host), 0, 0};
    return run([&] { pack_queries((unsigned char *)queries, host, in); }, form->n_granules, PACK_THREADS, 0);
}

const char *lucid_cuda_unpack_states(float *host, const float *states, const lucid_cuda_form *form, lucid_cuda_stream) {
    pack_form in = {*form, lucid_state_floats(form->host), 0, 0};
    return run([&] { unpack_states(host, states, in); }, form->n_granules, PACK_THREADS, 0);
}

const char *lucid_cuda_backward_prepare(lucid_cuda_shape shape) {
    (void)shape;
    return NULL;
}

const char *lucid_cuda_backward_keys(const lucid_cuda_backward *piece, lucid_cuda_stream) {
    backward_launches k = backward_launches_of(piece->shape);
    return run([&] { k.keys(*piece); }, 3, PAIR_THREADS, k.bytes);
}

const char *lucid_cuda_backward_rows(const lucid_cuda_backward *piece, lucid_cuda_stream) {
    backward_launches k = backward_launches_of(piece->shape);
    return run([&] { k.rows(*piece); }, piece->n_granules * piece->n_sequences * (1 + piece->group), PAIR_THREADS,
               k.bytes);
}

const char *lucid_cuda_pack_sides(float *sides, const lucid_cuda_side_form *form, lucid_cuda_stream) {
    return run([&] { pack_sides(sides, *form); }, form->n_granules, PAIR_THREADS, 0);
}

const char *lucid_cuda_unpack_sides(float *host, const float *sides, const lucid_cuda_side_form *form,
                                    lucid_cuda_stream) {
    return run([&] { unpack_sides(host, sides, *form); }, form->n_granules, PAIR_THREADS, 0);
}

const char *lucid_cuda_unpack_sums(float *host, const float *sums, int group, float scale,
                                   const lucid_cuda_side_form *form, lucid_cuda_stream) {
    return run([&] { unpack_sums(host, sums, group, scale, *form); }, form->n_granules, PAIR_THREADS, 0);
}
