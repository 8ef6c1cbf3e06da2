/* Needles in a haystack: texts that hide sentences with a key and a value, and questions for the values.
 *
 * A sample is a pure function of its task, its index and the way tokens are counted. Wordings are data (templates.c).
 * "ruler" is that of RULER's tasks in lm-evaluation-harness 0.4.9, to the letter; "short" is for models of bytes. What
 * differs from that harness: the numbers are the project's own, so its samples are not these (given.h reads those);
 * no two needles of a sample have the same key; running text begins again where it ends; and length counts the
 * beginning of the answer as well.
 *
 * Nothing here knows models: tokens are counted by a function of the caller's. All functions are Local.
 */
#ifndef LUCID_RUNTIME_EVAL_NIAH_H
#define LUCID_RUNTIME_EVAL_NIAH_H

#include "comm/comm.h"
#include "runtime/eval/corpus.h"
#include "runtime/eval/draws.h"

#define LUCID_NIAH_MAX_NEEDLES 64

/* In the order that the command line names them. */
typedef enum { LUCID_NIAH_NOISE, LUCID_NIAH_TEXT, LUCID_NIAH_NEEDLES } lucid_niah_haystack;
typedef enum { LUCID_NIAH_WORDS, LUCID_NIAH_NUMBERS, LUCID_NIAH_UUIDS, LUCID_NIAH_N_KINDS } lucid_niah_kind;
typedef enum {
    LUCID_NIAH_ASK_EACH, /* a question for each key */
    LUCID_NIAH_ASK_ONE,  /* one question, for one of the keys */
    LUCID_NIAH_ASK_ALL   /* one question, for all keys */
} lucid_niah_asking;
typedef enum {
    LUCID_NIAH_NO_CONTROL,
    LUCID_NIAH_REMOVED,  /* what is asked for is not there: nothing should be found */
    LUCID_NIAH_WRONG_KEY /* it stands there under another key: what is found was found by its looks */
} lucid_niah_control;

/* {type} stands for "number" or "numbers", {key}, {value} and {query} for what was drawn. */
typedef struct {
    const char *before;   /* the context */
    const char *question; /* after it */
    const char *answer;   /* how the answer begins, after a blank */
} lucid_niah_wording;

typedef struct {
    const char *name;
    const char *needle;
    lucid_niah_wording one;        /* one value is asked for, and {type} is singular */
    lucid_niah_wording several;    /* all NULL: one value is asked for at a time */
    int text_step;                 /* words that running text grows by */
    int line_step, short_step;     /* lines that other haystacks grow by; below 4096 tokens */
    bool random_start;             /* of running text; else from its beginning */
    const char *stop;              /* ends an answer; NULL: nothing */
    int n_new[LUCID_NIAH_N_KINDS]; /* tokens of an answer to one question, by kind of value */
} lucid_niah_template;

/* As the command line and results name them. */
extern const char *const lucid_niah_haystacks[], *const lucid_niah_kinds[LUCID_NIAH_N_KINDS];

/* NULL where no template has the name. */
const lucid_niah_template *lucid_niah_template_find(const char *name);

/* Tokens of a prompt (n_bytes), with whatever the model puts before it. */
typedef lucid_status (*lucid_niah_counter)(void *context, int64_t *n_tokens, const char *prompt, size_t n_bytes);

/* Zeros are defaults but where said otherwise. */
typedef struct {
    const lucid_niah_template *wording; /* no default */
    lucid_niah_haystack haystack;
    const lucid_corpus *corpus; /* of LUCID_NIAH_TEXT */
    lucid_niah_kind key_kind, value_kind;
    int n_keys;        /* at least 1 */
    int n_values;      /* of each key, at least 1 */
    int n_distractors; /* needles that nobody asks for */
    lucid_niah_asking asking;
    lucid_niah_control control;
    const double *depths; /* (n_depths) percent: where what is asked for stands, in turn */
    int n_depths;         /* 0: anywhere, as that harness does */
    int step;             /* words or lines that the haystack grows by; 0: the template's */
    bool training;        /* keys and values that no evaluation draws; else, some that no training draws */
    uint64_t seed;
    int64_t length; /* tokens of prompt and answer: the haystack is the largest that fits */
    int64_t n_new;  /* tokens of the answer, at least 1 */
    lucid_niah_counter count;
    void *context;
} lucid_niah_task;

typedef struct {
    char *text, *answer; /* context + text + " " + answer is the prompt; the blank goes with an empty answer */
    char **outputs;      /* (n_outputs) what the answer must hold */
    int n_outputs;
    double depth; /* percent of the haystack before the first needle that is asked for */
} lucid_niah_question;

typedef struct {
    int64_t index;
    int64_t length, max_length; /* tokens of the longest prompt and its answer; what was asked for */
    char *context;
    size_t n_context; /* bytes */
    lucid_niah_question *questions;
    int n_questions, n_needles;
} lucid_niah_sample;

/* Errors: USAGE for tasks that cannot be: too many needles, a template that has no words for several values, too short
 * a length. */
lucid_status lucid_niah_check(const lucid_niah_task *task);

/* The sample is to be freed also after a failure. Errors: USAGE where the length is too short, MEMORY, count's. */
lucid_status lucid_niah_generate(lucid_niah_sample *sample, const lucid_niah_task *task, int64_t index);
void lucid_niah_sample_free(lucid_niah_sample *sample); /* fine on zeros */

/* malloc'ed. Errors: MEMORY. */
lucid_status lucid_niah_prompt(char **prompt, size_t *n_bytes, const lucid_niah_sample *sample, int question);

/* A name for results: that harness's where the task is one of its own. text holds LUCID_NIAH_NAME_MAX. */
#define LUCID_NIAH_NAME_MAX 96
void lucid_niah_name(char *text, const lucid_niah_task *task);

#endif
