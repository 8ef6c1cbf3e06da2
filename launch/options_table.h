/* What the command line's parts share: the table of options and of commands, which everything walks, and values from
 * text and back. Nothing outside launch/options*.c includes this. */
#ifndef LUCID_LAUNCH_OPTIONS_TABLE_H
#define LUCID_LAUNCH_OPTIONS_TABLE_H

#include "launch/options.h"

/* NAME: a choice kept as text. TEXTS: may be given several times. PROSE: may be empty, and is then bad input. */
typedef enum { FLAG, TEXT, PROSE, INTEGER, REAL, CHOICE, SET, NAME, TEXTS } option_kind;

enum {
    ATTEND = 1 << COMMAND_ATTEND,
    VERIFY = 1 << COMMAND_VERIFY,
    BENCH = 1 << COMMAND_BENCH,
    INFO = 1 << COMMAND_INFO,
    MAKE = 1 << COMMAND_MAKE,
    GENERATE = 1 << COMMAND_GENERATE,
    SCORE = 1 << COMMAND_SCORE,
    BATCH = 1 << COMMAND_BATCH,
    NIAH = 1 << COMMAND_EVAL_NIAH,
    MERGE = 1 << COMMAND_EVAL_MERGE,
    TRAIN = 1 << COMMAND_TRAIN,
    CONVERT = 1 << COMMAND_CONVERT,
    RUNS = ATTEND | VERIFY | BENCH,
    MODELS = GENERATE | SCORE | BATCH | NIAH,
    ALL = RUNS | INFO | MAKE | MODELS | MERGE | TRAIN | CONVERT,
};

typedef enum {
    INPUT,
    RANDOM,
    MODEL,
    GENERATION,
    HAYSTACK,
    TASK,
    LEARNING,
    OUTPUT,
    MATHEMATICS,
    EXECUTION,
    CHECKPOINTS,
    REPORTING,
    MEASURING,
    N_SECTIONS
} option_section;

typedef struct {
    const char *name;
    option_section section;
    unsigned commands;
    option_kind kind;
    size_t offset;
    const char *argument; /* as help names it; NULL: the choices */
    const char *choices;  /* CHOICE, SET, NAME: separated by '|' */
    const char *initial;  /* as text; NULL: none */
    double min, max;      /* INTEGER, REAL */
    const char *help;
} launch_option;

extern const launch_option launch_option_table[], *const launch_option_table_end;
extern const char *const launch_section_names[N_SECTIONS];

extern const struct launch_command_row { const char *name, *help; } launch_command_table[N_COMMANDS];

/* Room for any value as text, but for those that are strings. */
enum { OPTION_TEXT_MAX = 64 };

static inline bool launch_option_applies(const launch_option *o, launch_command command) {
    return o->commands >> command & 1;
}

static inline void *launch_option_field(const launch_option *o, launch_options *options) {
    return (char *)options + o->offset;
}

/* Errors: USAGE where text is not what the option takes. */
lucid_status launch_option_set(const launch_option *o, launch_options *options, const char *text);

/* The value as text, in `text` (OPTION_TEXT_MAX) or where the value is a string; NULL when there is none. */
const char *launch_option_text(char *text, const launch_option *o, launch_options *options);

/* Refuses options that contradict each other whatever the input holds. random: one that was given and makes random
 * input; NULL: none. */
lucid_status launch_options_check(const launch_options *options, const launch_option *random);

#endif
