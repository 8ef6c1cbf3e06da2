/* One row an option; everything else here walks the table. */
#include "launch/options.h"

#include "runtime/eval/niah.h"
#include "runtime/lucid.h"
#include "runtime/train/task.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* NAME: a choice kept as text. TEXTS: may be given several times. */
typedef enum { FLAG, TEXT, INTEGER, REAL, CHOICE, SET, NAME, TEXTS } option_kind;

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
    RUNS = ATTEND | VERIFY | BENCH,
    MODELS = GENERATE | SCORE | BATCH | NIAH,
    ALL = RUNS | INFO | MAKE | MODELS | MERGE | TRAIN,
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

static const char *const section_names[N_SECTIONS] = {
    [INPUT] = "Input",
    [RANDOM] = "Random input (without --input), the same for any number of ranks",
    [MODEL] = "Model and text",
    [GENERATION] = "What is generated",
    [HAYSTACK] = "Needles and haystacks",
    [TASK] = "What is learned",
    [LEARNING] = "How it is learned",
    [OUTPUT] = "Output",
    [MATHEMATICS] = "What is computed",
    [EXECUTION] = "How it is computed",
    [CHECKPOINTS] = "Checkpoints",
    [REPORTING] = "Reporting",
    [MEASURING] = "Measuring",
};

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
} option;

#define FIELD(member) offsetof(launch_options, member)
#define TOKENS_MAX    ((double)(INT64_C(1) << 36)) /* as the runtime's limit */
#define BYTES_MAX     ((double)(INT64_C(1) << 60))

static const option table[] = {
    {"input", INPUT, ATTEND | VERIFY | BENCH, TEXT, FIELD(input), "FILE", NULL, NULL, 0, 0,
     "safetensors file with q (batch, heads, N, d), k and v; the batch dimension may be left out"},

    {"random", RANDOM, ATTEND | MAKE, INTEGER, FIELD(random), "N", NULL, NULL, 1, TOKENS_MAX,
     "make an input of N tokens"},
    {"random", RANDOM, VERIFY, INTEGER, FIELD(random), "N", NULL, "2K", 1, TOKENS_MAX, "make an input of N tokens"},
    {"heads", RANDOM, RUNS | MAKE, INTEGER, FIELD(heads), "H", NULL, "4", 1, 65536, "query heads"},
    {"kv-heads", RANDOM, RUNS | MAKE, INTEGER, FIELD(kv_heads), "G", NULL, "0", 0, 65536,
     "key-value heads; divides --heads; 0: as many as query heads"},
    {"head-dim", RANDOM, RUNS | MAKE, INTEGER, FIELD(head_dim), "D", NULL, "64", 1, 256, "width of q and k"},
    {"value-dim", RANDOM, RUNS | MAKE, INTEGER, FIELD(value_dim), "D", NULL, "0", 0, 256, "width of v; 0: --head-dim"},
    {"batch", RANDOM, RUNS | MAKE, INTEGER, FIELD(batch), "B", NULL, "1", 1, 65536, "sequences"},
    {"seed", RANDOM, RUNS | MAKE, INTEGER, FIELD(seed), "S", NULL, "0", 0, 9e18, "of the random numbers"},
    {"dtype", RANDOM, RUNS | MAKE, CHOICE, FIELD(dtype), NULL, "fp32|bf16|fp16", "fp32", 0, 0, "of q, k and v"},
    {"keys", RANDOM, RUNS | MAKE, CHOICE, FIELD(keys), NULL, "normal|clustered|coincident", "normal", 0, 0,
     "independent; around 16 centres; or nearly all the same"},

    {"model", MODEL, MODELS, TEXT, FIELD(model), "DIR", NULL, NULL, 0, 0,
     "Hugging Face folder: config.json, model.safetensors or its shards, tokenizer.json (none: a token is a byte)"},
    {"prompt", MODEL, GENERATE, TEXT, FIELD(prompt), "TEXT", NULL, NULL, 0, 0, "what to go on from"},
    {"prompt-file", MODEL, GENERATE, TEXT, FIELD(prompt_file), "FILE", NULL, NULL, 0, 0, "the same from a file"},
    {"text", MODEL, SCORE, TEXT, FIELD(text), "FILE", NULL, NULL, 0, 0, "text to score"},
    {"token-ids", MODEL, SCORE, TEXT, FIELD(token_ids), "FILE", NULL, NULL, 0, 0,
     "ids to score, separated by white space; needs no tokenizer"},
    {"requests", MODEL, BATCH, TEXT, FIELD(requests), "FILE", NULL, NULL, 0, 0,
     "JSON lines as lm-evaluation-harness has them: request_type (loglikelihood, loglikelihood_rolling or "
     "generate_until) and arguments"},
    {"context", MODEL, GENERATE | BATCH, TEXT, FIELD(context), "DIR", NULL, NULL, 0, 0,
     "a text read before, by --save-context: the prompt goes on from it; requests that begin with it read on"},
    {"bos", MODEL, MODELS, CHOICE, FIELD(bos), NULL, "auto|yes|no", "auto", 0, 0,
     "begin with the token for it; auto: as the tokenizer does"},
    {"max-context", MODEL, MODELS, INTEGER, FIELD(max_context), "N", NULL, "0", 0, TOKENS_MAX,
     "tokens that the text may reach, which RoPE's type dynamic depends on; 0: as many as it takes"},
    {"allow-unused", MODEL, MODELS, TEXT, FIELD(allow_unused), "NAME,...", NULL, NULL, 0, 0,
     "tensors of the model that may be left unused; * and ? are wildcards"},

    {"max-new", GENERATION, GENERATE | BATCH, INTEGER, FIELD(max_new), "N", NULL, "256", 0, TOKENS_MAX,
     "most tokens of an answer"},
    {"temperature", GENERATION, GENERATE, REAL, FIELD(temperature), "X", NULL, "-1", -1, 1000,
     "0: the likeliest token always; -1: as generation_config.json proposes"},
    {"top-p", GENERATION, GENERATE, REAL, FIELD(top_p), "X", NULL, "-1", -1, 1,
     "draw from the likeliest tokens that have this share; -1: as generation_config.json proposes"},
    {"seed", GENERATION, GENERATE, INTEGER, FIELD(seed), "S", NULL, "0", 0, 9e18, "of the draws"},
    {"stop", GENERATION, GENERATE, TEXTS, FIELD(stop), "TEXT", NULL, NULL, 0, 0,
     "end before this text; may be given several times"},

    {"max-new", GENERATION, NIAH, INTEGER, FIELD(max_new), "N", NULL, "0", 0, 65536,
     "most tokens of an answer; 0: as the wording has it (ruler: 128)"},

    {"lengths", HAYSTACK, NIAH, TEXT, FIELD(lengths), "N,N,...", NULL, "4K", 0, 0,
     "tokens of prompt and answer, as the model counts them"},
    {"needles", HAYSTACK, NIAH, TEXT, FIELD(needles), "N,N,...", NULL, "1", 0, 0, "keys hidden in each sample"},
    {"depths", HAYSTACK, NIAH, TEXT, FIELD(depths), "P,P,...", NULL, NULL, 0, 0,
     "percent of the haystack before what is asked for, in turn; without it anywhere, as lm-evaluation-harness does"},
    {"count", HAYSTACK, NIAH, INTEGER, FIELD(count), "N", NULL, "0", 0, 1e9,
     "samples of each length and number of needles; 0: 500, or all that --samples has"},
    {"haystack", HAYSTACK, NIAH, CHOICE, FIELD(haystack), NULL, "noise|text|needles", "noise", 0, 0,
     "one line again and again; running text; or needles that nobody asks for"},
    {"haystack-text", HAYSTACK, NIAH, TEXTS, FIELD(haystack_texts), "FILE", NULL, NULL, 0, 0,
     "running text; may be given several times"},
    {"template", HAYSTACK, NIAH, NAME, FIELD(wording), NULL, "ruler|short", "ruler", 0, 0,
     "ruler: lm-evaluation-harness's words; short: for models of bytes"},
    {"keys", HAYSTACK, NIAH, CHOICE, FIELD(key_kind), NULL, "words|numbers|uuids", "words", 0, 0, "what keys are"},
    {"values", HAYSTACK, NIAH, CHOICE, FIELD(value_kind), NULL, "words|numbers|uuids", "numbers", 0, 0,
     "what values are"},
    {"values-a-key", HAYSTACK, NIAH, INTEGER, FIELD(values), "N", NULL, "1", 1, 64, "of which all are asked for"},
    {"ask", HAYSTACK, NIAH, CHOICE, FIELD(asking), NULL, "each|one|all", "each", 0, 0,
     "a question for each key; for one of them; or one for all"},
    {"distractors", HAYSTACK, NIAH, INTEGER, FIELD(distractors), "N", NULL, "0", 0, 64,
     "needles with other keys that nobody asks for"},
    {"control", HAYSTACK, NIAH, CHOICE, FIELD(control), NULL, "none|removed|wrong-key", "none", 0, 0,
     "what is asked for is not there, or under another key: what is found all the same"},
    {"step", HAYSTACK, NIAH, INTEGER, FIELD(step), "N", NULL, "0", 0, 1e6,
     "words or lines that the haystack grows by; 0: as the template has it (ruler: 500 words, 25 lines, below 4K 5)"},
    {"seed", HAYSTACK, NIAH, INTEGER, FIELD(seed), "S", NULL, "0", 0, 9e18, "of the samples"},
    {"samples", HAYSTACK, NIAH, TEXT, FIELD(samples), "FILE", NULL, NULL, 0, 0,
     "instead: JSON lines as lm-evaluation-harness makes them"},

    {"output", OUTPUT, NIAH, TEXT, FIELD(output), "DIR", NULL, NULL, 0, 0,
     "folder for samples.jsonl, results.json and heatmap.svg"},
    {"resume", OUTPUT, NIAH, FLAG, FIELD(resume), NULL, NULL, NULL, 0, 0,
     "go on with what --output holds: only samples that are not answered yet"},
    {"input", OUTPUT, MERGE, TEXT, FIELD(input), "DIR", NULL, NULL, 0, 0,
     "folder whose folders hold what eval niah wrote"},
    {"output", OUTPUT, MERGE, TEXT, FIELD(output), "DIR", NULL, NULL, 0, 0, "folder for all of it together"},
    {"model", TASK, TRAIN, TEXT, FIELD(model), "DIR", NULL, NULL, 0, 0,
     "folder with the model's config.json, and tokenizer.json where tokens are no bytes"},
    {"from", TASK, TRAIN, TEXT, FIELD(from), "DIR", NULL, NULL, 0, 0,
     "begin with the weights of this folder's model.safetensors, as a checkpoint has it"},
    {"bare", TASK, TRAIN, FLAG, FIELD(bare), NULL, NULL, NULL, 0, 0,
     "nothing but one attention layer's q, k and v between embeddings and outputs"},
    {"task", TASK, TRAIN, CHOICE, FIELD(task), NULL, "text|two-phase|overwrite|recall|niah", "text", 0, 0,
     "next tokens of a text; numbers of a permutation, or their mean; a key's last value; a key's value; needles"},
    {"text", TASK, TRAIN, TEXTS, FIELD(training_texts), "FILE", NULL, NULL, 0, 0,
     "text and niah: what to read, but for its last twentieth; may be given several times"},
    {"length", TASK, TRAIN, INTEGER, FIELD(length), "N", NULL, "1K", 1, 1 << 28, "text and niah: tokens of a sequence"},
    {"phase", TASK, TRAIN, INTEGER, FIELD(phase), "N", NULL, "1", 1, 2, "two-phase: 1, the number; 2, the mean so far"},
    {"facts", TASK, TRAIN, INTEGER, FIELD(facts), "N", NULL, "64", 1, 1 << 20, "overwrite and recall: of a sequence"},
    {"fact-slots", TASK, TRAIN, INTEGER, FIELD(fact_slots), "N", NULL, "16", 1, 1 << 20,
     "overwrite: different keys of a sequence"},
    {"queries", TASK, TRAIN, INTEGER, FIELD(queries), "N", NULL, "16", 1, 1 << 20, "overwrite and recall"},
    {"fact-keys", TASK, TRAIN, INTEGER, FIELD(fact_keys), "N", NULL, "512", 1, 1 << 20,
     "overwrite and recall: keys that there are"},
    {"fact-values", TASK, TRAIN, INTEGER, FIELD(fact_values), "N", NULL, "64", 1, 1 << 20, "the same of values"},
    {"learned-positions", TASK, TRAIN, INTEGER, FIELD(learned_positions), "N", NULL, "0", 0, 1 << 20,
     "overwrite and recall: so many positions have an embedding; 0: none"},

    {"steps", LEARNING, TRAIN, INTEGER, FIELD(steps), "N", NULL, "1000", 1, 1e9, "of the optimizer"},
    {"sequences", LEARNING, TRAIN, INTEGER, FIELD(sequences), "N", NULL, "8", 1, 1 << 24, "of a step, on all ranks"},
    {"rate", LEARNING, TRAIN, REAL, FIELD(rate), "X", NULL, "1e-3", 1e-12, 10, "learning rate after the warm-up"},
    {"last-rate", LEARNING, TRAIN, REAL, FIELD(last_rate), "X", NULL, "0.1", 0, 1,
     "share of it that is left at the end, along a cosine; 1: no decline"},
    {"warmup", LEARNING, TRAIN, INTEGER, FIELD(warmup), "N", NULL, "100", 0, 1e9, "steps of a linear rise to it"},
    {"beta1", LEARNING, TRAIN, REAL, FIELD(beta1), "X", NULL, "0.9", 0, 0.999999, "AdamW's memory of gradients"},
    {"beta2", LEARNING, TRAIN, REAL, FIELD(beta2), "X", NULL, "0.95", 0, 0.999999, "the same of their squares"},
    {"decay", LEARNING, TRAIN, REAL, FIELD(decay), "X", NULL, "0.1", 0, 10, "of matrices, a step and unit of rate"},
    {"clip", LEARNING, TRAIN, REAL, FIELD(clip), "X", NULL, "1", 0, 1e9, "largest norm of the gradients; 0: any"},
    {"deviation", LEARNING, TRAIN, REAL, FIELD(deviation), "X", NULL, "0.02", 0, 10, "of the first weights"},
    {"seed", LEARNING, TRAIN, INTEGER, FIELD(seed), "S", NULL, "0", 0, 9e18,
     "of the first weights and of the sequences"},
    {"validate", LEARNING, TRAIN, INTEGER, FIELD(validate), "N", NULL, "0", 0, 1 << 24,
     "sequences to measure with at each checkpoint and at the end, of those that nothing is learned from"},
    {"validate-facts", LEARNING, TRAIN, TEXTS, FIELD(validate_facts), "N", NULL, NULL, 0, 0,
     "measure the end with so many facts as well; may be given several times"},

    {"output", OUTPUT, TRAIN, TEXT, FIELD(output), "DIR", NULL, NULL, 0, 0,
     "folder for checkpoints, each a model for the other commands"},
    {"save-every", OUTPUT, TRAIN, INTEGER, FIELD(save_every), "N", NULL, "1000", 0, 1e9,
     "steps between checkpoints; 0: only at the end"},
    {"keep", OUTPUT, TRAIN, INTEGER, FIELD(keep), "N", NULL, "2", 0, 4096, "newest checkpoints to keep; 0: all"},
    {"resume", OUTPUT, TRAIN, FLAG, FIELD(resume), NULL, NULL, NULL, 0, 0,
     "go on from the newest checkpoint of --output, if there is one"},
    {"log", OUTPUT, TRAIN, TEXT, FIELD(log), "FILE", NULL, NULL, 0, 0, "the printed lines as JSON"},
    {"log-every", OUTPUT, TRAIN, INTEGER, FIELD(log_every), "N", NULL, "100", 1, 1e9, "steps of a line"},
    {"output", OUTPUT, BATCH, TEXT, FIELD(output), "FILE", NULL, NULL, 0, 0,
     "JSON lines: the requests with resps added; FILE.partial until it is complete, and gone on with from there"},
    {"save-context", OUTPUT, GENERATE, TEXT, FIELD(save_context), "DIR", NULL, NULL, 0, 0,
     "keep the prompt's text and cache there, for any number of ranks"},
    {"logits", OUTPUT, SCORE, TEXT, FIELD(logits), "FILE", NULL, NULL, 0, 0,
     "safetensors file for logits (positions, vocabulary) in fp32"},
    {"positions", OUTPUT, SCORE, TEXT, FIELD(positions), "A:B", NULL, NULL, 0, 0,
     "whose logits: tokens A to B - 1; either may be left out"},
    {"output", OUTPUT, ATTEND, TEXT, FIELD(output), "FILE", NULL, NULL, 0, 0,
     "safetensors file for the results; written beside it and renamed when complete"},
    {"output", OUTPUT, MAKE, TEXT, FIELD(output), "FILE", NULL, NULL, 0, 0, "safetensors file to make"},
    {"save", OUTPUT, ATTEND, SET, FIELD(save), "out,y,lse", "out|y|lse", "out", 0, 0, "which results"},
    {"out-dtype", OUTPUT, ATTEND, CHOICE, FIELD(out_dtype), NULL, "auto|fp32|bf16|fp16", "auto", 0, 0,
     "of out; auto: as q. y and lse are fp32"},

    {"attention", MATHEMATICS, RUNS, CHOICE, FIELD(attention), NULL, "lucid|softmax", "lucid", 0, 0,
     "softmax: without the preconditioner"},
    {"softmax-scale", MATHEMATICS, RUNS, REAL, FIELD(softmax_scale), "X", NULL, "0", -1e6, 1e6,
     "of the scores; 0: 1/sqrt(head_dim)"},
    {"eps", MATHEMATICS, RUNS, REAL, FIELD(eps), "X", NULL, "1e-5", 1e-30, 1, "of the keys' RMSNorm"},

    {"threads", EXECUTION, RUNS | MODELS | TRAIN, INTEGER, FIELD(threads), "N", NULL, "0", 0, 4096,
     "of each rank; 0: its share of the host's cores"},
    {"isa", EXECUTION, RUNS | MODELS | TRAIN, NAME, FIELD(isa), NULL, "auto|scalar|avx2|avx512", "auto", 0, 0,
     "kernel set; auto: the best that all ranks have"},
    {"device", EXECUTION, RUNS | MODELS | TRAIN, CHOICE, FIELD(device), NULL, "auto|cpu|cuda", "auto", 0, 0,
     "where kernels run; auto: on the CPU"},
    {"comm", EXECUTION, ALL, NAME, FIELD(comm), NULL, "auto|self|mpi|nccl", "auto", 0, 0, "transport between ranks"},
    {"layout", EXECUTION, RUNS, CHOICE, FIELD(layout), NULL, "auto|contiguous|zigzag|cyclic", "auto", 0, 0,
     "which rank owns which tokens"},
    {"schedule", EXECUTION, RUNS | MODELS, CHOICE, FIELD(schedule), NULL, "auto|pipelined|fused", "auto", 0, 0,
     "solve first and then attend, or both at once"},
    {"tile", EXECUTION, RUNS | MODELS, INTEGER, FIELD(tile), "N", NULL, "0", 0, 1 << 24,
     "tokens of a unit of work, a multiple of 64; 0: chosen"},
    {"memory-budget", EXECUTION, RUNS | MODELS, INTEGER, FIELD(memory_budget), "SIZE", NULL, "0", 0, BYTES_MAX,
     "bytes a rank may use for other ranks' tiles; 0: from what is free"},
    {"channels", EXECUTION, RUNS, INTEGER, FIELD(channels), "N", NULL, "0", 0, 4096,
     "groups of heads that travel on their own; 0: chosen"},
    {"timeout", EXECUTION, ALL, REAL, FIELD(timeout), "SEC", NULL, "600", 0.001, 1e7,
     "a wait without progress that is an error"},
    {"tile", EXECUTION, TRAIN, INTEGER, FIELD(tile), "N", NULL, "0", 0, 1 << 24,
     "tokens of a unit of work, a multiple of 64, and of what gradients are summed from; 0: chosen by the length"},
    {"data-parallel", EXECUTION, TRAIN, INTEGER, FIELD(data_parallel), "N", NULL, "1", 1, 1 << 20,
     "groups of ranks that share the sequences of a step; a group's ranks share each sequence"},
    {"micro-batch", EXECUTION, TRAIN, INTEGER, FIELD(micro_batch), "N", NULL, "1", 1, 1 << 20,
     "sequences that a group computes at once: memory, and work for threads"},
    {"cache-dtype", EXECUTION, MODELS, CHOICE, FIELD(cache_dtype), NULL, "fp32|bf16", "fp32", 0, 0,
     "of cached keys and values"},
    {"prefill-chunk", EXECUTION, MODELS, INTEGER, FIELD(prefill_chunk), "N", NULL, "0", 0, TOKENS_MAX,
     "tokens of each rank that are read at once; 0: 8K"},
    {"group-size", EXECUTION, NIAH, INTEGER, FIELD(group_size), "N", NULL, "0", 0, 1e6,
     "ranks that answer a sample together; several samples are answered at a time; 0: all"},
    {"plan", EXECUTION, ATTEND, FLAG, FIELD(plan), NULL, NULL, NULL, 0, 0,
     "print memory, messages, flops and expected time, and stop"},
    {"machine", EXECUTION, ATTEND, TEXT, FIELD(machine), "NAME", NULL, NULL, 0, 0,
     "of cluster/machines, or a JSON file: --plan is for its nodes; a run warns where the host is another"},
    {"ranks", EXECUTION, ATTEND, INTEGER, FIELD(ranks), "N", NULL, "0", 0, 1 << 20,
     "--plan with --machine: of so many ranks; 0: as many as were started"},

    {"checkpoint", CHECKPOINTS, ATTEND, TEXT, FIELD(checkpoint), "DIR", NULL, NULL, 0, 0,
     "save what is done into this folder, until results are written; SIGUSR1: save, and end with exit code 75"},
    {"checkpoint-every", CHECKPOINTS, ATTEND, REAL, FIELD(checkpoint_every), "SEC", NULL, "300", 0.01, 1e7,
     "what a run that dies may lose"},
    {"resume", CHECKPOINTS, ATTEND, FLAG, FIELD(resume), NULL, NULL, NULL, 0, 0,
     "go on from --checkpoint; ranks, layout and schedule may be others"},

    {"lengths", MEASURING, BENCH, TEXT, FIELD(lengths), "N,N,...", NULL, "4K,16K", 0, 0,
     "sequence lengths to measure, without --input"},
    {"decode", MEASURING, BENCH, FLAG, FIELD(decode), NULL, NULL, NULL, 0, 0,
     "measure decoding from a cache against the read bandwidth instead"},
    {"backward", MEASURING, BENCH, FLAG, FIELD(backward), NULL, NULL, NULL, 0, 0,
     "measure the backward pass against the forward instead"},
    {"cached", MEASURING, BENCH, TEXT, FIELD(cached), "N,N,...", NULL, "64K", 0, 0, "cached tokens, with --decode"},
    {"repeat", MEASURING, BENCH, INTEGER, FIELD(repeat), "N", NULL, "3", 1, 1000, "repetitions; the median counts"},
    {"baseline", MEASURING, BENCH, CHOICE, FIELD(baseline), NULL, "none|openblas", "none", 0, 0,
     "also time a blocked solve by OpenBLAS"},

    {"report", REPORTING, RUNS | GENERATE | SCORE, TEXT, FIELD(report), "FILE", NULL, NULL, 0, 0,
     "write the summary as JSON"},
    {"trace", REPORTING, ATTEND, TEXT, FIELD(trace), "FILE", NULL, NULL, 0, 0,
     "write Chrome trace events as JSON, one row a rank and thread"},
    {"progress", REPORTING, RUNS | MODELS | TRAIN, CHOICE, FIELD(progress), NULL, "auto|always|never", "auto", 0, 0,
     "progress line on stderr; auto: on a terminal, after two seconds"},
    {"quiet", REPORTING, RUNS | MAKE | MODELS | MERGE | TRAIN, FLAG, FIELD(quiet), NULL, NULL, NULL, 0, 0,
     "no summary on stdout"},
    {"help", REPORTING, ALL, FLAG, FIELD(help), NULL, NULL, NULL, 0, 0, "print this and stop"},
    {"version", REPORTING, ALL, FLAG, FIELD(version), NULL, NULL, NULL, 0, 0, "print the version and stop"},
};

enum { N_OPTIONS = sizeof table / sizeof *table, OPTION_TEXT_MAX = 64 };

static const struct {
    const char *name, *help;
} commands[N_COMMANDS] = {
    [COMMAND_ATTEND] = {"attend", "compute LUCID attention over the tensors of a file, or over random ones"},
    [COMMAND_VERIFY] = {"verify", "compare a run with independent fp64 references; exit 1 above tolerance"},
    [COMMAND_BENCH] = {"bench", "measure solve and softmax pass against this machine's FMA peak"},
    [COMMAND_INFO] = {"info", "show the version, processor, kernel sets, transports and memory limits"},
    [COMMAND_MAKE] = {"make", "write a random input file"},
    [COMMAND_GENERATE] = {"generate", "go on with a text by a language model"},
    [COMMAND_SCORE] = {"score", "the loss of a language model on a text, and its logits"},
    [COMMAND_BATCH] = {"batch", "answer requests of lm-evaluation-harness"},
    [COMMAND_EVAL_NIAH] = {"eval niah", "find needles in haystacks by a language model"},
    [COMMAND_EVAL_MERGE] = {"eval merge", "one table and heat map of several runs of eval niah"},
    [COMMAND_TRAIN] = {"train", "train a language model, or a small one on the paper's tasks"},
};

const char *launch_command_name(launch_command command) {
    return commands[command].name;
}

static bool applies(const option *o, launch_command command) {
    return o->commands >> command & 1;
}

static void *field(const option *o, launch_options *options) {
    return (char *)options + o->offset;
}

/* ---- Values from text ---- */

/* 2^10, 2^20, ... for a suffix; 1 for none; 0 for something else. */
static int64_t suffix_unit(const char *suffix) {
    static const char letters[] = "KMGT";
    if (!*suffix) return 1;
    const char *letter = strchr(letters, *suffix & ~0x20); /* upper case */
    return letter && *letter && !suffix[1] ? INT64_C(1) << 10 * (letter - letters + 1) : 0;
}

lucid_status launch_parse_integer(int64_t *number, const char *what, const char *text, int64_t min, int64_t max) {
    char *end;
    errno = 0;
    long long mantissa = strtoll(text, &end, 10);
    int64_t unit = end == text ? 0 : suffix_unit(end), value;
    if (!unit) return lucid_fail(LUCID_ERR_USAGE, "%s: '%s' is not a whole number", what, text);
    if (errno == ERANGE || __builtin_mul_overflow(mantissa, unit, &value) || value < min || value > max)
        return lucid_fail(LUCID_ERR_USAGE, "%s: %s is not between %" PRId64 " and %" PRId64, what, text, min, max);
    *number = value;
    return LUCID_OK;
}

lucid_status launch_parse_integers(int64_t *numbers, int *n, int n_max, const char *what, const char *text, int64_t min,
                                   int64_t max) {
    char *copy = strdup(text), *rest = copy;
    lucid_status status = copy ? LUCID_OK : lucid_fail(LUCID_ERR_MEMORY, "no memory");
    *n = 0;
    for (char *one; !status && (one = strsep(&rest, ","));)
        if (*n == n_max)
            status = lucid_fail(LUCID_ERR_USAGE, "%s: more than %d numbers", what, n_max);
        else
            status = launch_parse_integer(&numbers[(*n)++], what, one, min, max);
    free(copy);
    return status;
}

static lucid_status parse_real(double *number, const option *o, const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value))
        return lucid_fail(LUCID_ERR_USAGE, "--%s: '%s' is not a number", o->name, text);
    if (value < o->min || value > o->max)
        return lucid_fail(LUCID_ERR_USAGE, "--%s: %s is not between %g and %g", o->name, text, o->min, o->max);
    *number = value;
    return LUCID_OK;
}

/* Position of text's first n characters among the choices, -1 when absent. */
static int choice_find(const char *choices, const char *text, size_t n) {
    for (int i = 0;; i++) {
        size_t length = strcspn(choices, "|");
        if (length == n && memcmp(choices, text, n) == 0) return i;
        if (!choices[length]) return -1;
        choices += length + 1;
    }
}

static lucid_status choice_fail(const option *o, const char *text, size_t n) {
    return lucid_fail(LUCID_ERR_USAGE, "--%s: '%.*s' is none of %s", o->name, (int)n, text, o->choices);
}

static lucid_status parse_choice(int *value, const option *o, const char *text) {
    int i = choice_find(o->choices, text, strlen(text));
    if (i < 0) return choice_fail(o, text, strlen(text));
    *value = i;
    return LUCID_OK;
}

static lucid_status parse_set(int *value, const option *o, const char *text) {
    int bits = 0;
    for (;; text++) {
        size_t n = strcspn(text, ",");
        int i = choice_find(o->choices, text, n);
        if (i < 0) return choice_fail(o, text, n);
        bits |= 1 << i;
        text += n;
        if (!*text) break;
    }
    *value = bits;
    return LUCID_OK;
}

static lucid_status add_text(launch_texts *texts, const option *o, const char *text) {
    if (!*text) return lucid_fail(LUCID_ERR_USAGE, "--%s: empty value", o->name);
    if (texts->n == LAUNCH_MAX_TEXTS)
        return lucid_fail(LUCID_ERR_USAGE, "--%s: given more than %d times", o->name, LAUNCH_MAX_TEXTS);
    texts->items[texts->n++] = text;
    return LUCID_OK;
}

static lucid_status option_set(const option *o, launch_options *options, const char *text) {
    char what[OPTION_TEXT_MAX];
    switch (o->kind) {
    case FLAG:
        *(bool *)field(o, options) = true;
        return LUCID_OK;
    case NAME:
        if (choice_find(o->choices, text, strlen(text)) < 0) return choice_fail(o, text, strlen(text));
        *(const char **)field(o, options) = text;
        return LUCID_OK;
    case TEXT:
        if (!*text) return lucid_fail(LUCID_ERR_USAGE, "--%s: empty value", o->name);
        *(const char **)field(o, options) = text;
        return LUCID_OK;
    case INTEGER:
        snprintf(what, sizeof what, "--%s", o->name);
        return launch_parse_integer(field(o, options), what, text, (int64_t)o->min, (int64_t)o->max);
    case REAL:
        return parse_real(field(o, options), o, text);
    case CHOICE:
        return parse_choice(field(o, options), o, text);
    case SET:
        return parse_set(field(o, options), o, text);
    case TEXTS:
        return add_text(field(o, options), o, text);
    }
    return lucid_fail(LUCID_ERR_INTERNAL, "--%s: option of unknown kind", o->name);
}

/* ---- Text from values ---- */

static const char *choice_text(char *text, const char *choices, int index) {
    for (; index > 0; index--) choices += strcspn(choices, "|") + 1;
    snprintf(text, OPTION_TEXT_MAX, "%.*s", (int)strcspn(choices, "|"), choices);
    return text;
}

static const char *set_text(char *text, const char *choices, int bits) {
    size_t n = 0;
    text[0] = 0;
    for (int i = 0; bits >> i; i++) {
        char one[OPTION_TEXT_MAX];
        if (bits >> i & 1)
            n += (size_t)snprintf(text + n, OPTION_TEXT_MAX - n, "%s%s", n ? "," : "", choice_text(one, choices, i));
    }
    return text;
}

/* The value as text, in `text` or where the value is a string; NULL when there is none. */
static const char *option_text(char *text, const option *o, launch_options *options) {
    void *value = field(o, options);
    switch (o->kind) {
    case FLAG:
        return *(bool *)value ? "true" : NULL;
    case TEXT:
    case NAME:
        return *(const char **)value;
    case INTEGER:
        if (!o->initial && *(int64_t *)value == 0) return NULL;
        snprintf(text, OPTION_TEXT_MAX, "%" PRId64, *(int64_t *)value);
        return text;
    case REAL:
        snprintf(text, OPTION_TEXT_MAX, "%.17g", *(double *)value);
        return text;
    case CHOICE:
        return choice_text(text, o->choices, *(int *)value);
    case SET:
        return set_text(text, o->choices, *(int *)value);
    case TEXTS:
        return ((launch_texts *)value)->n ? ((launch_texts *)value)->items[0] : NULL;
    }
    return NULL;
}

void launch_options_visit(const launch_options *options, launch_option_visitor visit, void *context) {
    launch_options copy = *options;
    for (const option *o = table; o < table + N_OPTIONS; o++) {
        char text[OPTION_TEXT_MAX];
        if (applies(o, options->command)) visit(context, o->name, option_text(text, o, &copy));
    }
}

static void write_word(FILE *stream, const option *o, const char *value) {
    fprintf(stream, "--%s", o->name);
    if (o->kind != FLAG) fprintf(stream, "=%s", value);
    fputc(0, stream);
}

void launch_options_write(FILE *stream, const launch_options *options) {
    launch_options copy = *options;
    for (const char *word = commands[options->command].name; word;
         word = strchr(word, ' ') ? strchr(word, ' ') + 1 : NULL) {
        fwrite(word, 1, strcspn(word, " "), stream);
        fputc(0, stream);
    }
    for (const option *o = table; o < table + N_OPTIONS; o++) {
        char text[OPTION_TEXT_MAX];
        const launch_texts *texts = field(o, &copy);
        const char *value = applies(o, options->command) ? option_text(text, o, &copy) : NULL;
        if (value && o->kind != TEXTS) write_word(stream, o, value);
        for (int i = 0; value && o->kind == TEXTS && i < texts->n; i++) write_word(stream, o, texts->items[i]);
    }
}

/* ---- The command line ---- */

static const option *option_find(const char *name, size_t n, launch_command command) {
    for (const option *o = table; o < table + N_OPTIONS; o++)
        if (applies(o, command) && strlen(o->name) == n && memcmp(o->name, name, n) == 0) return o;
    return NULL;
}

static bool known_elsewhere(const char *name, size_t n) {
    for (int command = 0; command < N_COMMANDS; command++)
        if (option_find(name, n, command)) return true;
    return false;
}

static lucid_status set_defaults(launch_options *options) {
    for (const option *o = table; o < table + N_OPTIONS; o++)
        if (o->initial && applies(o, options->command)) LUCID_TRY(option_set(o, options, o->initial));
    return LUCID_OK;
}

static lucid_status unknown_option(const launch_options *options, const char *name, size_t n) {
    const char *command = launch_command_name(options->command);
    if (known_elsewhere(name, n))
        return lucid_fail(LUCID_ERR_USAGE, "--%.*s does not apply to '%s' (see lucid %s --help)", (int)n, name, command,
                          command);
    return lucid_fail(LUCID_ERR_USAGE, "unknown option --%.*s (see lucid %s --help)", (int)n, name, command);
}

/* One option at argv[*i], "--name=value" or "--name value"; *i is left on its last word. */
static lucid_status parse_option(launch_options *options, unsigned char *given, int argc, char **argv, int *i) {
    const char *name = argv[*i] + 2, *value = NULL;
    size_t n = strcspn(name, "=");
    const option *o = option_find(name, n, options->command);
    if (!o) return unknown_option(options, name, n);
    if (name[n] == '=') value = name + n + 1;
    if (o->kind == FLAG && value) return lucid_fail(LUCID_ERR_USAGE, "--%s takes no value", o->name);
    if (o->kind != FLAG && !value) {
        if (*i + 1 >= argc) return lucid_fail(LUCID_ERR_USAGE, "--%s needs a value", o->name);
        value = argv[++*i];
    }
    given[o - table] = 1;
    return option_set(o, options, value);
}

static lucid_status check_niah_options(const launch_options *o) {
    if (!o->output) return lucid_fail(LUCID_ERR_USAGE, "eval niah needs --output DIR");
    if (!o->samples && (o->haystack == LUCID_NIAH_TEXT) != (o->haystack_texts.n > 0))
        return lucid_fail(LUCID_ERR_USAGE, "--haystack text and --haystack-text FILE go together");
    return LUCID_OK;
}

static lucid_status check_model_options(const launch_options *o) {
    if (!o->model) return lucid_fail(LUCID_ERR_USAGE, "%s needs --model DIR", launch_command_name(o->command));
    if (o->command == COMMAND_GENERATE && !o->prompt == !o->prompt_file)
        return lucid_fail(LUCID_ERR_USAGE, "generate needs either --prompt TEXT or --prompt-file FILE");
    if (o->command == COMMAND_SCORE && !o->text == !o->token_ids)
        return lucid_fail(LUCID_ERR_USAGE, "score needs either --text FILE or --token-ids FILE");
    if (o->positions && !o->logits) return lucid_fail(LUCID_ERR_USAGE, "--positions goes with --logits FILE");
    if (o->command == COMMAND_EVAL_NIAH) return check_niah_options(o);
    if (o->command == COMMAND_BATCH && (!o->requests || !o->output))
        return lucid_fail(LUCID_ERR_USAGE, "batch needs --requests FILE and --output FILE");
    return LUCID_OK;
}

static lucid_status check_train_options(const launch_options *o) {
    const bool text = o->task == LUCID_TASK_TEXT || o->task == LUCID_TASK_NIAH;
    if (!o->model) return lucid_fail(LUCID_ERR_USAGE, "train needs --model DIR");
    if (text != (o->training_texts.n > 0))
        return lucid_fail(LUCID_ERR_USAGE, "--text FILE goes with the tasks text and niah, which need it");
    if (o->resume && !o->output) return lucid_fail(LUCID_ERR_USAGE, "--resume goes with --output DIR");
    return LUCID_OK;
}

static bool runs_on_device(const launch_options *o) {
    bool command = o->command == COMMAND_ATTEND || o->command == COMMAND_VERIFY || o->command == COMMAND_BENCH;
    return command && !o->decode && !o->backward;
}

/* Options that contradict each other whatever the input holds. */
static lucid_status check_combination(const launch_options *options, const unsigned char *given) {
    for (const option *o = table; o < table + N_OPTIONS; o++)
        if (options->input && given[o - table] && o->section == RANDOM)
            return lucid_fail(LUCID_ERR_USAGE, "--%s makes random input and does not go with --input", o->name);
    if (options->command == COMMAND_ATTEND && !options->input && !options->random)
        return lucid_fail(LUCID_ERR_USAGE, "attend needs --input FILE or --random N");
    if (options->command == COMMAND_MAKE && (!options->output || !options->random))
        return lucid_fail(LUCID_ERR_USAGE, "make needs --output FILE and --random N");
    if (options->attention == LUCID_ATTENTION_SOFTMAX && options->save & SAVE_Y && options->command == COMMAND_ATTEND)
        return lucid_fail(LUCID_ERR_USAGE, "--save: softmax attention has no y");
    if (options->resume && options->command == COMMAND_ATTEND && !options->checkpoint)
        return lucid_fail(LUCID_ERR_USAGE, "--resume: from which folder? Add --checkpoint DIR");
    if (options->command == COMMAND_EVAL_MERGE && (!options->input || !options->output))
        return lucid_fail(LUCID_ERR_USAGE, "eval merge needs --input DIR and --output DIR");
    if (MODELS >> options->command & 1) LUCID_TRY(check_model_options(options));
    if (options->command == COMMAND_TRAIN) LUCID_TRY(check_train_options(options));
    if (options->tile % 64)
        return lucid_fail(LUCID_ERR_USAGE, "--tile: %" PRId64 " is not a multiple of 64", options->tile);
    if (options->kv_heads && options->heads % options->kv_heads)
        return lucid_fail(LUCID_ERR_USAGE, "--kv-heads: %" PRId64 " does not divide --heads %" PRId64,
                          options->kv_heads, options->heads);
    if (options->decode && options->backward)
        return lucid_fail(LUCID_ERR_USAGE, "--decode and --backward are two measurements: ask for one");
    if (options->decode && options->input)
        return lucid_fail(LUCID_ERR_USAGE, "--decode fills its cache with random tokens and does not go with --input");
    if (options->device == DEVICE_CUDA && !runs_on_device(options))
        return lucid_fail(LUCID_ERR_USAGE, "--device cuda goes with attend, verify and bench without --decode or "
                                           "--backward; the rest runs on --device cpu");
    return LUCID_OK;
}

/* Is it the command of the line's first words, and how many? */
static int match_command(const char *name, int argc, char **argv) {
    const size_t n = strcspn(name, " ");
    if (strlen(argv[1]) != n || memcmp(argv[1], name, n)) return 0;
    if (!name[n]) return 1;
    return argc > 2 && !strcmp(argv[2], name + n + 1) ? 2 : 0;
}

static lucid_status find_command(launch_options *options, int *n_words, int argc, char **argv) {
    bool family = false; /* commands of two words that begin with this one */
    for (int i = 0; i < N_COMMANDS; i++) {
        *n_words = match_command(commands[i].name, argc, argv);
        options->command = i;
        if (*n_words) return LUCID_OK;
        const size_t n = strlen(argv[1]);
        family = family || (!strncmp(commands[i].name, argv[1], n) && commands[i].name[n] == ' ');
    }
    options->command = N_COMMANDS;
    if (family)
        return lucid_fail(LUCID_ERR_USAGE, "unknown command '%s %s' (see lucid --help)", argv[1],
                          argc > 2 ? argv[2] : "");
    return lucid_fail(LUCID_ERR_USAGE, "unknown command '%s' (see lucid --help)", argv[1]);
}

lucid_status launch_options_parse(launch_options *options, int argc, char **argv) {
    unsigned char given[N_OPTIONS] = {0};
    *options = (launch_options){.command = N_COMMANDS};
    if (argc < 2) return lucid_fail(LUCID_ERR_USAGE, "no command (see lucid --help)");
    options->help = strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0;
    options->version = strcmp(argv[1], "--version") == 0;
    if (options->help || options->version) return LUCID_OK;
    int n_words;
    LUCID_TRY(find_command(options, &n_words, argc, argv));
    LUCID_TRY(set_defaults(options));
    for (int i = 1 + n_words; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) || !argv[i][2])
            return lucid_fail(LUCID_ERR_USAGE, "unexpected argument '%s'", argv[i]);
        LUCID_TRY(parse_option(options, given, argc, argv, &i));
        if (options->help || options->version) return LUCID_OK;
    }
    return check_combination(options, given);
}

/* ---- Help ---- */

static void help_option(FILE *stream, const option *o) {
    char left[OPTION_TEXT_MAX];
    const char *argument = o->argument ? o->argument : o->choices;
    snprintf(left, sizeof left, "--%s%s%s", o->name, argument ? " " : "", argument ? argument : "");
    fprintf(stream, "  %-42s %s", left, o->help);
    if (o->initial && strcmp(o->initial, "0")) fprintf(stream, " (default %s)", o->initial);
    fputc('\n', stream);
}

static void help_section(FILE *stream, option_section section, launch_command command) {
    bool titled = false;
    for (const option *o = table; o < table + N_OPTIONS; o++) {
        if (o->section != section || !applies(o, command)) continue;
        if (!titled) fprintf(stream, "\n%s:\n", section_names[section]);
        titled = true;
        help_option(stream, o);
    }
}

void launch_options_help(FILE *stream, const launch_options *options) {
    if (options->command == N_COMMANDS) {
        fprintf(stream, "Usage: lucid COMMAND [OPTIONS], alone or under mpirun or srun\n\n"
                        "Distributed LUCID attention over long contexts.\n\nCommands:\n");
        for (int i = 0; i < N_COMMANDS; i++) fprintf(stream, "  %-10s %s\n", commands[i].name, commands[i].help);
        fprintf(stream, "\n'lucid COMMAND --help' lists a command's options; 'lucid --version' prints the version.\n");
        return;
    }
    fprintf(
        stream,
        "Usage: lucid %s [OPTIONS]\n\nlucid %s: %s.\nNumbers of tokens and bytes take K, M, G and T (1024-based).\n",
        launch_command_name(options->command), launch_command_name(options->command), commands[options->command].help);
    for (int section = 0; section < N_SECTIONS; section++) help_section(stream, section, options->command);
}
