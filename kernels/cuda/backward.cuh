/* The backward pass's kernels, for any GPU since sm_80; backward.h says what they compute.
 *
 * Eight warps take a granule of 64 rows, here `own`, through other granules. A warp has 16 of the rows: in a pair's
 * tile of 64 x 64 weights 32 of the columns, in sums half of the columns. Operands come in chunks through shared
 * memory, since four matrices 256 wide are more than that holds; the tile goes through it too, to be a left operand.
 *
 * Own key granules are drawn by tickets from the tile's last to its first, the order in which back substitution solves
 * them, and wait for those drawn before, whose blocks run already: as in the forward's solve no launch can deadlock. */
#ifndef LUCID_KERNELS_CUDA_BACKWARD_CUH
#define LUCID_KERNELS_CUDA_BACKWARD_CUH

#include "kernels/cuda/backward.h"
#include "kernels/cuda/common.cuh"

enum {
    PAIR_THREADS = 256,
    PAIR_CHUNK = 32,                /* columns of a score's operands in shared memory at once */
    PAIR_CHUNK_LD = PAIR_CHUNK + 4, /* eight rows of four columns lie in 32 different banks */
    PAIR_ROWS = 16,                 /* rows of a product's right operand at once */
    PAIR_TILES = 4,                 /* 8-column tiles of a warp's weights */
};

template <int PANELS> struct pair_sizes {
    static constexpr int width = LUCID_CUDA_PANEL * PANELS;
    static constexpr int tiles = width / 16; /* 8-column tiles of a warp's sums */
    static constexpr int ld = width + VALUE_PAD;
    /* Shared memory, in floats: weights, norms; then the tile of gradients and chunks, in whose place the values of
     * the granule that is solved come. */
    static constexpr int weights = GRANULE * WEIGHT_LD;
    static constexpr int chunks = 2 * GRANULE * PAIR_CHUNK_LD; /* not less than PAIR_ROWS * ld */
    static constexpr int most = weights + chunks > GRANULE *ld ? weights + chunks : GRANULE *ld;
    static constexpr size_t bytes = sizeof(float) * (weights + 4 * GRANULE + 4 + most);
};

typedef enum { PAIR_ATTEND, PAIR_SOLVE } pair_kind;

LUCID_DEVICE const float *side_values(const lucid_cuda_backward &p, const float *side) {
    return side + lucid_cuda_sum_floats(p.shape);
}
LUCID_DEVICE const float *side_norms(const lucid_cuda_backward &p, const float *side) {
    return side + 2 * lucid_cuda_sum_floats(p.shape);
}
/* side 0 is the key row, 1 + head a query row. */
LUCID_DEVICE float *own_row(const lucid_cuda_backward &p, int sequence, int granule, int side) {
    size_t index = (size_t)sequence * p.granules_per_tile + granule;
    return p.rows + (index * (1 + p.group) + side) * lucid_cuda_side_floats(p.shape);
}
LUCID_DEVICE const float *own_key(const lucid_cuda_backward &p, int sequence, int granule) {
    return p.keys + ((size_t)sequence * p.granules_per_tile + granule) * lucid_cuda_side_floats(p.shape);
}
LUCID_DEVICE float *own_sum(const lucid_cuda_backward &p, int sequence, int granule, int sum) {
    size_t index = (size_t)sequence * p.granules_per_tile + granule;
    return p.sums + index * lucid_cuda_sums_floats(p.shape, p.group) + sum * lucid_cuda_sum_floats(p.shape);
}

/* Granules of the other tiles. */
LUCID_DEVICE int other_granules(const lucid_cuda_backward &p) {
    return p.n_tiles ? p.n_first + (p.n_tiles - 1) * p.granules_per_tile : 0;
}
/* Of the other tiles' granules, numbered in the order in which they are taken, a side of `sides`. */
LUCID_DEVICE const float *other_side(const lucid_cuda_backward &p, int sequence, int number, int side, int sides) {
    int tile = number < p.n_first ? 0 : 1 + (number - p.n_first) / p.granules_per_tile;
    int in_tile = tile ? (number - p.n_first) % p.granules_per_tile : number;
    int granule = (tile ? p.granules_per_tile : p.n_first) - 1 - in_tile;
    size_t index = (size_t)sequence * p.granules_per_tile + granule;
    return p.tiles[tile] + (index * sides + side) * lucid_cuda_side_floats(p.shape);
}

/* c += a b, operands split into terms: the largest product comes last. */
template <int TERMS>
LUCID_DEVICE void multiply_terms(float (&c)[4], const float (&a)[TERMS][4], const float (&b)[TERMS][2]) {
    if (TERMS == 2) {
        multiply(tf32_tag(), c, a[TERMS - 1], b[0][0], b[0][1]);
        multiply(tf32_tag(), c, a[0], b[TERMS - 1][0], b[TERMS - 1][1]);
    }
    multiply(tf32_tag(), c, a[0], b[0][0], b[0][1]);
}
/* Element i of an operand as TERMS numbers of tf32. */
template <int TERMS, int N> LUCID_DEVICE void put_terms(float (&to)[TERMS][N], int i, float x) {
    to[0][i] = round_tf32(x);
    if (TERMS == 2) to[TERMS - 1][i] = round_tf32(x - to[0][i]);
}

/* A block's part of the work. KEYS: own is the key and the others are rows; else the other way round. */
template <int PANELS, int TERMS, bool KEYS> struct pair_block {
    typedef pair_sizes<PANELS> S;
    const lucid_cuda_backward &p;
    int thread, lane;
    int row, half; /* the warp's first row; which half of the columns */
    float *weights, *own_norms, *other_norms, *gradients, *chunks;
    unsigned *drawn;
    float keys[S::tiles][4], values[S::tiles][4]; /* sums over the others: dkeys, dq or dkt; dvalues */

    LUCID_DEVICE_MEMBER pair_block(const lucid_cuda_backward &piece, unsigned char *shared) : p(piece) {
        thread = (int)threadIdx.x, lane = thread & 31;
        row = 16 * (thread >> 5 & 3), half = thread >> 7;
        weights = (float *)shared;
        own_norms = weights + S::weights;
        other_norms = own_norms + 2 * GRANULE;
        drawn = (unsigned *)(other_norms + 2 * GRANULE);
        gradients = other_norms + 2 * GRANULE + 4;
        chunks = gradients + S::weights;
    }

    LUCID_DEVICE_MEMBER int tile_row(int i) const {
        return row + lucid_mma_row(lane, i);
    }
    LUCID_DEVICE_MEMBER int tile_column(int n, int i) const {
        return 32 * half + 8 * n + lucid_mma_column(lane, i);
    }

    /* --- products --- */

    /* to (rows, columns), to_ld apart = from, width apart; arrive() must follow. */
    LUCID_DEVICE_MEMBER void copy(float *to, int to_ld, const float *from, int rows, int columns) const {
        for (int e = 4 * thread; e < rows * columns; e += 4 * PAIR_THREADS)
            copy_async(to + e / columns * to_ld + e % columns, from + (size_t)(e / columns) * S::width + e % columns);
    }
    LUCID_DEVICE_MEMBER void arrive() const {
        copy_async_commit();
        copy_async_wait<0>();
        block_barrier();
    }

    /* The left operand's rows of the warp, eight columns from k. */
    LUCID_DEVICE_MEMBER void load_left(float (&a)[TERMS][4], const float *from, int ld, int k) const {
#pragma unroll
        for (int i = 0; i < 4; i++)
            put_terms<TERMS>(a, i, from[(row + (lane >> 2) + 8 * (i & 1)) * ld + k + (lane & 3) + 4 * (i >> 1)]);
    }

    /* s = own other^T, both (64, W) */
    LUCID_DEVICE_MEMBER void score(float (&s)[PAIR_TILES][4], const float *own, const float *other) const {
        float *left = chunks, *right = chunks + GRANULE * PAIR_CHUNK_LD;
#pragma unroll
        for (int n = 0; n < PAIR_TILES; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) s[n][i] = 0;
        for (int first = 0; first < S::width; first += PAIR_CHUNK) {
            block_barrier();
            copy(left, PAIR_CHUNK_LD, own + first, GRANULE, PAIR_CHUNK);
            copy(right, PAIR_CHUNK_LD, other + first, GRANULE, PAIR_CHUNK);
            arrive();
#pragma unroll
            for (int k = 0; k < PAIR_CHUNK; k += 8) {
                float a[TERMS][4], b[TERMS][2];
                load_left(a, left, PAIR_CHUNK_LD, k);
#pragma unroll
                for (int n = 0; n < PAIR_TILES; n++) {
                    const float *key = right + (32 * half + 8 * n + (lane >> 2)) * PAIR_CHUNK_LD + k + (lane & 3);
                    put_terms<TERMS>(b, 0, key[0]);
                    put_terms<TERMS>(b, 1, key[4]);
                    multiply_terms<TERMS>(s[n], a, b);
                }
            }
        }
    }

    /* sum += tile (64, 64) matrix (64, W); the tile is in shared memory. */
    LUCID_DEVICE_MEMBER void apply(float (&sum)[S::tiles][4], const float *tile, const float *matrix) const {
        for (int first = 0; first < GRANULE; first += PAIR_ROWS) {
            block_barrier();
            copy(chunks, S::ld, matrix + (size_t)first * S::width, PAIR_ROWS, S::width);
            arrive();
#pragma unroll
            for (int k = 0; k < PAIR_ROWS; k += 8) {
                float a[TERMS][4], b[TERMS][2];
                load_left(a, tile, WEIGHT_LD, first + k);
#pragma unroll
                for (int n = 0; n < S::tiles; n++) {
                    const float *x = chunks + (k + (lane & 3)) * S::ld + S::width / 2 * half + 8 * n + (lane >> 2);
                    put_terms<TERMS>(b, 0, x[0]);
                    put_terms<TERMS>(b, 1, x[4 * S::ld]);
                    multiply_terms<TERMS>(sum[n], a, b);
                }
            }
        }
    }

    /* --- sums --- */

    /* visit(element, its place in a matrix with rows ld apart) */
    template <typename Visit> LUCID_DEVICE_MEMBER void each(float (&sum)[S::tiles][4], int ld, Visit visit) const {
#pragma unroll
        for (int n = 0; n < S::tiles; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                visit(sum[n][i], tile_row(i) * ld + S::width / 2 * half + 8 * n + lucid_mma_column(lane, i));
    }
    LUCID_DEVICE_MEMBER void load(float (&sum)[S::tiles][4], const float *from) const {
        each(sum, S::width, [&](float &x, int place) { x = load_shared_global(from + place); });
    }
    LUCID_DEVICE_MEMBER void store(float *to, float (&sum)[S::tiles][4]) const {
        each(sum, S::width, [&](float &x, int place) { to[place] = x; });
    }

    /* --- a pair --- */

    LUCID_DEVICE_MEMBER void load_norms(float *to, const float *side) const {
        if (thread < 2 * GRANULE) to[thread] = side_norms(p, side)[thread];
    }

    /* What becomes of a score: a weight, zero where the row does not see the key. */
    LUCID_DEVICE_MEMBER float weigh(pair_kind kind, float s, int r, int c, bool diagonal) const {
        int i = KEYS ? c : r, j = KEYS ? r : c;
        const float *row_norms = KEYS ? other_norms : own_norms, *key_norms = KEYS ? own_norms : other_norms;
        if (diagonal && (kind == PAIR_SOLVE ? i <= j : i < j)) return 0;
        if (kind == PAIR_ATTEND) return exp2f(fmaf(s, p.scale, row_norms[i]));
        return exp2f(fmaf(s * row_factor(row_norms[i], p.head_dim), key_norms[j], weight_bias(p.head_dim)));
    }
    /* The gradient of a score from its weight and values' product t. */
    LUCID_DEVICE_MEMBER float gradient(pair_kind kind, float weight, float t, int r, int c) const {
        int i = KEYS ? c : r;
        const float *row_norms = KEYS ? other_norms : own_norms;
        if (kind == PAIR_ATTEND) return weight * (t + row_norms[GRANULE + i]);
        return -t * weight * (own_norms[r] * other_norms[c] / sqrtf((float)p.head_dim));
    }

    /* Weights and gradients of a pair go to shared memory: weights as dvalues takes them, negated for the solve. */
    LUCID_DEVICE_MEMBER void weigh_pair(pair_kind kind, const float *own, const float *other, bool diagonal) const {
        float s[PAIR_TILES][4], t[PAIR_TILES][4];
        block_barrier();
        load_norms(own_norms, own);
        load_norms(other_norms, other);
        score(s, own, other);
        score(t, side_values(p, own), side_values(p, other));
        const float sign = kind == PAIR_SOLVE ? -1.0f : 1.0f;
#pragma unroll
        for (int n = 0; n < PAIR_TILES; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int r = tile_row(i), c = tile_column(n, i);
                float weight = weigh(kind, s[n][i], r, c, diagonal);
                weights[r * WEIGHT_LD + c] = sign * weight;
                gradients[r * WEIGHT_LD + c] = gradient(kind, weight, t[n][i], r, c);
            }
    }

    /* Adds another granule. with_values: dvalues too. */
    LUCID_DEVICE_MEMBER void add(pair_kind kind, const float *own, const float *other, bool diagonal,
                                 bool with_values) {
        weigh_pair(kind, own, other, diagonal);
        if (KEYS && with_values) apply(values, weights, side_values(p, other));
        apply(keys, gradients, other);
    }

    /* --- back substitution of an own granule --- */

    /* lower = P^T with rows and columns in reverse order, which is lower triangular. */
    LUCID_DEVICE_MEMBER void put_transposed_weights(const float *own) const {
        float s[PAIR_TILES][4];
        block_barrier();
        load_norms(own_norms, own);
        load_norms(other_norms, own);
        score(s, own, own);
#pragma unroll
        for (int n = 0; n < PAIR_TILES; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int r = tile_row(i), c = tile_column(n, i);
                weights[(GRANULE - 1 - c) * WEIGHT_LD + GRANULE - 1 - r] = weigh(PAIR_SOLVE, s[n][i], r, c, true);
            }
    }

    /* dv = inverse(P^T) (values + dy), in fp32 */
    LUCID_DEVICE_MEMBER void substitute_back(float *dv, const float *own, const float *dy) {
        float *rhs = gradients;
        put_transposed_weights(own);
        block_barrier();
        each(values, S::width, [&](float &x, int place) {
            int r = place / S::width, c = place % S::width;
            rhs[(GRANULE - 1 - r) * S::ld + c] = x + load_shared_global(dy + place);
        });
        block_barrier();
        substitute(rhs, weights, S::width, thread, PAIR_THREADS);
        block_barrier();
        for (int e = thread; e < GRANULE * S::width; e += PAIR_THREADS)
            dv[e] = rhs[(GRANULE - 1 - e / S::width) * S::ld + e % S::width];
        block_barrier();
    }
};

/* --- keys --- */

/* One kind's share of an own key granule's sums. In the solve, key rows of the own tile are waited for, and after all
 * of them the granule is solved and is a row itself. */
template <typename Block> LUCID_DEVICE void add_rows(Block &b, pair_kind kind, int sequence, int granule) {
    const lucid_cuda_backward &p = b.p;
    const bool solve = kind == PAIR_SOLVE;
    const float *own = own_key(p, sequence, granule);
    unsigned *progress = p.counters + 1 + sequence, known = 0;
    float *dkeys = own_sum(p, sequence, granule, solve ? LUCID_CUDA_UPDATE_DKEYS : LUCID_CUDA_DKEYS);
    float *dy = own_sum(p, sequence, granule, LUCID_CUDA_DQ + p.group);
    float *dvalues = solve ? own_row(p, sequence, granule, 0) + lucid_cuda_sum_floats(p.shape) : dy;
    int n_others = other_granules(p), n = n_others + (p.own ? p.n_granules - granule : 0);
    block_barrier(); /* dY is read where other threads wrote it */
    b.load(b.keys, dkeys);
    b.load(b.values, dvalues);
    for (int number = 0; number < n; number++) {
        int in_own = number - n_others; /* granules of the own tile before this one */
        bool diagonal = p.own && number == n - 1;
        if (solve && !diagonal && in_own >= 0 && b.thread == 0)
            wait_for_granules(&known, progress, (unsigned)in_own + 1);
        block_barrier();
        if (solve && diagonal) {
            b.substitute_back(dvalues, own, dy);
            if (b.thread == 0) publish(progress, (unsigned)in_own + 1);
        }
        for (int side = solve ? 0 : 1; side <= (solve ? 0 : p.group); side++) {
            const float *row = in_own < 0 ? other_side(p, sequence, number, side, 1 + p.group)
                                          : own_row(p, sequence, p.n_granules - 1 - in_own, side);
            b.add(kind, own, row, diagonal, !(solve && diagonal));
        }
    }
    b.store(dkeys, b.keys);
    if (!(solve && p.own)) b.store(dvalues, b.values);
}

template <int PANELS, int TERMS>
__global__ void __launch_bounds__(PAIR_THREADS) backward_keys(const __grid_constant__ lucid_cuda_backward p) {
    LUCID_SHARED(shared);
    pair_block<PANELS, TERMS, true> b(p, shared);
    unsigned item, n_sequences = (unsigned)p.n_sequences;
    while (draw_item(&item, b.drawn, p.counters, (unsigned)p.n_granules * n_sequences)) {
        int sequence = (int)(item % n_sequences), granule = p.n_granules - 1 - (int)(item / n_sequences);
#pragma unroll 1
        for (int kind = PAIR_ATTEND; kind <= (p.solve ? PAIR_SOLVE : PAIR_ATTEND); kind++)
            add_rows(b, (pair_kind)kind, sequence, granule);
    }
}

/* --- rows --- */

/* A block a side of an own row granule; side 0 is the solve's. The longest come first. Two of them fit into a
 * multiprocessor where its registers hold their sums. */
template <int PANELS, int TERMS>
__global__ void __launch_bounds__(PAIR_THREADS, PANELS == 4 ? 1 : 2)
    backward_rows(const __grid_constant__ lucid_cuda_backward p) {
    LUCID_SHARED(shared);
    pair_block<PANELS, TERMS, false> b(p, shared);
    int sides = 1 + p.group, index = (int)blockIdx.x, side = index % sides, sequence = index / sides % p.n_sequences;
    int granule = p.n_granules - 1 - index / sides / p.n_sequences;
    if (side == 0 && !p.solve) return;
    pair_kind kind = side ? PAIR_ATTEND : PAIR_SOLVE;
    const float *own = own_row(p, sequence, granule, side);
    float *sum = own_sum(p, sequence, granule, LUCID_CUDA_DKT + side);
    b.load(b.keys, sum);
    int n_own = p.own ? granule + 1 : 0, n = n_own + other_granules(p);
    for (int number = 0; number < n; number++) {
        const float *key =
            number < n_own ? own_key(p, sequence, granule - number) : other_side(p, sequence, number - n_own, 0, 1);
        b.add(kind, own, key, p.own && number == 0, false);
    }
    b.store(sum, b.keys);
}

/* --- between the host's granules and sides: one block a granule --- */

static __global__ void __launch_bounds__(PAIR_THREADS) pack_sides(float *sides, const lucid_cuda_side_form f) {
    size_t granule = blockIdx.x;
    int width = lucid_cuda_width(f.shape);
    const float *keys = f.keys + granule * f.keys_stride, *rest = f.rest + granule * f.rest_stride;
    float *side = sides + granule * f.stride, *values = side + lucid_cuda_sum_floats(f.shape);
    float *norms = values + lucid_cuda_sum_floats(f.shape);
    for (int e = (int)threadIdx.x; e < GRANULE * width; e += PAIR_THREADS) {
        int i = e / width, c = e % width;
        side[e] = c < f.host.head_dim ? keys[c * GRANULE + i] : 0;
        values[e] = c < f.host.value_dim ? rest[GRANULE + i * f.host.value_ld + c] : 0;
    }
    if (threadIdx.x >= GRANULE) return;
    norms[threadIdx.x] = rest[threadIdx.x];
    norms[GRANULE + threadIdx.x] = f.delta ? rest[GRANULE * (1 + f.host.value_ld) + (int)threadIdx.x] : 0;
}

/* to (64, ld) = factor * from (64, W) */
LUCID_DEVICE void take_rows(float *to, const float *from, int ld, int width, float factor) {
    for (int e = (int)threadIdx.x; e < GRANULE * ld; e += PAIR_THREADS) to[e] = factor * from[e / ld * width + e % ld];
}
/* to (ld, 64) = transpose of from (64, W) */
LUCID_DEVICE void take_columns(float *to, const float *from, int ld, int width) {
    for (int e = (int)threadIdx.x; e < GRANULE * ld; e += PAIR_THREADS) to[e] = from[e % GRANULE * width + e / GRANULE];
}

static __global__ void __launch_bounds__(PAIR_THREADS)
    unpack_sides(float *host, const float *sides, const lucid_cuda_side_form f) {
    size_t granule = blockIdx.x;
    take_rows(host + granule * GRANULE * f.host.value_ld, sides + granule * f.stride + lucid_cuda_sum_floats(f.shape),
              f.host.value_ld, lucid_cuda_width(f.shape), 1);
}

static __global__ void __launch_bounds__(PAIR_THREADS)
    unpack_sums(float *host, const float *sums, int group, float scale, const lucid_cuda_side_form f) {
    int width = lucid_cuda_width(f.shape), ld = (f.host.head_dim + 15) / 16 * 16, dy = LUCID_CUDA_DQ + group;
    size_t to_each = (size_t)GRANULE * ld, each = lucid_cuda_sum_floats(f.shape);
    float *to = host + blockIdx.x * (dy * to_each + (size_t)GRANULE * f.host.value_ld);
    const float *from = sums + blockIdx.x * lucid_cuda_sums_floats(f.shape, group);
    take_rows(to, from, ld, width, scale);
    take_rows(to + to_each, from + each, ld, width, 1);
    for (int sum = LUCID_CUDA_DKT; sum < dy; sum++) take_columns(to + sum * to_each, from + sum * each, ld, width);
    take_rows(to + dy * to_each, from + dy * each, f.host.value_ld, width, 1);
}

#endif
