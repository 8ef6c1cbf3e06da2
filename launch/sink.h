/* Where results go: one safetensors file that all ranks write, under a temporary name until it is complete. */
#ifndef LUCID_LAUNCH_SINK_H
#define LUCID_LAUNCH_SINK_H

#include "runtime/files/safetensors.h"
#include "runtime/lucid.h"

#define LAUNCH_N_TENSORS (LUCID_LSE + 1)

typedef struct {
    lucid_safetensors_writer *writer;
    lucid_problem problem;
    bool holds[LAUNCH_N_TENSORS];
} launch_sink;

typedef struct {
    const char *path;
    const char *job_id; /* ends the temporary name: the same on all ranks */
    const lucid_problem *problem;
    bool holds[LAUNCH_N_TENSORS]; /* by lucid_tensor: which tensors the file gets */
    lucid_dtype dtype;            /* of all but y and lse, which are fp32 */
    bool batched;                 /* with a batch dimension */
    const lucid_safetensors_pair *metadata;
    int n_metadata;
    const lucid_safetensors *input; /* may not be the same file; NULL: none */
} launch_sink_options;

/* Creates the temporary file on rank 0 and opens it on all. Collective; agreed. */
lucid_status launch_sink_open(launch_sink *sink, lucid_comm *comm, const launch_sink_options *options);

/* A lucid_writer; context is a launch_sink. */
lucid_status launch_sink_write(void *context, const float *rows, lucid_tensor tensor, int batch, int head,
                               int64_t first, int n_tokens);

/* Writes this rank's share of out, y and lse, those that the sink holds. Local. */
lucid_status launch_sink_store(launch_sink *sink, lucid_attention *attention);

/* Flushes, and renames into place once every rank has succeeded. Collective; agreed. */
lucid_status launch_sink_commit(launch_sink *sink, lucid_comm *comm);

/* Frees; a file that was not committed is removed. Local; fine when open was never called on a zeroed sink. */
void launch_sink_close(launch_sink *sink);

/* From here on the temporary file of path is removed when the job is killed or aborted, until unwatch. One at a time; a
 * sink's own is watched already. Errors: IO. Local. */
lucid_status launch_sink_watch(const char *path, const char *job_id);
void launch_sink_unwatch(void);

/* Removes the temporary file at once, from any rank, when the job is about to be aborted. Async-signal-safe. */
void launch_sink_discard(void);

#endif
