/* The launches of cuda.h: tables with a row for each dtype and width. */
#include "kernels/cuda/primitives.cuh"

#include "kernels/cuda/sets.cuh"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/simt.cuh"

/* Hopper's, where this program was compiled for it, before those for all: the first that fits is taken. */
static const kernel_set *find_set(lucid_cuda_shape shape, lucid_cuda_set set) {
#ifdef LUCID_CUDA_HOPPER
    static const kernel_set hopper[] = {
        wgmma_set_64(LUCID_BF16),
        wgmma_set_64(LUCID_F16),
        wgmma_set_128(LUCID_BF16),
        wgmma_set_128(LUCID_F16),
    };
    for (const kernel_set &s : hopper)
        if (set == LUCID_CUDA_SM90A && s.shape.dtype == shape.dtype && s.shape.panels == shape.panels) return &s;
#else
    (void)set;
#endif
    static const kernel_set sets[] = {
        mma_set_64(LUCID_BF16),  mma_set_64(LUCID_F16),  simt_set(1),
        mma_set_128(LUCID_BF16), mma_set_128(LUCID_F16), simt_set(2),
        mma_set_256(LUCID_BF16), mma_set_256(LUCID_F16), simt_set(4),
    };
    for (const kernel_set &s : sets)
        if (s.shape.dtype == shape.dtype && s.shape.panels == shape.panels) return &s;
    return NULL;
}

/* The program holds an image of a kernel for the current device or does not: compiled for 90a, only Hopper runs it, and
 * without PTX no later device does. */
lucid_cuda_set lucid_cuda_best(lucid_cuda_shape shape) {
    const kernel_set *all = find_set(shape, LUCID_CUDA_SM80), *hopper = find_set(shape, LUCID_CUDA_SM90A);
    cudaFuncAttributes attributes;
    if (hopper == all) return LUCID_CUDA_SM80;
    if (cudaFuncGetAttributes(&attributes, (const void *)hopper->solve) == cudaSuccess) return LUCID_CUDA_SM90A;
    cudaGetLastError(); /* an older GPU is no error */
    return LUCID_CUDA_SM80;
}

const char *lucid_cuda_prepare(lucid_cuda_shape shape, lucid_cuda_set wanted) {
    const kernel_set *set = find_set(shape, wanted);
    if (!set) return "there is no kernel for this width";
    const char *wrong = check_device(set->solve_bytes > set->attend_bytes ? set->solve_bytes : set->attend_bytes);
    if (wrong) return wrong;
    cudaError_t error = allow_shared(set->update, set->solve_bytes);
    if (!error) error = allow_shared(set->solve, set->solve_bytes);
    if (!error) error = allow_shared(set->attend, set->attend_bytes);
    return text_of(error);
}

static int row_blocks(const lucid_cuda_piece *piece, const kernel_set *set) {
    return (piece->n_granules + set->granules - 1) / set->granules;
}

const char *lucid_cuda_update(const lucid_cuda_piece *piece, lucid_cuda_stream stream) {
    const kernel_set *set = find_set(piece->shape, piece->set);
    return launch(set->update, piece, (int64_t)row_blocks(piece, set) * piece->n_sequences, set->threads,
                  set->solve_bytes, stream);
}

const char *lucid_cuda_solve(const lucid_cuda_piece *piece, lucid_cuda_stream stream) {
    const kernel_set *set = find_set(piece->shape, piece->set);
    int64_t blocks = 0, items = (int64_t)row_blocks(piece, set) * piece->n_sequences;
    cudaError_t error = resident_blocks(&blocks, set->solve, set->threads, set->solve_bytes);
    if (error) return text_of(error);
    return launch(set->solve, piece, items < blocks ? items : blocks, set->threads, set->solve_bytes, stream);
}

const char *lucid_cuda_attend(const lucid_cuda_piece *piece, lucid_cuda_stream stream) {
    const kernel_set *set = find_set(piece->shape, piece->set);
    return launch(set->attend, piece, (int64_t)row_blocks(piece, set) * piece->n_sequences * piece->group, set->threads,
                  set->attend_bytes, stream);
}

static pack_form records_form(const lucid_cuda_form *f) {
    return {*f, lucid_record_floats(f->host), lucid_record_rnorm(f->host), lucid_record_values(f->host)};
}

const char *lucid_cuda_pack_records(void *records, float *rhs, const float *host_records, bool values,
                                    const lucid_cuda_form *form, lucid_cuda_stream stream) {
    pack_records<<<form->n_granules, PACK_THREADS, 0, stream>>>((unsigned char *)records, rhs, host_records, values,
                                                                records_form(form));
    return text_of(cudaGetLastError());
}

const char *lucid_cuda_unpack_values(float *host_records, const float *rhs, const lucid_cuda_form *form,
                                     lucid_cuda_stream stream) {
    unpack_values<<<form->n_granules, PACK_THREADS, 0, stream>>>(host_records, rhs, records_form(form));
    return text_of(cudaGetLastError());
}

const char *lucid_cuda_pack_queries(void *queries, const float *host_queries, const lucid_cuda_form *form,
                                    lucid_cuda_stream stream) {
    pack_queries<<<form->n_granules, PACK_THREADS, 0, stream>>>((unsigned char *)queries, host_queries,
                                                                pack_form{*form, lucid_query_floats(form->host)});
    return text_of(cudaGetLastError());
}

const char *lucid_cuda_unpack_states(float *host_states, const float *states, const lucid_cuda_form *form,
                                     lucid_cuda_stream stream) {
    unpack_states<<<form->n_granules, PACK_THREADS, 0, stream>>>(host_states, states,
                                                                 pack_form{*form, lucid_state_floats(form->host)});
    return text_of(cudaGetLastError());
}
