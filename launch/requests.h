/* Requests in the form of lm-evaluation-harness: one JSON object a line, of which these keys count; the rest is kept
 * but for "resps", where answers go.
 *
 *   request_type            arguments
 *   loglikelihood           [context, continuation]
 *   loglikelihood_rolling   [text]
 *   generate_until          [context, options]
 *
 * Options, none of which must be there: "until" (a text or several), "max_gen_toks", "do_sample" (false),
 * "temperature", "top_k", "top_p". Texts become ids as that harness makes them: spaces at a context's end belong to the
 * continuation, and a text that has nothing before it follows the model's BOS, or else EOS. Rank 0's. */
#ifndef LUCID_LAUNCH_REQUESTS_H
#define LUCID_LAUNCH_REQUESTS_H

#include "launch/vocabulary.h"

#include <jansson.h>

typedef enum { REQUEST_LOGLIKELIHOOD, REQUEST_ROLLING, REQUEST_GENERATE } launch_request_kind;

typedef struct {
    json_t *object; /* as in the file */
    launch_request_kind kind;
    lucid_tokens ids;   /* context and continuation */
    int64_t n_context;  /* of ids; those after them are scored */
    launch_texts until; /* generate */
    int64_t max_new;    /* generate */
    double temperature, top_p;
    int64_t top_k; /* 0: all */
} launch_request;

typedef struct {
    launch_request *items; /* (n) */
    int64_t n;
} launch_requests;

/* max_new: of generate requests that do not say. Errors: INPUT naming file, line and key; IO; MEMORY. Free also after
 * a failure. */
lucid_status launch_requests_read(launch_requests *requests, const char *path, const launch_vocabulary *vocabulary,
                                  int64_t max_new);
void launch_requests_free(launch_requests *requests); /* fine on zeros */

#endif
