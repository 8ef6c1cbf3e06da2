/* Decoding against the fp64 sums over the same cached numbers, for every group, dimension and tail; and what must not
 * change a bit: the number of rows that go together, what lies behind the last token. */
#include "tests/kernels/fixture.h"

typedef struct {
    lucid_decode_shape shape;
    int n;                /* cached tokens */
    float *q, *key;       /* (group, d), (d): the new token */
    float rnorm, q_scale; /* the key's */
    unsigned char *cached;
    float *rows, *scratch;
} decode_case;

static float bf16_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static void put_element(void *to, size_t index, float x, lucid_dtype dtype) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (dtype == LUCID_F32)
        ((float *)to)[index] = x;
    else
        ((uint16_t *)to)[index] = (uint16_t)(bits >> 16);
}

static double get_element(const void *from, size_t index, lucid_dtype dtype) {
    if (dtype == LUCID_F32) return ((const float *)from)[index];
    const uint32_t bits = (uint32_t)((const uint16_t *)from)[index] << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static unsigned char *record_at(const decode_case *c, int g) {
    return c->cached + (size_t)g * lucid_cached_bytes(c->shape.shape, c->shape.dtype);
}

/* Behind token n everything is NaN, which must not be seen. */
static decode_case case_make(int n, int d, int dv, int group, lucid_dtype dtype, uint64_t seed) {
    decode_case c = {.shape = {lucid_shape_make(d, dv), dtype, group, true}, .n = n};
    const lucid_shape s = c.shape.shape;
    const size_t granules = (n + GRANULE - 1) / GRANULE, bytes = granules * lucid_cached_bytes(s, dtype);
    c.cached = allocate(bytes);
    memset(c.cached, 0xff, bytes);
    c.q = normals((size_t)group * d, seed);
    c.key = normals(d, seed + 1);
    c.q_scale = (float)(M_LOG2E / sqrt(d));
    c.rnorm = (float)(1 / sqrt(dot(c.key, c.key, d) / d + EPS));
    c.rows = allocate_floats(lucid_decode_rows_floats(&c.shape));
    c.scratch = allocate_floats(lucid_decode_scratch_floats(&c.shape));
    for (int j = 0; j < n; j++) {
        unsigned char *record = record_at(&c, j / GRANULE);
        void *y = record + lucid_cached_values(s, dtype);
        double squares = 0;
        for (int e = 0; e < d; e++) { /* near the new key, or P would be nothing at all */
            const float x = bf16_of((float)(0.8 * c.key[e] + 0.6 * normal(&seed)));
            put_element(record, (size_t)e * GRANULE + j % GRANULE, x, dtype);
            squares += (double)x * x;
        }
        ((float *)(void *)(record + lucid_cached_rnorm(s, dtype)))[j % GRANULE] = (float)(1 / sqrt(squares / d + EPS));
        for (int e = 0; e < s.value_ld; e++)
            put_element(y, (size_t)(j % GRANULE) * s.value_ld + e, e < dv ? bf16_of((float)normal(&seed)) : 0, dtype);
    }
    lucid_decode_pack(c.rows, c.q, c.q_scale, c.key, c.rnorm, &c.shape);
    return c;
}

static void case_free(decode_case *c) {
    free(c->q), free(c->key), free(c->cached), free(c->rows), free(c->scratch);
}

/* A partial of granules first..end-1. */
static float *partial_of(const lucid_kernels *set, const decode_case *c, int first, int end) {
    float *partial = allocate_floats(lucid_partial_floats(&c->shape));
    const int n = c->n < end * GRANULE ? c->n - first * GRANULE : (end - first) * GRANULE;
    set->decode_begin(partial, c->rows, c->key, &c->shape);
    if (n > 0) set->decode(partial, c->rows, record_at(c, first), n, &c->shape, c->scratch);
    return partial;
}

/* In pieces of `piece` granules, merged in ascending order. */
static float *merged(const lucid_kernels *set, const decode_case *c, int piece) {
    float *whole = partial_of(set, c, 0, 0);
    for (int g = 0; g * GRANULE < c->n; g += piece) {
        float *partial = partial_of(set, c, g, g + piece);
        set->decode_merge(whole, partial, &c->shape);
        free(partial);
    }
    return whole;
}

static double product(const decode_case *c, const float *x, int j) {
    double sum = 0;
    for (int e = 0; e < c->shape.shape.head_dim; e++)
        sum += x[e] * get_element(record_at(c, j / GRANULE), (size_t)e * GRANULE + j % GRANULE, c->shape.dtype);
    return sum;
}

static double value(const decode_case *c, int j, int e) {
    const unsigned char *y = record_at(c, j / GRANULE) + lucid_cached_values(c->shape.shape, c->shape.dtype);
    return get_element(y, (size_t)(j % GRANULE) * c->shape.shape.value_ld + e, c->shape.dtype);
}

/* want (group + 1, value_dim): the heads' outputs, then sum P y. */
static double *reference(const decode_case *c) {
    const int d = c->shape.shape.head_dim, dv = c->shape.shape.value_dim, group = c->shape.group;
    double *want = calloc((size_t)(group + 1) * dv, sizeof *want), *weight = calloc(c->n, sizeof *weight);
    for (int h = 0; h <= group; h++) {
        double largest = -INFINITY, sum = 0;
        for (int j = 0; j < c->n; j++) {
            const float *norm = (const float *)(const void *)(record_at(c, j / GRANULE) +
                                                              lucid_cached_rnorm(c->shape.shape, c->shape.dtype));
            weight[j] = h < group
                            ? product(c, c->q + (size_t)h * d, j) * c->q_scale
                            : (product(c, c->key, j) * c->rnorm * norm[j % GRANULE] / sqrt(d) - sqrt(d)) * M_LOG2E;
            largest = fmax(largest, weight[j]);
        }
        if (h == group) largest = 0;
        for (int j = 0; j < c->n; j++) sum += weight[j] = exp2(weight[j] - largest);
        if (h == group) sum = 1;
        for (int j = 0; j < c->n; j++)
            for (int e = 0; e < dv; e++) want[(size_t)h * dv + e] += weight[j] / sum * value(c, j, e);
    }
    free(weight);
    return want;
}

/* A score of d terms is off by a few units of its largest magnitude; 16 more are for exp2 and the sums, and sums of
 * weights of both signs lose a digit. */
static void check_case(const lucid_kernels *set, const decode_case *c, int piece, double reach, const char *what) {
    const int dv = c->shape.shape.value_dim, w = c->shape.shape.value_ld, group = c->shape.group;
    double *want = reference(c), bound = 4 * (16 + 4 * sqrt(c->shape.shape.head_dim) + 4 * reach) * 0x1p-24;
    float *got = merged(set, c, piece), *out = allocate_floats((size_t)group * dv);
    lucid_decode_finish(out, got, &c->shape);
    double error = row_error(out, dv, want, group, dv);
    CHECK(error <= bound, "%s, %s, n %d, d %d, d_v %d, group %d, dtype %d, pieces of %d: out %.3g above %.3g", set->isa,
          what, c->n, c->shape.shape.head_dim, dv, group, c->shape.dtype, piece, error, bound);
    error = row_error(got + lucid_partial_sum(&c->shape), w, want + (size_t)group * dv, 1, dv);
    CHECK(error <= bound, "%s, %s, n %d, d %d, d_v %d, group %d, dtype %d, pieces of %d: sum %.3g above %.3g", set->isa,
          what, c->n, c->shape.shape.head_dim, dv, group, c->shape.dtype, piece, error, bound);
    free(want), free(got), free(out);
}

static void check_shapes(const lucid_kernels *set) {
    static const int shapes[][4] = {{1, 1, 1, 1},      {63, 3, 2, 2},       {64, 64, 64, 1},  {65, 64, 64, 3},
                                    {200, 68, 68, 4},  {200, 16, 80, 5},    {130, 80, 17, 6}, {191, 128, 128, 7},
                                    {128, 64, 33, 16}, {100, 256, 256, 17}, {70, 33, 100, 40}};
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
        for (int dtype = LUCID_F32; dtype <= LUCID_BF16; dtype++) {
            const int *x = shapes[k];
            decode_case c = case_make(x[0], x[1], x[2], x[3], dtype, 7 * k + 1);
            for (int piece = 1; piece <= 4; piece *= 2) check_case(set, &c, piece, 8, "random");
            case_free(&c);
        }
}

/* A key worth 2^200 times all before it makes the reference rise, within a piece or when pieces are merged. */
static void check_giant(const lucid_kernels *set, int at) {
    decode_case c = case_make(260, 8, 8, 3, LUCID_F32, 99);
    float *kt = (float *)(void *)record_at(&c, at / GRANULE), *rnorm = kt + lucid_record_rnorm(c.shape.shape);
    const double squares = dot(c.q, c.q, 8), giant = 200 / (c.q_scale * squares);
    for (int e = 0; e < 8; e++) kt[e * GRANULE + at % GRANULE] = (float)(giant * c.q[e]);
    rnorm[at % GRANULE] = (float)(1 / sqrt(giant * giant * squares / 8 + EPS));
    for (int piece = 1; piece <= 8; piece *= 2) check_case(set, &c, piece, 200, "giant");
    case_free(&c);
}

/* Head h of a group has the bits that it has alone, and so has the sum. */
static void check_rows_alone(const lucid_kernels *set, lucid_dtype dtype) {
    const int group = 20, d = 68;
    decode_case all = case_make(150, d, 40, group, dtype, 3);
    const size_t w = all.shape.shape.value_ld;
    float *together = partial_of(set, &all, 0, 3);
    for (int h = 0; h < group; h++) {
        decode_case one = all;
        one.shape.group = 1;
        one.shape.solve = h % 2;
        lucid_decode_pack(one.rows, all.q + (size_t)h * d, all.q_scale, all.key, all.rnorm, &one.shape);
        float *alone = partial_of(set, &one, 0, 3);
        const float *o = together + lucid_partial_o(&all.shape) + h * w,
                    *sum = together + lucid_partial_sum(&all.shape);
        CHECK(!memcmp(alone, together + h, sizeof *alone), "%s: m of head %d", set->isa, h);
        CHECK(!memcmp(alone + 16, together + lucid_partial_l(&all.shape) + h, sizeof *alone), "%s: l of head %d",
              set->isa, h);
        CHECK(!memcmp(alone + 32, o, w * sizeof *o), "%s: o of head %d", set->isa, h);
        if (h % 2) CHECK(!memcmp(alone + 32 + w, sum, w * sizeof *sum), "%s: sum beside head %d", set->isa, h);
        free(alone);
    }
    free(together);
    case_free(&all);
}

/* A token on its own: out is its value, whatever the scores. */
static void check_own(const lucid_kernels *set) {
    decode_case c = case_make(1, 64, 16, 2, LUCID_F32, 5);
    for (int e = 0; e < 128; e++) c.q[e] *= 1000;
    lucid_decode_pack(c.rows, c.q, c.q_scale, c.key, c.rnorm, &c.shape);
    for (int e = 0; e < 64; e++) ((float *)(void *)c.cached)[e * GRANULE] = c.key[e];
    float *got = partial_of(set, &c, 0, 1), out[32];
    lucid_decode_finish(out, got, &c.shape);
    for (int e = 0; e < 32; e++) CHECK_NEAR(out[e], value(&c, 0, e % 16), 1e-6, "%s: own value %d", set->isa, e);
    free(got);
    case_free(&c);
}

int main(void) {
    FOR_EACH_SET(set) {
        check_shapes(set);
        for (int at = 0; at < 260; at += 37) check_giant(set, at);
        check_rows_alone(set, LUCID_F32);
        check_rows_alone(set, LUCID_BF16);
        check_own(set);
    }
    return check_result();
}
