/* The kernels for 16-bit keys and queries on Hopper: bulk copies and products of warpgroups.
 *
 * A row block is two granules, one of each of two warpgroups. A third one hands its registers to them and copies:
 * the rows' keys or queries first, then the records of the key granules, each by one instruction since a record is
 * contiguous and already swizzled as the products want it (so no tensor maps), into a ring of stages. Two barriers in
 * shared memory guard each stage: `full` counts the record's bytes, `empty` the warps that have read it.
 *
 * Rows are a left operand in registers for all of the walk, as are weights. The scores of the next granule are computed
 * while this granule's weights are applied, and become weights while that goes on:
 *
 *     products      S(j+1) = rows K(j+1)^T    acc += P(j) Y(j)     S(j+2) ...
 *     the rest                    P(j+1) = exp2(S(j+1) ..)
 *
 * and one warpgroup's exponentials run beside the other's products. Per step of 64 keys at d = 128 a warpgroup needs
 * 512 cycles of the tensor cores, which read 64 bytes a cycle of shared memory's 128 since the left operands are in
 * registers. Registers: 64 accumulators, 32 scores, 16 weights, 32 of the rows.
 *
 * Order of operations in each row: ascending key granules, as for all kernels. */
#ifndef LUCID_KERNELS_CUDA_WGMMA_CUH
#define LUCID_KERNELS_CUDA_WGMMA_CUH

#include "kernels/cuda/fragments.cuh"

enum {
    WGMMA_GRANULES = 2, /* of a row block, each a warpgroup's */
    WGMMA_READERS = 128 * WGMMA_GRANULES,
    WGMMA_THREADS = WGMMA_READERS + 128,
    WGMMA_STAGES = 4,
    /* Registers of a thread: the kernel starts with a third of 65536 / 128, then the readers take what copies leave. */
    WGMMA_READER_REGISTERS = 240,
    WGMMA_COPY_REGISTERS = 24,
};

template <int PANELS> struct wgmma_sizes {
    static constexpr int width = LUCID_CUDA_PANEL * PANELS;
    static constexpr int groups = width / 16; /* of 16 columns */
    static constexpr int matrix_bytes = LUCID_CUDA_PANEL_BYTES * PANELS;
    static constexpr int record_bytes = 2 * matrix_bytes + LUCID_CUDA_NORM_BYTES;
    /* Shared memory: the rows' keys or queries with their norms, the stages, the barriers and the item drawn. Swizzled
     * matrices begin at multiples of 1024. */
    static constexpr int rows_bytes = WGMMA_GRANULES * matrix_bytes + 1024;
    static constexpr int stage_bytes = 2 * matrix_bytes + 1024;
    static constexpr int ring_bytes = WGMMA_STAGES * stage_bytes;
    static constexpr int bytes = rows_bytes + ring_bytes + 128;
    /* In the stages' place, when all of them have been read: what a diagonal granule needs. */
    static constexpr int rounded_at = ring_bytes - stage_bytes;
    static constexpr int values_at = (GRANULE * WEIGHT_LD * 4 + 1023) & ~1023;
    static_assert(values_at + GRANULE * (width + VALUE_PAD) * 4 <= rounded_at, "the diagonal does not fit");
};

/* --- shared memory and its guards --- */

struct wgmma_barriers {
    uint64_t full[WGMMA_STAGES], empty[WGMMA_STAGES], rows;
    unsigned drawn; /* the item of a persistent kernel */
};

template <int PANELS> struct wgmma_shared {
    typedef wgmma_sizes<PANELS> S;
    unsigned char *base;
    unsigned items, records; /* that went through it before: where the ring is, and the parity of its barriers */

    LUCID_DEVICE_MEMBER unsigned char *rows(int granule) const {
        return base + granule * S::matrix_bytes;
    }
    LUCID_DEVICE_MEMBER float *norms(int granule) const {
        return (float *)(base + WGMMA_GRANULES * S::matrix_bytes + granule * LUCID_CUDA_NORM_BYTES);
    }
    LUCID_DEVICE_MEMBER wgmma_barriers *barriers() const {
        return (wgmma_barriers *)(base + S::rows_bytes + S::ring_bytes);
    }
    /* Record j of this item. */
    LUCID_DEVICE_MEMBER int stage_of(int j) const {
        return (int)((records + (unsigned)j) % WGMMA_STAGES);
    }
    LUCID_DEVICE_MEMBER unsigned parity_of(int j) const {
        return (records + (unsigned)j) / WGMMA_STAGES & 1;
    }
    LUCID_DEVICE_MEMBER unsigned char *stage(int j) const {
        return base + S::rows_bytes + stage_of(j) * S::stage_bytes;
    }
    LUCID_DEVICE_MEMBER diagonal_space diagonal() const {
        unsigned char *ring = base + S::rows_bytes;
        return diagonal_space{(float *)ring, (float *)(ring + S::values_at), ring + S::rounded_at};
    }

    LUCID_DEVICE_MEMBER void begin(int thread) {
        wgmma_barriers *b = barriers();
        items = records = 0;
        if (thread == 0) {
            for (int s = 0; s < WGMMA_STAGES; s++) {
                phase_init(&b->full[s], 1);
                phase_init(&b->empty[s], WGMMA_READERS / 32);
            }
            phase_init(&b->rows, 1);
            phase_init_end();
        }
        block_barrier();
    }
    /* The item's n records are through. */
    LUCID_DEVICE_MEMBER void advance(int n) {
        items++;
        records += (unsigned)n;
    }

    LUCID_DEVICE_MEMBER const unsigned char *wait_full(int j) const {
        phase_wait(&barriers()->full[stage_of(j)], parity_of(j));
        return stage(j);
    }
    /* Once a warp; the last reads of all its lanes lie before. */
    LUCID_DEVICE_MEMBER void release(int j, const mma_lane &at) const {
        warp_barrier();
        if (at.lane == 0) phase_arrive(&barriers()->empty[stage_of(j)]);
    }
};

/* A row block and the key granules that it walks over. */
struct wgmma_item {
    int sequence, first, n; /* granules of the row tile */
    const unsigned char *rows;
    size_t row_stride;
    bool norms; /* the rows' follow their record */
    int keys;
    const unsigned *progress; /* the counter of solved granules where keys are the row tile's own, else NULL */
};

/* One thread copies what an item needs. */
template <int PANELS>
LUCID_DEVICE void wgmma_copy_item(const wgmma_shared<PANELS> &shared, const lucid_cuda_piece &p,
                                  const wgmma_item &item) {
    typedef wgmma_sizes<PANELS> S;
    wgmma_barriers *b = shared.barriers();
    unsigned known = 0;
    phase_expect(&b->rows, (unsigned)(item.n * (S::matrix_bytes + (item.norms ? LUCID_CUDA_NORM_BYTES : 0))));
    for (int h = 0; h < item.n; h++) {
        const unsigned char *source = item.rows + h * item.row_stride;
        copy_bulk(shared.rows(h), source, S::matrix_bytes, &b->rows);
        if (item.norms) copy_bulk(shared.norms(h), source + 2 * S::matrix_bytes, LUCID_CUDA_NORM_BYTES, &b->rows);
    }
    for (int j = 0; j < item.keys; j++) {
        int stage = shared.stage_of(j);
        phase_wait(&b->empty[stage], shared.parity_of(j) ^ 1);
        if (item.progress && wait_for_granules(&known, item.progress, (unsigned)j + 1))
            fence_paths(); /* for the copies of all granules that it looked for */
        phase_expect(&b->full[stage], S::record_bytes);
        copy_bulk(shared.stage(j), key_record(p, item.sequence, j), S::record_bytes, &b->full[stage]);
    }
}

template <int PANELS>
LUCID_DEVICE void wgmma_copy(const wgmma_shared<PANELS> &shared, const lucid_cuda_piece &p, const wgmma_item &item) {
    if (threadIdx.x == WGMMA_READERS) wgmma_copy_item(shared, p, item);
    warp_barrier(); /* its warp goes on as one */
}

/* --- a warpgroup's rows --- */

LUCID_DEVICE void wgmma_round(uint32_t (&weights)[KEY_GROUPS][4], const mma_scores<1> &scores) {
#pragma unroll
    for (int k = 0; k < KEY_GROUPS; k++) weights_operand(weights[k], scores, 0, k);
}

/* acc += weights values; under way until products_wait. */
template <int PANELS>
LUCID_DEVICE void wgmma_apply(mma_values<1, PANELS> &acc, const uint32_t (&weights)[KEY_GROUPS][4],
                              const unsigned char *values) {
#pragma unroll
    for (int k = 0; k < KEY_GROUPS; k++) multiply_across(acc.v[0], weights[k], right_operand(values + 16 * 128 * k));
    products_commit();
}

template <typename Tag, int PANELS> struct wgmma_rows {
    uint32_t a[wgmma_sizes<PANELS>::groups][4];

    /* rows: the warp's granule in shared memory */
    LUCID_DEVICE_MEMBER void load(const unsigned char *rows, const mma_lane &at) {
#pragma unroll
        for (int k = 0; k < wgmma_sizes<PANELS>::groups; k++)
            load_matrices(a[k], rows + lucid_cuda_chunk(at.row + lucid_mma_row_lane(at.lane),
                                                        2 * k + lucid_mma_row_chunk(at.lane)));
    }

    /* scores = rows keys^T; under way until products_wait. */
    LUCID_DEVICE_MEMBER void scores(mma_scores<1> &s, const unsigned char *keys) const {
#pragma unroll
        for (int k = 0; k < wgmma_sizes<PANELS>::groups; k++)
            multiply_rows(Tag(), s.s[0], a[k], right_operand(keys + k / 4 * LUCID_CUDA_PANEL_BYTES + k % 4 * 32),
                          k > 0);
        products_commit();
    }
};

/* Walks over the item's records, of which the warpgroup needs the first `used`, and releases them all. weigh(scores, j,
 * stage): scores become weights; then rescale(), where acc waits for it. */
template <typename Tag, int PANELS, typename Weigh, typename Rescale>
LUCID_DEVICE void wgmma_walk(const wgmma_shared<PANELS> &shared, wgmma_rows<Tag, PANELS> &rows,
                             mma_values<1, PANELS> &acc, int n, int used, const mma_lane &at, Weigh weigh,
                             Rescale rescale) {
    constexpr int values = wgmma_sizes<PANELS>::matrix_bytes;
    uint32_t weights[KEY_GROUPS][4];
    if (used > 0) {
        mma_scores<1> scores;
        const unsigned char *stage = shared.wait_full(0);
        products_begin(rows.a);
        rows.scores(scores, stage);
        products_wait<0>();
        products_end(scores.s[0]);
        weigh(scores, 0, stage);
        rescale();
        wgmma_round(weights, scores);
    }
    for (int j = 0; j + 1 < used; j++) {
        mma_scores<1> scores;
        const unsigned char *next = shared.wait_full(j + 1);
        products_begin(rows.a, weights, acc.v[0]);
        rows.scores(scores, next);
        wgmma_apply(acc, weights, shared.stage(j) + values);
        products_wait<1>();
        products_end(scores.s[0]);
        weigh(scores, j + 1, next);
        products_wait<0>();
        products_end(weights, acc.v[0]);
        shared.release(j, at);
        rescale();
        wgmma_round(weights, scores);
    }
    if (used > 0) {
        products_begin(weights, acc.v[0]);
        wgmma_apply(acc, weights, shared.stage(used - 1) + values);
        products_wait<0>();
        products_end(acc.v[0]);
        shared.release(used - 1, at);
    }
    for (int j = used; j < n; j++) {
        shared.wait_full(j);
        shared.release(j, at);
    }
}

/* --- solve --- */

/* One warp's part of a row block in the solve. */
template <typename Tag, int PANELS> struct wgmma_solver {
    typedef wgmma_sizes<PANELS> S;
    const lucid_cuda_piece &p;
    const wgmma_shared<PANELS> &shared;
    const wgmma_item &item;
    mma_lane at;
    wgmma_rows<Tag, PANELS> rows;
    solve_rows<1> own;
    mma_values<1, PANELS> acc;

    LUCID_DEVICE_MEMBER bool active() const {
        return at.granule < item.n;
    }
    LUCID_DEVICE_MEMBER float *rhs() const {
        return granule_rhs(p, item.sequence, item.first + at.granule);
    }

    LUCID_DEVICE_MEMBER void walk() {
        phase_wait(&shared.barriers()->rows, shared.items & 1);
        if (active()) {
            rows.load(shared.rows(at.granule), at);
            own.begin(shared.norms(at.granule), p.head_dim, at);
            mma_each(acc, rhs(), S::width, at, load_negated());
        }
        wgmma_walk(
            shared, rows, acc, item.keys, active() ? item.keys : 0, at,
            [&](mma_scores<1> &scores, int, const unsigned char *stage) {
                own.weigh(scores, (const float *)(stage + 2 * S::matrix_bytes), at);
            },
            [] {});
    }

    LUCID_DEVICE_MEMBER void store_rhs() {
        if (active()) mma_each(acc, rhs(), S::width, at, store_negated());
    }

    /* The weights of the row block's granule h; acc waits for them. */
    LUCID_DEVICE_MEMBER void weigh_own(mma_scores<1> &weights, int h) {
        products_begin(rows.a);
        rows.scores(weights, shared.rows(h));
        products_wait<0>();
        products_end(weights.s[0]);
        own.weigh(weights, shared.norms(h), at);
    }

    LUCID_DEVICE_MEMBER void apply_own(const mma_scores<1> &scores, const unsigned char *rounded) {
        uint32_t weights[KEY_GROUPS][4];
        wgmma_round(weights, scores);
        products_begin(weights, acc.v[0]);
        wgmma_apply(acc, weights, rounded);
        products_wait<0>();
        products_end(acc.v[0]);
    }

    /* The row block's own granules, one after the other. */
    LUCID_DEVICE_MEMBER void diagonal(unsigned *progress) {
        diagonal_space space = shared.diagonal();
        unsigned char *rounded = space.rounded;
        part_barrier(WGMMA_READERS); /* the stages have been read */
        for (int h = 0; h < item.n; h++) {
            mma_scores<1> weights;
            if (at.granule >= h && active()) weigh_own(weights, h);
            if (at.granule == h) {
                put_weights(space.lower, weights, at);
                mma_each(acc, space.values, S::width + VALUE_PAD, at, store_negated());
            }
            part_barrier(WGMMA_READERS);
            substitute(space.values, space.lower, S::width, at.thread, WGMMA_READERS);
            part_barrier(WGMMA_READERS);
            space.rounded = h + 1 < item.n ? rounded : (unsigned char *)0;
            emit_granule<PANELS>(p, item.sequence, item.first + h, space, at.thread, WGMMA_READERS);
            fence_paths(); /* copies of others and products of ours read it */
            part_barrier(WGMMA_READERS);
            if (at.thread == 0) publish(progress, (unsigned)(item.first + h + 1));
            if (at.granule > h && active()) apply_own(weights, rounded);
        }
    }
};

/* A row block with what precedes it. */
template <int PANELS, bool SOLVE> LUCID_DEVICE wgmma_item wgmma_solve_item(const lucid_cuda_piece &p, int index) {
    int sequence = index % p.n_sequences, first = index / p.n_sequences * WGMMA_GRANULES;
    return wgmma_item{sequence,
                      first,
                      min_of(WGMMA_GRANULES, p.n_granules - first),
                      own_record(p, sequence, first),
                      (size_t)wgmma_sizes<PANELS>::record_bytes,
                      true,
                      SOLVE ? first : earlier_granules(p),
                      SOLVE ? p.counters + 1 + sequence : (unsigned *)0};
}

template <typename Tag, int PANELS>
__global__ void __launch_bounds__(WGMMA_THREADS, 1) wgmma_update(const __grid_constant__ lucid_cuda_piece p) {
    LUCID_SHARED(base);
    wgmma_shared<PANELS> shared = {base};
    wgmma_item item = wgmma_solve_item<PANELS, false>(p, (int)blockIdx.x);
    shared.begin((int)threadIdx.x);
    if (threadIdx.x >= WGMMA_READERS) {
        give_registers<WGMMA_COPY_REGISTERS>();
        wgmma_copy(shared, p, item);
    } else {
        take_registers<WGMMA_READER_REGISTERS>();
        wgmma_solver<Tag, PANELS> solver = {p, shared, item, mma_lane_of<1>((int)threadIdx.x)};
        solver.walk();
        solver.store_rhs();
    }
}

/* Draws row blocks until none is left, all threads the same ones, and calls part(item). */
template <int PANELS, typename Part>
LUCID_DEVICE void wgmma_each_block(wgmma_shared<PANELS> &shared, const lucid_cuda_piece &p, Part part) {
    unsigned index, n = (unsigned)((p.n_granules + WGMMA_GRANULES - 1) / WGMMA_GRANULES * p.n_sequences);
    while (draw_item(&index, &shared.barriers()->drawn, p.counters, n)) {
        wgmma_item item = wgmma_solve_item<PANELS, true>(p, (int)index);
        part(item);
        shared.advance(item.keys);
    }
}

template <typename Tag, int PANELS>
__global__ void __launch_bounds__(WGMMA_THREADS, 1) wgmma_solve(const __grid_constant__ lucid_cuda_piece p) {
    LUCID_SHARED(base);
    wgmma_shared<PANELS> shared = {base};
    shared.begin((int)threadIdx.x);
    if (threadIdx.x >= WGMMA_READERS) {
        give_registers<WGMMA_COPY_REGISTERS>();
        wgmma_each_block(shared, p, [&](const wgmma_item &item) { wgmma_copy(shared, p, item); });
    } else {
        take_registers<WGMMA_READER_REGISTERS>();
        wgmma_each_block(shared, p, [&](const wgmma_item &item) {
            wgmma_solver<Tag, PANELS> solver = {p, shared, item, mma_lane_of<1>((int)threadIdx.x)};
            solver.walk();
            solver.diagonal(p.counters + 1 + item.sequence);
            fence_paths(); /* the next item's copies come where the diagonal was */
        });
    }
}

/* --- softmax --- */

/* One warp's part of a row block of one query head. */
template <typename Tag, int PANELS> struct wgmma_attender {
    typedef wgmma_sizes<PANELS> S;
    const lucid_cuda_piece &p;
    const wgmma_shared<PANELS> &shared;
    const wgmma_item &item;
    int head;
    mma_lane at;
    wgmma_rows<Tag, PANELS> rows;
    softmax_rows<1> own;
    mma_values<1, PANELS> acc;

    LUCID_DEVICE_MEMBER float *state() const {
        return granule_state(p, head, item.first + at.granule);
    }

    LUCID_DEVICE_MEMBER void begin() {
        rows.load(shared.rows(at.granule), at);
        own.begin(state(), p.first, at);
        if (p.first)
            clear_values(acc);
        else
            mma_each(acc, state() + 2 * GRANULE, S::width, at, load_plain());
    }

    LUCID_DEVICE_MEMBER void walk() {
        bool active = at.granule < item.n, changed;
        int diagonal = p.own ? earlier_granules(p) + item.first + at.granule : item.keys;
        float factor[1][2];
        phase_wait(&shared.barriers()->rows, 0);
        if (active) begin();
        wgmma_walk(
            shared, rows, acc, item.keys, active ? min_of(item.keys, diagonal + 1) : 0, at,
            [&](mma_scores<1> &scores, int j, const unsigned char *) {
                if (j == diagonal) mask_future(scores, at);
                changed = own.raise(factor, scores, p.scale);
                own.weigh(scores, p.scale);
            },
            [&] {
                if (changed) scale_values(acc, factor);
            });
        if (!active) return;
        own.store(state(), at);
        mma_each(acc, state() + 2 * GRANULE, S::width, at, store_plain());
    }
};

/* Blocks are started in this order: the longest first. */
template <typename Tag, int PANELS>
__global__ void __launch_bounds__(WGMMA_THREADS, 1) wgmma_attend(const __grid_constant__ lucid_cuda_piece p) {
    LUCID_SHARED(base);
    wgmma_shared<PANELS> shared = {base};
    int thread = (int)threadIdx.x, n_heads = p.n_sequences * p.group;
    int blocks = (p.n_granules + WGMMA_GRANULES - 1) / WGMMA_GRANULES;
    int head = (int)blockIdx.x % n_heads, first = (blocks - 1 - (int)blockIdx.x / n_heads) * WGMMA_GRANULES;
    int n = min_of(WGMMA_GRANULES, p.n_granules - first);
    wgmma_item item = {head / p.group,
                       first,
                       n,
                       granule_query(p, head, first),
                       (size_t)wgmma_sizes<PANELS>::matrix_bytes,
                       false,
                       earlier_granules(p) + (p.own ? first + n : 0),
                       (const unsigned *)0};
    shared.begin(thread);
    if (thread >= WGMMA_READERS) {
        give_registers<WGMMA_COPY_REGISTERS>();
        wgmma_copy(shared, p, item);
    } else {
        take_registers<WGMMA_READER_REGISTERS>();
        wgmma_attender<Tag, PANELS> attender = {p, shared, item, head, mma_lane_of<1>(thread)};
        attender.walk();
    }
}

#endif
