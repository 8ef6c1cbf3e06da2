/* The kernels for fp32 keys and queries, and for queries and keys of two different formats: plain fp32 arithmetic, a
 * correct path and no fast one. A block of 256 threads takes one granule of rows; a thread has 4 x 4 scores and, of the
 * same four rows, every 16th column of the values. Matrices are row-major (64, W). */
#ifndef LUCID_KERNELS_CUDA_SIMT_CUH
#define LUCID_KERNELS_CUDA_SIMT_CUH

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/sets.cuh"

enum {
    SIMT_THREADS = 256,
    SIMT_SIDE = 16,    /* threads (SIDE, SIDE) */
    SIMT_EACH = 4,     /* rows, and score columns, of a thread */
    SIMT_CHUNK = 16,   /* columns of keys, rows of values in shared memory at once */
    SIMT_COLUMNS = 16, /* value columns of a thread, at most */
    SIMT_CHUNK_LD = SIMT_CHUNK + 1,
};

/* Shared memory, in floats: weights; then two chunks of keys, in whose place one of values comes, and after all of
 * them the solved granule; then norms of rows and of keys. */
LUCID_HOST_DEVICE size_t simt_shared_bytes(lucid_cuda_shape s) {
    return sizeof(float) *
           (GRANULE * WEIGHT_LD + (size_t)GRANULE * (lucid_cuda_width(s) + VALUE_PAD) + 2 * GRANULE + 4);
}

struct simt_block {
    const lucid_cuda_piece &p;
    int thread, x, y; /* x: columns, y: rows */
    int width;
    float *weights, *chunks, *row_norms, *key_norms;
    unsigned *drawn;
    float s[SIMT_EACH][SIMT_EACH];
    float acc[SIMT_EACH][SIMT_COLUMNS];

    LUCID_DEVICE_MEMBER int row(int r) const {
        return SIMT_EACH * y + r;
    }
    LUCID_DEVICE_MEMBER int key(int c) const {
        return SIMT_EACH * x + c;
    }

    LUCID_DEVICE_MEMBER void load_chunk(float *chunk, const float *matrix, int first) {
        for (int e = thread; e < GRANULE * SIMT_CHUNK; e += SIMT_THREADS)
            chunk[e / SIMT_CHUNK * SIMT_CHUNK_LD + e % SIMT_CHUNK] =
                matrix[(size_t)(e / SIMT_CHUNK) * width + first + e % SIMT_CHUNK];
    }

    /* s = rows keys^T */
    LUCID_DEVICE_MEMBER void scores(const float *rows, const float *keys) {
        float *a = chunks, *b = chunks + GRANULE * SIMT_CHUNK_LD;
        for (int r = 0; r < SIMT_EACH; r++)
            for (int c = 0; c < SIMT_EACH; c++) s[r][c] = 0;
        for (int first = 0; first < width; first += SIMT_CHUNK) {
            block_barrier();
            load_chunk(a, rows, first);
            load_chunk(b, keys, first);
            block_barrier();
            for (int k = 0; k < SIMT_CHUNK; k++)
#pragma unroll
                for (int r = 0; r < SIMT_EACH; r++)
#pragma unroll
                    for (int c = 0; c < SIMT_EACH; c++)
                        s[r][c] = fmaf(a[row(r) * SIMT_CHUNK_LD + k], b[key(c) * SIMT_CHUNK_LD + k], s[r][c]);
        }
    }

    /* acc += weights values; values may have been written by another multiprocessor. */
    LUCID_DEVICE_MEMBER void apply(const float *values) {
        for (int r = 0; r < SIMT_EACH; r++)
            for (int c = 0; c < SIMT_EACH; c++) weights[row(r) * WEIGHT_LD + key(c)] = s[r][c];
        for (int first = 0; first < GRANULE; first += SIMT_CHUNK) {
            block_barrier();
            for (int e = thread; e < SIMT_CHUNK * width; e += SIMT_THREADS)
                chunks[e] = load_shared_global(values + (size_t)first * width + e);
            block_barrier();
            for (int k = 0; k < SIMT_CHUNK; k++)
#pragma unroll
                for (int c = 0; c < SIMT_COLUMNS; c++) {
                    if (SIMT_SIDE * c >= width) break;
                    float value = chunks[k * width + SIMT_SIDE * c + x];
#pragma unroll
                    for (int r = 0; r < SIMT_EACH; r++)
                        acc[r][c] = fmaf(weights[row(r) * WEIGHT_LD + first + k], value, acc[r][c]);
                }
        }
        block_barrier();
    }

    LUCID_DEVICE_MEMBER void load_acc(const float *from, int ld, float sign) {
#pragma unroll
        for (int r = 0; r < SIMT_EACH; r++)
#pragma unroll
            for (int c = 0; c < SIMT_COLUMNS; c++)
                acc[r][c] = SIMT_SIDE * c < width ? sign * from[row(r) * ld + SIMT_SIDE * c + x] : 0;
    }
    LUCID_DEVICE_MEMBER void store_acc(float *to, int ld, float sign) {
#pragma unroll
        for (int r = 0; r < SIMT_EACH; r++)
#pragma unroll
            for (int c = 0; c < SIMT_COLUMNS; c++)
                if (SIMT_SIDE * c < width) to[row(r) * ld + SIMT_SIDE * c + x] = sign * acc[r][c];
    }

    /* Weights of the solve. */
    LUCID_DEVICE_MEMBER void weigh(const float *rows, const unsigned char *record) {
        float bias = weight_bias(p.head_dim);
        block_barrier();
        if (thread < GRANULE) key_norms[thread] = record_norms(p, record)[thread];
        scores(rows, (const float *)record);
        for (int r = 0; r < SIMT_EACH; r++)
            for (int c = 0; c < SIMT_EACH; c++)
                s[r][c] = exp2f(fmaf(s[r][c] * row_factor(row_norms[row(r)], p.head_dim), key_norms[key(c)], bias));
    }
};

LUCID_DEVICE simt_block simt_block_of(const lucid_cuda_piece &p, unsigned char *shared) {
    simt_block b = {p, (int)threadIdx.x, (int)threadIdx.x % SIMT_SIDE, (int)threadIdx.x / SIMT_SIDE};
    b.width = lucid_cuda_width(p.shape);
    b.weights = (float *)shared;
    b.chunks = b.weights + GRANULE * WEIGHT_LD;
    b.row_norms = b.chunks + GRANULE * (b.width + VALUE_PAD);
    b.key_norms = b.row_norms + GRANULE;
    b.drawn = (unsigned *)(b.key_norms + GRANULE);
    return b;
}

/* --- solve --- */

LUCID_DEVICE void simt_begin_row(simt_block &b, int sequence, int granule) {
    const unsigned char *record = key_record(b.p, sequence, earlier_granules(b.p) + granule);
    block_barrier();
    if (b.thread < GRANULE) b.row_norms[b.thread] = record_norms(b.p, record)[b.thread];
    b.load_acc(granule_rhs(b.p, sequence, granule), b.width, -1);
}

LUCID_DEVICE void simt_subtract(simt_block &b, const float *rows, const unsigned char *record) {
    b.weigh(rows, record);
    b.apply((const float *)(record + lucid_cuda_matrix_bytes(b.p.shape)));
}

static __global__ void __launch_bounds__(SIMT_THREADS) simt_update(const __grid_constant__ lucid_cuda_piece p) {
    LUCID_SHARED(shared);
    simt_block b = simt_block_of(p, shared);
    int sequence = (int)blockIdx.x % p.n_sequences, granule = (int)blockIdx.x / p.n_sequences;
    simt_begin_row(b, sequence, granule);
    const float *rows = (const float *)key_record(p, sequence, earlier_granules(p) + granule);
    for (int j = 0; j < earlier_granules(p); j++) simt_subtract(b, rows, key_record(p, sequence, j));
    b.store_acc(granule_rhs(p, sequence, granule), b.width, -1);
}

LUCID_DEVICE void simt_solve_row(simt_block &b, int sequence, int granule) {
    const lucid_cuda_piece &p = b.p;
    unsigned *progress = p.counters + 1 + sequence, known = 0;
    unsigned char *record = own_record(p, sequence, granule);
    simt_begin_row(b, sequence, granule);
    for (int j = 0; j < granule; j++) {
        if (b.thread == 0) wait_for_granules(&known, progress, (unsigned)j + 1);
        block_barrier();
        simt_subtract(b, (const float *)record, key_record(p, sequence, earlier_granules(p) + j));
    }
    b.weigh((const float *)record, record);
    block_barrier();
    for (int r = 0; r < SIMT_EACH; r++)
        for (int c = 0; c < SIMT_EACH; c++) b.weights[b.key(c) * WEIGHT_LD + b.row(r)] = b.s[r][c];
    b.store_acc(b.chunks, b.width + VALUE_PAD, -1);
    block_barrier();
    substitute(b.chunks, b.weights, b.width, b.thread, SIMT_THREADS);
    block_barrier();
    float *rhs = granule_rhs(p, sequence, granule), *y = (float *)(record + lucid_cuda_matrix_bytes(p.shape));
    for (int e = b.thread; e < GRANULE * b.width; e += SIMT_THREADS)
        rhs[e] = y[e] = b.chunks[e / b.width * (b.width + VALUE_PAD) + e % b.width];
    block_barrier();
    if (b.thread == 0) publish(progress, (unsigned)granule + 1);
}

static __global__ void __launch_bounds__(SIMT_THREADS) simt_solve(const __grid_constant__ lucid_cuda_piece p) {
    LUCID_SHARED(shared);
    simt_block b = simt_block_of(p, shared);
    unsigned item, n_sequences = (unsigned)p.n_sequences;
    while (draw_item(&item, b.drawn, p.counters, (unsigned)p.n_granules * n_sequences))
        simt_solve_row(b, (int)(item % n_sequences), (int)(item / n_sequences));
}

/* --- softmax --- */

/* Over the 16 lanes that share a row. */
LUCID_DEVICE float simt_row_maximum(float x) {
    for (int distance = 1; distance < SIMT_SIDE; distance *= 2) x = fmaxf(x, quad_exchange(x, distance));
    return x;
}
LUCID_DEVICE float simt_row_sum(float x) {
    for (int distance = 1; distance < SIMT_SIDE; distance *= 2) x += quad_exchange(x, distance);
    return x;
}

/* Scores, scaled and masked, become weights; m, l and acc follow. */
LUCID_DEVICE void simt_softmax(simt_block &b, float (&m)[SIMT_EACH], float (&l)[SIMT_EACH], bool diagonal) {
#pragma unroll
    for (int r = 0; r < SIMT_EACH; r++) {
        float largest = -INFINITY, sum = 0;
        for (int c = 0; c < SIMT_EACH; c++) {
            b.s[r][c] = diagonal && b.key(c) > b.row(r) ? -INFINITY : b.s[r][c] * b.p.scale;
            largest = fmaxf(largest, b.s[r][c]);
        }
        largest = simt_row_maximum(largest);
        bool rises = largest > m[r] + RESCALE_EXPONENT;
        float factor = rises ? exp2f(m[r] - largest) : 1;
        if (rises) m[r] = largest;
        for (int c = 0; c < SIMT_EACH; c++) {
            b.s[r][c] = exp2f(b.s[r][c] - m[r]);
            sum += b.s[r][c];
        }
        l[r] = l[r] * factor + simt_row_sum(sum);
        for (int c = 0; c < SIMT_COLUMNS; c++) b.acc[r][c] *= factor;
    }
}

static __global__ void __launch_bounds__(SIMT_THREADS) simt_attend(const __grid_constant__ lucid_cuda_piece p) {
    LUCID_SHARED(shared);
    simt_block b = simt_block_of(p, shared);
    int n_heads = p.n_sequences * p.group, head = (int)blockIdx.x % n_heads;
    int granule = p.n_granules - 1 - (int)blockIdx.x / n_heads, own = earlier_granules(p) + granule;
    const float *query = (const float *)granule_query(p, head, granule);
    float *state = granule_state(p, head, granule), m[SIMT_EACH], l[SIMT_EACH];
    for (int r = 0; r < SIMT_EACH; r++) {
        m[r] = p.first ? -INFINITY : state[b.row(r)];
        l[r] = p.first ? 0 : state[GRANULE + b.row(r)];
    }
    b.load_acc(state + 2 * GRANULE, b.width, 1);
    for (int j = 0; j < (p.own ? own + 1 : earlier_granules(p)); j++) {
        const unsigned char *record = key_record(p, head / p.group, j);
        b.scores(query, (const float *)record);
        if (p.first && j == 0) /* what the state held before may be no number */
            for (int r = 0; r < SIMT_EACH; r++)
                for (int c = 0; c < SIMT_COLUMNS; c++) b.acc[r][c] = 0;
        simt_softmax(b, m, l, p.own && j == own);
        block_barrier();
        b.apply((const float *)(record + lucid_cuda_matrix_bytes(p.shape)));
    }
    for (int r = 0; r < SIMT_EACH; r++) {
        if (b.x) continue;
        state[b.row(r)] = m[r];
        state[GRANULE + b.row(r)] = l[r];
    }
    b.store_acc(state + 2 * GRANULE, b.width, 1);
}

/* --- the set --- */

static kernel_set simt_set(int panels) {
    lucid_cuda_shape shape = {LUCID_F32, panels};
    size_t bytes = simt_shared_bytes(shape);
    kernel_set set = {shape, simt_update, simt_solve, simt_attend, SIMT_THREADS, 1, bytes, bytes};
    return set;
}

#endif
