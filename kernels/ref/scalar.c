/* The portable kernel set: plain C that reads like the algebra and runs on any machine the program runs on.
 *
 * There is no FMA instruction to count on, so an FMA of the contract is a multiplication and an addition here, and exp2
 * of weights is our own rather than libm's, whose bits depend on the machine: of libm there is one logarithm a row, in
 * lse. Same bits everywhere but for that, then, and other bits than the SIMD sets'. */
#include <math.h>
#include <string.h>

#include "kernels/ref/exact.h"
#include "kernels/sets.h"

enum { GRANULE = LUCID_GRANULE, BLOCK = 16 };

static bool supported(void) {
    return true;
}

/* 2^x within 3 ulp; 0 below 2^-126, infinity from 2^127.5 on. */
static float exp2_of(float x) {
    if (!(x > -127)) return x != x ? x : 0;
    if (x >= 127.5f) return INFINITY;
    float n = rintf(x), r = x - n;
    float p = 0x1.5c08e2p-10f * r + 0x1.3d0c4cp-7f;
    p = p * r + 0x1.c6b6eap-5f;
    p = p * r + 0x1.ebf924p-3f;
    p = p * r + 0x1.62e424p-1f;
    p = p * r + 1;
    uint32_t bits = (uint32_t)((int)n + 127) << 23; /* n = -127 gives 0 */
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

/* A half by integers alone: exponents are rebiased by 112 and subnormals renormalised by a subtraction. */
static float from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff, bits;
    float x;
    if (magnitude >= 0x7c00) { /* infinity, NaN */
        bits = 0x7f800000 | (magnitude << 13);
        memcpy(&x, &bits, sizeof x);
    } else if (magnitude >= 0x0400) {
        bits = (magnitude << 13) + (112u << 23);
        memcpy(&x, &bits, sizeof x);
    } else {
        x = (float)magnitude * 0x1p-24f;
    }
    memcpy(&bits, &x, sizeof bits);
    bits |= sign;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float from_bf16(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float element(const void *src, lucid_dtype dtype, size_t index) {
    const char *at = (const char *)src + index * lucid_dtype_bytes(dtype);
    uint16_t h;
    float x;
    if (dtype == LUCID_F32) {
        memcpy(&x, at, sizeof x);
        return x;
    }
    memcpy(&h, at, sizeof h);
    return dtype == LUCID_BF16 ? from_bf16(h) : from_f16(h);
}

static void pack_rows(float *dst, const void *src, lucid_dtype dtype, int n_rows, int d) {
    memset(dst, 0, sizeof(float) * GRANULE * d);
    for (int i = 0; i < n_rows; i++)
        for (int c = 0; c < d; c++) dst[c * GRANULE + i] = element(src, dtype, (size_t)i * d + c);
}

static void pack_values(float *record, const void *src, lucid_dtype dtype, int n_rows, lucid_shape shape) {
    float *y = record + lucid_record_values(shape);
    memset(y, 0, sizeof(float) * GRANULE * shape.value_ld);
    for (int i = 0; i < n_rows; i++)
        for (int c = 0; c < shape.value_dim; c++)
            y[i * shape.value_ld + c] = element(src, dtype, (size_t)i * shape.value_dim + c);
}

static void normalise(float *record, lucid_shape shape, float eps) {
    for (int i = 0; i < GRANULE; i++) {
        float sum = 0;
        for (int c = 0; c < shape.head_dim; c++) sum += record[c * GRANULE + i] * record[c * GRANULE + i];
        record[lucid_record_rnorm(shape) + i] = 1 / sqrtf(sum / (float)shape.head_dim + eps);
    }
}

/* dot (n_keys) = start + scale * column i of rows (d, 64) times the first n_keys columns of kt (d, 64), over first <= c
 * < last. */
static void dots(float *dot, float start, float scale, const float *rows, int i, const float *kt, int first, int last,
                 int n_keys) {
    for (int j = 0; j < n_keys; j++) dot[j] = start;
    for (int c = first; c < last; c++) {
        float x = rows[c * GRANULE + i] * scale;
        for (int j = 0; j < n_keys; j++) dot[j] += x * kt[c * GRANULE + j];
    }
}

/* sum (w) = p (n_keys) y (n_keys, w) */
static void weighted_sum(float *sum, const float *p, const float *y, int w, int n_keys) {
    memset(sum, 0, sizeof(float) * w);
    for (int j = 0; j < n_keys; j++)
        for (int c = 0; c < w; c++) sum[c] += p[j] * y[j * w + c];
}

/* p_j = P_ij for the first n_keys keys of a granule */
static void kernel_row(float *p, const float *row, int i, const float *key, lucid_shape shape, int n_keys) {
    int d = shape.head_dim;
    const float *norm = key + lucid_record_rnorm(shape);
    float scale = row[lucid_record_rnorm(shape) + i] * (float)(M_LOG2E / sqrt(d)), bias = (float)(-sqrt(d) * M_LOG2E);
    dots(p, 0, scale, row, i, key, 0, d, n_keys);
    for (int j = 0; j < n_keys; j++) p[j] = exp2_of(p[j] * norm[j] + bias);
}

/* y_i -= P_i y over the first n_keys keys of a granule */
static void update_row(float *y_i, const float *row, int i, const float *key, lucid_shape shape, int n_keys) {
    float p[GRANULE], sum[LUCID_MAX_HEAD_DIM];
    kernel_row(p, row, i, key, shape, n_keys);
    weighted_sum(sum, p, key + lucid_record_values(shape), shape.value_ld, n_keys);
    for (int c = 0; c < shape.value_ld; c++) y_i[c] -= sum[c];
}

static void update(float *row, const float *const *keys, int64_t n_keys, lucid_shape shape, float *scratch) {
    (void)scratch;
    float *y = row + lucid_record_values(shape);
    for (int64_t g = 0; g < n_keys; g++)
        for (int i = 0; i < GRANULE; i++) update_row(y + i * shape.value_ld, row, i, keys[g], shape, GRANULE);
}

/* Column c of inverse is x with L x = e_c, L = I + the strictly lower part of p (16, 64). */
static void invert_block(float inverse[BLOCK][BLOCK], const float *p) {
    for (int i = 0; i < BLOCK; i++)
        for (int c = 0; c < BLOCK; c++) {
            float x = i == c;
            for (int j = c; j < i; j++) x -= p[i * GRANULE + j] * inverse[j][c];
            inverse[i][c] = x;
        }
}

/* y_b -= P_b,<b y_<b, then y_b = inverse_b y_b */
static void substitute_block(float *y, const float *p, int b, int w) {
    float inverse[BLOCK][BLOCK], sum[LUCID_MAX_HEAD_DIM];
    float *y_b = y + b * w;
    invert_block(inverse, p + b * GRANULE + b);
    for (int i = 0; i < BLOCK; i++) {
        weighted_sum(sum, p + (b + i) * GRANULE, y, w, b);
        for (int c = 0; c < w; c++) y_b[i * w + c] -= sum[c];
    }
    for (int i = BLOCK - 1; i >= 0; i--) { /* upwards: row i needs rows up to i as they were */
        weighted_sum(sum, inverse[i], y_b, w, i + 1);
        memcpy(y_b + i * w, sum, sizeof(float) * w);
    }
}

static void solve(float *row, lucid_shape shape, float *scratch) {
    float *p = scratch;
    for (int i = 0; i < GRANULE; i++) kernel_row(p + i * GRANULE, row, i, row, shape, i);
    for (int b = 0; b < GRANULE; b += BLOCK) substitute_block(row + lucid_record_values(shape), p, b, shape.value_ld);
}

static void attend_begin(float *state, const float *qt, const float *record, double scale, lucid_shape shape) {
    memset(state, 0, sizeof(float) * lucid_state_floats(shape));
    for (int c = 0; c < shape.head_dim; c++)
        for (int i = 0; i < GRANULE; i++) state[i] += qt[c * GRANULE + i] * record[c * GRANULE + i];
    for (int i = 0; i < GRANULE; i++) {
        state[i] *= (float)scale;
        if (fabsf(state[i]) < LUCID_START_EXPONENT) state[i] = 0;
    }
}

/* a + b, and what rounding it lost added to lost: Knuth's TwoSum. */
static float add_exactly(float a, float b, float *lost) {
    float sum = a + b, added = sum - a;
    *lost += (a - (sum - added)) + (b - added);
    return sum;
}

/* p_j = exp2(x_ij), compensated. */
static void compensated_weights(float *p, float m, const float *qt, int i, const float *kt, float scale, int d,
                                int n_keys) {
    const int length = (d + 7) / 8;
    float part[GRANULE], lost[GRANULE] = {0};
    for (int j = 0; j < n_keys; j++) p[j] = -m;
    for (int c = 0; c < d; c += length) {
        dots(part, 0, scale, qt, i, kt, c, d - c < length ? d : c + length, n_keys);
        for (int j = 0; j < n_keys; j++) p[j] = add_exactly(p[j], part[j], &lost[j]);
    }
    for (int j = 0; j < n_keys; j++) {
        float weight = exp2_of(p[j]);
        p[j] = weight + weight * (lost[j] * (float)M_LN2);
    }
}

/* p_j = exp2(x_ij); returns their sum */
static float softmax_row(float *p, float m, const float *qt, int i, const float *kt, float scale, int d, int n_keys,
                         lucid_precision precision) {
    float sum = 0, second[GRANULE];
    bool careful = precision == LUCID_CAREFUL;
    if (precision == LUCID_COMPENSATED) {
        compensated_weights(p, m, qt, i, kt, scale, d, n_keys);
        for (int j = 0; j < n_keys; j++) sum += p[j];
        return sum;
    }
    int first = careful ? d - d / 2 : d;
    dots(p, careful ? 0 : -m, scale, qt, i, kt, 0, first, n_keys);
    dots(second, 0, scale, qt, i, kt, first, d, n_keys);
    for (int j = 0; j < n_keys; j++) sum += p[j] = exp2_of(careful ? p[j] - m + second[j] : p[j]);
    return sum;
}

/* Raises m to the largest score of the n_keys keys and rescales l and o (w). */
static void raise_reference(float *m, float *l, float *o, const float *qt, int i, const float *kt, float scale,
                            lucid_shape shape, int n_keys) {
    float score[GRANULE], largest = *m;
    dots(score, 0, scale, qt, i, kt, 0, shape.head_dim, n_keys);
    for (int j = 0; j < n_keys; j++) largest = fmaxf(largest, score[j]);
    float factor = exp2_of(*m - largest);
    *m = largest;
    *l *= factor;
    for (int c = 0; c < shape.value_ld; c++) o[c] *= factor;
}

static void attend_row(float *state, const float *qt, int i, const float *key, float scale, lucid_shape shape,
                       int n_keys, lucid_precision precision) {
    const int length = precision == LUCID_COMPENSATED ? GRANULE / 2 : GRANULE;
    const float *y = key + lucid_record_values(shape);
    float p[GRANULE], weighted[LUCID_MAX_HEAD_DIM];
    float *m = state + i, *l = state + GRANULE + i, *o = state + 2 * GRANULE + i * shape.value_ld;
    float sum = softmax_row(p, *m, qt, i, key, scale, shape.head_dim, n_keys, precision);
    if (!(sum <= (float)(1ull << LUCID_RESCALE_EXPONENT))) {
        raise_reference(m, l, o, qt, i, key, scale, shape, n_keys);
        sum = softmax_row(p, *m, qt, i, key, scale, shape.head_dim, n_keys, precision);
    }
    *l += sum;
    for (int j = 0; j < n_keys; j += length) {
        weighted_sum(weighted, p + j, y + j * shape.value_ld, shape.value_ld,
                     n_keys - j < length ? n_keys - j : length);
        for (int c = 0; c < shape.value_ld; c++) o[c] += weighted[c];
    }
}

static void attend(float *state, const float *qt, const float *const *keys, int64_t n_keys, bool diagonal,
                   lucid_precision precision, double scale, lucid_shape shape, float *scratch) {
    (void)scratch;
    for (int64_t g = 0; g < n_keys; g++)
        for (int i = 0; i < GRANULE; i++) {
            int n_seen = diagonal ? i + 1 : GRANULE;
            if (precision == LUCID_EXACT)
                exact_row(state, qt, i, keys[g], scale, shape, n_seen, diagonal);
            else
                attend_row(state, qt, i, keys[g], (float)scale, shape, n_seen, precision);
        }
}

static void attend_finish(float *out, float *lse, const float *state, int n_rows, lucid_shape shape) {
    const float *m = state, *l = state + GRANULE, *o = state + 2 * GRANULE;
    for (int i = 0; i < n_rows; i++) {
        for (int c = 0; c < shape.value_dim; c++)
            out[i * shape.value_dim + c] = l[i] == 0 ? 0 : o[i * shape.value_ld + c] / l[i];
        lse[i] = l[i] == 0 ? -INFINITY : (float)((m[i] + log2(l[i])) * M_LN2);
    }
}

/* A cached record's keys (d, 64), values (64, w) and norms (64). */
typedef struct {
    const char *kt, *y;
    const float *rnorm;
    lucid_dtype dtype;
} cached_record;

static cached_record cached_at(const void *cached, int64_t index, const lucid_decode_shape *s) {
    const char *at = (const char *)cached + (size_t)index * lucid_cached_bytes(s->shape, s->dtype);
    const float *rnorm = (const float *)(const void *)(at + lucid_cached_rnorm(s->shape, s->dtype));
    return (cached_record){at, at + lucid_cached_values(s->shape, s->dtype), rnorm, s->dtype};
}

static void decode_begin(float *partial, const float *rows, const float *key, const lucid_decode_shape *s) {
    memset(partial, 0, sizeof(float) * lucid_partial_floats(s));
    for (int h = 0; h < s->group; h++) {
        float own = 0;
        for (int c = 0; c < s->shape.head_dim; c++) own += rows[c * (s->group + 1) + h] * key[c];
        if (fabsf(own) >= LUCID_START_EXPONENT) partial[h] = own;
    }
}

/* score (n) = start + row r times the first n keys */
static void decode_scores(float *score, float start, const float *rows, int r, cached_record key,
                          const lucid_decode_shape *s, int n) {
    const int d = s->shape.head_dim, length = (d + 3) / 4;
    for (int j = 0; j < n; j++) {
        score[j] = start;
        for (int first = 0; first < d; first += length) {
            float sum = 0;
            for (int c = first; c < d && c < first + length; c++)
                sum += rows[c * (s->group + 1) + r] * element(key.kt, key.dtype, (size_t)c * GRANULE + j);
            score[j] += sum;
        }
    }
}

/* dst (w) += p (n) y (n, w) */
static void add_values(float *dst, const float *p, cached_record key, int w, int n) {
    for (int c = 0; c < w; c++) {
        float sum = 0;
        for (int j = 0; j < n; j++) sum += p[j] * element(key.y, key.dtype, (size_t)j * w + c);
        dst[c] += sum;
    }
}

/* p = exp2(x); returns their sum */
static float decode_weights(float *p, float m, const float *rows, int h, cached_record key, const lucid_decode_shape *s,
                            int n) {
    float sum = 0;
    decode_scores(p, -m, rows, h, key, s, n);
    for (int j = 0; j < n; j++) sum += p[j] = exp2_of(p[j]);
    return sum;
}

static void decode_query(float *partial, const float *rows, int h, cached_record key, const lucid_decode_shape *s,
                         int n) {
    const int w = s->shape.value_ld;
    float *m = partial + h, *l = partial + lucid_partial_l(s) + h;
    float *o = partial + lucid_partial_o(s) + (size_t)h * w, p[GRANULE], largest = *m;
    float sum = decode_weights(p, *m, rows, h, key, s, n);
    if (!(sum <= (float)(1ull << LUCID_RESCALE_EXPONENT))) {
        decode_scores(p, 0, rows, h, key, s, n);
        for (int j = 0; j < n; j++) largest = fmaxf(largest, p[j]);
        float factor = exp2_of(*m - largest);
        *m = largest;
        *l *= factor;
        for (int c = 0; c < w; c++) o[c] *= factor;
        sum = decode_weights(p, *m, rows, h, key, s, n);
    }
    *l += sum;
    add_values(o, p, key, w, n);
}

static void decode_key(float *partial, const float *rows, cached_record key, const lucid_decode_shape *s, int n) {
    float p[GRANULE], bias = (float)(-sqrt(s->shape.head_dim) * M_LOG2E);
    decode_scores(p, 0, rows, s->group, key, s, n);
    for (int j = 0; j < n; j++) p[j] = exp2_of(p[j] * key.rnorm[j] + bias);
    add_values(partial + lucid_partial_sum(s), p, key, s->shape.value_ld, n);
}

static void decode(float *partial, const float *rows, const void *cached, int64_t n_tokens, const lucid_decode_shape *s,
                   float *scratch) {
    (void)scratch;
    for (int64_t g = 0; g * GRANULE < n_tokens; g++) {
        cached_record key = cached_at(cached, g, s);
        int n = n_tokens - g * GRANULE < GRANULE ? (int)(n_tokens - g * GRANULE) : GRANULE;
        for (int h = 0; h < s->group; h++) decode_query(partial, rows, h, key, s, n);
        if (s->solve) decode_key(partial, rows, key, s, n);
    }
}

static void decode_merge(float *partial, const float *other, const lucid_decode_shape *s) {
    const size_t l = lucid_partial_l(s), o = lucid_partial_o(s), sum = lucid_partial_sum(s), w = s->shape.value_ld;
    for (int h = 0; h < s->group; h++) {
        const float m = fmaxf(partial[h], other[h]);
        const float a = partial[h] == m ? 1 : exp2_of(partial[h] - m), b = other[h] == m ? 1 : exp2_of(other[h] - m);
        partial[h] = m;
        partial[l + h] = partial[l + h] * a + other[l + h] * b;
        for (size_t c = o + h * w; c < o + (h + 1) * w; c++) partial[c] = partial[c] * a + other[c] * b;
    }
    for (size_t c = sum; s->solve && c < sum + w; c++) partial[c] += other[c];
}

static float read_burst(const void *data, size_t n_bytes) {
    const float *x = data;
    float sum[8] = {0};
    for (size_t i = 0; i < n_bytes / sizeof *x; i += 8)
        for (int k = 0; k < 8; k++) sum[k] += x[i + k];
    for (int k = 1; k < 8; k++) sum[0] += sum[k];
    return sum[0];
}

/* --- backward: tiles are (key j, row i) --- */

/* x (64) += column j of kt (d, 64) times all columns of rows (d, 64) */
static void add_dots(float *x, const float *kt, int j, const float *rows, int d) {
    for (int c = 0; c < d; c++)
        for (int i = 0; i < GRANULE; i++) x[i] += kt[c * GRANULE + j] * rows[c * GRANULE + i];
}

/* x_i += y_j . values_i */
static void add_value_dots(float *x, const float *y_j, const float *values, lucid_shape shape) {
    for (int i = 0; i < GRANULE; i++)
        for (int c = 0; c < shape.value_dim; c++) x[i] += y_j[c] * values[i * shape.value_ld + c];
}

/* dkeys_j += sum_i ds_i of the columns i of rows (d, 64) */
static void add_key_sums(float *dkeys_j, const float *ds, const float *rows, int d) {
    for (int c = 0; c < d; c++) {
        float sum = 0;
        for (int i = 0; i < GRANULE; i++) sum += ds[i] * rows[c * GRANULE + i];
        dkeys_j[c] += sum;
    }
}

/* dvalues_j += or -= sum_i p_i of the rows i of values (64, w) */
static void add_value_sums(float *dvalues_j, float sign, const float *p, const float *values, int w) {
    float sum[LUCID_MAX_HEAD_DIM];
    weighted_sum(sum, p, values, w, GRANULE);
    for (int c = 0; c < w; c++) dvalues_j[c] += sign * sum[c];
}

/* dqt (d, 64) += kt (d, 64) ds (64, 64) */
static void add_row_sums(float *dqt, const float *kt, const float *ds, int d) {
    for (int c = 0; c < d; c++) {
        float sum[GRANULE] = {0};
        for (int j = 0; j < GRANULE; j++)
            for (int i = 0; i < GRANULE; i++) sum[i] += kt[c * GRANULE + j] * ds[j * GRANULE + i];
        for (int i = 0; i < GRANULE; i++) dqt[c * GRANULE + i] += sum[i];
    }
}

/* w and ds (64) of key j; rows before `first` do not see it. */
static void attend_weights(float *w, float *ds, const float *row, const float *key, int j, int first,
                           lucid_shape shape) {
    memcpy(w, row + lucid_record_rnorm(shape), sizeof(float) * GRANULE);
    memcpy(ds, row + lucid_query_row_delta(shape), sizeof(float) * GRANULE);
    add_dots(w, key, j, row, shape.head_dim);
    add_value_dots(ds, key + lucid_record_values(shape) + j * shape.value_ld, row + lucid_record_values(shape), shape);
    for (int i = 0; i < GRANULE; i++) {
        w[i] = i < first ? 0 : exp2_of(w[i]);
        ds[i] *= w[i];
    }
}

static void attend_backward_pair(float *dqt, const float *row, const lucid_key_sums *key, bool diagonal,
                                 lucid_shape shape, float *scratch) {
    for (int j = 0; j < GRANULE; j++) {
        float w[GRANULE], *ds = scratch + j * GRANULE;
        attend_weights(w, ds, row, key->record, j, diagonal ? j : 0, shape);
        if (!key->dkeys) continue;
        add_value_sums(key->dvalues + j * shape.value_ld, 1, w, row + lucid_record_values(shape), shape.value_ld);
        add_key_sums(key->dkeys + j * lucid_key_ld(shape), ds, row, shape.head_dim);
    }
    if (dqt) add_row_sums(dqt, key->record, scratch, shape.head_dim);
}

static void attend_backward(float *dqt, const float *row, const lucid_key_sums *keys, int64_t n_keys, lucid_shape shape,
                            float *scratch) {
    for (int64_t g = 0; g < n_keys; g++) attend_backward_pair(dqt, row, &keys[g], false, shape, scratch);
}

static void attend_backward_diag(float *dqt, const float *row, const lucid_key_sums *key, lucid_shape shape,
                                 float *scratch) {
    attend_backward_pair(dqt, row, key, true, shape, scratch);
}

/* P and dx (64) of key j; rows before `first` do not see it. */
static void update_weights(float *p, float *dx, const float *row, const float *key, int j, int first,
                           lucid_shape shape) {
    int d = shape.head_dim;
    const float *norms = row + lucid_record_rnorm(shape);
    float norm = key[lucid_record_rnorm(shape) + j], bias = (float)(-sqrt(d) * M_LOG2E);
    float scale = norm * (float)(M_LOG2E / sqrt(d)), gradient_scale = -norm * (float)(1 / sqrt(d));
    memset(p, 0, sizeof(float) * GRANULE);
    memset(dx, 0, sizeof(float) * GRANULE);
    add_dots(p, key, j, row, d);
    add_value_dots(dx, key + lucid_record_values(shape) + j * shape.value_ld, row + lucid_record_values(shape), shape);
    for (int i = 0; i < GRANULE; i++) {
        p[i] = i < first ? 0 : exp2_of(p[i] * (norms[i] * scale) + bias);
        dx[i] *= p[i] * (norms[i] * gradient_scale);
    }
}

static void update_backward_pair(float *dkt, const float *row, const lucid_key_sums *key, bool diagonal,
                                 lucid_shape shape, float *scratch) {
    for (int j = 0; j < GRANULE; j++) {
        float p[GRANULE], *dx = scratch + j * GRANULE;
        update_weights(p, dx, row, key->record, j, diagonal ? j + 1 : 0, shape);
        if (!key->dkeys) continue;
        if (!diagonal)
            add_value_sums(key->dvalues + j * shape.value_ld, -1, p, row + lucid_record_values(shape), shape.value_ld);
        add_key_sums(key->dkeys + j * lucid_key_ld(shape), dx, row, shape.head_dim);
    }
    if (dkt) add_row_sums(dkt, key->record, scratch, shape.head_dim);
}

static void update_backward(float *dkt, const float *row, const lucid_key_sums *keys, int64_t n_keys, lucid_shape shape,
                            float *scratch) {
    for (int64_t g = 0; g < n_keys; g++) update_backward_pair(dkt, row, &keys[g], false, shape, scratch);
}

static void update_backward_diag(float *dkt, const float *row, const lucid_key_sums *key, lucid_shape shape,
                                 float *scratch) {
    update_backward_pair(dkt, row, key, true, shape, scratch);
}

/* dv_j = dy_j - sum_{i>j} P_ij dv_i */
static void solve_backward(float *row, lucid_shape shape, float *scratch) {
    int w = shape.value_ld;
    float *p = scratch, *dv = row + lucid_record_values(shape);
    for (int i = 0; i < GRANULE; i++) kernel_row(p + i * GRANULE, row, i, row, shape, i);
    for (int j = GRANULE - 2; j >= 0; j--)
        for (int c = 0; c < w; c++) {
            float sum = 0;
            for (int i = j + 1; i < GRANULE; i++) sum += p[i * GRANULE + j] * dv[i * w + c];
            dv[j * w + c] -= sum;
        }
}

/* A multiplication and an addition stand for an FMA: the peak of plain SSE code. */
static double fma_burst(int64_t n) {
    enum { CHAINS = 32 };
    float acc[CHAINS];
    volatile float half = 0.5f;
    float a = half;
    for (int k = 0; k < CHAINS; k++) acc[k] = (float)k;
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < CHAINS; k++) acc[k] = acc[k] * a + 1;
    for (int k = 0; k < CHAINS; k++) half = acc[k]; /* the results are used */
    return 2.0 * CHAINS * (double)n;
}

const lucid_kernels lucid_kernels_scalar = {
    .isa = "scalar",
    .supported = supported,
    .pack_rows = pack_rows,
    .normalise = normalise,
    .pack_values = pack_values,
    .update = update,
    .solve = solve,
    .attend_begin = attend_begin,
    .attend = attend,
    .attend_finish = attend_finish,
    .decode_begin = decode_begin,
    .decode = decode,
    .decode_merge = decode_merge,
    .read_burst = read_burst,
    .attend_backward = attend_backward,
    .attend_backward_diag = attend_backward_diag,
    .update_backward = update_backward,
    .update_backward_diag = update_backward_diag,
    .solve_backward = solve_backward,
    .fma_burst = fma_burst,
};
