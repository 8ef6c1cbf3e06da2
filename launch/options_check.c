/* Options that contradict each other, whatever the input holds. */
#include "launch/options_table.h"

#include "runtime/eval/niah.h"
#include "runtime/lucid.h"
#include "runtime/train/task.h"

#include <inttypes.h>
#include <string.h>

static lucid_status check_niah(const launch_options *o) {
    if (!o->output) return lucid_fail(LUCID_ERR_USAGE, "eval niah needs --output DIR");
    if (!o->samples && (o->haystack == LUCID_NIAH_TEXT) != (o->haystack_texts.n > 0))
        return lucid_fail(LUCID_ERR_USAGE, "--haystack text and --haystack-text FILE go together");
    return LUCID_OK;
}

static lucid_status check_model(const launch_options *o) {
    if (!o->model) return lucid_fail(LUCID_ERR_USAGE, "%s needs --model DIR", launch_command_name(o->command));
    if (o->command == COMMAND_GENERATE && !o->prompt == !o->prompt_file)
        return lucid_fail(LUCID_ERR_USAGE, "generate needs either --prompt TEXT or --prompt-file FILE");
    if (o->command == COMMAND_SCORE && !o->text == !o->token_ids)
        return lucid_fail(LUCID_ERR_USAGE, "score needs either --text FILE or --token-ids FILE");
    if (o->positions && !o->logits) return lucid_fail(LUCID_ERR_USAGE, "--positions goes with --logits FILE");
    if (o->command == COMMAND_EVAL_NIAH) return check_niah(o);
    if (o->command == COMMAND_BATCH && (!o->requests || !o->output))
        return lucid_fail(LUCID_ERR_USAGE, "batch needs --requests FILE and --output FILE");
    return LUCID_OK;
}

static lucid_status check_train(const launch_options *o) {
    const bool text = o->task == LUCID_TASK_TEXT || o->task == LUCID_TASK_NIAH;
    if (!o->model) return lucid_fail(LUCID_ERR_USAGE, "train needs --model DIR");
    if (text != (o->training_texts.n > 0))
        return lucid_fail(LUCID_ERR_USAGE, "--text FILE goes with the tasks text and niah, which need it");
    if (o->resume && !o->output) return lucid_fail(LUCID_ERR_USAGE, "--resume goes with --output DIR");
    return LUCID_OK;
}

static bool runs_on_device(const launch_options *o) {
    bool command = o->command == COMMAND_ATTEND || o->command == COMMAND_VERIFY || o->command == COMMAND_BENCH;
    return command && !o->decode;
}

/* Files, and what stands in for them. */
static lucid_status check_files(const launch_options *o, const launch_option *random) {
    if (o->input && random)
        return lucid_fail(LUCID_ERR_USAGE, "--%s makes random input and does not go with --input", random->name);
    if (o->command == COMMAND_ATTEND && !o->input && !o->random)
        return lucid_fail(LUCID_ERR_USAGE, "attend needs --input FILE or --random N");
    if (o->command == COMMAND_MAKE && (!o->output || !o->random))
        return lucid_fail(LUCID_ERR_USAGE, "make needs --output FILE and --random N");
    if (o->command == COMMAND_CONVERT && (!o->model || !o->output))
        return lucid_fail(LUCID_ERR_USAGE, "convert needs --model DIR and --output DIR");
    if (o->command == COMMAND_EVAL_MERGE && (!o->input || !o->output))
        return lucid_fail(LUCID_ERR_USAGE, "eval merge needs --input DIR and --output DIR");
    return LUCID_OK;
}

static lucid_status check_attend(const launch_options *o) {
    if (o->attention == LUCID_ATTENTION_SOFTMAX && o->save & SAVE_Y)
        return lucid_fail(LUCID_ERR_USAGE, "--save: softmax attention has no y");
    if (o->resume && !o->checkpoint)
        return lucid_fail(LUCID_ERR_USAGE, "--resume: from which folder? Add --checkpoint DIR");
    return LUCID_OK;
}

static lucid_status check_numbers(const launch_options *o) {
    if (o->tile % 64) return lucid_fail(LUCID_ERR_USAGE, "--tile: %" PRId64 " is not a multiple of 64", o->tile);
    if (o->kv_heads && o->heads % o->kv_heads)
        return lucid_fail(LUCID_ERR_USAGE, "--kv-heads: %" PRId64 " does not divide --heads %" PRId64, o->kv_heads,
                          o->heads);
    return LUCID_OK;
}

static lucid_status check_bench(const launch_options *o) {
    if (o->decode && o->backward)
        return lucid_fail(LUCID_ERR_USAGE, "--decode and --backward are two measurements: ask for one");
    if (o->decode && o->input)
        return lucid_fail(LUCID_ERR_USAGE, "--decode fills its cache with random tokens and does not go with --input");
    return LUCID_OK;
}

lucid_status launch_options_check(const launch_options *o, const launch_option *random) {
    LUCID_TRY(check_files(o, random));
    if (o->command == COMMAND_ATTEND) LUCID_TRY(check_attend(o));
    if (MODELS >> o->command & 1) LUCID_TRY(check_model(o));
    if (o->command == COMMAND_TRAIN) LUCID_TRY(check_train(o));
    LUCID_TRY(check_numbers(o));
    LUCID_TRY(check_bench(o));
    if (!strcmp(o->comm, "nccl") && o->device != DEVICE_CUDA)
        return lucid_fail(LUCID_ERR_USAGE, "--comm nccl goes with --device cuda; ranks on CPUs take --comm mpi");
    if (o->device == DEVICE_CUDA && !runs_on_device(o))
        return lucid_fail(LUCID_ERR_USAGE,
                          "--device cuda goes with attend, verify and bench without --decode; the rest runs "
                          "on --device cpu");
    return LUCID_OK;
}
