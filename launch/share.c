#include "launch/share.h"

#include "runtime/lucid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WORDS_MAX = 128 }; /* of a command line */

static lucid_status copy_text(char *to, size_t n, const char *from) {
    if (!from) from = "";
    if (strlen(from) >= n) return lucid_fail(LUCID_ERR_USAGE, "longer than %zu characters: %.40s...", n - 1, from);
    strcpy(to, from);
    return LUCID_OK;
}

static const char *text_or_null(const char *text) {
    return *text ? text : NULL;
}

/* A name that no other job has: rank 0's host, process and time. */
static void name_job(lucid_job *job, const lucid_comm *comm) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(job->job_id, sizeof job->job_id, "%.20s-%ld-%ld", comm->host, (long)getpid(),
             now.tv_sec * 1000 + now.tv_nsec / 1000000);
}

static lucid_status job_texts(lucid_job *job, const launch_options *o) {
    LUCID_TRY(copy_text(job->isa, sizeof job->isa, o->isa));
    LUCID_TRY(copy_text(job->transport, sizeof job->transport, o->comm));
    LUCID_TRY(copy_text(job->input, sizeof job->input, o->input));
    LUCID_TRY(copy_text(job->output, sizeof job->output, o->output));
    LUCID_TRY(copy_text(job->report, sizeof job->report, o->report));
    LUCID_TRY(copy_text(job->checkpoint, sizeof job->checkpoint, o->checkpoint));
    LUCID_TRY(copy_text(job->trace, sizeof job->trace, o->trace));
    LUCID_TRY(copy_text(job->cached, sizeof job->cached, o->cached));
    LUCID_TRY(copy_text(job->lengths, sizeof job->lengths, o->lengths));
    LUCID_TRY(copy_text(job->model, sizeof job->model, o->model));
    LUCID_TRY(copy_text(job->context, sizeof job->context, o->context));
    LUCID_TRY(copy_text(job->save_context, sizeof job->save_context, o->save_context));
    LUCID_TRY(copy_text(job->logits, sizeof job->logits, o->logits));
    return copy_text(job->allow_unused, sizeof job->allow_unused, o->allow_unused);
}

/* The option table's ranges fit the message's types. */
static lucid_status job_from_options(lucid_job *job, const launch_options *o) {
    *job = (lucid_job){
        .command = o->command,
        .attention = o->attention,
        .seqlen = o->random,
        .batch = (int)o->batch,
        .n_heads = (int)o->heads,
        .n_kv_heads = (int)o->kv_heads,
        .head_dim = (int)o->head_dim,
        .value_dim = (int)o->value_dim,
        .softmax_scale = o->softmax_scale,
        .eps = o->eps,
        .layout = o->layout,
        .schedule = o->schedule,
        .tile = o->tile,
        .memory_budget = (uint64_t)o->memory_budget,
        .threads = (int)o->threads,
        .channels = (int)o->channels,
        .timeout = o->timeout,
        .seed = (uint64_t)o->seed,
        .random_kind = o->keys,
        .dtype = o->dtype,
        .device = o->device,
        .blas = o->blas,
        .baseline = o->baseline,
        .repeat = (int)o->repeat,
        .save = (uint32_t)o->save,
        .out_dtype = o->out_dtype,
        .progress = o->progress,
        .plan = o->plan,
        .quiet = o->quiet,
        .decode = o->decode,
        .backward = o->backward,
        .checkpoint_every = o->checkpoint_every,
        .resume = o->resume,
        .max_context = o->max_context,
        .prefill_chunk = o->prefill_chunk,
        .cache_dtype = o->cache_dtype,
    };
    return job_texts(job, o);
}

static void options_from_job(launch_options *options, const lucid_job *job) {
    *options = (launch_options){
        .command = (launch_command)job->command,
        .attention = job->attention,
        .random = job->seqlen,
        .batch = job->batch,
        .heads = job->n_heads,
        .kv_heads = job->n_kv_heads,
        .head_dim = job->head_dim,
        .value_dim = job->value_dim,
        .softmax_scale = job->softmax_scale,
        .eps = job->eps,
        .isa = text_or_null(job->isa),
        .layout = job->layout,
        .schedule = job->schedule,
        .tile = job->tile,
        .memory_budget = (int64_t)job->memory_budget,
        .threads = job->threads,
        .channels = job->channels,
        .timeout = job->timeout,
        .seed = (int64_t)job->seed,
        .keys = job->random_kind,
        .dtype = job->dtype,
        .device = job->device,
        .comm = text_or_null(job->transport),
        .input = text_or_null(job->input),
        .output = text_or_null(job->output),
        .report = text_or_null(job->report),
        .trace = text_or_null(job->trace),
        .lengths = text_or_null(job->lengths),
        .cached = text_or_null(job->cached),
        .blas = job->blas,
        .baseline = job->baseline,
        .repeat = job->repeat,
        .save = (int)job->save,
        .out_dtype = job->out_dtype,
        .progress = job->progress,
        .plan = job->plan,
        .quiet = job->quiet,
        .decode = job->decode,
        .backward = job->backward,
        .checkpoint = text_or_null(job->checkpoint),
        .checkpoint_every = job->checkpoint_every,
        .resume = job->resume,
        .model = text_or_null(job->model),
        .context = text_or_null(job->context),
        .save_context = text_or_null(job->save_context),
        .logits = text_or_null(job->logits),
        .allow_unused = text_or_null(job->allow_unused),
        .max_context = job->max_context,
        .prefill_chunk = job->prefill_chunk,
        .cache_dtype = job->cache_dtype,
        .job_id = job->job_id,
    };
}

static lucid_status pack(uint8_t **bytes, size_t *n_bytes, lucid_job *job, const launch_options *options,
                         const lucid_comm *comm) {
    LUCID_TRY(job_from_options(job, options));
    name_job(job, comm);
    return lucid_message_pack_job(bytes, n_bytes, job);
}

lucid_status launch_options_share(launch_options *options, lucid_job *job, lucid_comm *comm) {
    uint8_t *bytes = NULL;
    size_t n_bytes = 0;
    lucid_status status = comm->rank == 0 ? pack(&bytes, &n_bytes, job, options, comm) : LUCID_OK;
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), free_bytes);
    LUCID_TRY_GOTO(lucid_comm_broadcast(comm, &n_bytes, sizeof n_bytes, 0), free_bytes);
    if (comm->rank) {
        bytes = n_bytes <= LUCID_JOB_MAX_BYTES ? malloc(n_bytes) : NULL;
        if (!bytes) status = lucid_fail(LUCID_ERR_MEMORY, "no memory for a job message of %zu bytes", n_bytes);
    }
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), free_bytes);
    LUCID_TRY_GOTO(lucid_comm_broadcast(comm, bytes, n_bytes, 0), free_bytes);
    status = lucid_comm_agree(comm, lucid_message_unpack_job(job, bytes, n_bytes));
    if (!status && comm->rank) options_from_job(options, job);
    options->job_id = job->job_id;
free_bytes:
    free(bytes);
    return status;
}

static lucid_status write_words(char **words, size_t *n_bytes, const launch_options *options) {
    FILE *stream = open_memstream(words, n_bytes);
    if (stream) launch_options_write(stream, options);
    return stream && fclose(stream) == 0 ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for the command line");
}

static lucid_status parse_words(launch_options *options, char *words, size_t n_bytes) {
    const char *const job_id = options->job_id;
    char *argv[WORDS_MAX] = {"lucid"};
    int argc = 1;
    for (char *word = words; word < words + n_bytes; word += strlen(word) + 1) {
        if (argc == WORDS_MAX) return lucid_fail(LUCID_ERR_USAGE, "more than %d options", WORDS_MAX);
        argv[argc++] = word;
    }
    LUCID_TRY(launch_options_parse(options, argc, argv));
    options->job_id = job_id;
    return LUCID_OK;
}

lucid_status launch_options_share_all(launch_options *options, char **words, lucid_comm *comm) {
    size_t n_bytes = 0;
    *words = NULL;
    lucid_status status = comm->rank == 0 ? write_words(words, &n_bytes, options) : LUCID_OK;
    LUCID_TRY(lucid_comm_agree(comm, status));
    LUCID_TRY(lucid_comm_broadcast(comm, &n_bytes, sizeof n_bytes, 0));
    if (comm->rank) {
        *words = malloc(n_bytes);
        if (!*words) status = lucid_fail(LUCID_ERR_MEMORY, "no memory for the command line");
    }
    LUCID_TRY(lucid_comm_agree(comm, status));
    LUCID_TRY(lucid_comm_broadcast(comm, *words, n_bytes, 0));
    return lucid_comm_agree(comm, comm->rank ? parse_words(options, *words, n_bytes) : LUCID_OK);
}
