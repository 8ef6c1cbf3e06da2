/* lucid train: a model learns a task, on a grid of ranks. Rank 0 reads the configuration and the text; all ranks get
 * them from it. */
#include "launch/commands.h"
#include "launch/file.h"
#include "launch/job.h"
#include "launch/peak.h"
#include "launch/report.h"
#include "launch/vocabulary.h"
#include "runtime/isa.h"
#include "runtime/train/save.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    const launch_options *options;
    lucid_comm *comm;
    lucid_training_options run;
    lucid_tokens text;                          /* all ranks */
    char *config;                               /* text; rank 0 */
    char *companions[LUCID_MODEL_N_COMPANIONS]; /* texts; rank 0; NULL: none */
    lucid_training *training;
    launch_progress progress;
    lucid_folder output;      /* rank 0; closed: none */
    FILE *log;                /* rank 0; NULL: none */
    double seconds;           /* of steps */
    int64_t n_steps;          /* of this run */
    lucid_step_result window; /* sums since the last line */
    double window_seconds;
    int64_t window_steps;
} train;

/* --- what the options ask for --- */

static lucid_status read_file(char **text, const train *t, const char *name, bool needed) {
    char path[LUCID_FOLDER_MAX_PATH];
    size_t n_bytes;
    if (snprintf(path, sizeof path, "%s/%s", t->options->model, name) >= (int)sizeof path)
        return lucid_fail(LUCID_ERR_IO, "%s: name too long", t->options->model);
    if (!needed && access(path, F_OK)) return LUCID_OK;
    return launch_text_read(text, &n_bytes, path);
}

/* All texts end to end, as the model's tokens. */
static lucid_status read_text(train *t, const lucid_model_config *config) {
    launch_vocabulary vocabulary;
    lucid_status status = launch_vocabulary_open(&vocabulary, t->options, config);
    for (int i = 0; !status && i < t->options->training_texts.n; i++) {
        const char *path = t->options->training_texts.items[i];
        char *text = NULL;
        size_t n_bytes;
        status = launch_text_read(&text, &n_bytes, path);
        if (!status) status = launch_vocabulary_encode(&t->text, &vocabulary, text, n_bytes, false, path);
        free(text);
    }
    launch_vocabulary_close(&vocabulary);
    return status;
}

static lucid_task_options task_of(const train *t, const lucid_model_config *config) {
    const launch_options *o = t->options;
    const bool facts = o->task == LUCID_TASK_OVERWRITE || o->task == LUCID_TASK_RECALL;
    const bool text = o->task == LUCID_TASK_TEXT || o->task == LUCID_TASK_NIAH;
    lucid_task_options task = {.kind = (lucid_task_kind)o->task, .seed = (uint64_t)o->seed};
    if (o->task == LUCID_TASK_TWO_PHASE) task.phase = (int)o->phase;
    if (text) {
        task.length = o->length;
        task.ids = t->text.ids;
        task.n_ids = t->text.n;
        task.vocab_size = config->vocab_size;
    }
    if (o->task == LUCID_TASK_NIAH) {
        task.facts_in_ten = (int)o->facts_in_ten;
        task.needles_in_ten = (int)o->needles_in_ten;
    }
    if (facts) {
        task.n_facts = (int)o->facts;
        task.n_slots = (int)o->fact_slots;
        task.n_queries = (int)o->queries;
        task.n_keys = (int)o->fact_keys;
        task.n_values = (int)o->fact_values;
        task.n_positions = (int)o->learned_positions;
    }
    return task;
}

static lucid_training_options run_of(const train *t, const lucid_model_config *config) {
    const launch_options *o = t->options;
    return (lucid_training_options){
        .model = {.config = *config, .bare = o->bare, .key_gain = o->key_gain},
        .task = task_of(t, config),
        .seed = (uint64_t)o->seed,
        .deviation = o->deviation,
        .matching = o->matching,
        .n_sequences = (int)o->sequences,
        .micro_batch = (int)o->micro_batch,
        .data_parallel = (int)o->data_parallel,
        .tile = o->tile,
        .adamw = {.beta1 = o->beta1, .beta2 = o->beta2, .decay = o->decay},
        .course = {.rate = o->rate,
                   .last = o->last_rate,
                   .n_warmup = o->warmup < o->steps ? o->warmup : o->steps,
                   .n_steps = o->steps},
        .clip = o->clip,
        .isa = o->isa,
        .blas = (lucid_blas_kind)o->blas,
        .timeout = o->timeout,
    };
}

/* --- rank 0 --- */

static lucid_status read_input(train *t, lucid_model_config *config) {
    LUCID_TRY(lucid_model_config_read(config, t->options->model));
    LUCID_TRY(read_file(&t->config, t, "config.json", true));
    for (int i = 0; i < LUCID_MODEL_N_COMPANIONS; i++)
        LUCID_TRY(read_file(&t->companions[i], t, lucid_model_companions[i], false));
    return t->options->training_texts.n ? read_text(t, config) : LUCID_OK;
}

/* Where checkpoints are already, a run must say that it goes on with them. */
static lucid_status check_output(char newest[LUCID_FOLDER_MAX_PATH], const launch_options *o) {
    newest[0] = '\0';
    if (!o->output) return LUCID_OK;
    LUCID_TRY(lucid_checkpoint_find(newest, o->output));
    if (*newest && !o->resume)
        return lucid_fail(LUCID_ERR_USAGE, "%s: holds checkpoints already: go on with --resume, or use another folder",
                          o->output);
    return LUCID_OK;
}

/* --- all ranks --- */

/* Collective. */
static lucid_status share_input(train *t, lucid_model_config *config) {
    int64_t n = t->text.n;
    lucid_status status = LUCID_OK;
    LUCID_TRY(lucid_comm_broadcast(t->comm, config, sizeof *config, 0));
    LUCID_TRY(lucid_comm_broadcast(t->comm, &n, sizeof n, 0));
    if (t->comm->rank && n) status = lucid_tokens_reserve(&t->text, n);
    LUCID_TRY(lucid_comm_agree(t->comm, status));
    if (n) LUCID_TRY(lucid_comm_broadcast(t->comm, t->text.ids, (size_t)n * sizeof *t->text.ids, 0));
    t->text.n = n;
    return LUCID_OK;
}

/* Weights: those of a checkpoint, of another model, or the seed's. Collective. */
static lucid_status begin(train *t, const char *newest) {
    enum { RESUME = 1, START };
    int how = *newest ? RESUME : t->options->from ? START : 0;
    LUCID_TRY(lucid_comm_broadcast(t->comm, &how, sizeof how, 0));
    if (how == RESUME) return lucid_checkpoint_load(t->training, t->comm, newest);
    return how == START ? lucid_checkpoint_start(t->training, t->comm, t->options->from) : LUCID_OK;
}

/* What is written while the run goes on. */
static lucid_status open_output(train *t) {
    if (t->comm->rank) return LUCID_OK;
    if (t->options->output) LUCID_TRY(lucid_checkpoint_claim(&t->output, t->options->output));
    if (!t->options->log) return LUCID_OK;
    t->log = fopen(t->options->log, t->options->resume ? "a" : "w");
    return t->log ? LUCID_OK : lucid_fail(LUCID_ERR_IO, "%s: cannot write: %m", t->options->log);
}

/* --- what is said --- */

static lucid_status write_log(const train *t, json_t *line) {
    char *text = line && t->log ? json_dumps(line, JSON_REAL_PRECISION(9)) : NULL;
    const bool failed = t->log && (!text || fprintf(t->log, "%s\n", text) < 0 || fflush(t->log));
    free(text);
    json_decref(line);
    return failed ? lucid_fail(LUCID_ERR_IO, "%s: cannot write: %m", t->options->log) : LUCID_OK;
}

/* One line of the steps since the last. rank 0. */
static lucid_status say_steps(train *t) {
    const int64_t step = lucid_training_steps(t->training);
    const lucid_step_result w = t->window;
    const double n = (double)t->window_steps, loss = w.loss / n, accuracy = w.accuracy / n, norm = w.norm / n;
    const double speed = n * (double)lucid_training_tokens(t->training) / t->window_seconds;
    launch_progress_end(&t->progress);
    if (!t->options->quiet)
        printf("step %7" PRId64 " of %" PRId64 "  loss %8.5f  right %6.2f %%  rate %.2e  norm %8.4f  %8.0f tokens/s\n",
               step, t->run.course.n_steps, loss, 100 * accuracy, w.rate, norm, speed);
    fflush(stdout);
    t->window = (lucid_step_result){0};
    t->window_seconds = 0;
    t->window_steps = 0;
    return write_log(t, json_pack("{s:I, s:o, s:o, s:o, s:o, s:o}", "step", (json_int_t)step, "loss",
                                  launch_json_number(loss), "accuracy", launch_json_number(accuracy), "rate",
                                  launch_json_number(w.rate), "norm", launch_json_number(norm), "tokens_per_second",
                                  launch_json_number(speed)));
}

/* What a validation line is about: the training's own task, with another number of facts, or a part of its mixture. */
typedef struct {
    int n_facts;      /* 0: the own */
    const char *part; /* NULL: all of it */
} validation;

/* rank 0. */
static lucid_status say_validation(train *t, const validation *v, const lucid_step_result *found) {
    launch_progress_end(&t->progress);
    if (!t->options->quiet && v->n_facts) printf("validation, %d facts: ", v->n_facts);
    if (!t->options->quiet && !v->n_facts) printf("validation%s%s: ", v->part ? ", " : "", v->part ? v->part : "");
    if (!t->options->quiet) printf("loss %8.5f  right %6.2f %%\n", found->loss, 100 * found->accuracy);
    fflush(stdout);
    return write_log(t,
                     json_pack("{s:I, s:i, s:s*, s:o, s:o}", "step", (json_int_t)lucid_training_steps(t->training),
                               "facts", v->n_facts, "part", v->part, "validation_loss", launch_json_number(found->loss),
                               "validation_accuracy", launch_json_number(found->accuracy)));
}

/* A failure that the ranks could not agree on has left some of them waiting. */
static lucid_status settle(const train *t, lucid_status status) {
    if (!status || !lucid_training_adrift(t->training)) return status;
    lucid_comm_abort(t->comm); /* comes back where there is no other rank to end */
    exit(1);
}

/* task NULL: the own. Collective. */
static lucid_status validate_task(train *t, const lucid_task_options *task, const validation *v) {
    lucid_step_result found;
    if (!t->options->validate) return LUCID_OK;
    LUCID_TRY(settle(t, lucid_training_validate(&found, t->training, task, (int)t->options->validate)));
    return lucid_comm_agree(t->comm, t->comm->rank ? LUCID_OK : say_validation(t, v, &found));
}

/* The own task; of a mixture its parts one by one, for they are learned at different times. Collective. */
static lucid_status validate(train *t) {
    static const char *const parts[] = {"facts", "needles", "text"};
    lucid_task_options task = t->run.task;
    LUCID_TRY(validate_task(t, NULL, &(validation){0}));
    for (int i = 0; task.kind == LUCID_TASK_NIAH && i < 3; i++) {
        task.facts_in_ten = i == 0 ? 10 : 0;
        task.needles_in_ten = i == 1 ? 10 : 0;
        LUCID_TRY(validate_task(t, &task, &(validation){.part = parts[i]}));
    }
    return LUCID_OK;
}

/* The end is measured with other numbers of facts too. Collective. */
static lucid_status validate_more(train *t) {
    const launch_texts *texts = &t->options->validate_facts;
    for (int i = 0; i < texts->n; i++) {
        int64_t n_facts;
        LUCID_TRY(launch_parse_integer(&n_facts, "--validate-facts", texts->items[i], 1, 1 << 20));
        lucid_task_options task = t->run.task;
        task.n_facts = (int)n_facts;
        LUCID_TRY(validate_task(t, &task, &(validation){.n_facts = task.n_facts}));
    }
    return LUCID_OK;
}

/* The peak is measured on all ranks at once, as they trained. Collective. */
static lucid_status say_summary(const train *t) {
    const lucid_pass_times spent = lucid_training_elapsed(t->training);
    const lucid_kernels *kernels = lucid_kernels_find(t->options->isa ? t->options->isa : "auto");
    double peak = launch_peak_measure(kernels, t->run.threads);
    LUCID_TRY(lucid_comm_allreduce(t->comm, &peak, 1, LUCID_SUM));
    if (t->comm->rank || t->options->quiet || !t->n_steps) return LUCID_OK;
    const double flops = lucid_training_flops(t->training) * (double)t->n_steps / t->seconds;
    const double tokens = (double)lucid_training_tokens(t->training) * (double)t->n_steps;
    printf("%" PRId64 " parameters, %" PRId64 " steps in %.1f s: %.0f tokens/s, %.1f Gflop/s, %.1f %% of the FMA peak "
           "of %.1f Gflop/s (flops a token: 6 a parameter but untied embeddings, and 3.5 times attention's forward)\n",
           lucid_training_trainee((lucid_training *)t->training)->model.n_parameters, t->n_steps, t->seconds,
           tokens / t->seconds, 1e-9 * flops, 100 * flops / peak, 1e-9 * peak);
    printf("time of rank 0: attention %.1f %%, its loading and storing %.1f %%, losses %.1f %%, outside the pass %.1f "
           "%%\n",
           100 * spent.attention / t->seconds, 100 * spent.pack / t->seconds, 100 * spent.losses / t->seconds,
           100 * (1 - spent.total / t->seconds));
    return LUCID_OK;
}

/* --- steps --- */

/* What is said of a step is said before it is saved, so that a run which is killed in between says it when it goes on.
 * Collective. */
static lucid_status save(train *t) {
    if (!t->options->output) return LUCID_OK;
    lucid_checkpoint_texts texts = {.config = t->config};
    for (int i = 0; i < LUCID_MODEL_N_COMPANIONS; i++) texts.companions[i] = t->companions[i];
    return lucid_checkpoint_save(t->training, t->comm, &t->output, &texts, t->options->job_id, (int)t->options->keep);
}

static lucid_status step(train *t) {
    lucid_step_result found;
    const double begin_time = lucid_clock();
    LUCID_TRY(settle(t, lucid_training_step(&found, t->training)));
    const double seconds = lucid_clock() - begin_time;
    t->seconds += seconds;
    t->n_steps++;
    t->window.loss += found.loss;
    t->window.accuracy += found.accuracy;
    t->window.norm += found.norm;
    t->window.rate = found.rate;
    t->window_seconds += seconds;
    t->window_steps++;
    return LUCID_OK;
}

static lucid_status run_steps(train *t) {
    const int64_t log_every = t->options->log_every, save_every = t->options->save_every;
    const int64_t n = t->run.course.n_steps, before = lucid_training_steps(t->training);
    t->progress = launch_progress_make(t->options->progress, t->comm->rank,
                                       lucid_training_flops(t->training) * (double)(n - before));
    launch_progress_begin(&t->progress);
    for (int64_t done = before + 1; done <= n; done++) {
        LUCID_TRY(step(t));
        launch_progress_update(&t->progress, (double)(done - before) / (double)(n - before));
        lucid_status status = LUCID_OK;
        if (t->comm->rank == 0 && (done % log_every == 0 || done == n)) status = say_steps(t);
        if (done % log_every == 0 || done == n) LUCID_TRY(lucid_comm_agree(t->comm, status));
        if (save_every && done % save_every == 0 && done < n) LUCID_TRY(validate(t));
        if (save_every && done % save_every == 0 && done < n) LUCID_TRY(save(t));
    }
    launch_progress_end(&t->progress);
    return LUCID_OK;
}

static lucid_status run(train *t) {
    char newest[LUCID_FOLDER_MAX_PATH] = "";
    lucid_model_config config = {0};
    lucid_status status = LUCID_OK;
    if (t->comm->rank == 0) status = check_output(newest, t->options);
    if (t->comm->rank == 0 && !status) status = read_input(t, &config);
    LUCID_TRY(lucid_comm_conclude(t->comm, status));
    LUCID_TRY(share_input(t, &config));
    t->run = run_of(t, &config);
    LUCID_TRY(launch_job_threads(&t->run.threads, t->options, t->comm));
    LUCID_TRY(lucid_training_create(&t->training, t->comm, &t->run));
    LUCID_TRY(begin(t, newest));
    LUCID_TRY(lucid_comm_agree(t->comm, open_output(t)));
    LUCID_TRY(run_steps(t));
    LUCID_TRY(validate(t));
    LUCID_TRY(validate_more(t));
    LUCID_TRY(save(t));
    return say_summary(t);
}

lucid_status launch_train(const launch_options *options, lucid_comm *comm) {
    train t = {.options = options, .comm = comm, .output = {.fd = -1, .lock = -1}};
    const lucid_status status = run(&t);
    lucid_training_destroy(t.training);
    lucid_tokens_free(&t.text);
    lucid_folder_close(&t.output);
    if (t.log) fclose(t.log);
    free(t.config);
    for (int i = 0; i < LUCID_MODEL_N_COMPANIONS; i++) free(t.companions[i]);
    return status;
}
