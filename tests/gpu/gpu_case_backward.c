/* The backward pass over a gpu_case: the engine's two schedules (runtime/device/device_backward.c) for one rank, one
 * after the other, with tiles in order. Tensors go to the device and come back as they do there: by gradient rows and
 * sums of kernels.h, by the forms of sides.h, and by the ends of kernels/backward.c. */
#include "kernels/cuda/sides.h"
#include "tests/gpu/gpu_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- places --- */

static lucid_cuda_gradients gradients_of(const gpu_backward *b) {
    return (lucid_cuda_gradients){b->forward->shape, b->forward->host, b->forward->problem.group};
}

/* A head's first granule of a tile, among all. */
static size_t granule_index(const gpu_backward *b, int tile, int head) {
    const gpu_problem *p = &b->forward->problem;
    return ((size_t)tile * (size_t)p->n_kv_heads + (size_t)head) * (size_t)p->tile;
}
static float *key_sides(const gpu_backward *b, int tile, int head) {
    return b->keys + granule_index(b, tile, head) * lucid_cuda_side_floats(b->forward->shape);
}
static float *row_sides(const gpu_backward *b, int tile, int head) {
    size_t sides = 1 + (size_t)b->forward->problem.group;
    return b->rows + granule_index(b, tile, head) * sides * lucid_cuda_side_floats(b->forward->shape);
}
static float *sums_of(const gpu_backward *b, int tile, int head) {
    size_t each = lucid_cuda_sums_floats(b->forward->shape, b->forward->problem.group);
    return b->sums + granule_index(b, tile, head) * each;
}

static void to_device(float *to, const float *from, size_t floats) {
    GPU(cudaMemcpy(to, from, floats * sizeof *to, cudaMemcpyHostToDevice));
}
static void to_host(float *to, const float *from, size_t floats) {
    GPU(cudaMemcpy(to, from, floats * sizeof *to, cudaMemcpyDeviceToHost));
}

/* --- to the device --- */

/* One head's tile on the host. */
typedef struct {
    float *records, *rows; /* (tile), rows: gradient rows */
    float *queries;        /* (group, tile) */
    float *states;         /* (tile) */
} host_tile;

static host_tile host_tile_make(const gpu_case *c) {
    size_t n = (size_t)c->problem.tile * sizeof(float), group = (size_t)c->problem.group;
    return (host_tile){.records = gpu_allocate(n * lucid_record_floats(c->host)),
                       .rows = gpu_allocate(n * lucid_gradient_row_floats(c->host, c->problem.group)),
                       .queries = gpu_allocate(n * group * lucid_query_floats(c->host)),
                       .states = gpu_allocate(n * lucid_state_floats(c->host))};
}

static void host_tile_free(host_tile *t) {
    free(t->records);
    free(t->rows);
    free(t->queries);
    free(t->states);
}

/* Records with the values that the forward pass solved. */
static void pack_keys(gpu_backward *b, int tile, int head, host_tile *t) {
    gpu_case *c = b->forward;
    lucid_cuda_gradients g = gradients_of(b);
    lucid_cuda_side_form form = lucid_cuda_key_form(&g, c->problem.tile, c->staging);
    gpu_case_fill_records(c, b->inputs, t->records, tile, head);
    to_device(c->staging, t->records, (size_t)c->problem.tile * lucid_record_floats(c->host));
    gpu_case_stage_values(c, tile, head);
    GPU_LAUNCH(lucid_cuda_pack_sides(key_sides(b, tile, head), &form, NULL));
    GPU(cudaDeviceSynchronize());
}

/* Key rows are records whose values are still zero. */
static void fill_key_rows(const gpu_backward *b, host_tile *t) {
    lucid_shape s = b->forward->host;
    size_t record = lucid_record_floats(s), values = lucid_record_values(s);
    for (int g = 0; g < b->forward->problem.tile; g++) {
        float *row = t->rows + (size_t)g * lucid_gradient_row_floats(s, b->forward->problem.group);
        memcpy(row, t->records + (size_t)g * record, values * sizeof *row);
        memset(row + values, 0, (record - values) * sizeof *row);
    }
}

/* Of head `in_group` of a key-value head. */
static void fill_query_rows(const gpu_backward *b, int tile, int head, int in_group, host_tile *t) {
    gpu_case *c = b->forward;
    const gpu_problem *p = &c->problem;
    const lucid_kernels *kernels = lucid_kernels_find("scalar");
    int query_head = head * p->group + in_group;
    size_t query = lucid_query_floats(c->host), state = lucid_state_floats(c->host);
    float *queries = t->queries + (size_t)in_group * (size_t)p->tile * query;
    gpu_case_fill_queries(c, b->inputs, queries, tile, query_head);
    gpu_case_stage_states(c, tile, query_head);
    to_host(t->states, c->staging, (size_t)p->tile * state);
    for (int g = 0; g < p->tile; g++) {
        int granule = tile * p->tile + g;
        float *row = t->rows + (size_t)g * lucid_gradient_row_floats(c->host, p->group) +
                     lucid_gradient_query_row(c->host, in_group);
        const float *dout = b->inputs->dout + gpu_case_first_row(c, granule, query_head) * (size_t)p->value_dim;
        kernels->pack_values(row, dout, LUCID_F32, gpu_case_tokens(c, granule), c->host);
        lucid_query_row_begin(row, queries + (size_t)g * query, t->states + (size_t)g * state,
                              M_LOG2E * gpu_problem_scale(p), c->host);
    }
}

static void pack_rows(gpu_backward *b, int tile, int head, host_tile *t) {
    const gpu_case *c = b->forward;
    const gpu_problem *p = &c->problem;
    size_t n = (size_t)p->tile, row_floats = n * lucid_gradient_row_floats(c->host, p->group);
    size_t query_floats = n * lucid_query_floats(c->host);
    float *sides = row_sides(b, tile, head), *queries = b->staging + row_floats;
    lucid_cuda_gradients g = gradients_of(b);
    lucid_cuda_side_form form = lucid_cuda_key_row_form(&g, p->tile, b->staging);
    fill_key_rows(b, t);
    for (int i = 0; i < p->group; i++) fill_query_rows(b, tile, head, i, t);
    to_device(b->staging, t->rows, row_floats);
    GPU_LAUNCH(lucid_cuda_pack_sides(sides, &form, NULL));
    for (int i = 0; i < p->group; i++) {
        sides += lucid_cuda_side_floats(c->shape);
        form = lucid_cuda_query_row_form(&g, p->tile, b->staging, i, queries);
        to_device(queries, t->queries + (size_t)i * query_floats, query_floats);
        GPU_LAUNCH(lucid_cuda_pack_sides(sides, &form, NULL));
        GPU(cudaDeviceSynchronize());
    }
}

static void upload(gpu_backward *b) {
    host_tile t = host_tile_make(b->forward);
    GPU(cudaDeviceSynchronize());
    for (int tile = 0; tile < b->forward->n_tiles; tile++)
        for (int head = 0; head < b->forward->problem.n_kv_heads; head++) {
            pack_keys(b, tile, head, &t);
            pack_rows(b, tile, head, &t);
        }
    host_tile_free(&t);
}

static size_t staging_floats(const gpu_case *c) {
    size_t up = lucid_gradient_row_floats(c->host, c->problem.group) + lucid_query_floats(c->host);
    size_t down = lucid_sums_floats(c->host, c->problem.group);
    return (size_t)c->problem.tile * (up > down ? up : down);
}

static size_t all_granules(const gpu_backward *b) {
    return granule_index(b, b->forward->n_tiles, 0);
}

gpu_backward gpu_backward_make(gpu_case *c, const gpu_inputs *x) {
    gpu_backward b = {.forward = c, .inputs = x};
    size_t n = all_granules(&b) * sizeof(float), side = lucid_cuda_side_floats(c->shape);
    GPU_LAUNCH(lucid_cuda_backward_prepare(c->shape));
    b.keys = gpu_device_allocate(n * side);
    b.rows = gpu_device_allocate(n * side * (1 + (size_t)c->problem.group));
    b.sums = gpu_device_allocate(n * lucid_cuda_sums_floats(c->shape, c->problem.group));
    b.staging = gpu_device_allocate(staging_floats(c) * sizeof(float));
    upload(&b);
    gpu_backward_reset(&b);
    return b;
}

void gpu_backward_free(gpu_backward *b) {
    void *memory[] = {b->keys, b->rows, b->sums, b->staging};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) GPU(cudaFree(memory[i]));
}

/* dv grows in the key rows' values. */
void gpu_backward_reset(gpu_backward *b) {
    const gpu_case *c = b->forward;
    int group = c->problem.group;
    size_t n = all_granules(b), values = lucid_cuda_sum_floats(c->shape);
    size_t pitch = (1 + (size_t)group) * lucid_cuda_side_floats(c->shape) * sizeof(float);
    GPU(cudaMemsetAsync(b->sums, 0, n * lucid_cuda_sums_floats(c->shape, group) * sizeof(float), c->stream));
    GPU(cudaMemset2DAsync(b->rows + values, pitch, 0, values * sizeof(float), n, c->stream));
}

/* --- launches --- */

/* Of row tile `own`, without other tiles yet. */
static lucid_cuda_backward piece_of(const gpu_backward *b, int own) {
    const gpu_case *c = b->forward;
    const gpu_problem *p = &c->problem;
    return (lucid_cuda_backward){.shape = c->shape,
                                 .granules_per_tile = p->tile,
                                 .solve = !p->softmax,
                                 .n_granules = gpu_case_granules(c, own),
                                 .n_sequences = p->n_kv_heads,
                                 .group = p->group,
                                 .keys = key_sides(b, own, 0),
                                 .rows = row_sides(b, own, 0),
                                 .sums = sums_of(b, own, 0),
                                 .counters = c->counters,
                                 .head_dim = p->head_dim,
                                 .scale = (float)(M_LOG2E * gpu_problem_scale(p))};
}

static void add_tile(lucid_cuda_backward *piece, const gpu_case *c, const float *sides, int tile) {
    if (!piece->n_tiles) piece->n_first = gpu_case_granules(c, tile);
    piece->tiles[piece->n_tiles++] = sides;
}

static void launch_keys(const lucid_cuda_backward *piece, const gpu_case *c) {
    GPU(cudaMemsetAsync(c->counters, 0, (1 + (size_t)piece->n_sequences) * sizeof *c->counters, c->stream));
    GPU_LAUNCH(lucid_cuda_backward_keys(piece, c->stream));
}

/* Row tiles behind it, the last first, and then itself. */
static void run_keys(const gpu_backward *b, int own) {
    const gpu_case *c = b->forward;
    lucid_cuda_backward piece = piece_of(b, own);
    for (int tile = c->n_tiles - 1; tile > own; tile--) {
        if (piece.n_tiles == LUCID_CUDA_TILES) {
            launch_keys(&piece, c);
            piece.n_tiles = 0;
        }
        add_tile(&piece, c, row_sides(b, tile, 0), tile);
    }
    piece.own = true;
    launch_keys(&piece, c);
}

/* Its own key tile, and then those before it, the nearest first. */
static void run_rows(const gpu_backward *b, int own) {
    const gpu_case *c = b->forward;
    lucid_cuda_backward piece = piece_of(b, own);
    piece.own = true;
    for (int tile = own - 1; tile >= 0; tile--) {
        if (piece.n_tiles == LUCID_CUDA_TILES) {
            GPU_LAUNCH(lucid_cuda_backward_rows(&piece, c->stream));
            piece.n_tiles = 0;
            piece.own = false;
        }
        add_tile(&piece, c, key_sides(b, tile, 0), tile);
    }
    GPU_LAUNCH(lucid_cuda_backward_rows(&piece, c->stream));
}

void gpu_backward_run(gpu_backward *b) {
    for (int tile = b->forward->n_tiles - 1; tile >= 0; tile--) run_keys(b, tile);
    for (int tile = b->forward->n_tiles - 1; tile >= 0; tile--) run_rows(b, tile);
}

/* --- results --- */

/* sums (tile) of the host: dV in the place of dY. Without a solve it is that. */
static void take_values(gpu_backward *b, float *sums, int tile, int head) {
    const gpu_case *c = b->forward;
    size_t bytes = LUCID_GRANULE * (size_t)c->host.value_ld * sizeof *sums;
    size_t pitch = lucid_sums_floats(c->host, c->problem.group) * sizeof *sums;
    lucid_cuda_gradients g = gradients_of(b);
    lucid_cuda_side_form form = lucid_cuda_key_row_form(&g, c->problem.tile, b->staging);
    GPU_LAUNCH(lucid_cuda_unpack_sides(b->staging, row_sides(b, tile, head), &form, NULL));
    GPU(cudaMemcpy2DAsync(sums + lucid_sums_dy(c->host, c->problem.group), pitch, b->staging, bytes, bytes,
                          (size_t)c->problem.tile, cudaMemcpyDeviceToHost, NULL));
    GPU(cudaDeviceSynchronize());
}

static void take_sums(gpu_backward *b, float *sums, int tile, int head) {
    const gpu_problem *p = &b->forward->problem;
    lucid_cuda_gradients g = gradients_of(b);
    lucid_cuda_side_form form = lucid_cuda_key_form(&g, p->tile, b->staging);
    float scale = (float)(M_LOG2E * gpu_problem_scale(p));
    GPU_LAUNCH(lucid_cuda_unpack_sums(b->staging, sums_of(b, tile, head), p->group, scale, &form, NULL));
    to_host(sums, b->staging, (size_t)p->tile * lucid_sums_floats(g.host, p->group));
    if (!p->softmax) take_values(b, sums, tile, head);
}

static void finish_granule(const gpu_case *c, gpu_gradients to, const float *record, const float *sums, int granule,
                           int head) {
    const gpu_problem *p = &c->problem;
    lucid_shape s = c->host;
    int n = gpu_case_tokens(c, granule);
    size_t row = gpu_case_first_row(c, granule, head), d = (size_t)p->head_dim, dim = (size_t)p->value_dim;
    const float *update_dkeys = p->softmax ? NULL : sums + lucid_sums_update_dkeys(s);
    const float *values = sums + lucid_sums_dy(s, p->group);
    lucid_key_row_finish(to.dk + row * d, record, sums, update_dkeys, sums + lucid_sums_dkt(s), NULL, n, s);
    for (int i = 0; i < n; i++)
        memcpy(to.dv + (row + (size_t)i) * dim, values + (size_t)i * (size_t)s.value_ld, dim * sizeof *values);
    for (int i = 0; i < p->group; i++)
        lucid_query_row_finish(to.dq + gpu_case_first_row(c, granule, head * p->group + i) * d,
                               sums + lucid_sums_dqt(s, i), n, s, (float)gpu_problem_scale(p));
}

void gpu_backward_download(gpu_backward *b, gpu_gradients to) {
    const gpu_case *c = b->forward;
    const gpu_problem *p = &c->problem;
    size_t record = lucid_record_floats(c->host), sum = lucid_sums_floats(c->host, p->group);
    float *records = gpu_allocate((size_t)p->tile * record * sizeof *records);
    float *sums = gpu_allocate((size_t)p->tile * sum * sizeof *sums);
    GPU(cudaDeviceSynchronize());
    for (int tile = 0; tile < c->n_tiles; tile++)
        for (int head = 0; head < p->n_kv_heads; head++) {
            gpu_case_fill_records(c, b->inputs, records, tile, head);
            take_sums(b, sums, tile, head);
            for (int g = 0; g < p->tile; g++)
                finish_granule(c, to, records + (size_t)g * record, sums + (size_t)g * sum, tile * p->tile + g, head);
        }
    free(records);
    free(sums);
}
