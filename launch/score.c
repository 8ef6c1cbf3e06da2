/* lucid score: how well a model foresees a text, token by token, and the logits themselves if asked for. */
#include "launch/commands.h"
#include "launch/report.h"
#include "launch/session.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PIECE (INT64_C(1) << 20) /* tokens whose scores are held at once */

typedef struct {
    const launch_options *options;
    lucid_tokens tokens;
    int64_t n_begin;  /* tokens that --bos put before the text */
    uint64_t n_bytes; /* of the text; 0: ids were given */
    double loss;      /* nats, summed */
    int64_t n_scored;
} score;

/* "A:B" of n positions; either may be left out. */
static lucid_status parse_positions(launch_needs *needs, const char *text, int64_t n) {
    char first[24] = "";
    const char *colon = text ? strchr(text, ':') : NULL;
    needs->first_logit = 0;
    needs->end_logit = n;
    if (!text) return LUCID_OK;
    if (!colon || (size_t)(colon - text) >= sizeof first)
        return lucid_fail(LUCID_ERR_USAGE, "--positions: '%s' is not of the form A:B", text);
    memcpy(first, text, (size_t)(colon - text));
    if (*first) LUCID_TRY(launch_parse_integer(&needs->first_logit, "--positions", first, 0, n - 1));
    if (!colon[1]) return LUCID_OK;
    return launch_parse_integer(&needs->end_logit, "--positions", colon + 1, needs->first_logit + 1, n);
}

static lucid_status read_tokens(score *s, const launch_session *session) {
    const launch_vocabulary *vocabulary = launch_session_vocabulary(session);
    const launch_options *o = s->options;
    if (o->token_ids) {
        LUCID_TRY(launch_ids_read(&s->tokens, o->token_ids));
        return launch_vocabulary_check(vocabulary, s->tokens.ids, s->tokens.n, o->token_ids);
    }
    char *text;
    size_t n_bytes;
    LUCID_TRY(launch_text_read(&text, &n_bytes, o->text));
    s->n_bytes = n_bytes;
    s->n_begin = vocabulary->beginning.n;
    const lucid_status status = launch_vocabulary_encode(&s->tokens, vocabulary, text, n_bytes, true, o->text);
    free(text);
    return status;
}

static lucid_status prepare(void *work, launch_session *session, launch_needs *needs) {
    score *s = work;
    LUCID_TRY(read_tokens(s, session));
    if (s->tokens.n < 2 && !s->options->logits)
        return lucid_fail(LUCID_ERR_INPUT, "%s: a single token has nothing before it to be foreseen from",
                          s->options->text ? s->options->text : s->options->token_ids);
    needs->max_tokens = s->tokens.n;
    return s->options->logits ? parse_positions(needs, s->options->positions, s->tokens.n) : LUCID_OK;
}

/* A last token alone would have the one before it read again. */
static int64_t piece(int64_t left) {
    return left <= PIECE + 1 ? left : PIECE;
}

/* Token i + 1 is what follows position i. Sums are taken in the text's order, so they do not depend on the ranks. */
static lucid_status read_piece(score *s, launch_session *session, int64_t first, launch_token_score *scores) {
    const int64_t left = s->tokens.n - first, n = piece(left);
    const launch_targets targets = {
        .first = first, .n = left - 1 < n ? left - 1 : n, .targets = s->tokens.ids + first + 1, .scores = scores};
    LUCID_TRY(launch_session_read(session, s->tokens.ids + first, n, &targets));
    for (int64_t i = 0; i < targets.n; i++) s->loss += scores[i].loss;
    s->n_scored += targets.n;
    return LUCID_OK;
}

static const char *bos_rule(const score *s) {
    return s->n_begin ? "a beginning-of-text token stands first and is not scored"
                      : "no beginning-of-text token; the first token is not scored";
}

static void print_score(const score *s, const launch_measures *measures) {
    const double mean = s->loss / (double)s->n_scored;
    printf("tokens      %" PRId64 " scored of %" PRId64 ": %s\n", s->n_scored, s->tokens.n, bos_rule(s));
    printf("loss        %.6f nats, mean %.6f\n", s->loss, mean);
    printf("perplexity  %.6f\n", exp(mean));
    if (s->n_bytes)
        printf("bits/byte   %.6f over %" PRIu64 " bytes\n", s->loss / M_LN2 / (double)s->n_bytes, s->n_bytes);
    launch_measures_print(stdout, measures);
}

static lucid_status write_report(const score *s, const launch_measures *measures, const launch_session *session) {
    const double mean = s->loss / (double)s->n_scored;
    json_t *report = launch_json_header(s->options, launch_session_comm(session));
    json_t *found =
        json_pack("{s:I, s:I, s:o, s:o, s:o, s:s}", "tokens", (json_int_t)s->tokens.n, "scored",
                  (json_int_t)s->n_scored, "loss", launch_json_number(s->loss), "mean_loss", launch_json_number(mean),
                  "perplexity", launch_json_number(exp(mean)), "bos_rule", bos_rule(s));
    if (s->n_bytes) {
        json_object_set_new(found, "bytes", json_integer((json_int_t)s->n_bytes));
        json_object_set_new(found, "bits_per_byte", launch_json_number(s->loss / M_LN2 / (double)s->n_bytes));
    }
    json_object_set_new(report, "score", found);
    json_object_set_new(report, "measures", launch_json_measures(measures));
    return launch_json_write(report, s->options->report);
}

static lucid_status run(void *work, launch_session *session) {
    score *s = work;
    const int64_t n = piece(s->tokens.n);
    launch_token_score *scores = malloc((size_t)n * sizeof *scores);
    lucid_status status =
        scores ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory for the scores of %lld tokens", (long long)n);
    for (int64_t first = 0; !status && first < s->tokens.n; first += piece(s->tokens.n - first))
        status = read_piece(s, session, first, scores);
    free(scores);
    LUCID_TRY(status);
    if (s->n_scored == 0) return LUCID_OK;
    launch_measures measures;
    LUCID_TRY(launch_session_measure(&measures, session));
    if (!s->options->quiet) print_score(s, &measures);
    return s->options->report ? write_report(s, &measures, session) : LUCID_OK;
}

lucid_status launch_score(const launch_options *options, lucid_comm *comm) {
    score s = {.options = options};
    const lucid_status status = launch_session_run(options, comm, &(launch_work){prepare, run}, &s);
    lucid_tokens_free(&s.tokens);
    return status;
}
