#include "launch/answer.h"

#include "launch/job.h"

/* An answer under way. */
typedef struct {
    launch_answer *answer;
    launch_session *session;
    const launch_answer_options *options;
    lucid_decoding *decoding;
    lucid_stopping stopping;
    bool over;
} progress;

static void end(progress *p, launch_answer_end how) {
    p->answer->end = how;
    p->over = true;
}

/* The prompt's ids go through the decoding for what they do to the answer's first characters: where words begin with a
 * space, the first of a text does not. */
static lucid_status open_decoding(progress *p, const lucid_tokens *prompt) {
    const char *text;
    size_t n_bytes;
    LUCID_TRY(lucid_decoding_open(&p->decoding, launch_session_vocabulary(p->session)->tokenizer, true));
    for (int64_t i = 0; i < prompt->n && !p->options->apart; i++)
        LUCID_TRY(lucid_decoding_next(p->decoding, prompt->ids[i], &text, &n_bytes));
    return LUCID_OK;
}

static lucid_status show(progress *p, const char *text, size_t n_bytes) {
    bool stopped;
    const char *out;
    size_t n_out;
    LUCID_TRY(lucid_stopping_next(&p->stopping, text, n_bytes, &out, &n_out, &stopped));
    if (stopped) end(p, ANSWER_STOP);
    return n_out ? p->options->take(p->options->context, out, n_out) : LUCID_OK;
}

/* What is held back comes out: half a character as U+FFFD, the beginning of a stop that did not follow. */
static lucid_status finish(progress *p) {
    const char *out;
    size_t n_out;
    if (p->answer->end == ANSWER_STOP) return LUCID_OK;
    LUCID_TRY(lucid_decoding_finish(p->decoding, &out, &n_out));
    LUCID_TRY(show(p, out, n_out));
    if (p->answer->end == ANSWER_STOP) return LUCID_OK;
    lucid_stopping_finish(&p->stopping, &out, &n_out);
    return n_out ? p->options->take(p->options->context, out, n_out) : LUCID_OK;
}

static lucid_status draw(progress *p, int32_t *id) {
    const float *logits;
    LUCID_TRY(launch_session_next(&logits, p->session));
    LUCID_TRY(lucid_sample(id, logits, launch_session_model(p->session)->config.vocab_size, &p->options->sampling,
                           (uint64_t)p->answer->n_tokens));
    const double elapsed = lucid_clock() - p->options->begin;
    if (p->answer->n_tokens++ == 0) p->answer->first_token = elapsed;
    p->answer->rest = elapsed - p->answer->first_token;
    return LUCID_OK;
}

static lucid_status next_token(progress *p) {
    const char *text;
    size_t n_bytes;
    int32_t id;
    LUCID_TRY(draw(p, &id));
    if (launch_vocabulary_ends(launch_session_vocabulary(p->session), id)) {
        end(p, ANSWER_EOS);
        return LUCID_OK;
    }
    LUCID_TRY(lucid_decoding_next(p->decoding, id, &text, &n_bytes));
    LUCID_TRY(show(p, text, n_bytes));
    if (p->over) return LUCID_OK;
    if (p->answer->n_tokens == p->options->max_new)
        end(p, ANSWER_LENGTH);
    else
        return launch_session_decode(p->session, id);
    return LUCID_OK;
}

lucid_status launch_answer_run(launch_answer *answer, launch_session *session, const lucid_tokens *prompt,
                               const launch_answer_options *options) {
    progress p = {.answer = answer,
                  .session = session,
                  .options = options,
                  .stopping = {.stops = options->stops, .n_stops = options->n_stops},
                  .over = options->max_new == 0};
    *answer = (launch_answer){.end = ANSWER_LENGTH};
    lucid_status status = open_decoding(&p, prompt);
    while (!status && !p.over) status = next_token(&p);
    if (!status) status = finish(&p);
    lucid_stopping_free(&p.stopping);
    lucid_decoding_close(p.decoding);
    return status;
}

const char *launch_answer_end_name(launch_answer_end how) {
    static const char *const names[] = {
        [ANSWER_LENGTH] = "--max-new", [ANSWER_EOS] = "a token that ends a text", [ANSWER_STOP] = "--stop"};
    return names[how];
}

lucid_sampling launch_sampling(const lucid_model_config *config, const launch_options *o) {
    const double temperature = !config->do_sample ? 0 : config->temperature > 0 ? config->temperature : 1;
    const double top_p = config->do_sample && config->top_p > 0 ? config->top_p : 1;
    const int64_t top_k = config->do_sample ? config->top_k : 0;
    return (lucid_sampling){.temperature = o->temperature < 0 ? temperature : o->temperature,
                            .top_k = o->top_k < 0 ? top_k : o->top_k,
                            .top_p = o->top_p < 0 ? top_p : o->top_p,
                            .seed = (uint64_t)o->seed};
}
