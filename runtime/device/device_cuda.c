#include "runtime/device/device.h"

#include "runtime/device/device_cuda.h"

#include "runtime/device/check.h"
#include "runtime/device/staging.h"

#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Host granules that are copied at once. */
enum { STAGING_GRANULES = 1024 };

typedef lucid_device_share share;
typedef lucid_device_worker worker;
typedef lucid_device_part part;

/* --- set-up --- */

static lucid_status check_problem(const lucid_attention *a) {
    if (a->problem.n_cached || a->problem.cache_dtype != LUCID_F32)
        return lucid_fail(LUCID_ERR_UNSUPPORTED, "--device cuda keeps no cache: use --device cpu");
    if (a->options.hook)
        return lucid_fail(LUCID_ERR_UNSUPPORTED, "--device cuda writes no checkpoints: use --device cpu");
    return LUCID_OK;
}

static lucid_status create_local(lucid_device **device, lucid_attention *a) {
    int count = 0;
    LUCID_TRY(check_problem(a));
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error || count == 0)
        return lucid_fail(LUCID_ERR_USAGE, "--device cuda: host %s has no GPU that can be used: %s", a->comm->host,
                          error ? cudaGetErrorString(error) : "none is visible");
    lucid_device *d = calloc(1, sizeof *d);
    if (!d) return lucid_fail(LUCID_ERR_MEMORY, "no memory");
    d->ordinal = a->comm->local_rank % count;
    d->isa = "cuda";
    d->transfers = a->comm->transport->devices ? a->comm->transport->devices : &lucid_staging_links;
    *device = d;
    return LUCID_OK;
}

lucid_status lucid_device_create(lucid_device **device, lucid_attention *a) {
    lucid_device *d = NULL;
    lucid_status status = lucid_comm_agree(a->comm, create_local(&d, a));
    if (!status) status = d->transfers->open(&d->links, a->comm, d->ordinal);
    if (status)
        free(d);
    else
        *device = d;
    return status;
}

static void share_free(share *s, lucid_channel *c) {
    cudaFree(s->queries);
    cudaFree(s->states);
    cudaFree(s->rhs);
    cudaFree(s->sums);
    cudaFree(c->kv);
    cudaFree(c->window);
}

static void worker_free(worker *w) {
    cudaFree(w->counters);
    if (w->done) cudaEventDestroy(w->done);
    if (w->chain) cudaStreamDestroy(w->chain);
    if (w->bulk) cudaStreamDestroy(w->bulk);
}

void lucid_device_release(lucid_attention *a) {
    lucid_device *d = a->device;
    for (int i = 0; d->channels && d->shares && i < d->n_channels; i++) share_free(&d->shares[i], &d->channels[i]);
    for (int t = 0; d->workers && t < a->threads; t++) worker_free(&d->workers[t]);
    cudaFree(d->factor);
    cudaFree(d->granules);
    if (d->copies) cudaStreamDestroy(d->copies);
    free(d->channels);
    free(d->shares);
    free(d->workers);
    *d = (lucid_device){.ordinal = d->ordinal, .isa = d->isa, .transfers = d->transfers, .links = d->links};
}

void lucid_device_destroy(lucid_device *d) {
    if (d) d->transfers->close(d->links);
    free(d);
}

int lucid_device_ordinal(const lucid_device *d) {
    return d->ordinal;
}

const char *lucid_device_isa(const lucid_device *d) {
    return d->isa;
}

void lucid_device_address(char *address, size_t n_bytes, int local_rank) {
    int count = 0;
    if (n_bytes == 0) return;
    if (cudaGetDeviceCount(&count) || count == 0 || cudaDeviceGetPCIBusId(address, (int)n_bytes, local_rank % count))
        *address = '\0';
}

lucid_status lucid_device_allocate(void *pointer, size_t bytes) {
    return LUCID_CUDA_CHECK(cudaMalloc(pointer, bytes ? bytes : 16));
}

/* A tile's records; a multiple of 16 bytes. */
static size_t tile_bytes(const lucid_attention *a, int n_sequences) {
    return (size_t)n_sequences * a->granules_per_tile * lucid_cuda_record_bytes(a->device->shape);
}

static lucid_status share_create(lucid_attention *a, int index) {
    lucid_device *d = a->device;
    share *s = &d->shares[index];
    lucid_channel *c = &d->channels[index];
    size_t tile = tile_bytes(a, c->n_sequences);
    size_t granules = (size_t)a->n_rows * c->n_sequences * a->granules_per_tile, queries = granules * a->group;
    size_t window = a->comm->world_size > 1 ? (size_t)c->schedule->config.window * tile : 0;
    c->tile_floats = tile / sizeof(float);
    c->tile_step = (ptrdiff_t)c->tile_floats;
    c->kv = c->window = c->queries = c->states = NULL;
    LUCID_TRY(lucid_device_allocate(&c->kv, (size_t)a->n_rows * tile));
    LUCID_TRY(lucid_device_allocate(&c->window, window));
    LUCID_TRY(lucid_device_allocate(&s->rhs, granules * lucid_cuda_rhs_floats(d->shape) * sizeof(float)));
    LUCID_TRY(lucid_device_allocate(&s->queries, queries * lucid_cuda_matrix_bytes(d->shape)));
    return lucid_device_allocate(&s->states, queries * lucid_cuda_state_floats(d->shape) * sizeof(float));
}

static lucid_status worker_create(worker *w, int n_sequences) {
    int least, greatest;
    LUCID_TRY(LUCID_CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest)));
    LUCID_TRY(LUCID_CUDA_CHECK(cudaStreamCreateWithPriority(&w->chain, cudaStreamNonBlocking, greatest)));
    LUCID_TRY(LUCID_CUDA_CHECK(cudaStreamCreateWithPriority(&w->bulk, cudaStreamNonBlocking, least)));
    LUCID_TRY(LUCID_CUDA_CHECK(cudaEventCreateWithFlags(&w->done, cudaEventDisableTiming)));
    return lucid_device_allocate(&w->counters, (1 + (size_t)n_sequences) * sizeof *w->counters);
}

static size_t host_granule_floats(const lucid_attention *a) {
    size_t most = a->record_floats > a->state_floats ? a->record_floats : a->state_floats;
    return most > a->query_floats ? most : a->query_floats;
}

/* Keys and queries keep their format where they share one of 16 bits. */
static lucid_dtype shared_dtype(const lucid_attention *a) {
    return a->dtypes[LUCID_Q] == a->dtypes[LUCID_K] ? a->dtypes[LUCID_K] : LUCID_F32;
}

static lucid_status take_memory(lucid_attention *a) {
    lucid_device *d = a->device;
    size_t n_sequences = (size_t)a->problem.batch * a->problem.n_kv_heads, width = (size_t)lucid_cuda_width(d->shape);
    for (int i = 0; i < d->n_channels; i++) LUCID_TRY(share_create(a, i));
    LUCID_TRY(lucid_device_allocate(&d->factor, n_sequences * width * sizeof(float)));
    return lucid_device_allocate(&d->granules, STAGING_GRANULES * host_granule_floats(a) * sizeof(float));
}

lucid_status lucid_device_begin(lucid_attention *a, const lucid_channel *channels, int n_channels) {
    lucid_device *d = a->device;
    LUCID_TRY(LUCID_CUDA_CHECK(cudaSetDevice(d->ordinal)));
    d->shape = (lucid_cuda_shape){shared_dtype(a), lucid_cuda_panels(a->problem.head_dim, a->problem.value_dim)};
    d->channels = malloc((size_t)n_channels * sizeof *d->channels);
    d->shares = calloc((size_t)n_channels, sizeof *d->shares);
    d->workers = calloc((size_t)a->threads, sizeof *d->workers);
    if (!d->channels || !d->shares || !d->workers)
        return lucid_fail(LUCID_ERR_MEMORY, "no memory for the GPU's tables");
    d->n_channels = n_channels;
    memcpy(d->channels, channels, (size_t)n_channels * sizeof *d->channels);
    for (int i = 0; i < n_channels; i++) d->channels[i].kv = d->channels[i].window = NULL;
    for (int t = 0; t < a->threads; t++)
        LUCID_TRY(worker_create(&d->workers[t], a->problem.batch * a->problem.n_kv_heads));
    return LUCID_CUDA_CHECK(cudaStreamCreateWithFlags(&d->copies, cudaStreamNonBlocking));
}

static lucid_status prepare(lucid_attention *a) {
    const char *error = lucid_cuda_prepare(a->device->shape, a->device->set);
    if (error) return lucid_fail(LUCID_ERR_UNSUPPORTED, "--device cuda, host %s: %s", a->comm->host, error);
    return take_memory(a);
}

/* --- to the device and back --- */

static lucid_cuda_form form_of(const lucid_attention *a, const part *p) {
    const lucid_device *d = a->device;
    int sequence = a->channels[p->channel].first_sequence + p->sequence;
    return (lucid_cuda_form){.shape = d->shape,
                             .host = a->shape,
                             .n_granules = p->n,
                             .granules_per_tile = p->n,
                             .factor = d->factor + (size_t)sequence * (size_t)lucid_cuda_width(d->shape),
                             .negated = a->problem.softmax_scale < 0};
}

static float *host_record(const lucid_attention *a, const part *p) {
    return lucid_own_tile(&a->channels[p->channel], p->row) +
           lucid_record_index(a, p->sequence, p->first) * a->record_floats;
}

/* A part's place among all granules of the channel's row tiles. */
static size_t granule_index(const lucid_attention *a, const part *p) {
    const lucid_channel *c = &a->channels[p->channel];
    return ((size_t)p->row * c->n_sequences + p->sequence) * a->granules_per_tile + p->first;
}

static lucid_status upload_records(lucid_attention *a, const part *p) {
    lucid_device *d = a->device;
    lucid_cuda_form form = form_of(a, p);
    size_t index = granule_index(a, p), bytes = (size_t)p->n * a->record_floats * sizeof(float);
    unsigned char *records = (unsigned char *)d->channels[p->channel].kv + index * lucid_cuda_record_bytes(d->shape);
    bool softmax = a->problem.attention == LUCID_ATTENTION_SOFTMAX;
    LUCID_TRY(LUCID_CUDA_CHECK(cudaMemcpyAsync(d->granules, host_record(a, p), bytes, cudaMemcpyDefault, d->copies)));
    LUCID_TRY(lucid_cuda_launched(
        lucid_cuda_pack_records(records, d->shares[p->channel].rhs + index * lucid_cuda_rhs_floats(d->shape),
                                d->granules, softmax, &form, d->copies),
        "packing keys"));
    return LUCID_CUDA_CHECK(cudaStreamSynchronize(d->copies));
}

static lucid_status upload_queries(lucid_attention *a, const part *p, int head) {
    lucid_device *d = a->device;
    const lucid_channel *c = &a->channels[p->channel];
    lucid_cuda_form form = form_of(a, p);
    size_t index = lucid_query_index(a, c, p->row, p->sequence, head, p->first);
    size_t bytes = (size_t)p->n * a->query_floats * sizeof(float);
    const float *from = c->queries + index * a->query_floats;
    unsigned char *to = d->shares[p->channel].queries + index * lucid_cuda_matrix_bytes(d->shape);
    LUCID_TRY(LUCID_CUDA_CHECK(cudaMemcpyAsync(d->granules, from, bytes, cudaMemcpyDefault, d->copies)));
    LUCID_TRY(lucid_cuda_launched(lucid_cuda_pack_queries(to, d->granules, &form, d->copies), "packing queries"));
    return LUCID_CUDA_CHECK(cudaStreamSynchronize(d->copies));
}

static lucid_status upload_part(lucid_attention *a, const part *p) {
    LUCID_TRY(upload_records(a, p));
    for (int head = 0; head < a->group; head++) LUCID_TRY(upload_queries(a, p, head));
    return LUCID_OK;
}

static lucid_status download_values(lucid_attention *a, const part *p) {
    lucid_device *d = a->device;
    lucid_cuda_form form = form_of(a, p);
    size_t offset = lucid_record_values(a->shape), pitch = a->record_floats * sizeof(float);
    size_t bytes = (size_t)LUCID_GRANULE * a->shape.value_ld * sizeof(float);
    const float *rhs = d->shares[p->channel].rhs + granule_index(a, p) * lucid_cuda_rhs_floats(d->shape);
    LUCID_TRY(lucid_cuda_launched(lucid_cuda_unpack_values(d->granules, rhs, &form, d->copies), "unpacking values"));
    LUCID_TRY(LUCID_CUDA_CHECK(cudaMemcpy2DAsync(host_record(a, p) + offset, pitch, d->granules + offset, pitch, bytes,
                                                 (size_t)p->n, cudaMemcpyDefault, d->copies)));
    return LUCID_CUDA_CHECK(cudaStreamSynchronize(d->copies));
}

static lucid_status download_states(lucid_attention *a, const part *p, int head) {
    lucid_device *d = a->device;
    const lucid_channel *c = &a->channels[p->channel];
    lucid_cuda_form form = form_of(a, p);
    size_t index = lucid_query_index(a, c, p->row, p->sequence, head, p->first);
    size_t bytes = (size_t)p->n * a->state_floats * sizeof(float);
    const float *from = d->shares[p->channel].states + index * lucid_cuda_state_floats(d->shape);
    LUCID_TRY(lucid_cuda_launched(lucid_cuda_unpack_states(d->granules, from, &form, d->copies), "unpacking states"));
    LUCID_TRY(LUCID_CUDA_CHECK(
        cudaMemcpyAsync(c->states + index * a->state_floats, d->granules, bytes, cudaMemcpyDefault, d->copies)));
    return LUCID_CUDA_CHECK(cudaStreamSynchronize(d->copies));
}

static lucid_status download_part(lucid_attention *a, const part *p) {
    if (a->problem.attention == LUCID_ATTENTION_LUCID) LUCID_TRY(download_values(a, p));
    for (int head = 0; head < a->group; head++) LUCID_TRY(download_states(a, p, head));
    return LUCID_OK;
}

lucid_status lucid_device_each_part(lucid_attention *a, int most, lucid_device_visitor visit) {
    for (int i = 0; i < a->plan.channels; i++)
        for (int row = 0; row < a->n_rows; row++) {
            int granules = lucid_tile_granules(a, a->channels[i].schedule->rows[row]);
            for (int s = 0; s < a->channels[i].n_sequences; s++)
                for (int first = 0; first < granules; first += most) {
                    int left = granules - first;
                    part p = {i, row, s, first, left < most ? left : most};
                    LUCID_TRY(visit(a, &p));
                }
        }
    return LUCID_OK;
}

/* --- factors --- */

/* largest (W) = the largest |v| by column over this rank's tokens of one sequence */
static void column_maxima(const lucid_attention *a, const lucid_channel *c, int sequence, double *largest) {
    for (int row = 0; row < a->n_rows; row++)
        for (int g = 0; g < lucid_tile_granules(a, c->schedule->rows[row]); g++) {
            const float *values = lucid_own_tile(c, row) + lucid_record_index(a, sequence, g) * a->record_floats +
                                  lucid_record_values(a->shape);
            for (int i = 0; i < LUCID_GRANULE; i++)
                for (int column = 0; column < a->shape.value_dim; column++) {
                    double x = fabsf(values[(size_t)i * a->shape.value_ld + column]);
                    largest[column] = x > largest[column] ? x : largest[column];
                }
        }
}

/* The power of two that brings x into [1, 2); 1 for zero. */
static float factor_of(double x) {
    int exponent;
    if (x == 0) return 1;
    frexp(x, &exponent);
    exponent = 1 - exponent;
    return ldexpf(1, exponent > 126 ? 126 : exponent < -126 ? -126 : exponent);
}

/* All ranks choose the same factors, from the values of all of them. Collective. */
static lucid_status choose_factors(lucid_attention *a) {
    lucid_device *d = a->device;
    int n_sequences = a->problem.batch * a->problem.n_kv_heads, width = lucid_cuda_width(d->shape);
    size_t n = (size_t)n_sequences * (size_t)width;
    double *largest = calloc(n, sizeof *largest);
    float *factor = malloc(n * sizeof *factor);
    lucid_status status =
        largest && factor ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for %zu column factors", n);
    LUCID_TRY_GOTO(lucid_comm_agree(a->comm, status), free_both);
    for (int i = 0; i < a->plan.channels; i++) {
        const lucid_channel *c = &a->channels[i];
#pragma omp parallel for num_threads(a->threads)
        for (int s = 0; s < c->n_sequences; s++)
            column_maxima(a, c, s, largest + (size_t)(c->first_sequence + s) * (size_t)width);
    }
    for (int s = 0; s < n_sequences && !status; s++)
        status = lucid_comm_allreduce(a->comm, largest + (size_t)s * (size_t)width, width, LUCID_MAX);
    if (status) goto free_both;
    for (size_t i = 0; i < n; i++) factor[i] = factor_of(largest[i]);
    status = LUCID_CUDA_CHECK(cudaMemcpyAsync(d->factor, factor, n * sizeof *factor, cudaMemcpyDefault, d->copies));
    if (!status) status = LUCID_CUDA_CHECK(cudaStreamSynchronize(d->copies));
free_both:
    free(factor);
    free(largest);
    return status;
}

/* --- pieces of work --- */

static lucid_cuda_piece piece_of(const lucid_attention *a, const lucid_worker *w, const lucid_assignment *job) {
    const lucid_device *d = a->device;
    const lucid_channel *c = job->channel;
    const share *s = &d->shares[job->channel_index];
    size_t row = (size_t)job->piece.row, granules = (size_t)c->n_sequences * a->granules_per_tile;
    int own = c->schedule->rows[row];
    lucid_cuda_piece piece = {
        .shape = d->shape,
        .set = d->set,
        .granules_per_tile = a->granules_per_tile,
        .own = job->piece.last == own + 1,
        .first = job->piece.first == 0,
        .n_granules = lucid_tile_granules(a, own),
        .n_sequences = c->n_sequences,
        .group = a->group,
        .records = lucid_own_tile(c, job->piece.row),
        .rhs = s->rhs + row * granules * lucid_cuda_rhs_floats(d->shape),
        .queries = s->queries + row * granules * a->group * lucid_cuda_matrix_bytes(d->shape),
        .states = s->states + row * granules * a->group * lucid_cuda_state_floats(d->shape),
        .counters = d->workers[w - a->workers].counters,
        .head_dim = a->problem.head_dim,
        .scale = lucid_cuda_scale(a->problem.softmax_scale),
    };
    for (int tile = job->piece.first; tile < job->piece.last && tile < own; tile++)
        piece.tiles[piece.n_tiles++] = w->tiles[tile - job->piece.first];
    return piece;
}

static lucid_status launch_solve(const lucid_cuda_piece *piece, cudaStream_t stream) {
    size_t bytes = (1 + (size_t)piece->n_sequences) * sizeof *piece->counters;
    LUCID_TRY(LUCID_CUDA_CHECK(cudaMemsetAsync(piece->counters, 0, bytes, stream)));
    return lucid_cuda_launched(lucid_cuda_solve(piece, stream), "the solve");
}

static lucid_status launch(const lucid_cuda_piece *piece, lucid_piece_kind kind, cudaStream_t stream) {
    switch (kind) {
    case LUCID_PIECE_UPDATE:
        return lucid_cuda_launched(lucid_cuda_update(piece, stream), "the solve's update");
    case LUCID_PIECE_SOLVE:
        return launch_solve(piece, stream);
    case LUCID_PIECE_ATTEND:
        return lucid_cuda_launched(lucid_cuda_attend(piece, stream), "the softmax pass");
    }
    return lucid_fail(LUCID_ERR_INTERNAL, "a piece of an unknown kind");
}

/* Spins at first: the chain's pieces are short. */
static lucid_status wait_for(cudaEvent_t event, double timeout) {
    double begin = lucid_clock();
    for (int round = 0;; round++) {
        cudaError_t error = cudaEventQuery(event);
        if (error != cudaErrorNotReady) return LUCID_CUDA_CHECK(error);
        if (lucid_clock() - begin > timeout)
            return lucid_fail(LUCID_ERR_TIMEOUT, "the GPU has not finished a piece of work for %.0f s", timeout);
        if (round < 200)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
}

lucid_status lucid_device_finish(const lucid_attention *a, const worker *w, cudaStream_t stream) {
    LUCID_TRY(LUCID_CUDA_CHECK(cudaEventRecord(w->done, stream)));
    return wait_for(w->done, a->options.timeout);
}

static lucid_status do_piece(const lucid_attention *a, const lucid_worker *w, const lucid_assignment *job) {
    const worker *mine = &a->device->workers[w - a->workers];
    cudaStream_t stream = job->piece.kind == LUCID_PIECE_ATTEND ? mine->bulk : mine->chain;
    lucid_cuda_piece piece = piece_of(a, w, job);
    LUCID_TRY(LUCID_CUDA_CHECK(cudaSetDevice(a->device->ordinal))); /* the calling thread's */
    LUCID_TRY(launch(&piece, job->piece.kind, stream));
    return lucid_device_finish(a, mine, stream);
}

static void run_piece(const lucid_attention *a, lucid_worker *w, const lucid_assignment *job) {
    w->status = do_piece(a, w, job);
}

/* --- the run --- */

/* The best kernels that all ranks' devices have: sets differ in their bits. Collective. */
static lucid_status agree_on_kernels(lucid_attention *a) {
    double lacking = -(double)lucid_cuda_best(a->device->shape);
    LUCID_TRY(lucid_comm_allreduce(a->comm, &lacking, 1, LUCID_MAX));
    a->device->set = (lucid_cuda_set)(int)-lacking;
    a->device->isa = lucid_cuda_set_name(a->device->set);
    return LUCID_OK;
}

static lucid_status bring(lucid_attention *a) {
    LUCID_TRY(lucid_comm_agree(a->comm, lucid_device_begin(a, a->channels, a->plan.channels)));
    LUCID_TRY(agree_on_kernels(a));
    LUCID_TRY(lucid_comm_agree(a->comm, prepare(a)));
    LUCID_TRY(choose_factors(a));
    return lucid_comm_agree(a->comm, lucid_device_each_part(a, STAGING_GRANULES, upload_part));
}

/* After a failure kernels may still use the memory and peers wait for tiles: the process is about to end. */
lucid_status lucid_device_run_pass(lucid_attention *a, const lucid_device_pass *pass, double work_total) {
    double begin = lucid_clock();
    LUCID_TRY(pass->bring(a));
    a->result.pack += lucid_clock() - begin;
    lucid_device *d = a->device;
    for (int i = 0; i < d->n_channels; i++) d->channels[i].run = pass->run;
    a->mover = (lucid_mover){d->transfers->send, d->transfers->recv, d->transfers->test, d->links};
    LUCID_TRY(lucid_engine_run(a, d->channels, d->n_channels, work_total));
    LUCID_TRY(lucid_comm_rendezvous(a->comm)); /* so that links may be closed at any time */
    begin = lucid_clock();
    LUCID_TRY(lucid_device_each_part(a, pass->most, pass->take));
    lucid_device_release(a);
    a->result.pack += lucid_clock() - begin;
    return LUCID_OK;
}

lucid_status lucid_device_run(lucid_attention *a, double work_total) {
    const lucid_device_pass forward = {
        .bring = bring, .run = run_piece, .take = download_part, .most = STAGING_GRANULES};
    return lucid_device_run_pass(a, &forward, work_total);
}
