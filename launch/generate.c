/* lucid generate: a prompt is read, and the answer's text leaves as its tokens come. The text goes to stdout, the times
 * to stderr. */
#include "launch/answer.h"
#include "launch/commands.h"
#include "launch/report.h"
#include "runtime/cache/folder.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_BYTES 5e7 /* of weights and cache: they may stay in a processor's caches, whose rate says nothing */

typedef struct {
    const launch_options *options;
    lucid_tokens prompt;
    launch_answer answer;
} generation;

static lucid_status encode_prompt(generation *g, const launch_session *session) {
    const launch_options *o = g->options;
    char *text = NULL;
    size_t n_bytes;
    if (o->prompt_file) LUCID_TRY(launch_text_read(&text, &n_bytes, o->prompt_file));
    const char *prompt = text ? text : o->prompt;
    if (!text) n_bytes = strlen(prompt);
    if (n_bytes == 0) return lucid_fail(LUCID_ERR_INPUT, "--prompt: empty");
    const bool begin = launch_session_saved(session)->n == 0; /* a saved text has begun already */
    const lucid_status status = launch_vocabulary_encode(&g->prompt, launch_session_vocabulary(session), prompt,
                                                         n_bytes, begin, text ? o->prompt_file : "--prompt");
    free(text);
    if (!status && g->prompt.n == 0) return lucid_fail(LUCID_ERR_INPUT, "the prompt has no tokens");
    return status;
}

static lucid_status prepare(void *work, launch_session *session, launch_needs *needs) {
    generation *g = work;
    if (g->options->save_context) LUCID_TRY(lucid_cache_check_place(g->options->save_context));
    LUCID_TRY(encode_prompt(g, session));
    needs->max_tokens = launch_session_saved(session)->n + g->prompt.n + g->options->max_new;
    return LUCID_OK;
}

/* A launch_answer_taker. */
static lucid_status print_text(void *context, const char *text, size_t n_bytes) {
    (void)context;
    if (fwrite(text, 1, n_bytes, stdout) == n_bytes && fflush(stdout) == 0) return LUCID_OK;
    return lucid_fail(LUCID_ERR_IO, "stdout: %s", strerror(errno));
}

/* Of the tokens after the first, and what it is worth in bytes that each has to read. */
static void print_rate(const launch_answer *a, const launch_measures *m) {
    const double rate = (double)(a->n_tokens - 1) / a->rest;
    fprintf(stderr, "; %" PRId64 " tokens, %.2f a second", a->n_tokens, rate);
    if (m->read_bandwidth > 0 && m->token_bytes > SMALL_BYTES)
        fprintf(stderr, " = %.2f GB/s of weights and cache, %.1f %% of the read bandwidth",
                1e-9 * rate * m->token_bytes, 100 * rate * m->token_bytes / m->read_bandwidth);
}

static void print_times(const generation *g, const launch_measures *measures) {
    const launch_answer *a = &g->answer;
    fprintf(stderr, "lucid: %" PRId64 " prompt tokens read", g->prompt.n);
    if (a->n_tokens)
        fprintf(stderr, ", first token after %.3f s (%.1f tokens/s)", a->first_token,
                (double)g->prompt.n / a->first_token);
    else
        fprintf(stderr, " in %.3f s", measures->slow.times.total);
    if (a->n_tokens > 1) print_rate(a, measures);
    fprintf(stderr, "; ended by %s\n", launch_answer_end_name(a->end));
    launch_measures_print(stderr, measures);
}

static lucid_status write_report(const generation *g, const launch_measures *measures, const launch_session *session) {
    const launch_answer *a = &g->answer;
    json_t *report = launch_json_header(g->options, launch_session_comm(session));
    json_object_set_new(report, "generate",
                        json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:s}", "prompt_tokens", (json_int_t)g->prompt.n,
                                  "tokens", (json_int_t)a->n_tokens, "first_token_seconds", a->first_token,
                                  "rest_seconds", a->rest, "token_bytes", measures->token_bytes, "read_bandwidth",
                                  measures->read_bandwidth, "ended_by", launch_answer_end_name(a->end)));
    json_object_set_new(report, "measures", launch_json_measures(measures));
    return launch_json_write(report, g->options->report);
}

static lucid_status run(void *work, launch_session *session) {
    generation *g = work;
    const launch_options *o = g->options;
    const lucid_model_config *config = &launch_session_model(session)->config;
    const double begin = lucid_clock();
    launch_measures measures;
    const launch_answer_options options = {
        .sampling = launch_sampling(config, o),
        .stops = o->stop.items,
        .n_stops = o->stop.n,
        .max_new = o->max_new,
        .take = print_text,
        .begin = begin,
    };
    LUCID_TRY(launch_session_read(session, g->prompt.ids, g->prompt.n, NULL));
    if (o->save_context) LUCID_TRY(launch_session_save(session));
    LUCID_TRY(launch_answer_run(&g->answer, session, &g->prompt, &options));
    LUCID_TRY(launch_session_measure(&measures, session));
    if (!o->quiet) LUCID_TRY(print_text(NULL, "\n", 1));
    if (!o->quiet) print_times(g, &measures);
    return o->report ? write_report(g, &measures, session) : LUCID_OK;
}

lucid_status launch_generate(const launch_options *options, lucid_comm *comm) {
    generation g = {.options = options};
    const lucid_status status = launch_session_run(options, comm, &(launch_work){prepare, run}, &g);
    lucid_tokens_free(&g.prompt);
    return status;
}
