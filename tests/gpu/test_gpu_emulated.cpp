/* The GPU's kernels, run on the CPU by the emulator, against the fp64 oracle: widths, ragged lengths, grouped heads,
 * any cut into row and key tiles with the same bits, any order in which blocks and warps go on. */
#include "tests/gpu/emulated_kernels.h"

extern "C" {
#include "kernels/ref/dense.h"
}
#include "tests/check.h"

struct test_case {
    lucid_dtype dtype;
    int head_dim, value_dim, n, n_kv_heads, group;
    int tile; /* granules */
    lucid_cuda_set set;
    double scale; /* of the softmax; 0: 1 / sqrt(head_dim) */
};

static double scale_of(const test_case &t) {
    return t.scale != 0 ? t.scale : 1 / sqrt(t.head_dim);
}

static float rounded(float x, lucid_dtype dtype) {
    return dtype == LUCID_F32    ? x
           : dtype == LUCID_BF16 ? widen(bf16_tag(), narrow(bf16_tag(), x))
                                 : widen(f16_tag(), narrow(f16_tag(), x));
}

static std::mt19937 inputs;

static float normal() {
    static std::normal_distribution<float> distribution;
    return distribution(inputs);
}

/* Row-major inputs, keys round four centres at correlation 0.8, rounded to the dtype. */
struct tensors {
    std::vector<float> q, k, v;
};

static tensors make_tensors(const test_case &t) {
    tensors x;
    size_t keys = (size_t)t.n_kv_heads * t.n;
    std::vector<float> centres(4 * (size_t)t.head_dim);
    for (float &c : centres) c = normal();
    for (size_t i = 0; i < keys; i++) {
        const float *centre = &centres[inputs() % 4 * (size_t)t.head_dim];
        for (int c = 0; c < t.head_dim; c++)
            x.k.push_back(rounded(sqrtf(0.8f) * centre[c] + sqrtf(0.2f) * normal(), t.dtype));
    }
    for (size_t i = 0; i < keys * (size_t)t.value_dim; i++) x.v.push_back(rounded(normal(), t.dtype));
    for (size_t i = 0; i < keys * (size_t)t.group * (size_t)t.head_dim; i++)
        x.q.push_back(rounded(6 * normal(), t.dtype)); /* rows' references rise more than once */
    return x;
}

/* Memory aligned as a device's. */
struct memory {
    std::vector<unsigned char> bytes;
    unsigned char *at;
    explicit memory(size_t n) : bytes(n + 1024, 0xff) {
        at = bytes.data() + (1024 - (uintptr_t)bytes.data() % 1024) % 1024;
    }
};

/* One rank's memory for a case: all tiles, each a row tile and a key tile. */
struct device {
    test_case t;
    lucid_cuda_shape shape;
    lucid_shape host;
    kernel_set kernels;
    int n_granules, n_tiles;
    std::vector<memory> records, rhs, queries, states; /* by tile */
    std::vector<float> y, out, lse;                    /* row-major results */
    unsigned seed;
};

static int tile_granules(const device &d, int tile) {
    int left = d.n_granules - tile * d.t.tile;
    return left < d.t.tile ? left : d.t.tile;
}

/* (d, 64) of tokens first.. of a row-major matrix, zero behind its end. */
static void transpose(float *to, const float *from, int first, int n, int d) {
    for (int c = 0; c < d; c++)
        for (int i = 0; i < 64; i++) to[c * 64 + i] = first + i < n ? from[(size_t)(first + i) * d + c] : 0;
}

static void host_record(float *record, const device &d, const tensors &x, int head, int granule) {
    const test_case &t = d.t;
    const float *k = &x.k[(size_t)head * t.n * t.head_dim], *v = &x.v[(size_t)head * t.n * t.value_dim];
    transpose(record, k, 64 * granule, t.n, t.head_dim);
    for (int i = 0; i < 64; i++) {
        double square = 0;
        for (int c = 0; c < t.head_dim; c++) square += (double)record[c * 64 + i] * record[c * 64 + i];
        record[lucid_record_rnorm(d.host) + i] = (float)(1 / sqrt(square / t.head_dim + 1e-5));
        for (int c = 0; c < d.host.value_ld; c++)
            record[lucid_record_values(d.host) + (size_t)i * d.host.value_ld + c] =
                64 * granule + i < t.n && c < t.value_dim ? v[(size_t)(64 * granule + i) * t.value_dim + c] : 0;
    }
}

static lucid_cuda_form form_of(const device &d, int heads, const std::vector<float> &factor) {
    return {d.shape, d.host, d.t.tile * heads, d.t.tile, factor.data(), scale_of(d.t) < 0};
}

template <typename Body> static void run(device &d, Body body, unsigned blocks, unsigned threads, size_t shared) {
    emulator::launch(body, blocks, threads, shared, 1 + d.seed % 4, d.seed);
}

static void upload_tile(device &d, const tensors &x, int tile, const std::vector<float> &factor) {
    const test_case &t = d.t;
    size_t record = lucid_record_floats(d.host), query = lucid_query_floats(d.host);
    std::vector<float> records((size_t)t.n_kv_heads * t.tile * record),
        queries((size_t)t.n_kv_heads * t.group * t.tile * query);
    for (int head = 0; head < t.n_kv_heads; head++)
        for (int g = 0; g < t.tile; g++)
            host_record(&records[(size_t)(head * t.tile + g) * record], d, x, head, tile * t.tile + g);
    for (int head = 0; head < t.n_kv_heads * t.group; head++)
        for (int g = 0; g < t.tile; g++)
            transpose(&queries[(size_t)(head * t.tile + g) * query], &x.q[(size_t)head * t.n * t.head_dim],
                      64 * (tile * t.tile + g), t.n, t.head_dim);
    pack_form in = {form_of(d, t.n_kv_heads, factor), record, lucid_record_rnorm(d.host), lucid_record_values(d.host)};
    run(
        d, [&] { pack_records(d.records[tile].at, (float *)d.rhs[tile].at, records.data(), false, in); },
        (unsigned)(t.n_kv_heads * t.tile), PACK_THREADS, 0);
    in.stride = query;
    run(
        d, [&] { pack_queries(d.queries[tile].at, queries.data(), in); }, (unsigned)(t.n_kv_heads * t.group * t.tile),
        PACK_THREADS, 0);
}

static lucid_cuda_piece piece_of(device &d, int row, int first, int last, unsigned *counters) {
    lucid_cuda_piece p = {};
    p.shape = d.shape;
    p.set = d.t.set;
    p.own = last == row + 1;
    for (int tile = first; tile < last && tile < row; tile++) p.tiles[p.n_tiles++] = d.records[tile].at;
    p.granules_per_tile = d.t.tile;
    p.first = first == 0;
    p.n_granules = tile_granules(d, row);
    p.n_sequences = d.t.n_kv_heads;
    p.group = d.t.group;
    p.records = d.records[row].at;
    p.rhs = (float *)d.rhs[row].at;
    p.queries = d.queries[row].at;
    p.states = (float *)d.states[row].at;
    p.counters = counters;
    p.head_dim = d.t.head_dim;
    p.scale = lucid_cuda_scale(scale_of(d.t));
    return p;
}

static void solve_row(device &d, int row) {
    std::vector<unsigned> counters(1 + (size_t)d.t.n_kv_heads, 0);
    lucid_cuda_piece p = piece_of(d, row, 0, row, counters.data());
    int blocks = (p.n_granules + d.kernels.granules - 1) / d.kernels.granules * p.n_sequences;
    if (row)
        run(
            d, [&] { d.kernels.update(p); }, (unsigned)blocks, (unsigned)d.kernels.threads, d.kernels.solve_bytes);
    p = piece_of(d, row, row, row + 1, counters.data());
    run(
        d, [&] { d.kernels.solve(p); }, (unsigned)(blocks < 3 ? blocks : 3), (unsigned)d.kernels.threads,
        d.kernels.solve_bytes);
}

/* In two pieces where there is anything to cut. */
static void attend_row(device &d, int row) {
    int cut = (row + 1) / 2;
    for (int part = cut ? 0 : 1; part < 2; part++) {
        lucid_cuda_piece p = piece_of(d, row, part ? cut : 0, part ? row + 1 : cut, NULL);
        int blocks = (p.n_granules + d.kernels.granules - 1) / d.kernels.granules * p.n_sequences * p.group;
        run(
            d, [&] { d.kernels.attend(p); }, (unsigned)blocks, (unsigned)d.kernels.threads, d.kernels.attend_bytes);
    }
}

static void download_tile(device &d, int tile, const std::vector<float> &factor) {
    const test_case &t = d.t;
    int heads = t.n_kv_heads * t.group, ld = d.host.value_ld;
    size_t record = lucid_record_floats(d.host), state = lucid_state_floats(d.host);
    std::vector<float> records((size_t)t.n_kv_heads * t.tile * record), states((size_t)heads * t.tile * state);
    pack_form in = {form_of(d, t.n_kv_heads, factor), record, 0, lucid_record_values(d.host)};
    run(
        d, [&] { unpack_values(records.data(), (float *)d.rhs[tile].at, in); }, (unsigned)(t.n_kv_heads * t.tile),
        PACK_THREADS, 0);
    in.stride = state;
    in.form.granules_per_tile *= t.group;
    run(
        d, [&] { unpack_states(states.data(), (float *)d.states[tile].at, in); }, (unsigned)(heads * t.tile),
        PACK_THREADS, 0);
    for (int head = 0; head < heads; head++)
        for (int g = 0; g < tile_granules(d, tile); g++)
            for (int i = 0; i < 64; i++) {
                int token = 64 * (tile * t.tile + g) + i, kv = head / t.group;
                if (token >= t.n) break;
                const float *s = &states[(size_t)(head * t.tile + g) * state];
                const float *y = &records[(size_t)(kv * t.tile + g) * record + lucid_record_values(d.host)];
                d.lse[(size_t)head * t.n + token] = (float)((s[i] + log2(s[64 + i])) * M_LN2);
                for (int c = 0; c < t.value_dim; c++) {
                    d.out[((size_t)head * t.n + token) * t.value_dim + c] = s[128 + i * ld + c] / s[64 + i];
                    d.y[((size_t)kv * t.n + token) * t.value_dim + c] = y[i * ld + c];
                }
            }
}

static device run_device(const test_case &t, const tensors &x, unsigned seed) {
    device d = {};
    d.t = t;
    d.shape = {t.dtype, lucid_cuda_panels(t.head_dim, t.value_dim)};
    d.host = lucid_shape_make(t.head_dim, t.value_dim);
    d.kernels = set_of(d.shape, t.set);
    d.n_granules = (t.n + 63) / 64;
    d.n_tiles = (d.n_granules + t.tile - 1) / t.tile;
    d.seed = seed;
    size_t keys = (size_t)t.n_kv_heads * t.n, width = (size_t)lucid_cuda_width(d.shape);
    d.y.assign(keys * t.value_dim, NAN);
    d.out.assign(keys * t.group * t.value_dim, NAN);
    d.lse.assign(keys * t.group, NAN);
    std::vector<float> factor(width * t.n_kv_heads);
    for (size_t c = 0; c < factor.size(); c++) factor[c] = c % 3 ? 0.5f : 2.0f;
    for (int tile = 0; tile < d.n_tiles; tile++) {
        size_t granules = (size_t)t.n_kv_heads * t.tile;
        d.records.emplace_back(granules * lucid_cuda_record_bytes(d.shape));
        d.rhs.emplace_back(granules * 4 * lucid_cuda_rhs_floats(d.shape));
        d.queries.emplace_back(granules * t.group * lucid_cuda_matrix_bytes(d.shape));
        d.states.emplace_back(granules * t.group * 4 * lucid_cuda_state_floats(d.shape));
        upload_tile(d, x, tile, factor);
    }
    for (int tile = 0; tile < d.n_tiles; tile++) solve_row(d, tile);
    for (int tile = 0; tile < d.n_tiles; tile++) attend_row(d, tile);
    for (int tile = 0; tile < d.n_tiles; tile++) download_tile(d, tile, factor);
    return d;
}

static std::vector<double> wide(const float *x, size_t n) {
    return std::vector<double>(x, x + n);
}

/* Against the oracle, head by head. */
static void check_accuracy(const device &d, const tensors &x, double tolerance) {
    const test_case &t = d.t;
    size_t keys = (size_t)t.n * t.head_dim, values = (size_t)t.n * t.value_dim;
    for (int kv = 0; kv < t.n_kv_heads; kv++) {
        std::vector<double> k = wide(&x.k[kv * keys], keys), v = wide(&x.v[kv * values], values), kn(keys), y(values);
        lucid_dense_normalise(kn.data(), k.data(), t.n, t.head_dim, 1e-5);
        lucid_dense_solve(y.data(), kn.data(), v.data(), t.n, t.head_dim, t.value_dim);
        double error = lucid_dense_row_error(wide(&d.y[kv * values], values).data(), y.data(), t.n, t.value_dim);
        CHECK_NEAR(error, 0, tolerance, "y of head %d: set %d, dtype %d, d %d, d_v %d, N %d, tile %d, seed %u", kv,
                   t.set, t.dtype, t.head_dim, t.value_dim, t.n, t.tile, d.seed);
        for (int head = kv * t.group; head < (kv + 1) * t.group; head++) {
            std::vector<double> q = wide(&x.q[head * keys], keys), out(values), lse((size_t)t.n);
            lucid_dense_attend(out.data(), lse.data(), q.data(), k.data(), y.data(), t.n, t.head_dim, t.value_dim,
                               scale_of(t));
            error = lucid_dense_row_error(wide(&d.out[head * values], values).data(), out.data(), t.n, t.value_dim);
            CHECK_NEAR(error, 0, tolerance, "out of head %d: set %d, dtype %d, d %d, N %d, tile %d, seed %u", head,
                       t.set, t.dtype, t.head_dim, t.n, t.tile, d.seed);
            for (int i = 0; i < t.n; i++)
                CHECK_NEAR(d.lse[(size_t)head * t.n + i], lse[i], 1e-4, "lse of head %d, token %d", head, i);
        }
    }
}

/* 16-bit weights and values: 2^-11 each, and an error of y's feeds those after it. */
static double tolerance_of(lucid_dtype dtype) {
    return dtype == LUCID_F32 ? 2e-5 : 3e-3;
}

static void check_case(const test_case &t, unsigned seed) {
    tensors x = make_tensors(t);
    device d = run_device(t, x, seed);
    check_accuracy(d, x, tolerance_of(t.dtype));
}

/* Another tile and another order of events give the same bits. */
static void check_invariance(lucid_dtype dtype, lucid_cuda_set set) {
    test_case t = {dtype, 40, 40, 300, 1, 1, 5, set};
    tensors x = make_tensors(t);
    device whole = run_device(t, x, 1);
    for (int tile = 1; tile <= 2; tile++) {
        t.tile = tile;
        device cut = run_device(t, x, 10u + (unsigned)tile);
        CHECK(cut.y == whole.y && cut.out == whole.out && cut.lse == whole.lse,
              "set %d, dtype %d, tiles of %d granules", set, dtype, tile);
    }
}

int main() {
    const lucid_cuda_set old = LUCID_CUDA_SM80, hopper = LUCID_CUDA_SM90A;
    const test_case cases[] = {
        {LUCID_BF16, 64, 64, 200, 1, 2, 4, old},
        {LUCID_F16, 17, 33, 130, 2, 1, 3, old},
        {LUCID_BF16, 68, 68, 193, 1, 1, 2, old},
        {LUCID_F16, 128, 128, 129, 1, 1, 3, old},
        {LUCID_BF16, 1, 1, 65, 1, 1, 1, old},
        {LUCID_BF16, 200, 256, 66, 1, 1, 2, old},
        {LUCID_F32, 24, 40, 100, 1, 2, 1, old},
        {LUCID_F32, 130, 20, 65, 1, 1, 2, old},
        {LUCID_F16, 64, 64, 1, 1, 1, 1, old},
        {LUCID_BF16, 64, 64, 700, 1, 2, 11, hopper},
        {LUCID_F16, 17, 33, 130, 2, 1, 3, hopper},
        {LUCID_BF16, 68, 68, 193, 1, 1, 2, hopper},
        {LUCID_F16, 128, 128, 129, 1, 1, 3, hopper},
        {LUCID_BF16, 1, 1, 65, 1, 1, 1, hopper},
        {LUCID_F16, 64, 64, 1, 1, 1, 1, hopper},
        {LUCID_F16, 24, 24, 150, 1, 1, 1, old, -0.3},
        {LUCID_BF16, 24, 24, 150, 1, 1, 2, hopper, -0.3},
    };
    unsigned seed = 1;
    for (const test_case &t : cases) check_case(t, seed++);
    check_invariance(LUCID_BF16, old);
    check_invariance(LUCID_BF16, hopper);
    return check_result();
}
