#include "runtime/train/training.h"

#include "runtime/files/checksum.h"
#include "runtime/isa.h"
#include "runtime/train/micro.h"
#include "runtime/train/recipe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define REDUCE_MAX (1 << 20) /* doubles that are summed at once */

struct lucid_training {
    lucid_comm *comm, *group; /* group: the ranks that share sequences */
    lucid_training_options options;
    const lucid_blas *blas;
    uint64_t text; /* checksum of the task's ids */
    lucid_trainee trainee;
    lucid_moments moments;
    lucid_task *task;
    lucid_pass *pass;
    lucid_examples examples; /* of one micro-batch */
    int n_groups, own_group;
    int64_t n_steps; /* done */
    lucid_pass_times times;
    bool adrift;
};

/* --- life --- */

static lucid_status check(const lucid_training_options *o, int world_size) {
    if (world_size % o->data_parallel)
        return lucid_fail(LUCID_ERR_USAGE, "%d ranks do not form %d groups of equal size", world_size,
                          o->data_parallel);
    if (o->n_sequences < 1 || o->course.n_steps < 1 || !(o->course.rate > 0))
        return lucid_fail(LUCID_ERR_USAGE, "%d sequences a step, %lld steps and a rate of %g: impossible",
                          o->n_sequences, (long long)o->course.n_steps, o->course.rate);
    return LUCID_OK;
}

/* The model must have what the task asks for. */
static lucid_status fit(lucid_trainee_config *model, const lucid_task_shape *shape) {
    if (shape->vocab_size > model->config.vocab_size)
        return lucid_fail(LUCID_ERR_USAGE, "the task has %d token ids, and the model a vocab_size of %d",
                          shape->vocab_size, model->config.vocab_size);
    model->n_outputs = shape->n_outputs;
    return LUCID_OK;
}

static lucid_status prepare(lucid_training *t) {
    lucid_training_options *o = &t->options;
    if (o->data_parallel == 0) o->data_parallel = 1;
    if (o->micro_batch == 0) o->micro_batch = 1;
    if (o->adamw.eps == 0) o->adamw.eps = 1e-8;
    if (o->deviation == 0) o->deviation = 0.02;
    LUCID_TRY(check(o, t->comm->world_size));
    LUCID_TRY(lucid_task_open(&t->task, &o->task));
    if (o->task.n_ids) t->text = lucid_checksum(0, o->task.ids, (size_t)o->task.n_ids * sizeof *o->task.ids);
    const lucid_task_shape shape = lucid_task_shape_of(t->task);
    LUCID_TRY(fit(&o->model, &shape));
    if (o->tile == 0) o->tile = lucid_micro_tile(shape.length);
    LUCID_TRY(lucid_trainee_create(&t->trainee, &o->model));
    LUCID_TRY(lucid_moments_create(&t->moments, &t->trainee));
    lucid_trainee_initialise(&t->trainee, o->seed, o->deviation);
    if (o->matching && o->model.bare) return lucid_fail(LUCID_ERR_USAGE, "a bare layer cannot begin by matching");
    if (o->matching) lucid_trainee_match(&t->trainee, o->seed);
    return LUCID_OK;
}

static lucid_status create_pass(lucid_training *t) {
    const lucid_training_options *o = &t->options;
    const lucid_pass_options options = {
        .length = lucid_task_shape_of(t->task).length,
        .n_sequences = o->micro_batch < o->n_sequences ? o->micro_batch : o->n_sequences,
        .tile = o->tile,
        .isa = o->isa,
        .blas = o->blas,
        .threads = o->threads,
        .timeout = o->timeout,
        .backward = true,
    };
    LUCID_TRY(lucid_pass_create(&t->pass, &t->trainee, t->group, &options));
    return lucid_comm_agree(t->group, lucid_examples_create(&t->examples, t->task, lucid_pass_sequences(t->pass)));
}

/* All groups compute with the same kernels and products: a group alone would choose what its own ranks have. */
static lucid_status agree_on_arithmetic(lucid_training *t) {
    const lucid_kernels *kernels;
    LUCID_TRY(lucid_isa_agree(&kernels, t->comm, t->options.isa));
    LUCID_TRY(lucid_blas_agree(&t->blas, t->comm, t->options.blas));
    t->options.isa = kernels->isa;
    t->options.blas = t->blas->kind;
    return LUCID_OK;
}

lucid_status lucid_training_create(lucid_training **training, lucid_comm *comm, const lucid_training_options *options) {
    lucid_training *t = calloc(1, sizeof *t);
    lucid_status status = lucid_comm_agree(comm, t ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory"));
    if (status) goto destroy;
    *t = (lucid_training){.comm = comm, .options = *options};
    LUCID_TRY_GOTO(lucid_comm_agree(comm, prepare(t)), destroy);
    LUCID_TRY_GOTO(agree_on_arithmetic(t), destroy);
    const int group_size = comm->world_size / t->options.data_parallel;
    t->n_groups = t->options.data_parallel;
    t->own_group = comm->rank / group_size;
    LUCID_TRY_GOTO(lucid_comm_split(&t->group, comm, t->own_group), destroy);
    LUCID_TRY_GOTO(lucid_comm_agree(comm, create_pass(t)), destroy);
    *training = t;
    return LUCID_OK;
destroy:
    lucid_training_destroy(t);
    return status;
}

void lucid_training_destroy(lucid_training *t) {
    if (!t) return;
    lucid_pass_destroy(t->pass);
    lucid_examples_destroy(&t->examples);
    lucid_comm_close(t->group);
    lucid_task_close(t->task);
    lucid_moments_destroy(&t->moments);
    lucid_trainee_destroy(&t->trainee);
    free(t);
}

bool lucid_training_adrift(const lucid_training *t) {
    return t->adrift;
}

int64_t lucid_training_steps(const lucid_training *t) {
    return t->n_steps;
}

void lucid_training_set_steps(lucid_training *t, int64_t n) {
    t->n_steps = n;
}

lucid_trainee *lucid_training_trainee(lucid_training *t) {
    return &t->trainee;
}

lucid_moments *lucid_training_moments(lucid_training *t) {
    return &t->moments;
}

lucid_pass_times lucid_training_elapsed(const lucid_training *t) {
    return t->times;
}

/* --- this group's sequences --- */

typedef struct {
    int first, last;
} range;

/* Whole packs, so that a pack's sequences are the same whatever groups there are. */
static range own_sequences(const lucid_training *t, int n_sequences) {
    const int pack = lucid_micro_pack(t->examples.length), n_packs = (n_sequences + pack - 1) / pack;
    const int64_t first = (int64_t)n_packs * t->own_group / t->n_groups * pack;
    const int64_t last = (int64_t)n_packs * (t->own_group + 1) / t->n_groups * pack;
    return (range){.first = first < n_sequences ? (int)first : n_sequences,
                   .last = last < n_sequences ? (int)last : n_sequences};
}

/* What is done with the sequences of a step: they are counted first, then learned. */
typedef struct {
    const lucid_task *task;
    lucid_task_use use;
    int64_t step;
    int n_sequences;
} work;

/* Sequences from `first` on into t->examples; returns how many. */
static lucid_status fill_micro(lucid_training *t, const work *w, int first, int last) {
    const int room = lucid_pass_sequences(t->pass);
    t->examples.n_sequences = last - first < room ? last - first : room;
    return lucid_task_fill(&t->examples, 0, w->task, w->use, w->step, first, t->examples.n_sequences);
}

static double count_asked(const lucid_examples *e) {
    double asked = 0;
    for (int64_t i = 0; i < e->n_sequences * e->length; i++)
        asked += e->values ? !isnan(e->values[i]) : e->targets[i] >= 0;
    return asked;
}

/* What the step's sequences ask for, all groups together. Collective. */
static lucid_status count_all(double *asked, lucid_training *t, const work *w) {
    const range own = own_sequences(t, w->n_sequences);
    lucid_status status = LUCID_OK;
    *asked = 0;
    for (int first = own.first; !status && first < own.last && t->group->rank == 0; first += t->examples.n_sequences) {
        status = fill_micro(t, w, first, own.last);
        *asked += count_asked(&t->examples);
    }
    LUCID_TRY(lucid_comm_agree(t->comm, status));
    return lucid_comm_allreduce(t->comm, asked, 1, LUCID_SUM);
}

/* Collective of the group. */
static lucid_status run_micros(lucid_pass_sums *sums, lucid_training *t, const work *w, bool learn, double scale) {
    const range own = own_sequences(t, w->n_sequences);
    for (int first = own.first; first < own.last; first += t->examples.n_sequences) {
        LUCID_TRY(lucid_comm_agree(t->group, fill_micro(t, w, first, own.last)));
        if (learn)
            LUCID_TRY(lucid_pass_learn(sums, t->pass, &t->examples, scale));
        else
            LUCID_TRY(lucid_pass_score(sums, t->pass, &t->examples));
    }
    return LUCID_OK;
}

static lucid_status run_all(lucid_pass_sums *sums, lucid_training *t, const work *w, bool learn, double scale) {
    const lucid_status status = run_micros(sums, t, w, learn, scale);
    t->adrift = status && lucid_pass_adrift(t->pass);
    if (t->adrift) return status;
    LUCID_TRY(lucid_comm_agree(t->comm, status));
    double all[] = {sums->loss, sums->correct, sums->asked};
    LUCID_TRY(lucid_comm_allreduce(t->comm, all, 3, LUCID_SUM));
    *sums = (lucid_pass_sums){.loss = all[0], .correct = all[1], .asked = all[2]};
    return LUCID_OK;
}

static lucid_status sum_gradients(lucid_training *t) {
    for (int64_t first = 0; first < t->trainee.n_floats && t->comm->world_size > 1; first += REDUCE_MAX) {
        const int64_t left = t->trainee.n_floats - first;
        LUCID_TRY(lucid_comm_allreduce(t->comm, t->trainee.gradients + first,
                                       (int)(left < REDUCE_MAX ? left : REDUCE_MAX), LUCID_SUM));
    }
    return LUCID_OK;
}

/* What the pass spent since `before`. */
static void count_times(lucid_pass_times *times, const lucid_pass_times *before, const lucid_pass *pass) {
    const lucid_pass_times now = lucid_pass_elapsed(pass);
    times->attention += now.attention - before->attention;
    times->pack += now.pack - before->pack;
    times->losses += now.losses - before->losses;
    times->total += now.total - before->total;
}

static lucid_step_result result_of(const lucid_pass_sums *sums) {
    return (lucid_step_result){
        .loss = sums->loss / sums->asked, .accuracy = sums->correct / sums->asked, .asked = sums->asked};
}

lucid_status lucid_training_step(lucid_step_result *result, lucid_training *t) {
    const lucid_training_options *o = &t->options;
    const work w = {.task = t->task, .use = LUCID_TASK_TRAIN, .step = t->n_steps, .n_sequences = o->n_sequences};
    lucid_pass_sums sums = {0};
    double asked, norm;
    LUCID_TRY(count_all(&asked, t, &w));
    const lucid_pass_times before = lucid_pass_elapsed(t->pass);
    LUCID_TRY(run_all(&sums, t, &w, true, 1 / fmax(1, asked)));
    count_times(&t->times, &before, t->pass);
    LUCID_TRY(sum_gradients(t));
    LUCID_TRY(lucid_comm_agree(t->comm, lucid_gradient_norm(&norm, &t->trainee)));
    const double rate = lucid_rate_at(&o->course, t->n_steps);
    const double scale = o->clip > 0 && norm > o->clip ? o->clip / norm : 1;
    lucid_adamw_step(&t->trainee, &t->moments, &o->adamw, t->n_steps, rate, scale, o->threads);
    t->n_steps++;
    *result = result_of(&sums);
    result->rate = rate;
    result->norm = norm;
    return LUCID_OK;
}

/* --- validation --- */

static bool same_shape(const lucid_task_shape *a, const lucid_task_shape *b) {
    return a->length == b->length && a->n_ids == b->n_ids && a->values == b->values && a->n_outputs == b->n_outputs &&
           b->vocab_size <= a->vocab_size;
}

static lucid_status validate(lucid_step_result *result, lucid_training *t, const lucid_task *task, int n_sequences) {
    const work w = {.task = task, .use = LUCID_TASK_VALIDATE, .n_sequences = n_sequences};
    lucid_pass_sums sums = {0};
    LUCID_TRY(run_all(&sums, t, &w, false, 0));
    *result = result_of(&sums);
    return LUCID_OK;
}

/* A task of other lengths runs through a pass of its own. */
static lucid_status validate_task(lucid_step_result *result, lucid_training *t, const lucid_task *task,
                                  int n_sequences) {
    const lucid_pass_options options = {
        .length = lucid_task_shape_of(task).length,
        .n_sequences = 1,
        .isa = t->options.isa,
        .blas = t->options.blas,
        .threads = t->options.threads,
        .timeout = t->options.timeout,
    };
    lucid_pass *kept = t->pass;
    const lucid_examples examples = t->examples;
    t->examples = (lucid_examples){0};
    lucid_status status = lucid_comm_agree(t->comm, lucid_pass_create(&t->pass, &t->trainee, t->group, &options));
    if (!status) {
        status = lucid_examples_create(&t->examples, task, lucid_pass_sequences(t->pass));
        status = lucid_comm_agree(t->comm, status);
        if (!status) status = validate(result, t, task, n_sequences);
        lucid_examples_destroy(&t->examples);
        lucid_pass_destroy(t->pass);
    }
    t->pass = kept;
    t->examples = examples;
    return status;
}

lucid_status lucid_training_validate(lucid_step_result *result, lucid_training *t, const lucid_task_options *other,
                                     int n_sequences) {
    lucid_task *task;
    if (!other) return validate(result, t, t->task, n_sequences);
    LUCID_TRY(lucid_comm_agree(t->comm, lucid_task_open(&task, other)));
    lucid_task_shape own = lucid_task_shape_of(t->task);
    const lucid_task_shape shape = lucid_task_shape_of(task);
    own.length = shape.length;
    lucid_status status = LUCID_OK;
    if (!same_shape(&own, &shape))
        status = lucid_fail(LUCID_ERR_USAGE, "what is validated with has other tokens or targets than the task");
    if (!status) status = validate_task(result, t, task, n_sequences);
    lucid_task_close(task);
    return status;
}

/* --- about a training --- */

char *lucid_training_recipe(const lucid_training *t) {
    return lucid_recipe_text(&(lucid_recipe){.options = &t->options, .blas = t->blas, .text = t->text});
}

int64_t lucid_training_tokens(const lucid_training *t) {
    return t->options.n_sequences * lucid_task_shape_of(t->task).length;
}

double lucid_training_flops(const lucid_training *t) {
    const lucid_model_config *m = &t->trainee.model.config;
    const double length = (double)lucid_task_shape_of(t->task).length, tokens = (double)lucid_training_tokens(t);
    const double embedding = m->tie_word_embeddings ? 0 : (double)m->vocab_size * m->hidden_size;
    const int heads = m->n_heads + (m->attention == LUCID_MODEL_LUCID ? m->n_kv_heads : 0);
    const double attention = 4.0 * m->head_dim * heads * m->n_layers * (length + 1) / 2;
    return tokens * (6 * ((double)t->trainee.model.n_parameters - embedding) + 3.5 * attention);
}
