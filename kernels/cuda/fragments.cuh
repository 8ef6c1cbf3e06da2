/* What a warp does with scores and values where the matrix instructions leave them: an accumulator of 16 rows by 8
 * columns has the same places over the lanes for mma.sync and wgmma, so both sets of kernels are made of these.
 *
 * A warp has M tiles of 16 rows. Scores become weights in their registers, and these are the left operand of the second
 * product as they lie. */
#ifndef LUCID_KERNELS_CUDA_FRAGMENTS_CUH
#define LUCID_KERNELS_CUDA_FRAGMENTS_CUH

#include "kernels/cuda/common.cuh"

enum { KEY_GROUPS = GRANULE / 16, KEY_COLUMNS = GRANULE / 8 };

/* A thread's place in its row block. */
struct mma_lane {
    int thread, lane;
    int granule; /* of the row block, that the warp's rows lie in */
    int row;     /* the warp's first, in that granule */
};

template <int M> LUCID_DEVICE mma_lane mma_lane_of(int thread) {
    int first = (thread >> 5) * 16 * M;
    return mma_lane{thread, thread & 31, first / GRANULE, first % GRANULE};
}

template <int M> struct mma_scores { float s[M][KEY_COLUMNS][4]; };
template <int M, int PANELS> struct mma_values { float v[M][8 * PANELS][4]; };

/* The left operand for keys 16 k..16 k + 15. */
template <int M> LUCID_DEVICE void weights_operand(uint32_t (&a)[4], const mma_scores<M> &weights, int m, int k) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float(&s)[4] = weights.s[m][2 * k + (i >> 1)];
        a[i] = pack_halves(s[2 * (i & 1)], s[2 * (i & 1) + 1]);
    }
}

/* Of rows (64, ld) of the warp's granule: visit(value, place) of each of the thread's elements. */
template <int M, int PANELS, typename Visit>
LUCID_DEVICE void mma_each(mma_values<M, PANELS> &acc, float *rows, int ld, const mma_lane &at, Visit visit) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < 8 * PANELS; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int row = at.row + 16 * m + lucid_mma_row(at.lane, i);
                visit(acc.v[m][n][i], rows[row * ld + 8 * n + lucid_mma_column(at.lane, i)]);
            }
}

struct load_negated {
    LUCID_DEVICE_MEMBER void operator()(float &value, const float &place) const {
        value = -place;
    }
};
struct store_negated {
    LUCID_DEVICE_MEMBER void operator()(const float &value, float &place) const {
        place = -value;
    }
};
struct load_plain {
    LUCID_DEVICE_MEMBER void operator()(float &value, const float &place) const {
        value = place;
    }
};
struct store_plain {
    LUCID_DEVICE_MEMBER void operator()(const float &value, float &place) const {
        place = value;
    }
};

/* --- solve --- */

/* The exponents of a warp's rows: weight = exp2(score factor norm + bias). */
template <int M> struct solve_rows {
    float factors[M][2], bias;

    /* norms: of the warp's granule */
    LUCID_DEVICE_MEMBER void begin(const float *norms, int head_dim, const mma_lane &at) {
        for (int m = 0; m < M; m++)
            for (int i = 0; i < 2; i++)
                factors[m][i] = row_factor(norms[at.row + 16 * m + lucid_mma_row(at.lane, 2 * i)], head_dim);
        bias = weight_bias(head_dim);
    }

    /* Scores become weights; norms are the keys'. */
    LUCID_DEVICE_MEMBER void weigh(mma_scores<M> &scores, const float *norms, const mma_lane &at) const {
#pragma unroll
        for (int n = 0; n < KEY_COLUMNS; n++) {
            int column = 8 * n + lucid_mma_column(at.lane, 0);
            float norm[2] = {norms[column], norms[column + 1]};
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    scores.s[m][n][i] = exp2_fast(fmaf(scores.s[m][n][i] * factors[m][i >> 1], norm[i & 1], bias));
        }
    }
};

/* Where the diagonal granules of a row block are solved, in shared memory. */
struct diagonal_space {
    float *lower;           /* (64 keys, WEIGHT_LD) weights, transposed */
    float *values;          /* (64, width + VALUE_PAD) what is left of its values, then y */
    unsigned char *rounded; /* y as the block's next granule applies it; NULL: there is none */
};

template <int M> LUCID_DEVICE void put_weights(float *lower, const mma_scores<M> &weights, const mma_lane &at) {
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < KEY_COLUMNS; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                lower[(8 * n + lucid_mma_column(at.lane, i)) * WEIGHT_LD + at.row + 16 * m +
                      lucid_mma_row(at.lane, i)] = weights.s[m][n][i];
}

/* A solved granule leaves: y to rhs, rounded to the record and to `rounded`. */
template <int PANELS>
LUCID_DEVICE void emit_granule(const lucid_cuda_piece &p, int sequence, int granule, const diagonal_space &space,
                               int thread, int n_threads) {
    constexpr int width = LUCID_CUDA_PANEL * PANELS, matrix_bytes = LUCID_CUDA_PANEL_BYTES * PANELS;
    float *y = granule_rhs(p, sequence, granule);
    unsigned char *record = own_record(p, sequence, granule) + matrix_bytes;
    for (int e = 2 * thread; e < GRANULE * width; e += 2 * n_threads) {
        int row = e / width, column = e % width;
        const float *v = space.values + row * (width + VALUE_PAD) + column;
        int place = lucid_cuda_chunk(row, column >> 3) + 2 * (column & 7);
        uint32_t pair = pack_halves(v[0], v[1]);
        y[e] = v[0];
        y[e + 1] = v[1];
        *(uint32_t *)(record + place) = pair;
        if (space.rounded) *(uint32_t *)(space.rounded + place) = pair;
    }
}

/* --- softmax --- */

template <int M> struct softmax_rows {
    float m[M][2], l[M][2];

    /* state: of the warp's granule; first: it begins here */
    LUCID_DEVICE_MEMBER void begin(const float *state, bool first, const mma_lane &at) {
        for (int t = 0; t < M; t++)
            for (int i = 0; i < 2; i++) {
                int row = at.row + 16 * t + lucid_mma_row(at.lane, 2 * i);
                m[t][i] = first ? -INFINITY : state[row];
                l[t][i] = first ? 0 : state[GRANULE + row];
            }
    }

    LUCID_DEVICE_MEMBER void store(float *state, const mma_lane &at) const {
        for (int t = 0; t < M; t++)
            for (int i = 0; i < 2; i++) {
                int row = at.row + 16 * t + lucid_mma_row(at.lane, 2 * i);
                if (at.lane & 3) continue;
                state[row] = m[t][i];
                state[GRANULE + row] = l[t][i];
            }
    }

    /* A row's reference rises to the granule's largest score where that is far above it. factor: what its sums so far
     * are to be multiplied by. Whether any of the warp's is not 1. */
    LUCID_DEVICE_MEMBER bool raise(float (&factor)[M][2], const mma_scores<M> &scores, float scale) {
        bool changed = false;
#pragma unroll
        for (int t = 0; t < M; t++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float largest = row_maximum(scores, t, half) * scale;
                bool rises = largest > m[t][half] + RESCALE_EXPONENT;
                factor[t][half] = rises ? exp2_fast(m[t][half] - largest) : 1;
                if (rises) m[t][half] = largest;
                l[t][half] *= factor[t][half];
                changed |= rises;
            }
        return any_lane(changed);
    }

    LUCID_DEVICE_MEMBER void weigh(mma_scores<M> &scores, float scale) {
#pragma unroll
        for (int t = 0; t < M; t++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float sum = 0;
#pragma unroll
                for (int c = 0; c < KEY_COLUMNS; c++)
#pragma unroll
                    for (int i = 2 * half; i < 2 * half + 2; i++) {
                        scores.s[t][c][i] = exp2_fast(fmaf(scores.s[t][c][i], scale, -m[t][half]));
                        sum += scores.s[t][c][i];
                    }
                sum += quad_exchange(sum, 1);
                l[t][half] += sum + quad_exchange(sum, 2);
            }
    }

  private:
    LUCID_DEVICE_MEMBER static float row_maximum(const mma_scores<M> &scores, int t, int half) {
        float x = -INFINITY;
#pragma unroll
        for (int c = 0; c < KEY_COLUMNS; c++)
            x = fmaxf(x, fmaxf(scores.s[t][c][2 * half], scores.s[t][c][2 * half + 1]));
        x = fmaxf(x, quad_exchange(x, 1));
        return fmaxf(x, quad_exchange(x, 2));
    }
};

/* Of a granule's own keys, those after each row. */
template <int M> LUCID_DEVICE void mask_future(mma_scores<M> &scores, const mma_lane &at) {
#pragma unroll
    for (int t = 0; t < M; t++)
#pragma unroll
        for (int c = 0; c < KEY_COLUMNS; c++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (8 * c + lucid_mma_column(at.lane, i) > at.row + 16 * t + lucid_mma_row(at.lane, i))
                    scores.s[t][c][i] = -INFINITY;
}

template <int M, int PANELS> LUCID_DEVICE void scale_values(mma_values<M, PANELS> &acc, const float (&factor)[M][2]) {
#pragma unroll
    for (int t = 0; t < M; t++)
#pragma unroll
        for (int c = 0; c < 8 * PANELS; c++)
#pragma unroll
            for (int i = 0; i < 4; i++) acc.v[t][c][i] *= factor[t][i >> 1];
}

template <int M, int PANELS> LUCID_DEVICE void clear_values(mma_values<M, PANELS> &acc) {
#pragma unroll
    for (int t = 0; t < M; t++)
#pragma unroll
        for (int c = 0; c < 8 * PANELS; c++)
#pragma unroll
            for (int i = 0; i < 4; i++) acc.v[t][c][i] = 0;
}

#endif
