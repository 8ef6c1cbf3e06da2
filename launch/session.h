/* A language model and one text, on all ranks, driven by rank 0.
 *
 * Rank 0 reads prompts, chooses tokens and writes answers; it tells the others each step in an order, and they follow
 * until it ends the session. So a command is two functions of rank 0 alone, and nothing that it does between steps
 * needs the other ranks' consent.
 */
#ifndef LUCID_LAUNCH_SESSION_H
#define LUCID_LAUNCH_SESSION_H

#include "launch/options.h"
#include "launch/progress.h"
#include "launch/resources.h"
#include "runtime/files/safetensors.h"
#include "runtime/model/context.h"

typedef struct launch_session launch_session;

/* What a command needs of the session; rank 0 says it before the first token is read. */
typedef struct {
    int64_t max_tokens;             /* that the text may reach */
    int64_t first_logit, end_logit; /* positions whose logits go to --logits */
} launch_needs;

/* Both are called on rank 0 alone; errors are agreed on. */
typedef struct {
    lucid_status (*prepare)(void *work, launch_session *session, launch_needs *needs);
    lucid_status (*run)(void *work, launch_session *session);
} launch_work;

/* Opens the model of --model, and runs the command. Collective; agreed. */
lucid_status launch_session_run(const launch_options *options, lucid_comm *comm, const launch_work *steps, void *work);

/* The same with what the job has opened: comm may be a part of it, whose rank 0 drives. */
lucid_status launch_session_run_on(const launch_resources *resources, const launch_options *options, lucid_comm *comm,
                                   const launch_work *steps, void *work);

/* What follows is for rank 0, inside of prepare and run. */

/* How a token was foreseen by what stands before it. */
typedef struct {
    double loss;    /* nats */
    bool is_greedy; /* it was the likeliest */
} launch_token_score;

/* Which tokens are scored: targets[i] (n) as what follows the text's position first + i. */
typedef struct {
    int64_t first, n;
    const int32_t *targets;
    launch_token_score *scores; /* (n) */
} launch_targets;

/* Appends ids (n) to the text; targets, within them, may be NULL. A text has the same bits however it is cut into
 * reads. */
lucid_status launch_session_read(launch_session *session, const int32_t *ids, int64_t n, const launch_targets *targets);

/* Appends a token that was drawn. It is decoded, at one read of weights and cache; its bits are not those of a read. */
lucid_status launch_session_decode(launch_session *session, int32_t id);

/* From prepare: `watch` is called a few times a second with the share of a read that is done, in place of a progress
 * line. */
typedef void (*launch_watch)(void *context, double share);
void launch_session_watch(launch_session *session, launch_watch watch, void *context);

/* logits (vocab_size) of what follows the text. Valid until the next call. */
lucid_status launch_session_next(const float **logits, launch_session *session);

/* Goes back to the first n tokens of the text. */
lucid_status launch_session_truncate(launch_session *session, int64_t n);

/* Makes ids (n) the text. What it has in common with them, at most `needed` tokens, is kept: *shared. targets, beyond
 * those, may be NULL. Bits are those of reading ids alone, whatever the text was: so tokens that were decoded are read
 * again, and the last two always. */
lucid_status launch_session_become(launch_session *session, const int32_t *ids, int64_t n, int64_t needed,
                                   const launch_targets *targets, int64_t *shared);

/* Keeps the text in the folder of --save-context. */
lucid_status launch_session_save(launch_session *session);

/* The ids of --context's text; n is 0 without one. */
const lucid_tokens *launch_session_saved(const launch_session *session);

/* One rank's since the session began. */
typedef struct {
    lucid_context_times times;
    double fma_peak; /* flop/s of its threads, measured on all ranks at once */
    lucid_context_bytes share;
    double program;      /* bytes that were resident before the model was opened */
    double memory;       /* bytes, the most that was ever resident */
    double cache;        /* bytes that a decoded token reads of it */
    double read_seconds; /* that reading them once took, on all ranks at once */
} launch_rank_measures;

/* Two ranks stand for all: the one whose share of time in attention's kernels is least, and the one whose memory is
 * furthest above what was planned for it. */
typedef struct {
    launch_rank_measures slow, large;
    int slow_rank, large_rank;
    double token_bytes;    /* the weights once and all ranks' caches: what no decoded token can do without */
    double read_bandwidth; /* bytes/s of all ranks together; 0: nothing is cached */
} launch_measures;

lucid_status launch_session_measure(launch_measures *measures, launch_session *session);

/* Bytes: the rank's share of the text and the program. Pure. */
double launch_planned_bytes(const launch_rank_measures *measures);

lucid_comm *launch_session_comm(const launch_session *session);
const launch_resources *launch_session_resources(const launch_session *session);
const lucid_model *launch_session_model(const launch_session *session);
const lucid_context *launch_session_context(const launch_session *session);
const launch_vocabulary *launch_session_vocabulary(const launch_session *session);

#endif
