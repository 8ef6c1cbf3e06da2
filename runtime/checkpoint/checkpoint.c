#include "runtime/checkpoint/checkpoint.h"

#include "runtime/attention/attention.h"
#include "runtime/checkpoint/restore.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAKE_SECONDS 0.1 /* between looks at the clock and at requests */
#define STOP_SECONDS 0.5 /* between looks into the folder for other ranks' requests */

struct lucid_checkpoint {
    lucid_comm *comm;
    lucid_problem problem;
    lucid_folder folder;
    char job[64];
    double every;
    lucid_catalogue catalogue;
    lucid_digest digest;
    lucid_saver saver;
    double share;

    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool ended;             /* under the lock */
    bool alone;             /* nothing of earlier runs is left but final blocks */
    _Atomic bool under_way; /* rows can be taken */
    _Atomic bool stopping;
};

static _Atomic bool stop_requested;

void lucid_checkpoint_request_stop(void) {
    atomic_store(&stop_requested, true);
}

lucid_status lucid_checkpoint_hook(void *context) {
    lucid_checkpoint *c = context;
    atomic_store(&c->under_way, true);
    return atomic_load(&c->stopping) ? LUCID_ERR_INTERRUPTED : LUCID_OK;
}

const lucid_manifest *lucid_checkpoint_resumed(const lucid_checkpoint *c) {
    return c->catalogue.n_manifests ? &c->catalogue.manifests[0] : NULL;
}

lucid_digest *lucid_checkpoint_digest(lucid_checkpoint *c) {
    return &c->digest;
}

double lucid_checkpoint_share(const lucid_checkpoint *c) {
    return c->share;
}

/* --- opening --- */

static lucid_status check_empty(const lucid_folder *folder) {
    char **names;
    int n_names;
    LUCID_TRY(lucid_folder_list(&names, &n_names, folder, LUCID_FOLDER_MANIFEST));
    free(names);
    if (!n_names) return LUCID_OK;
    return lucid_fail(LUCID_ERR_USAGE, "%s: holds a checkpoint; go on from it with --resume, or choose another folder",
                      folder->path);
}

/* Rank 0 makes and locks the folder before others look for it. */
static lucid_status open_folder(lucid_checkpoint *c, const lucid_checkpoint_options *o) {
    const bool first = c->comm->rank == 0;
    lucid_status status = LUCID_OK;
    if (first) {
        status = lucid_folder_open(&c->folder, o->folder, !o->resume);
        if (!status) status = lucid_folder_lock(&c->folder);
        if (!status && !o->resume) status = check_empty(&c->folder);
    }
    LUCID_TRY(lucid_comm_agree(c->comm, status));
    if (!first) status = lucid_folder_open(&c->folder, o->folder, false);
    return lucid_comm_agree(c->comm, status);
}

static lucid_checkpoint *allocate(lucid_comm *comm, const lucid_problem *problem, const lucid_checkpoint_options *o) {
    lucid_checkpoint *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->comm = comm;
    c->problem = *problem;
    c->every = o->every;
    c->folder.fd = c->folder.lock = -1;
    c->alone = !o->resume;
    snprintf(c->job, sizeof c->job, "%s", o->job);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    return c;
}

lucid_status lucid_checkpoint_open(lucid_checkpoint **checkpoint, lucid_comm *comm, const lucid_problem *problem,
                                   const lucid_checkpoint_options *options) {
    lucid_checkpoint *c = allocate(comm, problem, options);
    lucid_status status = c ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for a checkpoint");
    LUCID_TRY_GOTO(lucid_comm_agree(comm, status), close);
    LUCID_TRY_GOTO(open_folder(c, options), close);
    if (options->resume) LUCID_TRY_GOTO(lucid_catalogue_open(&c->catalogue, comm, &c->folder, problem), close);
    *checkpoint = c;
    return LUCID_OK;
close:
    lucid_checkpoint_close(c);
    return status;
}

static void end_thread(lucid_checkpoint *c) {
    if (!c->running) return;
    pthread_mutex_lock(&c->lock);
    c->ended = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    c->running = false;
}

void lucid_checkpoint_close(lucid_checkpoint *c) {
    if (!c) return;
    end_thread(c);
    lucid_saver_close(&c->saver);
    lucid_catalogue_close(&c->catalogue);
    lucid_folder_close(&c->folder);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

void lucid_checkpoint_remove(lucid_checkpoint *c) {
    if (c->comm->rank == 0) lucid_folder_remove(&c->folder);
}

/* --- the thread --- */

static void stop_name(char *name, size_t n_bytes, const lucid_checkpoint *c) {
    snprintf(name, n_bytes, "lucid-%s" LUCID_FOLDER_STOP, c->job);
}

/* A request that reached this rank is left in the folder for the others; theirs are found there. */
static void look_for_stop(lucid_checkpoint *c, double *last_look) {
    char name[LUCID_MANIFEST_MAX_NAME];
    const double now = lucid_clock();
    if (atomic_load(&c->stopping)) return;
    stop_name(name, sizeof name, c);
    if (atomic_load(&stop_requested)) {
        if (!lucid_folder_touch(&c->folder, name))
            fprintf(stderr, "lucid: [rank %d/%d %s] cannot tell the other ranks to stop: %s: %s\n", c->comm->rank,
                    c->comm->world_size, c->comm->host, c->folder.path, strerror(errno));
        atomic_store(&c->stopping, true);
    } else if (now - *last_look >= STOP_SECONDS) {
        *last_look = now;
        if (lucid_folder_has(&c->folder, name)) atomic_store(&c->stopping, true);
    }
}

/* Each rank of this run has two generations: what was saved before, it holds too. */
static bool all_saved_twice(const lucid_checkpoint *c, char *const *names, int n_names, const char *own) {
    bool all = true;
    for (int rank = 0; rank < c->comm->world_size && all; rank++) {
        char prefix[LUCID_MANIFEST_MAX_NAME + 16];
        int n = 0;
        snprintf(prefix, sizeof prefix, "%s%d.", own, rank);
        for (int i = 0; i < n_names; i++) n += strncmp(names[i], prefix, strlen(prefix)) == 0;
        all = n >= 2;
    }
    return all;
}

/* Rows in progress of earlier runs are no longer wanted then; their final blocks are, and are not written again. */
static void forget_predecessors(lucid_checkpoint *c) {
    static const char *const endings[] = {LUCID_FOLDER_MANIFEST, LUCID_FOLDER_ROWS};
    char own[LUCID_MANIFEST_MAX_NAME];
    snprintf(own, sizeof own, "lucid-%s.", c->job);
    for (int e = 0; e < 2; e++) {
        char **names;
        int n_names;
        if (lucid_folder_list(&names, &n_names, &c->folder, endings[e])) return;
        if (e == 0) c->alone = all_saved_twice(c, names, n_names, own);
        for (int i = 0; i < n_names && c->alone; i++)
            if (strncmp(names[i], own, strlen(own))) lucid_folder_remove_file(&c->folder, names[i]);
        free(names);
    }
}

static void save_or_tell(lucid_checkpoint *c) {
    char line[512];
    lucid_failure_divert(line, sizeof line);
    const lucid_status status = lucid_saver_save(&c->saver);
    if (!status && c->comm->rank == 0 && !c->alone) forget_predecessors(c);
    lucid_failure_divert(NULL, 0);
    if (status)
        fprintf(stderr, "lucid: [rank %d/%d %s] no checkpoint: %s; the run goes on, and tries again in %g s\n",
                c->comm->rank, c->comm->world_size, c->comm->host, line, c->every);
}

/* Waits a little; false once the run has ended. */
static bool nap(lucid_checkpoint *c) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(1e9 * WAKE_SECONDS);
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&c->lock);
    if (!c->ended) pthread_cond_clockwait(&c->wake, &c->lock, CLOCK_MONOTONIC, &until);
    const bool ended = c->ended;
    pthread_mutex_unlock(&c->lock);
    return !ended;
}

/* The next save starts early enough to be on disk when the one before it is `every` seconds old. */
static void *keep_saving(void *argument) {
    lucid_checkpoint *c = argument;
    double due = lucid_clock() + c->every, last_look = 0;
    while (nap(c)) {
        look_for_stop(c, &last_look);
        if (lucid_clock() < due || !atomic_load(&c->under_way) || atomic_load(&c->stopping)) continue;
        const double begin = lucid_clock();
        save_or_tell(c);
        const double took = lucid_clock() - begin;
        due = begin + (took < c->every / 2 ? c->every - took : c->every);
    }
    return NULL;
}

/* --- the run --- */

/* The share of the work that lies below the cursors, in pairs of tiles. */
static double share_done(const lucid_cursor *cursors, const lucid_attention *a) {
    const bool solves = a->problem.attention == LUCID_ATTENTION_LUCID;
    double done = 0, all = 0;
    for (int channel = 0; channel < a->plan.channels; channel++)
        for (int64_t tile = 0; tile < a->plan.n_tiles; tile++) {
            const lucid_cursor *cursor = &cursors[channel * a->plan.n_tiles + tile];
            const double n = a->channels[channel].n_sequences;
            done += n * ((solves ? cursor->update_next : 0) + (double)a->group * cursor->attend_next);
            all += n * ((solves ? 1 : 0) + a->group) * (double)(tile + 1);
        }
    return done / all;
}

static lucid_status check_input(const lucid_checkpoint *c, uint64_t input) {
    const lucid_manifest *resumed = lucid_checkpoint_resumed(c);
    if (!resumed || resumed->input == input) return LUCID_OK;
    return lucid_fail(LUCID_ERR_INPUT, "%s: is a checkpoint of another input: q, k or v has other values",
                      c->folder.path);
}

static lucid_status take_up(lucid_checkpoint *c, lucid_attention *a) {
    const size_t n = (size_t)a->plan.channels * a->plan.n_tiles;
    lucid_cursor *cursors = calloc(n, sizeof *cursors);
    lucid_status status = cursors ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for the cursors of %zu rows", n);
    status = lucid_comm_agree(c->comm, status);
    if (!status) status = lucid_checkpoint_restore(cursors, &c->saver, &c->catalogue);
    if (!status) c->share = share_done(cursors, a);
    free(cursors);
    return status;
}

static lucid_status start_thread(lucid_checkpoint *c) {
    const int error = pthread_create(&c->thread, NULL, keep_saving, c);
    if (error) return lucid_fail(LUCID_ERR_MEMORY, "cannot start the thread for checkpoints: %s", strerror(error));
    c->running = true;
    return LUCID_OK;
}

lucid_status lucid_checkpoint_begin(lucid_checkpoint *c, lucid_attention *a) {
    uint64_t input;
    LUCID_TRY(lucid_digest_combine(&input, c->comm, &c->digest));
    LUCID_TRY(lucid_comm_agree(c->comm, check_input(c, input)));
    lucid_manifest identity = lucid_manifest_make(&c->problem, a->kernels->isa, a->plan.tile, a->plan.channels);
    identity.input = input;
    const lucid_status status = lucid_saver_open(&c->saver, a, &c->folder, c->job, &identity);
    LUCID_TRY(lucid_comm_agree(c->comm, status));
    if (lucid_checkpoint_resumed(c)) LUCID_TRY(take_up(c, a));
    return lucid_comm_agree(c->comm, start_thread(c));
}

/* What was stopped is saved before anyone is waited for: a rank that has finished learns only then of the others. */
lucid_status lucid_checkpoint_end(lucid_checkpoint *c, bool *interrupted) {
    char name[LUCID_MANIFEST_MAX_NAME];
    double any = *interrupted || atomic_load(&stop_requested);
    lucid_status status = LUCID_OK;
    if (*interrupted) {
        end_thread(c);
        status = lucid_saver_save(&c->saver);
    }
    LUCID_TRY(lucid_comm_rendezvous(c->comm));
    LUCID_TRY(lucid_comm_allreduce(c->comm, &any, 1, LUCID_MAX));
    if (!*interrupted) end_thread(c);
    if (any && !*interrupted) status = lucid_saver_save(&c->saver);
    *interrupted = any != 0;
    stop_name(name, sizeof name, c);
    if (c->comm->rank == 0) lucid_folder_remove_file(&c->folder, name);
    return lucid_comm_agree(c->comm, status);
}
