#include "launch/sink.h"

#include "launch/source.h"

#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const names[LAUNCH_N_TENSORS] = {
    [LUCID_Q] = "q", [LUCID_K] = "k", [LUCID_V] = "v", [LUCID_OUT] = "out", [LUCID_Y] = "y", [LUCID_LSE] = "lse",
};

/* The temporary file of the sink that is open. A job killed half way (mpirun sends TERM to its ranks when one of them
 * aborts) leaves no partial file: see the top of safetensors.h for the name. */
static char unfinished[PATH_MAX];
static atomic_bool watching; /* unfinished is complete */

void launch_sink_discard(void) {
    if (atomic_load(&watching)) unlink(unfinished);
}

static void on_signal(int number) {
    launch_sink_discard();
    raise(number); /* SA_RESETHAND: the default now, delivered when this handler returns */
}

/* Signals that would end the process, but for those that are handled elsewhere or ignored, as nohup has it. */
static void watch_signals(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND}, now;
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGXCPU, SIGUSR1};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigaction(numbers[i], NULL, &now) == 0 && now.sa_handler == SIG_DFL) sigaction(numbers[i], &action, NULL);
}

lucid_status launch_sink_watch(const char *path, const char *job_id) {
    launch_sink_unwatch();
    if (snprintf(unfinished, sizeof unfinished, "%s.tmp.%s", path, job_id) >= (int)sizeof unfinished)
        return lucid_fail(LUCID_ERR_IO, "%s: name too long", path);
    atomic_store(&watching, true);
    watch_signals();
    return LUCID_OK;
}

void launch_sink_unwatch(void) {
    atomic_store(&watching, false);
}

static const char *file_dtype(lucid_tensor tensor, lucid_dtype dtype) {
    static const char *const dtypes[] = {[LUCID_F32] = "F32", [LUCID_BF16] = "BF16", [LUCID_F16] = "F16"};
    return tensor == LUCID_Y || tensor == LUCID_LSE ? "F32" : dtypes[dtype];
}

static lucid_safetensors_tensor describe(lucid_tensor tensor, const launch_sink_options *o) {
    const lucid_problem *p = o->problem;
    lucid_safetensors_tensor t = {.name = names[tensor], .dtype = file_dtype(tensor, o->dtype)};
    if (o->batched) t.shape[t.n_dims++] = p->batch;
    t.shape[t.n_dims++] = launch_tensor_heads(p, tensor);
    t.shape[t.n_dims++] = p->seqlen;
    if (tensor != LUCID_LSE) t.shape[t.n_dims++] = launch_tensor_dim(p, tensor);
    return t;
}

static lucid_status plan(launch_sink *sink, const launch_sink_options *o) {
    lucid_safetensors_tensor tensors[LAUNCH_N_TENSORS];
    int n_tensors = 0;
    for (int i = 0; i < LAUNCH_N_TENSORS; i++)
        if (o->holds[i]) tensors[n_tensors++] = describe(i, o);
    LUCID_TRY(launch_sink_watch(o->path, o->job_id));
    return lucid_safetensors_plan(&sink->writer, &(lucid_safetensors_spec){.path = o->path,
                                                                           .job = o->job_id,
                                                                           .tensors = tensors,
                                                                           .n_tensors = n_tensors,
                                                                           .metadata = o->metadata,
                                                                           .n_metadata = o->n_metadata});
}

lucid_status launch_sink_open(launch_sink *sink, lucid_comm *comm, const launch_sink_options *options) {
    *sink = (launch_sink){.problem = *options->problem};
    memcpy(sink->holds, options->holds, sizeof sink->holds);
    lucid_status status = plan(sink, options);
    if (!status && comm->rank == 0) status = lucid_safetensors_create(sink->writer, options->input);
    LUCID_TRY(lucid_comm_agree(comm, status));
    if (comm->rank) status = lucid_safetensors_join(sink->writer);
    return lucid_comm_agree(comm, status);
}

lucid_status launch_sink_write(void *context, const float *rows, lucid_tensor tensor, int batch, int head,
                               int64_t first, int n_tokens) {
    const launch_sink *sink = context;
    const lucid_problem *p = &sink->problem;
    int64_t row = launch_tensor_row(p, tensor, batch, head, first); /* plan() checked that sizes do not overflow */
    int64_t dim = launch_tensor_dim(p, tensor);
    return lucid_safetensors_write(sink->writer, names[tensor], row * dim, n_tokens * dim, rows);
}

lucid_status launch_sink_store(launch_sink *sink, lucid_attention *attention) {
    for (int i = LUCID_OUT; i <= LUCID_LSE; i++)
        if (sink->holds[i]) LUCID_TRY(lucid_attention_store(attention, i, launch_sink_write, sink));
    return LUCID_OK;
}

lucid_status launch_sink_commit(launch_sink *sink, lucid_comm *comm) {
    LUCID_TRY(lucid_comm_agree(comm, lucid_safetensors_finish(sink->writer)));
    lucid_status status = comm->rank == 0 ? lucid_safetensors_commit(sink->writer) : LUCID_OK;
    if (!status) launch_sink_unwatch();
    return lucid_comm_agree(comm, status);
}

void launch_sink_close(launch_sink *sink) {
    lucid_safetensors_destroy(sink->writer);
    sink->writer = NULL;
    launch_sink_unwatch();
}
