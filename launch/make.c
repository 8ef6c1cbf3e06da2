/* lucid make: a random input file. Ranks share the heads' rows in blocks, all of one file. */
#include "launch/commands.h"
#include "launch/sink.h"
#include "launch/source.h"
#include "launch/version.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCK_ROWS 1024

/* Blocks are dealt out to ranks in turn. The generator gives fp32 and the sink rounds: the same bits as rows made in
 * the narrower dtype, which are rounded once too. */
static lucid_status write_head(launch_sink *sink, launch_source *source, const lucid_comm *comm, lucid_tensor tensor,
                               int batch, int head, float *rows) {
    const lucid_problem *p = &source->problem;
    for (int64_t first = (int64_t)comm->rank * BLOCK_ROWS; first < p->seqlen;
         first += (int64_t)comm->world_size * BLOCK_ROWS) {
        int n = (int)(p->seqlen - first < BLOCK_ROWS ? p->seqlen - first : BLOCK_ROWS);
        LUCID_TRY(launch_source_read(source, rows, tensor, batch, head, first, n));
        LUCID_TRY(launch_sink_write(sink, rows, tensor, batch, head, first, n));
    }
    return LUCID_OK;
}

static lucid_status write_all(launch_sink *sink, launch_source *source, const lucid_comm *comm) {
    const lucid_problem *p = &source->problem;
    float *rows = malloc((size_t)BLOCK_ROWS * LUCID_MAX_HEAD_DIM * sizeof *rows);
    lucid_status status = rows ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for %d rows", BLOCK_ROWS);
    for (int tensor = 0; tensor < LAUNCH_N_INPUTS; tensor++)
        for (int batch = 0; batch < p->batch; batch++)
            for (int head = 0; !status && head < (tensor == LUCID_Q ? p->n_heads : p->n_kv_heads); head++)
                status = write_head(sink, source, comm, tensor, batch, head, rows);
    free(rows);
    return status;
}

lucid_status launch_make(const launch_options *options, lucid_comm *comm) {
    launch_source source;
    launch_sink sink = {0};
    launch_source_random(&source, options, options->random);
    for (int i = 0; i < LAUNCH_N_INPUTS; i++) source.dtypes[i] = LUCID_F32;
    const lucid_safetensors_pair metadata[] = {{"producer", "lucid " LUCID_BUILD}};
    const launch_sink_options sink_options = {
        .path = options->output,
        .job_id = options->job_id,
        .problem = &source.problem,
        .holds = {[LUCID_Q] = true, [LUCID_K] = true, [LUCID_V] = true},
        .dtype = options->dtype,
        .batched = true,
        .metadata = metadata,
        .n_metadata = 1,
    };
    lucid_status status = launch_sink_open(&sink, comm, &sink_options);
    if (!status) status = lucid_comm_agree(comm, write_all(&sink, &source, comm));
    if (!status) status = launch_sink_commit(&sink, comm);
    launch_sink_close(&sink);
    if (!status && comm->rank == 0 && !options->quiet)
        printf("%s: q, k and v of %" PRId64 " tokens\n", options->output, options->random);
    return status;
}
