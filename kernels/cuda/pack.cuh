/* Between a CPU's granules, transposed fp32, and a device's: one block a granule, once a run, limited by memory. */
#ifndef LUCID_KERNELS_CUDA_PACK_CUH
#define LUCID_KERNELS_CUDA_PACK_CUH

#include "kernels/cuda/common.cuh"

enum { PACK_THREADS = 256 };

/* A form, and where things are in the host's granules, in floats. */
struct pack_form {
    lucid_cuda_form form;
    size_t stride, norms, values;
};

LUCID_DEVICE void put_element(unsigned char *matrix, lucid_cuda_shape s, int row, int column, float x) {
    unsigned char *place = matrix + lucid_cuda_element(s, row, column);
    if (s.dtype == LUCID_F32)
        *(float *)place = x;
    else
        *(uint16_t *)place = s.dtype == LUCID_BF16 ? narrow(bf16_tag(), x) : narrow(f16_tag(), x);
}

/* matrix (64, W) = sign transpose(from (d, 64)), columns d.. zero */
LUCID_DEVICE void put_transposed(unsigned char *matrix, const float *from, float sign, const lucid_cuda_form &f) {
    int n = GRANULE * lucid_cuda_width(f.shape);
    for (int e = (int)threadIdx.x; e < n; e += PACK_THREADS) {
        int row = e % GRANULE, column = e / GRANULE;
        put_element(matrix, f.shape, row, column, column < f.host.head_dim ? sign * from[e] : 0);
    }
}

LUCID_DEVICE const float *column_factors(const lucid_cuda_form &f, int granule) {
    return f.factor + (size_t)(granule / f.granules_per_tile) * lucid_cuda_width(f.shape);
}

static __global__ void __launch_bounds__(PACK_THREADS)
    pack_records(unsigned char *records, float *rhs, const float *host, bool values, const pack_form in) {
    const lucid_cuda_form &f = in.form;
    int granule = (int)blockIdx.x, width = lucid_cuda_width(f.shape);
    const float *from = host + (size_t)granule * in.stride, *factor = column_factors(f, granule);
    const float *norms = from + in.norms, *v = from + in.values;
    unsigned char *record = records + (size_t)granule * lucid_cuda_record_bytes(f.shape);
    lucid_cuda_shape rounded = f.shape;
    if (rounded.dtype == LUCID_BF16) rounded.dtype = LUCID_F16;
    put_transposed(record, from, 1, f);
    if (threadIdx.x < GRANULE)
        ((float *)(record + 2 * lucid_cuda_matrix_bytes(f.shape)))[threadIdx.x] = norms[threadIdx.x];
    rhs += (size_t)granule * lucid_cuda_rhs_floats(f.shape);
    for (int e = (int)threadIdx.x; e < GRANULE * width; e += PACK_THREADS) {
        int row = e / width, column = e % width;
        float x = column < f.host.value_dim ? v[row * f.host.value_ld + column] * factor[column] : 0;
        rhs[e] = x;
        if (values) put_element(record + lucid_cuda_matrix_bytes(f.shape), rounded, row, column, x);
    }
}

static __global__ void __launch_bounds__(PACK_THREADS)
    pack_queries(unsigned char *queries, const float *host, const pack_form in) {
    size_t granule = blockIdx.x;
    put_transposed(queries + granule * lucid_cuda_matrix_bytes(in.form.shape), host + granule * in.stride,
                   in.form.negated ? -1 : 1, in.form);
}

/* to (64, value_ld) = from (64, W) / factor */
LUCID_DEVICE void take_values(float *to, const float *from, const float *factor, const lucid_cuda_form &f) {
    int width = lucid_cuda_width(f.shape);
    for (int e = (int)threadIdx.x; e < GRANULE * f.host.value_ld; e += PACK_THREADS) {
        int row = e / f.host.value_ld, column = e % f.host.value_ld;
        to[e] = column < f.host.value_dim ? from[row * width + column] / factor[column] : 0;
    }
}

static __global__ void __launch_bounds__(PACK_THREADS)
    unpack_values(float *host, const float *rhs, const pack_form in) {
    const lucid_cuda_form &f = in.form;
    int granule = (int)blockIdx.x;
    float *values = host + (size_t)granule * in.stride + in.values;
    take_values(values, rhs + (size_t)granule * lucid_cuda_rhs_floats(f.shape), column_factors(f, granule), f);
}

static __global__ void __launch_bounds__(PACK_THREADS)
    unpack_states(float *host, const float *states, const pack_form in) {
    const lucid_cuda_form &f = in.form;
    int granule = (int)blockIdx.x;
    float *to = host + (size_t)granule * in.stride;
    const float *from = states + (size_t)granule * lucid_cuda_state_floats(f.shape);
    if (threadIdx.x < 2 * GRANULE) to[threadIdx.x] = from[threadIdx.x];
    take_values(to + 2 * GRANULE, from + 2 * GRANULE, column_factors(f, granule), f);
}

#endif
