#include "tests/gpu/gpu_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void gpu_fail(const char *file, int line, const char *call, const char *what) {
    fprintf(stderr, "%s:%d: %s: %s\n", file, line, call, what);
    exit(1);
}

const char *gpu_missing(void) {
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    return error ? cudaGetErrorString(error) : count == 0 ? "no GPU" : NULL;
}

void *gpu_allocate(size_t bytes) {
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p) gpu_fail(__FILE__, __LINE__, "aligned_alloc", "no memory");
    return p;
}

void *gpu_device_allocate(size_t bytes) {
    void *p;
    GPU(cudaMalloc(&p, bytes));
    GPU(cudaMemset(p, 0xff, bytes)); /* NaN where nothing is written */
    return p;
}

double gpu_problem_scale(const gpu_problem *p) {
    return p->scale != 0 ? p->scale : 1 / sqrt(p->head_dim);
}

/* --- inputs --- */

static uint64_t draw(uint64_t *seed) { /* splitmix64 */
    uint64_t z = (*seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Nearly: the sum of four uniform numbers, of variance 1. */
static float normal(uint64_t *seed) {
    uint64_t z = draw(seed);
    float sum = (float)(z & 0xffff) + (float)(z >> 16 & 0xffff) + (float)(z >> 32 & 0xffff) + (float)(z >> 48);
    return (sum - 131070.0f) * (1.7320508f / 65536.0f);
}

static float rounded(float x, lucid_dtype dtype) {
    if (dtype == LUCID_F32) return x;
    if (dtype == LUCID_F16) return (float)(_Float16)x;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float *normals(size_t n, float scale, lucid_dtype dtype, uint64_t *seed) {
    float *x = gpu_allocate(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = rounded(scale * normal(seed), dtype);
    return x;
}

static float *clustered_keys(const gpu_problem *p, uint64_t *seed) {
    size_t rows = (size_t)p->n_kv_heads * (size_t)p->n, d = (size_t)p->head_dim;
    float *centres = normals(16 * d, 1, LUCID_F32, seed), *k = gpu_allocate(rows * d * sizeof *k);
    for (size_t i = 0; i < rows; i++) {
        const float *centre = centres + draw(seed) % 16 * d;
        for (size_t c = 0; c < d; c++)
            k[i * d + c] = rounded(0.894427f * centre[c] + 0.447214f * normal(seed), p->dtype);
    }
    free(centres);
    return k;
}

gpu_inputs gpu_inputs_make(const gpu_problem *p, uint64_t seed) {
    size_t rows = (size_t)p->n_kv_heads * (size_t)p->n;
    gpu_inputs x = {.problem = *p};
    x.q = normals(rows * (size_t)p->group * (size_t)p->head_dim, 1, p->dtype, &seed);
    x.k = clustered_keys(p, &seed);
    x.v = normals(rows * (size_t)p->value_dim, 1, p->dtype, &seed);
    x.dout = normals(rows * (size_t)p->group * (size_t)p->value_dim, 1, LUCID_F32, &seed);
    return x;
}

void gpu_inputs_free(gpu_inputs *x) {
    free(x->q);
    free(x->k);
    free(x->v);
    free(x->dout);
}

/* --- host granules --- */

int gpu_case_granules(const gpu_case *c, int tile) {
    int left = c->n_granules - tile * c->problem.tile;
    return left < c->problem.tile ? left : c->problem.tile;
}

int gpu_case_tokens(const gpu_case *c, int granule) {
    int left = c->problem.n - granule * LUCID_GRANULE;
    return left < 0 ? 0 : left < LUCID_GRANULE ? left : LUCID_GRANULE;
}

size_t gpu_case_first_row(const gpu_case *c, int granule, int head) {
    size_t row = (size_t)head * (size_t)c->problem.n;
    return gpu_case_tokens(c, granule) ? row + (size_t)granule * LUCID_GRANULE : row;
}

/* to (d, 64) = the granule's rows, transposed */
static void transpose(float *to, const float *rows, int n_tokens, int d) {
    memset(to, 0, (size_t)d * LUCID_GRANULE * sizeof *to);
    for (int i = 0; i < n_tokens; i++)
        for (int c = 0; c < d; c++) to[(size_t)c * LUCID_GRANULE + i] = rows[(size_t)i * d + c];
}

static void fill_norms(float *norms, const float *kt, int d) {
    for (int i = 0; i < LUCID_GRANULE; i++) {
        double square = 0;
        for (int c = 0; c < d; c++)
            square += (double)kt[(size_t)c * LUCID_GRANULE + i] * kt[(size_t)c * LUCID_GRANULE + i];
        norms[i] = (float)(1 / sqrt(square / d + 1e-5));
    }
}

static void fill_record(float *record, lucid_shape s, const float *k, const float *v, int n_tokens) {
    float *values = record + lucid_record_values(s);
    transpose(record, k, n_tokens, s.head_dim);
    fill_norms(record + lucid_record_rnorm(s), record, s.head_dim);
    memset(values, 0, (size_t)LUCID_GRANULE * s.value_ld * sizeof *values);
    for (int i = 0; i < n_tokens; i++)
        memcpy(values + (size_t)i * s.value_ld, v + (size_t)i * s.value_dim, s.value_dim * sizeof *v);
}

void gpu_case_fill_records(const gpu_case *c, const gpu_inputs *x, float *records, int tile, int head) {
    const gpu_problem *p = &c->problem;
    for (int g = 0; g < p->tile; g++) {
        int granule = tile * p->tile + g;
        size_t row = gpu_case_first_row(c, granule, head);
        fill_record(records + (size_t)g * lucid_record_floats(c->host), c->host, x->k + row * (size_t)p->head_dim,
                    x->v + row * (size_t)p->value_dim, gpu_case_tokens(c, granule));
    }
}

void gpu_case_fill_queries(const gpu_case *c, const gpu_inputs *x, float *queries, int tile, int head) {
    const gpu_problem *p = &c->problem;
    for (int g = 0; g < p->tile; g++) {
        int granule = tile * p->tile + g;
        transpose(queries + (size_t)g * lucid_query_floats(c->host),
                  x->q + gpu_case_first_row(c, granule, head) * (size_t)p->head_dim, gpu_case_tokens(c, granule),
                  p->head_dim);
    }
}

/* --- the device's tiles --- */

static size_t tile_granules(const gpu_case *c, int heads) {
    return (size_t)heads * (size_t)c->problem.tile;
}

static unsigned char *tile_records(const gpu_case *c, int tile) {
    return c->records + (size_t)tile * tile_granules(c, c->problem.n_kv_heads) * lucid_cuda_record_bytes(c->shape);
}
static float *tile_rhs(const gpu_case *c, int tile) {
    return c->rhs + (size_t)tile * tile_granules(c, c->problem.n_kv_heads) * lucid_cuda_rhs_floats(c->shape);
}
static int query_heads(const gpu_case *c) {
    return c->problem.n_kv_heads * c->problem.group;
}
static unsigned char *tile_queries(const gpu_case *c, int tile) {
    return c->queries + (size_t)tile * tile_granules(c, query_heads(c)) * lucid_cuda_matrix_bytes(c->shape);
}
static float *tile_states(const gpu_case *c, int tile) {
    return c->states + (size_t)tile * tile_granules(c, query_heads(c)) * lucid_cuda_state_floats(c->shape);
}

/* Of one head's granules of a tile. */
static lucid_cuda_form head_form(const gpu_case *c, int kv_head) {
    return (lucid_cuda_form){.shape = c->shape,
                             .host = c->host,
                             .n_granules = c->problem.tile,
                             .granules_per_tile = c->problem.tile,
                             .factor = c->factor + (size_t)kv_head * (size_t)lucid_cuda_width(c->shape),
                             .negated = c->problem.scale < 0};
}

/* Powers of two that differ from column to column, all near 1: the inputs are. */
static void upload_factors(gpu_case *c) {
    size_t n = (size_t)c->problem.n_kv_heads * (size_t)lucid_cuda_width(c->shape);
    float *factor = gpu_allocate(n * sizeof *factor);
    for (size_t i = 0; i < n; i++) factor[i] = i % 3 ? 0.5f : 1;
    GPU(cudaMemcpy(c->factor, factor, n * sizeof *factor, cudaMemcpyHostToDevice));
    free(factor);
}

static void upload_records(gpu_case *c, const gpu_inputs *x, float *host, int tile, int head) {
    const gpu_problem *p = &c->problem;
    size_t first = (size_t)head * (size_t)p->tile;
    lucid_cuda_form form = head_form(c, head);
    gpu_case_fill_records(c, x, host, tile, head);
    GPU(cudaMemcpy(c->staging, host, (size_t)p->tile * lucid_record_floats(c->host) * sizeof *host,
                   cudaMemcpyHostToDevice));
    GPU_LAUNCH(lucid_cuda_pack_records(tile_records(c, tile) + first * lucid_cuda_record_bytes(c->shape),
                                       tile_rhs(c, tile) + first * lucid_cuda_rhs_floats(c->shape), c->staging,
                                       p->softmax, &form, NULL));
    GPU(cudaDeviceSynchronize());
}

static void upload_queries(gpu_case *c, const gpu_inputs *x, float *host, int tile, int head) {
    const gpu_problem *p = &c->problem;
    size_t first = (size_t)head * (size_t)p->tile;
    lucid_cuda_form form = head_form(c, head / p->group);
    gpu_case_fill_queries(c, x, host, tile, head);
    GPU(cudaMemcpy(c->staging, host, (size_t)p->tile * lucid_query_floats(c->host) * sizeof *host,
                   cudaMemcpyHostToDevice));
    GPU_LAUNCH(lucid_cuda_pack_queries(tile_queries(c, tile) + first * lucid_cuda_matrix_bytes(c->shape), c->staging,
                                       &form, NULL));
    GPU(cudaDeviceSynchronize());
}

static void upload(gpu_case *c, const gpu_inputs *x) {
    float *host = gpu_allocate((size_t)c->problem.tile * lucid_record_floats(c->host) * sizeof *host);
    for (int tile = 0; tile < c->n_tiles; tile++) {
        for (int head = 0; head < c->problem.n_kv_heads; head++) upload_records(c, x, host, tile, head);
        for (int head = 0; head < query_heads(c); head++) upload_queries(c, x, host, tile, head);
    }
    free(host);
}

static size_t rhs_bytes(const gpu_case *c) {
    return (size_t)c->n_tiles * tile_granules(c, c->problem.n_kv_heads) * lucid_cuda_rhs_floats(c->shape) *
           sizeof(float);
}

static lucid_cuda_shape shape_of(const gpu_problem *p, lucid_dtype dtype) {
    return (lucid_cuda_shape){dtype, lucid_cuda_panels(p->head_dim, p->value_dim)};
}

lucid_cuda_set gpu_case_best(const gpu_problem *p, lucid_dtype dtype) {
    return lucid_cuda_best(shape_of(p, dtype));
}

gpu_case gpu_case_make(const gpu_inputs *x, lucid_dtype dtype, lucid_cuda_set set) {
    const gpu_problem *p = &x->problem;
    gpu_case c = {
        .problem = *p, .shape = shape_of(p, dtype), .set = set, .host = lucid_shape_make(p->head_dim, p->value_dim)};
    c.n_granules = (p->n + LUCID_GRANULE - 1) / LUCID_GRANULE;
    c.n_tiles = (c.n_granules + p->tile - 1) / p->tile;
    size_t keys = (size_t)c.n_tiles * tile_granules(&c, p->n_kv_heads), queries = keys * (size_t)p->group;
    size_t state = lucid_state_floats(c.host), record = lucid_record_floats(c.host);
    GPU_LAUNCH(lucid_cuda_prepare(c.shape, c.set));
    c.records = gpu_device_allocate(keys * lucid_cuda_record_bytes(c.shape));
    c.rhs = gpu_device_allocate(rhs_bytes(&c));
    c.values = gpu_device_allocate(rhs_bytes(&c));
    c.queries = gpu_device_allocate(queries * lucid_cuda_matrix_bytes(c.shape));
    c.states = gpu_device_allocate(queries * lucid_cuda_state_floats(c.shape) * sizeof(float));
    c.counters = gpu_device_allocate((1 + (size_t)p->n_kv_heads) * sizeof *c.counters);
    c.factor = gpu_device_allocate((size_t)p->n_kv_heads * (size_t)lucid_cuda_width(c.shape) * sizeof(float));
    c.staging = gpu_device_allocate((size_t)p->tile * (state > record ? state : record) * sizeof(float));
    GPU(cudaStreamCreateWithFlags(&c.stream, cudaStreamNonBlocking));
    upload_factors(&c);
    upload(&c, x);
    GPU(cudaMemcpy(c.values, c.rhs, rhs_bytes(&c), cudaMemcpyDeviceToDevice));
    GPU(cudaDeviceSynchronize()); /* c.stream does not wait for the default one */
    return c;
}

void gpu_case_free(gpu_case *c) {
    void *memory[] = {c->records, c->rhs, c->values, c->queries, c->states, c->counters, c->factor, c->staging};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) GPU(cudaFree(memory[i]));
    GPU(cudaStreamDestroy(c->stream));
}

void gpu_case_reset(gpu_case *c) {
    GPU(cudaMemcpyAsync(c->rhs, c->values, rhs_bytes(c), cudaMemcpyDeviceToDevice, c->stream));
}

/* --- launches --- */

/* Row tile `row` with key tiles first..last-1, at most LUCID_CUDA_TILES before it. */
static lucid_cuda_piece piece_of(const gpu_case *c, int row, int first, int last) {
    const gpu_problem *p = &c->problem;
    lucid_cuda_piece piece = {.shape = c->shape,
                              .set = c->set,
                              .granules_per_tile = p->tile,
                              .own = last == row + 1,
                              .first = first == 0,
                              .n_granules = gpu_case_granules(c, row),
                              .n_sequences = p->n_kv_heads,
                              .group = p->group,
                              .records = tile_records(c, row),
                              .rhs = tile_rhs(c, row),
                              .queries = tile_queries(c, row),
                              .states = tile_states(c, row),
                              .counters = c->counters,
                              .head_dim = p->head_dim,
                              .scale = lucid_cuda_scale(gpu_problem_scale(p))};
    for (int tile = first; tile < last && tile < row; tile++) piece.tiles[piece.n_tiles++] = tile_records(c, tile);
    return piece;
}

void gpu_case_solve(gpu_case *c) {
    size_t counters = (1 + (size_t)c->problem.n_kv_heads) * sizeof *c->counters;
    if (c->problem.softmax) return;
    for (int row = 0; row < c->n_tiles; row++) {
        for (int first = 0, last; first < row; first = last) {
            last = row - first < LUCID_CUDA_TILES ? row : first + LUCID_CUDA_TILES;
            lucid_cuda_piece update = piece_of(c, row, first, last);
            GPU_LAUNCH(lucid_cuda_update(&update, c->stream));
        }
        lucid_cuda_piece solve = piece_of(c, row, row, row + 1);
        GPU(cudaMemsetAsync(c->counters, 0, counters, c->stream));
        GPU_LAUNCH(lucid_cuda_solve(&solve, c->stream));
    }
}

void gpu_case_attend(gpu_case *c) {
    for (int row = 0; row < c->n_tiles; row++)
        for (int first = 0, last; first <= row; first = last) {
            last = row + 1 - first < LUCID_CUDA_TILES ? row + 1 : first + LUCID_CUDA_TILES;
            lucid_cuda_piece piece = piece_of(c, row, first, last);
            GPU_LAUNCH(lucid_cuda_attend(&piece, c->stream));
        }
}

/* --- results --- */

void gpu_case_stage_values(gpu_case *c, int tile, int head) {
    size_t first = (size_t)head * (size_t)c->problem.tile;
    lucid_cuda_form form = head_form(c, head);
    GPU_LAUNCH(
        lucid_cuda_unpack_values(c->staging, tile_rhs(c, tile) + first * lucid_cuda_rhs_floats(c->shape), &form, NULL));
}

void gpu_case_stage_states(gpu_case *c, int tile, int head) {
    size_t first = (size_t)head * (size_t)c->problem.tile;
    lucid_cuda_form form = head_form(c, head / c->problem.group);
    GPU_LAUNCH(lucid_cuda_unpack_states(c->staging, tile_states(c, tile) + first * lucid_cuda_state_floats(c->shape),
                                        &form, NULL));
}

static void take_values(gpu_case *c, float *y, float *host, int tile, int head) {
    const gpu_problem *p = &c->problem;
    size_t record = lucid_record_floats(c->host), dim = (size_t)p->value_dim;
    gpu_case_stage_values(c, tile, head);
    GPU(cudaMemcpy(host, c->staging, (size_t)p->tile * record * sizeof *host, cudaMemcpyDeviceToHost));
    for (int g = 0; g < p->tile; g++) {
        int granule = tile * p->tile + g;
        const float *values = host + (size_t)g * record + lucid_record_values(c->host);
        float *to = y + gpu_case_first_row(c, granule, head) * dim;
        for (int i = 0; i < gpu_case_tokens(c, granule); i++)
            memcpy(to + (size_t)i * dim, values + (size_t)i * c->host.value_ld, dim * sizeof *y);
    }
}

static void take_states(gpu_case *c, float *out, float *lse, float *host, int tile, int head) {
    const gpu_problem *p = &c->problem;
    size_t state = lucid_state_floats(c->host), dim = (size_t)p->value_dim;
    gpu_case_stage_states(c, tile, head);
    GPU(cudaMemcpy(host, c->staging, (size_t)p->tile * state * sizeof *host, cudaMemcpyDeviceToHost));
    for (int g = 0; g < p->tile; g++) {
        int granule = tile * p->tile + g;
        const float *m = host + (size_t)g * state, *l = m + LUCID_GRANULE, *o = l + LUCID_GRANULE;
        size_t row = gpu_case_first_row(c, granule, head);
        for (int i = 0; i < gpu_case_tokens(c, granule); i++, row++, o += c->host.value_ld) {
            lse[row] = (m[i] + log2f(l[i])) * (float)M_LN2;
            for (size_t column = 0; column < dim; column++) out[row * dim + column] = o[column] / l[i];
        }
    }
}

void gpu_case_download(gpu_case *c, float *y, float *out, float *lse) {
    size_t state = lucid_state_floats(c->host), record = lucid_record_floats(c->host);
    float *host = gpu_allocate((size_t)c->problem.tile * (state > record ? state : record) * sizeof *host);
    GPU(cudaDeviceSynchronize());
    for (int tile = 0; tile < c->n_tiles; tile++) {
        for (int head = 0; head < c->problem.n_kv_heads; head++) take_values(c, y, host, tile, head);
        for (int head = 0; head < query_heads(c); head++) take_states(c, out, lse, host, tile, head);
    }
    free(host);
}
