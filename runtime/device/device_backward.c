/* The backward pass on a GPU: the engine and the two schedules of backward.h, with tiles of sides
 * (kernels/cuda/backward.h) in a device's memory.
 *
 * The host's gradient rows and sums stay the home of tensors: a run brings rows and records to the device, works there,
 * and takes dv and the sums back, so loading dout and storing gradients know nothing of devices. Keys' channels hold
 * own row tiles, which travel, and all sums; rows' channels hold own key tiles, which travel. A piece of a keys'
 * channel writes its granules' key sums and values, one of a rows' channel the rows' sums: no two pieces write to the
 * same place, and what a piece reads was solved before the schedules gave it out. One rank does what several do, so the
 * bits are the same for any number of them.
 *
 * Memory on the device, W as in device.h: per key head and token 28 W + 16 bytes, per query head and token 12 W + 8,
 * and the windows. */
#include "kernels/cuda/sides.h"
#include "runtime/attention/backward.h"
#include "runtime/device/check.h"
#include "runtime/device/device_cuda.h"

#include <math.h>

/* Host granules that are copied at once. */
enum { STAGING_GRANULES = 64 };

static bool solves(const lucid_attention *a) {
    return a->problem.attention == LUCID_ATTENTION_LUCID;
}

/* --- set-up --- */

/* Sides of a granule in the tiles of a channel. */
static int sides_of(const lucid_attention *a, int channel) {
    return channel < a->plan.channels ? 1 + a->group : 1;
}

static lucid_status take_tiles(lucid_attention *a, int index) {
    lucid_device *d = a->device;
    lucid_channel *c = &d->channels[index];
    size_t granules = (size_t)c->n_sequences * a->granules_per_tile, rows = (size_t)a->n_rows;
    size_t window = a->comm->world_size > 1 ? (size_t)c->schedule->config.window : 0;
    c->tile_floats = granules * (size_t)sides_of(a, index) * lucid_cuda_side_floats(d->shape);
    c->tile_step = (ptrdiff_t)c->tile_floats;
    LUCID_TRY(lucid_device_allocate(&c->kv, rows * c->tile_floats * sizeof(float)));
    LUCID_TRY(lucid_device_allocate(&c->window, window * c->tile_floats * sizeof(float)));
    if (index >= a->plan.channels) return LUCID_OK;
    size_t sums = rows * granules * lucid_cuda_sums_floats(d->shape, a->group) * sizeof(float);
    LUCID_TRY(lucid_device_allocate(&d->shares[index].sums, sums));
    return LUCID_CUDA_CHECK(cudaMemsetAsync(d->shares[index].sums, 0, sums, d->copies));
}

/* Of the host, in floats: what a part brings or takes back. */
static size_t staging_floats(const lucid_attention *a) {
    size_t up = lucid_gradient_row_floats(a->shape, a->group) + a->query_floats;
    size_t down = lucid_sums_floats(a->shape, a->group);
    return up > down ? up : down;
}

static lucid_status prepare(lucid_attention *a) {
    LUCID_TRY(lucid_device_begin(a, a->backward->channels, a->backward->n_channels));
    const char *error = lucid_cuda_backward_prepare(a->device->shape);
    if (error) return lucid_fail(LUCID_ERR_UNSUPPORTED, "--device cuda, host %s: %s", a->comm->host, error);
    for (int i = 0; i < a->device->n_channels; i++) LUCID_TRY(take_tiles(a, i));
    return lucid_device_allocate(&a->device->granules, STAGING_GRANULES * staging_floats(a) * sizeof(float));
}

/* --- to the device and back --- */

/* The backward's number of a part's row. */
static int row_of(const lucid_attention *a, const lucid_device_part *p) {
    return a->n_rows - 1 - p->row;
}

/* A part's first side on the device, of the forward's channel (row tiles) or that behind all of them (key tiles). */
static float *device_sides(const lucid_attention *a, int channel, const lucid_device_part *p) {
    size_t granule = lucid_record_index(a, p->sequence, p->first) * (size_t)sides_of(a, channel);
    return lucid_own_tile(&a->device->channels[channel], row_of(a, p)) +
           granule * lucid_cuda_side_floats(a->device->shape);
}

static float *device_sums(const lucid_attention *a, int channel, int row, size_t granule) {
    size_t granules = (size_t)a->device->channels[channel].n_sequences * a->granules_per_tile;
    return a->device->shares[channel].sums +
           ((size_t)row * granules + granule) * lucid_cuda_sums_floats(a->device->shape, a->group);
}

static lucid_cuda_gradients gradients_of(const lucid_attention *a) {
    return (lucid_cuda_gradients){a->device->shape, a->shape, a->group};
}

static lucid_status copy(lucid_attention *a, float *to, const float *from, size_t floats) {
    return LUCID_CUDA_CHECK(cudaMemcpyAsync(to, from, floats * sizeof(float), cudaMemcpyDefault, a->device->copies));
}

static lucid_status pack(lucid_attention *a, float *sides, const lucid_cuda_side_form *form) {
    return lucid_cuda_launched(lucid_cuda_pack_sides(sides, form, a->device->copies), "packing rows");
}

static lucid_status upload_keys(lucid_attention *a, const lucid_device_part *p) {
    lucid_cuda_gradients g = gradients_of(a);
    lucid_cuda_side_form form = lucid_cuda_key_form(&g, p->n, a->device->granules);
    const float *records = lucid_own_tile(&a->channels[p->channel], p->row) +
                           lucid_record_index(a, p->sequence, p->first) * a->record_floats;
    LUCID_TRY(copy(a, a->device->granules, records, (size_t)p->n * a->record_floats));
    LUCID_TRY(pack(a, device_sides(a, a->plan.channels + p->channel, p), &form));
    return LUCID_CUDA_CHECK(cudaStreamSynchronize(a->device->copies));
}

/* Of gradient rows that are there already. */
static lucid_status upload_query_rows(lucid_attention *a, const lucid_device_part *p, int head, float *sides) {
    lucid_device *d = a->device;
    lucid_cuda_gradients g = gradients_of(a);
    const lucid_channel *c = &a->channels[p->channel];
    size_t index = lucid_query_index(a, c, p->row, p->sequence, head, p->first);
    float *queries = d->granules + (size_t)p->n * lucid_gradient_row_floats(a->shape, a->group);
    lucid_cuda_side_form form = lucid_cuda_query_row_form(&g, p->n, d->granules, head, queries);
    LUCID_TRY(copy(a, queries, c->queries + index * a->query_floats, (size_t)p->n * a->query_floats));
    LUCID_TRY(pack(a, sides, &form));
    return LUCID_CUDA_CHECK(cudaStreamSynchronize(d->copies));
}

static lucid_status upload_part(lucid_attention *a, const lucid_device_part *p) {
    size_t row_floats = lucid_gradient_row_floats(a->shape, a->group), side = lucid_cuda_side_floats(a->device->shape);
    float *rows = device_sides(a, p->channel, p);
    lucid_cuda_gradients g = gradients_of(a);
    lucid_cuda_side_form form = lucid_cuda_key_row_form(&g, p->n, a->device->granules);
    LUCID_TRY(upload_keys(a, p));
    const float *from = lucid_gradient_row(a, p->channel, row_of(a, p), p->sequence, p->first);
    LUCID_TRY(copy(a, a->device->granules, from, (size_t)p->n * row_floats));
    LUCID_TRY(pack(a, rows, &form));
    for (int head = 0; head < a->group; head++)
        LUCID_TRY(upload_query_rows(a, p, head, rows + (size_t)(1 + head) * side));
    return LUCID_OK;
}

static lucid_status download_values(lucid_attention *a, const lucid_device_part *p) {
    lucid_device *d = a->device;
    lucid_cuda_gradients g = gradients_of(a);
    lucid_cuda_side_form form = lucid_cuda_key_row_form(&g, p->n, d->granules);
    size_t bytes = (size_t)LUCID_GRANULE * a->shape.value_ld * sizeof(float);
    size_t pitch = lucid_gradient_row_floats(a->shape, a->group) * sizeof(float);
    float *to = lucid_gradient_row(a, p->channel, row_of(a, p), p->sequence, p->first) + lucid_record_values(a->shape);
    LUCID_TRY(lucid_cuda_launched(
        lucid_cuda_unpack_sides(d->granules, device_sides(a, p->channel, p), &form, d->copies), "unpacking values"));
    LUCID_TRY(LUCID_CUDA_CHECK(
        cudaMemcpy2DAsync(to, pitch, d->granules, bytes, bytes, (size_t)p->n, cudaMemcpyDefault, d->copies)));
    return LUCID_CUDA_CHECK(cudaStreamSynchronize(d->copies));
}

static lucid_status download_part(lucid_attention *a, const lucid_device_part *p) {
    lucid_device *d = a->device;
    lucid_cuda_gradients g = gradients_of(a);
    lucid_cuda_side_form form = lucid_cuda_key_form(&g, p->n, d->granules);
    float scale = (float)(a->problem.softmax_scale * M_LOG2E);
    const float *from = device_sums(a, p->channel, row_of(a, p), lucid_record_index(a, p->sequence, p->first));
    float *to = lucid_gradient_sums(a, p->channel, row_of(a, p), p->sequence, p->first);
    LUCID_TRY(download_values(a, p));
    LUCID_TRY(lucid_cuda_launched(lucid_cuda_unpack_sums(d->granules, from, a->group, scale, &form, d->copies),
                                  "unpacking gradients"));
    LUCID_TRY(copy(a, to, d->granules, (size_t)p->n * lucid_sums_floats(a->shape, a->group)));
    return LUCID_CUDA_CHECK(cudaStreamSynchronize(d->copies));
}

/* --- pieces of work --- */

static int granules_of(const lucid_attention *a, int tile) {
    return lucid_tile_granules(a, (int)a->plan.n_tiles - 1 - tile);
}

/* The key tiles of a piece are other row tiles for the keys' channels, and key tiles for the rows'. */
static lucid_cuda_backward piece_of(const lucid_attention *a, const lucid_worker *w, const lucid_assignment *job,
                                    bool keys) {
    const lucid_device *d = a->device;
    int n = a->plan.channels, channel = job->channel_index % n, row = job->piece.row;
    int own = job->channel->schedule->rows[row], first = job->piece.first, last = job->piece.last;
    lucid_cuda_backward piece = {
        .shape = d->shape,
        .granules_per_tile = a->granules_per_tile,
        .own = first <= own && own < last,
        .solve = solves(a),
        .n_granules = granules_of(a, own),
        .n_sequences = job->channel->n_sequences,
        .group = a->group,
        .keys = lucid_own_tile(&d->channels[n + channel], row),
        .rows = lucid_own_tile(&d->channels[channel], row),
        .sums = device_sums(a, channel, row, 0),
        .counters = d->workers[w - a->workers].counters,
        .head_dim = a->problem.head_dim,
        .scale = (float)(a->problem.softmax_scale * M_LOG2E),
    };
    int other = keys || first > own ? first : own + 1, end = keys && last > own ? own : last;
    if (other < end) piece.n_first = granules_of(a, other);
    for (; other < end; other++) piece.tiles[piece.n_tiles++] = w->tiles[other - first];
    return piece;
}

static lucid_status launch_keys(const lucid_cuda_backward *piece, cudaStream_t stream) {
    size_t bytes = (1 + (size_t)piece->n_sequences) * sizeof *piece->counters;
    LUCID_TRY(LUCID_CUDA_CHECK(cudaMemsetAsync(piece->counters, 0, bytes, stream)));
    return lucid_cuda_launched(lucid_cuda_backward_keys(piece, stream), "the backward pass of keys");
}

static lucid_status do_piece(const lucid_attention *a, const lucid_worker *w, const lucid_assignment *job) {
    const lucid_device_worker *mine = &a->device->workers[w - a->workers];
    bool keys = job->channel_index < a->plan.channels;
    cudaStream_t stream = keys ? mine->chain : mine->bulk;
    lucid_cuda_backward piece = piece_of(a, w, job, keys);
    LUCID_TRY(LUCID_CUDA_CHECK(cudaSetDevice(a->device->ordinal))); /* the calling thread's */
    if (keys)
        LUCID_TRY(launch_keys(&piece, stream));
    else
        LUCID_TRY(lucid_cuda_launched(lucid_cuda_backward_rows(&piece, stream), "the backward pass of rows"));
    return lucid_device_finish(a, mine, stream);
}

static void run_piece(const lucid_attention *a, lucid_worker *w, const lucid_assignment *job) {
    w->status = do_piece(a, w, job);
}

/* --- the run --- */

static lucid_status upload(lucid_attention *a) {
    LUCID_TRY(prepare(a));
    LUCID_TRY(lucid_device_each_part(a, STAGING_GRANULES, upload_part));
    return LUCID_CUDA_CHECK(cudaStreamSynchronize(a->device->copies));
}

static lucid_status bring(lucid_attention *a) {
    return lucid_comm_agree(a->comm, upload(a));
}

lucid_status lucid_device_backward(lucid_attention *a, double work_total) {
    const lucid_device_pass backward = {
        .bring = bring, .run = run_piece, .take = download_part, .most = STAGING_GRANULES};
    return lucid_device_run_pass(a, &backward, work_total);
}
