/* The kernels for 16-bit keys and queries on tensor cores by mma.sync, for any GPU since sm_80.
 *
 * A block of four warps takes 128 rows, two granules (64 rows where heads are wider than 128), and walks over the key
 * granules. A key granule's record is copied to one of two stages of shared memory while the other is used. Scores of a
 * warp's 32 rows with 64 keys are accumulated in registers, become weights there, and are the left operand of the
 * second product as they lie: an accumulator's layout is that of the left operand. The solve keeps acc = sum P y - rhs.
 *
 * Each 128 x 64 step of a block at d = 128 is 4.2 Mflop on 32 KiB of keys; 32 rows a warp halve what 16 would read from
 * shared memory, which would otherwise be the limit. Registers: 128 accumulators, 64 scores. */
#ifndef LUCID_KERNELS_CUDA_MMA_CUH
#define LUCID_KERNELS_CUDA_MMA_CUH

#include "kernels/cuda/fragments.cuh"

enum { MMA_THREADS = 128 };

/* Sizes of a kernel for `PANELS` panels. M: 16-row tiles of a warp, which is also the granules of a row block. */
template <int PANELS> struct mma_sizes {
    static constexpr int M = PANELS == 4 ? 1 : 2;
    static constexpr int stages = PANELS == 4 ? 1 : 2;
    static constexpr int width = LUCID_CUDA_PANEL * PANELS;
    static constexpr int groups = width / 16; /* of 16 columns */
    static constexpr int matrix_bytes = LUCID_CUDA_PANEL_BYTES * PANELS;
    static constexpr int record_bytes = 2 * matrix_bytes + LUCID_CUDA_NORM_BYTES;
    /* Shared memory: the rows' keys or queries with their norms; then the stages, in whose place the diagonal granule's
     * weights and values come; then, in the solve, the item drawn. */
    static constexpr int rows_bytes = M * (matrix_bytes + LUCID_CUDA_NORM_BYTES);
    static constexpr int weight_bytes = GRANULE * WEIGHT_LD * 4;
    static constexpr int value_bytes = GRANULE * (width + VALUE_PAD) * 4;
    static constexpr int diagonal_bytes = weight_bytes + value_bytes;
    static constexpr int stage_bytes = stages * record_bytes;
    static constexpr int attend_bytes = rows_bytes + stage_bytes;
    static constexpr int drawn_at = rows_bytes + (stage_bytes > diagonal_bytes ? stage_bytes : diagonal_bytes);
    static constexpr int solve_bytes = drawn_at + 16;
    static_assert(PANELS > 2 || (solve_bytes <= 99 << 10 && attend_bytes <= 99 << 10),
                  "a block of compute capability 8.6, 8.9 or 12 has 99 KiB");
};

LUCID_DEVICE void copy_block(void *shared, const unsigned char *global, int bytes, int thread) {
    for (int at = 16 * thread; at < bytes; at += 16 * MMA_THREADS)
        copy_async((unsigned char *)shared + at, global + at);
}

/* scores = rows keys^T; rows: the granule that the warp's rows lie in. */
template <typename Tag, int PANELS>
LUCID_DEVICE void mma_scores_of(mma_scores<mma_sizes<PANELS>::M> &scores, const unsigned char *rows,
                                const unsigned char *keys, const mma_lane &at) {
    constexpr int M = mma_sizes<PANELS>::M;
    int row_lane = at.row + lucid_mma_row_lane(at.lane), row_chunk = lucid_mma_row_chunk(at.lane);
    int key_lane = lucid_mma_key_lane(at.lane), key_chunk = lucid_mma_key_chunk(at.lane);
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < KEY_COLUMNS; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) scores.s[m][n][i] = 0;
#pragma unroll
    for (int k = 0; k < mma_sizes<PANELS>::groups; k++) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) load_matrices(a[m], rows + lucid_cuda_chunk(row_lane + 16 * m, 2 * k + row_chunk));
#pragma unroll
        for (int n = 0; n < KEY_GROUPS; n++) {
            uint32_t b[4];
            load_matrices(b, keys + lucid_cuda_chunk(16 * n + key_lane, 2 * k + key_chunk));
#pragma unroll
            for (int m = 0; m < M; m++) {
                multiply(Tag(), scores.s[m][2 * n], a[m], b[0], b[1]);
                multiply(Tag(), scores.s[m][2 * n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

/* acc += weights values */
template <int PANELS>
LUCID_DEVICE void mma_apply(mma_values<mma_sizes<PANELS>::M, PANELS> &acc,
                            const mma_scores<mma_sizes<PANELS>::M> &weights, const unsigned char *values,
                            const mma_lane &at) {
    constexpr int M = mma_sizes<PANELS>::M;
    int row_lane = lucid_mma_row_lane(at.lane), row_chunk = lucid_mma_row_chunk(at.lane);
#pragma unroll
    for (int k = 0; k < KEY_GROUPS; k++) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) weights_operand(a[m], weights, m, k);
#pragma unroll
        for (int n = 0; n < mma_sizes<PANELS>::groups; n++) {
            uint32_t b[4];
            load_matrices_transposed(b, values + lucid_cuda_chunk(16 * k + row_lane, 2 * n + row_chunk));
#pragma unroll
            for (int m = 0; m < M; m++) {
                multiply(f16_tag(), acc.v[m][2 * n], a[m], b[0], b[1]);
                multiply(f16_tag(), acc.v[m][2 * n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

/* The rows' keys or queries and their norms, granules apart; those behind the last granule stay what they are. */
template <int PANELS>
LUCID_DEVICE void mma_load_rows(unsigned char *rows, const unsigned char *source, size_t stride, int n, bool norms,
                                int thread) {
    typedef mma_sizes<PANELS> S;
    for (int h = 0; h < min_of(n, S::M); h++) {
        copy_block(rows + h * S::matrix_bytes, source + h * stride, S::matrix_bytes, thread);
        if (norms)
            copy_block(rows + S::M * S::matrix_bytes + h * LUCID_CUDA_NORM_BYTES,
                       source + h * stride + 2 * S::matrix_bytes, LUCID_CUDA_NORM_BYTES, thread);
    }
    copy_async_commit();
}

/* Walks over key granules 0..n-1 through the stages and calls step(j, stage) for each. progress: the counter of solved
 * granules of the row tile where some of these are its own, else NULL. Ends with a barrier. */
template <int PANELS, typename Step>
LUCID_DEVICE void mma_walk(const lucid_cuda_piece &p, int sequence, int n, const unsigned *progress,
                           unsigned char *stages, int thread, Step step) {
    typedef mma_sizes<PANELS> S;
    constexpr int ahead = S::stages - 1;
    unsigned known = 0;
    for (int j = -ahead; j < n; j++) {
        int next = j + ahead;
        if (progress && thread == 0 && next < n) wait_for_granules(&known, progress, (unsigned)next + 1);
        block_barrier(); /* the stage's last readers are done, the granule is there */
        if (next < n)
            copy_block(stages + next % S::stages * S::record_bytes, key_record(p, sequence, next), S::record_bytes,
                       thread);
        copy_async_commit();
        if (j < 0) continue;
        copy_async_wait<ahead>();
        block_barrier();
        step(j, stages + j % S::stages * S::record_bytes);
    }
    copy_async_wait<0>();
    block_barrier();
}

/* --- solve --- */

/* One warp's part of a row block in the solve. */
template <typename Tag, int PANELS> struct mma_solver {
    typedef mma_sizes<PANELS> S;
    const lucid_cuda_piece &p;
    mma_lane at;
    int sequence, first, n; /* the row block: granules of the row tile */
    unsigned char *rows, *stages;
    solve_rows<S::M> own;
    mma_values<S::M, PANELS> acc;
    mma_scores<S::M> weights;

    LUCID_DEVICE_MEMBER const float *norms(int granule) const {
        return (const float *)(rows + S::M * S::matrix_bytes + granule * LUCID_CUDA_NORM_BYTES);
    }
    LUCID_DEVICE_MEMBER float *rhs() const {
        return granule_rhs(p, sequence, first + at.granule);
    }

    LUCID_DEVICE_MEMBER void begin() {
        mma_load_rows<PANELS>(rows, own_record(p, sequence, first), S::record_bytes, n, true, at.thread);
        copy_async_wait<0>();
        block_barrier();
        own.begin(norms(at.granule), p.head_dim, at);
        if (at.granule < n) mma_each(acc, rhs(), S::width, at, load_negated());
    }

    LUCID_DEVICE_MEMBER void weigh(const unsigned char *keys, const float *key_norms) {
        mma_scores_of<Tag, PANELS>(weights, rows + at.granule * S::matrix_bytes, keys, at);
        own.weigh(weights, key_norms, at);
    }

    /* A key granule before the row block. */
    LUCID_DEVICE_MEMBER void operator()(int, const unsigned char *stage) {
        if (at.granule >= n) return;
        weigh(stage, (const float *)(stage + 2 * S::matrix_bytes));
        mma_apply<PANELS>(acc, weights, stage + S::matrix_bytes, at);
    }

    LUCID_DEVICE_MEMBER void store_rhs() {
        if (at.granule < n) mma_each(acc, rhs(), S::width, at, store_negated());
    }

    /* The row block's own granules, one after the other. The first one's keys are last read as its weights are made:
     * its rounded values, for the second, come in their place two barriers later. */
    LUCID_DEVICE_MEMBER void diagonal(unsigned *progress) {
        unsigned char *values = stages + S::weight_bytes, *rounded = rows;
        for (int h = 0; h < n; h++) {
            diagonal_space space = {(float *)stages, (float *)values, h + 1 < S::M ? rounded : (unsigned char *)0};
            if (at.granule >= h && at.granule < n) weigh(rows + h * S::matrix_bytes, norms(h));
            if (at.granule == h) {
                put_weights(space.lower, weights, at);
                mma_each(acc, space.values, S::width + VALUE_PAD, at, store_negated());
            }
            block_barrier();
            substitute(space.values, space.lower, S::width, at.thread, MMA_THREADS);
            block_barrier();
            emit_granule<PANELS>(p, sequence, first + h, space, at.thread, MMA_THREADS);
            block_barrier();
            if (at.thread == 0) publish(progress, (unsigned)(first + h + 1));
            if (at.granule > h && at.granule < n) mma_apply<PANELS>(acc, weights, rounded, at);
        }
    }
};

/* One row block: what precedes it, then, in the solve, itself. */
template <typename Tag, int PANELS, bool SOLVE>
LUCID_DEVICE void mma_solve_rows(const lucid_cuda_piece &p, int sequence, int first, unsigned char *shared) {
    typedef mma_sizes<PANELS> S;
    mma_solver<Tag, PANELS> solver = {p, mma_lane_of<S::M>((int)threadIdx.x), sequence, first};
    solver.n = min_of(S::M, p.n_granules - first);
    solver.rows = shared;
    solver.stages = shared + S::rows_bytes;
    unsigned *progress = SOLVE ? p.counters + 1 + sequence : (unsigned *)0;
    solver.begin();
    int thread = solver.at.thread;
    mma_walk<PANELS>(p, sequence, SOLVE ? first : earlier_granules(p), progress, solver.stages, thread,
                     [&](int j, const unsigned char *stage) { solver(j, stage); });
    if (SOLVE)
        solver.diagonal(progress);
    else
        solver.store_rhs();
}

template <typename Tag, int PANELS>
__global__ void __launch_bounds__(MMA_THREADS) mma_update(const __grid_constant__ lucid_cuda_piece p) {
    LUCID_SHARED(shared);
    int block = (int)blockIdx.x;
    mma_solve_rows<Tag, PANELS, false>(p, block % p.n_sequences, block / p.n_sequences * mma_sizes<PANELS>::M, shared);
}

template <typename Tag, int PANELS>
__global__ void __launch_bounds__(MMA_THREADS) mma_solve(const __grid_constant__ lucid_cuda_piece p) {
    LUCID_SHARED(shared);
    unsigned *drawn = (unsigned *)(shared + mma_sizes<PANELS>::drawn_at);
    constexpr int M = mma_sizes<PANELS>::M;
    unsigned item, blocks = (unsigned)((p.n_granules + M - 1) / M), n_sequences = (unsigned)p.n_sequences;
    while (draw_item(&item, drawn, p.counters, blocks * n_sequences))
        mma_solve_rows<Tag, PANELS, true>(p, (int)(item % n_sequences), (int)(item / n_sequences) * M, shared);
}

/* --- softmax --- */

/* One warp's part of a row block of one query head. */
template <typename Tag, int PANELS> struct mma_attender {
    typedef mma_sizes<PANELS> S;
    const lucid_cuda_piece &p;
    mma_lane at;
    int head, first, n;
    unsigned char *rows;
    softmax_rows<S::M> own;
    mma_values<S::M, PANELS> acc;
    mma_scores<S::M> weights;

    LUCID_DEVICE_MEMBER float *state() const {
        return granule_state(p, head, first + min_of(at.granule, n - 1));
    }

    LUCID_DEVICE_MEMBER void begin() {
        own.begin(state(), p.first, at);
        if (p.first)
            clear_values(acc);
        else
            mma_each(acc, state() + 2 * GRANULE, S::width, at, load_plain());
    }

    LUCID_DEVICE_MEMBER void operator()(int j, const unsigned char *stage) {
        int diagonal = earlier_granules(p) + first + at.granule;
        float factor[S::M][2];
        if (at.granule >= n || (p.own && j > diagonal)) return;
        mma_scores_of<Tag, PANELS>(weights, rows + at.granule * S::matrix_bytes, stage, at);
        if (p.own && j == diagonal) mask_future(weights, at);
        if (own.raise(factor, weights, p.scale)) scale_values(acc, factor);
        own.weigh(weights, p.scale);
        mma_apply<PANELS>(acc, weights, stage + S::matrix_bytes, at);
    }

    LUCID_DEVICE_MEMBER void store() {
        if (at.granule >= n) return;
        own.store(state(), at);
        mma_each(acc, state() + 2 * GRANULE, S::width, at, store_plain());
    }
};

/* Blocks are started in this order: the longest first. */
template <typename Tag, int PANELS>
__global__ void __launch_bounds__(MMA_THREADS) mma_attend(const __grid_constant__ lucid_cuda_piece p) {
    typedef mma_sizes<PANELS> S;
    LUCID_SHARED(shared);
    int n_heads = p.n_sequences * p.group, blocks = (p.n_granules + S::M - 1) / S::M;
    int head = (int)blockIdx.x % n_heads, first = (blocks - 1 - (int)blockIdx.x / n_heads) * S::M;
    mma_attender<Tag, PANELS> attender = {p, mma_lane_of<S::M>((int)threadIdx.x), head, first};
    attender.n = min_of(S::M, p.n_granules - first);
    attender.rows = shared;
    mma_load_rows<PANELS>(shared, granule_query(p, head, first), S::matrix_bytes, attender.n, false,
                          attender.at.thread);
    attender.begin();
    int n = earlier_granules(p) + (p.own ? first + attender.n : 0);
    mma_walk<PANELS>(p, head / p.group, n, (const unsigned *)0, shared + S::rows_bytes, attender.at.thread,
                     [&](int j, const unsigned char *stage) { attender(j, stage); });
    attender.store();
}

#endif
