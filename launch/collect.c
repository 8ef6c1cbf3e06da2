/* Each rank packs its rows into one message, runs of rows behind a small head that says where they go. It costs every
 * rank a copy of its results and rank 0 all of them: meant for lengths whose dense references are affordable. */
#include "launch/collect.h"

#include "runtime/files/half.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t tensor, row, n_rows; /* row: of the tensor seen as (batch * heads * seqlen) rows */
} run_head;

typedef struct {
    const lucid_problem *problem;
    char *bytes;
    size_t used, capacity;
} result_parcel;

static lucid_status reserve(result_parcel *parcel, size_t more) {
    if (parcel->used + more <= parcel->capacity) return LUCID_OK;
    size_t capacity = 2 * parcel->capacity + more;
    char *bytes = realloc(parcel->bytes, capacity);
    if (!bytes) return lucid_fail(LUCID_ERR_MEMORY, "no memory to collect %zu bytes of results", capacity);
    parcel->bytes = bytes;
    parcel->capacity = capacity;
    return LUCID_OK;
}

static lucid_status take_rows(void *context, const float *rows, lucid_tensor tensor, int batch, int head, int64_t first,
                              int n_tokens) {
    result_parcel *parcel = context;
    run_head run = {
        .tensor = tensor, .row = launch_tensor_row(parcel->problem, tensor, batch, head, first), .n_rows = n_tokens};
    size_t n_bytes = (size_t)n_tokens * (size_t)launch_tensor_dim(parcel->problem, tensor) * sizeof *rows;
    LUCID_TRY(reserve(parcel, sizeof run + n_bytes));
    memcpy(parcel->bytes + parcel->used, &run, sizeof run);
    memcpy(parcel->bytes + parcel->used + sizeof run, rows, n_bytes);
    parcel->used += sizeof run + n_bytes;
    return LUCID_OK;
}

static lucid_status fill_parcel(result_parcel *parcel, const launch_job *job) {
    bool lucid = job->source->problem.attention == LUCID_ATTENTION_LUCID;
    LUCID_TRY(lucid_attention_store(job->attention, LUCID_OUT, take_rows, parcel));
    if (lucid) LUCID_TRY(lucid_attention_store(job->attention, LUCID_Y, take_rows, parcel));
    return lucid_attention_store(job->attention, LUCID_LSE, take_rows, parcel);
}

static void unpack(launch_collection *c, const lucid_problem *p, const char *bytes, size_t n_bytes) {
    for (const char *end = bytes + n_bytes; bytes < end;) {
        run_head run;
        memcpy(&run, bytes, sizeof run);
        size_t dim = (size_t)launch_tensor_dim(p, (lucid_tensor)run.tensor);
        size_t run_bytes = (size_t)run.n_rows * dim * sizeof(float);
        memcpy(c->tensors[run.tensor] + (size_t)run.row * dim, bytes + sizeof run, run_bytes);
        bytes += sizeof run + run_bytes;
    }
}

static lucid_status allocate(launch_collection *c, const lucid_problem *p) {
    for (int t = 0; t <= LUCID_LSE; t++) {
        size_t rows = (size_t)p->batch * (size_t)launch_tensor_heads(p, t) * (size_t)p->seqlen;
        c->tensors[t] = calloc(rows, (size_t)launch_tensor_dim(p, t) * sizeof(float));
        if (!c->tensors[t]) return lucid_fail(LUCID_ERR_MEMORY, "no memory for the whole tensors on rank 0");
    }
    return LUCID_OK;
}

static lucid_status read_head(float *rows, launch_source *source, lucid_tensor tensor, int batch, int head) {
    const lucid_problem *p = &source->problem;
    int dim = launch_tensor_dim(p, tensor);
    lucid_dtype dtype = source->dtypes[tensor];
    void *narrow = malloc((size_t)LUCID_GRANULE * LUCID_MAX_HEAD_DIM * sizeof(float));
    lucid_status status = narrow ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for rows");
    for (int64_t first = 0; !status && first < p->seqlen; first += LUCID_GRANULE) {
        int n = (int)(p->seqlen - first < LUCID_GRANULE ? p->seqlen - first : LUCID_GRANULE);
        status = launch_source_read(source, narrow, tensor, batch, head, first, n);
        if (!status) lucid_widen(rows + first * dim, narrow, dtype, (int64_t)n * dim);
    }
    free(narrow);
    return status;
}

static lucid_status read_inputs(launch_collection *c, launch_source *source) {
    const lucid_problem *p = &source->problem;
    for (int t = 0; t < LAUNCH_N_INPUTS; t++)
        for (int batch = 0; batch < p->batch; batch++)
            for (int head = 0; head < launch_tensor_heads(p, t); head++) {
                int64_t offset = launch_tensor_row(p, t, batch, head, 0) * launch_tensor_dim(p, t);
                LUCID_TRY(read_head(c->tensors[t] + offset, source, t, batch, head));
            }
    return LUCID_OK;
}

static lucid_status collect_on_root(launch_collection *c, launch_source *source) {
    LUCID_TRY(allocate(c, &source->problem));
    return read_inputs(c, source);
}

lucid_status launch_collect(launch_collection *collection, launch_job *job) {
    lucid_comm *comm = job->comm;
    result_parcel parcel = {.problem = &job->source->problem};
    void *gathered = NULL;
    size_t *n_bytes = calloc((size_t)comm->world_size, sizeof *n_bytes);
    lucid_status status = n_bytes ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory to collect results");
    if (!status && comm->rank == 0) status = collect_on_root(collection, job->source);
    if (!status) status = fill_parcel(&parcel, job);
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), free_all);
    LUCID_TRY_GOTO(lucid_comm_gather(comm, parcel.bytes, parcel.used, &gathered, n_bytes, 0), free_all);
    const char *bytes = gathered;
    for (int r = 0; comm->rank == 0 && r < comm->world_size; r++) {
        unpack(collection, &job->source->problem, bytes, n_bytes[r]);
        bytes += n_bytes[r];
    }
free_all:
    free(gathered);
    free(n_bytes);
    free(parcel.bytes);
    return status;
}

void launch_collection_free(launch_collection *collection) {
    for (int t = 0; t <= LUCID_LSE; t++) free(collection->tensors[t]);
    *collection = (launch_collection){0};
}
