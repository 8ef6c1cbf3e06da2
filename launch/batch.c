/* lucid batch: requests of lm-evaluation-harness, answered one after the other.
 *
 * Answers are appended to OUTPUT.partial as they come; it becomes OUTPUT when all are there, and a run that finds it
 * goes on after its last whole line. Its first line says which model and options gave the answers. What a request has
 * in common with the text that was read last is not read again. */
#include "launch/answer.h"
#include "launch/commands.h"
#include "launch/file.h"
#include "launch/job.h"
#include "launch/requests.h"
#include "runtime/model/fingerprint.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    const launch_options *options;
    launch_requests requests;
    char fingerprint[LUCID_FINGERPRINT_MAX];
    json_t *header;
    char *partial_path;
    FILE *partial;
    int64_t n_done;           /* requests that a run before answered */
    int64_t n_read, n_shared; /* tokens that were read; that did not have to be */
} batch;

/* --- answers of a run before --- */

/* What must be the same for answers to stand side by side: what runs, for "auto" is another thing on another processor.
 */
static lucid_status make_header(batch *b, const launch_session *session) {
    const launch_options *o = b->options;
    const launch_resources *r = launch_session_resources(session);
    const int64_t tile = lucid_context_tile(launch_session_context(session));
    b->header = json_pack("{s:{s:s, s:s, s:i, s:I, s:i, s:s, s:s, s:s, s:I}}", "lucid_batch", "model", o->model,
                          "fingerprint", b->fingerprint, "bos", o->bos, "max_new", (json_int_t)o->max_new,
                          "cache_dtype", o->cache_dtype, "isa", r->kernels->isa, "blas", lucid_blas_name(r->blas),
                          "blas_core", r->blas->core, "tile", (json_int_t)tile);
    return b->header ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory");
}

/* Line `number` of the partial file answers request number - 1; line 0 is the header. */
static lucid_status check_line(const batch *b, int64_t number, const char *text, size_t n_bytes) {
    json_t *found = json_loadb(text, n_bytes, JSON_ALLOW_NUL, NULL);
    const json_t *want = number == 0               ? b->header
                         : number <= b->requests.n ? b->requests.items[number - 1].object
                                                   : NULL;
    if (number) json_object_del(found, "resps");
    const bool same = want && json_equal(found, want);
    json_decref(found);
    return same ? LUCID_OK
                : lucid_fail(LUCID_ERR_INPUT,
                             "%s: line %lld is of another batch, model or options; remove the file to begin anew",
                             b->partial_path, (long long)number + 1);
}

/* Checks whole lines; what follows the last one goes. */
static lucid_status resume(batch *b) {
    char *line = NULL;
    size_t capacity = 0;
    off_t whole = 0;
    int64_t number = 0;
    lucid_status status = LUCID_OK;
    for (ssize_t n; !status && (n = getline(&line, &capacity, b->partial)) > 0 && line[n - 1] == '\n'; number++) {
        status = check_line(b, number, line, (size_t)n);
        whole += n;
    }
    free(line);
    LUCID_TRY(status);
    if (fflush(b->partial) || ftruncate(fileno(b->partial), whole) || fseeko(b->partial, whole, SEEK_SET))
        return lucid_fail(LUCID_ERR_IO, "%s: %s", b->partial_path, strerror(errno));
    b->n_done = number > 0 ? number - 1 : 0;
    return LUCID_OK;
}

static lucid_status write_line(const batch *b, const json_t *object) {
    if (json_dumpf(object, b->partial, JSON_COMPACT) || fputc('\n', b->partial) == EOF || fflush(b->partial))
        return lucid_fail(LUCID_ERR_IO, "%s: %s", b->partial_path, strerror(errno));
    return LUCID_OK;
}

static lucid_status refuse_second_job(const batch *b) {
    return lucid_fail(LUCID_ERR_USAGE, "%s: another job writes it; wait for its end, or choose another output",
                      b->partial_path);
}

/* Until the file is closed; where a file system has no locks, without one. */
static lucid_status lock_partial(const batch *b) {
    return flock(fileno(b->partial), LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK ? refuse_second_job(b) : LUCID_OK;
}

/* The job that had the file may have completed it before it could be locked. */
static lucid_status take_partial(batch *b) {
    struct stat found;
    LUCID_TRY(lock_partial(b));
    if (fstat(fileno(b->partial), &found) == 0 && found.st_nlink == 0) return refuse_second_job(b);
    return resume(b);
}

/* The answers of a run before, if there was one. */
static lucid_status find_partial(batch *b) {
    if (asprintf(&b->partial_path, "%s.partial", b->options->output) < 0) {
        b->partial_path = NULL;
        return lucid_fail(LUCID_ERR_MEMORY, "no memory");
    }
    b->partial = fopen(b->partial_path, "r+e");
    if (b->partial) return take_partial(b);
    return errno == ENOENT ? LUCID_OK : lucid_fail(LUCID_ERR_IO, "%s: %s", b->partial_path, strerror(errno));
}

static lucid_status begin_partial(batch *b) {
    if (!b->partial) {
        b->partial = fopen(b->partial_path, "w+xe");
        if (!b->partial && errno == EEXIST) return refuse_second_job(b);
        if (!b->partial) return lucid_fail(LUCID_ERR_IO, "%s: %s", b->partial_path, strerror(errno));
        LUCID_TRY(lock_partial(b));
    }
    return ftello(b->partial) == 0 ? write_line(b, b->header) : LUCID_OK;
}

/* --- one request --- */

/* Makes the session's text the first n of ids; those from `needed` on are read anew whatever is there. */
static lucid_status read_ids(batch *b, launch_session *session, const lucid_tokens *ids, int64_t n, int64_t needed,
                             const launch_targets *targets) {
    int64_t shared;
    LUCID_TRY(launch_session_become(session, ids->ids, n, needed, targets, &shared));
    b->n_shared += shared;
    b->n_read += n - shared;
    return LUCID_OK;
}

/* [[sum, is_greedy]], or of rolling requests [sum]. */
static lucid_status answer_loglikelihood(json_t **resps, batch *b, launch_session *session, const launch_request *r) {
    const int64_t n = r->ids.n - r->n_context;
    launch_token_score *scores = calloc((size_t)n, sizeof *scores);
    if (!scores) return lucid_fail(LUCID_ERR_MEMORY, "no memory for the scores of %lld tokens", (long long)n);
    const launch_targets targets = {
        .first = r->n_context - 1, .n = n, .targets = r->ids.ids + r->n_context, .scores = scores};
    const lucid_status status = read_ids(b, session, &r->ids, r->ids.n - 1, r->n_context - 1, &targets);
    double sum = 0;
    bool is_greedy = true;
    for (int64_t i = 0; i < n; i++) {
        sum -= scores[i].loss;
        is_greedy = is_greedy && scores[i].is_greedy;
    }
    free(scores);
    LUCID_TRY(status);
    *resps = r->kind == REQUEST_ROLLING ? json_pack("[f]", sum) : json_pack("[[f, b]]", sum, is_greedy);
    return LUCID_OK;
}

/* A launch_answer_taker; context is an open memory stream. */
static lucid_status keep_text(void *context, const char *text, size_t n_bytes) {
    FILE *stream = context;
    return fwrite(text, 1, n_bytes, stream) == n_bytes ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory");
}

/* A request's number is the seed of its draws: one that is there again is drawn anew, also when a run goes on. */
static lucid_status generate(batch *b, launch_session *session, const launch_request *r, FILE *stream) {
    launch_answer answer;
    const uint64_t number = (uint64_t)(r - b->requests.items);
    const launch_answer_options options = {
        .sampling = {.temperature = r->temperature, .top_k = r->top_k, .top_p = r->top_p, .seed = number},
        .stops = r->until.items,
        .n_stops = r->until.n,
        .max_new = r->max_new,
        .apart = true, /* as the harness decodes it */
        .take = keep_text,
        .context = stream,
        .begin = lucid_clock(),
    };
    LUCID_TRY(read_ids(b, session, &r->ids, r->ids.n, r->ids.n - 1, NULL));
    return launch_answer_run(&answer, session, &r->ids, &options);
}

/* [text] */
static lucid_status answer_generate(json_t **resps, batch *b, launch_session *session, const launch_request *r) {
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *stream = open_memstream(&text, &n_bytes);
    lucid_status status = stream ? generate(b, session, r, stream) : lucid_fail(LUCID_ERR_MEMORY, "no memory");
    if (stream) fclose(stream);
    if (!status) *resps = json_pack("[s%]", text, n_bytes);
    free(text);
    return status;
}

static lucid_status answer_request(batch *b, launch_session *session, const launch_request *r) {
    json_t *resps = NULL;
    if (r->kind == REQUEST_GENERATE)
        LUCID_TRY(answer_generate(&resps, b, session, r));
    else
        LUCID_TRY(answer_loglikelihood(&resps, b, session, r));
    json_t *object = json_copy(r->object);
    if (json_object_set_new(object, "resps", resps)) {
        json_decref(object);
        return lucid_fail(LUCID_ERR_MEMORY, "no memory for an answer");
    }
    const lucid_status status = write_line(b, object);
    json_decref(object);
    return status;
}

/* --- the command --- */

static lucid_status prepare(void *work, launch_session *session, launch_needs *needs) {
    batch *b = work;
    LUCID_TRY(launch_requests_read(&b->requests, b->options->requests, launch_session_vocabulary(session),
                                   b->options->max_new));
    needs->max_tokens = launch_session_saved(session)->n;
    for (int64_t i = 0; i < b->requests.n; i++) {
        const launch_request *r = &b->requests.items[i];
        const int64_t n = r->ids.n + (r->kind == REQUEST_GENERATE ? r->max_new : 0);
        if (n > needs->max_tokens) needs->max_tokens = n;
    }
    return lucid_model_fingerprint(b->fingerprint, launch_session_model(session),
                                   b->options->max_context ? b->options->max_context : needs->max_tokens);
}

/* The partial file's lines but the header go to file. */
static lucid_status copy_answers(const batch *b, FILE *file) {
    char *line = NULL;
    size_t capacity = 0;
    int64_t n_lines = 0;
    bool written = true;
    rewind(b->partial);
    for (ssize_t n; written && (n = getline(&line, &capacity, b->partial)) > 0 && line[n - 1] == '\n'; n_lines++)
        if (n_lines) written = fwrite(line, 1, (size_t)n, file) == (size_t)n;
    free(line);
    if (!written) return lucid_fail(LUCID_ERR_IO, "%s: %s", b->options->output, strerror(errno));
    if (ferror(b->partial)) return lucid_fail(LUCID_ERR_IO, "%s: cannot be read again", b->partial_path);
    if (n_lines == b->requests.n + 1) return LUCID_OK;
    return lucid_fail(LUCID_ERR_IO,
                      "%s: %" PRId64 " lines, not %" PRId64 ": it was changed meanwhile; remove it to begin anew",
                      b->partial_path, n_lines, b->requests.n + 1);
}

static lucid_status complete(batch *b) {
    launch_file file = {0};
    LUCID_TRY(launch_file_open(&file, b->options->output));
    lucid_status status = copy_answers(b, file.stream);
    if (!status) status = launch_file_commit(&file);
    if (!status) unlink(b->partial_path);
    launch_file_discard(&file);
    return status;
}

static lucid_status run(void *work, launch_session *session) {
    batch *b = work;
    const double begin = lucid_clock();
    LUCID_TRY(make_header(b, session));
    LUCID_TRY(find_partial(b));
    LUCID_TRY(begin_partial(b));
    for (int64_t i = b->n_done; i < b->requests.n; i++) LUCID_TRY(answer_request(b, session, &b->requests.items[i]));
    LUCID_TRY(complete(b));
    if (!b->options->quiet)
        printf("%" PRId64 " requests answered, %" PRId64 " of them before; %" PRId64 " tokens read, %" PRId64
               " shared with the request before; %.1f s\n",
               b->requests.n, b->n_done, b->n_read, b->n_shared, lucid_clock() - begin);
    return LUCID_OK;
}

lucid_status launch_batch(const launch_options *options, lucid_comm *comm) {
    batch b = {.options = options};
    const lucid_status status = launch_session_run(options, comm, &(launch_work){prepare, run}, &b);
    if (b.partial) fclose(b.partial);
    free(b.partial_path);
    json_decref(b.header);
    launch_requests_free(&b.requests);
    return status;
}
