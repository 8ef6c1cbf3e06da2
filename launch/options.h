/* The command line: one table gives parsing, --help, defaults and the echo in reports.
 *
 * Numbers that count tokens or bytes take the suffixes K, M, G and T (1024-based): 64K tokens are 65536. */
#ifndef LUCID_LAUNCH_OPTIONS_H
#define LUCID_LAUNCH_OPTIONS_H

#include "comm/comm.h"

#include <stdio.h>

typedef enum {
    COMMAND_ATTEND,
    COMMAND_VERIFY,
    COMMAND_BENCH,
    COMMAND_INFO,
    COMMAND_MAKE,
    COMMAND_GENERATE,
    COMMAND_SCORE,
    COMMAND_BATCH,
    COMMAND_EVAL_NIAH,
    COMMAND_EVAL_MERGE,
    COMMAND_TRAIN,
    COMMAND_CONVERT,
    N_COMMANDS
} launch_command;

typedef enum { PROGRESS_AUTO, PROGRESS_ALWAYS, PROGRESS_NEVER } launch_progress_mode;
typedef enum { DEVICE_AUTO, DEVICE_CPU, DEVICE_CUDA } launch_device;
typedef enum { BASELINE_NONE, BASELINE_OPENBLAS } launch_baseline;
typedef enum { OUT_DTYPE_AUTO, OUT_DTYPE_F32, OUT_DTYPE_BF16, OUT_DTYPE_F16 } launch_out_dtype; /* auto: as q */
typedef enum { BOS_AUTO, BOS_YES, BOS_NO } launch_bos; /* auto: as the tokenizer does */
enum { SAVE_OUT = 1, SAVE_Y = 2, SAVE_LSE = 4 };

#define LAUNCH_MAX_TEXTS 16

/* What an option that may be given several times was given. */
typedef struct {
    const char *items[LAUNCH_MAX_TEXTS]; /* (n) */
    int n;
} launch_texts;

/* Integers are int64_t and choices int, so that the table can fill them; ranges are checked against the table. Strings
 * point into argv or into the table. */
typedef struct {
    launch_command command;
    bool help, version, quiet, plan, decode, backward;
    const char *input, *output, *report, *trace; /* NULL: not given */
    const char *checkpoint;                      /* folder; NULL: none */
    bool resume;
    const char *isa, *comm;
    const char *lengths; /* comma separated */
    const char *cached;  /* bench --decode: comma separated */
    int save;            /* SAVE_ bits */
    int dtype, keys;     /* lucid_dtype, lucid_keys */
    int out_dtype, attention, layout, schedule, device, progress, baseline;
    int blas; /* lucid_blas_kind */
    int64_t random, heads, kv_heads, head_dim, value_dim, batch, seed;
    int64_t threads, tile, memory_budget, channels, repeat;
    double softmax_scale, eps, timeout, checkpoint_every;

    /* Language models */
    const char *model, *logits, *allow_unused;
    const char *context, *save_context;
    int64_t max_context, prefill_chunk;
    int cache_dtype; /* lucid_dtype */

    /* Planning, generation, scoring */
    const char *machine;
    int64_t ranks;
    const char *prompt, *prompt_file, *text, *token_ids, *positions, *requests;
    launch_texts stop;
    int64_t max_new;
    double temperature, top_p; /* negative: as the model's generation_config.json proposes */
    int64_t top_k;             /* the same */
    int bos;                   /* launch_bos */

    /* Evaluation */
    const char *wording, *needles, *depths, *samples;
    launch_texts haystack_texts;
    int haystack, key_kind, value_kind, asking, control; /* as runtime/eval/niah.h has them */
    int64_t values, distractors, step, count, group_size;
    /* Training */
    const char *from, *log;
    launch_texts training_texts, validate_facts;
    int task; /* lucid_task_kind */
    bool bare, matching, key_gain;
    int64_t steps, length, sequences, micro_batch, data_parallel, warmup, log_every, save_every, keep, validate;
    int64_t facts_in_ten, needles_in_ten;
    int64_t phase, facts, fact_slots, queries, fact_keys, fact_values, learned_positions;
    double rate, last_rate, beta1, beta2, decay, clip, deviation;

    const char *job_id; /* ends temporary names: the same on all ranks; set when options are shared */
} launch_options;

/* Fills options from argv (argv[1] names the command). Errors: USAGE, recorded by lucid_fail. Local. */
lucid_status launch_options_parse(launch_options *options, int argc, char **argv);

const char *launch_command_name(launch_command command);

/* What `lucid --help` and `lucid COMMAND --help` print. */
void launch_options_help(FILE *stream, const launch_options *options);

/* Calls visit with name and value, as text, of each option of options->command, in the table's order. An option that
 * has neither value nor default has value NULL. */
typedef void (*launch_option_visitor)(void *context, const char *name, const char *value);
void launch_options_visit(const launch_options *options, launch_option_visitor visit, void *context);

/* An integer with an optional suffix, the whole of text, in min..max. Errors: USAGE naming `what`. */
lucid_status launch_parse_integer(int64_t *number, const char *what, const char *text, int64_t min, int64_t max);

/* The same for several, separated by commas. numbers (n_max); *n is how many there are. */
lucid_status launch_parse_integers(int64_t *numbers, int *n, int n_max, const char *what, const char *text, int64_t min,
                                   int64_t max);

#endif
