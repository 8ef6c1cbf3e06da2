/* The launches of backward.h: one table row per width and number of terms. */
#include "kernels/cuda/primitives.cuh"

#include "kernels/cuda/backward.cuh"
#include "kernels/cuda/launch.cuh"

typedef void (*backward_kernel)(lucid_cuda_backward);

typedef struct {
    int panels;
    bool split; /* operands are two terms */
    backward_kernel keys, rows;
    size_t bytes;
} backward_set;

template <int PANELS, int TERMS> static backward_set backward_set_of() {
    return {PANELS, TERMS == 2, backward_keys<PANELS, TERMS>, backward_rows<PANELS, TERMS>, pair_sizes<PANELS>::bytes};
}

static const backward_set *find_set(lucid_cuda_shape shape) {
    static const backward_set sets[] = {
        backward_set_of<1, 1>(), backward_set_of<1, 2>(), backward_set_of<2, 1>(),
        backward_set_of<2, 2>(), backward_set_of<4, 1>(), backward_set_of<4, 2>(),
    };
    for (const backward_set &set : sets)
        if (set.panels == shape.panels && set.split == (shape.dtype == LUCID_F32)) return &set;
    return NULL;
}

const char *lucid_cuda_backward_prepare(lucid_cuda_shape shape) {
    const backward_set *set = find_set(shape);
    if (!set) return "there is no backward kernel for this width";
    const char *wrong = check_device(set->bytes);
    if (wrong) return wrong;
    cudaError_t error = allow_shared(set->keys, set->bytes);
    if (!error) error = allow_shared(set->rows, set->bytes);
    return text_of(error);
}

const char *lucid_cuda_backward_keys(const lucid_cuda_backward *piece, lucid_cuda_stream stream) {
    const backward_set *set = find_set(piece->shape);
    int64_t blocks = 0, items = (int64_t)piece->n_granules * piece->n_sequences;
    cudaError_t error = resident_blocks(&blocks, set->keys, PAIR_THREADS, set->bytes);
    if (error) return text_of(error);
    return launch(set->keys, piece, items < blocks ? items : blocks, PAIR_THREADS, set->bytes, stream);
}

const char *lucid_cuda_backward_rows(const lucid_cuda_backward *piece, lucid_cuda_stream stream) {
    const backward_set *set = find_set(piece->shape);
    int64_t blocks = (int64_t)piece->n_granules * piece->n_sequences * (1 + piece->group);
    return launch(set->rows, piece, blocks, PAIR_THREADS, set->bytes, stream);
}

const char *lucid_cuda_pack_sides(float *sides, const lucid_cuda_side_form *form, lucid_cuda_stream stream) {
    pack_sides<<<form->n_granules, PAIR_THREADS, 0, stream>>>(sides, *form);
    return text_of(cudaGetLastError());
}

const char *lucid_cuda_unpack_sides(float *host, const float *sides, const lucid_cuda_side_form *form,
                                    lucid_cuda_stream stream) {
    unpack_sides<<<form->n_granules, PAIR_THREADS, 0, stream>>>(host, sides, *form);
    return text_of(cudaGetLastError());
}

const char *lucid_cuda_unpack_sums(float *host, const float *sums, int group, float scale,
                                   const lucid_cuda_side_form *form, lucid_cuda_stream stream) {
    unpack_sums<<<form->n_granules, PAIR_THREADS, 0, stream>>>(host, sums, group, scale, *form);
    return text_of(cudaGetLastError());
}
