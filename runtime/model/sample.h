/* Choosing the next token, and knowing when to stop. Local, and the same on every machine for the same logits but for
 * the last bit of its exp. */
#ifndef LUCID_RUNTIME_MODEL_SAMPLE_H
#define LUCID_RUNTIME_MODEL_SAMPLE_H

#include "comm/comm.h"

typedef struct {
    double temperature; /* 0: the likeliest token always */
    int64_t top_k;      /* draw from this many of the likeliest tokens; 0: from all */
    double top_p;       /* of those, from the fewest likeliest whose shares sum to this part of theirs; 1: from all */
    uint64_t seed;
} lucid_sampling;

/* The token to follow, from logits (vocab_size). The n-th draw of a seed is a pure function of both. Of equally likely
 * tokens the lowest id counts as the likeliest. Errors: INPUT when a logit is not finite, MEMORY. */
lucid_status lucid_sample(int32_t *id, const float *logits, int vocab_size, const lucid_sampling *sampling, uint64_t n);

/* The negative logarithm of target's share, in nats, and whether target is the likeliest token. */
double lucid_token_loss(const float *logits, int vocab_size, int32_t target, bool *is_greedy);

/* A text that ends before the first of some strings. Output is held back while it may be the beginning of one. */
typedef struct {
    const char *const *stops; /* (n_stops), none empty; the caller's */
    int n_stops;
    char *held; /* (n_held), of which the first n_shown were handed out by the last call */
    size_t n_held, n_shown, capacity;
} lucid_stopping;

/* Takes text (n_bytes); *out (*n_out) is what may be shown now, valid until the next call. *stopped: a string was
 * found, and nothing follows. Errors: MEMORY. */
lucid_status lucid_stopping_next(lucid_stopping *stopping, const char *text, size_t n_bytes, const char **out,
                                 size_t *n_out, bool *stopped);
/* What is still held back when the text ends by itself. */
void lucid_stopping_finish(lucid_stopping *stopping, const char **out, size_t *n_out);
void lucid_stopping_free(lucid_stopping *stopping); /* fine on zeros */

#endif
