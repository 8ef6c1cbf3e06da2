/* The launches of cuda.h: one table row per dtype and width. */
#include "kernels/cuda/primitives.cuh"

#include "kernels/cuda/sets.cuh"

#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/simt.cuh"

static kernel_set simt_set(int panels) {
    lucid_cuda_shape shape = {LUCID_F32, panels};
    size_t bytes = simt_shared_bytes(shape);
    kernel_set set = {shape, simt_update, simt_solve, simt_attend, SIMT_THREADS, 1, bytes, bytes};
    return set;
}

static const kernel_set *find_set(lucid_cuda_shape shape) {
    static const kernel_set sets[] = {
        mma_set_64(LUCID_BF16),  mma_set_64(LUCID_F16),  simt_set(1),
        mma_set_128(LUCID_BF16), mma_set_128(LUCID_F16), simt_set(2),
        mma_set_256(LUCID_BF16), mma_set_256(LUCID_F16), simt_set(4),
    };
    for (const kernel_set &set : sets)
        if (set.shape.dtype == shape.dtype && set.shape.panels == shape.panels) return &set;
    return NULL;
}

static const char *text_of(cudaError_t error) {
    return error == cudaSuccess ? NULL : cudaGetErrorString(error);
}

static cudaError_t allow_shared(piece_kernel kernel, size_t bytes) {
    return cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
}

const char *lucid_cuda_prepare(lucid_cuda_shape shape) {
    const kernel_set *set = find_set(shape);
    int device, major, most;
    if (!set) return "there is no kernel for this width";
    cudaError_t error = cudaGetDevice(&device);
    if (!error) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (!error) error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (error) return text_of(error);
    if (major < 8) return "the GPU is older than compute capability 8.0";
    size_t bytes = set->solve_bytes > set->attend_bytes ? set->solve_bytes : set->attend_bytes;
    if ((size_t)most < bytes) return "the GPU has too little shared memory for heads this wide";
    error = allow_shared(set->update, set->solve_bytes);
    if (!error) error = allow_shared(set->solve, set->solve_bytes);
    if (!error) error = allow_shared(set->attend, set->attend_bytes);
    return text_of(error);
}

static int row_blocks(const lucid_cuda_piece *piece, const kernel_set *set) {
    return (piece->n_granules + set->granules - 1) / set->granules;
}

/* Blocks of (row block, sequence or head): 64-bit on the way, since a grid holds 2^31 - 1. */
static const char *launch(piece_kernel kernel, const lucid_cuda_piece *piece, int64_t blocks, int threads, size_t bytes,
                          lucid_cuda_stream stream) {
    if (blocks > INT32_MAX) return "too many row blocks for one launch: use a smaller tile";
    kernel<<<(unsigned)blocks, (unsigned)threads, bytes, stream>>>(*piece);
    return text_of(cudaGetLastError());
}

const char *lucid_cuda_update(const lucid_cuda_piece *piece, lucid_cuda_stream stream) {
    const kernel_set *set = find_set(piece->shape);
    return launch(set->update, piece, (int64_t)row_blocks(piece, set) * piece->n_sequences, set->threads,
                  set->solve_bytes, stream);
}

const char *lucid_cuda_solve(const lucid_cuda_piece *piece, lucid_cuda_stream stream) {
    const kernel_set *set = find_set(piece->shape);
    int device, processors, resident;
    cudaError_t error = cudaGetDevice(&device);
    if (!error) error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (!error)
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, set->solve, set->threads, set->solve_bytes);
    if (error) return text_of(error);
    int64_t items = (int64_t)row_blocks(piece, set) * piece->n_sequences, blocks = (int64_t)processors * resident;
    return launch(set->solve, piece, items < blocks ? items : blocks, set->threads, set->solve_bytes, stream);
}

const char *lucid_cuda_attend(const lucid_cuda_piece *piece, lucid_cuda_stream stream) {
    const kernel_set *set = find_set(piece->shape);
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
