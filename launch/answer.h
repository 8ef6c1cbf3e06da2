/* One answer of a language model: tokens drawn one after the other until something ends it. Rank 0's, as everything
 * that drives a session. */
#ifndef LUCID_LAUNCH_ANSWER_H
#define LUCID_LAUNCH_ANSWER_H

#include "launch/session.h"
#include "runtime/model/sample.h"

typedef enum { ANSWER_LENGTH, ANSWER_EOS, ANSWER_STOP } launch_answer_end;

/* Takes text as it comes, whole characters at a time, never part of a stop. */
typedef lucid_status (*launch_answer_taker)(void *context, const char *text, size_t n_bytes);

typedef struct {
    lucid_sampling sampling;
    const char *const *stops; /* (n_stops) */
    int n_stops;
    int64_t max_new;
    bool apart; /* the answer's text is that of its tokens alone, as if nothing stood before them */
    launch_answer_taker take;
    void *context;
    double begin; /* lucid_clock when the prompt was begun */
} launch_answer_options;

typedef struct {
    int64_t n_tokens; /* drawn, the one that ended it included */
    launch_answer_end end;
    double first_token, rest; /* seconds to the first token, and from it to the last */
} launch_answer;

/* Goes on from the session's text, which ends with prompt. Errors: as launch_session_read, and what take returns. */
lucid_status launch_answer_run(launch_answer *answer, launch_session *session, const lucid_tokens *prompt,
                               const launch_answer_options *options);

const char *launch_answer_end_name(launch_answer_end end);

/* What was asked for; negative numbers stand for what generation_config.json proposes. */
lucid_sampling launch_sampling(const lucid_model_config *config, const launch_options *options);

#endif
