/* lucid eval niah: the samples of an evaluation, answered by groups of ranks that each hold a text of their own. The
 * first rank of each group drives it; which samples are whose follows from their lengths alone, and all meet in the
 * folder of --output. Rank 0 alone opens that folder, before any group begins, and makes the reports after all. */
#include "launch/answer.h"
#include "launch/commands.h"
#include "launch/eval_folder.h"
#include "launch/eval_set.h"
#include "launch/job.h"
#include "runtime/eval/report.h"
#include "runtime/model/fingerprint.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const launch_options *options;
    int group, n_groups;
    launch_resources resources;
    launch_session *session;
    launch_eval_set set;       /* on the groups' first ranks */
    launch_eval_folder folder; /* on rank 0 */
    bool *answered;            /* (set.n_samples) by a run before */
    /* This group's */
    bool *mine; /* (set.n_samples) to be answered here */
    launch_eval_answers answers;
    launch_progress progress;
    double work, work_done; /* flops of reading all samples; of those that are done */
    double reading;         /* flops of the context that is being read */
    int64_t n_samples, n_done;
    int64_t n_answers;
    double score; /* sum */
} evaluation;

/* --- whose work, and how far it is --- */

static int by_flops(const void *a, const void *b) {
    const launch_eval_cell *x = *(launch_eval_cell *const *)a, *y = *(launch_eval_cell *const *)b;
    if (x->flops != y->flops) return x->flops < y->flops ? 1 : -1;
    return x < y ? -1 : x > y;
}

/* The least of load (n_groups), the first of equals. */
static int idlest(const double *load, int n_groups) {
    int least = 0;
    for (int g = 1; g < n_groups; g++)
        if (load[g] < load[least]) least = g;
    return least;
}

/* The longest texts first, each to the group that has the least to read so far. */
static void deal(evaluation *e, launch_eval_cell **cells, double *load) {
    for (int c = 0; c < e->set.n_cells; c++) {
        const launch_eval_cell *cell = cells[c];
        for (int64_t i = 0; i < cell->n_samples; i++) {
            if (e->answered[cell->first + i]) continue;
            const int group = idlest(load, e->n_groups);
            load[group] += cell->flops;
            if (group != e->group) continue;
            e->mine[cell->first + i] = true;
            e->n_samples++;
        }
    }
    e->work = load[e->group];
}

/* While the session's text is empty. Every group deals for all, and alike. */
static lucid_status plan_work(evaluation *e) {
    launch_eval_cell **cells = malloc((size_t)e->set.n_cells * sizeof *cells);
    double *load = calloc((size_t)e->n_groups, sizeof *load);
    e->mine = calloc((size_t)e->set.n_samples + 1, sizeof *e->mine);
    const bool room = cells && load && e->mine;
    for (int c = 0; room && c < e->set.n_cells; c++) {
        cells[c] = &e->set.cells[c];
        cells[c]->flops = lucid_context_flops(launch_session_context(e->session), cells[c]->max_length);
    }
    if (room) {
        qsort(cells, (size_t)e->set.n_cells, sizeof *cells, by_flops);
        deal(e, cells, load);
    }
    free(load);
    free(cells);
    return room ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory to deal %" PRId64 " samples", e->set.n_samples);
}

/* A launch_watch. */
static void show_progress(void *context, double share) {
    evaluation *e = context;
    char text[80];
    snprintf(text, sizeof text, "%" PRId64 "/%" PRId64 " samples  %.1f %% found", e->n_done, e->n_samples,
             e->n_answers ? 100 * e->score / (double)e->n_answers : 0);
    launch_progress_show(&e->progress, (e->work_done + share * e->reading) / e->work, text);
}

static void note_done(evaluation *e, const launch_eval_cell *cell) {
    e->n_done++;
    e->work_done += cell->flops;
    e->reading = 0;
    show_progress(e, 0);
}

/* --- one sample --- */

/* A launch_answer_taker; context is an open memory stream. */
static lucid_status keep_text(void *context, const char *text, size_t n_bytes) {
    return fwrite(text, 1, n_bytes, context) == n_bytes ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory");
}

static lucid_status answer_prompt(evaluation *e, const lucid_tokens *ids, FILE *stream) {
    launch_answer answer;
    const launch_answer_options options = {
        .stops = &e->set.stop,
        .n_stops = e->set.stop != NULL,
        .max_new = e->set.n_new,
        .take = keep_text,
        .context = stream,
        .begin = lucid_clock(),
    };
    int64_t n_shared;
    LUCID_TRY(launch_session_become(e->session, ids->ids, ids->n, ids->n - 1, NULL, &n_shared));
    return launch_answer_run(&answer, e->session, ids, &options);
}

static lucid_status ask(evaluation *e, char **answer, size_t *n_bytes, const lucid_niah_sample *sample, int question) {
    char *prompt;
    size_t n_prompt;
    lucid_tokens ids = {0};
    LUCID_TRY(lucid_niah_prompt(&prompt, &n_prompt, sample, question));
    lucid_status status = launch_vocabulary_encode(&ids, launch_session_vocabulary(e->session), prompt, n_prompt, true,
                                                   e->options->samples ? e->options->samples : "a sample");
    free(prompt);
    FILE *stream = status ? NULL : open_memstream(answer, n_bytes);
    if (!status && !stream) status = lucid_fail(LUCID_ERR_MEMORY, "no memory for an answer");
    if (!status) status = answer_prompt(e, &ids, stream);
    if (stream) fclose(stream);
    lucid_tokens_free(&ids);
    return status;
}

/* All questions about one context, which is read once. */
static lucid_status answer_sample(evaluation *e, const launch_eval_cell *cell, const lucid_niah_sample *sample) {
    lucid_eval_records records = {0};
    lucid_status status = LUCID_OK;
    for (int q = 0; !status && q < sample->n_questions; q++) {
        char *answer = NULL;
        size_t n_bytes = 0;
        e->reading = q == 0 ? cell->flops : 0; /* later questions read little, and that share is of what is done */
        status = ask(e, &answer, &n_bytes, sample, q);
        if (!status) status = lucid_eval_records_add(&records, cell->name, sample, q, answer, n_bytes);
        free(answer);
    }
    if (!status) status = launch_eval_answers_add(&e->answers, &records);
    for (int64_t i = 0; i < records.n; i++) e->score += records.items[i].score;
    e->n_answers += records.n;
    lucid_eval_records_free(&records);
    return status;
}

static lucid_status answer_cell(evaluation *e, const launch_eval_cell *cell) {
    for (int64_t i = 0; i < cell->n_samples; i++) {
        lucid_niah_sample sample = {0};
        if (!e->mine[cell->first + i]) continue;
        lucid_status status = launch_eval_sample_open(&sample, cell, i);
        if (!status) status = answer_sample(e, cell, &sample);
        launch_eval_sample_close(&sample, cell);
        LUCID_TRY(status);
        note_done(e, cell);
    }
    return LUCID_OK;
}

/* --- a group's first rank --- */

static lucid_status prepare(void *work, launch_session *session, launch_needs *needs) {
    evaluation *e = work;
    needs->max_tokens = e->set.max_tokens;
    launch_session_watch(session, show_progress, e);
    return LUCID_OK;
}

static lucid_status answer_all(evaluation *e) {
    lucid_status status = launch_eval_answers_open(&e->answers, e->options->output, e->options->job_id, e->group);
    for (int c = 0; !status && c < e->set.n_cells; c++) status = answer_cell(e, &e->set.cells[c]);
    const lucid_status closed = launch_eval_answers_close(&e->answers);
    return status ? status : closed;
}

static lucid_status run(void *work, launch_session *session) {
    evaluation *e = work;
    e->session = session;
    LUCID_TRY(plan_work(e));
    e->progress = launch_progress_make(e->options->progress, e->group, 1);
    launch_progress_begin(&e->progress);
    const lucid_status status = answer_all(e);
    launch_progress_end(&e->progress);
    return status;
}

/* --- the folder, on rank 0 --- */

/* What must be the same for answers to stand side by side; NULL: no memory. */
static json_t *describe_run(const evaluation *e, const char *fingerprint) {
    const launch_options *o = e->options;
    json_t *same = json_pack("{s:s, s:s, s:i, s:i, s:s, s:i}", "model", o->model, "fingerprint", fingerprint, "bos",
                             o->bos, "cache_dtype", o->cache_dtype, "isa", o->isa, "blas", o->blas);
    return json_pack("{s:o, s:O}", "lucid_eval", same, "tasks", e->set.tasks);
}

static lucid_status open_folder(evaluation *e) {
    const launch_options *o = e->options;
    char fingerprint[LUCID_FINGERPRINT_MAX];
    const int64_t max_context = o->max_context ? o->max_context : e->set.max_tokens;
    LUCID_TRY(lucid_model_fingerprint(fingerprint, e->resources.model, max_context));
    LUCID_TRY(launch_eval_folder_open(&e->folder, o->output, describe_run(e, fingerprint), o->resume));
    return launch_eval_folder_make(&e->folder);
}

static bool is_answered(const evaluation *e, const launch_eval_cell *cell, int64_t i) {
    const int64_t index = cell->given ? cell->given[i].index : i;
    return lucid_eval_records_have(&e->folder.records, cell->name, cell->max_length, index);
}

static void mark_answered(evaluation *e) {
    for (int c = 0; c < e->set.n_cells; c++) {
        const launch_eval_cell *cell = &e->set.cells[c];
        for (int64_t i = 0; i < cell->n_samples; i++) e->answered[cell->first + i] = is_answered(e, cell, i);
    }
}

/* Other hosts may see the folder as it was a while ago, so answers that did not come are no reason to begin anew. */
static lucid_status check_complete(const evaluation *e) {
    for (int c = 0; c < e->set.n_cells; c++) {
        const launch_eval_cell *cell = &e->set.cells[c];
        for (int64_t i = 0; i < cell->n_samples; i++)
            if (!is_answered(e, cell, i))
                return lucid_fail(LUCID_ERR_IO,
                                  "%s: answers are missing, the first to task %s, length %" PRId64 ", sample %" PRId64
                                  ": see that all hosts share the folder, and go on with --resume",
                                  e->options->output, cell->name, cell->max_length, i);
    }
    return LUCID_OK;
}

static lucid_status finish(evaluation *e, const lucid_comm *comm) {
    LUCID_TRY(launch_eval_folder_collect(&e->folder));
    LUCID_TRY(check_complete(e));
    LUCID_TRY(launch_eval_folder_write(&e->folder, e->options, comm));
    if (e->options->quiet) return LUCID_OK;
    lucid_eval_table(stdout, &e->folder.records);
    printf("heat map: %s/heatmap.svg\n", e->options->output);
    return LUCID_OK;
}

/* --- the command --- */

static lucid_status check_groups(evaluation *e, const lucid_comm *comm) {
    const int64_t size = e->options->group_size ? e->options->group_size : comm->world_size;
    if (size > comm->world_size || comm->world_size % size)
        return lucid_fail(LUCID_ERR_USAGE, "--group-size: %d ranks are no groups of %" PRId64, comm->world_size, size);
    e->n_groups = comm->world_size / (int)size;
    e->group = comm->rank / (int)size;
    return LUCID_OK;
}

/* Makes the samples on the first rank of each group. */
static lucid_status make_set(evaluation *e, lucid_comm *comm) {
    const bool drives = comm->rank % (comm->world_size / e->n_groups) == 0;
    LUCID_TRY(launch_resources_open(&e->resources, e->options, comm, drives));
    return lucid_comm_conclude(comm,
                               drives ? launch_eval_set_make(&e->set, e->options, &e->resources.vocabulary) : LUCID_OK);
}

/* Opens the folder, and tells all which samples are answered in it. */
static lucid_status share_folder(evaluation *e, lucid_comm *comm) {
    LUCID_TRY(lucid_comm_conclude(comm, comm->rank ? LUCID_OK : open_folder(e)));
    int64_t n = e->set.n_samples;
    LUCID_TRY(lucid_comm_broadcast(comm, &n, sizeof n, 0));
    e->answered = calloc((size_t)n + 1, sizeof *e->answered);
    LUCID_TRY(lucid_comm_agree(
        comm, e->answered ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for %" PRId64 " samples", n)));
    if (comm->rank == 0) mark_answered(e);
    return lucid_comm_broadcast(comm, e->answered, (size_t)n * sizeof *e->answered, 0);
}

static lucid_status run_group(evaluation *e, lucid_comm *comm) {
    const launch_work steps = {prepare, run};
    if (e->n_groups == 1) return launch_session_run_on(&e->resources, e->options, comm, &steps, e);
    lucid_comm *part;
    LUCID_TRY(lucid_comm_split(&part, comm, e->group));
    const lucid_status status = launch_session_run_on(&e->resources, e->options, part, &steps, e);
    lucid_comm_close(part);
    return status;
}

static lucid_status evaluate(evaluation *e, lucid_comm *comm) {
    LUCID_TRY(lucid_comm_agree(comm, check_groups(e, comm)));
    LUCID_TRY(make_set(e, comm));
    LUCID_TRY(share_folder(e, comm));
    const lucid_status status = run_group(e, comm);
    LUCID_TRY(lucid_comm_conclude(comm, status)); /* one group may have far more to read than another */
    return lucid_comm_conclude(comm, comm->rank ? LUCID_OK : finish(e, comm));
}

lucid_status launch_eval_niah(const launch_options *options, lucid_comm *comm) {
    evaluation e = {.options = options};
    const lucid_status status = evaluate(&e, comm);
    launch_eval_folder_close(&e.folder);
    launch_eval_set_free(&e.set);
    launch_resources_close(&e.resources);
    free(e.answered);
    free(e.mine);
    return status;
}
